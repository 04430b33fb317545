"""The mailboxes of a task's aggregators, reached over HTTP where each of them says it is."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedledger.contracts.ledger.history import History
from fedledger.protocol.encoding.canonical import parse
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.encoding.strict import hexadecimal
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.commitment_batch import SignedCommitment
from fedledger.protocol.records.mailbox import MailboxRefusedError
from fedledger.storage import durable_files
from fedledger.storage.addresses import Networks, Place, read_url
from fedledger.storage.deadlines import end_of
from fedledger.storage.outgoing import NotAllowedError, UnreachableError, exchange

TIMEOUT = 10.0
COURTESY = 1.0
"""Seconds for which a node waits for the other aggregators once the active one has answered."""
PAUSES = (0.1, 0.4)
"""Seconds before it is tried again; a mailbox that is busy drops connections."""
MAX_AT_ONCE = 16
MAX_PROOF = 64
MAX_REASON = 200

Asked = tuple[str, str, bytes | None]
"""An aggregator, the path that is asked for, and what is sent to it."""


@dataclass
class _Question:
    """What is asked of an aggregator in a thread of its own; ``end`` is when it is over at the latest."""

    end: float
    answer: dict[str, Any] | None = None
    refusal: MailboxRefusedError | None = None
    is_familiar: bool = False
    """Whether it was waited for before."""

    @property
    def is_over(self) -> bool:
        return self.answer is not None or self.refusal is not None or time.monotonic() >= self.end


class HttpMailboxClient:
    """The mailboxes of a task's aggregators, at the URLs that each of them announced last.

    Messages go to all of them at once, so that a standby has what it needs. The active aggregator's answer decides, and
    nobody else is waited for much longer.

    Parameters
    ----------
    history
        The ledger's state (may be shared).
    task
        The task's id.
    networks
        Where mailboxes may be; by default on the public internet only.
    timeout
        Seconds until a request is given up; earlier, if what it is part of has to be over earlier.
    """

    def __init__(self, history: History, task: int, networks: Networks | None = None, timeout: float = TIMEOUT) -> None:
        self._history, self._task, self._timeout = history, task, timeout
        self._networks = networks or Networks()
        self._revealed: dict[tuple[int, int, str], set[str]] = {}
        self._running: dict[Asked, _Question] = {}
        self._changed = threading.Condition()

    def commit(self, index: int, signed: SignedCommitment) -> None:
        """Leave a signed commitment for a round; the active aggregator must take it."""
        self._commit(f"rounds/{index}/commitments", signed)

    def commit_scores(self, index: int, signed: SignedCommitment) -> None:
        """Leave a scorer's signed commitment for a round; the active aggregator must take it."""
        self._commit(f"rounds/{index}/scores/commitments", signed)

    def _commit(self, path: str, signed: SignedCommitment) -> None:
        document = {
            "participant": signed.participant,
            "commitment": signed.commitment.hex(),
            "signature": signed.signature.hex(),
        }
        seats = self._seats()
        asked = self._ask(seats, path, document)
        self._wait(asked, seats[0], lambda: True)
        if asked[seats[0]].answer is None:
            raise _refusal(asked[seats[0]])

    def reveal(self, index: int, participant: int, update: ContentRef, salt: bytes, staleness: int = 0) -> bool:
        """Leave what opens a commitment with each aggregator that has not taken it yet.

        Returns
        -------
        bool
            Whether all have it by now. The others may be away or slow, and the active one of them may come back.

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
        return self._reveal(index, participant, f"rounds/{index}/reveals", document)

    def reveal_scores(self, index: int, participant: int, salt: bytes, words: Sequence[int]) -> bool:
        """Leave a scorer's scores with each aggregator that has not taken them yet; see :meth:`reveal`."""
        document = {
            "participant": participant,
            "salt": salt.hex(),
            "words": b"".join(word.to_bytes(32, "big") for word in words).hex(),
        }
        return self._reveal(index, participant, f"rounds/{index}/scores/reveals", document)

    def _reveal(self, index: int, participant: int, path: str, document: dict[str, Any]) -> bool:
        for earlier in [place for place in self._revealed if place[0] != index]:
            del self._revealed[earlier]
        taken = self._revealed.setdefault((index, participant, path), set())
        seats = self._seats()
        asked = self._ask([seat for seat in seats if seat not in taken], path, document)
        self._wait(asked, seats[0], lambda: bool(taken) or any(q.answer is not None for q in asked.values()))
        taken.update(seat for seat, question in asked.items() if question.answer is not None)
        if not taken:
            raise _refusal(asked[seats[0]])
        return taken.issuperset(seats)

    def commitment(self, index: int, participant: int) -> SignedCommitment | None:
        """Return what a participant has signed for a round, as the active aggregator shows it, if it does."""
        seat = self._seats()[0]
        asked = self._ask([seat], f"rounds/{index}/commitments/{participant}", None)
        self._wait(asked, seat, lambda: True)
        answer = asked[seat].answer
        if answer is None or answer.get("commitment") is None:
            return None
        try:
            parts = hexadecimal(str(answer["commitment"]), 32), hexadecimal(str(answer.get("signature")), 65)
        except ValueError:
            return None
        return SignedCommitment(participant, *parts)

    def proof(self, index: int, participant: int) -> list[bytes] | None:
        """Return the way from a participant's commitment to the round's root, or None if none is to be had."""
        seats = self._seats()
        asked = self._ask(seats, f"rounds/{index}/proofs/{participant}", None)

        def found() -> list[bytes] | None:
            # Without a proof the ledger still takes a commitment.
            proofs = (_siblings(asked[seat].answer) for seat in seats)
            return next((siblings for siblings in proofs if siblings is not None), None)

        self._wait(asked, seats[0], lambda: found() is not None, courtesy=0.0)
        return found()

    def _seats(self) -> list[str]:
        """Return the task's aggregators, the active one first; an account may have several seats."""
        task = self._history.task(self._task)
        return list(
            dict.fromkeys(task.seats[(task.active + turn) % len(task.seats)] for turn in range(len(task.seats)))
        )

    def _ask(self, seats: Sequence[str], path: str, document: dict[str, Any] | None) -> dict[str, _Question]:
        """Ask aggregators in threads of their own, and return the questions; one that still runs is not asked again."""
        durable_files.flush()
        end, asked = end_of(self._timeout), {}
        body = None if document is None else json.dumps(document).encode()
        self._running = {key: question for key, question in self._running.items() if not question.is_over}
        for seat in seats:
            question = self._running.get((seat, path, body))
            if question is None:
                question = _Question(end)
                self._begin(question, (seat, path, body), must=seat == seats[0])
            asked[seat] = question
        return asked

    def _begin(self, question: _Question, asked: Asked, must: bool) -> None:
        seat, path, body = asked
        try:
            place = self._place(seat)
            if len(self._running) >= MAX_AT_ONCE and not must:
                raise MailboxRefusedError("Too many aggregators take their time.", "It is tried again.")
        except MailboxRefusedError as error:
            question.refusal = error
            return
        self._running[asked] = question

        def answer() -> None:
            found, refusal = None, MailboxRefusedError(f"The aggregator at {place} cannot be asked.")
            try:
                found = _answer(place, self._networks, f"/v1/{path}", body, question.end)
            except MailboxRefusedError as error:
                refusal = error
            finally:
                with self._changed:
                    question.answer, question.refusal = found, None if found is not None else refusal
                    self._changed.notify_all()

        threading.Thread(target=answer, daemon=True).start()

    def _place(self, seat: str) -> Place:
        """Return where an aggregator says that its mailbox is."""
        url = self._history.endpoints.get(seat)
        if url is None:
            raise MailboxRefusedError(
                f"The aggregator {seat} has not announced an address.", "Wait until it is started with --listen."
            )
        try:
            return read_url(url)
        except ConfigError as error:
            raise MailboxRefusedError(f"The aggregator {seat} announced no address: {error.message}") from error

    def _wait(
        self, asked: Mapping[str, _Question], active: str, is_enough: Callable[[], bool], courtesy: float = COURTESY
    ) -> None:
        """Wait for the active aggregator, then until there is enough, and a moment longer for the others.

        Parameters
        ----------
        asked
            The questions; there may be none to the active aggregator.
        active
            The active aggregator.
        is_enough
            Whether nobody else has to answer.
        courtesy
            Seconds for which the others are waited for nevertheless, each once.
        """
        end = max((question.end for question in asked.values()), default=0.0)
        stages: list[tuple[float, Callable[[], bool]]] = [
            (self._timeout, lambda: active not in asked or asked[active].is_over),
            (self._timeout, lambda: is_enough() or all(question.is_over for question in asked.values())),
            (courtesy, lambda: all(question.is_over or question.is_familiar for question in asked.values())),
        ]
        with self._changed:
            for most, is_over in stages:
                self._changed.wait_for(is_over, max(0.0, min(most, end - time.monotonic())))
        for question in asked.values():
            question.is_familiar = True


