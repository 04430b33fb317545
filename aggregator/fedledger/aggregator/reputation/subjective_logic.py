"""The ledger's own opinion, fused with what other publishers recommend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedledger.aggregator.reputation.base import REPUTATION_MODELS, Asked, Standing, Standings
from fedledger.protocol.methods.parameters import Checked
from fedledger.protocol.records.opinions import opinion_with
from fedledger.protocol.records.reputation import Evidence
from fedledger.protocol.records.verdicts import Verdict


@REPUTATION_MODELS.register("subjective_logic@1")
@dataclass(frozen=True)
class SubjectiveLogic(Checked):
    """Belief plus half the uncertainty of the ledger's opinion, fused with what recommenders say (Kang et al. 2019).

    Standings are the ledger's evidence: what counts for a participant and what counts against it, faded by 1/16 a
    round, bad evidence 0.6 to 0.4, uncertainty from missed rounds and from a prior of two rounds. Recommenders are
    weighed by how often they have judged the participant, discounted by the task's trust in them, and fused
    cumulatively with the publisher's own opinion (Josang 2016). Without recommenders this is what the ledger itself
    says.

    It resists new names (a newcomer has 0.5, and accepted updates raise that slowly), staying away (which leaves what
    counts against a participant, and doubt), and praise by publishers that the task does not name. It does not resist a
    named recommender that lies, beyond its discount: with a trust of 0.5, which is usual, unanimous recommenders weigh
    less than two rounds of the publisher's own. It is slow against one who behaves well for long and then does not:
    three refusals in a row take the highest reputation, 0.94, below four fifths of it, where its usual gate is.
    """

    heeds_recommenders: ClassVar[bool] = True
    heeds_everybody: ClassVar[bool] = False

    @property
    def unknown(self) -> Standing:
        """No evidence."""
        return 0, 0, 0

    def after(self, standing: Standing, verdict: Verdict) -> Standing:
        """Return the ledger's evidence after one more verdict."""
        return _standing(_evidence(standing).after(verdict))

    def after_failed_check(self, standing: Standing) -> Standing:
        """Return the ledger's evidence after a failed check."""
        return _standing(_evidence(standing).after_failed_check())

    def adopted(self, evidence: Evidence) -> Standing:
        """Return the evidence itself."""
        return _standing(evidence)

    def __call__(self, standings: Standings, asked: Asked) -> list[int]:
        """Return the reputations of fused opinions."""
        nobody: dict[int, Standing] = {}
        own = standings.get(asked.publisher, nobody)
        others = [standings.get(address, nobody) for address in asked.recommenders]
        return [
            opinion_with(
                _evidence(own.get(participant, self.unknown)),
                [_evidence(known[participant]) for known in others if participant in known],
                asked.trust,
            ).reputation
            for participant in asked.participants
        ]


def _evidence(standing: Standing) -> Evidence:
    positive, negative, missed = standing
    return Evidence(positive, negative, missed)


def _standing(evidence: Evidence) -> Standing:
    return evidence.positive, evidence.negative, evidence.missed
