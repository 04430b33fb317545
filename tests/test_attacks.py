"""Attacks on a task with a challenge window, on a real chain, with everybody's money counted: none of them pays.

Lies of aggregators, juries and challengers, and equivocation, are in test_verifier.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eth_account.signers.local import LocalAccount

from fedledger.aggregator.driver import Aggregator
from fedledger.aggregator.duties.commitments import Commitments
from fedledger.aggregator.mailbox.mailbox import Mailbox
from fedledger.contracts.abi import RevertedError, functions
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.records import Transaction
from fedledger.contracts.ledger.actor import DONE, Action, Situation, Step
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.records import Phase, Proposal
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.ledger_tools.deploy import deploy
from fedledger.node.duties import objections
from fedledger.node.duties.batched_rounds import BatchedRounds
from fedledger.node.duties.direct_rounds import DirectRounds
from fedledger.node.duties.objections import Objections
from fedledger.node.journal import JournalEntry
from fedledger.node.participant import Participant
from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import TrainingContext
from fedledger.node.updates import Updates
from fedledger.platform.experiment.accounts import AGGREGATOR, PUBLISHER, experiment_account, participant_role
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ContentUnavailableError
from fedledger.protocol.records.commitment_batch import Batch, Opening, SignedCommitment
from fedledger.protocol.records.mailbox import MailboxRefusedError
from fedledger.protocol.records.signatures import commitment, commitment_message, sign
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage.local import LocalStore
from support.world import BOND, GWEI, PURSE, TASK, World, settled, sleeper, world

PENALTY_GWEI = 400_000
PENALTY = PENALTY_GWEI * GWEI
STAKE = 1_000_000 * GWEI
ATTACKER, VICTIM = 0, 1
Kind = type[Participant]


def attacked(w: World, kind: Kind, numbers: Sequence[int] = (ATTACKER,)) -> World:
    """Let some participants be of another kind, and play to the end."""
    for number in numbers:
        w.people[number] = w.participant(number, kind)
    w.join().play()
    w.check_money()
    return w


def slashed(w: World, number: int) -> int:
    """Return what a participant lost of its stake."""
    who = w.history.ids[w.people[number].access.address]
    return sum(log.arguments["amount"] for log in w.ledger.events(["Slashed"]) if log.arguments["participant"] == who)


def verdict(w: World, number: int, index: int) -> Verdict:
    return w.task.rounds[index].verdicts[w.history.ids[w.people[number].access.address]]


def share(w: World, number: int, index: int) -> int:
    proposal = w.task.rounds[index].proposal
    assert proposal is not None
    return proposal.shares[w.history.ids[w.people[number].access.address]]


class Meek(Objections):
    """Objects to nothing."""

    def __call__(self, seen: Situation) -> Step | None:
        return None


def silent_in(rounds: Sequence[int]) -> Kind:
    """Return a participant that commits and does not reveal."""

    class SilentDirectly(DirectRounds):
        def reveal(self, task: TaskHistory, current: RoundHistory, proof: Sequence[bytes] = ()) -> Step | None:
            return None if current.index in rounds else super().reveal(task, current, proof)

    class SilentInBatches(BatchedRounds):
        def open(self, task: TaskHistory, current: RoundHistory, participant: int) -> Step | None:
            return None if current.index in rounds else super().open(task, current, participant)

    class Silent(Participant):
        direct_kind, batched_kind, objections_kind = SilentDirectly, SilentInBatches, Meek

    return Silent


@pytest.mark.parametrize("batched", [False, True], ids=["direct", "batched"])
def test_who_never_reveals_pays_each_time_and_stops_nobody(tmp_path: Path, batched: bool) -> None:
    with world(tmp_path, batched=batched, penalty_gwei=PENALTY_GWEI, verifiers=0) as w:
        attacked(w, silent_in((1, 2)))
        assert settled(w.task) == [1, 2] and verdict(w, ATTACKER, 1) is verdict(w, ATTACKER, 2) is Verdict.LATE
        assert w.gains()[participant_role(ATTACKER)] == -2 * PENALTY // 4
        assert w.burned == 2 * PENALTY // 4, "nobody gains by calling somebody late"
        assert all(credit > 0 for role, credit in w.credits().items() if role != participant_role(ATTACKER))


def test_who_brings_a_round_below_quorum_by_not_revealing_pays_all_the_same(tmp_path: Path) -> None:
    with world(tmp_path, penalty_gwei=PENALTY_GWEI, verifiers=0) as w:
        base = w.task.model
        attacked(w, silent_in((1,)), numbers=(0, 2, 3))
        first = w.task.rounds[1]
        assert w.task.is_empty(first) and first.settled and first.proposal is not None
        assert first.proposal.model == base and not any(first.proposal.shares.values())
        assert [slashed(w, number) for number in range(4)] == [PENALTY // 4, 0, PENALTY // 4, PENALTY // 4]
        assert [r.index for r in w.task.counted] == [2, 3], "it is made up for"
        assert AGGREGATOR not in w.gains(), "the aggregator was not silent"
        assert w.audit().reproduced


CENTRED = """
import torch
from torch import nn
class Centre(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(64))
    def forward(self, x):
        if self.training:
            self.mean.lerp_(x.detach().mean(0), 0.1)
        return x - self.mean
