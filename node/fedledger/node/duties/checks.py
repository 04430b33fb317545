"""What a participant does so that its work can be checked: it commits to its data, and shows them when it is drawn."""

from __future__ import annotations

import hashlib
import logging

from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.actor import Action, Situation, Step
from fedledger.contracts.ledger.check_history import Answer, CheckHistory, acting
from fedledger.contracts.ledger.check_times import CheckTimes
from fedledger.contracts.ledger.records import CheckState
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.node.spot_checks.opening import committed_examples, make_opening
from fedledger.node.training import Trainer
from fedledger.node.updates import Updates
from fedledger.protocol.encoding.keccak import keccak
from fedledger.protocol.encoding.sealed_boxes import seal
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.data_root import SEED_BYTES, DataRoot, salt_seed
from fedledger.protocol.records.spot_checks import Check, second_auditor

log = logging.getLogger(__name__)


class CommittedData:
    """The duty to commit to one's data, and again when they are others.

    Parameters
    ----------
    access
        The task and the account.
    trainer
        What trains on the data.

    Raises
    ------
    ConfigError
        If there are more examples than participants of the task may have, or they are not known.
    """

    def __init__(self, access: TaskAccess, trainer: Trainer) -> None:
        self.access = access
        self._trainer = trainer
        # Whoever cannot commit to its data learns so before it has a stake.
        self._count = len(committed_examples(access.spec, trainer, bytes(SEED_BYTES)).rows)
        self._roots: dict[int, DataRoot] = {}
        self._posted: tuple[int, int] | None = None

    def __call__(self, seen: Situation) -> Step | None:
        """Post the root of the examples, unless the ledger has it."""
        participant, task = self.access.participant, seen.task
        if participant is None or participant not in task.enrolled or task.complete:
            return None
        word, key = self.missing(task), (len(task.data.get(participant, ())), self.access.history.folds)
        if word is None or self._posted == key:
            return None
        self.access.ledger.commit_data(self.access.account, self.access.task, word)
        self._posted = key
        if participant in task.data:
            log.warning("the data are others than before: what was trained on the old ones cannot be shown any more")
        return Step(Action.COMMITTED_DATA, task.id, detail=f"{self._count:,} examples")

    def covers(self, task: TaskHistory, current: RoundHistory) -> bool:
        """Return whether the commitment that holds in a round is to the data as they are now."""
        committed, words = self.access.spec.committed_data, task.data.get(self.access.participant or 0, [])
        place = None if committed is None else acting(words, current.index, committed.every)
        return place is not None and words[place].word == self.root(place + 1).word

    def missing(self, task: TaskHistory) -> int | None:
        """Return the commitment that the ledger does not have yet; None if it has the newest."""
        words = [] if self.access.participant is None else task.data.get(self.access.participant, [])
        known = bool(words) and words[-1].word == self.root(len(words)).word
        return None if known else self.root(len(words) + 1).word

    def seed(self, number: int) -> bytes:
        """Return the seed of the salts of the participant's commitment with a number, from 1."""
        return salt_seed(bytes(self.access.account.key), self.access.place, number)

    def root(self, number: int) -> DataRoot:
        """Return the root of the examples under these salts."""
        if number not in self._roots:
            self._roots = {number: committed_examples(self.access.spec, self._trainer, self.seed(number)).root}
        return self._roots[number]


class Checks:
    """The duty to show to auditors what one's updates follow from.

    Parameters
    ----------
    access
        The task and the account.
    updates, data
        The participant's updates, and its commitments to its data.
    trainer
        What trains on the data.
    appeals
        Whether to appeal against failed checks, which takes a bond.
    """

    def __init__(
        self, access: TaskAccess, updates: Updates, data: CommittedData, trainer: Trainer, appeals: bool = True
    ) -> None:
        self.access = access
        self.updates = updates
        self.data = data
        self.trainer = trainer
        self.appeals = appeals
        self.times = CheckTimes(access.ledger)
        self._told: set[int] = set()
        self._shown: set[tuple[int, CheckState, int]] = set()

    def __call__(self, seen: Situation) -> Step | None:
        """Answer a summons, or appeal against a failed check."""
        participant, task = self.access.participant, seen.task
        if not task.params.check_rate or participant is None:
            return None
        asked = [r.checks[participant] for r in task.rounds.values() if participant in r.checks and not r.voided]
        waiting = [check for check in asked if self._asks(check)]
        if not waiting:
            return None
        now = self.access.ledger.chain.now()
        for check in waiting:
            if now < (self.times.waits_until(task, check) or 0):
                return self._show(task, check)
        return None

    def may_go_on(self, task: TaskHistory) -> bool:
        """Return whether this participant may still be drawn, or a check of it is open."""
        participant = self.access.participant
        mine = [r for r in task.proposed if participant in r.selected]
        if not task.params.check_rate or participant is None or not mine:
            return False
        chain = self.access.ledger.chain
        now, block = chain.now(), chain.block_number()
        if any(self.times.draws(task, current, now, block) for current in mine):
            return True
        checks = [current.checks[participant] for current in mine if participant in current.checks]
        return any(self.times.is_open(task, check, now) for check in checks if check.round not in self._told)

    def _asks(self, check: CheckHistory) -> bool:
        if check.round in self._told or (check.round, check.state, self.access.history.folds) in self._shown:
            return False
        return check.state is CheckState.SUMMONED or (check.state is CheckState.FAILED and self.appeals)

    def _show(self, task: TaskHistory, check: CheckHistory) -> Step | None:
        access, current, appeals = self.access, task.rounds[check.round], check.state is CheckState.FAILED
        place = second_auditor(check.auditor, task.params.auditor_count) if appeals else check.auditor
        try:
            answer = self._answer(task, current, check, place)
        except ConfigError as error:
            self._told.add(check.round)
            log.error("round %d: the check cannot be answered, which costs the penalty: %s", check.round, error)
            return None
        if appeals:
            log.warning("round %d: an auditor says that the check fails, so appealing to the next one", check.round)
            access.ledger.appeal_check(access.account, task.id, check.round, answer)
            self._shown.add((check.round, check.state, access.history.folds))
            return Step(Action.CHECK_APPEALED, task.id, check.round)
        access.ledger.answer_check(access.account, task.id, check.round, answer)
        self._shown.add((check.round, check.state, access.history.folds))
        return Step(Action.CHECK_ANSWERED, task.id, check.round)

    def _answer(self, task: TaskHistory, current: RoundHistory, check: CheckHistory, place: int) -> Answer:
        """Put what the update follows from into the store, for one auditor."""
        access, spec = self.access, self.access.spec
        words, committed = task.data.get(check.participant, []), spec.committed_data
        number = None if committed is None else acting(words, current.index, committed.every)
        if number is None or spec.spot_checks is None or current.check_seed is None:
            raise ConfigError("No commitment to the data holds in this round.", "Ask the task's publisher.")
        about = Check(access.place, current.index, check.participant, place, current.check_seed)
        root, seed = DataRoot.of_word(words[number].word), self.data.seed(number + 1)
        opening = make_opening(about, self.trainer, self.updates.shown_context(task, current), root, seed)
        key = bytes.fromhex(spec.spot_checks.auditors[place].key)
        box = access.store.put(seal(key, opening.plaintext, about.info))
        return Answer(box, hashlib.sha256(opening.plaintext).digest(), keccak(opening.transcript))
