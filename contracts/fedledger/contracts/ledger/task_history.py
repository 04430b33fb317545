"""A task as the ledger's logs tell it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fedledger.contracts.compile import VERSION
from fedledger.contracts.ledger.check_history import CheckHistory, DataWord, acting
from fedledger.contracts.ledger.lanes import lane
from fedledger.contracts.ledger.records import Offence, TaskParams
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.records.bids import bids_are_due
from fedledger.protocol.records.reputation import Evidence
from fedledger.protocol.records.verdicts import Verdict

EXCUSING = 3
"""From this version of the ledger on, who is called late and reveals on chain is not punished as late."""
EXCUSED_AS_ABSENT = 5
"""From this version on it counts as absent in evidence, before that as nothing."""


@dataclass(frozen=True)
class Applied:
    """Evidence that the ledger changed, in its order: by a settlement's verdicts, or participant by participant.

    ``adopted`` is the evidence that participants were left with: taken over from a predecessor, or, with
    ``check_failed``, made of what they had by a failed spot check.
    """

    publisher: str
    task: TaskHistory | None
    round: RoundHistory | None
    verdicts: dict[int, Verdict]
    adopted: dict[int, Evidence]
    check_failed: bool = False


@dataclass(frozen=True)
class Slash:
    """What an offence cost a participant, in the smallest unit of the stakes' currency."""

    round: int
    participant: int
    offence: Offence
    amount: int


