"""What a participant does that was drawn to score a round's updates: it scores, commits, and reveals.

Its scores are in the journal before it commits to them: a program that starts again must reveal the same ones, and one
that finds others never signs a second commitment.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path

from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.actor import Action, Situation, Step
from fedledger.contracts.ledger.check_times import KNOWN_BLOCKS
from fedledger.contracts.ledger.records import Phase
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.score_history import ScoringHistory
from fedledger.contracts.ledger.score_times import ScoreTimes
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.contracts.ledger.waits import seconds_left
from fedledger.node.scoring import ScoredRound, Scorer
from fedledger.protocol.encoding.canonical import MAX_DOCUMENT_BYTES, parse
from fedledger.protocol.encoding.strict import hexadecimal
from fedledger.protocol.errors import StoreError
from fedledger.protocol.records.commitment_batch import SignedCommitment
from fedledger.protocol.records.mailbox import MailboxClient, MailboxRefusedError
from fedledger.protocol.records.scores import Scored, pack_scores, score_commitment, unpack_scores
from fedledger.protocol.records.signatures import score_salt, scores_message, sign
from fedledger.storage import durable_files
from fedledger.storage.deadlines import within
from fedledger.storage.models import Models

log = logging.getLogger(__name__)

Words = tuple[int, ...]

SHARE, LEAST = 0.25, 1.0
"""The part of what is left of a period that others may take to answer, and the least seconds that they have."""
ON_CHAIN = 0.5
"""The part of a score period after which a scorer does itself, on the ledger, what the aggregator has not done."""
DRAWN_WITHIN = KNOWN_BLOCKS // 4
"""Blocks after which a scorer draws if nobody has: once the chain has forgotten the call's block, nobody is drawn."""


