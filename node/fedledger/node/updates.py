"""A participant's updates: what they follow from, how they are made, signed and committed to."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial

from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.node.contexts import Contexts, counts
from fedledger.node.journal import UPDATE, Journal, JournalEntry
from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import Trainer, TrainingContext
from fedledger.protocol.codecs.payload import decode_vectors, header_codec
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ActsElsewhereError, ConfigError
from fedledger.protocol.records import update as wire
from fedledger.protocol.records.bids import report_vector
from fedledger.protocol.records.signatures import commitment, salt
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.update import UpdateHeader, UpdateRefusedError
from fedledger.protocol.units import in_gwei
from fedledger.storage.models import Models

log = logging.getLogger(__name__)

BaseOf = Callable[[int], int]
"""Tells how many models before a round's base, given its index, the one lies that a participant trains on."""

Bidder = Callable[[int], Mapping[str, int] | None]
"""Tells what a participant reports in a bidding round, given its index, by name; None: nothing, so it is not asked."""


def acts_elsewhere(index: int, address: str) -> ActsElsewhereError:
    """Return the error that a participant has committed in a round, and this program has not."""
    return ActsElsewhereError(
        f"Round {index}: another program has committed for {address}.",
        "A copy of this node runs on another machine, or with another journal: stop all but one of them.",
    )


def header_of(spec: TaskSpec, index: int, owner: str, base: ContentRef, trained: LocalUpdate) -> UpdateHeader:
    """Return what an update, relative to a model ``base``, says of itself before its payload is known."""
    return UpdateHeader(
        spec=spec.digest.hex(),
        round=index,
        participant=owner,
        base=base.digest.hex(),
        examples=trained.examples,
        steps=trained.steps,
        codec=header_codec(spec),
        vectors=[wire.DELTA, *spec.vectors],
        payload="0" * 64,
        trajectory=trained.trajectory.hex() or None,
    )


def newest_base(index: int) -> int:
    """Return 0: every round is trained for on its own base model."""
    return 0


