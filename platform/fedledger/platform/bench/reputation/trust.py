"""Reputations as a model has them: what it makes of verdicts, by the task's publisher and by others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from fedledger.aggregator.reputation.base import REPUTATION_MODELS, Asked, ReputationModel, Standing
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.records.opinions import DEFAULT_RECOMMENDER_TRUST
from fedledger.protocol.records.reputation import Evidence
from fedledger.protocol.records.verdicts import Verdict


class Trust(Protocol):
    """What is thought of participants, by their names."""

    def rate(self, publisher: str, verdicts: Mapping[str, Verdict]) -> None:
        """Take the verdicts of a round of some publisher, by name."""
        ...

    def reputations(self, names: Sequence[str]) -> list[int]:
        """Return what names are worth in a round that asks them, in ppm."""
        ...


class LedgerTrust:
    """As without a model: the evidence that the ledger keeps of the task's publisher.

    Parameters
    ----------
    publisher
        The task's publisher; what others say is not looked at.
    """

    def __init__(self, publisher: str) -> None:
        self._publisher = publisher
        self._evidence: dict[str, Evidence] = {}

    def rate(self, publisher: str, verdicts: Mapping[str, Verdict]) -> None:
        """Take the verdicts of a round of some publisher, by name."""
        if publisher == self._publisher:
            for name, verdict in verdicts.items():
                self._evidence[name] = self._evidence.get(name, Evidence()).after(verdict)

    def reputations(self, names: Sequence[str]) -> list[int]:
        """Return what names are worth in a round that asks them, in ppm."""
        return [self._evidence.get(name, Evidence()).reputation for name in names]


class ModelTrust:
    """As a model makes it of everybody's verdicts, in the order in which they fall.

    Parameters
    ----------
    model
        The model.
    publisher
        The task's publisher.
    recommenders
        Publishers that the task names besides, trusted as far as is usual; a model that heeds none is given none.
    """

    def __init__(self, model: ReputationModel, publisher: str, recommenders: Sequence[str]) -> None:
        self._model, self._publisher = model, publisher
        self._recommenders = tuple(recommenders) if model.heeds_recommenders else ()
        self._ids: dict[str, int] = {}
        self._standings: dict[str, dict[int, Standing]] = {}

    def rate(self, publisher: str, verdicts: Mapping[str, Verdict]) -> None:
        """Take the verdicts of a round of some publisher, by name."""
        known = self._standings.setdefault(publisher, {})
        for name, verdict in verdicts.items():
            participant = self._id(name)
            known[participant] = self._model.after(known.get(participant, self._model.unknown), verdict)

    def reputations(self, names: Sequence[str]) -> list[int]:
        """Return what names are worth in a round that asks them, in ppm."""
        trust = DEFAULT_RECOMMENDER_TRUST if self._recommenders else 0
        asked = Asked(self._publisher, [self._id(name) for name in names], self._recommenders, trust, self._ids)
        return self._model(self._standings, asked)

    def _id(self, name: str) -> int:
        return self._ids.setdefault(name, len(self._ids))


def trust_of(model: Method | None, publisher: str, recommenders: Sequence[str]) -> Trust:
    """Return what a model, or the ledger's own evidence without one, thinks of participants it knows nothing of yet."""
    if model is None:
        return LedgerTrust(publisher)
    return ModelTrust(build(REPUTATION_MODELS, model.method, model.params), publisher, recommenders)
