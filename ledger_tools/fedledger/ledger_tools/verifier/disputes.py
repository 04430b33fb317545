"""How a verifier brings disputes on: it draws juries, has votes counted, appeals and closes, as anybody may."""

from __future__ import annotations

from functools import partial

from fedledger.contracts.ledger.actor import Action, Step
from fedledger.contracts.ledger.court_records import JuryRecord
from fedledger.contracts.ledger.dispute_history import DisputeHistory, JuryHistory
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.records import DisputeKind, Finding
from fedledger.contracts.ledger.waits import Wait
from fedledger.ledger_tools.audit.replay import Replay
from fedledger.ledger_tools.verifier.context import Context, Things
from fedledger.ledger_tools.verifier.objections import can_bond
from fedledger.ledger_tools.verifier.replays import Replays


class Disputes:
    """The duty to bring on the disputes that concern the verifier."""

    def __init__(self, context: Context, replays: Replays) -> None:
        self.context = context
        self.replays = replays
        self._deadlines: dict[tuple[int, int], int] = {}

    def __call__(self, history: History) -> Step | None:
        """Draw, count, appeal or close where that is due."""
        concerning = [dispute for dispute in self.context.disputes() if self.context.concerns(dispute)]
        now = self.context.access.ledger.chain.now() if concerning else 0
        open_: Things = {(dispute.id,): partial(self._push, dispute, now) for dispute in concerning}
        return self.context.first_due("dispute", open_)

    def _push(self, dispute: DisputeHistory, now: int) -> Step | None:
        """Bring a dispute on, whatever its kind."""
        if self.context.round(dispute).voided:
            return self._close(dispute)
        if dispute.kind is DisputeKind.COMMITMENT:
            return self._close(dispute) if now >= self._shown_until(dispute) else None
        return self._bring_on(dispute, now)

    def wait(self, dispute: DisputeHistory) -> Wait:
        """Return what an open dispute waits for."""
        name, ledger = f"dispute {dispute.id}", self.context.access.ledger
        if dispute.kind is DisputeKind.COMMITMENT:
            return Wait(f"the commitment that {name} demands", self._shown_until(dispute))
        level, jury = len(dispute.juries) - 1, dispute.juries[-1]
        if jury.decided:
            return Wait(f"appeals in {name}", ledger.dispute(dispute.id).deadline)
        record = ledger.jury(dispute.id, level)
        if jury.members is None:
            return Wait(f"the jury of {name} to be drawn", record.draw_until)
        if len(jury.committed) < len(jury.members) and ledger.chain.now() < record.commits_until:
            return Wait(f"the jury of {name} to commit to its votes", record.commits_until)
        return Wait(f"the jury of {name} to reveal its votes", record.reveals_until)

    def _shown_until(self, dispute: DisputeHistory) -> int:
        """Return when a demand that was not answered is won; asked once, as there may be many."""
        key = dispute.id, self.context.access.history.folds
        if key not in self._deadlines:
            self._deadlines[key] = self.context.access.ledger.dispute(dispute.id).deadline
        return self._deadlines[key]

    def _bring_on(self, dispute: DisputeHistory, now: int) -> Step | None:
        access, level, jury = self.context.access, len(dispute.juries) - 1, dispute.juries[-1]
        record = access.ledger.jury(dispute.id, level)
        if not jury.decided:
            return self._decide(dispute, level, record, now)
        if now >= access.ledger.dispute(dispute.id).deadline:
            return self._close(dispute)
        return self._appeal(dispute, level, jury, record)

    def _decide(self, dispute: DisputeHistory, level: int, record: JuryRecord, now: int) -> Step | None:
        """Draw the jury, or have its votes counted."""
        access, jury = self.context.access, dispute.juries[-1]
        drawn = jury.members is not None
        if not drawn and now < record.draw_until:
            known = access.ledger.chain.block_number() >= jury.draw_block
            if not known or not self._may_push(dispute, level, "draw", jury.draw_block):
                return None
            access.ledger.draw_jury(access.account, dispute.id)
            return _step(Action.DREW, dispute)
        revealed = bool(jury.members) and len(jury.revealed) == len(jury.members or ())
        due = revealed or now >= (record.reveals_until if drawn else record.draw_until)
        if not due or not self._may_push(dispute, level, "decide"):
            return None
        access.ledger.decide(access.account, dispute.id)
        return _step(Action.DECIDED, dispute)

    def _appeal(self, dispute: DisputeHistory, level: int, jury: JuryHistory, record: JuryRecord) -> Step | None:
        higher = level < self.context.settings.appeals and record.pool > len(record.members)
        decided = jury.finding in (Finding.VALID, Finding.INVALID)
        if not (self.context.service.appeal and higher and decided):
            return None
        access, current = self.context.access, self.context.round(dispute)
        task = access.history.task(dispute.task)
        found = self.replays.replayed(task, current, self.context.settings.dispute_period)
        # What is missing here may be there elsewhere, so that it is no reason to call a jury wrong.
        sure = isinstance(found, Replay) and found.checked and not found.missing and found.finding is not jury.finding
        bond = dispute.bond << (level + 1)
        if not sure or not can_bond(self.context, task, current, bond) or not self._may_push(dispute, level, "appeal"):
            return None
        access.ledger.appeal(access.account, dispute.id, bond)
        return _step(Action.APPEALED, dispute)

    def _close(self, dispute: DisputeHistory) -> Step | None:
        if not self._may_push(dispute, len(dispute.juries), "close"):
            return None
        self.context.access.ledger.close_dispute(self.context.access.account, dispute.id)
        return _step(Action.CLOSED_DISPUTE, dispute)

    def _may_push(self, dispute: DisputeHistory, *what: object) -> bool:
        return self.context.is_turn(dispute.id, self.context.settings.dispute_period, dispute.id, *what)


def _step(action: Action, dispute: DisputeHistory) -> Step:
    return Step(action, dispute.task, dispute.round, dispute.id)