@dataclass
class TaskHistory:
    """A task, as its logs tell it.

    ``seats`` are the addresses of its aggregators, the first of which was active at the start; ``active`` is the place
    of the one whose turn it is. ``joined`` is the evidence of each participant that was ever enrolled, when it first
    was. ``seal_key`` opened its
    seal in block ``seal_opened_in``; ``seal_forfeited`` says that nobody had opened it in time. ``data`` is what each
    participant committed to, in the ledger's order; ``findings`` what auditors, by their places, committed to and have
    not revealed. ``applied_before`` counts how often the ledger had changed evidence when the task was posted.
    """

    id: int
    publisher: str
    params: TaskParams
    model: ContentRef
    enrolled: list[int] = field(default_factory=list)
    rounds: dict[int, RoundHistory] = field(default_factory=dict)
    version: int = VERSION
    credits: dict[int, int] = field(default_factory=dict)
    withdrawn: dict[int, int] = field(default_factory=dict)
    beacons: dict[int, bytes] = field(default_factory=dict)
    refund: int | None = None
    seats: tuple[str, ...] = ()
    active: int = 0
    joined: dict[int, Evidence] = field(default_factory=dict)
    slashes: list[Slash] = field(default_factory=list)
    seal_key: bytes | None = None
    seal_opened_in: int | None = None
    seal_forfeited: bool = False
    data: dict[int, list[DataWord]] = field(default_factory=dict)
    findings: dict[int, bytes] = field(default_factory=dict)
    applied_before: int = 0

    @property
    def unfinal(self) -> list[RoundHistory]:
        """The rounds that were opened and are neither settled nor voided, in order."""
        return [r for _, r in sorted(self.rounds.items()) if not r.settled and not r.voided]

    @property
    def proposed(self) -> list[RoundHistory]:
        """The rounds whose proposal stands or has been settled, in order."""
        return [r for _, r in sorted(self.rounds.items()) if r.proposal is not None and not r.voided]

    @property
    def checks(self) -> list[CheckHistory]:
        """All checks of the task, by round and participant."""
        return [r.checks[i] for _, r in sorted(self.rounds.items()) for i in sorted(r.checks)]

    def committed(self, participant: int, index: int, every: int) -> int | None:
        """Return a participant's commitment to its data that holds in a round, if there is one; see :func:`acting`."""
        words = self.data.get(participant, [])
        place = acting(words, index, every)
        return None if place is None else words[place].word

    def enrolled_at(self, index: int) -> Sequence[int]:
        """Return who was enrolled when a round was opened; of one that is still to be opened, who is enrolled now."""
        return self.rounds[index].enrolled if index in self.rounds else self.enrolled

    def state_before(self, index: int) -> ContentRef | None:
        """Return the aggregator's state that the last standing proposal before a round left; None before the first."""
        before = [r.proposal for r in self.proposed if r.index < index and r.proposal is not None]
        return before[-1].state if before else None

    def is_empty(self, current: RoundHistory) -> bool:
        """Whether a proposed round is below quorum: it left the model as it was, and does not count as a round."""
        present = sum(not verdict.absent for verdict in current.verdicts.values())
        return self.version >= EXCUSING and present < self.params.quorum

    @property
    def counted(self) -> list[RoundHistory]:
        """The settled rounds that use up the task's: neither empty nor for bids, in order."""
        return [r for r in self.settled if not r.bidding and not self.is_empty(r)]

    def is_scored(self, current: RoundHistory) -> bool:
        """Whether scorers decide in a round whose updates do not count."""
        return self.params.scorers > 0 and not current.bidding

    @property
    def bids_are_due(self) -> bool:
        """Whether the next round is for bids: there are none yet, the last ones do not stand, or they are old."""
        every = self.params.bidding_every
        if not every:
            return False
        last = max((r for r in self.rounds.values() if r.bidding), key=lambda r: r.index, default=None)
        if last is None:
            return True
        stands = not (last.voided or (last.proposal is not None and self.is_empty(last)))
        return bids_are_due(every, max(self.rounds) + 1, last.index, stands)

    def heard_before(self, index: int) -> RoundHistory | None:
        """Return the bidding round whose bids stand in a round; None if there is none."""
        heard = [r for r in self.proposed if r.bidding and r.index < index and not self.is_empty(r)]
        return heard[-1] if heard else None

    def voids_before(self, index: int) -> list[RoundHistory]:
        """Return the rounds in a row before a round that did not count, as too few came or nobody proposed.

        As the ledger counts them: bids that were heard end no such row.
        """
        voids = []
        for number in range(index - 1, 0, -1):
            current = self.rounds[number]
            if current.voided if current.proposal is None else not current.voided and self.is_empty(current):
                voids.append(current)
            elif not current.bidding:
                break
        return voids

    def passed_over(self, index: int) -> frozenset[str]:
        """Return the owners whose bids do not stand in a round.

        They were absent from a round since their bid was heard, or asked in one of the last rounds, which were voided:
        nobody knows who of them kept too few from coming.
        """
        vain = {r.owners[i] for r in self.voids_before(index) if r.voided and not r.bidding for i in r.selected}
        heard = self.heard_before(index)
        since = [r for r in self.proposed if heard is not None and heard.index < r.index < index and not r.bidding]
        return frozenset(vain | {r.owners[i] for r in since for i, verdict in r.verdicts.items() if verdict.absent})

    def units_at(self, index: int) -> int:
        """Return how many units a round may pay: those of a round and, with pooled pay, what earlier ones have left.

        Of a task that pools pay all rounds before the last one are final, or become so before this one is opened.
        """
        released = self.params.units_per_round
        if not self.params.pools_pay:
            return released
        before = [r for r in self.proposed if r.index < index]
        paid = sum(sum(r.proposal.shares.values()) for r in before if r.proposal is not None)
        counted = sum(not r.bidding and not self.is_empty(r) for r in before)
        return released * (counted + 1) - paid

    @property
    def spec(self) -> ContentRef:
        """The task's spec."""
        return self.params.spec

    @property
    def max_staleness(self) -> int:
        """How many models before its round's base an update may be relative to."""
        return self.params.max_staleness

    @property
    def batched(self) -> bool:
        """Whether commitments are signed, collected and posted as one root."""
        return self.params.batched

    @property
    def finished(self) -> bool:
        """Whether the task has ended."""
        return self.refund is not None

    @property
    def settled(self) -> list[RoundHistory]:
        """The settled rounds, in order."""
        return [self.rounds[index] for index in sorted(self.rounds) if self.rounds[index].settled]

    @property
    def complete(self) -> bool:
        """Whether no further round can be opened and none is open: all are settled, or one of them said to stop."""
        stopped = any(r.proposal is not None and r.proposal.stop for r in self.settled)
        return not self.unfinal and (stopped or len(self.counted) >= self.params.rounds)

    def credit(self, participant: int) -> int:
        """Units that a participant may still withdraw."""
        return lane(self.credits, participant)

    def earned(self, participant: int) -> int:
        """Units that a participant was ever credited with."""
        shares = (r.proposal.shares.get(participant, 0) for r in self.settled if r.proposal is not None)
        return sum(shares)
