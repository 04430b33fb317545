"""The committed ledger against a plain model of it, over random histories of legal and illegal transactions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar

from eth_utils.crypto import keccak
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fedledger.contracts.abi import RevertedError
from fedledger.contracts.client import Phase, RoundStatus
from fedledger.protocol.batch import Batch, SignedCommitment
from fedledger.protocol.reputation import LANE_BITS, LANES, Evidence
from fedledger.protocol.settlement import apportion
from fedledger.protocol.verdicts import Verdict
from support.evm import FUNDS, Evm
from support.ledger_model import (
    NOBODY,
    ZERO,
    Call,
    Calls,
    Model,
    Outcome,
    Params,
    Ref,
    Refused,
    Round,
    Task,
    Updates,
)

STAKE, EXIT_DELAY = 1000, 15
PARTICIPANTS = 9  # two slots, the second with one participant
EVERYBODY = 2**PARTICIPANTS - 1
TASKS = 3


def address(kind: int, i: int) -> str:
    return f"0x{kind:x}{i:039x}"


OWNERS = [address(1, i) for i in range(PARTICIPANTS + 1)]
SIGNERS = [address(2, i) for i in range(PARTICIPANTS + 3)]
PAYOUTS = [address(3, i) for i in range(3)]
PUBLISHERS = [address(4, i) for i in range(2)]
AGGREGATORS = [address(5, i) for i in range(2)]
REFUSER = address(6, 0)
SENDERS = [*OWNERS, *SIGNERS, *PUBLISHERS, *AGGREGATORS]
REVERT = bytes.fromhex("5f5ffd")
RUNNING = (Phase.COMMITTING, Phase.CLOSING, Phase.ADMITTING, Phase.REVEALING, Phase.PROPOSING)
REFUSALS = [verdict for verdict in Verdict if verdict.refused]

# Most transactions are what their senders ought to send, or no history would get far.
seldom = st.integers(0, 11).map(lambda n: n == 11)
tasks = st.integers(1, TASKS)
participants = st.integers(0, PARTICIPANTS)
senders = st.sampled_from(SENDERS)
receivers = st.sampled_from([*OWNERS[:2], *PAYOUTS, REFUSER, "ledger", NOBODY])
scores = st.lists(st.integers(0, 9), min_size=PARTICIPANTS, max_size=PARTICIPANTS)
masks = st.integers(0, EVERYBODY) | st.just(EVERYBODY)
amounts = st.sampled_from([0, 1, STAKE - 1, STAKE, 2 * STAKE, 2**96 - 1, 2**96])
given_params = st.builds(
    Params,
    spec=st.just((keccak(b"spec"), 1)),
    model=st.just((keccak(b"model"), 1)),
    aggregator=st.sampled_from([*AGGREGATORS, PUBLISHERS[0]]),
    rounds=st.sampled_from([1, 3, 4, 4]),
    quorum=st.integers(1, 3),
    min_participants=st.integers(3, 5),
    max_participants=st.integers(5, PARTICIPANTS),
    enrol_period=st.integers(20, 40),
    challenge_window=st.sampled_from([0, 5]),
    max_unfinal=st.sampled_from([1, 2, 3, 3]),
    randomness=st.integers(0, 1),
    batched=st.booleans(),
    grace_period=st.sampled_from([0, 6, 6]),
    min_stake=st.sampled_from([0, 0, 2 * STAKE]),
    min_reputation=st.sampled_from([0, 0, 500_000, 500_001]),
    bond=st.sampled_from([0, 7 * STAKE]),
    credit_unit=st.sampled_from([1, 10**9]),
    units_per_round=st.sampled_from([1000, 2**30 - 1]),
)
params = given_params.map(lambda p: replace(p, randomness=0) if p.batched else p)
flaws = st.sampled_from(
    [
        *({"spec": (ZERO, 1)}, {"model": (ZERO, 1)}, {"aggregator": NOBODY}, {"token": OWNERS[0]}, {"rounds": 0}),
        *({"rounds": 65_536}, {"quorum": 0}, {"quorum": 1025}, {"min_participants": 0}, {"max_participants": 4}),
        *({"max_participants": 4097}, {"enrol_period": 0}, {"commit_period": 0}, {"reveal_period": 0}),
        *({"propose_period": 0}, {"max_unfinal": 0}, {"max_unfinal": 9}, {"max_staleness": 1}, {"randomness": 2}),
        *({"batched": True, "randomness": 1},),
        *({"min_reputation": 1_000_001}, {"credit_unit": 0}, {"units_per_round": 0}, {"units_per_round": 2**32 - 1}),
    ]
)

COMMIT: dict[str, Any] = {
    "who": participants,
    "back": st.integers(0, 1),
    "kind": st.sampled_from(["own", "own", "copied", "none"]),
}
CLOSE: dict[str, Any] = {
    "mask": masks,
    "more": st.sampled_from([0, 0, 0, 0, 1, -1]),
    "stranger": seldom,
    "kind": st.sampled_from(["own", "own", "own", "own", "copied", "none"]),
}
REVEAL: dict[str, Any] = {
    "who": participants,
    "back": st.integers(0, 1),
    "author": participants,
    "own": st.booleans(),
    "prover": participants,
    "proven": st.booleans(),
}
PROPOSE_WRONGLY: dict[str, Any] = {
    "who": participants,
    "kind": st.sampled_from(["anybody", "committed", "revealed"]),
    "verdict": st.sampled_from([Verdict.MISSED, Verdict.LATE]) | st.sampled_from(Verdict),
    "extra": st.sampled_from([0, 0, 1, 2**31]),
    "flaw": st.sampled_from([None, None, None, "shares", "slots", "lengths", "updates", "hash"]),
    "left_out": seldom,
    "recounted": st.booleans(),
}
# What others try while a round takes its course, at every stage of it.
attempts = st.one_of(
    *(
        st.tuples(st.just(name), st.fixed_dictionaries(arguments))
        for name, arguments in {
            "commit": COMMIT,
            "close": CLOSE,
            "reveal": REVEAL,
            "propose_wrongly": PROPOSE_WRONGLY,
            "wait_to_the_second": {"early": st.booleans()},
            "settle": {"back": st.integers(0, 2), "altered": st.booleans()},
            "void": {"back": st.integers(0, 1)},
        }.items()
    )
)
whole_rounds = st.fixed_dictionaries(
    {
        "mask": masks | masks.map(lambda mask: EVERYBODY ^ mask),
        "silent": masks,
        "alone": masks,
        "given": scores,
        "stack": st.booleans(),
        "fewer": st.sampled_from([0, 0, 0, 0, -1]),
        "slandered": st.none() | participants,
        "wrong": st.none() | st.fixed_dictionaries(PROPOSE_WRONGLY),
        "meanwhile": st.lists(attempts, max_size=2),
    }
)


class LedgerMachine(RuleBasedStateMachine):
    """Ten owners, two publishers and two aggregators, who do anything at any time."""

    reached: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.evm = Evm(STAKE, EXIT_DELAY, SENDERS)
        self.evm.put_code(REFUSER, REVERT)
        ledger = self.evm.address.lower()
        self.model = Model(ledger, STAKE, EXIT_DELAY, {REFUSER, ledger}, self.evm.now)
        self.model.wallets.update(dict.fromkeys(SENDERS, FUNDS))
        self.batches: dict[tuple[int, int], Batch] = {}

    def do(self, name: str, sender: str, *arguments: Any, value: int = 0) -> bool:
        """Send a transaction to both; whether they took it, which must be the same."""
        call = Call(name, arguments)
        refused: Refused | None = None
        try:
            call.on(self.model, sender, value)
        except Refused as answer:
            refused = answer
        try:
            self.evm(name, *call.encoded, sender=sender, value=value)
        except RevertedError as error:
            assert refused is not None, f"the model takes {name}, the ledger says {error}"
            assert (error.name, error.arguments) in refused.errors
            self.reach(f"{name}: {error.name}")
            return False
        assert refused is None, f"the ledger takes {name}, the model says {refused}"
        self.reach(name)
        return True

    def reach(self, what: str) -> None:
        self.reached[what] += 1
        event(what)

    # Money and participants.

    @initialize(
        first=params,
        second=params,
        mask=masks,
        past=st.lists(whole_rounds, max_size=4),
    )
    def begin(self, first: Params, second: Params, mask: int, past: list[dict[str, Any]]) -> None:
        for i in range(PARTICIPANTS):
            value = 2 * STAKE if i % 2 else STAKE
            assert self.do("register", OWNERS[i], SIGNERS[i], PAYOUTS[i % 3], value=value)
        easy = replace(first, min_stake=0, min_reputation=0)
        for terms, willing in ((easy, EVERYBODY), (second, mask)):
            assert self.do("postTask", PUBLISHERS[0], terms, value=terms.budget)
            self.enrol_many(len(self.model.tasks), willing)
        for round_ in past:
            self.whole_round(1, round_)

    @rule(who=participants, signer=st.sampled_from([*SIGNERS, OWNERS[1], NOBODY]), payout=receivers, value=amounts)
    def register(self, who: int, signer: str, payout: str, value: int) -> None:
        self.do("register", OWNERS[who], signer, self.receiver(payout), value=value)

    @rule(who=participants, value=amounts)
    def add_stake(self, who: int, value: int) -> None:
        self.do("addStake", OWNERS[who], value=value)

    @rule(who=participants, signer=st.sampled_from([*SIGNERS, OWNERS[2], NOBODY]))
    def rotate_signer(self, who: int, signer: str) -> None:
        self.do("rotateSigner", OWNERS[who], signer)

    @rule(who=participants, payout=receivers)
    def set_payout(self, who: int, payout: str) -> None:
        self.do("setPayout", OWNERS[who], self.receiver(payout))

    @rule(who=participants, step=st.sampled_from(["requestExit", "requestExit", "cancelExit", "completeExit"]))
    def exit(self, who: int, step: str) -> None:
        self.do(step, OWNERS[who])

    @rule(who=participants, back=st.booleans())
    def leave(self, who: int, back: bool) -> None:
        self.do("requestExit", OWNERS[who])
        self.wait(EXIT_DELAY)
        self.do("completeExit", OWNERS[who])
        if back:
            self.do("register", OWNERS[who], SIGNERS[who], PAYOUTS[0], value=STAKE)

    @rule(sender=senders, value=amounts)
    def deposit(self, sender: str, value: int) -> None:
        self.do("deposit", sender, value=value)

    @rule(sender=st.sampled_from([*PUBLISHERS, *AGGREGATORS, *OWNERS]), to=receivers)
    def withdraw(self, sender: str, to: str) -> None:
        self.do("withdraw", sender, self.receiver(to))

    @rule(seconds=st.sampled_from([1, 4, 5, 10, EXIT_DELAY, 41]))
    def wait(self, seconds: int) -> None:
        self.evm.wait(seconds)
        self.model.now = self.evm.now

    @rule(task=tasks, early=st.booleans())
    def wait_to_the_second(self, task: int, early: bool) -> None:
        """Let time pass until a task's phase ends, or until a second before."""
        if (t := self.task(task)) is None:
            return
        before, now = self.model.phase(t), self.model.now
        while self.model.phase(t) is before and self.model.now < now + 60:
            self.model.now += 1
        seconds = self.model.now - now - early
        self.wait(max(0, seconds))

    # Tasks.

    @precondition(lambda self: len(self.model.tasks) < TASKS)
    @rule(publisher=st.sampled_from(PUBLISHERS), terms=params, mask=masks)
    def post(self, publisher: str, terms: Params, mask: int) -> None:
        if self.do("postTask", publisher, terms, value=terms.budget):
            self.enrol_many(len(self.model.tasks), mask)

    @rule(publisher=st.sampled_from(PUBLISHERS), terms=params, flaw=flaws, more=st.integers(-1, 1))
    def post_wrongly(self, publisher: str, terms: Params, flaw: dict[str, Any], more: int) -> None:
        wrong = replace(terms, **({} if more else flaw))
        self.do("postTask", publisher, wrong, value=max(0, wrong.budget + more))

    @rule(sender=senders, task=st.integers(0, TASKS))
    def enrol(self, sender: str, task: int) -> None:
        self.do("enrol", sender, task)

    @rule(task=tasks, sender=senders, entitled=st.booleans())
    def finish(self, task: int, sender: str, entitled: bool) -> None:
        known = task <= len(self.model.tasks)
        self.do("finishTask", self.model.tasks[task - 1].publisher if known and entitled else sender, task)

    @rule(task=tasks, who=participants)
    def withdraw_credit(self, task: int, who: int) -> None:
        self.do("withdrawCredit", SENDERS[who], task, who)

    # Rounds, step by step.

    @rule(task=tasks, mask=masks, stranger=seldom, wrong=seldom)
    def open(self, task: int, mask: int, stranger: bool, wrong: bool) -> None:
        if (t := self.task(task)) is None:
            return
        chosen = mask if wrong else sum(1 << i for i in t.enrolled if mask >> i & 1)
        self.open_round(t, task, self.aggregator(t, stranger), (0,), (chosen,))

    @rule(task=tasks, stranger=seldom)
    def open_for_everybody(self, task: int, stranger: bool) -> None:
        if (t := self.task(task)) is not None:
            self.open_round(t, task, self.aggregator(t, stranger), (), ())

    def open_round(self, t: Task, task: int, sender: str, indices: tuple[int, ...], words: tuple[int, ...]) -> None:
        stacked = len(t.rounds) - t.final
        if self.do("openRound", sender, task, indices, words) and stacked:
            self.reach(f"openRound on {stacked} unsettled")

    @rule(task=tasks, words=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=2), odd=st.booleans())
    def open_wrongly(self, task: int, words: list[tuple[int, int]], odd: bool) -> None:
        if (t := self.task(task)) is None:
            return
        indices, values = tuple(k for k, _ in words), tuple(word for _, word in words)
        self.do("openRound", t.params.aggregator, task, indices[: len(indices) - odd], values)
        self.do("openRound", t.params.aggregator, task, indices, values + (1,) * odd)

    @rule(task=st.integers(0, TASKS), **COMMIT)
    def commit(self, task: int, who: int, back: int, kind: str) -> None:
        number = self.number(task, back)
        author = (who + 1) % PARTICIPANTS if kind == "copied" else who
        known = self.round(task, number) is not None
        digest = self.commitment(task, number, author) if known and kind != "none" else bytes([kind != "none"]) * 32
        self.do("commitUpdate", self.signer(who), task, number, digest)

    @rule(task=tasks, **CLOSE)
    def close(self, task: int, mask: int, more: int, stranger: bool, kind: str) -> None:
        """Post the root of who signed; of commitments that are not the signers', or of none, if it is that kind."""
        number = self.number(task)
        if (r := self.round(task, number)) is None:
            return
        signers = chosen(r.selected, mask if kind != "none" else 0)
        batch = Batch(
            tuple(
                SignedCommitment(i, self.commitment(task, number, (i + (kind == "copied")) % PARTICIPANTS), b"")
                for i in sorted(signers)
            )
        )
        sender = self.aggregator(self.model.tasks[task - 1], stranger)
        if self.do("closeCommits", sender, task, number, batch.root, max(0, len(signers) + more)):
            self.batches[task, number] = batch

    @rule(task=tasks, **REVEAL)
    def reveal(self, task: int, who: int, back: int, author: int, own: bool, prover: int, proven: bool) -> None:
        number = self.number(task, back)
        proof = self.proof(task, number, who if proven else prover)
        content = update(who if own else author, number)
        self.do("revealUpdate", self.signer(who), task, number, content, salt(author), proof)

    @rule(task=tasks, mask=masks)
    def commit_many(self, task: int, mask: int) -> None:
        number = self.number(task)
        r = self.round(task, number)
        for i in chosen(r.selected if r else (), mask):
            self.do("commitUpdate", self.signer(i), task, number, self.commitment(task, number, i))

    @rule(task=tasks, mask=masks, back=st.integers(0, 1))
    def reveal_many(self, task: int, mask: int, back: int) -> None:
        number = self.number(task, back)
        if (r := self.round(task, number)) is None:
            return
        for i in chosen(sorted(self.committed(task, number)), mask):
            proof = self.proof(task, number, i)
            if self.do("revealUpdate", self.signer(i), task, number, update(i, number), salt(i), proof):
                how = "committed on chain" if i in r.commitments else "by proof" if proof else "the only leaf"
                self.reach(f"revealUpdate {how}{' in the window' if r.outcome else ''}")

    @rule(
        task=tasks,
        given=scores,
        refusals=st.lists(st.sampled_from([None, None, *REFUSALS]), min_size=PARTICIPANTS, max_size=PARTICIPANTS),
        told=masks,
        sent=st.sampled_from([0, 7 * STAKE, 7 * STAKE, 8 * STAKE]),
        stop=seldom,
        stranger=seldom,
    )
    def propose(
        self,
        task: int,
        given: list[int],
        refusals: list[Verdict | None],
        told: int,
        sent: int,
        stop: bool,
        stranger: bool,
    ) -> None:
        """Propose what the ledger has to take; in a batched round, some revealed to the aggregator alone."""
        number = self.number(task)
        if (r := self.round(task, number)) is None:
            return
        t = self.model.tasks[task - 1]
        outcome = judged(t, r, given, refusals, stop, self.present(task, number, told), self.committed(task, number))
        updates = self.updates(t, number, outcome)
        bound = replace(outcome, updates=updates.hash if t.params.batched else ZERO)
        if self.do("proposeRound", self.aggregator(t, stranger), task, number, bound, updates, value=sent):
            self.reach(f"proposeRound {'batched' if t.params.batched else 'direct'}")

    @rule(task=tasks, **PROPOSE_WRONGLY)
    def propose_wrongly(
        self,
        task: int,
        who: int,
        kind: str,
        verdict: Verdict,
        extra: int,
        flaw: str | None,
        left_out: bool,
        recounted: bool,
    ) -> None:
        """Propose what may be wrong in a verdict, a share, the words or the updates."""
        number = self.number(task)
        if (r := self.round(task, number)) is None:
            return
        t = self.model.tasks[task - 1]
        known = self.committed(task, number)
        if of_kind := {"committed": sorted(r.commitments), "revealed": sorted(r.salts)}.get(kind):
            who = of_kind[who % len(of_kind)]
        right = judged(
            t, r, [1] * PARTICIPANTS, [None] * PARTICIPANTS, False, self.present(task, number, EVERYBODY), known
        )
        share = right.shares.get(who, 0) if verdict is Verdict.ACCEPTED else 0
        verdicts, shares = right.verdicts | {who: verdict}, right.shares | {who: share + extra}
        if left_out:
            verdicts = {i: v for i, v in verdicts.items() if i // LANES != who // LANES}
            shares = {i: share for i, share in shares.items() if i in verdicts}
        wrong = replace(
            right, verdicts=verdicts, shares=shares, flaw=flaw if verdicts and flaw in ("shares", "slots") else None
        )
        updates = self.updates(t, number, wrong if recounted else right)
        if flaw == "updates":
            updates = Updates((*updates.refs, update(who, number)))
        bound = updates.hash if t.params.batched ^ (flaw == "hash") else ZERO
        updates = replace(updates, more=flaw == "lengths")
        wrong = replace(wrong, updates=bound)
        self.do("proposeRound", t.params.aggregator, task, number, wrong, updates, value=t.params.bond)

    @rule(task=tasks, back=st.integers(0, 2), altered=seldom)
    def settle(self, task: int, back: int, altered: bool) -> None:
        number = self.number(task, back)
        r = self.round(task, number)
        outcome = r.outcome if r and r.outcome else Outcome((ZERO, 0), {}, {})
        self.do("settleRound", OWNERS[-1], task, number, replace(outcome, stop=outcome.stop ^ altered))

    @rule(task=tasks, back=st.integers(0, 1))
    def void(self, task: int, back: int) -> None:
        self.do("voidRound", OWNERS[-1], task, self.number(task, back))

    # Whole stretches, so that histories get far.

    @rule(task=tasks, story=whole_rounds)
    def whole_round(self, task: int, story: dict[str, Any]) -> None:
        """Take a task through its next round as far as its state allows.

        Those in the mask commit, and the silent do not reveal. In a batched round those who are alone do on chain what
        else the aggregator does for them, and it may say that fewer have signed. A stacked round is left to be settled
        by a later one.
        """
        if (t := self.task(task)) is None:
            return
        mask, silent, alone = story["mask"], story["silent"], story["alone"]
        unsettled = len(t.rounds) - t.final
        is_open = bool(t.of(RoundStatus.OPEN))
        if is_open or unsettled >= t.params.max_unfinal:
            self.skip(t, *RUNNING, Phase.CHALLENGING)
            for _ in range(unsettled if is_open else 1):
                self.push(task)
        self.skip(t, Phase.ENROLLING)
        self.open(task, EVERYBODY, False, False)
        self.meanwhile(task, story)
        telling = mask & ~silent if silent != mask else mask
        if t.params.batched:
            self.skip(t, Phase.COMMITTING)
            self.close(task, mask, story["fewer"], False, "own")
            self.commit_many(task, alone & ~mask)
            self.meanwhile(task, story)
            self.skip(t, Phase.ADMITTING)
            self.reveal_many(task, alone & ~silent, 0)
        else:
            self.commit_many(task, mask)
            self.meanwhile(task, story)
            self.skip(t, Phase.COMMITTING)
            self.reveal_many(task, telling, 0)
        self.meanwhile(task, story)
        self.skip(t, Phase.REVEALING)
        self.meanwhile(task, story)
        if story["slandered"] is not None:
            self.propose_wrongly(task, story["slandered"], "revealed", Verdict.LATE, 0, None, False, True)
            self.propose_wrongly(task, story["slandered"], "committed", Verdict.MISSED, 0, None, False, True)
        if story["wrong"]:
            self.propose_wrongly(task, **story["wrong"])
        self.propose(task, story["given"], [None] * PARTICIPANTS, telling, t.params.bond, False, False)
        if t.params.batched:
            self.reveal_many(task, alone & silent, 0)
        self.meanwhile(task, story)
        if not story["stack"]:
            self.skip(t, Phase.CHALLENGING)
            self.push(task)

    @rule(task=tasks, stories=st.lists(whole_rounds, min_size=2, max_size=3))
    def stacked_rounds(self, task: int, stories: list[dict[str, Any]]) -> None:
        for story in stories:
            self.whole_round(task, story | {"stack": True})

    def meanwhile(self, task: int, story: dict[str, Any]) -> None:
        for name, arguments in story["meanwhile"]:
            getattr(self, name)(task, **arguments)

    @rule(task=tasks)
    def push(self, task: int) -> None:
        """Do what anyone may do for the first round that is not final."""
        if (call := self.next_push(task)) is not None:
            self.do(call.name, OWNERS[-1], *call.arguments)

    @rule(task=tasks, other=tasks, who=participants, broken=seldom)
    def push_together(self, task: int, other: int, who: int, broken: bool) -> None:
        """Push two tasks on and pay somebody in one transaction: all of it, or nothing."""
        calls = [Call("announce", ("https://example.org",))]
        calls += [call for call in (self.next_push(task), self.next_push(other)) if call]
        if (t := self.task(task)) and (t.credits[who] or broken):
            calls.append(Call("withdrawCredit", (task, who)))
        if self.do("multicall", OWNERS[-1], Calls(tuple(calls))) and len(calls) > 1:
            self.reach("multicall with effect")

    @rule(task=tasks, mask=masks)
    def go_on_together(self, task: int, mask: int) -> None:
        """Settle a round and open the next as one transaction of the aggregator."""
        if (t := self.task(task)) is not None:
            calls = *filter(None, [self.next_push(task)]), Call("openRound", (task, (), ()))
            self.do("multicall", t.params.aggregator, Calls(calls))

    @rule(task=tasks)
    def let_time_run_out(self, task: int) -> None:
        if (t := self.task(task)) is not None:
            self.skip(t, Phase.ENROLLING, *RUNNING, Phase.CHALLENGING)

    @rule(task=tasks, late=seldom)
    def lie_idle(self, task: int, late: bool) -> None:
        """Try to end a task in the last second in which it is not idle for too long, or in the next."""
        if (t := self.task(task)) is None:
            return
        since = t.last_final if t.rounds else t.enrol_deadline
        self.wait(max(0, since + t.params.enrol_period + late - self.model.now))
        self.do("finishTask", OWNERS[-1], task)

    # What always holds.

    @invariant()
    def every_view_agrees(self) -> None:
        for name, arguments, expected in self.views():
            found = self.evm.view(name, *arguments)
            assert found == expected, f"{name}{arguments}: the ledger says {found}, the model {expected}"

    @invariant()
    def every_wei_has_one_owner(self) -> None:
        assert self.evm.balance(self.model.address) == self.model.owed
        for account, held in self.model.wallets.items():
            assert self.evm.balance(account) == held, account

    @invariant()
    def nobody_is_credited_twice(self) -> None:
        for t in self.model.tasks:
            assert t.spent <= len(t.settled) * t.params.units_per_round
            assert len(t.settled) <= t.params.rounds
            for i in range(len(self.model.participants)):
                assert t.paid[i] + t.credits[i] == t.earned(i)

    def teardown(self) -> None:
        """From wherever it is, time and a stranger alone end every task, and everybody gets what is due."""
        for number, t in enumerate(self.model.tasks, 1):
            for _ in range(2 * t.params.max_unfinal):
                self.let_time_run_out(number)
                self.push(number)
            if not t.finished:
                self.wait(t.params.enrol_period + 1)
                assert self.do("finishTask", OWNERS[-1], number)
            for i, units in list(t.credits.items()):
                if units and self.model.participants[i].payout not in self.model.refusing:
                    assert self.do("withdrawCredit", OWNERS[-1], number, i)
        for account, amount in list(self.model.balances.items()):
            assert not amount or self.do("withdraw", account, account)
        self.every_view_agrees()
        self.every_wei_has_one_owner()
        self.nobody_is_credited_twice()

    def views(self) -> Iterator[tuple[str, tuple[Any, ...], Any]]:
        """Return every view with what the model says it answers."""
        m = self.model
        yield "taskCount", (), len(m.tasks)
        yield "participantCount", (), len(m.participants)
        for account in m.wallets:
            yield "balanceOf", (account,), m.balances[account]
        for i, p in enumerate(m.participants):
            yield "participant", (i,), p.record
            yield "isActive", (i,), m.is_active(i)
            yield "idOfOwner", (p.owner,), i
            if p.since:
                yield "idOfSigner", (p.signer,), i
        for publisher in PUBLISHERS:
            lanes = {i: m.evidence.get((publisher, i), Evidence()) for i in range(len(m.participants))}
            yield from words("evidenceWord", publisher, {i: e.pack() for i, e in lanes.items()})
            for i, e in lanes.items():
                yield "reputation", (publisher, i), e.reputation
        for number, t in enumerate(m.tasks, 1):
            yield "task", (number,), task_record(t)
            yield "phase", (number,), m.phase(t)
            yield "beacon", (number,), t.beacon
            yield "enrolledWord", (number, 0), mask_of(t.enrolled)
            yield from words("creditWord", number, t.credits)
            for index, r in enumerate(t.rounds, 1):
                yield "round", (number, index), round_record(r)
                yield "selectedWord", (number, index, 0), mask_of(r.selected)
                yield "committedWord", (number, index, 0), mask_of(r.commitments)
                yield "revealedWord", (number, index, 0), mask_of(r.salts)
                yield "baseModel", (number, index), t.base_model(index)
                yield "commitsRoot", (number, index), t.root(index)

    # What the rules share.

    def task(self, task: int) -> Task | None:
        return self.model.tasks[task - 1] if 1 <= task <= len(self.model.tasks) else None

    def number(self, task: int, back: int = 0) -> int:
        """Return the number of a task's current round, or of one before it; at least 1."""
        t = self.task(task)
        return max(1, len(t.rounds) - back) if t else 1

    def round(self, task: int, number: int) -> Round | None:
        t = self.task(task)
        return t.rounds[number - 1] if t and 1 <= number <= len(t.rounds) else None

    def signer(self, who: int) -> str:
        known = who < len(self.model.participants)
        return self.model.participants[who].signer if known else SIGNERS[-1]

    def receiver(self, who: str) -> str:
        return self.model.address if who == "ledger" else who

    def aggregator(self, t: Task, stranger: bool) -> str:
        return OWNERS[0] if stranger else t.params.aggregator

    def commitment(self, task: int, number: int, who: int) -> bytes:
        return self.model.commitment(task, number, self.signer(who), update(who, number), salt(who))

    def committed(self, task: int, number: int) -> set[int]:
        """Return who committed in a round, on chain or under its root."""
        r, batch = self.round(task, number), self.batches.get((task, number))
        return set(r.commitments if r else ()) | set(batch.by_participant if batch else ())

    def present(self, task: int, number: int, told: int) -> set[int]:
        """Return whose updates there are: revealed on chain or, in a batched round, told to the aggregator."""
        t, r = self.task(task), self.round(task, number)
        batched = t is not None and t.params.batched
        return set(r.salts if r else ()) | set(chosen(self.committed(task, number), told) if batched else ())

    def proof(self, task: int, number: int, who: int) -> tuple[bytes, ...]:
        batch = self.batches.get((task, number))
        return tuple((batch.proof(who) if batch else None) or ())

    def updates(self, t: Task, number: int, outcome: Outcome) -> Updates:
        return Updates(tuple(update(i, number) for i in outcome.delivered) if t.params.batched else ())

    def next_push(self, task: int) -> Call | None:
        if (t := self.task(task)) is None or t.final == len(t.rounds):
            return None
        number = t.final + 1
        outcome = t.rounds[number - 1].outcome
        return Call("voidRound", (task, number)) if outcome is None else Call("settleRound", (task, number, outcome))

    def enrol_many(self, task: int, mask: int) -> None:
        for i in chosen(range(PARTICIPANTS), mask):
            self.do("enrol", (OWNERS if i % 2 else SIGNERS)[i], task)

    def skip(self, t: Task, *phases: Phase) -> None:
        """Let time pass until a task is in none of these phases."""
        while self.model.phase(t) in phases:
            self.wait(5)


@cache
def update(who: int, number: int) -> Ref:
    return keccak(b"%d %d" % (who, number)), 100 + who


@cache
def salt(who: int) -> bytes:
    return keccak(b"salt %d" % who)


def chosen(ids: Iterable[int], mask: int) -> list[int]:
    return [i for i in ids if mask >> i & 1]


def mask_of(ids: Iterable[int]) -> int:
    return sum(1 << i for i in ids)


def words(name: str, key: Any, lanes: dict[int, int]) -> Iterator[tuple[str, tuple[Any, ...], int]]:
    """Return the words of two slots, as 32-bit lanes fill them."""
    for slot in range(2):
        word = sum(lanes.get(LANES * slot + lane, 0) << LANE_BITS * lane for lane in range(LANES))
        yield name, (key, slot), word


def judged(
    t: Task,
    r: Round,
    given: list[int],
    refusals: list[Verdict | None],
    stop: bool,
    present: set[int],
    committed: set[int],
) -> Outcome:
    """Return an outcome that a ledger has to take, its pay in proportion to what is given."""
    absences = {i: Verdict.LATE if i in committed else Verdict.MISSED for i in sorted(r.selected)}
    verdicts = absences | {i: refusals[i] or Verdict.ACCEPTED for i in present}
    accepted = [i for i, verdict in sorted(verdicts.items()) if verdict is Verdict.ACCEPTED]
    shares = dict(zip(accepted, apportion(t.params.units_per_round, [given[i] for i in accepted]), strict=True))
    return Outcome((keccak(b"model %d" % len(t.rounds)), 1), verdicts, shares, stop)


def task_record(t: Task) -> tuple[Any, ...]:
    counts = len(t.enrolled), len(t.rounds), t.final, len(t.settled), t.spent, t.voids_in_a_row
    ends = t.finished, t.stopped, t.last_final or t.posted, t.latest
    return (t.publisher, t.params.record, t.enrol_deadline, *counts, *ends)


def round_record(r: Round) -> tuple[Any, ...]:
    times = r.opened, 1, r.commits_closed, r.reveals_closed, r.proposed
    counts = len(r.selected), r.committed, len(r.salts)
    made = r.outcome.model[0] if r.outcome else ZERO
    return (*times, *counts, r.status, r.base, r.everybody, made)


# A fifth or less of what a run of this length usually reaches.
OFTEN = {
    "settleRound": 15,
    "voidRound": 25,
    "finishTask": 40,
    "withdrawCredit": 50,
    "withdraw": 40,
    "completeExit": 5,
    "closeCommits": 12,
    "commitUpdate": 100,
    "proposeRound direct": 5,
    "proposeRound batched": 7,
    "revealUpdate by proof": 3,
    "multicall": 15,
}


def test_random_histories_agree_with_the_model() -> None:
    LedgerMachine.reached.clear()
    run_state_machine_as_test(
        LedgerMachine,
        settings=settings(
            max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )
    assert {name: LedgerMachine.reached[name] for name in OFTEN if LedgerMachine.reached[name] < OFTEN[name]} == {}
