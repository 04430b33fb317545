"""What an auditor needs of a task to judge its checks: the model, the updates, and the key to what is shown."""

from __future__ import annotations

import logging
from collections.abc import Set

from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.check_history import CheckHistory
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.learning.posted_model import PostedModel
from fedledger.node.contexts import Contexts
from fedledger.platform.spot_checks.findings import Judged
from fedledger.platform.spot_checks.judging import Case, judge_box, validation_keys
from fedledger.protocol.encoding.cid import MAX_STATE_BYTES, ContentRef
from fedledger.protocol.encoding.sealed_boxes import public_key, reader_key
from fedledger.protocol.encoding.strict import hexadecimal
from fedledger.protocol.errors import ConfigError, ContentCorruptError, ContentUnavailableError
from fedledger.protocol.records import update as wire
from fedledger.protocol.records.data_root import DataRoot
from fedledger.protocol.records.spot_checks import Check
from fedledger.storage.models import Models

log = logging.getLogger(__name__)


class TaskJudge:
    """Judges the checks of a task.

    Parameters
    ----------
    access
        The task, and an auditor's account, whose key opens what is sealed to it.
    trusted
        The CIDs of code that may run here.

    Raises
    ------
    ConfigError, StoreError, TrustError
        If what the spec names cannot be had, or does not fit together.
    """

    def __init__(self, access: TaskAccess, trusted: Set[str] = frozenset()) -> None:
        self.access = access
        spec, store = access.spec, access.store
        self._posted = PostedModel.read(spec, store, trusted)
        self._public = validation_keys(spec, store)
        self._contexts = Contexts(spec, store, Models(store, spec.tensors))
        self._key = reader_key(bytes(access.account.key))
        named = () if spec.spot_checks is None else spec.spot_checks.auditors
        if not any(each.account == access.address and each.key == public_key(self._key).hex() for each in named):
            raise ConfigError(
                f"The task seals what {access.address} has to see to another key than this program has.",
                "Do not audit it: ask its publisher to post it with what `fedledger auditor key` prints.",
            )

    def __call__(self, task: TaskHistory, check: CheckHistory, is_last_try: bool) -> Judged | None:
        """Return what is found; None if something cannot be had yet, or is not the participant's to provide."""
        current, answer = task.rounds[check.round], check.answers[-1]
        case = self._case(task, current, check)
        if case is None or current.check_seed is None:
            return None
        about = Check(self.access.place, check.round, check.participant, check.auditor, current.check_seed)
        try:
            box = self.access.store.get(answer.box, MAX_STATE_BYTES)
        except (ContentUnavailableError, ContentCorruptError):
            return Judged(False, reason="what should be shown cannot be fetched") if is_last_try else None
        found = judge_box(about, case, box, answer.opening, self._key)
        return Judged(found.passed, found.transcript, "" if found.passed else found.reason.label)

    def _case(self, task: TaskHistory, current: RoundHistory, check: CheckHistory) -> Case | None:
        """Return what is known of the update that is checked; None if it cannot be had."""
        spec, owner = self.access.spec, current.owners[check.participant]
        word = None
        if spec.committed_data is not None:
            word = task.committed(check.participant, current.index, spec.committed_data.every)
        reference = _update_of(task, current, check.participant)
        if word is None or reference is None:
            return None
        try:
            update = self.access.store.get(reference, spec.limits.max_update_bytes)
            sent = wire.decode(update)
            staleness = current.staleness_of(hexadecimal(sent.header.base, 32))
        except (ContentUnavailableError, ContentCorruptError, wire.UpdateRefusedError) as error:
            log.warning("round %d: an update that was accepted cannot be read: %s", current.index, error)
            return None
        if staleness is None or sent.signed_by not in self.access.history.all_signers[check.participant]:
            # Whoever proposed the round put it there, and not the participant: that is for verifiers to see.
            log.warning("round %d: the update of participant %d is not its own", current.index, check.participant)
            return None
        context = self._contexts(task, current, owner, staleness, {})
        claim = check.answers[-1].claim
        return Case(self._posted, context, update, DataRoot.of_word(word), claim, self._public)


def _update_of(task: TaskHistory, current: RoundHistory, participant: int) -> ContentRef | None:
    if task.batched:
        return current.delivered.get(participant)
    reveal = current.reveals.get(participant)
    return None if reveal is None else reveal.update