class ScoreJournal:
    """The scores of one participant in one task, which outlast the program.

    Parameters
    ----------
    folder
        The folder, which is made if need be; other files may lie in it, too.
    name
        What the names of this task's files begin with.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        folder.mkdir(parents=True, exist_ok=True)

    def read(self, index: int, asked: bytes, count: int) -> Words | None:
        """Return the words of scores that were made for a round; None if there are none, or not of what is asked now.

        Raises
        ------
        StoreError
            If the file cannot be read.
        """
        path = self._path(index)
        try:
            found = parse(durable_files.read(path, MAX_DOCUMENT_BYTES).decode())
            words = tuple(int.from_bytes(hexadecimal(word, 32), "big") for word in found["words"])
            if hexadecimal(found["asked"], 32) != asked:
                return None
            unpack_scores(words, count)
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise StoreError(
                f"{path} cannot be read: {error!r:.200}.", "Leave it: this round's scores cannot be revealed."
            ) from error
        return words

    def has(self, index: int) -> bool:
        """Return whether scores were made for a round."""
        return durable_files.exists(self._path(index))

    def write(self, index: int, asked: bytes, words: Words) -> None:
        """Write the words of scores, and the digest of what is scored."""
        document = {"asked": asked.hex(), "words": [word.to_bytes(32, "big").hex() for word in words]}
        durable_files.write_atomically(self._path(index), json.dumps(document).encode())

    def _path(self, index: int) -> str:
        return f"{self._folder}/{self._name}-{index}.scores"


class Scoring:
    """The duty to score the updates of rounds for which the participant is drawn.

    In a batched task the aggregator is left what the ledger has to have; where it does not do its part by the middle of
    a period, the scorer does it itself.

    Parameters
    ----------
    access
        The task, and the participant's account.
    scorer
        Scores updates.
    journal
        Folder in which scores wait until they are revealed.
    mailbox
        A way to the aggregator's mailbox, if the task is batched.
    models
        Reads models from the store.
    """

    def __init__(
        self,
        access: TaskAccess,
        scorer: Scorer,
        journal: Path,
        mailbox: MailboxClient | None = None,
        models: Models | None = None,
    ) -> None:
        self.access = access
        self.scorer = scorer
        self.journal = ScoreJournal(journal, "-".join(map(str, access.place)))
        self.mailbox = mailbox
        self.times = ScoreTimes(access.ledger)
        self._models = models or Models(access.store, access.spec.tensors)
        self._left: set[tuple[int, int]] = set()
        self._delivered: set[int] = set()
        self._revealed: set[int] = set()
        self._told: set[int] = set()
        self._silent: set[int] = set()

    def __call__(self, seen: Situation) -> Step | None:
        """Draw, commit to scores, or reveal them, where the current round asks this participant."""
        participant, current, task = self.access.participant, seen.current, seen.task
        if seen.phase is not Phase.SCORING or participant is None or current is None:
            return None
        scoring = current.scoring
        if scoring is None or scoring.tallied:
            return None
        now = self.access.ledger.chain.now()
        if scoring.seed is None:
            return self._draw(task, current, scoring, now)
        place = scoring.place_of(participant)
        if place is None:
            return None
        is_over = now >= self.times.after(task, current, 1)
        if place not in scoring.commitments:
            return None if is_over else self._commit(task, current, participant, now)
        if is_over or len(scoring.commitments) == len(scoring.scorers):
            return self._reveal(task, current, scoring, place, now)
        return None

    def _draw(self, task: TaskHistory, current: RoundHistory, scoring: ScoringHistory, now: int) -> Step | None:
        """Draw where nobody has for long, if this participant is among the scorers."""
        access, times = self.access, self.times
        if now >= times.after(task, current, 1):
            return None
        blocks = access.ledger.chain.block_number() - scoring.called_at.block
        if now < times.after(task, current, ON_CHAIN) and blocks < DRAWN_WITHIN:
            return None
        if not access.ledger.would_score(access.account, access.task, current.index, current.selected):
            return None
        log.warning("round %d: nobody has drawn its scorers, so drawing them", current.index)
        # Before the updates are measured, which takes a while: the block that draws them may be forgotten meanwhile.
        access.ledger.draw_scorers(access.account, access.task, current.index, current.selected)
        return Step(Action.SCORERS_DRAWN, access.task, current.index)

    def _commit(self, task: TaskHistory, current: RoundHistory, participant: int, now: int) -> Step | None:
        words = self._words(task, current)
        if words is None:
            return None
        if self.mailbox is None or not task.batched or now >= self.times.after(task, current, ON_CHAIN):
            return self._commit_on_chain(current, words)
        key = current.index, self.access.history.folds
        if key in self._left:
            return None
        digest = self._digest(current, words)
        message = scores_message(self.access.place, current.index, participant, digest)
        signed = SignedCommitment(participant, digest, sign(message, bytes(self.access.account.key)))
        try:
            with within(self._share):
                self.mailbox.commit_scores(current.index, signed)
        except MailboxRefusedError as error:
            # Tried again while there is time; after that the ledger itself takes the commitment.
            log.warning("round %d: %s", current.index, error)
            return None
        self._left.add(key)
        return Step(Action.SCORED, self.access.task, current.index)

    def _commit_on_chain(self, current: RoundHistory, words: Words) -> Step:
        access, digest = self.access, self._digest(current, words)
        access.ledger.commit_score(access.account, access.task, current.index, current.selected, digest)
        return Step(Action.SCORED, access.task, current.index)

    def _reveal(
        self, task: TaskHistory, current: RoundHistory, scoring: ScoringHistory, place: int, now: int
    ) -> Step | None:
        """Reveal to the aggregators, and on the ledger what these have not tallied for long."""
        index, access = current.index, self.access
        if place in scoring.revealed:
            return None
        words = self._words(task, current)
        if words is None or self._digest(current, words) != scoring.commitments[place]:
            if index not in self._told | self._silent:
                self._told.add(index)
                log.warning("round %d: what was committed to are no scores of this journal; is a copy running?", index)
            return None
        salt = self._salt(current)
        if self.mailbox is None or not task.batched or now >= self.times.after(task, current, 1 + ON_CHAIN):
            listed = sorted(access.ledger.scoring(task.id).listed)
            commitments = [scoring.commitments[each] for each in listed] if place in listed else ()
            access.ledger.reveal_score(access.account, task.id, index, Scored(place, salt, words), commitments)
            return Step(Action.SCORES_REVEALED, access.task, index)
        if index in self._delivered or access.participant is None:
            return None
        try:
            with within(self._share):
                if self.mailbox.reveal_scores(index, access.participant, salt, words):
                    self._delivered.add(index)
        except MailboxRefusedError as error:
            log.warning("round %d: %s", index, error)
            return None
        is_again = index in self._revealed
        self._revealed.add(index)
        return None if is_again else Step(Action.SCORES_REVEALED, access.task, index)

    def _words(self, task: TaskHistory, current: RoundHistory) -> Words | None:
        """Return the round's scores, which are made if need be; None if there are none to commit to."""
        scoring, index = current.scoring, current.index
        if scoring is None or index in self._silent:
            return None
        asked, count = _asked(current, scoring), len(scoring.present)
        if self.journal.has(index):
            known = self.journal.read(index, asked, count)
            if known is None and index not in self._told:
                self._told.add(index)
                log.warning("round %d: missed, as scores of another list of updates were made before", index)
            return known
        with within(self._share):
            scores = self.scorer(self._round(task, current, scoring), self.access.store)
        if scores is None:
            self._silent.add(index)
            return None
        words = pack_scores(scores)
        self.journal.write(index, asked, words)
        return words

    def _round(self, task: TaskHistory, current: RoundHistory, scoring: ScoringHistory) -> ScoredRound:
        listed = current.listed
        return ScoredRound(
            spec=self.access.spec,
            index=current.index,
            base=self._models(current.base),
            owners=tuple(current.owners[participant] for participant in scoring.present),
            updates=tuple(listed[participant] for participant in scoring.present if participant in listed),
            scorer=self.access.address,
            before=_revealed_before(task, current.index, self.access.address),
        )

    def _digest(self, current: RoundHistory, words: Words) -> bytes:
        participant = self.access.participant
        assert participant is not None
        return score_commitment(self.access.place, current.index, participant, self._salt(current), words)

    def _salt(self, current: RoundHistory) -> bytes:
        return score_salt(bytes(self.access.account.key), self.access.place, current.index)

    def _share(self) -> float:
        """Return for how many seconds others may be waited for."""
        return max(LEAST, SHARE * seconds_left(self.access.ledger, self.access.task))


def _asked(current: RoundHistory, scoring: ScoringHistory) -> bytes:
    """Return a digest of what is scored: the base model, whose updates, and which."""
    listed = current.listed
    parts = [current.base.digest]
    for participant in scoring.present:
        update = listed.get(participant)
        parts += [participant.to_bytes(4, "big"), bytes(32) if update is None else update.digest]
    return hashlib.sha256(b"".join(parts)).digest()


def _revealed_before(task: TaskHistory, index: int, own: str) -> Mapping[str, int]:
    """Return what the first other scorer revealed in the round before, by the owners of the updates."""
    before = task.rounds.get(index - 1)
    scoring = None if before is None else before.scoring
    if before is None or scoring is None:
        return {}
    owners = [before.owners[participant] for participant in scoring.present]
    for place, scored in sorted(scoring.scores.items()):
        if before.owners.get(scoring.scorers[place]) != own:
            return dict(zip(owners, unpack_scores(scored.words, len(owners)), strict=True))
    return {}
