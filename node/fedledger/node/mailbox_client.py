"""An aggregator's mailbox, reached over HTTP where the ledger says it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from fedledger.contracts.ledger.history import History
from fedledger.protocol.encoding.canonical import parse
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.encoding.strict import hexadecimal
from fedledger.protocol.records.commitment_batch import SignedCommitment
from fedledger.protocol.records.mailbox import MailboxRefusedError
from fedledger.storage import durable_files

TIMEOUT = 10.0
MAX_PROOF = 64
MAX_ANSWER_BYTES = 16_384
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class HttpMailboxClient:
    """The mailboxes of a task's aggregators, at the URLs that each of them announced last.

    Messages go to all of them, so that a standby has what it needs.

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
        self._revealed: dict[tuple[int, int], set[str]] = {}

    def commit(self, index: int, signed: SignedCommitment) -> None:
        """Leave a signed commitment for a round; the active aggregator must take it."""
        document = {
            "participant": signed.participant,
            "commitment": signed.commitment.hex(),
            "signature": signed.signature.hex(),
        }
        seats = self._seats()
        refused = self._tell(seats, f"rounds/{index}/commitments", document)
        if seats[0] in refused:
            raise refused[seats[0]]

    def reveal(self, index: int, participant: int, update: ContentRef, salt: bytes, staleness: int = 0) -> bool:
        """Leave what opens a commitment with each aggregator that has not taken it yet.

        Returns
        -------
        bool
            Whether all have it by now. The others may be away, and the active one of them may come back.

        Raises
        ------
        PostRefusedError
            If none has it.
        """
        document = {
            "participant": participant,
            "digest": update.digest.hex(),
            "length": update.length,
            "salt": salt.hex(),
            "staleness": staleness,
        }
        for earlier in [place for place in self._revealed if place[0] != index]:
            del self._revealed[earlier]
        taken = self._revealed.setdefault((index, participant), set())
        seats = self._seats()
        refused = self._tell([s for s in seats if s not in taken], f"rounds/{index}/reveals", document)
        taken.update(set(seats) - set(refused))
        if not taken:
            raise refused[seats[0]]
        return not refused

    def proof(self, index: int, participant: int) -> list[bytes] | None:
        """Return the way from a participant's commitment to the round's root, or None if none is to be had."""
        for seat in self._seats():
            try:
                found = self._ask(seat, "GET", f"rounds/{index}/proofs/{participant}").get("proof")
                if isinstance(found, list) and len(found) <= MAX_PROOF:
                    return [hexadecimal(sibling, 32) for sibling in found]
            except (MailboxRefusedError, ValueError, TypeError):
                # Without a proof the ledger still takes a commitment.
                continue
        return None

    def _seats(self) -> list[str]:
        """Return the task's aggregators, the active one first."""
        task = self._history.task(self._task)
        return [task.seats[(task.active + turn) % len(task.seats)] for turn in range(len(task.seats))]

    def _tell(self, seats: Sequence[str], path: str, document: dict[str, Any]) -> dict[str, MailboxRefusedError]:
        """Send a document to aggregators, and return who did not take it."""
        refused = {}
        for seat in seats:
            try:
                self._ask(seat, "POST", path, document)
            except MailboxRefusedError as error:
                refused[seat] = error
        return refused

    def _ask(self, seat: str, method: str, path: str, document: dict[str, Any] | None = None) -> dict[str, Any]:
        base = self._history.endpoints.get(seat)
        if base is None:
            raise MailboxRefusedError(
                f"The aggregator {seat} has not announced an address.", "Wait until it is started with --listen."
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
        except (requests.RequestException, HTTPError, ValueError, OSError) as error:
            raise MailboxRefusedError(
                f"The aggregator at {base} does not answer: {error}.", "Try again later."
            ) from error
        if not isinstance(found, dict) or status != requests.codes.ok:
            reason = found.get("error", found.get("detail")) if isinstance(found, dict) else found
            raise MailboxRefusedError(f"The aggregator at {base} refused a message ({status}): {reason}")
        return found

    def _exchange(self, method: str, url: str, document: dict[str, Any] | None) -> tuple[int, Any]:
        durable_files.flush()
        with self._session.request(
            method, url, json=document, timeout=self._timeout, allow_redirects=False, stream=True
        ) as answer:
            return answer.status_code, parse(answer.raw.read(MAX_ANSWER_BYTES, decode_content=True).decode())