def model():
    return nn.Sequential(Centre(), nn.Linear(64, 10))
"""


@pytest.mark.parametrize("batched", [False, True], ids=["direct", "batched"])
@pytest.mark.parametrize("fault", ["a statistic beyond its range", "a coordinate beyond the bound", "no number"])
def test_who_cannot_help_a_useless_update_loses_nothing(tmp_path: Path, fault: str, batched: bool) -> None:
    """It misses the round; unusual data, or a model that others have spoilt, are no offence."""
    (tmp_path / "task.py").write_text(CENTRED)
    with world(tmp_path, batched=batched, penalty_gwei=PENALTY_GWEI, verifiers=0, code="task.py") as w:
        honest = w.people[VICTIM].updates.trainer

        def spoilt(context: TrainingContext) -> LocalUpdate:
            update = honest(context)
            if context.index > 1:
                return update
            if fault == "a statistic beyond its range":
                return replace(update, statistics=update.statistics + np.float32(2**16 + 1))
            return replace(update, delta=update.delta + np.float32(65 if "bound" in fault else np.nan))

        w.people[VICTIM].updates.trainer = spoilt
        w.join().play()
        assert settled(w.task) == [1, 2] and not slashed(w, VICTIM)
        assert verdict(w, VICTIM, 1) is Verdict.MISSED and verdict(w, VICTIM, 2) is Verdict.ACCEPTED
        assert all(verdict(w, number, 1) is Verdict.ACCEPTED for number in range(4) if number != VICTIM)
        w.check_money()


def test_who_leaves_before_its_punishment_is_punished(tmp_path: Path) -> None:
    silent = silent_in((1, 2))

    class Quitting(silent.direct_kind):  # type: ignore[name-defined]
        def commit(self, task: TaskHistory, current: RoundHistory) -> Step | None:
            step: Step | None = super().commit(task, current)
            self.access.ledger.request_exit(self.access.account)
            return step

        def __call__(self, seen: Situation) -> Step | None:
            gone = 1 in seen.task.rounds and self.access.participant in seen.task.rounds[1].commits
            return DONE if gone else super().__call__(seen)

    class Quitter(silent):  # type: ignore[misc, valid-type]
        direct_kind = Quitting

    with world(tmp_path, penalty_gwei=PENALTY_GWEI, verifiers=0) as w:
        attacked(w, Quitter)
        account = w.people[ATTACKER].access.account
        with pytest.raises(RevertedError, match="ExitNotDue"):
            w.ledger.complete_exit(account)
        w.chain.advance(w.experiment.config.ledger.exit_delay)
        w.ledger.complete_exit(account)
        assert w.ledger.free_balance(account.address) == STAKE + PENALTY - PENALTY // 4
        w.check_money()


def test_who_copies_a_commitment_or_a_reveal_cannot_use_it(tmp_path: Path) -> None:
    refusals: list[str] = []

    class Copying(DirectRounds):
        def commit(self, task: TaskHistory, current: RoundHistory) -> Step | None:
            victim = w.history.ids[w.people[VICTIM].access.address]
            if victim not in current.commitments:
                return None
            copied = current.commitments[victim]
            w.ledger.commit_update(self.access.account, TASK, current.index, copied)
            return Step(Action.COMMITTED)

        def _knows(self, task: TaskHistory, current: RoundHistory) -> bool:
            return True

        def reveal(self, task: TaskHistory, current: RoundHistory, proof: Sequence[bytes] = ()) -> Step | None:
            victim = w.people[VICTIM].updates
            # The victim's own transaction, seen before it is in a block.
            update = victim.made(task, current).reference
            with pytest.raises(RevertedError) as refused:
                w.ledger.reveal_update(self.access.account, TASK, current.index, update, victim.salt(current))
            refusals.append(refused.value.name)
            return None

    class Copier(Participant):
        direct_kind = Copying

    with world(tmp_path, rounds=1, penalty_gwei=PENALTY_GWEI, verifiers=0) as w:
        attacked(w, Copier)
        assert set(refusals) == {"WrongReveal"}
        assert verdict(w, ATTACKER, 1) is Verdict.LATE and w.gains()[participant_role(ATTACKER)] == -PENALTY // 4
        assert verdict(w, VICTIM, 1) is Verdict.ACCEPTED and w.credits()[participant_role(VICTIM)] > 0


def test_who_sends_the_update_of_another_round_pays_for_it(tmp_path: Path) -> None:
    class Replaying(Updates):
        def made(self, task: TaskHistory, current: RoundHistory) -> JournalEntry:
            self.first = task.rounds[1]
            return super().made(task, self.first)

        def put(self, current: RoundHistory, entry: JournalEntry) -> ContentRef:
            return super().put(self.first, entry)

    class Replayer(Participant):
        updates_kind = Replaying

    with world(tmp_path, penalty_gwei=PENALTY_GWEI, verifiers=0) as w:
        attacked(w, Replayer)
        assert verdict(w, ATTACKER, 1) is Verdict.ACCEPTED and Verdict.MALFORMED <= verdict(w, ATTACKER, 2) < 25
        assert (slashed(w, ATTACKER), share(w, ATTACKER, 2)) == (PENALTY // 2, 0)


def open_another(w: World, ledger: Ledger, publisher: LocalAccount, people: Sequence[LocalAccount]) -> None:
    """Post a task like the world's, and open its first round for everybody."""
    task = ledger.post_task(publisher, replace(w.params, aggregator=publisher.address, max_participants=len(people)))
    ledger.take_seat(publisher, task)
    for account in people:
        ledger.enrol(account, task)
    ledger.open_round(publisher, task, 1)


