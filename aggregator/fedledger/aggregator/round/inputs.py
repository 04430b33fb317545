"""What a round's outcome follows from, gathered from the ledger and the store; what an aggregator proposes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fedledger.aggregator.round.outcome import RoundInput, RoundOutcome
from fedledger.aggregator.round.validation import fetch
from fedledger.aggregator.selection.planner import PlannedRound
from fedledger.aggregator.staleness.damping import shifts
from fedledger.contracts.ledger.records import Proposal
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.protocol.codecs.statistics import require_model
from fedledger.protocol.encoding.cid import MAX_STATE_BYTES, ContentRef
from fedledger.protocol.errors import RoundError
from fedledger.protocol.records.data_root import DataRoot
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.settlement import pack_words, updates_hash
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.update import UpdateRefusedError
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage.base import ContentStore

EMPTYING = 3
"""From this version of the ledger on, a round below quorum is proposed, with its model as it was."""


TrustedUpdate = Callable[[int, ModelFile], bytes]
"""Makes the update that an aggregator trusts, as content, for a round and its base model."""


def round_input(
    store: ContentStore,
    spec: TaskSpec,
    task: TaskHistory,
    current: RoundHistory,
    unavailable: frozenset[str] = frozenset(),
    commitments: ContentRef | None = None,
    planned: PlannedRound | None = None,
) -> RoundInput:
    """Gather what a round's outcome follows from; updates named ``unavailable`` are not looked for.

    A batched round is given as its batch completes it, with the reference of that batch. ``planned`` is what a
    :class:`~fedledger.aggregator.selection.planner.RoundPlanner` says of the round; a task with neither a schedule nor
    a reputation model nor a mechanism needs none.

    Raises
    ------
    RoundError
        If the task has a reputation model or a mechanism, and nobody has asked it; if it has scorers, and their scores
        are not tallied yet, or are of other updates.
    """
    planned = planned or PlannedRound()
    _require_planned(spec, current, planned)
    updates: dict[str, bytes | UpdateRefusedError] = {}
    for participation in current.participations:
        if participation.update is None:
            continue
        try:
            if participation.owner in unavailable:
                raise UpdateRefusedError(Verdict.UNAVAILABLE, "the report says so")
            updates[participation.owner] = fetch(store, participation.update, spec.limits.max_update_bytes)
        except UpdateRefusedError as error:
            updates[participation.owner] = error
    participations = current.participations
    if planned.reputations is not None:
        participations = tuple(replace(each, modelled=planned.reputations[each.id]) for each in participations)
    base = _model(store, current.base, spec)
    needed = sorted(
        {participation.staleness for participation in current.participations if participation.staleness}
        if shifts(spec)
        else ()
    )
    return RoundInput(
        spec=spec,
        index=current.index,
        base=base,
        base_ref=current.base,
        state=previous_state(store, task, current.index),
        participations=participations,
        updates=updates,
        units=task.units_at(current.index),
        commitments=commitments,
        quorum=task.params.quorum if task.version >= EMPTYING else 0,
        enrolled=len(current.enrolled),
        max_staleness=task.max_staleness,
        earlier=current.earlier,
        due=planned.due,
        beacon=current.beacon,
        committed=None if current.bidding else committed_examples(task, current, spec),
        unstaked=unstaked(current, spec),
        bidding=current.bidding,
        trade=planned.trade,
        outvoted=outvoted(task, current),
        earlier_models={steps: _model(store, current.bases[steps], spec) for steps in needed},
    )


def _require_planned(spec: TaskSpec, current: RoundHistory, planned: PlannedRound) -> None:
    if (spec.mechanism is None or current.bidding) != (planned.trade is None):
        raise RoundError("A round is paid by its task's mechanism, if and only if the task has one.")
    if (spec.reputation_model is None) != (planned.reputations is None):
        raise RoundError("A round counts by its task's reputation model, if and only if the task has one.")


def committed_examples(task: TaskHistory, current: RoundHistory, spec: TaskSpec) -> dict[str, int] | None:
    """Return how many examples a round's participants had committed to when it was opened, by owner.

    None where the task does not ask for that; who has committed to none is left out.
    """
    if spec.committed_data is None:
        return None
    words = {owner: task.committed(i, current.index, spec.committed_data.every) for i, owner in current.owners.items()}
    return {owner: DataRoot.of_word(word).count for owner, word in words.items() if word is not None}


def unstaked(current: RoundHistory, spec: TaskSpec) -> frozenset[str]:
    """Return the owners who had lost so much of their stake that a spot check could take nothing from them."""
    if spec.spot_checks is None:
        return frozenset()
    return frozenset(owner for i, owner in current.owners.items() if i not in current.staked)


def outvoted(task: TaskHistory, current: RoundHistory) -> frozenset[str]:
    """Return the owners whose updates do not count in a round, by its scores; see :func:`round_input`."""
    if not task.is_scored(current):
        return frozenset()
    scoring = current.scoring
    if scoring is None or not scoring.tallied:
        raise RoundError(
            f"The scores of round {current.index} are not tallied, and the ledger takes no proposal before that.",
            "Call the round's scorers, and tally what they reveal, or once the time for that is over what there is.",
        )
    if set(scoring.present) != set(current.reveals):
        raise RoundError(
            f"Round {current.index} was scored with {len(scoring.present)} updates, and there are other ones now.",
            "Propose exactly the updates to which its scorers were called.",
        )
    return frozenset(current.owners[participant] for participant in scoring.outvoted)


def _model(store: ContentStore, ref: ContentRef, spec: TaskSpec) -> ModelFile:
    found = ModelFile.decode(store.get(ref), spec.tensors)
    require_model(found, spec)
    return found


def previous_state(store: ContentStore, task: TaskHistory, index: int) -> bytes:
    """Return the aggregator's state that the last proposed, not voided, round before ``index`` left."""
    before = task.state_before(index)
    return b"" if before is None else store.get(before, MAX_STATE_BYTES)


def proposal_of(outcome: RoundOutcome, batched: RoundHistory | None = None) -> Proposal:
    """Return the proposal that an honest aggregator posts for an outcome; that of a batched round names its updates."""
    verdict_words, share_words = pack_words(outcome.verdicts, outcome.shares)
    updates = () if batched is None else tuple(batched.reveals[i].update for i in sorted(batched.reveals))
    return Proposal(
        model=outcome.model.ref,
        state=outcome.state.ref,
        report=outcome.report.ref,
        stop=outcome.stop,
        verdict_words=tuple(verdict_words),
        share_words=tuple(share_words),
        updates_hash=bytes(32) if batched is None else updates_hash(updates),
        updates=updates,
    )
