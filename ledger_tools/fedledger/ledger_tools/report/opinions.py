"""What publishers think of participants, alone and with those that they listen to, as a ledger's logs tell it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fedledger.contracts.abi import Log
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.state import LedgerState
from fedledger.protocol.errors import ChainError, ConfigError
from fedledger.protocol.records.opinions import MAX_RECOMMENDERS, discount, fuse, recommended
from fedledger.protocol.records.reputation import Evidence, Opinion

MOST_DAYS = 90
"""Days after which the ledger does not tell the age of a reputation any more."""
DAY = 86_400


@dataclass(frozen=True)
class Listening:
    """Whose opinions are asked for.

    Parameters
    ----------
    publisher
        Who thinks of somebody.
    recommenders
        Other publishers to which it listens.
    trust
        How much their opinions count, in parts per million.
    """

    publisher: str
    recommenders: tuple[str, ...] = ()
    trust: int = 0

    def __post_init__(self) -> None:
        if len(self.recommenders) > MAX_RECOMMENDERS:
            raise ConfigError(f"There are {len(self.recommenders)} recommenders.", f"Give at most {MAX_RECOMMENDERS}.")
        if len({self.publisher, *self.recommenders}) <= len(self.recommenders):
            raise ConfigError(
                "A recommender is named twice, or is the publisher.",
                "Give each recommender once, and only publishers other than the one whose opinion you ask for.",
            )


@dataclass(frozen=True)
class ReputationView:
    """What a publisher thinks of a participant; opinions and reputations are in parts per million.

    Parameters
    ----------
    id, address
        The participant: its number, and its owner.
    evidence
        What the publisher's verdicts have left.
    own, recommended, fused
        Its own opinion, that of its recommenders as much as it trusts them, and what both make together.
    age
        Days since its evidence last changed by a settlement or a check, 0: today; None if that was more than 90 days
        ago or never.
    scorer
        Evidence of the participant as a scorer for the publisher; empty unless it has failed.
    """

    id: int
    address: str
    evidence: Evidence
    own: Opinion
    recommended: Opinion
    fused: Opinion
    age: int | None
    scorer: Evidence

    @property
    def reputation(self) -> int:
        """The reputation that the publisher and its recommenders give it."""
        return self.fused.reputation

    def document(self) -> dict[str, Any]:
        """Return this as JSON."""
        named = {"own": self.own, "recommended": self.recommended, "fused": self.fused}
        return {
            "id": self.id,
            "address": self.address,
            "reputation": self.reputation,
            "age": self.age,
            "evidence": _counts(self.evidence),
            **{name: _parts(opinion) for name, opinion in named.items()},
            "scorer": {**_counts(self.scorer), "reputation": self.scorer.reputation},
        }


class Opinions:
    """What publishers think of participants after some block of a ledger.

    Parameters
    ----------
    logs
        The ledger's, in order, until that block.
    """

    def __init__(self, logs: Iterable[Log]) -> None:
        self.state, self._changed = LedgerState(), dict[tuple[str, int], int]()
        for log in logs:
            known = len(self.state.applied)
            self.state.extend([log])
            # What was taken over from another ledger has no age.
            for applied in self.state.applied[known:] if log.event != "EvidenceAdopted" else ():
                judged = (*applied.verdicts, *applied.adopted)
                self._changed |= dict.fromkeys(((applied.publisher, participant) for participant in judged), log.block)

    @classmethod
    def read(cls, ledger: Ledger, block: int) -> Opinions:
        """Return what the logs of a ledger tell until a block."""
        return cls(ledger.events(last=block))

    def changed_in(self, publisher: str, participant: int) -> int | None:
        """Return the block in which a publisher's evidence of a participant last changed; None: never."""
        return self._changed.get((publisher, participant))

    def participants(self, task: int) -> list[int]:
        """Return who was ever enrolled in a task, by address."""
        return sorted(self.state.task(task).joined, key=lambda i: self.state.owners[i].lower())

    def participant(self, address: str) -> int:
        """Return the number of a participant.

        Raises
        ------
        ChainError
            If it is not registered.
        """
        if address not in self.state.ids:
            raise ChainError(f"{address} is no participant's owner on this ledger.", "Give the address of an owner.")
        return self.state.ids[address]

    def of(self, participant: int, asked: Listening, day: int, day_of: Callable[[int], int]) -> ReputationView:
        """Return what is thought of a participant.

        Parameters
        ----------
        participant, asked
            Of whom, and by whom.
        day
            The present one, counted from the epoch.
        day_of
            Returns the day of a block, by its number.
        """
        state = self.state
        own = state.evidence(asked.publisher, participant)
        others = [state.evidence(recommender, participant) for recommender in asked.recommenders]
        told = discount(recommended(others), asked.trust)
        changed = self.changed_in(asked.publisher, participant)
        age = None if changed is None else day - day_of(changed)
        return ReputationView(
            id=participant,
            address=state.owners[participant],
            evidence=own,
            own=own.opinion,
            recommended=told,
            fused=fuse(own.opinion, told),
            age=None if age is None or age > MOST_DAYS else age,
            scorer=state.scorer_evidence(asked.publisher, participant),
        )


def reputation_rows(
    ledger: Ledger, task: int | None, addresses: Sequence[str], asked: Listening, block: int | None = None
) -> list[ReputationView]:
    """Return what a publisher thinks of participants after a block; of the newest one unless it is given.

    Parameters
    ----------
    ledger
        The ledger.
    task
        Of whose participants, if ``addresses`` is empty.
    addresses
        Owners of participants.
    asked
        Who thinks of them, and to whom it listens.
    block
        The block.

    Raises
    ------
    ChainError
        If there is no such task, participant or block.
    """
    chain = ledger.chain
    number = chain.block_number() if block is None else block
    if number > chain.block_number():
        raise ChainError(f"The chain has no block {number} yet.", f"Its newest one is {chain.block_number()}.")

    def day_of(place: int) -> int:
        return int(chain.block(place)["timestamp"]) // DAY

    opinions, day = Opinions.read(ledger, number), day_of(number)
    chosen = [opinions.participant(address) for address in addresses]
    if not chosen and task is not None:
        chosen = opinions.participants(task)
    return [opinions.of(participant, asked, day, day_of) for participant in chosen]


def _counts(evidence: Evidence) -> dict[str, int]:
    return {"positive": evidence.positive, "negative": evidence.negative, "missed": evidence.missed}


def _parts(opinion: Opinion) -> dict[str, int]:
    parts = {"belief": opinion.belief, "disbelief": opinion.disbelief, "uncertainty": opinion.uncertainty}
    return {**parts, "reputation": opinion.reputation}
