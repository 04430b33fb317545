"""A connection to a chain's node over HTTP."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from requests.exceptions import HTTPError, RequestException

from fedledger.contracts.chain.answers import encoded_header, octets, quantity
from fedledger.contracts.chain.connection import Connection, TooOftenError
from fedledger.contracts.chain.contradictions import contradiction
from fedledger.contracts.chain.loopback_rpc import NearNode, is_near
from fedledger.contracts.chain.records import Head
from fedledger.contracts.chain.reverts import RefusedError
from fedledger.protocol.errors import ChainError

if TYPE_CHECKING:
    from fedledger.contracts.chain.far_node import FarNode


MESSAGE = 1_000
_TOO_OFTEN = re.compile(
    r"rate.?limit|too many requests|request (count|limit|rate)|(requests|units|compute|capacity) (per|limit)|throttl"
)


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
                f"{where!r} is not a chain.", "Give embedded, anvil, ganache, or a URL such as http://127.0.0.1:8545."
            )
        self._node = NearNode(where) if is_near(where) else _far_node(where)

    def request(self, method: str, params: list[Any]) -> Any:
        try:
            answer = self._node.ask(method, params)
        except RequestException:
            raise
        except ValueError as error:
            raise RefusedError(str(error)) from error
        if answer.get("error") is not None:
            told = answer["error"] if isinstance(answer["error"], dict) else {"message": answer["error"]}
            if _is_too_often(told):
                raise TooOftenError(f"{method}: {told.get('message')}")
            raise RefusedError(f"{method}: {told.get('message')}", told.get("data"))
        wrong = contradiction(method, params, answer.get("result"))
        if wrong is not None:
            raise RefusedError(f"{method}: {wrong}")
        return answer.get("result")

    def request_all(self, method: str, params: Sequence[list[Any]]) -> list[Any]:
        try:
            answers = self._node.ask_all([(method, each) for each in params])
        except HTTPError as error:
            # Many nodes refuse many questions at once, each with a status of its own.
            raise RefusedError(str(error)) from error
        except RequestException:
            raise
        except ValueError as error:
            raise RefusedError(str(error)) from error
        found = [answer.get("result") for answer in answers]
        return [
            None if contradiction(method, asked, result) else result
            for asked, result in zip(params, found, strict=True)
        ]

    def head(self) -> Head:
        newest = self.newest()
        return Head(quantity(newest["number"]), octets(newest["hash"]))

    def hash(self, number: int) -> bytes | None:
        found = self.ask("eth_getBlockByNumber", [hex(number), False])
        return None if found is None else octets(found["hash"])

    def header(self, block: dict[str, Any]) -> bytes:
        return encoded_header(block)

    def advance(self, seconds: int) -> None:
        self.ask("evm_increaseTime", [seconds])
        self.ask("evm_mine", [])


def _is_too_often(told: Mapping[str, Any]) -> bool:
    """Return whether an error says that the node is asked too often, and is not what a contract says."""
    message = str(told.get("message"))[:MESSAGE].lower()
    return "revert" not in message and _TOO_OFTEN.search(message) is not None


def _far_node(where: str) -> FarNode:
    # It takes longer to import, and near nodes do without it.
    from fedledger.contracts.chain.far_node import FarNode

    return FarNode(where)