def test_a_signature_says_nothing_anywhere_else(tmp_path: Path) -> None:
    """What somebody signed for two rounds is no equivocation in either, nor in another task, ledger or chain."""
    with world(tmp_path, batched=True, penalty_gwei=PENALTY_GWEI, verifiers=0) as w:
        thief, victim = w.purse("thief"), w.people[VICTIM].access.address
        w.join().play()
        number = w.history.ids[victim]
        batches = [w.task.rounds[index].batch for index in (1, 2)]
        stolen = [Batch.decode(w.store.get(batch)).by_participant[number] for batch in batches if batch is not None]
        signers = [person.access.account for person in w.people]
        open_another(w, w.ledger, w.accounts[PUBLISHER], signers)
        places = [(w.ledger, TASK, 1), (w.ledger, TASK, 2), (w.ledger, TASK + 1, 1)]
        for chain in (w.chain, Chain()):
            publisher = experiment_account(1, PUBLISHER, chain)
            people = [experiment_account(0, participant_role(i), chain) for i in range(len(w.people))]
            judges = [experiment_account(0, role, chain) for role in w.accounts if role.startswith("judge")]
            for account in (publisher, thief, *people, *judges):
                chain.fund(account.address, 10 * PURSE)
            elsewhere, _ = deploy(chain, publisher, w.experiment.ledger_settings())
            # Under the same ids.
            for owner in w.history.owners.values():
                account = next(known for known in (*people, *judges) if known.address == owner)
                elsewhere.register(account, owner, owner, 2 * STAKE)
            open_another(w, elsewhere, publisher, people)
            assert elsewhere.participant_id(victim) == number
            places.append((elsewhere, TASK, 1))
        for ledger, task, index in places:
            stake = ledger.participant(number).stake
            with pytest.raises(RevertedError, match="WrongSignature"):
                ledger.report_equivocation(thief, task, index, *stolen)
            assert ledger.participant(number).stake == stake and not ledger.free_balance(thief.address)
        mailbox = w.aggregators[0].commitments.mailbox
        assert mailbox is not None
        for index, signed in ((1, stolen[1]), (2, stolen[0])):
            with pytest.raises(MailboxRefusedError):
                mailbox.commit(index, signed)


