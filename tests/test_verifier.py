"""Verifiers, aggregators and their disputes on a real chain, with everybody's money counted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fedledger.aggregator.driver import Aggregator
from fedledger.aggregator.duties import commitments
from fedledger.aggregator.duties.commitments import Commitments
from fedledger.aggregator.duties.opening import Opening
from fedledger.aggregator.duties.proposing import Proposing
from fedledger.aggregator.mailbox.mailbox import Mailbox
from fedledger.aggregator.round import batches
from fedledger.aggregator.round.outcome import RoundInput, RoundOutcome, round_outcome
from fedledger.contracts.abi import RevertedError
from fedledger.contracts.chain.records import Receipt
from fedledger.contracts.ledger import calls
from fedledger.contracts.ledger.access import Access
from fedledger.contracts.ledger.actor import DONE, WAITED, Action, Situation, Step
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.dispute_history import DisputeHistory
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.records import DisputeKind, DisputeStatus, Finding, Offence, Phase
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.contracts.ledger.waits import task_wait
from fedledger.ledger_tools.audit.divergence import Divergence
from fedledger.ledger_tools.audit.replay import Replay
from fedledger.ledger_tools.report.tables import rounds_frame, task_status_rows
from fedledger.ledger_tools.report.task_view import TaskView
from fedledger.ledger_tools.verifier import serving
from fedledger.ledger_tools.verifier.context import Context, Service
from fedledger.ledger_tools.verifier.juries import Juries, Vote
from fedledger.ledger_tools.verifier.replaying import Able, Unable
from fedledger.ledger_tools.verifier.replays import Replays
from fedledger.ledger_tools.verifier.verifier import Verifier
from fedledger.node.duties.batched_rounds import BatchedRounds
from fedledger.node.duties.objections import Objections
from fedledger.node.participant import Participant
from fedledger.platform.experiment.accounts import (
    AGGREGATOR,
    PUBLISHER,
    experiment_account,
    participant_role,
    verifier_role,
)
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ChainError, ContentUnavailableError, StoreError
from fedledger.protocol.records.commitment_batch import Batch, SignedCommitment
from fedledger.protocol.records.mailbox import MailboxRefusedError
from fedledger.protocol.records.measurement import Measurement
from fedledger.protocol.records.signatures import commitment_message, sign
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage.local import LocalStore
from support.quick import quick
from support.world import (
    BOND,
    GWEI,
    JUROR_PENALTY,
    PERIOD,
    TASK,
    World,
    liar,
    settled,
    sleeper,
    world,
    wrong_model,
    wrong_share,
    wrong_verdict,
)


def model_without(folder: Path, voided: int, **terms: int) -> str:
    """Return the final model of a history whose first rounds were voided because nobody proposed them."""
    with world(folder, verifiers=0, **terms) as w:
        w.aggregators = [w.aggregator(kind=sleeper(range(1, voided + 1)))]
        return w.play().task.model.cid


@pytest.fixture(scope="module")
def remade(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The final model of two rounds after one that was voided."""
    return model_without(tmp_path_factory.mktemp("remade"), 1)


def nobody_but(w: World, changes: dict[str, int]) -> None:
    """Assert that nobody gained or lost anything but this, and what the task pays its participants for their work."""
    earned = w.credits()
    expected = {role: units for role, units in earned.items() if units}
    if sum(earned.values()):
        expected[PUBLISHER] = -sum(earned.values())
    assert w.gains() == expected | changes
    w.check_money()


# -- honesty -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_unfinal", [1, 3])
def test_nobody_challenges_an_honest_history(tmp_path: Path, max_unfinal: int) -> None:
    with world(tmp_path, rounds=3, max_unfinal=max_unfinal) as w:
        w.join().play()
        assert settled(w.task) == [1, 2, 3] and not w.statuses()
        assert sorted(w.did(Action.REPLAYED)) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        assert {verifier.step().action for verifier in w.verifiers} == {Action.DONE}
        nobody_but(w, {})
        assert w.audit().reproduced


# -- lies --------------------------------------------------------------------------------------------------------


class BetterLosses(Proposing):
    """Tells a loss of the first round's model that is beyond the tolerance, and is true to it in all else."""

    def outcome(self, given: RoundInput) -> RoundOutcome:
        def better(what: str, vector: NDArray[np.float32]) -> Measurement:
            found = self.measure(what, vector)
            lie = 3_000 if what == "model" and given.index == 1 else 0
            return Measurement(found.loss - lie, found.score)

        return round_outcome(given, better)


class Mismeasuring(Aggregator):
    proposing_kind = BetterLosses


class WithoutTheFirst(Opening):
    """Leaves somebody out of the first round's selection."""

    def selection(self, task: TaskHistory, index: int) -> list[int] | None:
        return sorted(task.enrolled)[1:] if index == 1 else super().selection(task, index)


class Choosy(Aggregator):
    opening_kind = WithoutTheFirst


@dataclass(frozen=True)
class Caught:
    """Who gains by a lie that one verifier challenges and two jurors see."""

    challenger: int = BOND // 2
    juror: int = BOND // 8
    burned: int = BOND // 4

    def changes(self, w: World) -> dict[str, int]:
        (challenger,) = w.did(Action.CHALLENGED)
        jurors = {verifier_role(n): self.juror for n in range(3) if n != challenger}
        return {AGGREGATOR: -BOND, verifier_role(challenger): self.challenger, **jurors}


@pytest.mark.parametrize(
    ("kind", "field"),
    quick(
        2,
        [
            (liar(wrong_verdict), "verdict of 0x"),
            (liar(wrong_model), "model"),
            (liar(wrong_share), "pay share of 0x"),
            (Mismeasuring, "measurement of model: loss"),
            (Choosy, "selection"),
        ],
        ["verdict", "model", "share", "measurement", "selection"],
    ),
)
def test_a_lie_is_overturned_paid_for_and_made_good(
    tmp_path: Path, remade: str, kind: type[Aggregator], field: str
) -> None:
    with world(tmp_path) as w:
        w.aggregators = [w.aggregator(kind=kind)]
        w.join().play()
        (dispute,) = w.history.disputes
        assert dispute.status is DisputeStatus.OVERTURNED and dispute.round == 1
        told = next(step.detail for _, step in w.steps if step.action is Action.REPLAYED)
        assert told.count(f"round 1, {field}") == 1
        assert w.task.rounds[1].voided and settled(w.task) == [2, 3]
        assert w.task.model.cid == remade
        assert w.burned == Caught().burned
        nobody_but(w, Caught().changes(w))
        assert w.audit().reproduced


