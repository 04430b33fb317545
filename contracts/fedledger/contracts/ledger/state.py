"""The ledger's state as its logs tell it, one event after another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Self

from fedledger.contracts.abi import Log
from fedledger.contracts.ledger.calls import content_ref, proposal_in, task_params
from fedledger.contracts.ledger.check_logs import CheckLogs
from fedledger.contracts.ledger.dispute_history import DisputeHistory, JuryHistory
from fedledger.contracts.ledger.lanes import lane, put_lane
from fedledger.contracts.ledger.records import DisputeKind, DisputeStatus, Finding, Offence, Reveal
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.score_logs import ScoreLogs, members
from fedledger.contracts.ledger.stake_logs import StakeLogs
from fedledger.contracts.ledger.task_history import EXCUSED_AS_ABSENT, EXCUSING, Applied, Slash, TaskHistory
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ChainError
from fedledger.protocol.records.reputation import Evidence
from fedledger.protocol.records.settlement import unpack_words
from fedledger.protocol.records.verdicts import Verdict


class LedgerState(CheckLogs, ScoreLogs, StakeLogs):
    """What the ledger's logs add up to: participants, tasks and their rounds, disputes, evidence.

    A task's history is a view: whoever holds one sees the task as the last log left it. Rounds are made anew.
    """

    def __init__(self) -> None:
        self._task_objects: dict[int, TaskHistory] = {}
        self._reset()

    def _reset(self) -> None:
        self.owners: dict[int, str] = {}
        self.ids: dict[str, int] = {}
        self.signers: dict[int, str] = {}
        self.all_signers: dict[int, tuple[str, ...]] = {}
        self.endpoints: dict[str, str] = {}
        self.evidence_words: dict[str, dict[int, int]] = {}
        self.tasks: dict[int, TaskHistory] = {}
        self.applied: list[Applied] = []
        self.scoring_words: dict[str, dict[int, int]] = {}
        self.disputes: list[DisputeHistory] = []
        self.stakes: dict[int, int] = {}
        self.unbonding: dict[int, int] = {}
        self.verifiers: set[int] = set()
        self.serving: dict[int, set[int]] = {}
        self.former: dict[int, set[int]] = {}
        """Who has a place in a task's pool, and no longer counts there, by task."""
        self.slashed: Counter[int] = Counter()
        """How often each participant lost some of its stake."""
        self.equivocated: set[tuple[int, int, int]] = set()

    def extend(self, logs: Iterable[Log]) -> Self:
        """Fold further logs into the state and return it."""
        for log in logs:
            handler = getattr(self, f"_on_{log.event}", None)
            if handler is not None:
                handler(log, log.arguments)
        return self

    def task(self, task: int) -> TaskHistory:
        """Return a task's history.

        Raises
        ------
        ChainError
            If the ledger has no such task.
        """
        if task not in self.tasks:
            known = ", ".join(map(str, sorted(self.tasks))) or "none"
            raise ChainError(f"The ledger has no task {task}.", f"It has: {known}.")
        return self.tasks[task]

    def evidence(self, publisher: str, participant: int) -> Evidence:
        """Return a participant's evidence with a publisher."""
        return Evidence.unpack(lane(self.evidence_words.get(publisher, {}), participant))

    def _on_ParticipantRegistered(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        self.owners[a["participant"]] = a["owner"]
        self.ids[a["owner"]] = a["participant"]
        self._on_SignerRotated(log, a)

    def _on_SignerRotated(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        participant, signer = a["participant"], a["signer"]
        self.signers[participant] = signer
        # A signer serves one participant for ever, so what it signed stays signed.
        before = (known for known in self.all_signers.get(participant, ()) if known != signer)
        self.all_signers[participant] = (signer, *before)

    def _on_EndpointAnnounced(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        self.endpoints[a["account"]] = a["url"]

    def _on_TaskPosted(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        params = task_params(a["params"])
        seats = (params.aggregator, *a.get("standbys", ()))
        # Since version 4 the event itself tells; before, each version's looks different.
        version = a.get("version", log.version)
        task = TaskHistory(a["task"], a["publisher"], params, params.model, version=version, seats=seats)
        task.applied_before = len(self.applied)
        known = self._task_objects.get(task.id, task)
        vars(known).update(vars(task))
        self.tasks[task.id] = known

    def _on_Enrolled(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        task, participant = self.tasks[a["task"]], a["participant"]
        task.enrolled.append(participant)
        task.joined.setdefault(participant, self.evidence(task.publisher, participant))

    def _on_TaskLeft(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        task = self.tasks[a["task"]]
        task.enrolled.remove(a["participant"])

    def _on_RoundOpened(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        task = self.tasks[a["task"]]
        selected = members(a["wordIndices"], a["words"]) if a["words"] else tuple(sorted(task.enrolled))
        evidence = {participant: self.evidence(task.publisher, participant) for participant in selected}
        owners = {participant: self.owners[participant] for participant in selected}
        beacon = task.beacons[max(task.beacons)] if task.beacons else bytes(32)
        opened = RoundHistory(a["round"], task.model, log, selected, evidence, owners, beacon)
        if task.max_staleness and (standing := task.proposed):
            # The last round that stands made this one's base, so the way goes on with that round's own.
            opened.earlier = standing[-1].bases[: task.max_staleness]
        opened.bidding = task.bids_are_due
        opened.enrolled = tuple(task.enrolled)
        if (before := task.rounds.get(opened.index - 1)) is not None and before.enrolled == opened.enrolled:
            # Kept once for all rounds that it is the same in.
            opened.enrolled = before.enrolled
        opened.applied_before = len(self.applied)
        opened.verifiers = len(self.serving.get(task.id, ()))
        opened.staked = frozenset(i for i in selected if self.stakes.get(i, 0) >= task.params.min_stake)
        task.rounds[a["round"]] = opened

    def _on_UpdateCommitted(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        round_history = self.tasks[a["task"]].rounds[a["round"]]
        round_history.commits[a["participant"]] = a["sender"]
        round_history.commitments[a["participant"]] = bytes(a["commitment"])

    def _on_UpdateRevealed(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        update = ContentRef(bytes(a["digest"]), a["length"])
        reveal = Reveal(a["participant"], update, bytes(a["salt"]), a.get("staleness", 0))
        round_history = self.tasks[a["task"]].rounds[a["round"]]
        late = round_history.proposal is not None
        (round_history.excuses if late else round_history.reveals)[a["participant"]] = reveal

    _on_StaleUpdateRevealed = _on_UpdateRevealed  # noqa: N815

    def _on_RoundProposed(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        task = self.tasks[a["task"]]
        round_history = task.rounds[a["round"]]
        round_history.proposal = proposal_in(log)
        round_history.proposer = a["aggregator"]
        round_history.proposed_at = log
        task.model = round_history.proposal.model

    _on_BatchProposed = _on_RoundProposed  # noqa: N815

    def _on_CommitsRooted(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        round_history = self.tasks[a["task"]].rounds[a["round"]]
        round_history.root, round_history.count = bytes(a["root"]), a["count"]
        round_history.batch = content_ref(a["batch"]) if "batch" in a else None
        round_history.signers = {i: self.all_signers[i] for i in round_history.selected}

    # Version 1 of the ledger told every word; since then they follow from the settled proposals.
    def _on_EvidenceUpdated(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        self.evidence_words.setdefault(a["publisher"], {})[a["slot"]] = a["word"]

    def _on_CreditsUpdated(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        self.tasks[a["task"]].credits[a["slot"]] = a["word"]

    def _on_CreditWithdrawn(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        withdrawn = self.tasks[a["task"]].withdrawn
        withdrawn[a["participant"]] = withdrawn.get(a["participant"], 0) + a["amount"]
        put_lane(self.tasks[a["task"]].credits, a["participant"], 0)

    def _on_SettlementAdvanced(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        task = self.tasks[a["task"]]
        self._apply(task, task.rounds[a["round"]], a["words"])

    def _on_RoundSettled(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        task = self.tasks[a["task"]]
        settled = task.rounds[a["round"]]
        settled.settled_in = log.block
        if settled.proposal is not None:
            self._apply(task, settled, len(settled.proposal.verdict_words))

    def _apply(self, task: TaskHistory, settling: RoundHistory, until: int) -> None:
        """Apply a proposal's verdict words up to ``until``, as the ledger did."""
        if settling.proposal is None:
            return
        chosen = slice(settling.applied, until)
        words = settling.proposal.verdict_words[chosen], settling.proposal.share_words[chosen]
        settling.applied = until
        verdicts, shares = unpack_words(*words)
        if EXCUSING <= task.version < EXCUSED_AS_ABSENT:
            # Called late, but revealed on chain since.
            verdicts = {i: v for i, v in verdicts.items() if v is not Verdict.LATE or i not in settling.excuses}
        if task.version > 1:
            evidence = self.evidence_words.setdefault(task.publisher, {})
            for participant, verdict in verdicts.items():
                put_lane(evidence, participant, Evidence.unpack(lane(evidence, participant)).after(verdict).pack())
            for participant, share in shares.items():
                if share:
                    put_lane(task.credits, participant, lane(task.credits, participant) + share)
        settling.left |= {participant: self.evidence(task.publisher, participant) for participant in verdicts}
        self.applied.append(Applied(task.publisher, task, settling, verdicts, {}))
        settling.applied_after = len(self.applied)

    def _on_EvidenceAdopted(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        publisher, participant = a["publisher"], a["participant"]
        put_lane(self.evidence_words.setdefault(publisher, {}), participant, a["lane"])
        self.applied.append(Applied(publisher, None, None, {}, {participant: Evidence.unpack(a["lane"])}))

    def _on_RoundVoided(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        task = self.tasks[a["task"]]
        task.rounds[a["round"]].voided = True
        standing = task.proposed
        last = standing[-1].proposal if standing else None
        task.model = task.params.model if last is None else last.model

    def _on_TurnTaken(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        self.tasks[a["task"]].active = a["seat"]

    def _on_VerifierEnlisted(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        self.verifiers.add(a["participant"])

    def _on_VerifierRetired(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        self.verifiers.discard(a["participant"])
        for task, serving in self.serving.items():
            if a["participant"] in serving:
                serving.remove(a["participant"])
                self.former.setdefault(task, set()).add(a["participant"])

    def _on_ServiceBegun(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        self.serving.setdefault(a["task"], set()).add(a["participant"])

    def _on_ServiceEnded(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        for places in (self.serving, self.former):
            places.get(a["task"], set()).discard(a["participant"])

    def _on_Equivocated(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        self.equivocated.add((a["task"], a["round"], a["participant"]))

    def _on_Challenged(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        kind = DisputeKind(a["kind"])
        place = a["dispute"], a["task"], a["round"]
        self.disputes.append(DisputeHistory(*place, kind, a["subject"], a["challenger"], a["bond"], log.block))

    def _on_JuryCalled(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        juries = self.disputes[a["dispute"]].juries
        if a["level"] == len(juries):
            juries.append(JuryHistory(a["drawBlock"]))
        else:
            # The chain had forgotten the block from which it was to be drawn.
            juries[a["level"]].draw_block = a["drawBlock"]

    def _on_JuryDrawn(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        self.disputes[a["dispute"]].juries[a["level"]].members = tuple(a["members"])

    def _on_VoteCommitted(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        self.disputes[a["dispute"]].juries[a["level"]].committed[a["juror"]] = bytes(a["commitment"])

    def _on_VoteRevealed(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        jury = self.disputes[a["dispute"]].juries[a["level"]]
        jury.revealed[a["juror"]] = _finding(a), bytes(a["transcript"])

    def _on_JuryDecided(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        jury = self.disputes[a["dispute"]].juries[a["level"]]
        jury.decided = True
        jury.finding = _finding(a) if any(a.get("outcome", b"1")) else Finding.NONE

    def _on_Appealed(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        jury = self.disputes[a["dispute"]].juries[a["level"]]
        jury.appellant, jury.appeal_bond = a["appellant"], a["bond"]

    def _on_DisputeClosed(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        self.disputes[a["dispute"]].status = DisputeStatus(a["status"])

    def _on_BeaconAdvanced(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        self.tasks[a["task"]].beacons[a["round"]] = bytes(a["beacon"])

    def _on_Slashed(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        slash = Slash(a["round"], a["participant"], Offence(a["offence"]), a["amount"])
        self.tasks[a["task"]].slashes.append(slash)
        self.slashed[a["participant"]] += 1
        self._slash(a["participant"], a["amount"])

    def _on_SealOpened(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        task = self.tasks[a["task"]]
        task.seal_key, task.seal_opened_in = bytes(a["key"]), log.block

    def _on_SealForfeited(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        self.tasks[a["task"]].seal_forfeited = True

    def _on_TaskFinished(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        self.tasks[a["task"]].refund = a["refund"]


def _finding(told: dict[str, Any]) -> Finding:
    """Return what an event says that was found; before version 5 it is a yes or no."""
    if "finding" in told:
        return Finding(told["finding"])
    return Finding.VALID if told["valid"] else Finding.INVALID
