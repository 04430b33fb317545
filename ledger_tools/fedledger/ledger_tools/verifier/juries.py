"""How a verifier serves on juries: it votes as its own replay found.

A vote for or against a proposal says that the whole round was replayed, measurements included. Who cannot do that,
because it takes more time or memory than there is, says so: that costs nothing if most of the jury does. Where the
validation set is sealed nobody on a jury can measure, and all take the measurements as they were posted.
"""

from __future__ import annotations

import json
import logging
from functools import partial
from pathlib import Path

from fedledger.contracts.ledger.actor import Action, Step
from fedledger.contracts.ledger.court import level_transcript
from fedledger.contracts.ledger.dispute_history import DisputeHistory
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.records import DisputeKind, Finding
from fedledger.ledger_tools.verifier.context import Context, Things
from fedledger.ledger_tools.verifier.replaying import Unable
from fedledger.ledger_tools.verifier.replays import Replays
from fedledger.protocol.encoding.strict import hexadecimal
from fedledger.protocol.records.signatures import vote_salt
from fedledger.storage.durable_files import write_atomically
from fedledger.storage.foreign_files import read_json

log = logging.getLogger(__name__)

Vote = tuple[Finding, bytes]
"""What was found, and the transcript of the replay as jurors of a level reveal it."""
NO_TRANSCRIPT = bytes(32)
SAID = {
    Finding.VALID: "the proposal follows",
    Finding.INVALID: "the proposal does not follow",
    Finding.UNABLE: "it cannot be judged",
}


class Juries:
    """The duty to commit to a vote, and to reveal it, wherever the verifier was drawn.

    Parameters
    ----------
    context, replays
        What all duties share.
    journal
        Folder in which votes wait until they are revealed. Without one they are made again, which fails where a
        measurement is about as wrong as the tolerance allows.
    """

    def __init__(self, context: Context, replays: Replays, journal: Path | None) -> None:
        self.context = context
        self.replays = replays
        self._journal = journal
        if journal is not None:
            journal.mkdir(parents=True, exist_ok=True)

    def __call__(self, history: History) -> Step | None:
        """Commit or reveal where that is due."""
        juror = history.ids[self.context.access.address]
        drawn: Things = {
            (dispute.id,): partial(self._serve, dispute, juror)
            for dispute in self.context.disputes()
            if dispute.kind is DisputeKind.REPLAY and juror in (dispute.juries[-1].members or ())
        }
        return self.context.first_due("jury", drawn)

    def _serve(self, dispute: DisputeHistory, juror: int) -> Step | None:
        """Commit to a vote, or reveal it, where that is due."""
        ledger, level, jury = self.context.access.ledger, len(dispute.juries) - 1, dispute.juries[-1]
        if jury.members is None or jury.decided or juror in jury.revealed or self.context.round(dispute).voided:
            return None
        record, now = ledger.jury(dispute.id, level), ledger.chain.now()
        if juror not in jury.committed:
            return self.commit(dispute, level, juror) if now < record.commits_until else None
        if len(jury.committed) == len(jury.members) or now >= record.commits_until:
            return self.reveal(dispute, level, juror) if now < record.reveals_until else None
        return None

    def vote(self, dispute: DisputeHistory, level: int) -> Vote | None:
        """Return what the replay of a disputed round found, or that it cannot be judged here; None to wait."""
        task, current = self.context.access.history.task(dispute.task), self.context.round(dispute)
        if self.replays.may_differ(task, current) and self.context.once(dispute.id, level, "looked again"):
            self.replays.look_again(task, current)
        found = self.replays.replayed(task, current, self.context.settings.dispute_period)
        if found is None:
            return None
        if isinstance(found, Unable) or not found.checked:
            reason = found.reason if isinstance(found, Unable) else self.replays.unchecked(task)
            if self.context.once(dispute.id, level, "unable"):
                log.warning("dispute %d: it cannot be judged here: %s", dispute.id, reason)
            return Finding.UNABLE, NO_TRANSCRIPT
        return found.finding, level_transcript(found.transcript, level)

    def commit(self, dispute: DisputeHistory, level: int, juror: int) -> Step | None:
        """Commit to a vote, which is in the journal before."""
        found = self.vote(dispute, level)
        if found is None:
            return None
        path = self._path(dispute, level)
        if path is not None:
            write_atomically(path, json.dumps({"finding": found[0].name, "transcript": found[1].hex()}).encode())
        access = self.context.access
        access.ledger.commit_vote(access.account, dispute.id, self.sealed(dispute, level, juror, *found))
        return _step(Action.VOTE_COMMITTED, dispute)

    def reveal(self, dispute: DisputeHistory, level: int, juror: int) -> Step | None:
        """Reveal the vote that was committed to: the one in the journal, or the one that a replay gives again."""
        access, committed = self.context.access, dispute.juries[level].committed[juror]
        for find in (self._written, self.vote):
            found = find(dispute, level)
            if found is None or self.sealed(dispute, level, juror, *found) != committed:
                continue
            access.ledger.reveal_vote(access.account, dispute.id, *found, self.salt(dispute, level))
            return _step(Action.VOTE_REVEALED, dispute, SAID[found[0]])
        if self.context.once(dispute.id, level, "not revealed"):
            log.error("dispute %d: the vote cannot be opened; was it another journal or account?", dispute.id)
        return None

    def sealed(self, dispute: DisputeHistory, level: int, juror: int, finding: Finding, transcript: bytes) -> bytes:
        """Return the commitment to a vote."""
        ledger = self.context.access.ledger
        return ledger.vote_of(dispute.id, level, juror, finding, transcript, self.salt(dispute, level))

    def salt(self, dispute: DisputeHistory, level: int) -> bytes:
        """Return the salt of a vote's commitment."""
        access = self.context.access
        place = access.ledger.chain.chain_id, access.ledger.address
        return vote_salt(bytes(access.account.key), *place, dispute.id, level)

    def _path(self, dispute: DisputeHistory, level: int) -> Path | None:
        if self._journal is None:
            return None
        access = self.context.access
        name = f"{access.ledger.chain.chain_id}-{access.ledger.address}-{access.address}-{dispute.id}-{level}.vote"
        return self._journal / name

    def _written(self, dispute: DisputeHistory, level: int) -> Vote | None:
        path = self._path(dispute, level)
        if path is None or not path.exists():
            return None
        try:
            document = read_json(path)
            return Finding[document["finding"]], hexadecimal(document["transcript"], 32)
        except (OSError, ValueError, LookupError, TypeError) as error:
            log.warning("dispute %d: the journal's vote cannot be read: %s", dispute.id, error)
            return None


def _step(action: Action, dispute: DisputeHistory, detail: str = "") -> Step:
    return Step(action, dispute.task, dispute.round, dispute.id, detail)