# Contracts that are paid: one that takes nothing, and one that asks for more while it is paid, and notes both.
REFUSER = bytes.fromhex("60006000fd")


def greedy(ledger: str, call: bytes) -> bytes:
    """Return the code of a receiver that makes a call to the ledger, and stores its outcome and that it was made."""
    size = bytes([len(call)])
    make = b"\x60\x00\x60\x00\x60" + size + b"\x60\x00\x60\x00\x73" + bytes.fromhex(ledger[2:]) + b"\x5a\xf1"
    note = b"\x60\x00\x55\x60\x01\x60\x01\x55\x00"
    place = bytes([7 + len(make) + len(note)])
    return b"\x60" + size + b"\x60" + place + b"\x60\x00\x39" + make + note + call


def test_a_receiver_that_reverts_or_reenters_harms_itself_alone(tmp_path: Path) -> None:
    with world(tmp_path, verifiers=0) as w:
        deployer = w.purse("deployer of receivers")

        def receiver(runtime: bytes) -> str:
            size = bytes([len(runtime)])
            data = b"\x60" + size + b"\x60\x0c\x60\x00\x39\x60" + size + b"\x60\x00\xf3" + runtime
            receipt = w.chain.receipt(w.chain.send(Transaction(deployer, None, data)).hash)
            return str(receipt["contractAddress"])

        w.join()
        roles = [participant_role(i) for i in range(4)]
        ids = [w.history.ids[w.accounts[role].address] for role in roles]
        claim = functions()["withdrawCredit"].encode((TASK, ids[2]))
        refuser, taker = receiver(REFUSER), receiver(greedy(w.ledger.address, claim))
        for role, payout in zip(roles, (refuser, taker), strict=False):
            w.ledger._send(w.accounts[role], "setPayout", payout)
        w.play()
        earned = [w.credits()[role] for role in roles]
        held = w.chain.balance(w.ledger.address)
        with pytest.raises(RevertedError, match="TransferFailed"):
            w.ledger.withdraw_credit(deployer, TASK, ids[0])
        w.ledger.withdraw_credit(deployer, TASK, ids[1])

        def stored() -> list[int]:
            return [
                int(w.chain.connection.ask("eth_getStorageAt", [taker, hex(slot), "latest"]), 16) for slot in (0, 1)
            ]

        assert stored() == [0, 1], "it asked for more, and was refused"
        assert w.ledger.credit(TASK, ids[2]) * w.params.credit_unit == earned[2]
        w.chain.send(Transaction(deployer, taker))
        assert stored() == [1, 1], "when it is not being paid, it may ask like anybody"
        assert not w.ledger.credit(TASK, ids[2])
        w.ledger.withdraw_credit(deployer, TASK, ids[3])
        assert [w.chain.balance(address) for address in (refuser, taker)] == [0, earned[1]]
        assert w.chain.balance(w.ledger.address) == held - sum(earned[1:])
        home = experiment_account(0, "home", w.chain)
        w.ledger._send(w.accounts[roles[0]], "setPayout", home.address)
        w.ledger.withdraw_credit(deployer, TASK, ids[0])
        assert w.chain.balance(home.address) == earned[0] > 0, "nothing was lost"


