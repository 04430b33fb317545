"""Random histories of the ledger beside the model's: committed data and spot checks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from hypothesis import strategies as st
from hypothesis.stateful import rule

from fedledger.contracts.ledger.checks import RoundFindings, findings_hash
from fedledger.contracts.ledger.records import CheckState, Phase
from fedledger.protocol.records.signatures import data_message, sign
from fedledger.protocol.records.spot_checks import drawn
from fedledger.protocol.records.verdicts import Verdict
from support.evm import block_hash
from support.ledger_checks import APPEALED, ENDS, SECOND_FINDINGS, appeal_bond
from support.ledger_machine import (
    AUDITORS,
    EVERYBODY,
    KEYS,
    NO_AUDITORS,
    OWNERS,
    PARTICIPANTS,
    PUBLISHERS,
    STRANGER,
    TASKS,
    RoundsMachine,
    chosen,
    masks,
    params,
    participants,
    seldom,
    smooth,
    step,
    tasks,
    whole_rounds,
)
from support.ledger_records import ZERO, Check, Found, Outcome, Params, Posted, Ref, Round

BOX: Ref = (keccak(b"box"), 1234)
OPENING, CLAIM, SECRET = keccak(b"opening"), keccak(b"claim"), keccak(b"salt of findings")
WORDS = (keccak(b"root")[:28] + (60_000).to_bytes(4, "big"), bytes(28) + b"\0\0\0\1", keccak(b"root")[:28] + bytes(4))
backs = st.integers(0, 2)
pauses = st.sampled_from(
    [(0, 0, 0, 0), (0, 0, 0, 0), (1, 1, 1, 1), (2, 0, 0, 0), (1, 2, 0, 0), (0, 2, 1, 0), (0, 1, 1, 2)]
)
plans = st.fixed_dictionaries(
    {
        "summoned": st.just(EVERYBODY) | masks,
        "answering": st.just(EVERYBODY) | masks,
        "judged": st.just(EVERYBODY) | masks,
        "passing": masks,
        "appealing": st.just(EVERYBODY) | masks,
        "granted": masks,
        "heard": st.just(EVERYBODY) | masks,
        "pauses": pauses,
        "early": st.booleans(),
        "settled": st.sampled_from([True, True, True, False]),
        "patient": st.sampled_from([True, True, False]),
        "again": st.booleans(),
    }
)


class ChecksMachine(RoundsMachine):
    """The same, and participants whose updates are checked."""

    # Committed data.

    @step(task=tasks, who=participants, owned=st.booleans(), word=st.sampled_from([0, 1, 2]))
    def commit_data(self, task: int, who: int, owned: bool, word: int) -> None:
        sender = OWNERS[who] if owned else self.signer(who)
        self.do("commitData", sender, task, int.from_bytes(WORDS[word], "big"))

    @step(task=tasks, mask=masks, ahead=st.sampled_from([1, 1, 1, 0]), other=st.none() | participants, odd=seldom)
    def commit_data_of(self, task: int, mask: int, ahead: int, other: int | None, odd: bool) -> None:
        """Post what participants signed for the next round or for this one, or one of them for another."""
        if (t := self.task(task)) is None:
            return
        who = chosen(sorted(t.enrolled), mask)
        word, place = (
            int.from_bytes(WORDS[0], "big"),
            (self.model.chain_id, to_checksum_address(self.model.address), task),
        )
        signers = [self.signer(other if other is not None and i == who[0] else i) for i in who]
        messages = [data_message(place, len(t.rounds) + ahead, i, word) for i in who]
        signatures = tuple(sign(m, KEYS.get(by, keccak(text=by))) for m, by in zip(messages, signers, strict=True))
        words = (word,) * (len(who) + odd)
        if self.do("commitDataOf", STRANGER, task, tuple(who), words, signatures) and who:
            self.reach("commitDataOf somebody")

    # Checks, step by step.

    @step(task=tasks, back=backs, mask=masks, fit=st.booleans(), altered=seldom)
    def summon(self, task: int, back: int, mask: int, fit: bool, altered: bool) -> None:
        """Summon whoever is named, or of them those who are drawn."""
        number = self.number(task, back)
        t, r = self.task(task), self.round(task, number)
        ids = self.drawn(task, number, mask) if fit else tuple(chosen(range(PARTICIPANTS), mask))
        outcome = r.outcome if r and r.outcome and not altered else Outcome((ZERO, 0), {0: Verdict.ACCEPTED}, {})
        if self.do("summon", STRANGER, task, number, ids, Posted(outcome)) and ids:
            assert t is not None and r is not None
            self.reach(f"summon of somebody {r.status.name}")

    @step(task=tasks, back=backs, mask=masks, owned=st.booleans(), all_=seldom)
    def answer_checks(self, task: int, back: int, mask: int, owned: bool, all_: bool) -> None:
        number = self.number(task, back)
        asked = range(PARTICIPANTS) if all_ else self.in_state(task, number, CheckState.SUMMONED)
        for i in chosen(asked, mask):
            self.do("answerCheck", OWNERS[i] if owned else self.signer(i), task, number, BOX, OPENING, CLAIM)

    @step(
        task=tasks,
        back=backs,
        mask=masks,
        passing=masks,
        both=st.booleans(),
        wrong=st.sampled_from(
            [None] * 9 + ["place", "salt", "sender", "list", "transcripts", "anybody", "uncommitted"]
        ),
    )
    def find(self, task: int, back: int, mask: int, passing: int, both: bool, wrong: str | None) -> None:
        """Let each auditor commit to what it found in a round, or in two, and reveal it; or something else."""
        if (t := self.task(task)) is None or t.params.auditors == ZERO:
            return
        auditors = AUDITORS[t.params.auditors]
        numbers = [self.number(task, back), *([self.number(task, back + 1)] if both else [])]
        for place, auditor in enumerate(auditors):
            told = tuple(
                self.findings(self.judgeable(task, number, place, wrong == "anybody"), number, mask, passing, wrong)
                for number in dict.fromkeys(numbers)
            )
            found = Found(tuple(each for each in told if each.passed or each.failed))
            if not found.rounds:
                continue
            value = findings_hash(task, place, found.rounds, SECRET)
            if wrong != "uncommitted":
                self.do("postFindings", auditor, task, auditors, place, Found(), ZERO, value)
            sender = STRANGER if wrong == "sender" else auditor
            given = NO_AUDITORS if wrong == "list" else auditors
            salt = ZERO if wrong == "salt" else SECRET
            at = (place + 1) % (len(auditors) + 1) if wrong == "place" else place
            if self.do("postFindings", sender, task, given, at, found, salt, value if mask & 1 else ZERO):
                self.reach("postFindings revealed" + (" of two rounds" if len(found.rounds) > 1 else ""))

    @step(
        task=tasks, back=backs, mask=masks, short=seldom, owned=st.sampled_from([True, True, True, False]), any_=seldom
    )
    def appeal_checks(self, task: int, back: int, mask: int, short: bool, owned: bool, any_: bool) -> None:
        if (t := self.task(task)) is None:
            return
        number = self.number(task, back)
        for i in chosen(range(PARTICIPANTS) if any_ else self.in_state(task, number, CheckState.FAILED), mask):
            sender, bond = OWNERS[i] if owned else self.signer(i), max(0, appeal_bond(t) - short)
            self.do("appealCheck", sender, task, number, BOX, OPENING, CLAIM, value=bond)

    @step(task=tasks, back=backs, mask=masks, fit=st.booleans(), twice=seldom, other=seldom)
    def end_checks(self, task: int, back: int, mask: int, fit: bool, twice: bool, other: bool) -> None:
        """End the checks of whoever is named, or of them those that are neither passed nor ended."""
        if (t := self.task(task)) is None:
            return
        number = self.number(task, back)
        waiting = [i for state in (*ENDS, *APPEALED) for i in self.in_state(task, number, state)]
        ids = tuple(chosen(sorted(set(waiting)), mask)) if fit else tuple(chosen(range(PARTICIPANTS), mask))
        auditors = AUDITORS.get(t.params.auditors, NO_AUDITORS)
        self.end_all(task, number, ids + ids[:twice], NO_AUDITORS if other else auditors)

    # All of it.

    @rule(task=tasks, terms=params, story=whole_rounds, more=st.none() | whole_rounds, plan=plans)
    def checked_round(
        self, task: int, terms: Params, story: dict[str, Any], more: dict[str, Any] | None, plan: dict[str, Any]
    ) -> None:
        """Make a round, and perhaps one on top of it, and take its checks as far as the plan says."""
        task = self.checkable(task, terms)
        self.whole_round(task, smooth(story))
        self.take_checks(task, 0, plan)
        if more and plan["again"]:
            self.whole_round(task, smooth(more))
            self.take_checks(task, 0, plan | {"pauses": (0, 0, 0, 0)})

    def take_checks(self, task: int, back: int, plan: dict[str, Any]) -> None:
        """Take the checks of a round through their steps."""
        number = self.number(task, back)
        if (t := self.task(task)) is None or not t.params.check_rate:
            return
        period, early = t.params.check_period, plan["early"]

        def pause(k: int) -> None:
            self.wait(max(0, plan["pauses"][k] * period - early))

        self.wait(0)
        self.summon(task, back, plan["summoned"], True, False)
        pause(0)
        self.answer_checks(task, back, plan["answering"], bool(plan["passing"] & 1), False)
        pause(1)
        self.find(task, back, plan["judged"], plan["passing"], plan["again"], None)
        pause(2)
        self.appeal_checks(task, back, plan["appealing"], False, True, False)
        pause(3)
        self.find(task, back, plan["heard"], plan["granted"], False, None)
        if plan["settled"]:
            self.skip(t, Phase.CHALLENGING)
            for _ in range(t.final, number):
                self.push(task)
        if plan["patient"] and (r := self.round(task, number)):
            self.wait(max(0, r.proposed + SECOND_FINDINGS * period - early - self.model.now))
        self.end_checks(task, back, EVERYBODY, True, False, False)

    def let_checks_run_out(self, task: int) -> None:
        """Once all is final, time and a stranger end every check that somebody can lose by or has a bond in."""
        t = self.model.tasks[task - 1]
        for number, r in enumerate(t.rounds, 1):
            waiting = tuple(i for i, c in sorted(r.checks.items()) if c.state in ENDS or c.state in APPEALED)
            if waiting:
                self.wait(max(0, r.proposed + SECOND_FINDINGS * t.params.check_period - self.model.now))
                assert self.end_all(task, number, waiting, AUDITORS[t.params.auditors])

    # What the rules share.

    def end_all(self, task: int, number: int, ids: tuple[int, ...], auditors: tuple[str, ...]) -> bool:
        r = self.round(task, number)
        before = dict(r.checks) if r else {}
        if not self.do("endChecks", STRANGER, task, number, ids, auditors):
            return False
        assert r is not None
        for i in ids:
            self.reach(f"endChecks {before[i].state.name} {r.status.name}")
        return True

    def checkable(self, task: int, terms: Params) -> int:
        """Return a task with checks whose rounds can go on; a new one if need be."""
        going = [
            number
            for number, t in enumerate(self.model.tasks, 1)
            if t.params.check_rate and not t.finished and not t.stopped and t.counted < t.params.rounds
            if not t.lacks_participants
        ]
        if not going and len(self.model.tasks) < TASKS:
            fine = replace(terms, challenge_window=30, min_reputation=0, min_stake=max(1, terms.min_stake))
            self.post(PUBLISHERS[0], self.fit(fine), (), EVERYBODY)
            return len(self.model.tasks)
        return task if task in going or not going else going[-1]

    def drawn(self, task: int, number: int, mask: int) -> tuple[int, ...]:
        """Return those of a mask who are drawn to be checked and not summoned yet."""
        t, r = self.task(task), self.round(task, number)
        if t is None or r is None or r.outcome is None:
            return ()
        seed, rate, count = block_hash(r.proposed_block, self.model.block), t.params.check_rate, t.params.auditor_count
        return tuple(
            i
            for i in chosen(range(PARTICIPANTS), mask)
            if rate and drawn(seed, task, number, i, rate, count) is not None
            if r.outcome.verdict(i) is Verdict.ACCEPTED and i not in r.checks
        )

    def in_state(self, task: int, number: int, state: CheckState) -> list[int]:
        r: Round | None = self.round(task, number)
        return sorted(i for i, check in r.checks.items() if check.state is state) if r else []

    def judgeable(self, task: int, number: int, place: int, anybody: bool) -> list[int]:
        """Return whose checks an auditor has to decide, or that of one more."""
        r = self.round(task, number)
        checks: dict[int, Check] = r.checks if r else {}
        open_ = (CheckState.ANSWERED, CheckState.APPEALED)
        mine = [i for i, check in sorted(checks.items()) if check.auditor == place and check.state in open_]
        return mine + [i for i in range(PARTICIPANTS) if i not in mine][:anybody]

    def findings(self, ids: list[int], number: int, mask: int, passing: int, wrong: str | None) -> RoundFindings:
        told = chosen(ids, mask)
        passed = tuple(chosen(told, passing))
        transcripts = tuple(keccak(bytes([i])) for i in passed)
        if wrong == "transcripts":
            transcripts += (ZERO,)
        return RoundFindings(number, passed, tuple(i for i in told if i not in passed), transcripts)
