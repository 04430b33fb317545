"""How a program asks a chain: the questions that survive faults, and what the chain is found to be."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from requests.exceptions import RequestException

from fedledger.contracts.chain.answers import ContradictionError, quantity
from fedledger.contracts.chain.journal import Block
from fedledger.contracts.chain.records import Capabilities, Head
from fedledger.contracts.chain.reverts import RefusedError, revert_data
from fedledger.protocol.errors import ChainError

T = TypeVar("T")

EMBEDDED = "embedded"
DEVELOPMENT_CLIENTS = ("anvil", "ganache", "ethereumjs", "eth-tester", "ethereumtester", "hardhat")
CONNECT_PATIENCE, OUTAGE_PATIENCE = 3.0, 30.0
"""Seconds in which a chain must answer: when a program starts, and when it answered before."""
MOST_AT_ONCE = 64
"""Questions that are asked at once; many nodes refuse more."""
UNSETTLED = (0.02, 0.1, 0.3)
"""Pauses before a question that a node answered with an error is asked again."""
# Answered by eth_call on init code.
PUSH0_PROBE, STOP = "0x5f", "0x00"


class TooOftenError(RequestException):  # type: ignore[misc,unused-ignore]
    """A question that a node does not answer now, because it was asked too many; it is waited for like any other."""


class Connection(ABC):
    """A way to one chain, which answers JSON-RPC.

    Parameters
    ----------
    where
        What users call the chain.
    """

    pauses: tuple[float, ...] = UNSETTLED
    """Before a question is asked again that was answered with an error; none if errors are never passing."""

    is_doubtful = True
    """Whether its answers may contradict each other; not if the chain is part of this process."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.patience = CONNECT_PATIENCE
        self._at_once = MOST_AT_ONCE

    @abstractmethod
    def request(self, method: str, params: list[Any]) -> Any:
        """Return the answer to a question; None if the node does not know what it is about.

        Raises
        ------
        requests.RequestException
            If there is no answer. The node may have understood the question nevertheless.
        RefusedError
            If the answer is an error.
        """

    @abstractmethod
    def request_all(self, method: str, params: Sequence[list[Any]]) -> list[Any]:
        """Ask one kind of question many times at once; what is refused is None."""

    @abstractmethod
    def head(self) -> Head:
        """Return the newest block."""

    @abstractmethod
    def hash(self, number: int) -> bytes | None:
        """Return the hash of a block by which reorganisations are noticed; None if there is no such block."""

    @abstractmethod
    def header(self, block: dict[str, Any]) -> bytes:
        """Return the RLP of a block's header, whose hash is the block's."""

    @abstractmethod
    def advance(self, seconds: int) -> None:
        """Move a development chain's time forward and mine a block."""

    def keep_blocks(self, blocks: Sequence[Block], keep: Callable[[Block], None]) -> bool:
        """Make a new chain's blocks again, and hand over those that are made from now on.

        Parameters
        ----------
        blocks
            From the first on; none if the chain is to stay as it is, whose blocks so far are handed over, then.
        keep
            Called with each block as soon as it is made.

        Returns
        -------
        bool
            Whether this kind of chain can do so.

        Raises
        ------
        RefusedError
            If the chain refuses a transaction.
        ConfigError
            If one of the blocks has another hash than it had.
        """
        return False

    def ask(self, method: str, params: list[Any]) -> Any:
        """Return the answer to a question, which may be None; wait while nobody answers, and ask again after errors.

        Raises
        ------
        ChainError
            If nobody answers in time, or with an error for good.
        """
        for pause in self.pauses:
            try:
                return self.ask_once(method, params)
            except ChainError as error:
                if unanswered(error) or revert_data(error.__cause__):
                    raise
                # In the middle of a reorganisation a node contradicts itself.
                time.sleep(pause)
        return self.ask_once(method, params)

    def ask_once(self, method: str, params: list[Any]) -> Any:
        """Return the answer to a question as :meth:`ask` does, but take the first error for good."""
        return self._patiently(lambda: self.request(method, params))

    def ask_all(self, method: str, params: Sequence[list[Any]]) -> list[Any]:
        """Return the answers to many questions of one kind; None for those that were refused.

        A node that refuses so many at once is asked for fewer from then on, at last for one after the other.
        """
        found: list[Any] = []
        while len(found) < len(params):
            page, most = params[len(found) : len(found) + self._at_once], self._at_once
            try:
                if most > 1:
                    found += self._patiently(partial(self.request_all, method, page))
                    continue
            except ChainError as error:
                if unanswered(error):
                    raise
                self._at_once = max(1, min(most, len(page)) // 4)
                continue
            found.append(self._one_of_many(method, page[0]))
        return found

    def _one_of_many(self, method: str, params: list[Any]) -> Any:
        try:
            return self.ask(method, params)
        except ChainError as error:
            if unanswered(error):
                raise
            return None

    def newest(self) -> dict[str, Any]:
        """Return the newest block's fields, without its transactions.

        Raises
        ------
        ChainError
            If nobody answers in time, or the chain shows none.
        """
        for pause in (*self.pauses, 0.0):
            found = self.ask("eth_getBlockByNumber", ["latest", False])
            if found is not None:
                return dict(found)
            # One of several nodes may have none yet.
            time.sleep(pause)
        raise ContradictionError(f"The chain at {self.where} shows no newest block.")

    def _patiently(self, question: Callable[[], T]) -> T:
        deadline, pause, is_again = time.monotonic() + self.patience, 0.1, False
        while True:
            try:
                return question()
            except RequestException as error:
                # A single answer that never comes may take all of the time.
                if is_again and time.monotonic() > deadline:
                    if isinstance(error, TooOftenError):
                        raise ChainError(
                            f"The chain at {self.where} is asked too often: {error}.", "Use a node that allows more."
                        ) from error
                    raise ChainError(
                        f"No chain answers at {self.where}.",
                        "Start one with `fedledger chain up anvil`, or check the URL.",
                    ) from error
                time.sleep(pause)
                pause, is_again = min(2 * pause, 1.0), True
            except RefusedError as error:
                raise ChainError(f"The chain at {self.where} answered with an error: {error}.") from error


def connect(where: str) -> Connection:
    """Return the way to a chain: ``"embedded"``, or the URL of a node.

    Raises
    ------
    ChainError
        If it is neither.
    """
    # Each takes long to import.
    if where == EMBEDDED:
        from fedledger.contracts.chain.embedded import EmbeddedConnection

        return EmbeddedConnection()
    from fedledger.contracts.chain.rpc import RpcConnection

    return RpcConnection(where)


def probe(connection: Connection) -> Capabilities:
    """Find out what a chain is, and be more patient with it from then on.

    Raises
    ------
    ChainError
        If no node answers, or the chain lacks what the contracts need.
    """
    client = str(connection.ask_once("web3_clientVersion", []))
    block = connection.newest()
    capabilities = Capabilities(
        client=client,
        chain_id=quantity(connection.ask_once("eth_chainId", [])),
        development=client.lower().startswith(DEVELOPMENT_CLIENTS),
        fee_market="baseFeePerGas" in block,
    )
    if not _executes(connection, PUSH0_PROBE):
        raise ChainError(f"The chain ({client}) lacks PUSH0.", "Use one with the Shanghai upgrade or a later one.")
    connection.patience = OUTAGE_PATIENCE
    return capabilities


def unanswered(error: ChainError) -> bool:
    """Return whether a question failed because nobody answered it."""
    return isinstance(error.__cause__, RequestException)


def _executes(connection: Connection, init_code: str) -> bool:
    """Return whether the chain knows the code's instructions; nodes report that they do not in many ways."""
    for pause in (*UNSETTLED, 0):
        if _runs(connection, init_code):
            return True
        if _runs(connection, STOP):
            return False
        # It executes nothing at all just now.
        time.sleep(pause)
    raise ChainError(f"The chain at {connection.where} does not execute calls.", "Is it in order? Try again later.")


def _runs(connection: Connection, init_code: str) -> bool:
    try:
        connection.ask_once("eth_call", [{"data": init_code}, "latest"])
    except ChainError as error:
        if unanswered(error):
            raise
        return False
    return True
