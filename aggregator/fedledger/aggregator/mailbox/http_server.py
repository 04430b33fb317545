"""The mailbox of a batched task over HTTP."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any, TypeVar, cast

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from fedledger.aggregator.mailbox.connections import (
    MAX_HEAD_BYTES,
    USEFUL,
    BoundedConnection,
    Connections,
    Listener,
    RateLimit,
    client_of,
)
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.encoding.strict import SpellingError, decimal, hexadecimal
from fedledger.protocol.errors import ConfigError, FedledgerError, RoundError
from fedledger.protocol.records.commitment_batch import MAX_STALENESS, SignedCommitment
from fedledger.protocol.records.mailbox import MailboxClient

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 2048
MAX_SCORES_BYTES = 5120
"""Of a message that reveals scores: of 1,024 updates, which a round has at most, there are 64 words of them."""
_SCORES = "/scores/reveals"
START_TIMEOUT = 20.0

ACCEPTED_AT_ONCE = 64
"""Connections that are accepted before any of them is looked at; the others wait in the system's queue."""
QUEUE = 4096
STOP_TIMEOUT = 2

_Index = Annotated[int, Field(ge=0, lt=2**32)]
_PathIndex = Annotated[int, BeforeValidator(lambda text: decimal(text, 2**32 - 1))]
_Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class CommitmentMessage(BaseModel):
    """A signed commitment, in lower-case hexadecimal."""

    model_config = ConfigDict(extra="forbid", strict=True)
    participant: _Index
    commitment: _Hash
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{130}$")]

    @property
    def signed(self) -> SignedCommitment:
        """The same as bytes."""
        return SignedCommitment(self.participant, hexadecimal(self.commitment), hexadecimal(self.signature))


class RevealMessage(BaseModel):
    """What opens a commitment."""

    model_config = ConfigDict(extra="forbid", strict=True)
    participant: _Index
    digest: _Hash
    length: Annotated[int, Field(ge=0, lt=2**53)]
    salt: _Hash
    staleness: Annotated[int, Field(ge=0, le=MAX_STALENESS)] = 0


class ScoresMessage(BaseModel):
    """A scorer's scores, and the salt with which it committed to them; words of 32 bytes each."""

    model_config = ConfigDict(extra="forbid", strict=True)
    participant: _Index
    salt: _Hash
    words: Annotated[str, Field(pattern=r"^([0-9a-f]{64}){0,64}$")]

    @property
    def as_words(self) -> list[int]:
        """The words."""
        return [int(self.words[start : start + 64], 16) for start in range(0, len(self.words), 64)]


_Message = TypeVar("_Message", bound=BaseModel)


class MalformedError(Exception):
    """A message that is none."""


async def read_message(request: Request, kind: type[_Message]) -> _Message:
    """Return a request's message.

    Raises
    ------
    MalformedError
        If it is not in UTF-8, or no JSON with one reading, or has other fields or values than it may have.
    """
    try:
        text = (await request.body()).decode()
        document = json.loads(
            text, object_pairs_hook=_unique, parse_int=_natural, parse_float=_no_number, parse_constant=_no_number
        )
        return kind.model_validate(document)
    except (ValueError, RecursionError, ClientDisconnect) as error:
        raise MalformedError from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field stands twice")
    return found


def _natural(text: str) -> int:
    if text.startswith("-"):
        raise ValueError("no natural number")
    return int(text)


def _no_number(text: str) -> Any:
    raise ValueError(f"{text:.20} is no natural number")


class Bounded:
    """Refuses, before anything is read, what comes too often, is too long, or does not say how long it is."""

    def __init__(self, app: ASGIApp, limit: RateLimit) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        client = scope.get("client")
        wait = self._limit.wait(client_of(client[0] if client else ""))
        if wait:
            headers = {"Retry-After": str(max(1, round(wait)))}
            return JSONResponse({"error": "Too many requests."}, status_code=429, headers=headers)
        length = Headers(scope=scope).get("content-length", "0" if scope["method"] == "GET" else "")
        most = MAX_SCORES_BYTES if str(scope["path"]).endswith(_SCORES) else MAX_BODY_BYTES
        if not _is_length(length, most):
            error = f"A message has at most {most} bytes, and says how many."
            return JSONResponse({"error": error}, status_code=413)
        return None


def _is_length(text: str, most: int) -> bool:
    try:
        return decimal(text, most) >= 0
    except SpellingError:
        return False


