"""An aggregator's mailbox, reached over HTTP where the ledger says it is."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import requests

from fedledger.contracts.history import History
from fedledger.protocol.batch import SignedCommitment
from fedledger.protocol.cid import ContentRef
from fedledger.protocol.post import PostRefusedError

TIMEOUT = 10.0
MAX_PROOF = 64
MAX_ANSWER_BYTES = 16_384
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class HttpPost:
    """The mailbox of a task's aggregator; its URL is the one that the aggregator announced last.

    Parameters
    ----------
    history
        The ledger's state (may be shared).
    task
        The task's id.
    timeout
        Seconds until a request is given up.
    """

    def __init__(self, history: History, task: int, timeout: float = TIMEOUT) -> None:
        self._history, self._task, self._timeout = history, task, timeout
        self._session = requests.Session()

    def commit(self, index: int, signed: SignedCommitment) -> None:
        """Leave a signed commitment for a round."""
        document = {
            "participant": signed.participant,
            "commitment": signed.commitment.hex(),
            "signature": signed.signature.hex(),
        }
        self._ask("POST", f"rounds/{index}/commitments", document)

    def reveal(self, index: int, participant: int, update: ContentRef, salt: bytes) -> None:
        """Leave what opens a commitment."""
        document = {
            "participant": participant,
            "digest": update.digest.hex(),
            "length": update.length,
            "salt": salt.hex(),
        }
        self._ask("POST", f"rounds/{index}/reveals", document)

    def proof(self, index: int, participant: int) -> list[bytes] | None:
        """Return the way from a participant's commitment to the round's root, or None if none is to be had."""
        try:
            found = self._ask("GET", f"rounds/{index}/proofs/{participant}").get("proof")
            if not isinstance(found, list) or len(found) > MAX_PROOF:
                return None
            return [bytes.fromhex(sibling) for sibling in found]
        except (PostRefusedError, ValueError, TypeError):
            # Without a proof the ledger still takes a commitment.
            return None

    def _ask(self, method: str, path: str, document: dict[str, Any] | None = None) -> dict[str, Any]:
        aggregator = self._history.task(self._task).params["aggregator"]
        base = self._history.endpoints.get(aggregator)
        if base is None:
            raise PostRefusedError(
                f"The aggregator {aggregator} has not announced an address.", "Wait until it is started with --listen."
            )
        url = f"{base.rstrip('/')}/v1/{path}"
        # Looking for a proxy in the environment takes as long as all the rest.
        self._session.trust_env = urlsplit(url).hostname not in LOOPBACK
        try:
            try:
                status, found = self._exchange(method, url, document)
            except requests.ConnectionError:
                # A connection that was kept may be closed at the other end by now; a message may come twice.
                status, found = self._exchange(method, url, document)
        except (requests.RequestException, ValueError, OSError) as error:
            raise PostRefusedError(f"The aggregator at {base} does not answer: {error}.", "Try again later.") from error
        if not isinstance(found, dict) or status != requests.codes.ok:
            reason = found.get("error", found.get("detail")) if isinstance(found, dict) else found
            raise PostRefusedError(f"The aggregator at {base} refused a message ({status}): {reason}")
        return found

    def _exchange(self, method: str, url: str, document: dict[str, Any] | None) -> tuple[int, Any]:
        with self._session.request(
            method, url, json=document, timeout=self._timeout, allow_redirects=False, stream=True
        ) as answer:
            return answer.status_code, json.loads(answer.raw.read(MAX_ANSWER_BYTES, decode_content=True))