def test_a_standby_makes_the_round_again(tmp_path: Path, remade: str) -> None:
    class Fleeing(liar(wrong_model)):  # type: ignore[misc]
        """Leaves when it is found out."""

        def step(self) -> Step:
            gone = w.history.update().task(TASK).rounds.get(1)
            return WAITED if gone is not None and gone.voided else super().step()

    with world(tmp_path, standbys=1) as w:
        w.aggregators[0] = w.aggregator(kind=Fleeing)
        w.join().play()
        assert {w.task.rounds[index].proposer for index in (2, 3)} == {w.accounts["standby 0"].address}
        assert settled(w.task) == [2, 3] and w.task.model.cid == remade
        nobody_but(w, Caught().changes(w))


def test_a_lie_takes_with_it_what_was_built_on_it(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with world(tmp_path, rounds=3, max_unfinal=3) as w:
        w.aggregators = [w.aggregator(kind=liar(wrong_model))]
        w.join().play()
        assert [index for index, r in w.task.rounds.items() if r.voided] == [1, 2, 3]
        assert all(w.task.rounds[index].proposal is not None for index in (1, 2, 3))
        assert settled(w.task) == [4, 5, 6]
        assert w.statuses() == [DisputeStatus.OVERTURNED], "the rounds that were built on it follow from it"
        nobody_but(w, Caught().changes(w))
        assert w.audit().reproduced
        remade = model_without(tmp_path_factory.mktemp("remade"), 3, rounds=3)
        assert w.task.model.cid == remade


def test_content_that_nobody_can_fetch_is_a_lie(tmp_path: Path, remade: str) -> None:
    """An aggregator that withholds the model it proposed loses, as nobody can say that it follows."""
    with world(tmp_path) as w:
        put = w.store.put

        class WithoutReport(Proposing):
            def outcome(self, given: RoundInput) -> RoundOutcome:
                outcome = super().outcome(given)
                withheld = outcome.report.ref if given.index == 1 else None
                w.store.put = lambda data, file=None, ref=None: ref if ref and ref == withheld else put(data)  # type: ignore[method-assign]
                return outcome

        class Withholding(Aggregator):
            proposing_kind = WithoutReport

        w.aggregators = [w.aggregator(kind=Withholding)]
        w.join().play()
        assert w.statuses() == [DisputeStatus.OVERTURNED] and w.task.model.cid == remade
        nobody_but(w, Caught().changes(w))


class Hiding:
    """A participant's store: what it puts there only the aggregator finds."""

    def __init__(self, shared: LocalStore, hidden: LocalStore) -> None:
        self.shared, self.hidden = shared, hidden

    def get(self, ref: ContentRef, limit: int | None = None) -> bytes:
        return self.shared.get(ref, limit)

    def put(self, data: bytes, file: Any = None, ref: ContentRef | None = None) -> ContentRef:
        return self.hidden.put(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.shared, name)


class FoundByOne(Hiding):
    """The aggregator's store, which also finds what the participant hides."""

    def get(self, ref: ContentRef, limit: int | None = None) -> bytes:
        try:
            return self.shared.get(ref, limit)
        except StoreError:
            return self.hidden.get(ref, limit)

    def put(self, data: bytes, file: Any = None, ref: ContentRef | None = None) -> ContentRef:
        return self.shared.put(data)


def test_who_serves_its_update_to_the_aggregator_alone_robs_nobody(tmp_path: Path) -> None:
    """The aggregator stores what it evaluated, so a challenge over missing content finds it and loses its bond."""
    with world(tmp_path, rounds=1) as w:
        hidden = LocalStore(tmp_path / "hidden")
        object.__setattr__(w.aggregators[0].access, "store", FoundByOne(w.store, hidden))
        object.__setattr__(w.people[3].access, "store", Hiding(w.store, hidden))
        w.join().play(lambda: 1 in w.task.rounds and w.task.rounds[1].proposal is not None)
        digests = {reveal.update.digest for reveal in w.task.rounds[1].reveals.values()}
        assert len(digests) == 4 and any(path.is_file() for path in (tmp_path / "hidden").rglob("*"))
        w.ledger.challenge_round(w.purse("accomplice"), TASK, 1)
        w.play()
        assert w.statuses() == [DisputeStatus.UPHELD] and settled(w.task) == [1]
        assert set(w.task.rounds[1].verdicts.values()) == {Verdict.ACCEPTED}
        w.check_money()


def test_a_verifier_that_does_not_challenge_only_tells(tmp_path: Path) -> None:
    with world(tmp_path, rounds=1) as w:
        w.aggregators = [w.aggregator(kind=liar(wrong_model))]
        w.verifiers = [w.verifier(n, challenge=False) for n in range(3)]
        w.join().play()
        assert not w.statuses() and settled(w.task) == [1]
        assert "does not follow: round 1, model" in str([str(step) for _, step in w.steps])


def test_who_cannot_pay_the_bond_tells_so_and_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with world(tmp_path, rounds=1) as w:
        w.aggregators = [w.aggregator(kind=liar(wrong_model))]
        w.join()
        for verifier in w.verifiers:
            w.chain.connection.ask("anvil_setBalance", [verifier.access.address, hex(BOND - 1)])
        w.play()
        assert not w.statuses() and settled(w.task) == [1]
        assert caplog.text.count("for the bond to object") == 3


# -- juries ------------------------------------------------------------------------------------------------------


class FaultFinding(Replays):
    """Finds fault with everything."""

    def replay(self, task: TaskHistory, current: RoundHistory) -> Replay | Unable:
        return Replay(current.index, Divergence(current.index, "style", "mine", "yours"), bytes(31) + b"t")


class Troll(Verifier):
    replays_kind = FaultFinding


def test_a_challenge_without_cause_loses_its_bond(tmp_path: Path) -> None:
    with world(tmp_path, rounds=1) as w:
        w.verifiers[0] = w.verifier(0, Troll, appeal=False)
        w.join().play()
        assert w.statuses() == [DisputeStatus.UPHELD] and settled(w.task) == [1]
        jurors = {verifier_role(n): BOND // 8 for n in (1, 2)}
        nobody_but(w, {verifier_role(0): -BOND, AGGREGATOR: BOND // 2, **jurors})
        assert w.burned == BOND // 4


def test_an_appeal_without_cause_loses_its_bond_too(tmp_path: Path) -> None:
    """Of three verifiers two are drawn each time, so the troll can appeal until the last level."""
    with world(tmp_path, rounds=1) as w:
        w.verifiers[0] = w.verifier(0, Troll)
        w.join().play()
        assert w.statuses() == [DisputeStatus.UPHELD] and settled(w.task) == [1]
        lost = BOND * (1 + 2 + 4)
        # A quarter for the six votes of two jurors, rounded down.
        jurors = {verifier_role(n): 3 * (lost // 4 // 6) for n in (1, 2)}
        nobody_but(w, {verifier_role(0): -lost, AGGREGATOR: lost // 2, **jurors})


def test_a_juror_that_lies_pays(tmp_path: Path) -> None:
    """Four verifiers, of whom one challenges: the other three are the jury."""

    class FindingNothing(Replays):
        def replay(self, task: TaskHistory, current: RoundHistory) -> Replay | Unable:
            return Replay(current.index, None, bytes(31) + b"b")

    class Blind(Verifier):
        replays_kind = FindingNothing

    with world(tmp_path, verifiers=4) as w:
        w.aggregators = [w.aggregator(kind=liar(wrong_model))]
        w.verifiers[3] = w.verifier(3, Blind, appeal=False)
        w.join().play()
        assert w.statuses() == [DisputeStatus.OVERTURNED] and settled(w.task) == [2, 3]
        jurors = {verifier_role(n): BOND // 8 for n in (1, 2)}
        fined = {verifier_role(3): -JUROR_PENALTY}
        nobody_but(w, {AGGREGATOR: -BOND, verifier_role(0): BOND // 2, **jurors, **fined})
        assert w.burned == BOND // 4 + JUROR_PENALTY


@pytest.mark.long
def test_an_appeal_mends_what_a_corrupt_jury_found(tmp_path: Path, remade: str) -> None:
    """Two of the first jury's three are bought; the second jury is everybody who did not challenge."""

    class BoughtAtFirst(Juries):
        def vote(self, dispute: DisputeHistory, level: int) -> Vote | None:
            members = dispute.juries[level].members or ()
            bought = level == 0 and self.context.access.participant in members[:2]
            return (Finding.VALID, bytes(31) + b"$") if bought else super().vote(dispute, level)

    class Corruptible(Verifier):
        juries_kind = BoughtAtFirst

    with world(tmp_path, verifiers=8) as w:
        w.aggregators = [w.aggregator(kind=liar(wrong_model))]
        w.verifiers = [w.verifier(n, Corruptible) for n in range(8)]
        w.join().play()
        (dispute,) = w.history.disputes
        first, second = dispute.juries
        assert (first.finding, second.finding) == (Finding.VALID, Finding.INVALID)
        assert dispute.status is DisputeStatus.OVERTURNED
        assert first.members is not None and second.members is not None and len(second.members) == 7
        assert w.task.model.cid == remade
        ids = {w.history.ids[v.access.address]: verifier_role(n) for n, v in enumerate(w.verifiers)}
        share = BOND // 4 // 8
        changes = dict.fromkeys((ids[i] for i in second.members), share)
        changes[verifier_role(0)] = BOND // 2
        changes[ids[first.members[2]]] += share
        for bought in first.members[:2]:
            changes[ids[bought]] -= JUROR_PENALTY
        nobody_but(w, {AGGREGATOR: -BOND, **changes})


@pytest.mark.long
def test_verifiers_let_each_other_go_first_but_wait_for_nobody_for_long(tmp_path: Path, remade: str) -> None:
    """Each does what is due in a turn of its own. One of three has left, and what is its turn is done all the same."""
    with world(tmp_path, verifiers=4) as w:
        w.aggregators = [w.aggregator(kind=liar(wrong_model))]
        w.verifiers = [w.verifier(n, courtesy=0.3) for n in range(4)]
        w.join()
        # Round 1 is the second verifier's to challenge, and dispute 0 the first one's to bring on.
        w.verifiers, gone = [w.verifiers[n] for n in (2, 1, 3)], w.verifiers[0]
        w.steps.clear()
        began = time.monotonic()
        w.play(lambda: bool(w.history.update().disputes))
        assert w.did(Action.CHALLENGED) == [1] and time.monotonic() - began < 30
        w.chain.advance = lambda seconds: time.sleep(0.1)  # type: ignore[method-assign]
        w.play(lambda: bool(w.history.update().disputes[0].juries[0].members))
        assert set(w.did(Action.DREW)) == {1}, "the next in turn"
        del w.chain.advance
        w.verifiers.append(gone)
        w.play()
        assert w.statuses() == [DisputeStatus.OVERTURNED] and w.task.model.cid == remade


class CopyingJuries(Juries):
    """Commits to what another juror committed to."""

    def commit(self, dispute: DisputeHistory, level: int, juror: int) -> Step | None:
        others = list(dispute.juries[level].committed.values())
        if not others:
            return None
        access = self.context.access
        access.ledger.commit_vote(access.account, dispute.id, others[0])
        return Step(Action.VOTE_COMMITTED)


class Copying(Verifier):
    juries_kind = CopyingJuries


class ParrotingJuries(Juries):
    """Commits to something, and tries to reveal what another juror has revealed."""

    refusal = ""

    def commit(self, dispute: DisputeHistory, level: int, juror: int) -> Step | None:
        access = self.context.access
        sealed = self.sealed(dispute, level, juror, Finding.VALID, bytes(32))
        access.ledger.commit_vote(access.account, dispute.id, sealed)
        return Step(Action.VOTE_COMMITTED)

    def reveal(self, dispute: DisputeHistory, level: int, juror: int) -> Step | None:
        access = self.context.access
        for heard in dispute.juries[level].revealed.values():
            try:
                access.ledger.reveal_vote(access.account, dispute.id, *heard, self.salt(dispute, level))
            except RevertedError as error:
                type(self).refusal = error.name
        return None


class Parroting(Verifier):
    juries_kind = ParrotingJuries


@pytest.mark.parametrize("kind", quick(1, [Copying, Parroting]))
def test_who_copies_a_vote_cannot_reveal_it_and_pays_for_silence(
    tmp_path: Path, remade: str, kind: type[Verifier]
) -> None:
    with world(tmp_path, verifiers=4) as w:
        w.aggregators = [w.aggregator(kind=liar(wrong_model))]
        w.verifiers[3] = w.verifier(3, kind, appeal=False)
        w.join().play()
        (dispute,) = w.history.disputes
        copier = w.history.ids[w.verifiers[3].access.address]
        assert copier in dispute.juries[0].committed and copier not in dispute.juries[0].revealed
        assert dispute.status is DisputeStatus.OVERTURNED and w.task.model.cid == remade
        jurors = {verifier_role(n): BOND // 8 for n in (1, 2)}
        fined = {verifier_role(3): -JUROR_PENALTY}
        nobody_but(w, {AGGREGATOR: -BOND, verifier_role(0): BOND // 2, **jurors, **fined})
    if kind is Parroting:
        assert ParrotingJuries.refusal == "WrongVote"


def test_a_stake_that_was_cut_is_filled_up_by_the_next_start_and_not_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with world(tmp_path, rounds=1, verifiers=4) as w:
        w.verifiers[0] = w.verifier(0, Troll, appeal=False)
        w.verifiers[3] = w.verifier(3, Copying, appeal=False, stake=w.experiment.ledger_settings().min_verifier_stake)
        w.join().play(lambda: w.statuses() == [DisputeStatus.UPHELD])
        assert not w.ledger.is_serving(w.history.ids[w.verifiers[3].access.address])
        w.play()
        assert caplog.text.count("is not drawn any more") == 1 and not w.did(Action.STAKED)
        again = w.verifier(3, tasks=frozenset({TASK + 1}))
        assert [again.step().action, again.step().action] == [Action.STAKED, Action.WAITED]
        assert w.ledger.is_serving(w.history.ids[w.verifiers[3].access.address])
        w.check_money()


CODE = """
import torch

def model():
    return torch.nn.Sequential(torch.nn.Linear(64, 10))
"""


def test_who_does_not_trust_the_tasks_code_does_not_serve_and_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Three verifiers trust the code and one does not: no jury is drawn from it, and nothing depends on it."""
    (tmp_path / "task.py").write_text(CODE)
    with world(tmp_path, verifiers=4, rounds=1, code="task.py") as w:
        cid = w.experiment.spec.code.cid
        trusting = {"trusted": frozenset({cid}), "appeal": False}
        w.verifiers = [w.verifier(0, Troll, **trusting), w.verifier(1, **trusting), w.verifier(2, **trusting)]
        w.verifiers.append(w.verifier(3, appeal=False))
        w.join().play()
        assert caplog.text.count("cannot be judged here, so it is not served") == 1
        assert f"--trust-code {cid}" in caplog.text and w.statuses() == [DisputeStatus.UPHELD]
        assert 3 not in w.did(Action.SERVED, Action.VOTE_COMMITTED)
        jurors = {verifier_role(n): BOND // 8 for n in (1, 2)}
        nobody_but(w, {verifier_role(0): -BOND, AGGREGATOR: BOND // 2, **jurors})


class Overtaxed(Replays):
    """Can look at a task's terms, and not replay its rounds."""

    def replay(self, task: TaskHistory, current: RoundHistory) -> Replay | Unable:
        return Unable("replaying it takes too long")


class Slow(Verifier):
    replays_kind = Overtaxed


@pytest.mark.long
def test_who_cannot_judge_three_rounds_in_a_row_serves_the_task_no_more(tmp_path: Path) -> None:
    with world(tmp_path, verifiers=4, rounds=4) as w:
        w.verifiers[3] = w.verifier(3, Slow)
        w.join().play(lambda: settled(w.task) == [1, 2])
        assert 3 not in w.did(Action.QUIT) and w.pool_size == 4
        w.play()
        assert w.did(Action.QUIT) == [3] and settled(w.task) == [1, 2, 3, 4]
        nobody_but(w, {})


class OnceLimited(Replays):
    """Reaches a limit when it tries a task's terms for the first time."""

    tries = 0

    def judged(self, task: TaskHistory) -> Able | Unable | None:
        self.tries += 1
        return Unable("replaying it takes longer than 10 s", limited=True) if self.tries == 1 else super().judged(task)


class Hurried(Verifier):
    replays_kind = OnceLimited


def test_a_task_that_was_too_much_once_is_tried_again_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world(tmp_path, verifiers=1, rounds=1) as w:
        w.verifiers = [w.verifier(0, Hurried)]
        w.join(serving=False)
        for _ in range(5):
            w.turn()
        assert w.verifiers[0].replays.tries == 1 and not w.verifiers[0].context.unable, "not at once"  # type: ignore[attr-defined]
        assert caplog.text.count("is tried again later: replaying it takes longer") == 1
        monkeypatch.setattr(serving.time, "monotonic", lambda now=time.monotonic: now() + 2 * serving.TRY_AGAIN)
        w.join()
        assert w.did(Action.SERVED) == [0]


def test_a_verifier_ends_with_the_last_round_though_nobody_finishes_the_task(tmp_path: Path) -> None:
    with world(tmp_path, rounds=1) as w:
        w.join().play(lambda: settled(w.task) == [1])
        assert not w.task.finished and w.task.complete
        assert [verifier.step() for verifier in w.verifiers] == [DONE] * 3
        assert str(task_wait(w.ledger, TASK)) == f"task {TASK} to be finished, as all its rounds are settled"


def test_a_task_without_a_court_is_told_before_anybody_enrols(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with world(tmp_path, verifiers=0, rounds=1) as w:
        told = "too few verifiers serve it (0 of 3): no challenges and no penalties"
        (row,) = task_status_rows(w.ledger)
        assert (row["judged"], row["capture"], row["court"]) == (False, None, told)
        person = w.people[0]
        assert person.step().action is Action.REGISTERED
        caplog.clear()
        step = person.step()
        assert step.action is Action.ENROLLED and not step.detail
        (record,) = (r for r in caplog.records if told in r.getMessage())
        assert record.levelname == "WARNING"


def test_rounds_say_whether_they_had_a_court(tmp_path: Path) -> None:
    with world(tmp_path, rounds=2) as w:
        w.join().play(lambda: 1 in w.task.rounds)
        w.ledger.retire(w.verifiers[2].access.account)
        w.verifiers = []
        w.play()
        frame = rounds_frame(TaskView.of(w.history, TASK), w.ledger.settings().least_pool)
        assert frame["court"].tolist() == [True, False]
        (row,) = task_status_rows(w.ledger)
        assert row["capture"] is None and "too few" in row["court"]


def test_one_juror_that_cannot_judge_what_others_can_pays_a_seat(tmp_path: Path) -> None:
    with world(tmp_path, verifiers=4, rounds=1) as w:
        w.verifiers = [w.verifier(0, Troll, appeal=False), w.verifier(1), w.verifier(2), w.verifier(3, Slow)]
        w.join().play()
        assert w.statuses() == [DisputeStatus.UPHELD] and settled(w.task) == [1]
        (offence,) = {slash.offence for slash in w.task.slashes}
        assert offence is Offence.CANNOT_JUDGE
        jurors = {verifier_role(n): BOND // 8 for n in (1, 2)}
        fined = {verifier_role(3): -JUROR_PENALTY}
        nobody_but(w, {verifier_role(0): -BOND, AGGREGATOR: BOND // 2, **jurors, **fined})


@pytest.mark.long
def test_a_round_that_no_jury_can_judge_is_made_again_and_costs_the_challenger_a_draw_alone(tmp_path: Path) -> None:
    """As of a task whose spec names what no release knows: it drains no juror, and leaves no pool to liars."""
    with world(tmp_path, verifiers=10, rounds=1) as w:
        w.verifiers = [w.verifier(0, Troll), *(w.verifier(n, Slow) for n in range(1, 10))]
        w.join().play(lambda: bool(w.statuses()) and w.statuses()[0] is not DisputeStatus.OPEN)
        (dispute,) = w.history.disputes
        assert dispute.status is DisputeStatus.UNJUDGED and w.task.rounds[1].voided
        assert [jury.finding for jury in dispute.juries] == [Finding.UNABLE, Finding.UNABLE]
        assert w.gains() == {verifier_role(0): -2 * JUROR_PENALTY} and w.burned == 2 * JUROR_PENALTY
        w.check_money()


def test_one_silent_juror_of_three_does_not_keep_the_others_from_deciding(tmp_path: Path, remade: str) -> None:
    class Mute(Juries):
        def commit(self, dispute: DisputeHistory, level: int, juror: int) -> Step | None:
            return None

    class Sybil(Verifier):
        juries_kind = Mute

    with world(tmp_path, verifiers=4) as w:
        w.aggregators = [w.aggregator(kind=liar(wrong_model))]
        w.verifiers[3] = w.verifier(3, Sybil, appeal=False)
        w.join().play()
        (dispute,) = w.history.disputes
        assert dispute.status is DisputeStatus.OVERTURNED and len(dispute.juries) == 1 and w.task.model.cid == remade
        jurors = {verifier_role(n): BOND // 8 for n in (1, 2)}
        fined = {verifier_role(3): -JUROR_PENALTY}
        nobody_but(w, {AGGREGATOR: -BOND, verifier_role(0): BOND // 2, **jurors, **fined})


@pytest.mark.parametrize("fault", [StoreError, ContentUnavailableError])
def test_a_store_that_does_not_work_is_no_reason_to_object(tmp_path: Path, fault: type[StoreError]) -> None:
    """A daemon that is down, and a store that is another one, tell nothing about a proposal."""

    class Down:
        def get(self, ref: ContentRef, limit: int | None = None) -> bytes:
            raise fault("not here")

    with world(tmp_path, rounds=1) as w:
        for number in range(3):
            w.verifiers[number].replays.store = Down()  # type: ignore[arg-type]
        w.join(serving=False).play()
        assert not w.statuses() and settled(w.task) == [1]
        nobody_but(w, {})


# -- crashes -----------------------------------------------------------------------------------------------------


class KilledError(BaseException):
    """The program is gone."""


class Mortal(Ledger):
    """A ledger at whose transactions a program dies: just before it sends the first of a kind, or after each."""

    moment = "after"
    died: set[tuple[str, str]] = set()  # noqa: RUF012

    def _transact(self, account, name, data, value=0, gas=0):  # type: ignore[no-untyped-def]
        if self.moment == "before" and (account.address, name) not in self.died:
            self.died.add((account.address, name))
            raise KilledError(name)
        receipt: Receipt = super()._transact(account, name, data, value, gas)
        if self.moment == "after":
            self.died.add((account.address, name))
            raise KilledError(name)
        return receipt


class Phoenix:
    """A verifier that starts anew whenever it was killed, and remembers nothing."""

    def __init__(self, make: Callable[[], Verifier]) -> None:
        self.make = make
        self.verifier = make()

    @property
    def access(self) -> Access:
        return self.verifier.access

    @property
    def replays(self) -> Replays:
        return self.verifier.replays

    @property
    def context(self) -> Context:
        return self.verifier.context

    def close(self) -> None:
        self.verifier.close()

    def step(self) -> Step:
        try:
            return self.verifier.step()
        except KilledError:
            self.close()
            self.verifier = self.make()
            return Step(Action.REPLAYED)


@pytest.mark.parametrize(
    ("journal", "moment"),
    [
        pytest.param(True, "before", id="with a journal, before", marks=pytest.mark.long),
        pytest.param(False, "after", id="without, after", marks=pytest.mark.long),
        pytest.param(True, "after", id="with a journal, after", marks=pytest.mark.long),
        pytest.param(False, "before", id="without, before", marks=pytest.mark.long),
    ],
)
def test_a_verifier_may_be_killed_at_every_transaction(
    tmp_path: Path, remade: str, monkeypatch: pytest.MonkeyPatch, moment: str, journal: bool
) -> None:
    monkeypatch.setattr(Mortal, "moment", moment)
    monkeypatch.setattr(Mortal, "died", set())
    with world(tmp_path) as w:
        w.aggregators = [w.aggregator(kind=liar(wrong_model))]

        def make(number: int) -> Verifier:
            ledger = Mortal(w.chain, w.ledger.address, w.ledger.first_block)
            access = Access(ledger, History(w.ledger), w.accounts[verifier_role(number)], w.store)
            service = Service(patience=0.0, courtesy=0.0)
            return Verifier(access, service, w.folder / "votes" if journal else None)

        w.verifiers = [Phoenix(lambda number=number: make(number)) for number in range(3)]  # type: ignore[misc]
        w.join().play()
        calls = {name for _, name in Mortal.died}
        assert calls == {
            *("register", "enlist", "serve", "challengeRound", "drawJury"),
            *("commitVote", "revealVote", "decide", "closeDispute"),
        }
        assert w.statuses() == [DisputeStatus.OVERTURNED] and w.task.model.cid == remade
        jurors = {verifier_role(n): BOND // 8 for n in (1, 2)}
        nobody_but(w, {AGGREGATOR: -BOND, verifier_role(0): BOND // 2, **jurors})


# -- batched rounds ----------------------------------------------------------------------------------------------


class Forging(Mailbox):
    """Means another batch than what was left in it; ``true`` is what was left."""

    forge: Callable[[Batch], Batch] = staticmethod(lambda batch: batch)

    def seal(self, index: int) -> Batch:
        batch = super().seal(index)
        return type(self).forge(batch) if index == 1 else batch

    def sealed(self, index: int) -> Batch | None:
        return self.seal(index)

    def true(self, index: int) -> Batch:
        return super().seal(index)


class ForgedCommitments(Commitments):
    """Claims that all have committed, and judges what was left in its mailbox."""

    def close(self, current: RoundHistory, phase: Phase) -> Step | None:
        mailbox, access = self.opened_mailbox(), self.access
        if current.index != 1 or not mailbox.committed(1).issuperset(current.selected):
            return super().close(current, phase)
        batch = mailbox.seal(1)
        content = access.store.put(batch.encode())
        access.ledger.close_commits(access.account, TASK, 1, batch.root, len(current.selected), content)
        return Step(Action.CLOSED)


class Forger(Aggregator):
    commitments_kind = ForgedCommitments


def _twice(batch: Batch) -> Batch:
    again = replace(batch.commitments[0], commitment=b"2" * 32)
    return Batch((batch.commitments[0], again, *batch.commitments[1:-1]))


def _unsigned(batch: Batch) -> Batch:
    return Batch((replace(batch.commitments[0], signature=b"\1" * 65), *batch.commitments[1:]))


def _omitted(batch: Batch) -> Batch:
    return Batch(batch.commitments[1:])


@pytest.fixture
def forged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[World, Callable[[Batch], Batch]], None]]:
    def forge(w: World, change: Callable[[Batch], Batch]) -> None:
        monkeypatch.setattr(Forging, "forge", staticmethod(change))
        mailbox = Forging(w.ledger, w.history, TASK, w.folder / "mailbox")

        def complete(current: RoundHistory, batch: Batch, updates, place):  # type: ignore[no-untyped-def]
            if current.index == 1:
                true = mailbox.true(1)
                current = replace(current, root=true.root, count=len(true.commitments))
                batch = replace(true, salts=batch.salts)
            return batches.complete(current, batch, updates, place)

        monkeypatch.setattr(commitments, "complete", complete)
        w.aggregators = [w.aggregator(kind=Forger, mailbox=mailbox)]
        w.deliver_to(w.aggregators[0])

    yield forge


@pytest.mark.parametrize(
    ("change", "action"),
    quick(
        2,
        [(_twice, Action.REFUTED), (_unsigned, Action.DEMANDED), (_omitted, Action.DEMANDED)],
        ["twice", "unsigned", "omitted"],
    ),
)
def test_a_forged_batch_needs_no_jury(
    tmp_path: Path, remade: str, forged, change: Callable[[Batch], Batch], action: Action
) -> None:
    with world(tmp_path, batched=True) as w:
        forged(w, change)
        w.join().play()
        assert w.did(Action.REFUTED, Action.DEMANDED, Action.CHALLENGED) == w.did(action) == [0]
        assert w.statuses() == ([] if action is Action.REFUTED else [DisputeStatus.OVERTURNED])
        assert w.task.rounds[1].voided and settled(w.task) == [2, 3] and w.task.model.cid == remade
        nobody_but(w, {AGGREGATOR: -BOND, verifier_role(0): BOND // 8})
        assert w.audit().reproduced


def test_who_is_called_missing_and_is_in_the_root_needs_no_jury(
    tmp_path: Path, remade: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(current: RoundHistory, *rest):  # type: ignore[no-untyped-def]
        done = batches.complete(current, *rest)
        for known in (done.commits, done.reveals) if current.index == 1 else ():
            known.pop(min(done.selected))
        return done

    class Silent(Objections):
        def __call__(self, seen: Situation) -> Step | None:
            return None

    class Meek(Participant):
        objections_kind = Silent

    monkeypatch.setattr(commitments, "complete", forgetful)
    with world(tmp_path, batched=True) as w:
        w.people = [w.participant(number, Meek) for number in range(4)]
        w.join().play(lambda: 1 in w.task.rounds and w.task.rounds[1].proposal is not None)
        assert list(w.task.rounds[1].verdicts.values()).count(Verdict.MISSED) == 1
        w.play()
        assert w.did(Action.REFUTED) == [0] and not w.statuses()
        assert settled(w.task) == [2, 3] and w.task.model.cid == remade
        nobody_but(w, {AGGREGATOR: -BOND, verifier_role(0): BOND // 8})


def test_other_lies_about_a_batched_round_go_to_a_jury(tmp_path: Path, remade: str) -> None:
    with world(tmp_path, batched=True) as w:
        w.aggregators = [w.aggregator(kind=liar(wrong_share))]
        w.deliver_to(w.aggregators[0])
        w.join().play()
        assert [d.kind for d in w.history.disputes] == [DisputeKind.REPLAY]
        assert w.statuses() == [DisputeStatus.OVERTURNED] and w.task.model.cid == remade
        nobody_but(w, Caught().changes(w))


def test_an_aggregator_shows_the_commitment_that_is_demanded_of_it(tmp_path: Path) -> None:
    with world(tmp_path, batched=True, rounds=1) as w:
        troll = w.purse("troll")
        w.join().play(lambda: 1 in w.task.rounds and w.task.rounds[1].proposal is not None)
        proposal = w.task.rounds[1].proposal
        assert proposal is not None
        w.ledger.demand_commitment(troll, TASK, 1, w.task.enrolled[2], proposal)
        w.check_money()
        w.play()
        assert w.statuses() == [DisputeStatus.UPHELD] and settled(w.task) == [1]
        nobody_but(w, {"troll": -BOND, AGGREGATOR: BOND // 2})
        assert w.burned == BOND // 2


def test_what_cannot_be_shown_keeps_no_other_demand_from_its_answer(tmp_path: Path) -> None:
    """The commitments of round 1 are away, as they are where another aggregator posted and holds them back."""

    class Forgetful(Commitments):
        def batch(self, current: RoundHistory) -> Batch:
            if current.index == 1 and current.proposal is not None:
                raise ContentUnavailableError("they are away")
            return super().batch(current)

    class Aggregating(Aggregator):
        commitments_kind = Forgetful

    with world(tmp_path, batched=True, rounds=2, max_unfinal=2) as w:
        w.aggregators = [w.aggregator(kind=Aggregating)]
        w.deliver_to(w.aggregators[0])
        troll = w.purse("troll")
        w.join().play(lambda: 2 in w.task.rounds and w.task.rounds[2].proposal is not None)
        for index in (1, 2):
            proposal = w.task.rounds[index].proposal
            assert proposal is not None
            w.ledger.demand_commitment(troll, TASK, index, w.task.enrolled[2], proposal)
        w.play(lambda: w.statuses()[1] is not DisputeStatus.OPEN)
        assert w.statuses() == [DisputeStatus.OPEN, DisputeStatus.UPHELD]
        w.check_money()


@pytest.mark.long
def test_demands_cannot_keep_a_challenge_out(tmp_path: Path) -> None:
    """A round takes 200 demands, each of which its aggregator may pay for and answer, and one challenge besides."""
    with world(tmp_path, batched=True) as w:
        w.aggregators = [w.aggregator(kind=liar(wrong_share))]
        w.deliver_to(w.aggregators[0])
        accomplice, watching = w.purse("accomplice"), w.verifiers
        w.join()
        w.verifiers = []
        w.play(lambda: 1 in w.task.rounds and w.task.rounds[1].proposal is not None)
        proposal, victim = w.task.rounds[1].proposal, w.task.enrolled[0]
        assert proposal is not None
        for _ in range(200):
            w.ledger.demand_commitment(accomplice, TASK, 1, victim, proposal)
        with pytest.raises(RevertedError, match="TooManyDisputes"):
            w.ledger.demand_commitment(accomplice, TASK, 1, victim, proposal)
        w.verifiers = watching
        w.play(lambda: w.task.rounds[1].voided)
        replays = [d.status for d in w.history.disputes if d.kind is DisputeKind.REPLAY]
        assert replays == [DisputeStatus.OVERTURNED]
        w.check_money()


def test_who_signs_two_commitments_is_reported_by_its_aggregator(tmp_path: Path) -> None:
    penalty = 200_000 * GWEI

    class SigningTwice(BatchedRounds):
        def sign(self, task: TaskHistory, current: RoundHistory, participant: int) -> Step | None:
            step = super().sign(task, current, participant)
            message = commitment_message(self.access.place, current.index, participant, b"2" * 32)
            signature = sign(message, bytes(self.access.account.key))
            with pytest.raises(MailboxRefusedError, match="signed two commitments"):
                self.client().commit(current.index, SignedCommitment(participant, b"2" * 32, signature))
            return step

    class Equivocating(Participant):
        batched_kind = SigningTwice

    with world(tmp_path, batched=True, rounds=1, penalty_gwei=penalty // GWEI) as w:
        w.people[3] = w.participant(3, Equivocating)
        w.join().play()
        assert settled(w.task) == [1]
        earned = w.credits()[participant_role(3)]
        reward = penalty // 8
        nobody_but(w, {AGGREGATOR: reward, participant_role(3): earned - penalty - reward})
        assert w.burned == penalty


def test_who_rotates_its_signer_after_it_committed_stops_nobody(tmp_path: Path) -> None:
    """A signer serves one participant for ever, so that what it signed stays signed."""

    class SigningBefore(BatchedRounds):
        def sign(self, task: TaskHistory, current: RoundHistory, participant: int) -> Step | None:
            step = super().sign(task, current, participant)
            w.ledger.agree_to_sign(other, self.access.address)
            w.ledger.rotate_signer(self.access.account, other.address)
            return step

    class Rotating(Participant):
        batched_kind = SigningBefore

    with world(tmp_path, batched=True, rounds=1) as w:
        other = experiment_account(0, "the next signer", w.chain)
        w.people[3] = w.participant(3, Rotating)
        w.join().play()
        assert settled(w.task) == [1] and not w.statuses()
        assert set(w.task.rounds[1].verdicts.values()) == {Verdict.ACCEPTED}
        nobody_but(w, {})
        assert w.audit().reproduced


def test_a_proposal_that_cannot_be_read_is_overturned_and_stops_nobody(
    tmp_path: Path, remade: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = calls._called

    def odd(name: str, data: bytes, task: int, index: int) -> tuple[Any, ...]:
        if index == 1:
            raise ChainError("it is made in a way that nobody knows")
        return read(name, data, task, index)

    monkeypatch.setattr(calls, "_called", odd)
    # Else worker processes, which are not patched, would read the transaction themselves.
    monkeypatch.setattr(History, "since", lambda history, position: None)
    with world(tmp_path, batched=True) as w:
        w.join().play()
        assert w.statuses() == [DisputeStatus.OVERTURNED] and w.task.rounds[1].voided
        assert settled(w.task) == [2, 3] and w.task.model.cid == remade
        nobody_but(w, Caught().changes(w))
        assert w.audit().reproduced


# -- programs ----------------------------------------------------------------------------------------------------


class Programs:
    """Verifiers as programs of their own, which can be killed."""

    def __init__(self, w: World) -> None:
        self.w, self.running = w, {}  # type: ignore[var-annotated]
        w.deployment.write(w.folder / "deployment.json")
        self.place = ["--rpc", w.chain.where, "--deployment", str(w.folder / "deployment.json")]

    def call(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "fedledger.platform.cli.app", "verifier", *arguments]

    def start(self, number: int) -> None:
        folders = ["--store-dir", str(self.w.folder / "store"), "--journal", str(self.w.folder / "votes")]
        who = ["--experiment-seed", "0", "--verifier", str(number), "--poll", "0.05", "--format", "json"]
        command = self.call("start", *self.place, *folders, *who)
        with (self.w.folder / f"verifier{number}.log").open("ab") as log:
            self.running[number] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)

    def kill(self, number: int) -> None:
        self.running[number].send_signal(signal.SIGKILL)
        assert self.running.pop(number).wait() == -signal.SIGKILL

    def say(self, *arguments: str) -> Any:
        done = subprocess.run(self.call(*arguments, *self.place, "--format", "json"), capture_output=True, check=True)
        return json.loads(done.stdout)

    def wait(self, until: Callable[[], bool], patience: float = 90.0) -> None:
        deadline = time.monotonic() + patience
        while not until():
            assert time.monotonic() < deadline, "it takes too long"
            assert all(program.poll() is None for program in self.running.values()), "one has ended"
            self.w.turn()
            time.sleep(0.05)


@pytest.mark.long
def test_verifiers_are_programs_that_can_be_killed(tmp_path: Path) -> None:
    with world(tmp_path, rounds=1, verifiers=0) as w:
        for number in range(3):
            w.purse(verifier_role(number))
        aggregators, w.aggregators = [w.aggregator(kind=liar(wrong_model))], []
        programs = Programs(w)
        for number in range(3):
            programs.start(number)
        try:
            programs.wait(lambda: len(w.history.update().serving.get(TASK, ())) == 3)
            w.before, w.aggregators = w.wealth(), aggregators
            programs.wait(lambda: bool(w.history.update().disputes and w.history.disputes[0].juries[0].members))
            (dispute,), roles = w.history.disputes, {w.accounts[verifier_role(n)].address: n for n in range(3)}
            jurors = [roles[w.history.owners[i]] for i in dispute.juries[0].members or ()]
            for number in jurors:
                programs.kill(number)
                programs.start(number)
            programs.wait(lambda: len(w.history.update().disputes[0].juries[0].committed) > 0)
            for number in jurors:
                programs.kill(number)
                programs.start(number)
            programs.wait(lambda: w.history.update().disputes[0].juries[0].decided)
            (told,) = programs.say("status")["disputes"]
            assert (told["status"], told["next"]["step"], told["juries"][0]["found"]) == ("open", "appeal", "invalid")
            assert len({vote["transcript"] for vote in told["juries"][0]["revealed"]}) == 1
            w.chain.advance(PERIOD)
            programs.wait(lambda: w.statuses() == [DisputeStatus.OVERTURNED])
            retired = programs.say("retire", "--experiment-seed", "0", "--verifier", "2")
            assert retired["juries"] == 0
            assert [(v["enlisted"], v["tasks"]) for v in programs.say("status")["verifiers"]] == 2 * [(True, [TASK])]
            programs.kill(2)
            programs.wait(lambda: len(w.task.proposed) == 1)
            w.chain.advance(PERIOD)
            while not w.task.finished:
                w.turn()
            done = {number: program.communicate(timeout=60)[0] for number, program in programs.running.items()}
            assert all(json.loads(output)["done"] for output in done.values())
        finally:
            for program in programs.running.values():
                program.kill()
        (challenger,) = {0, 1, 2} - set(jurors)
        shares = {verifier_role(number): BOND // 8 for number in jurors}
        nobody_but(w, {AGGREGATOR: -BOND, verifier_role(challenger): BOND // 2, **shares})


def test_a_program_that_lacks_money_or_a_task_says_so(tmp_path: Path) -> None:
    with world(tmp_path, verifiers=0) as w:
        programs = Programs(w)
        journal = ["--journal", str(tmp_path / "votes")]
        command = programs.call("start", *programs.place, *journal, "--experiment-seed", "0")
        here, elsewhere = (f"--store-dir {tmp_path / name}" for name in ("store", "elsewhere"))
        for more, told in (
            (f"{here} --task 7", "The ledger has no task 7"),
            (f"{here} --stake-gwei 1", "is below the least"),
            (elsewhere, "has the spec of none of the watched tasks"),
        ):
            done = subprocess.run([*command, *more.split()], capture_output=True, text=True, check=False)
            assert done.returncode in (3, 4) and told in " ".join(done.stderr.split()), done.stderr
            assert "Traceback" not in done.stderr
