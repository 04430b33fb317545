"""Random histories of the ledger beside the model's: verifiers, disputes and juries."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from hypothesis import strategies as st
from hypothesis.stateful import rule

from fedledger.contracts.ledger.records import DisputeKind, Finding, RoundStatus
from fedledger.protocol.records.signatures import commitment_message, sign
from fedledger.protocol.records.verdicts import Verdict
from support.ledger_machine import (
    ALL_WORDS,
    DISPUTE_PERIOD,
    EVERYBODY,
    KEYS,
    OWNERS,
    PARTICIPANTS,
    PUBLISHERS,
    SIGNERS,
    STEPS,
    STRANGER,
    TASKS,
    chosen,
    digits,
    masks,
    params,
    participants,
    seldom,
    senders,
    smooth,
    step,
    tasks,
    whole_rounds,
)
from support.ledger_model import DISPUTE_PERIODS
from support.ledger_records import ZERO, Claim, Dispute, Outcome, Params, Posted, Seat, Task
from support.ledger_score_rules import ScoresMachine

LONG = 300  # blocks after which the chain has forgotten one
backs = st.integers(0, 2)
disputes = st.integers(0, 3)
challengers = st.sampled_from([STRANGER, STRANGER, OWNERS[0], OWNERS[3], "aggregator"])
# What jurors find: mostly that the proposal is valid or, if it is turned, that it is not or that they cannot judge.
SAYINGS = "yyyyyyynxwscu"
findings = st.integers(0, len(SAYINGS) ** PARTICIPANTS - 1).map(lambda n: digits(n, SAYINGS, PARTICIPANTS))
TURNS = {turn: str.maketrans("y" + turn, turn + "y") for turn in "nus"}
levels = st.fixed_dictionaries(
    {
        "findings": findings,
        "turn": st.sampled_from(["", "", "", "n", "n", "n", "u", "s"]),
        "appeal": st.sampled_from([True, True, True, False]),
        "undrawn": seldom,
        "forgotten": seldom,
        "leavers": st.just(0) | st.just(0) | masks,
        "leave": st.sampled_from(["retire", "quit", "requestExit"]),
        "back": st.booleans(),
    }
)


class LedgerMachine(ScoresMachine):
    """The same, and verifiers who sit on juries about what was proposed."""

    def __init__(self) -> None:
        super().__init__()
        self.votes: dict[tuple[int, int, int], tuple[Finding, bytes, bytes]] = {}

    def do(self, name: str, sender: str, *arguments: Any, value: int = 0) -> bool:
        seats, won = [replace(seat) for seat in self.seats], [d.won for d in self.model.disputes]
        done = super().do(name, sender, *arguments, value=value)
        for before, after in zip(seats, self.seats, strict=False):
            if after.condemned > before.condemned:
                self.reach("a deposit is condemned")
            if before.first is not None and after.first is not None and before.first != after.first:
                self.reach("a claim passes on")
            if name != "settleRound" and before.held and before.held == after.held and before.deposit > after.deposit:
                self.reach(f"{name} costs what was deposited since")
        for gain, d in zip(won, self.model.disputes, strict=False):
            below = self.model.tasks[d.task - 1].rounds[: d.number - 1]
            if d.won > gain and below and below[-1].status is RoundStatus.VOIDED:
                self.reach("a challenge gains by an earlier round's fall")
        return done

    @property
    def seats(self) -> list[Seat]:
        return [seat for t in self.model.tasks for seat in t.seats]

    @property
    def condemned(self) -> int:
        return sum(seat.condemned for seat in self.seats)

    # Verifiers, and what the ledger sees for itself.

    @step(sender=senders)
    def enlist(self, sender: str) -> None:
        self.do("enlist", sender)

    @step(sender=senders, task=st.integers(0, TASKS))
    def serve(self, sender: str, task: int) -> None:
        self.do("serve", sender, task)

    @step(who=participants, task=st.integers(0, TASKS), way=st.sampled_from(["retire", "quit", "requestExit"]))
    def leave_service(self, who: int, task: int, way: str) -> None:
        if self.do(way, OWNERS[who], *([task] if way == "quit" else [])) and self.model.undrawn(task):
            self.reach(f"{way} while a jury is to be drawn")

    @step(task=tasks, ids=st.lists(participants, max_size=3).map(tuple), fit=st.booleans())
    def strike(self, task: int, ids: tuple[int, ...], fit: bool) -> None:
        """Take out of a pool whoever is named, or of them who no longer serves."""
        gone = tuple(i for i in self.model.pools.get(task, ()) if self.model.is_lapsed(task, i))
        if self.do("strike", STRANGER, task, gone[: len(ids)] if fit else ids) and fit and gone and ids:
            self.reach("strike of somebody")

    @step(
        task=tasks,
        back=backs,
        who=st.integers(0, PARTICIPANTS - 1),
        author=st.none() | participants,
        same=seldom,
        sent=st.booleans(),
        leaves=st.booleans(),
        rotated=st.sampled_from([None, None, None, False, True]),
    )
    def report(
        self,
        task: int,
        back: int,
        who: int,
        author: int | None,
        same: bool,
        sent: bool,
        leaves: bool,
        rotated: bool | None = None,
    ) -> None:
        """Report two commitments as one participant's, who may leave.

        It may have sent the first to the ledger, and another may have signed the second. It may have another signer
        since then, and be back at the first one.
        """
        if leaves:
            self.do("requestExit", OWNERS[who])
        number = self.number(task, back)
        r = self.round(task, number)
        on_chain = r.commitments.get(who) if r and sent else None
        first = on_chain[1] if on_chain else keccak(b"one")
        second = first if same else keccak(b"another")
        other = self.signer(who if author is None else author)
        a = Claim(first) if sent else self.claim(task, number, who, first, self.signer(who))
        b = self.claim(task, number, who, second, other)
        if rotated is not None:
            before = self.signer(who)
            for signer in (SIGNERS[PARTICIPANTS + who % 3], before)[: 1 + rotated]:
                self.agree(signer, who)
                self.do("rotateSigner", OWNERS[who], signer)
        if self.do("reportEquivocation", STRANGER, task, number, who, a, b):
            how = " of who leaves" if self.model.participants[who].leaves else ""
            self.reach(f"reportEquivocation{' of who sent one' if sent else ''}{how}")

    @step(task=tasks, back=backs, who=participants, other=seldom)
    def refute_missed(self, task: int, back: int, who: int, other: bool) -> None:
        number = self.standing(task, back)
        digests = self.listed(task, number, who) or [ZERO]
        claim = Claim(digests[0], proof=self.proof(task, number, who))
        self.do("refuteMissed", STRANGER, task, number, who, claim, self.posted(task, number, other))

    @step(task=tasks, back=backs, who=participants)
    def refute_duplicate(self, task: int, back: int, who: int) -> None:
        number = self.standing(task, back)
        root = self.roots.get((task, number))
        digests = self.listed(task, number, who) or [ZERO]
        claims = [Claim(digest, proof=root.proof(who, k) if root else ()) for k, digest in enumerate(digests)]
        self.do("refuteDuplicate", STRANGER, task, number, who, claims[0], claims[-1])

    @step(task=tasks, back=backs)
    def refute_all(self, task: int, back: int) -> None:
        """Refute a proposal by whatever shows that it is false."""
        number = self.standing(task, back)
        for who in range(PARTICIPANTS):
            if len(self.listed(task, number, who)) > 1:
                self.refute_duplicate(task, back, who)
            elif self.posted(task, number, False).outcome.verdict(who) is Verdict.MISSED:
                self.refute_missed(task, back, who, False)

    # Demands.

    @step(task=tasks, back=backs, who=participants, paid=st.booleans(), other=seldom)
    def demand(self, task: int, back: int, who: int, paid: bool, other: bool) -> None:
        number, t = self.standing(task, back), self.task(task)
        value = t.params.bond if t and paid else 0
        self.do("demandCommitment", STRANGER, task, number, who, self.posted(task, number, other), value=value)

    @step(which=disputes, author=st.none() | participants, other=seldom)
    def show(self, which: int, author: int | None, other: bool) -> None:
        """Show what was demanded; another may have signed it, or it may be nobody's."""
        dispute = self.dispute(which, DisputeKind.COMMITMENT)
        if dispute is None:
            self.do("showCommitment", STRANGER, which, Claim(ZERO, bytes(65)))
            return
        d = self.model.disputes[dispute]
        digests = self.listed(d.task, d.number, d.subject)
        digest = digests[0] if digests and not other else keccak(b"unlisted")
        signer = self.signer(d.subject if author is None else author)
        proof = self.proof(d.task, d.number, d.subject)
        self.do("showCommitment", STRANGER, dispute, self.claim(d.task, d.number, d.subject, digest, signer, proof))

    @rule(
        task=tasks,
        terms=params,
        story=whole_rounds,
        false=participants,
        back=backs,
        demanded=masks,
        shown=masks,
        way=st.sampled_from(["refute", "demand", "report"]),
        first=st.none() | whole_rounds,
        replayed=st.lists(backs, max_size=2),
        plan=levels,
        sooner=st.booleans(),
    )
    def false_round(
        self,
        task: int,
        terms: Params,
        story: dict[str, Any],
        false: int,
        back: int,
        demanded: int,
        shown: int,
        way: str,
        first: dict[str, Any] | None,
        replayed: list[int],
        plan: dict[str, Any],
        sooner: bool,
    ) -> None:
        """Make a batched round that is false about somebody, or holds somebody's commitment twice, and show it.

        Or report somebody who has signed twice. There may be a round before it, and either may be replayed meanwhile;
        if the one before is so sooner, the false one is made with another deposit.
        """
        task = self.lively(task, replace(terms, batched=True))
        if replayed:
            self.have_judges(task, EVERYBODY)
        opened = len(self.model.disputes)
        if first:
            self.whole_round(task, smooth(first))
            if sooner and replayed:
                self.challenge(task, 0, STRANGER, True)
        calm, one = smooth(story), 1 << false
        silent, alone = calm["silent"] & ~one, story["alone"] | one if way == "report" else story["alone"] & ~one
        # Who is called absent is in the root of a round with a quorum, who signs twice may send one to the ledger.
        mask = {"refute": calm["mask"] | one, "report": story["mask"] & ~one}.get(way, story["mask"])
        twisted = {"false": false, "kind": story["kind"], "mask": mask, "alone": alone, "silent": silent}
        self.whole_round(task, calm | twisted | {"early": way == "refute" and bool(shown % 2)})
        for round_ in replayed:
            self.challenge(task, round_, OWNERS[0], True)
        replays = range(opened, len(self.model.disputes))
        for dispute in replays:
            self.draw(dispute, 1)
            d = self.model.disputes[dispute]
            found = {i: plan["findings"][k] for k, i in enumerate(d.jury.members)}
            self.commit_votes(dispute, found)
        if way == "report":
            sent = sorted(set(r.commitments) if (r := self.round(task, self.number(task))) else ())
            who = sent[false % len(sent)] if sent else false % PARTICIPANTS
            rotated = None if demanded % 3 else demanded % 2 == 0
            self.report(task, 0, who, None, False, bool(sent), bool(demanded % 2), rotated)
        elif way == "refute":
            # What is first may be disputed, what is last is false.
            self.refute_all(task, -1 if first else back)
        else:
            self.demand_all(task, back, demanded | one, shown)
        for dispute in replays if plan["back"] else reversed(replays):
            if self.model.disputes[dispute].is_open:
                self.push_dispute(dispute)

    @rule(
        task=tasks,
        terms=params,
        order=st.permutations(range(3)),
        challenged=st.integers(1, 3),
        sooner=st.booleans(),
        demanded=seldom,
        false=st.integers(1, 7),
        plan=levels,
        ends=st.permutations(range(4)),
    )
    def claimed_rounds(
        self,
        task: int,
        terms: Params,
        order: list[int],
        challenged: int,
        sooner: bool,
        demanded: bool,
        false: int,
        plan: dict[str, Any],
        ends: list[int],
    ) -> None:
        """Challenge some of several rounds, refute the last false one, and close the disputes in any order.

        All are one aggregator's; if the first is challenged sooner, the others are made with another deposit.
        """
        task = self.lively(task, replace(terms, batched=True, max_unfinal=3))
        self.have_judges(task, EVERYBODY)
        if (t := self.task(task)) is None:
            return
        opened = len(self.model.disputes)
        for back in range(min(3, t.params.max_unfinal)):
            lie = {"false": 4} if false >> back & 1 else {}
            self.whole_round(task, QUIET | {"stack": True, "refusals": [None] * PARTICIPANTS} | lie)
            if sooner and not back:
                self.challenge(task, 0, STRANGER, True)
        if demanded:
            self.demand(task, 0, 3, True, False)
        for back in order[:challenged]:
            self.challenge(task, back, OWNERS[0], True)
        for dispute, d in enumerate(self.model.disputes[opened:], opened):
            if d.juries:
                self.hear(dispute, d, plan | {"leavers": 0, "forgotten": False, "undrawn": False})
        self.refute_missed(task, false.bit_length() - 1, 4, False)
        for k in ends:
            if opened + k < len(self.model.disputes) and self.model.disputes[opened + k].is_open:
                self.push_dispute(opened + k)

    @step(task=tasks, back=backs, mask=masks, shown=masks)
    def demand_all(self, task: int, back: int, mask: int, shown: int) -> None:
        """Demand commitments, of which the aggregator shows some in time, and others cannot be shown."""
        first, r = len(self.model.disputes), self.round(task, self.standing(task, back))
        if r is None or r.status is not RoundStatus.PROPOSED:
            return
        for who in chosen(range(PARTICIPANTS), mask):
            self.demand(task, back, who, True, False)
        for dispute in range(first, len(self.model.disputes)):
            if shown >> self.model.disputes[dispute].subject & 1:
                self.show_own(dispute)
        if len(self.model.disputes) > first:
            self.wait(DISPUTE_PERIOD)
        for dispute in range(first, len(self.model.disputes)):
            self.end(dispute)

    def show_own(self, dispute: int) -> None:
        d = self.model.disputes[dispute]
        for digest in self.listed(d.task, d.number, d.subject)[:1]:
            proof = self.proof(d.task, d.number, d.subject)
            claim = self.claim(d.task, d.number, d.subject, digest, self.signer(d.subject), proof)
            if d.is_open:
                self.do("showCommitment", STRANGER, dispute, claim)

    # Replays, step by step.

    @step(task=tasks, back=backs, challenger=challengers, paid=st.booleans())
    def challenge(self, task: int, back: int, challenger: str, paid: bool) -> None:
        t = self.task(task)
        sender = self.aggregator(t, 0) if t and challenger == "aggregator" else STRANGER
        sender = sender if challenger == "aggregator" else challenger
        self.do("challengeRound", sender, task, self.standing(task, back), value=t.params.bond if t and paid else 0)

    @step(which=disputes, blocks=st.sampled_from([0, 1, 1, LONG]))
    def draw(self, which: int, blocks: int) -> None:
        self.wait(0, blocks)
        dispute, placed = self.known(which), set(self.model.places)
        if self.do("drawJury", STRANGER, dispute):
            d = self.model.disputes[dispute]
            if not d.jury.commits_until:
                self.reach("drawJury too late")
            if placed - set(self.model.places):
                self.reach("drawJury takes out who left")
            if any(not self.model.is_placed(d.task, i) or not self.model.is_listed(i) for i in d.jury.members):
                self.reach("drawJury draws who left")

    @step(which=disputes, who=participants, finding=st.sampled_from("ynxwuzv"), empty=seldom)
    def vote(self, which: int, who: int, finding: str, empty: bool) -> None:
        dispute = self.known(which)
        level = self.model.disputes[dispute].level if dispute < len(self.model.disputes) else 0
        sealed = self.vote_of(finding, who, level)
        digest = ZERO if empty else self.model.vote(dispute, level, who, *sealed)
        if self.do("commitVote", self.juror(who), dispute, digest):
            self.votes[dispute, level, who] = sealed

    @step(which=disputes, who=participants, wrong=seldom)
    def unseal(self, which: int, who: int, wrong: bool) -> None:
        dispute = self.known(which)
        level = self.model.disputes[dispute].level if dispute < len(self.model.disputes) else 0
        finding, *others = self.votes.get((dispute, level, who), self.vote_of("y", who, level))
        self.do("revealVote", self.juror(who), dispute, Finding((finding + wrong) % 4), *others)

    def vote_of(self, saying: str, who: int, level: int) -> tuple[Finding, bytes, bytes]:
        """Return a vote: valid (y), not valid (n), valid by another transcript (x) or by one that is of no level (w).

        Or that this cannot be judged (u); or what is no vote: nothing (z), or a transcript that cannot be judged (v).
        """
        transcript = keccak(b"n" if saying == "n" else b"x" if saying == "x" else b"y")
        for _ in range(self.model.terms.appeals - level + (saying == "w")):
            transcript = keccak(transcript)
        findings = {"n": Finding.INVALID, "u": Finding.UNABLE, "v": Finding.UNABLE, "z": Finding.NONE}
        finding = findings.get(saying, Finding.VALID)
        return finding, ZERO if saying == "u" else transcript, keccak(b"vote %d" % who)

    @step(which=disputes)
    def decide(self, which: int) -> None:
        self.do("decide", STRANGER, self.known(which))

    @step(which=disputes, sender=st.sampled_from([STRANGER, OWNERS[0]]), paid=st.booleans())
    def appeal(self, which: int, sender: str, paid: bool) -> None:
        dispute = self.known(which)
        known = self.model.disputes[dispute : dispute + 1]
        value = known[0].bond << known[0].level + 1 if known and paid else 0
        self.do("appeal", sender, dispute, value=value)

    @step(which=disputes)
    def close_dispute(self, which: int) -> None:
        alive = [dispute for dispute, d in enumerate(self.model.disputes) if d.is_open]
        self.end(alive[which % len(alive)] if alive else which)

    def end(self, dispute: int) -> None:
        won = self.model.disputes[dispute].won if dispute < len(self.model.disputes) else 0
        if self.do("closeDispute", STRANGER, dispute):
            d = self.model.disputes[dispute]
            self.reach(f"closeDispute {d.kind.name} {d.status.name}{' won' if won else ''}")
            if len(d.juries) > 1:
                self.reach(f"closeDispute after {len(d.juries)} juries: {d.status.name}")

    # All of it.

    @rule(steps=st.deferred(lambda: st.lists(STEP, min_size=2, max_size=12)))
    def few_steps(self, steps: list[tuple[str, dict[str, Any]]]) -> None:
        for name, arguments in steps:
            getattr(self, name)(**arguments)

    @rule(
        task=tasks,
        terms=params,
        story=whole_rounds,
        more=st.none() | whole_rounds,
        back=backs,
        challenger=challengers,
        history=st.lists(levels, min_size=3, max_size=3),
        both=st.booleans(),
        hasty=seldom,
    )
    def disputed_round(
        self,
        task: int,
        terms: Params,
        story: dict[str, Any],
        more: dict[str, Any] | None,
        back: int,
        challenger: str,
        history: list[dict[str, Any]],
        both: bool,
        hasty: bool,
    ) -> None:
        """Make a round and perhaps another on top of it, and take a challenge of one through its juries.

        If both are challenged, there is an appeal about one before the other is decided.
        """
        task = self.lively(task, terms)
        pool = self.model.pools.get(task, [])
        few = sum(self.model.still_serves(task, i) for i in pool) < PARTICIPANTS - 2
        self.have_judges(task, EVERYBODY if few else 0)
        for round_ in (story, more or (story if both else None)):
            if round_:
                self.whole_round(task, smooth(round_))
        dispute = len(self.model.disputes)
        self.challenge(task, back, challenger, True)
        if dispute == len(self.model.disputes):
            return
        d = self.model.disputes[dispute]
        if both:
            self.challenge(task, back + 1, STRANGER, True)
            if (other := dispute + 1) < len(self.model.disputes):
                self.hear(other, self.model.disputes[other], history[0])
                self.do("appeal", OWNERS[0], other, value=2 * self.model.disputes[other].bond)
        for plan in history:
            level = d.level
            self.hear(dispute, d, plan)
            if d.is_open and d.level == level and plan["appeal"]:
                self.appeal(dispute, STRANGER, True)
            if d.level == level:
                break
        if not hasty:
            self.wait(DISPUTE_PERIOD)
        self.end(dispute)
        for other in range(len(self.model.disputes)):
            if self.model.disputes[other].is_open:
                self.end(other)

    def hear(self, dispute: int, d: Dispute, plan: dict[str, Any]) -> None:
        """Take the last jury of a dispute from its call to its decision."""
        for who in chosen(range(PARTICIPANTS), plan["leavers"]):
            self.leave_service(who, d.task, plan["leave"])
        self.wait(0, LONG if plan["forgotten"] else 1)
        if plan["back"]:
            self.have_judges(d.task, plan["leavers"])
        if not plan["undrawn"]:
            self.draw(dispute, 1)
        if plan["forgotten"]:
            self.draw(dispute, 2)
        turn = TURNS.get(plan["turn"], {})
        found = {i: plan["findings"][k].translate(turn) for k, i in enumerate(d.jury.members)}
        self.commit_votes(dispute, found)
        self.unseal(dispute, d.jury.members[0] if d.jury.members else 0, False)
        if len(d.jury.votes) < len(d.jury.members):
            self.wait(DISPUTE_PERIOD)
        for i, saying in found.items():
            if saying not in "sc" and i not in d.jury.found:
                self.unseal(dispute, i, False)
        if not d.jury.complete:
            self.wait(max(0, (d.jury.reveals_until or d.jury.draw_until) - self.model.now))
        finding = None if d.jury.decided else d.jury
        self.decide(dispute)
        if finding and finding.decided:
            self.reach(f"decide {finding.says.name}")

    def commit_votes(self, dispute: int, found: dict[int, str]) -> None:
        """Let jurors commit to what they found, also who will not reveal it (c), but not who is silent (s)."""
        for i, saying in found.items():
            if saying != "s":
                self.vote(dispute, i, "y" if saying == "c" else saying, False)

    def let_disputes_run_out(self, task: int) -> None:
        """Nobody votes any more: every dispute ends by time and a stranger, who may have juries drawn."""
        for dispute, d in enumerate(self.model.disputes):
            if d.task == task and d.is_open:
                self.push_dispute(dispute)

    def push_dispute(self, dispute: int) -> None:
        """Do what anyone may do for a dispute, which ends within the periods of its juries."""
        d, begun = self.model.disputes[dispute], self.model.now
        while d.is_open:
            moot = self.task_of(d).rounds[d.number - 1].status is RoundStatus.VOIDED
            jury = d.jury if d.juries and not moot and not d.jury.decided else None
            if jury and not jury.commits_until and dispute % 2:
                self.wait(0)
                self.do("drawJury", STRANGER, dispute)
            until = (jury.reveals_until or jury.draw_until) if jury else 0 if moot else d.deadline
            self.wait(max(0, until - self.model.now))
            if jury:
                assert self.do("decide", STRANGER, dispute)
            else:
                self.end(dispute)
        assert self.model.now - begun <= DISPUTE_PERIODS * (1 + self.model.terms.appeals) * DISPUTE_PERIOD

    # What the rules share.

    def lively(self, task: int, terms: Params) -> int:
        """Return a task whose proposals can be challenged, batched if the terms are; a new one if need be."""
        fit = [
            number
            for number, t in enumerate(self.model.tasks, 1)
            if t.params.challenge_window and t.params.batched >= terms.batched
            if not t.finished and not t.stopped and t.counted < t.params.rounds
            if len(t.enrolled) >= t.params.min_participants
        ]
        if not fit and len(self.model.tasks) < TASKS:
            self.post(PUBLISHERS[0], self.fit(replace(terms, challenge_window=30, min_reputation=0)), (), EVERYBODY)
            return len(self.model.tasks)
        return task if task in fit or not fit else fit[-1]

    def standing(self, task: int, back: int) -> int:
        """Return the number of a round that can be challenged, or of any."""
        t = self.task(task)
        proposed = [number for number, r in enumerate(t.rounds, 1) if r.status is RoundStatus.PROPOSED] if t else []
        return proposed[back % len(proposed)] if proposed else self.number(task, back)

    def known(self, which: int) -> int:
        """Return a dispute: an open one about a round that stands, counted from the last, if there is one."""
        alive = [
            dispute
            for dispute, d in enumerate(self.model.disputes)
            if d.is_open and d.kind is DisputeKind.REPLAY and self.task_of(d).rounds[d.number - 1].status == 2
        ]
        if which in alive or not alive:
            return which
        return alive[which % len(alive)]

    def dispute(self, which: int, kind: DisputeKind) -> int | None:
        found = [k for k, d in enumerate(self.model.disputes) if d.kind is kind]
        return found[-1 - which % len(found)] if found else None

    def task_of(self, d: Dispute) -> Task:
        return self.model.tasks[d.task - 1]

    def juror(self, who: int) -> str:
        """Return the account by which a participant votes: its owner or its signer."""
        return OWNERS[who] if who % 2 else self.signer(who)

    def listed(self, task: int, number: int, who: int) -> list[bytes]:
        root = self.roots.get((task, number))
        return root.of(who) if root else []

    def posted(self, task: int, number: int, other: bool) -> Posted:
        """Return the proposal of a round, or something else."""
        r = self.round(task, number)
        return Posted(r.outcome if r and r.outcome and not other else Outcome((ZERO, 0), {0: Verdict.ACCEPTED}, {}))

    def claim(
        self, task: int, number: int, who: int, digest: bytes, signer: str, proof: tuple[bytes, ...] = ()
    ) -> Claim:
        signature = signed(self.model.chain_id, self.model.address, task, number, who, digest, signer)
        return Claim(digest, signature, proof)