def test_who_reveals_what_it_does_not_serve_earns_nothing(tmp_path: Path) -> None:
    class Hoarding(DirectRounds):
        def reveal(self, task: TaskHistory, current: RoundHistory, proof: Sequence[bytes] = ()) -> Step | None:
            update, salt = self.updates.made(task, current).reference, self.updates.salt(current)
            w.ledger.reveal_update(self.access.account, TASK, current.index, update, salt, proof)
            return Step(Action.REVEALED)

    class Hoarder(Participant):
        direct_kind = Hoarding

    with world(tmp_path, penalty_gwei=PENALTY_GWEI, verifiers=3) as w:
        attacked(w, Hoarder)
        assert verdict(w, ATTACKER, 1) is Verdict.UNAVAILABLE and participant_role(ATTACKER) not in w.gains()
        assert not w.statuses(), "nobody mistakes it for a lie of the aggregator"


def test_who_is_left_out_forces_itself_in_and_earns_the_same(tmp_path: Path) -> None:
    class WithoutTheFirst(Commitments):
        def close(self, current: RoundHistory, phase: Phase) -> Step | None:
            if phase is Phase.COMMITTING:
                return None
            batch = Batch(self.opened_mailbox().seal(current.index).commitments[1:])
            content, count = w.store.put(batch.encode()), len(batch.commitments)
            w.ledger.close_commits(self.access.account, TASK, current.index, batch.root, count, content)
            return Step(Action.CLOSED)

    class Omitting(Aggregator):
        commitments_kind = WithoutTheFirst

    earned = []
    for kind in (Aggregator, Omitting):
        folder = tmp_path / kind.__name__
        folder.mkdir()
        with world(folder, batched=True, penalty_gwei=PENALTY_GWEI, verifiers=0) as w:
            w.aggregators = [w.aggregator(kind=kind, mailbox=w.people[0].batched.mailbox)]
            w.join().play()
            w.check_money()
            assert w.audit().reproduced and not w.burned
            assert len(w.task.rounds[1].commits) == (kind is Omitting)
            earned.append((w.task.model, w.credits()))
    assert earned[0] == earned[1]


