"""Calls of the ledger as bytes, and what is read from them."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from typing import Any

from fedledger.contracts.abi import (
    Function,
    Log,
    events,
    functions,
)
from fedledger.contracts.compile import PARTS
from fedledger.contracts.ledger.records import Proposal, TaskParams
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ChainError
from fedledger.protocol.records.settlement import pack_lengths, unpack_lengths

LOGGER = logging.getLogger(__name__)
WORD_BITS = 256
MAX_CALL_BYTES = 1 << 26
"""Bytes of calls within calls that are looked through: those of one transaction may overlap, and so be many more."""


def open_call(task: int, index: int, selected: Sequence[int] | None) -> bytes:
    """Return the data by which a round is opened; see :meth:`Ledger.open_round`."""
    if selected is not None and not selected:
        raise ValueError("a round selects somebody")
    return functions()["openRound"].encode((task, index, *_words(selected or ())))


def enrolled_call(task: int, enrolled: Iterable[int]) -> bytes:
    """Return the data of a call that fails, and those after it with it, unless exactly these are enrolled."""
    return functions()["requireEnrolled"].encode((task, *_words(enrolled)))


def enrol_call(task: int, word: int | None, recommenders: Sequence[str] = ()) -> bytes:
    """Return the data by which a participant enrols, and commits to its data with that if it has a word for them.

    ``recommenders`` are the task's, if it has some.
    """
    enrolling = functions()["enrol"].encode((task,))
    if recommenders:
        enrolling = functions()["enrolRecommended"].encode((task, list(recommenders)))
    if word is None:
        return enrolling
    return functions()["multicall"].encode(([enrolling, functions()["commitData"].encode((task, word))],))


def _words(participants: Iterable[int]) -> tuple[list[int], list[int]]:
    """Return the indices of 256-participant words, ascending, and the words of some participants."""
    words: dict[int, int] = {}
    for participant in participants:
        word, bit = divmod(participant, WORD_BITS)
        words[word] = words.get(word, 0) | 1 << bit
    indices = sorted(words)
    return indices, [words[i] for i in indices]


def propose_call(task: int, index: int, proposal: Proposal) -> bytes:
    """Return the data by which a round's outcome is proposed."""
    updates = [update.digest for update in proposal.updates], pack_lengths(proposal.updates)
    return functions()["proposeRound"].encode((task, index, *proposal.as_arguments(), updates))


def call_scorers_call(task: int, index: int, selected: Sequence[int], listed: Mapping[int, ContentRef] | None) -> bytes:
    """Return the data by which a round's scorers are called; see :meth:`Ledger.call_scorers`."""
    indices, _ = _words(selected)
    if listed is None:
        return functions()["callScorers"].encode((task, index, indices, [], ([], [])))
    known = dict(zip(*_words(listed), strict=True))
    updates = [listed[participant] for participant in sorted(listed)]
    given = [update.digest for update in updates], pack_lengths(updates)
    return functions()["callScorers"].encode((task, index, indices, [known.get(i, 0) for i in indices], given))


def settle_call(task: int, index: int, proposal: Proposal, limit: int) -> bytes:
    """Return the data by which ``limit`` more verdict words of a proposal are applied."""
    return functions()["settleRound"].encode((task, index, *proposal.as_arguments(), limit))


def content_ref(value: Any) -> ContentRef:
    """Return the reference that a struct of the contract stands for."""
    return ContentRef(bytes(value.digest), int(value.length))


def task_params(value: Any) -> TaskParams:
    """Return the parameters that a struct of the contract stands for; what its version lacks has its default."""
    given = {name: getattr(value, member) for name, member in _members_of_task() if hasattr(value, member)}
    return TaskParams(**given | {name: content_ref(given[name]) for name in ("spec", "model")})


@cache
def _members_of_task() -> tuple[tuple[str, str], ...]:
    """Return the fields of the parameters with the contract's names for them."""
    return tuple((field.name, re.sub("_(.)", lambda m: m[1].upper(), field.name)) for field in fields(TaskParams))


def needs_input(log: Log) -> bool:
    """Return whether the data of its transaction is part of what an event tells: of a batched round's updates."""
    return log.event == "BatchProposed" or (log.event == "ScorersCalled" and bool(log.arguments["words"]))