@lru_cache(maxsize=65_536)
def signed(chain_id: int, contract: str, task: int, number: int, who: int, digest: bytes, signer: str) -> bytes:
    key = KEYS.get(signer, keccak(text=signer))
    return sign(commitment_message((chain_id, to_checksum_address(contract), task), number, who, digest), key)


QUIET: dict[str, Any] = {
    "scoring": {
        **dict.fromkeys(("bad", "wild", "missing", "on_chain"), 0),
        **dict.fromkeys(("listed", "committing", "revealing"), EVERYBODY),
        **dict.fromkeys(("wrong", "flaw")),
        **{"blocks": 1, "early": False, "turns": (0, 0), "lapse": False},
    },
    "mask": EVERYBODY,
    "silent": 0,
    "alone": 0,
    "given": [1] * PARTICIPANTS,
    "stack": False,
    "ready": False,
    "hasty": False,
    "lapse": False,
    "early": False,
    "fewer": 0,
    "slandered": None,
    "false": None,
    "leavers": 0,
    "wrong": None,
    "turns": (0, 0, 0),
    "kind": "own",
    "limit": ALL_WORDS,
    "pause": 0,
    "meanwhile": [],
}
"""A round in which everybody does as it should."""
TWICE = {"leave_task"}
"""Steps that many histories would otherwise be without."""
STEP = st.one_of(
    *(
        st.tuples(st.just(name), st.fixed_dictionaries(arguments))
        for name, arguments in STEPS
        for _ in range(1 + (name in TWICE))
    )
)