def _refusal(question: _Question) -> MailboxRefusedError:
    """Return why an aggregator has not taken a message."""
    return question.refusal or MailboxRefusedError("An aggregator takes too long to answer.", "It is tried again.")


def _exchange(place: Place, networks: Networks, path: str, body: bytes | None, end: float) -> tuple[int, bytes]:
    """Ask, and ask again after a pause where the connection was lost; a message may come twice."""
    for pause in PAUSES:
        try:
            return exchange(place, networks, path, body, end)
        except UnreachableError as error:
            if isinstance(error, NotAllowedError) or time.monotonic() + pause >= end:
                raise
            time.sleep(pause)
    return exchange(place, networks, path, body, end)


def _answer(place: Place, networks: Networks, path: str, body: bytes | None, end: float) -> dict[str, Any]:
    try:
        status, content = _exchange(place, networks, path, body, end)
        found = parse(content.decode())
    except (UnreachableError, ValueError, RecursionError) as error:
        reason = str(error)[:MAX_REASON]
        raise MailboxRefusedError(
            f"The aggregator at {place} does not answer: {reason!a}.", "Try again later."
        ) from error
    if not isinstance(found, dict) or status != 200:
        reason = str(found.get("error", found.get("detail")) if isinstance(found, dict) else found)[:MAX_REASON]
        raise MailboxRefusedError(f"The aggregator at {place} refused a message ({status}): {reason!a}")
    return found


def _siblings(answer: dict[str, Any] | None) -> list[bytes] | None:
    """Return the proof in an answer, if there is one in its only spelling."""
    found = None if answer is None else answer.get("proof")
    if not isinstance(found, list) or len(found) > MAX_PROOF:
        return None
    try:
        return [hexadecimal(sibling, 32) for sibling in found]
    except ValueError:
        return None