def proposal_in(log: Log) -> Proposal:
    """Return the proposal that a ``RoundProposed`` or ``BatchProposed`` event tells of."""
    return decode_batch_proposal(log) if log.event == "BatchProposed" else decode_proposal(log.arguments)


def decode_batch_proposal(log: Log) -> Proposal:
    """Return the proposal of a ``BatchProposed`` event, whose words and updates are in its transaction.

    A transaction that the ledger understood and this release does not gives a proposal that judges nobody: no round may
    be proposed so, and nobody else's task may suffer by it.
    """
    place = log.arguments["task"], log.arguments["round"]
    try:
        _, _, _, verdict_words, share_words, packed = _called("proposeRound", log.input, *place)
        updates = _updates(packed)
    except (ChainError, ValueError) as error:
        LOGGER.error("task %d, round %d: the proposal cannot be read: %s", *place, error)
        verdict_words, share_words, updates = (), (), ()
    words = {"verdictWords": verdict_words, "shareWords": share_words}
    return replace(decode_proposal(log.arguments | words), updates=updates)


def listed_updates(log: Log) -> tuple[ContentRef, ...]:
    """Return the updates that a batched round's scorers were called to, which are in the transaction of the event.

    Of a transaction that the ledger understood and this release does not there are none: nobody can score them then,
    and nobody else's task suffers by it.
    """
    place = log.arguments["task"], log.arguments["round"]
    try:
        updates = _updates(_called("callScorers", log.input, *place)[4])
        if len(updates) != log.arguments["present"]:
            raise ValueError(f"{len(updates)} updates of {log.arguments['present']}")
    except (ChainError, ValueError) as error:
        LOGGER.error("task %d, round %d: the updates for the scorers cannot be read: %s", *place, error)
        return ()
    return updates


def _updates(packed: tuple[Sequence[bytes], Sequence[int]]) -> tuple[ContentRef, ...]:
    digests, length_words = packed
    lengths = unpack_lengths(length_words, len(digests))
    return tuple(ContentRef(digest, length) for digest, length in zip(digests, lengths, strict=True))


def _called(name: str, data: bytes, task: int, index: int) -> tuple[Any, ...]:
    """Return the arguments of the call of a function about a round, which may be one of several in one transaction."""
    waiting, left = [data], MAX_CALL_BYTES + len(data)
    while waiting:
        call = waiting.pop()
        left -= len(call)
        if left < 0:
            break
        if (function := _batching().get(call[:4])) is None:
            continue
        if function.name == "multicall":
            waiting += _calls(call[4:], left)
        elif function.name == name and (given := function.decode_input(call))[:2] == (task, index):
            return given
    raise ChainError(f"A transaction does not call {name} for round {index} of task {task}.")


def _calls(arguments: bytes, most: int) -> list[bytes]:
    """Return the calls of a multicall as the ledger reads them: it asks for no padding, and for no zeros in it.

    There are none if they have more than ``most`` bytes together.
    """

    def word(place: int) -> int:
        return int.from_bytes(arguments[place : place + 32], "big")

    first = word(0) + 32
    places = [first + word(first + 32 * i) for i in range(min(word(first - 32), len(arguments) // 32))]
    ends = [min(place + 32 + word(place), len(arguments)) for place in places]
    if sum(max(0, end - place - 32) for place, end in zip(places, ends, strict=True)) > most:
        return []
    return [arguments[place + 32 : end] for place, end in zip(places, ends, strict=True)]


@cache
def _batching() -> dict[bytes, Function]:
    """Return by selector what tells of a batched round's updates, in every version of the ledger that has them."""
    known = [functions(version) for version in PARTS if "BatchProposed" in events(version)]
    names = "proposeRound", "callScorers", "multicall"
    return {found[name].selector: found[name] for found in known for name in names if name in found}


def decode_proposal(arguments: dict[str, Any]) -> Proposal:
    """Return the proposal of a ``RoundProposed`` event."""
    proposal = arguments["proposal"]
    return Proposal(
        model=content_ref(proposal.model),
        state=content_ref(proposal.state),
        report=content_ref(proposal.report),
        stop=bool(proposal.stop),
        verdict_words=tuple(int(word) for word in arguments["verdictWords"]),
        share_words=tuple(int(word) for word in arguments["shareWords"]),
        # Version 1 of the ledger knows no batched rounds.
        updates_hash=getattr(proposal, "updates", bytes(32)),
    )