def mailbox_app(mailbox: MailboxClient, limit: RateLimit | None = None) -> ASGIApp:
    """Return the web application of a mailbox.

    Messages are answered one after the other, in the thread that receives them: the mailbox has one lock, and threads
    would spend more time on handing messages around than the mailbox does on taking them.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)

    @app.exception_handler(RoundError)
    async def refused(request: Request, error: RoundError) -> Response:
        return JSONResponse({"error": error.message, "remedy": error.remedy}, status_code=409)

    @app.exception_handler(FedledgerError)
    async def unable(request: Request, error: FedledgerError) -> Response:
        # The ledger or the disk is away, which is nobody else's business.
        log.warning("the mailbox cannot answer: %s", error)
        return JSONResponse({"error": "The mailbox cannot answer now."}, status_code=503)

    @app.exception_handler(RequestValidationError)
    @app.exception_handler(MalformedError)
    async def malformed(request: Request, error: Exception) -> Response:
        # The message is not repeated: it may hold anything.
        return JSONResponse({"error": "The message is malformed."}, status_code=422)

    @app.post("/v1/rounds/{index}/commitments")
    async def commit(index: _PathIndex, request: Request) -> Response:
        message = await read_message(request, CommitmentMessage)
        mailbox.commit(index, message.signed)
        setattr(request.state, USEFUL, True)
        return JSONResponse({"taken": True})

    @app.get("/v1/rounds/{index}/commitments/{participant}")
    async def commitment(index: _PathIndex, participant: _PathIndex, request: Request) -> Response:
        found = mailbox.commitment(index, participant)
        setattr(request.state, USEFUL, found is not None)
        if found is None:
            return JSONResponse({"commitment": None})
        return JSONResponse({"commitment": found.commitment.hex(), "signature": found.signature.hex()})

    @app.post("/v1/rounds/{index}/reveals")
    async def reveal(index: _PathIndex, request: Request) -> Response:
        message = await read_message(request, RevealMessage)
        update = ContentRef(hexadecimal(message.digest), message.length)
        mailbox.reveal(index, message.participant, update, hexadecimal(message.salt), message.staleness)
        setattr(request.state, USEFUL, True)
        return JSONResponse({"taken": True})

    @app.get("/v1/rounds/{index}/proofs/{participant}")
    async def proof(index: _PathIndex, participant: _PathIndex, request: Request) -> Response:
        found = mailbox.proof(index, participant)
        setattr(request.state, USEFUL, found is not None)
        return JSONResponse({"proof": None if found is None else [sibling.hex() for sibling in found]})

    _add_scores(app, mailbox)
    return Bounded(app, limit or RateLimit())


def _add_scores(app: FastAPI, mailbox: MailboxClient) -> None:
    """Have a mailbox's application take what scorers leave."""

    @app.post("/v1/rounds/{index}/scores/commitments")
    async def commit_scores(index: _PathIndex, request: Request) -> Response:
        mailbox.commit_scores(index, (await read_message(request, CommitmentMessage)).signed)
        setattr(request.state, USEFUL, True)
        return JSONResponse({"taken": True})

    @app.post("/v1/rounds/{index}" + _SCORES)
    async def reveal_scores(index: _PathIndex, request: Request) -> Response:
        message = await read_message(request, ScoresMessage)
        mailbox.reveal_scores(index, message.participant, hexadecimal(message.salt), message.as_words)
        setattr(request.state, USEFUL, True)
        return JSONResponse({"taken": True})


@contextlib.contextmanager
def serving(
    mailbox: MailboxClient, host: str, port: int, connections: Connections | None = None, limit: RateLimit | None = None
) -> Iterator[int]:
    """Serve a mailbox for the length of a ``with`` block.

    Parameters
    ----------
    mailbox
        The mailbox.
    host, port
        Where to listen; port 0 picks a free one.
    connections, limit
        How many connections there may be, and how many requests.

    Yields
    ------
    int
        The port.

    Raises
    ------
    ConfigError
        If the address cannot be listened on.
    """
    known = Connections() if connections is None else connections
    listener = _listener(host, port, known)
    config = uvicorn.Config(
        mailbox_app(mailbox, limit),
        http=cast("type[BoundedConnection]", partial(BoundedConnection, known)),
        # Others accept connections by themselves.
        loop="asyncio",
        ws="none",
        lifespan="off",
        # Anybody can cause warnings.
        log_level="error",
        access_log=False,
        backlog=ACCEPTED_AT_ONCE,
        # A connection serves one request, so that nobody gets more of them answered than it gets connections.
        headers=[("Connection", "close")],
        timeout_graceful_shutdown=STOP_TIMEOUT,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        # Nobody else says truly for whom it speaks.
        forwarded_allow_ips=sorted(known.proxies),
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + START_TIMEOUT
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise _deaf(host, port)
            time.sleep(0.01)
        # More may wait than are accepted at once, which uvicorn calls by one name.
        listener.listen(QUEUE)
        yield int(listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def _listener(host: str, port: int, connections: Connections) -> Listener:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return Listener(socket.create_server((host, port), family=family), connections)
    except (OSError, OverflowError) as error:
        raise _deaf(host, port) from error


def _deaf(host: str, port: int) -> ConfigError:
    return ConfigError(f"The mailbox cannot listen on {host}:{port}.", "Is the port taken? Give another.")
