"""Audit spot checks: who was drawn, and whether auditors that let updates pass made these again.

Whoever makes an update again finds its transcript, of which the participant has claimed the hash. So anybody sees
whether an auditor that says that an update passes knows it.
"""

from __future__ import annotations

from collections.abc import Sequence

from fedledger.contracts.ledger.check_history import CheckHistory
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.records import CheckState
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.ledger_tools.audit.clock import Clock
from fedledger.ledger_tools.audit.divergence import Divergence, DivergenceError, expect
from fedledger.protocol.encoding.keccak import keccak
from fedledger.protocol.records.spot_checks import SpotChecks, drawn
from fedledger.protocol.records.verdicts import Verdict


def drawn_of(task: TaskHistory, current: RoundHistory, seed: bytes) -> set[int]:
    """Return who of those whose updates a proposed round accepted is drawn by a seed to be checked."""
    params = task.params
    return {
        participant
        for participant, verdict in current.verdicts.items()
        if verdict is Verdict.ACCEPTED
        and drawn(seed, task.id, current.index, participant, params.check_rate, params.auditor_count) is not None
    }


def audit_checks(history: History, task: TaskHistory, terms: SpotChecks | None, clock: Clock) -> list[str]:
    """Audit the spot checks of a task's rounds that stand, and return what an auditor of the history should know.

    Parameters
    ----------
    history, task
        The ledger's history, and the task, all rounds of which follow.
    terms
        What the task's spec says of spot checks, whose auditors are those that the ledger has.
    clock
        The chain's.

    Raises
    ------
    DivergenceError
        If the seed of a round's checks is not the hash of its proposal's block, if somebody was checked that was not
        drawn, or if an auditor let an update pass without knowing its transcript.
    """
    if terms is None or not task.params.check_rate:
        return []
    missed: dict[int, int] = {}
    count = 0
    for current in task.proposed:
        if current.proposed_at is None:
            continue
        seed = clock.hash_of(current.proposed_at.block)
        if current.check_seed is not None:
            expect(current.index, "seed of the spot checks", seed.hex(), current.check_seed.hex())
        found = drawn_of(task, current, seed)
        for participant in sorted(current.checks):
            draw = "drawn" if participant in found else "not drawn"
            expect(current.index, f"spot check of {history.owners[participant]}", "drawn", draw)
            _require_work(history, current.checks[participant], terms.accounts)
        count += len(found)
        if len(found) > len(current.checks) and not clock.times.draws(task, current, clock.now, clock.block):
            missed[current.index] = len(found) - len(current.checks)
    return [*_missed(missed, count), *_silent(task, clock)]


def _require_work(history: History, check: CheckHistory, auditors: Sequence[str]) -> None:
    """Raise DivergenceError if a check passed, and who let it pass did not know the transcript that was claimed."""
    lacks_one = check.state is CheckState.PASSED and check.transcript is None and len(check.answers) == 1
    if check.transcript is None and not lacks_one:
        return
    claim = check.answers[-1].claim
    known = None if check.transcript is None else keccak(check.transcript)
    if known == claim:
        return
    name = f"transcript of auditor {auditors[check.auditor]}, who let the update of {history.owners[check.participant]}"
    raise DivergenceError(
        Divergence(
            check.round,
            f"{name} pass without making it again",
            f"one with the hash {claim.hex()}",
            "none" if check.transcript is None else check.transcript.hex(),
        )
    )


def _missed(missed: dict[int, int], count: int) -> list[str]:
    """Tell of updates that were drawn, and that nobody named while this was possible."""
    if not missed:
        return []
    rounds = ", ".join(map(str, missed))
    return [
        f"Of {count} updates that were drawn for spot checks, {sum(missed.values())} were not checked, in rounds "
        f"{rounds}: nobody named them in time, and nobody had to."
    ]


def _silent(task: TaskHistory, clock: Clock) -> list[str]:
    """Tell of checks that passed because an auditor said nothing."""
    silent = [
        check
        for check in task.checks
        if check.answers
        and check.transcript is None
        and check.state in (CheckState.ANSWERED, CheckState.PASSED)
        and not task.rounds[check.round].voided
        and not clock.times.is_open(task, check, clock.now)
    ]
    if not silent:
        return []
    places = ", ".join(map(str, sorted({check.auditor for check in silent})))
    return [
        f"{len(silent)} of {len(task.checks)} spot checks passed without a finding: auditors {places} said nothing."
    ]
