"""A round as the ledger's logs tell it."""

from __future__ import annotations

from dataclasses import dataclass, field

from fedledger.contracts.abi import Log
from fedledger.contracts.ledger.check_history import CheckHistory
from fedledger.contracts.ledger.records import Proposal, Reveal
from fedledger.contracts.ledger.score_history import ScoringHistory
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.records.reputation import Evidence
from fedledger.protocol.records.verdicts import Verdict


@dataclass(frozen=True)
class Participation:
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
    staleness
        How many models before the round's base it is relative to.
    modelled
        Its reputation by the task's reputation model, in ppm; None where the task has none.
    """

    id: int
    owner: str
    sender: str | None
    evidence: Evidence
    update: ContentRef | None
    staleness: int = 0
    modelled: int | None = None

    @property
    def reputation(self) -> int:
        """The reputation that counts in the round, in ppm: the ledger's own unless the task has a model of it."""
        return self.evidence.reputation if self.modelled is None else self.modelled


@dataclass
class RoundHistory:
    """A round, as its logs tell it: ``evidence`` when it was opened, ``left`` what its settlement made of that.

    An update may be relative to ``base`` or to one of the ``earlier`` models that led to it, the nearest first.
    ``applied`` of the proposal's verdict words are in the evidence; ``beacon`` is what the task's was at the opening.

    A batched round has the ``root`` and ``count`` of its commitments, the content ``batch`` that holds them, and all
    ``signers`` that its participants had had when it was posted, the present ones first; its commits and reveals are
    those on chain alone, and its ``excuses`` what was revealed after the proposal, by who was called late in it.

    ``enrolled`` are all who were in the task when the round was opened. So many ``verifiers`` served the task then, as
    far as the logs tell: whose stake had become too small by then they do not.

    ``staked`` are those of the selected who had the stake that the task asks for when the round was opened.

    ``scoring`` is how the round is scored, once its scorers have been called.

    ``applied_before`` counts how often the ledger had changed evidence, anybody's, when the round was opened, and
    ``applied_after`` when the last of its own verdicts were applied.

    ``bidding`` says that the round asks for bids, and for no update.

    ``checks`` of participants were drawn by ``check_seed``, the hash of the proposal's block; None before anybody is
    named.
    """

    index: int
    base: ContentRef
    opened_at: Log
    selected: tuple[int, ...]
    evidence: dict[int, Evidence]
    owners: dict[int, str]
    beacon: bytes = bytes(32)
    commits: dict[int, str] = field(default_factory=dict)
    commitments: dict[int, bytes] = field(default_factory=dict)
    reveals: dict[int, Reveal] = field(default_factory=dict)
    excuses: dict[int, Reveal] = field(default_factory=dict)
    root: bytes | None = None
    count: int = 0
    batch: ContentRef | None = None
    signers: dict[int, tuple[str, ...]] = field(default_factory=dict)
    proposal: Proposal | None = None
    proposer: str | None = None
    proposed_at: Log | None = None
    applied: int = 0
    settled_in: int | None = None
    left: dict[int, Evidence] = field(default_factory=dict)
    voided: bool = False
    earlier: tuple[ContentRef, ...] = ()
    enrolled: tuple[int, ...] = ()
    verifiers: int = 0
    staked: frozenset[int] = frozenset()
    check_seed: bytes | None = None
    checks: dict[int, CheckHistory] = field(default_factory=dict)
    scoring: ScoringHistory | None = None
    applied_before: int = 0
    applied_after: int = 0
    bidding: bool = False

    @property
    def bases(self) -> tuple[ContentRef, ...]:
        """The models that an update may be relative to, by its staleness."""
        return (self.base, *self.earlier)

    def staleness_of(self, base: bytes) -> int | None:
        """Return the staleness of an update that is relative to a model, by its digest; None if it may not be.

        Of two that are the same model the nearer one counts.
        """
        return next((steps for steps, ref in enumerate(self.bases) if ref.digest == base), None)

    @property
    def delivered(self) -> dict[int, ContentRef]:
        """The updates that a batched round's proposal names, by participant id."""
        if self.proposal is None:
            return {}
        ids = sorted(i for i, verdict in self.proposal.verdicts.items() if not verdict.absent)
        return dict(zip(ids, self.proposal.updates, strict=True))

    @property
    def listed(self) -> dict[int, ContentRef]:
        """The updates that the round's scorers score, by ascending participant id; empty before they were called."""
        if self.scoring is None:
            return {}
        present, updates = self.scoring.present, self.scoring.updates
        if self.root is None:
            return {participant: self.reveals[participant].update for participant in present}
        return dict(zip(present, updates, strict=True)) if updates else {}

    @property
    def outvoted(self) -> tuple[int, ...]:
        """The participants whose updates do not count, by the scores."""
        return () if self.scoring is None else self.scoring.outvoted

    @property
    def settled(self) -> bool:
        """Whether the round was settled, which it was in block ``settled_in``."""
        return self.settled_in is not None

    @property
    def participations(self) -> tuple[Participation, ...]:
        """The selected participants, by owner address."""
        participations = (
            Participation(
                id=participant,
                owner=self.owners[participant],
                sender=self.commits.get(participant),
                evidence=self.evidence[participant],
                update=None if reveal is None else reveal.update,
                staleness=0 if reveal is None else reveal.staleness,
            )
            for participant, reveal in ((i, self.reveals.get(i)) for i in self.selected)
        )
        return tuple(sorted(participations, key=lambda participation: participation.owner.lower()))

    @property
    def verdicts(self) -> dict[int, Verdict]:
        """Verdicts as posted, by participant id; empty before a proposal."""
        return {} if self.proposal is None else self.proposal.verdicts
