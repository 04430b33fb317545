"""The verifiers of an experiment that score updates, in the process that plays all parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.actor import WAITED, Situation, Step
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.records import TaskParams
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.node.duties.scoring import Scoring
from fedledger.node.participant import Participant
from fedledger.platform.engine.enrolment import ETHER, goes_on
from fedledger.platform.experiment.accounts import experiment_account, verifier_role
from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.experiment.scorers import ParticipantScorer, VerifierScorer
from fedledger.storage.base import ContentStore
from fedledger.storage.models import Models


def judges_needed(ledger: Ledger, params: TaskParams) -> int:
    """Return how many verifiers have to serve a task: for its juries, and as its scorers; 0: none."""
    if not (params.penalty or params.check_rate or params.verifiers_score):
        return 0
    return max(ledger.settings().least_pool, params.scorers if params.verifiers_score else 0)


def let_score(participant: Participant, params: TaskParams, experiment: Experiment, number: int) -> None:
    """Let a participant of an experiment score updates, if the task draws its scorers among participants."""
    if params.scorers and not params.verifiers_score:
        participant.score_with(ParticipantScorer(experiment, number, bytes(participant.access.account.key)))


class ScoringVerifiers:
    """The verifiers that score an experiment's updates; there may be none.

    Parameters
    ----------
    experiment
        The experiment.
    chain, ledger, history, task
        Where its task is.
    store
        The content store.
    folder
        Where scores wait until they are revealed.
    """

    def __init__(
        self,
        experiment: Experiment,
        chain: Chain,
        ledger: Ledger,
        history: History,
        task: int,
        store: ContentStore,
        folder: Path,
    ) -> None:
        params, seed = ledger.task(task).params, experiment.config.seed
        count = judges_needed(ledger, params) if params.verifiers_score else 0
        self.duties: list[Scoring] = []
        models = Models(store, experiment.spec.tensors)
        for number in range(count):
            account = experiment_account(seed, verifier_role(number), chain)
            if goes_on(ledger, task):
                chain.fund(account.address, ETHER)
            access = TaskAccess(ledger, history, account, store, task, experiment.spec)
            scorer = VerifierScorer(experiment, number, count, bytes(account.key))
            self.duties.append(Scoring(access, scorer, folder / "scores" / account.address, models=models))

    def act(self, seen: Situation) -> list[Step]:
        """Have all of them do what comes next."""
        return [duty(seen) or WAITED for duty in self.duties]


@dataclass(frozen=True)
class ScoringFigures:
    """What came of a round's scores, by participants' numbers; verifiers are called by their addresses.

    Parameters
    ----------
    outvoted
        Whose updates do not count.
    silent, far
        Scorers that revealed nothing, and whose scores were far from the medians.
    """

    outvoted: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    far: tuple[str, ...] = ()

    @classmethod
    def of(cls, current: RoundHistory, history: History, numbers: Mapping[str, int]) -> ScoringFigures:
        """Return the figures of a round, given participants' numbers by their addresses."""
        known = current.scoring
        if known is None:
            return cls()

        def named(ids: tuple[int, ...]) -> tuple[str, ...]:
            owners = (history.owners[participant] for participant in ids)
            return tuple(str(numbers.get(owner, owner)) for owner in owners)

        return cls(named(known.outvoted), named(known.silent), named(known.far))

    @property
    def row(self) -> dict[str, str]:
        """The figures as cells of a table."""
        return {name: " ".join(who) for name, who in vars(self).items()}
