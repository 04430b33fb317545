"""What a reputation model is: verdicts in, reputations out, in whole numbers that an audit makes again.

A model keeps a *standing* of each participant with each publisher, which it folds from all that changed evidence on the
ledger, in the ledger's order. From standings it makes reputations in parts per million, for the gates, the weights and
the selection of a task's rounds. What verdicts cost, and whom the ledger lets enrol, stays with the ledger's own
evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Protocol

from fedledger.protocol.bounded_cache import BoundedCache
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import kind_of
from fedledger.protocol.methods.parameters import Checked, Real, Whole, build
from fedledger.protocol.methods.registry import Registry
from fedledger.protocol.records.reputation import PPM, UNIT, Evidence, ppm
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.verdicts import Verdict

Standing = tuple[int, ...]
"""What a model keeps of a participant with a publisher; of the same length for all of them."""
Standings = Mapping[str, Mapping[int, Standing]]
"""By publisher and participant; who is missing is unknown."""


@dataclass(frozen=True)
class Asked:
    """Whose reputations are asked for, and from whose point of view.

    Parameters
    ----------
    publisher
        The task's publisher.
    participants
        Ids of the participants, each once.
    recommenders
        Other publishers that the task names.
    trust
        How far these are trusted, in parts per million; 0 without any.
    ids
        Participants by their owner's address: a participant that is a publisher, too, is found by it.
    """

    publisher: str
    participants: Sequence[int]
    recommenders: Sequence[str] = ()
    trust: int = 0
    ids: Mapping[str, int] = field(default_factory=dict)


class ReputationModel(Protocol):
    """A frozen dataclass of its parameters.

    Attributes
    ----------
    heeds_recommenders
        Whether it looks at the standings of recommenders.
    heeds_everybody
        Whether it looks at the standings of all publishers of the ledger.
    """

    heeds_recommenders: ClassVar[bool]
    heeds_everybody: ClassVar[bool]

    @property
    def unknown(self) -> Standing:
        """The standing of whom a publisher has never judged."""
        ...

    def after(self, standing: Standing, verdict: Verdict) -> Standing:
        """Return a standing after one more verdict."""
        ...

    def after_failed_check(self, standing: Standing) -> Standing:
        """Return a standing after a failed spot check: what was counted for the participant was not earned."""
        ...

    def adopted(self, evidence: Evidence) -> Standing:
        """Return the standing that evidence stands for which a publisher took over from an earlier ledger."""
        ...

    def __call__(self, standings: Standings, asked: Asked) -> list[int]:
        """Return reputations in parts per million, in the order of ``asked.participants``."""
        ...


REPUTATION_MODELS: Registry[Callable[..., ReputationModel]] = Registry(kind_of("reputation_model"))

NEWCOMER = Real(0, 0.5)
"""Bound of a newcomer's reputation: that of a stranger, or worse, so that a new name never pays."""


@dataclass(frozen=True)
class Counts(Checked):
    """Base of models that count verdicts: good and bad ones, in millionths, the older the less.

    A verdict first multiplies what is remembered with ``forgetting``; then an accepted update adds 1 to the good, and a
    refused one ``loss`` to the bad. A round without an update only forgets the good: staying away launders nothing.
    Good counts round down, bad ones up.

    Parameters
    ----------
    forgetting
        What a verdict counts after one more; 1: for ever as much.
    loss
        How many accepted updates one refused update outweighs.
    """

    forgetting: Annotated[float, Real(0, 1)] = 0.95
    loss: Annotated[int, Whole(1, 100)] = 4

    @property
    def unknown(self) -> Standing:
        """Nothing good and nothing bad."""
        return 0, 0

    def after(self, standing: Standing, verdict: Verdict) -> Standing:
        """Return the counts after one more verdict."""
        good, bad = standing
        if verdict in (Verdict.NONE, Verdict.HEARD):
            return standing
        kept = ppm(self.forgetting)
        good = good * kept // PPM
        if verdict.absent:
            return good, bad
        bad = -(-bad * kept // PPM)
        return (good + PPM, bad) if verdict is Verdict.ACCEPTED else (good, bad + self.loss * PPM)

    def after_failed_check(self, standing: Standing) -> Standing:
        """Return the counts without the good, and with one refused update more."""
        return 0, standing[1] + self.loss * PPM

    def adopted(self, evidence: Evidence) -> Standing:
        """Return the updates that evidence remembers."""
        return evidence.positive * PPM // UNIT, -(-evidence.negative * self.loss * PPM // UNIT)


_MADE: BoundedCache[bytes, ReputationModel] = BoundedCache(16)
"""By a spec's digest."""


def model_of(spec: TaskSpec) -> ReputationModel | None:
    """Return the reputation model of a task; None if the ledger's own evidence is what counts.

    Raises
    ------
    ConfigError
        If this release lacks it, its parameters are wrong, or the task names recommenders that it does not heed.
    """
    named = spec.reputation_model
    if named is None:
        return None
    known = _MADE.get(spec.digest)
    if known is not None:
        return known
    model = build(REPUTATION_MODELS, named.method, named.params)
    if spec.reputation.recommenders and not model.heeds_recommenders:
        heeding = [key for key in REPUTATION_MODELS if getattr(REPUTATION_MODELS.get(key), "heeds_recommenders", False)]
        raise ConfigError(
            f"The task names recommenders, and its reputation model {named.method} heeds none.",
            f"Leave the recommenders out, or choose one of {', '.join(heeding)}.",
        )
    return _MADE.keep(spec.digest, model)


def recommenders_of(spec: TaskSpec) -> tuple[str, ...]:
    """Return the addresses of the publishers whose verdicts count in a task besides its own publisher's."""
    return tuple(spec.reputation.recommenders)


def require_others(spec: TaskSpec, publisher: str) -> None:
    """Raise ConfigError if a task recommends its own publisher, whose verdicts would count twice."""
    if publisher in recommenders_of(spec):
        raise ConfigError(
            f"The task's publisher {publisher} is one of its own recommenders.",
            "Name other publishers alone: the publisher's own verdicts count in full.",
        )