def test_an_aggregator_that_falls_silent_loses_its_deposit_to_who_takes_over(tmp_path: Path) -> None:
    models = []
    for kind in (Aggregator, sleeper((1, 2))):
        folder = tmp_path / kind.__name__
        folder.mkdir()
        with world(folder, standbys=1, verifiers=0) as w:
            w.aggregators[0] = w.aggregator(kind=kind)
            w.join().play()
            w.check_money()
            models.append(w.task.model)
            assert settled(w.task) == [1, 2] and w.audit().reproduced
            lost = {} if kind is Aggregator else {AGGREGATOR: -BOND, "standby 0": BOND // 2}
            paid = {*w.credits(), PUBLISHER}
            assert {role: gain for role, gain in w.gains().items() if role not in paid} == lost
            assert w.burned == (0 if kind is Aggregator else BOND // 2)
    assert models[0] == models[1]


@pytest.mark.parametrize("stored", [False, True], ids=["withheld", "of something else"])
def test_a_root_that_nobody_can_open_costs_its_poster_the_deposit(tmp_path: Path, stored: bool) -> None:
    class OddRoot(Commitments):
        def close(self, current: RoundHistory, phase: Phase) -> Step | None:
            if current.index > 1:
                return super().close(current, phase)
            content = ContentRef.of(b"nothing") if not stored else w.store.put(Batch(()).encode())
            w.ledger.close_commits(self.access.account, TASK, 1, b"r" * 32, 4, content)
            return Step(Action.CLOSED)

    class Sealing(sleeper((1,))):  # type: ignore[misc]
        commitments_kind = OddRoot

    with world(tmp_path, batched=True, standbys=1, verifiers=0) as w:
        w.aggregators[0] = w.aggregator(kind=Sealing)
        w.deliver_to(w.aggregators[0])
        w.join().play()
        w.check_money()
        assert w.task.rounds[1].voided and settled(w.task) == [2, 3] and w.audit().reproduced
        paid = {*w.credits(), PUBLISHER}
        changes = {role: gain for role, gain in w.gains().items() if role not in paid}
        assert changes == {AGGREGATOR: BOND // 8 - BOND}, "it voids the round itself, for which there is an eighth"
        assert w.burned == BOND - BOND // 8


def test_a_count_that_is_too_low_ends_no_round(tmp_path: Path) -> None:
    """A root of all with a count of nobody: the nodes, which are all in it, commit on chain to be counted."""

    class CountOfNobody(Commitments):
        def close(self, current: RoundHistory, phase: Phase) -> Step | None:
            if current.index > 1 or not self.opened_mailbox().committed(1).issuperset(current.selected):
                return super().close(current, phase)
            batch = self.opened_mailbox().seal(1)
            w.ledger.close_commits(self.access.account, TASK, 1, batch.root, 0, w.store.put(batch.encode()))
            return Step(Action.CLOSED)

    class Belittling(Aggregator):
        commitments_kind = CountOfNobody

    with world(tmp_path, batched=True, standbys=1, verifiers=0, penalty_gwei=PENALTY_GWEI) as w:
        w.aggregators[0] = w.aggregator(kind=Belittling)
        w.deliver_to(w.aggregators[0])
        w.join().play()
        w.check_money()
        assert not any(slashed(w, number) for number in range(len(w.people)))
        assert len(w.task.rounds[1].commits) >= w.params.quorum and len(w.task.settled) == 2


def test_a_stranger_moves_no_phase(tmp_path: Path) -> None:
    refused: list[str] = []

    def push(w: World, stranger: Any) -> None:
        index = max(w.task.rounds, default=0)
        content = ContentRef(b"c" * 32, 1)
        proposal = Proposal(content, content, content, False, (1,), (1000,))
        given = w.task.rounds[index].proposal if index else None
        tries: list[Callable[[], Any]] = [
            lambda: w.ledger.open_round(stranger, TASK, 1),
            lambda: w.ledger.close_commits(stranger, TASK, max(1, index), b"r" * 32, 4, content),
            lambda: w.ledger.propose_round(stranger, TASK, max(1, index), proposal),
            lambda: w.ledger.void_round(stranger, TASK, max(1, index)),
            lambda: w.ledger.finish_task(stranger, TASK),
            lambda: w.ledger.commit_update(stranger, TASK, max(1, index), b"c" * 32),
        ]
        if given is not None and not w.task.rounds[index].settled and not w.ledger.settleable(TASK):
            tries.append(lambda: w.ledger.settle_round(stranger, TASK, index, given))
        for attempt in tries:
            with pytest.raises(RevertedError) as error:
                attempt()
            refused.append(error.value.name)

    with world(tmp_path, batched=True, rounds=1, verifiers=0) as w:
        stranger = w.purse("stranger")
        w.join()
        seen = set()
        while not w.is_over():
            phase = w.ledger.phase(TASK)
            if phase not in seen and phase is not Phase.IDLE:
                seen.add(phase)
                push(w, stranger)
            w.play(lambda phase=phase: w.is_over() or w.ledger.phase(TASK) is not phase)  # type: ignore[misc]
        assert {"NotAggregator", "WindowOpen", "NotOverdue"} <= set(refused)
        assert seen >= {Phase.COMMITTING, Phase.REVEALING, Phase.CHALLENGING}
        assert settled(w.task) == [1] and "stranger" not in w.gains()
        w.check_money()


def test_ten_sybils_of_one_stake_are_one_participant(tmp_path: Path) -> None:
    with world(tmp_path, participants=4, verifiers=0) as w:
        first, *others = (experiment_account(0, f"sybil {number}", w.chain) for number in range(10))
        w.chain.fund(first.address, STAKE)
        w.ledger.register(first, first.address, first.address, STAKE)
        w.ledger.enrol(first, TASK)
        w.ledger.request_exit(first)
        with pytest.raises(RevertedError, match="ExitNotDue"):
            w.ledger.complete_exit(first)
        for other in others:
            with pytest.raises(RevertedError, match="InsufficientBalance"):
                w.ledger._send(other, "register", other.address, other.address, STAKE)
        w.chain.fund(others[0].address, STAKE)
        with pytest.raises(RevertedError, match="SignerTaken"):
            w.ledger.register(others[0], first.address, others[0].address, STAKE)
        assert w.ledger.participant_count() == 1
        assert w.ledger.participant(0).stake == 0, "it backs nothing while it waits to leave"


def test_who_holds_back_what_refutes_a_lie_for_a_while_robs_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An aggregator forgets an update, and gives no proof of its commitment when the victim asks first."""
    monkeypatch.setattr(objections, "PAUSE", 0.0)
    monkeypatch.setattr(objections, "REST", 0.0)
    asked: list[int] = []

    class Forgetful(Mailbox):
        def openings(self, index: int) -> dict[int, Opening]:
            return {who: opening for who, opening in super().openings(index).items() if who != victim}

        def proof(self, index: int, participant: int) -> list[bytes] | None:
            if participant != victim:
                return super().proof(index, participant)
            asked.append(index)
            return super().proof(index, participant) if len(asked) > 2 else None

    class Withheld(LocalStore):
        def get(self, ref: ContentRef, limit: int | None = None) -> bytes:
            if any(ref == r.batch for r in w.task.rounds.values()):
                raise ContentUnavailableError("it comes later")
            return super().get(ref, limit)

    with world(tmp_path, rounds=1, verifiers=0, batched=True, penalty_gwei=PENALTY_GWEI) as w:
        mailbox = Forgetful(w.ledger, w.history, w.number, w.folder / "mailbox")
        w.aggregators = [w.aggregator(mailbox=mailbox)]
        w.people = [w.participant(number) for number in range(len(w.people))]
        w.people[VICTIM].batched.access = replace(w.people[VICTIM].access, store=Withheld(w.store.folder))
        w.pause = 20
        w.play(lambda: len(w.task.enrolled) == len(w.people))
        victim = w.history.ids[w.people[VICTIM].access.address]
        w.play()
        assert verdict(w, VICTIM, 1) is Verdict.LATE and victim in w.task.rounds[1].excuses
        assert len(asked) == 3 and slashed(w, VICTIM) == 0
        w.check_money()


def test_who_signs_twice_keeps_no_standby_from_taking_over(tmp_path: Path) -> None:
    """It leaves one commitment with the active aggregator, which falls silent, and what opens another one elsewhere."""

    class Twofold(BatchedRounds):
        def sign(self, task: TaskHistory, current: RoundHistory, participant: int) -> Step | None:
            other = replace(self.updates.made(task, current), reference=ContentRef(bytes(32), 9))
            to_it = commitment(
                self.access.place, current.index, self.access.address, current.base.digest, other.reference, bytes(32)
            )
            message = commitment_message(self.access.place, current.index, participant, to_it)
            second = SignedCommitment(participant, to_it, sign(message, bytes(self.access.account.key)))
            theirs.commit(current.index, second)
            theirs.reveal(current.index, participant, other.reference, bytes(32))
            return super().sign(task, current, participant)

        def open(self, task: TaskHistory, current: RoundHistory, participant: int) -> Step | None:
            return None

    class Both:
        """Leaves all with both aggregators."""

        def commit(self, index: int, signed: SignedCommitment) -> None:
            own.commit(index, signed)
            theirs.commit(index, signed)

        def commitment(self, index: int, participant: int) -> SignedCommitment | None:
            return own.commitment(index, participant)

        def proof(self, index: int, participant: int) -> list[bytes] | None:
            return own.proof(index, participant)

        def reveal(self, index: int, participant: int, update: ContentRef, salt: bytes, staleness: int = 0) -> bool:
            return theirs.reveal(index, participant, update, salt, staleness)

    class TwoFaced(Participant):
        batched_kind = Twofold

    with world(tmp_path, rounds=1, standbys=1, verifiers=0, batched=True, penalty_gwei=PENALTY_GWEI) as w:
        own, theirs = (Mailbox(w.ledger, w.history, w.number, w.folder / name, w.store) for name in "ab")
        w.aggregators = [
            w.aggregator(kind=sleeper((1,)), mailbox=own),
            w.aggregator("standby 0", mailbox=theirs),
        ]
        w.people = [w.participant(number, TwoFaced if number == ATTACKER else Participant) for number in range(4)]
        for person in w.people[1:]:
            person.batched.mailbox = Both()
        w.join().play()
        w.check_money()
        assert settled(w.task) == [1] and w.audit().reproduced
        assert verdict(w, ATTACKER, 1) is Verdict.LATE and verdict(w, VICTIM, 1) is Verdict.ACCEPTED
        assert w.gains()["standby 0"] == BOND // 2
