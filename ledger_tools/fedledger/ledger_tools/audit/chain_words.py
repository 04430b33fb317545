"""Words of the ledger's state as a chain tells them, and as they follow from its history."""

from __future__ import annotations

from typing import Any

from fedledger.contracts.ledger.calls import WORD_BITS
from fedledger.contracts.ledger.check_history import CheckHistory
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.lanes import lane
from fedledger.contracts.ledger.records import CheckState
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.ledger_tools.audit.divergence import Divergence, DivergenceError, expect
from fedledger.protocol.encoding.strict import SpellingError, hexadecimal_number
from fedledger.protocol.records.reputation import Evidence


def chain_state(ledger: Ledger, history: History) -> dict[str, dict[str, dict[str, str]]]:
    """Ask the chain for every evidence and credit word and check that the history knows, whatever the logs said."""
    evidence = {
        publisher: {str(slot): hex(ledger.evidence_word(publisher, slot)) for slot in sorted(words)}
        for publisher, words in history.evidence_words.items()
    }
    credits = {
        str(task.id): {str(slot): hex(ledger.credit_word(task.id, slot)) for slot in sorted(task.credits)}
        for task in history.tasks.values()
    }
    checks = {
        str(task.id): {_place(each): _standing(*ledger.check(task.id, each.round, each.participant)) for each in known}
        for task in history.tasks.values()
        if (known := task.checks)
    }
    scorers = {
        publisher: {i: _lane_of(ledger.scorer_evidence(publisher, int(i))) for i in lanes}
        for publisher, lanes in scorers_of(history).items()
    }
    outvoted = {
        str(task.id): {place: hex(ledger.outvoted_word(task.id, *map(int, place.split("/")))) for place in words}
        for task in history.tasks.values()
        if (words := outvoted_of(task))
    }
    later = {"checks": checks, "scorers": scorers, "outvoted": outvoted}
    return {"evidence": evidence, "credits": credits, **{name: found for name, found in later.items() if found}}


def scorers_of(history: History) -> dict[str, dict[str, str]]:
    """Return the evidence of participants as scorers, by publisher and participant, as :func:`chain_state` tells it."""
    known = {
        publisher: {str(i): history.scorer_evidence(publisher, i) for i in sorted(history.owners) if lane(words, i)}
        for publisher, words in history.scoring_words.items()
    }
    return {
        publisher: {i: _lane_of(evidence) for i, evidence in lanes.items()}
        for publisher, lanes in known.items()
        if lanes
    }


def outvoted_of(task: TaskHistory) -> dict[str, str]:
    """Return the words of those whose updates did not count in a task's rounds, by ``round/word``."""
    words: dict[str, int] = {}
    for index, current in sorted(task.rounds.items()):
        for participant in current.outvoted:
            place = f"{index}/{participant // WORD_BITS}"
            words[place] = words.get(place, 0) | 1 << participant % WORD_BITS
    return {place: hex(word) for place, word in words.items()}


def _lane_of(evidence: Evidence) -> str:
    return hex(evidence.pack())


def checks_of(task: TaskHistory) -> dict[str, str]:
    """Return how the logs say that a task's checks stand, as :func:`chain_state` tells what the chain says."""
    return {_place(check): _standing(check.state, check.auditor) for check in task.checks}


def _place(check: CheckHistory) -> str:
    return f"{check.round}/{check.participant}"


def _standing(state: CheckState, auditor: int) -> str:
    return f"{state.name.lower()}, auditor {auditor}"


def _word(text: Any) -> int:
    """Return a word of the chain's own; raises DivergenceError if it is none."""
    try:
        return hexadecimal_number(text, 2**256 - 1)
    except SpellingError as error:
        raise DivergenceError(Divergence(0, "state", "words of the ledger", str(error))) from error


def check_state(history: History, state: dict[str, Any]) -> None:
    """Compare the chain's own words with those that follow from the executed history.

    Raises
    ------
    DivergenceError
        At the first difference.
    """
    for publisher, words in history.evidence_words.items():
        for participant in history.owners:
            slot = participant // 8
            if slot in words:
                claimed = {slot: _word(state["evidence"].get(publisher, {}).get(str(slot), "0x0"))}
                expected, found = (Evidence.unpack(lane(w, participant)) for w in (words, claimed))
                owner = history.owners[participant]
                expect(0, f"reputation of {owner} on the chain", expected.reputation, found.reputation)
                expect(0, f"evidence of {owner} on the chain", expected.pack(), found.pack())
    _check_scores(history, state)
    for task in history.tasks.values():
        for slot, word in task.credits.items():
            claimed_word = _word(state["credits"].get(str(task.id), {}).get(str(slot), "0x0"))
            expect(0, f"credits of task {task.id}, slot {slot}, on the chain", hex(word), hex(claimed_word))
        for place, expected_check in checks_of(task).items():
            found_check = state.get("checks", {}).get(str(task.id), {}).get(place)
            expect(0, f"check {place} of task {task.id} on the chain", expected_check, found_check)


def _check_scores(history: History, state: dict[str, Any]) -> None:
    for publisher, evidence in scorers_of(history).items():
        claimed = state.get("scorers", {}).get(publisher, {})
        for participant, lane_ in evidence.items():
            name = f"evidence of {history.owners[int(participant)]} as a scorer on the chain"
            expect(0, name, lane_, claimed.get(participant))
    for task in history.tasks.values():
        for place, bits in outvoted_of(task).items():
            found = state.get("outvoted", {}).get(str(task.id), {}).get(place)
            expect(0, f"outvoted {place} of task {task.id} on the chain", bits, found)
