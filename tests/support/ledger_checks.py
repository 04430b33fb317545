"""What the ledger has to do about committed data and spot checks, as plain Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from eth_utils.address import to_checksum_address

from fedledger.contracts.ledger.checks import auditors_hash, findings_hash
from fedledger.contracts.ledger.records import CheckState, RoundStatus
from fedledger.protocol.records.reputation import Evidence
from fedledger.protocol.records.signatures import data_message, recover
from fedledger.protocol.records.spot_checks import drawn, second_auditor
from fedledger.protocol.records.verdicts import Verdict
from support.evm import block_hash
from support.ledger_model import DAY, FAILED_CHECK, Rounds
from support.ledger_records import ZERO, Check, Fault, Found, Posted, Ref, Refused, Round, Task, invalid, named, refuse

APPEAL_SHARE = 4
FOREVER = 2**256 - 1
SUMMONS, ANSWERS, FINDINGS, APPEALS, SECOND_FINDINGS = range(1, 6)
"""So many periods after the proposal each of them is over."""
APPEALED = CheckState.APPEALED, CheckState.CLEARED, CheckState.CONFIRMED
ENDS = {CheckState.SUMMONED: ANSWERS, CheckState.FAILED: APPEALS, CheckState.APPEALED: SECOND_FINDINGS}


class Checks(Rounds):
    """The ledger with checks."""

    @property
    def owed(self) -> int:
        return super().owed + sum(self.bonds(t) for t in self.tasks)

    def bonds(self, t: Task) -> int:
        """Return what a task's appeals that have not ended hold."""
        return appeal_bond(t) * sum(c.state in APPEALED for r in t.rounds for c in r.checks.values())

    # Committed data.

    def commit_data(self, sender: str, value: int, task: int, word: int) -> None:
        t, i = self.running(task), self.of_sender(sender)
        refuse(*self.no_data(t, i, word))
        self.emit("DataCommitted", task, i, word)

    def commit_data_of(
        self, sender: str, value: int, task: int, ids: Sequence[int], words: Sequence[int], signatures: Sequence[bytes]
    ) -> None:
        t = self.running(task)
        refuse((not len(ids) == len(words) == len(signatures), "LengthMismatch"))
        place, following = (self.chain_id, to_checksum_address(self.address), task), len(t.rounds) + 1
        for i, word, signature in zip(ids, words, signatures, strict=True):
            signer = (recover(data_message(place, following, i, word), signature) or "").lower()
            known = self.of_signer(signer)
            refuse(
                (known is None, "NotRegistered", signer),
                (known is not None and known != i, "WrongSignature", signer),
                *self.no_data(t, i, word),
            )
        for i, word in zip(ids, words, strict=True):
            self.emit("DataCommitted", task, i, word)

    def no_data(self, t: Task, i: int, word: int) -> Iterator[Fault]:
        yield word % 2**32 == 0, *invalid("word")
        yield i not in t.enrolled, "NotInTask", self.number_of(t), i

    # Checks.

    def summon(self, sender: str, value: int, task: int, number: int, ids: Sequence[int], posted: Posted) -> None:
        t, r = self.standing(task, number, SUMMONS)
        last = max(k for k in range(number, len(t.rounds) + 1, t.params.max_unfinal) if t.rounds[k - 1].outcome)
        kept = t.rounds[last - 1].outcome
        assert kept is not None and r.outcome is not None
        seed = block_hash(r.proposed_block, self.block) if last == number else ZERO
        refuse(
            (posted.outcome.hash != kept.hash, "WrongProposal", kept.hash, posted.outcome.hash),
            (seed == ZERO, "DrawUnknown", task, number),
        )
        summoned: dict[int, Check] = {}
        for i in ids:
            place = drawn(seed, task, number, i, t.params.check_rate, t.params.auditor_count)
            state = (summoned | r.checks).get(i, Check()).state
            refuse(
                (place is None or r.outcome.verdict(i) is not Verdict.ACCEPTED, "NotDrawn", i),
                (state is not CheckState.NONE, "WrongCheck", i, state),
            )
            summoned[i] = Check(CheckState.SUMMONED, place or 0)
        r.checks.update(summoned)
        self.emit("Summoned", task, number, seed, ids)

    def answer_check(
        self, sender: str, value: int, task: int, number: int, box: Ref, opening: bytes, claim: bytes
    ) -> None:
        i = self.of_sender(sender)
        self.move(self.standing(task, number, ANSWERS)[1], i, CheckState.SUMMONED, CheckState.ANSWERED)
        self.emit("CheckAnswered", task, number, i, box, opening, claim)

    def post_findings(
        self,
        sender: str,
        value: int,
        task: int,
        auditors: Sequence[str],
        place: int,
        found: Found,
        salt: bytes,
        following: bytes,
    ) -> None:
        t = self.audited(sender, task, auditors)
        refuse((place >= len(auditors) or auditors[place] != sender, "NotAuditor", sender))
        if found.rounds:
            computed, expected = findings_hash(task, place, found.rounds, salt), t.findings.get(place, ZERO)
            refuse((computed != expected, "WrongFindings", expected, computed))
            before = {r_: dict(r.checks) for r_, r in enumerate(t.rounds, 1)}
            try:
                for each in found.rounds:
                    refuse((len(each.transcripts) != len(each.passed), "LengthMismatch"))
                    for passes, ids in ((True, each.passed), (False, each.failed)):
                        for i in ids:
                            self.say(sender, task, each.round, i, place, passes)
            except Refused:
                for r_, checks in before.items():
                    t.rounds[r_ - 1].checks = checks
                raise
            self.emit("FindingsRevealed", task, place, *found.abi(), salt)
        t.findings[place] = following
        if following != ZERO:
            self.emit("FindingsCommitted", task, place, following)

    def say(self, sender: str, task: int, number: int, i: int, place: int, passes: bool) -> None:
        """Take the word of the first auditor of a check or, after an appeal, of the second one."""
        t = self.tasks[task - 1]
        check = t.rounds[number - 1].checks.get(i, Check()) if 1 <= number <= len(t.rounds) else Check()
        appealed = check.state is CheckState.APPEALED
        wrong = self.unfit(task, number, SECOND_FINDINGS if appealed else FINDINGS)
        refuse(
            (check.auditor != place, "NotAuditor", sender),
            *wrong,
            (check.state not in (CheckState.ANSWERED, CheckState.APPEALED), "WrongCheck", i, check.state),
        )
        if appealed:
            state = CheckState.CLEARED if passes else CheckState.CONFIRMED
        else:
            state = CheckState.PASSED if passes else CheckState.FAILED
        t.rounds[number - 1].checks[i] = Check(state, place)

    def appeal_check(
        self, sender: str, value: int, task: int, number: int, box: Ref, opening: bytes, claim: bytes
    ) -> None:
        i = self.of_sender(sender)
        refuse((self.participants[i].owner != sender, "NotRegistered", sender))
        t, r = self.standing(task, number, APPEALS)
        state = r.checks.get(i, Check()).state
        refuse(
            (state is not CheckState.FAILED, "WrongCheck", i, state),
            self.lacks(sender, value, appeal_bond(t)),
        )
        self.take(sender, value, appeal_bond(t))
        r.checks[i] = Check(CheckState.APPEALED, second_auditor(r.checks[i].auditor, t.params.auditor_count))
        self.emit("CheckAppealed", task, number, i, box, opening, claim)

    def end_checks(
        self, sender: str, value: int, task: int, number: int, ids: Sequence[int], auditors: Sequence[str]
    ) -> None:
        t = self.audited(sender, task, auditors)
        r = t.rounds[number - 1] if 1 <= number <= len(t.rounds) else None
        over = r is not None and r.status in (RoundStatus.SETTLED, RoundStatus.VOIDED)
        refuse((not over, "NotInTime", 0, 0))
        assert r is not None
        for place, i in enumerate(ids):
            refuse(*self.unended(t, r, i, i in ids[:place]))
        for i in ids:
            self.end_check(t, number, r, i, auditors)

    def unended(self, t: Task, r: Round, i: int, again: bool) -> Iterator[Fault]:
        """Yield why a check cannot be ended; ``again``: it has just been."""
        state = r.checks.get(i, Check()).state
        if again:
            state = CheckState.ENDED if self.fails(r, state) else CheckState.PASSED
        since = r.proposed + ENDS.get(state, 0) * t.params.check_period
        yield state not in ENDS and state not in APPEALED, "WrongCheck", i, state
        yield r.status is RoundStatus.SETTLED and state in ENDS and self.now < since, "NotInTime", since, FOREVER

    def fails(self, r: Round, state: CheckState) -> bool:
        """Whether a check is lost that ends in this state: not if its round fell, or a second auditor was silent."""
        lost = state in (CheckState.SUMMONED, CheckState.FAILED, CheckState.CONFIRMED)
        return lost and r.status is RoundStatus.SETTLED

    def end_check(self, t: Task, number: int, r: Round, i: int, auditors: Sequence[str]) -> None:
        check, task, bond = r.checks[i], self.number_of(t), appeal_bond(t)
        failed = self.fails(r, check.state)
        r.checks[i] = Check(CheckState.ENDED if failed else CheckState.PASSED, check.auditor)
        if check.state in APPEALED and failed:
            self.credit(auditors[check.auditor], bond // 2)
            self.burn(bond - bond // 2)
        elif check.state in APPEALED:
            self.credit(self.participants[i].owner, bond)
        if failed:
            self.burn(self.slash(i, t.params.check_penalty, task, number, FAILED_CHECK))
            known = self.evidence.get((t.publisher, i), Evidence())
            self.evidence[t.publisher, i] = known.after_failed_check()
            self.judged_on[t.publisher, i] = self.now // DAY
        self.emit("CheckEnded", task, number, i, failed)

    # What these share.

    def move(self, r: Round, i: int, before: CheckState, after: CheckState) -> None:
        check = r.checks.get(i, Check())
        refuse((check.state is not before, "WrongCheck", i, check.state))
        r.checks[i] = Check(after, check.auditor)

    def standing(self, task: int, number: int, periods: int) -> tuple[Task, Round]:
        """Return a task and a round of it that stands, before so many check periods have passed."""
        refuse(*self.unfit(task, number, periods))
        return self.tasks[task - 1], self.tasks[task - 1].rounds[number - 1]

    def unfit(self, task: int, number: int, periods: int) -> list[Fault]:
        """Return why nothing can be done about checks of a round any more, or never could."""
        t = self.tasks[task - 1] if 1 <= task <= len(self.tasks) else None
        r = t.rounds[number - 1] if t and 1 <= number <= len(t.rounds) else None
        if t is None or r is None or r.status not in (RoundStatus.PROPOSED, RoundStatus.SETTLED):
            return [(True, "NotProposed", task, number)]
        until = r.proposed + periods * t.params.check_period
        return [(self.now >= until, "NotInTime", 0, until)]

    def audited(self, sender: str, task: int, auditors: Sequence[str]) -> Task:
        """Return the task whose auditors these are."""
        t = self.tasks[task - 1] if 1 <= task <= len(self.tasks) else None
        if t is None or not auditors or t.params.auditors != auditors_hash(auditors):
            raise Refused(named([(True, "NotAuditor", sender)]))
        return t


def appeal_bond(t: Task) -> int:
    """Return what an appeal against a check of a task costs: a part of its penalty, rounded up."""
    return -(-t.params.check_penalty // APPEAL_SHARE)
