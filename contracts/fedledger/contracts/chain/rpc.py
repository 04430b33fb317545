"""A connection to a chain's node over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import requests
from requests.exceptions import RequestException

from fedledger.contracts.chain.answers import encoded_header, octets, quantity
from fedledger.contracts.chain.connection import Connection
from fedledger.contracts.chain.loopback_rpc import LOOPBACK, NearNode, is_near
from fedledger.contracts.chain.records import Head
from fedledger.contracts.chain.reverts import RefusedError
from fedledger.protocol.errors import ChainError

if TYPE_CHECKING:
    from web3.types import RPCEndpoint


class RpcConnection(Connection):
    """JSON-RPC to a node.

    Parameters
    ----------
    where
        The node's URL.

    Raises
    ------
    ChainError
        If it is no URL.
    """

    def __init__(self, where: str) -> None:
        super().__init__(where)
        if not where.startswith(("http://", "https://")):
            raise ChainError(
                f"{where!r} is no chain.", "Give embedded, anvil, ganache, or a URL such as http://127.0.0.1:8545."
            )
        self._node = NearNode(where) if is_near(where) else FarNode(where)

    def request(self, method: str, params: list[Any]) -> Any:
        try:
            answer = self._node.ask(method, params)
        except RequestException:
            raise
        except ValueError as error:
            raise RefusedError(str(error)) from error
        if "error" in answer:
            told = answer["error"] if isinstance(answer["error"], dict) else {"message": answer["error"]}
            raise RefusedError(f"{method}: {told.get('message')}", told.get("data"))
        return answer.get("result")

    def request_all(self, method: str, params: Sequence[list[Any]]) -> list[Any]:
        try:
            answers = self._node.ask_all([(method, each) for each in params])
        except RequestException:
            raise
        except ValueError as error:
            raise RefusedError(str(error)) from error
        return [answer.get("result") for answer in answers]

    def head(self) -> Head:
        newest = self.ask("eth_getBlockByNumber", ["latest", False])
        return Head(quantity(newest["number"]), octets(newest["hash"]))

    def hash(self, number: int) -> bytes | None:
        found = self.ask("eth_getBlockByNumber", [hex(number), False])
        return None if found is None else octets(found["hash"])

    def header(self, block: dict[str, Any]) -> bytes:
        return encoded_header(block)

    def advance(self, seconds: int) -> None:
        self.ask("evm_increaseTime", [seconds])
        self.ask("evm_mine", [])


class FarNode:
    """A node on another machine, perhaps behind a proxy or with a password.

    Parameters
    ----------
    url
        Where it answers.
    """

    def __init__(self, url: str) -> None:
        # It takes long to import, and near nodes do without it.
        from web3 import HTTPProvider
        from web3.exceptions import Web3Exception

        session = requests.Session()
        # Looking for a proxy in the environment takes longer than a node on this machine takes to answer.
        session.trust_env = urlsplit(url).hostname not in LOOPBACK
        self._provider = HTTPProvider(
            url, request_kwargs={"timeout": 30}, exception_retry_configuration=None, session=session
        )
        self._errors: type[Exception] = Web3Exception

    def ask(self, method: str, params: Sequence[Any]) -> dict[str, Any]:
        """Return the answer to a question; see :meth:`NearNode.ask`."""
        # Past web3's middleware and formatters, which take several times as long as a node's answer.
        try:
            return dict(self._provider.make_request(cast("RPCEndpoint", method), params))
        except self._errors as error:
            raise ValueError(str(error)) from error

    def ask_all(self, questions: Sequence[tuple[str, Sequence[Any]]]) -> list[dict[str, Any]]:
        """Return the answers to many questions; see :meth:`NearNode.ask_all`."""
        asked = [(cast("RPCEndpoint", method), each) for method, each in questions]
        try:
            answers = self._provider.make_batch_request(asked)
        except self._errors as error:
            raise ValueError(str(error)) from error
        if not isinstance(answers, list) or len(answers) != len(questions):
            raise ValueError(f"{len(questions)} questions at once were answered with {answers!r:.200}")
        return [dict(answer) for answer in answers]
