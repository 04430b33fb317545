"""The ledger's state, rebuilt from its logs: what nodes, aggregators, audits and tables all read."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fedledger.contracts.abi import Log
from fedledger.contracts.client import Head, Ledger, Proposal, Reveal, content_ref, proposal_in
from fedledger.contracts.compile import VERSION
from fedledger.protocol.cid import ContentRef
from fedledger.protocol.errors import ChainError
from fedledger.protocol.reputation import LANE_BITS, LANES, Evidence
from fedledger.protocol.verdicts import Verdict

log = logging.getLogger(__name__)

MAX_FOLDS = 10


@dataclass(frozen=True)
class Seat:
    """A participant's place in a round, as the ledger saw it.

    Parameters
    ----------
    id, owner
        The participant.
    sender
        Signer that committed, or None.
    evidence
        What the ledger knew of the participant when the round was opened.
    update
        The update that was revealed, or None.
    """

    id: int
    owner: str
    sender: str | None
    evidence: Evidence
    update: ContentRef | None


@dataclass
class RoundHistory:
    """A round, as its logs tell it: ``evidence`` when it was opened, ``left`` what its settlement made of that.

    A batched round has the ``root`` and ``count`` of its commitments and who the ``signers`` were when it was posted;
    its commits and reveals are those on chain alone, and its ``excuses`` what was revealed after the proposal, by who
    was called late in it.
    """

    index: int
    base: ContentRef
    opened_at: Log
    selected: tuple[int, ...]
    evidence: dict[int, Evidence]
    owners: dict[int, str]
    commits: dict[int, str] = field(default_factory=dict)
    commitments: dict[int, bytes] = field(default_factory=dict)
    reveals: dict[int, Reveal] = field(default_factory=dict)
    excuses: dict[int, Reveal] = field(default_factory=dict)
    root: bytes | None = None
    count: int = 0
    signers: dict[int, str] = field(default_factory=dict)
    proposal: Proposal | None = None
    proposer: str | None = None
    settled_in: int | None = None
    left: dict[int, Evidence] = field(default_factory=dict)
    voided: bool = False

    @property
    def delivered(self) -> dict[int, ContentRef]:
        """The updates that a batched round's proposal names, by participant id."""
        if self.proposal is None:
            return {}
        ids = sorted(i for i, verdict in self.proposal.verdicts.items() if not verdict.absent)
        return dict(zip(ids, self.proposal.updates, strict=True))

    @property
    def settled(self) -> bool:
        """Whether the round was settled, which it was in block ``settled_in``."""
        return self.settled_in is not None

    @property
    def seats(self) -> tuple[Seat, ...]:
        """The selected participants, by owner address."""
        seats = (
            Seat(
                id=participant,
                owner=self.owners[participant],
                sender=self.commits.get(participant),
                evidence=self.evidence[participant],
                update=self.reveals[participant].update if participant in self.reveals else None,
            )
            for participant in self.selected
        )
        return tuple(sorted(seats, key=lambda seat: seat.owner.lower()))

    @property
    def verdicts(self) -> dict[int, Verdict]:
        """Verdicts as posted, by participant id; empty before a proposal."""
        return {} if self.proposal is None else self.proposal.verdicts


@dataclass
class TaskHistory:
    """A task, as its logs tell it."""

    id: int
    publisher: str
    params: dict[str, Any]
    model: ContentRef
    enrolled: list[int] = field(default_factory=list)
    rounds: dict[int, RoundHistory] = field(default_factory=dict)
    version: int = VERSION
    credits: dict[int, int] = field(default_factory=dict)
    withdrawn: dict[int, int] = field(default_factory=dict)
    beacons: dict[int, bytes] = field(default_factory=dict)
    refund: int | None = None

    @property
    def spec(self) -> ContentRef:
        """The task's spec."""
        return content_ref(self.params["spec"])

    @property
    def batched(self) -> bool:
        """Whether commitments are signed, collected and posted as one root."""
        return bool(self.params.get("batched", False))

    @property
    def finished(self) -> bool:
        """Whether the task has ended."""
        return self.refund is not None

    @property
    def settled(self) -> list[RoundHistory]:
        """The settled rounds, in order."""
        return [self.rounds[index] for index in sorted(self.rounds) if self.rounds[index].settled]

    def credit(self, participant: int) -> int:
        """Units that a participant may still withdraw."""
        return lane(self.credits, participant)

    def earned(self, participant: int) -> int:
        """Units that a participant was ever credited with."""
        shares = (r.proposal.shares.get(participant, 0) for r in self.settled if r.proposal is not None)
        return sum(shares)