class Updates:
    """The updates of one participant in one task.

    Parameters
    ----------
    access
        The task and the participant's account, which also signs.
    journal
        Where updates wait until they may be seen.
    trainer
        Makes them.
    base_of
        How stale the update of a round is. Where the round takes none so stale, it is trained on the oldest base that
        the round takes.
    models
        Reads models from the store.
    """

    def __init__(self, access: TaskAccess, journal: Journal, trainer: Trainer, base_of: BaseOf, models: Models) -> None:
        self.access = access
        self.journal = journal
        self.trainer = trainer
        self.base_of = base_of
        self._models = models
        self._contexts = Contexts(access.spec, access.store, models)
        self._faults: dict[ContentRef, str] = {}
        self.covered: Callable[[TaskHistory, RoundHistory], bool] = lambda task, current: True
        self.bidder: Bidder | None = None
        self._is_told = False
        self._uncovered: set[int] = set()
        self._committed: tuple[tuple[int | bytes, ...], bytes] | None = None

    def context(self, task: TaskHistory, current: RoundHistory) -> TrainingContext | None:
        """Return what the update of a round follows from; None if it was made before."""
        is_made = current.bidding or self.journal.entry(current) is not None
        return None if is_made else self._context(task, current)

    def shown_context(self, task: TaskHistory, current: RoundHistory) -> TrainingContext:
        """Return what a round's update follows from, of a solver that keeps nothing between rounds."""
        entry = self.journal.entry(current)
        staleness = self.staleness(current) if entry is None else entry.staleness(current)
        return self._contexts(task, current, self.access.address, staleness, {})

    def staleness(self, current: RoundHistory) -> int:
        """Return how many models before a round's base the one lies that is trained on."""
        return 0 if current.bidding else min(self.base_of(current.index), len(current.earlier))

    def keep(self, current: RoundHistory, trained: LocalUpdate) -> JournalEntry:
        """Sign what was trained for a round, and keep it in the journal until it may be seen.

        Raises
        ------
        ConfigError
            If it does not hold the vectors that the spec names.
        """
        spec, account = self.access.spec, self.access.account
        if sorted(trained.vectors) != spec.vectors:
            sent, wanted = (", ".join(names) or "nothing" for names in (sorted(trained.vectors), spec.vectors))
            raise ConfigError(
                f"Besides its delta the update holds {sent}; the task's spec takes {wanted}.",
                "Train with the solver that the spec names.",
            )
        base = current.bases[self.staleness(current)]
        header = header_of(spec, current.index, account.address, base, trained)
        data = wire.encode(header, trained.sent, bytes(account.key))
        return self.journal.write(current.index, base.digest, data, trained.state)

    def made(self, task: TaskHistory, current: RoundHistory) -> JournalEntry:
        """Return the round's update or bid, which is in the journal; it is made if it is not there."""
        found = self.journal.entry(current)
        if found is not None:
            return found
        if current.bidding:
            return self._bid(current)
        return self.keep(current, self.trainer(self._context(task, current)))

    def _bid(self, current: RoundHistory) -> JournalEntry:
        """Sign what this participant reports in a bidding round, and keep it in the journal."""
        spec, account = self.access.spec, self.access.account
        report = self._report(current)
        if report is None:
            raise ConfigError("This participant has nothing to report.", "Say what it bids.")
        vectors = report_vector(report, spec.report)
        header = UpdateHeader(
            spec=spec.digest.hex(),
            round=current.index,
            participant=account.address,
            base=current.base.digest.hex(),
            examples=0,
            steps=0,
            vectors=sorted(vectors),
            payload="0" * 64,
        )
        data = wire.encode(header, vectors, bytes(account.key))
        return self.journal.write(current.index, current.base.digest, data, {})

    def _report(self, current: RoundHistory) -> Mapping[str, int] | None:
        return None if self.bidder is None else self.bidder(current.index)

    def _stays_silent(self, current: RoundHistory) -> bool:
        """Return whether this participant reports nothing in a bidding round, or not what the task asks for."""
        if self.journal.entry(current) is not None:
            return False
        report = self._report(current)
        if report is not None:
            try:
                report_vector(report, self.access.spec.report)
                return False
            except ConfigError as error:
                why = error.message
        else:
            why = "this node has no bid"
        if current.index not in self._uncovered:
            self._uncovered.add(current.index)
            log.warning("round %d asks for bids, and is missed: %s", current.index, why)
        return True

    def is_staked(self, task: TaskHistory, current: RoundHistory) -> bool:
        """Return whether this participant has the stake without which a task with spot checks refuses its updates."""
        stake = self.access.history.stakes.get(self.access.participant or 0, 0)
        if not task.params.check_rate or self.access.participant in current.staked:
            return True
        if not self._is_told:
            self._is_told = True
            log.error(
                "the stake is %s, and the task asks for %s: rounds are missed until it is there again; add to it with "
                "`fedledger node stake`",
                in_gwei(stake),
                in_gwei(task.params.min_stake),
            )
        return False

    def costs(self, task: TaskHistory, current: RoundHistory) -> bool:
        """Return whether revealing the round's update would cost something, as every aggregator has to refuse it.

        Others may have brought that about: by a model with which training diverges, or statistics leave their range.
        A round without this participant costs it nothing of its stake.
        """
        if not self.is_staked(task, current):
            return True
        if current.bidding:
            return self._stays_silent(current)
        if not self.covered(task, current):
            if current.index not in self._uncovered:
                self._uncovered.add(current.index)
                log.warning("round %d: missed, as the commitment to the present data does not hold yet", current.index)
            return True
        if not task.params.penalties.garbage:
            return False
        entry = self.made(task, current)
        if entry.reference not in self._faults:
            fault = self._fault(entry, self._models(current.bases[entry.staleness(current)]).dimension)
            self._faults = {entry.reference: fault}
            if fault:
                log.warning(
                    "round %d: missed, as the update would be refused and cost a penalty: %s; scale the inputs, lower "
                    "learning_rate, or leave the task",
                    current.index,
                    fault,
                )
        return bool(self._faults[entry.reference])

    def _fault(self, entry: JournalEntry, dimension: int) -> str:
        """Return why an update would be refused whoever looks at it; empty if it would not."""
        spec, length = self.access.spec, entry.reference.length
        if length > spec.limits.max_update_bytes:
            return f"it has {length:,} bytes"
        try:
            decode_vectors(wire.decode(self.journal.content(entry.round)).vectors, spec, dimension)
        except UpdateRefusedError as error:
            return error.detail
        return ""

    def put(self, current: RoundHistory, entry: JournalEntry) -> ContentRef:
        """Put the round's update into the store, where everybody may see it from now on."""
        path = self.journal.path(UPDATE, current.index)
        return self.access.store.put(self.journal.content(current.index), path, entry.reference)

    def commitment(self, task: TaskHistory, current: RoundHistory) -> bytes:
        """Return the commitment to the round's update; it is computed once as long as the round has the same bases."""
        key: tuple[int | bytes, ...] = (current.index, *(base.digest for base in current.bases))
        if self._committed is None or self._committed[0] != key:
            self._committed = key, self._new_commitment(task, current)
        return self._committed[1]

    def salt(self, current: RoundHistory) -> bytes:
        """Return the salt of the round's commitment."""
        return salt(bytes(self.access.account.key), self.access.place, current.index)

    def _new_commitment(self, task: TaskHistory, current: RoundHistory) -> bytes:
        entry = self.made(task, current)
        base = current.bases[entry.staleness(current)].digest
        by = (self.access.place, current.index, self.access.address)
        return commitment(*by, base, entry.reference, self.salt(current))

    def _context(self, task: TaskHistory, current: RoundHistory) -> TrainingContext:
        own = self.journal.state_before(current.index, task.rounds, partial(self._counts, task))
        return self._contexts(task, current, self.access.address, self.staleness(current), own)

    def _counts(self, task: TaskHistory, before: RoundHistory) -> bool:
        participant = self.access.participant
        return participant is not None and counts(task, before, participant)