class History:
    """The ledger's state, folded from logs in order.

    A history notices when the last block it read is not on the chain any more, and is then folded again from the first
    block; ``folds`` counts how often. A task's history is a view: whoever holds one sees the task as the last update
    found it. Rounds are made anew.

    Parameters
    ----------
    ledger
        Where :meth:`update` reads new logs; None if logs are only given to :meth:`extend`.
    """

    def __init__(self, ledger: Ledger | None = None) -> None:
        self._ledger = ledger
        self._read: Head | None = None
        self._held: dict[int, TaskHistory] = {}
        self.folds = 0
        self._reset()

    def _reset(self) -> None:
        self.owners: dict[int, str] = {}
        self.ids: dict[str, int] = {}
        self.signers: dict[int, str] = {}
        self.endpoints: dict[str, str] = {}
        self.evidence_words: dict[str, dict[int, int]] = {}
        self.tasks: dict[int, TaskHistory] = {}
        self.settlements: list[tuple[TaskHistory, RoundHistory]] = []

    def update(self) -> History:
        """Read the logs of the blocks that have come since, or all of them after a reorganisation.

        Raises
        ------
        ChainError
            If the chain does not keep its blocks long enough for their logs to be read.
        """
        if self._ledger is None:
            raise ValueError("this history was made without a ledger")
        chain = self._ledger.chain
        for _ in range(MAX_FOLDS):
            head, read = chain.head(), self._read
            if head == read:
                return self
            first = self._ledger.first_block if read is None else read.number + 1
            try:
                logs = list(self._ledger.events(first=first, last=head.number))
            except ChainError:
                if chain.has(read or head):
                    raise
            # Asked after the logs were read: only then do they continue what is known, or belong together.
            if chain.has(read or head):
                self.extend(logs)
                self._read = head if read is None or head.number > read.number else read
                return self
            log.warning("the chain was reorganised near block %d: its logs are read again", head.number)
            self._fold_again()
            chain.forget()
        raise ChainError("The chain changes while it is read.", "Ask for confirmations, or wait until it is stable.")

    def _fold_again(self) -> None:
        self._read = None
        self.folds += 1
        self._held |= self.tasks
        for task in self._held.values():
            # Whoever holds a task that is gone must not see it go on.
            vars(task).update(
                vars(TaskHistory(task.id, task.publisher, task.params, content_ref(task.params["model"])))
            )
        self._reset()

    def extend(self, logs: Iterable[Log]) -> History:
        """Fold further logs into the state and return this history."""
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
        self.signers[a["participant"]] = a["signer"]

    def _on_SignerRotated(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        self.signers[a["participant"]] = a["signer"]

    def _on_EndpointAnnounced(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        self.endpoints[a["account"]] = a["url"]

    def _on_TaskPosted(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        params = vars(a["params"])
        task = TaskHistory(a["task"], a["publisher"], params, content_ref(params["model"]), version=log.version)
        held = self._held.get(task.id, task)
        vars(held).update(vars(task))
        self.tasks[task.id] = held

    def _on_Enrolled(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        self.tasks[a["task"]].enrolled.append(a["participant"])

    def _on_RoundOpened(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        task = self.tasks[a["task"]]
        selected = tuple(
            256 * index + bit
            for index, word in zip(a["wordIndices"], a["words"], strict=True)
            for bit in range(256)
            if word >> bit & 1
        )
        if not a["words"]:
            selected = tuple(sorted(task.enrolled))
        evidence = {participant: self.evidence(task.publisher, participant) for participant in selected}
        owners = {participant: self.owners[participant] for participant in selected}
        task.rounds[a["round"]] = RoundHistory(a["round"], task.model, log, selected, evidence, owners)

    def _on_UpdateCommitted(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        round_history = self.tasks[a["task"]].rounds[a["round"]]
        round_history.commits[a["participant"]] = a["sender"]
        round_history.commitments[a["participant"]] = bytes(a["commitment"])

    def _on_UpdateRevealed(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        update = ContentRef(bytes(a["digest"]), a["length"])
        reveal = Reveal(a["participant"], update, bytes(a["salt"]))
        round_history = self.tasks[a["task"]].rounds[a["round"]]
        late = round_history.proposal is not None
        (round_history.excuses if late else round_history.reveals)[a["participant"]] = reveal

    def _on_RoundProposed(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        task = self.tasks[a["task"]]
        round_history = task.rounds[a["round"]]
        round_history.proposal = proposal_in(log)
        round_history.proposer = a["aggregator"]
        task.model = round_history.proposal.model

    _on_BatchProposed = _on_RoundProposed  # noqa: N815

    def _on_CommitsRooted(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        round_history = self.tasks[a["task"]].rounds[a["round"]]
        round_history.root, round_history.count = bytes(a["root"]), a["count"]
        round_history.signers = {i: self.signers[i] for i in round_history.selected}

    # Version 1 of the ledger told every word; since then they follow from the settled proposals.
    def _on_EvidenceUpdated(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        self.evidence_words.setdefault(a["publisher"], {})[a["slot"]] = a["word"]

    def _on_CreditsUpdated(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        self.tasks[a["task"]].credits[a["slot"]] = a["word"]

    def _on_CreditWithdrawn(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        withdrawn = self.tasks[a["task"]].withdrawn
        withdrawn[a["participant"]] = withdrawn.get(a["participant"], 0) + a["amount"]
        put_lane(self.tasks[a["task"]].credits, a["participant"], 0)

    def _on_RoundSettled(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        task = self.tasks[a["task"]]
        settled = task.rounds[a["round"]]
        settled.settled_in = log.block
        if task.version > 1 and settled.proposal is not None:
            self._apply(task, settled.proposal)
        settled.left = {participant: self.evidence(task.publisher, participant) for participant in settled.selected}
        self.settlements.append((task, settled))

    def _apply(self, task: TaskHistory, proposal: Proposal) -> None:
        words = self.evidence_words.setdefault(task.publisher, {})
        for participant, verdict in proposal.verdicts.items():
            put_lane(words, participant, Evidence.unpack(lane(words, participant)).after(verdict).pack())
        for participant, share in proposal.shares.items():
            if share:
                put_lane(task.credits, participant, lane(task.credits, participant) + share)

    def _on_RoundVoided(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        self.tasks[a["task"]].rounds[a["round"]].voided = True

    def _on_BeaconAdvanced(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        self.tasks[a["task"]].beacons[a["round"]] = bytes(a["beacon"])

    def _on_TaskFinished(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        self.tasks[a["task"]].refund = a["refund"]


def lane(words: dict[int, int], participant: int) -> int:
    """Return a participant's 32 bits in words of eight lanes; 0 where no word was written."""
    return words.get(participant // LANES, 0) >> LANE_BITS * (participant % LANES) & 0xFFFFFFFF


def put_lane(words: dict[int, int], participant: int, value: int) -> None:
    """Write a participant's 32 bits into words of eight lanes."""
    slot, shift = participant // LANES, LANE_BITS * (participant % LANES)
    words[slot] = words.get(slot, 0) & ~(0xFFFFFFFF << shift) | value << shift
