"""What scorers leave with an aggregator: signed commitments to their scores, and later the scores."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.score_history import ScoringHistory
from fedledger.protocol.encoding import canonical, strict
from fedledger.protocol.errors import StoreError
from fedledger.protocol.records.commitment_batch import MAX_PARTICIPANT, SignedCommitment
from fedledger.protocol.records.mailbox import MailboxRefusedError
from fedledger.protocol.records.scores import score_commitment, unpack_scores
from fedledger.protocol.records.signatures import Place, recover, scores_message
from fedledger.storage import durable_files

KEPT_ROUNDS = 16
"""Rounds whose scores stay in memory; all is on disk."""


class RevealedScores(NamedTuple):
    """What opens a scorer's commitment: its salt, 32 bytes, and the words of its scores."""

    salt: bytes
    words: tuple[int, ...]


@dataclass
class _Round:
    commitments: dict[int, SignedCommitment] = field(default_factory=dict)
    revealed: dict[int, RevealedScores] = field(default_factory=dict)


class ScoreBox:
    """Keeps what scorers left for each round, on disk: of each scorer one commitment, and what opens it.

    Parameters
    ----------
    history, task
        The ledger's state from logs, and the task's id.
    place
        What commitments are bound to.
    path
        Returns where what is left for a round is kept.
    """

    def __init__(self, history: History, task: int, place: Place, path: Callable[[int], Path]) -> None:
        self._history, self._task, self._place, self._path = history, task, place, path
        self._rounds: dict[int, _Round] = {}

    def is_scorer(self, index: int, participant: int) -> bool:
        """Return whether the ledger is known to have drawn a participant to score a round."""
        task = self._history.tasks.get(self._task)
        current = None if task is None else task.rounds.get(index)
        return current is not None and current.scoring is not None and participant in current.scoring.scorers

    def commit(self, index: int, signed: SignedCommitment) -> None:
        """Take a scorer's signed commitment; the same one may come again.

        Raises
        ------
        MailboxRefusedError
            If the participant is no scorer of the round, its signer did not sign this, or it signed another one before.
        """
        participant = signed.participant
        self._open(index, participant)
        kept = self._kept(index)
        known = kept.commitments.get(participant)
        if known is not None and known.commitment == signed.commitment:
            return
        message = scores_message(self._place, index, participant, signed.commitment)
        if recover(message, signed.signature) != self._history.signers[participant]:
            raise MailboxRefusedError(
                f"The scores' commitment for round {index} is not signed by participant {participant}'s signer.",
                "Sign with the key of the registered signer, for this chain, ledger and task.",
            )
        if known is not None:
            raise MailboxRefusedError(f"Participant {participant} signed two commitments to scores of round {index}.")
        parts = {"commitment": signed.commitment.hex(), "signature": signed.signature.hex()}
        self._write(index, {"kind": "commitment", "participant": participant, **parts})
        kept.commitments[participant] = signed

    def reveal(self, index: int, participant: int, salt: bytes, words: Sequence[int]) -> None:
        """Take a scorer's scores; the same may come again.

        Raises
        ------
        MailboxRefusedError
            If they open nothing that the participant committed to, here or on the ledger, or are no scores of the
            round's updates.
        """
        current, scoring = self._open(index, participant)
        kept, given = self._kept(index), tuple(words)
        if kept.revealed.get(participant) == (salt, given):
            return
        try:
            unpack_scores(given, len(scoring.present))
        except ValueError as error:
            raise MailboxRefusedError(f"These are no scores of the updates of round {index}: {error}.") from error
        opened = score_commitment(self._place, current.index, participant, salt, given)
        signed = kept.commitments.get(participant)
        on_chain = scoring.commitments.get(scoring.scorers.index(participant))
        # One commitment counts, and what opens it is written once: who has signed one and posted another fills no disk.
        expected = on_chain or (None if signed is None else signed.commitment)
        if opened != expected:
            raise MailboxRefusedError(f"This opens no commitment to scores of participant {participant}.")
        self._write(index, {"kind": "scores", "participant": participant, "salt": salt.hex(), "words": _hex(given)})
        kept.revealed[participant] = RevealedScores(salt, given)

    def commitments(self, index: int) -> Mapping[int, SignedCommitment]:
        """Return what was committed to for a round, by participant id."""
        return dict(self._kept(index).commitments)

    def revealed(self, index: int) -> Mapping[int, RevealedScores]:
        """Return what was revealed for a round, by participant id."""
        return dict(self._kept(index).revealed)

    def _open(self, index: int, participant: int) -> tuple[RoundHistory, ScoringHistory]:
        if not self.is_scorer(index, participant):
            raise MailboxRefusedError(f"Participant {participant} is not drawn to score round {index}.")
        current = self._history.task(self._task).rounds[index]
        scoring = current.scoring
        assert scoring is not None
        if scoring.tallied or current.voided:
            raise MailboxRefusedError(f"The scores of round {index} are tallied, or it was voided.")
        return current, scoring

    def _kept(self, index: int) -> _Round:
        if index not in self._rounds:
            self._rounds = {known: kept for known, kept in self._rounds.items() if known > index - KEPT_ROUNDS}
            kept = self._rounds[index] = _Round()
            path = self._path(index)
            for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
                try:
                    entry = canonical.parse(line)
                except ValueError:
                    # The last line may be cut off; its sender was never told that it was taken.
                    continue
                _remember(kept, entry)
        return self._rounds[index]

    def _write(self, index: int, entry: Mapping[str, object]) -> None:
        durable_files.append(self._path(index), json.dumps(entry) + "\n")


def _hex(words: Sequence[int]) -> list[str]:
    return [word.to_bytes(32, "big").hex() for word in words]


def _remember(kept: _Round, entry: dict[str, Any]) -> None:
    """Keep what a line of the file says; raises StoreError if it says nothing that a mailbox writes."""
    try:
        participant = strict.whole(entry["participant"], 0, MAX_PARTICIPANT)
        if entry["kind"] == "scores":
            words = tuple(int.from_bytes(strict.hexadecimal(word, 32), "big") for word in entry["words"])
            kept.revealed[participant] = RevealedScores(strict.hexadecimal(entry["salt"], 32), words)
            return
        parts = strict.hexadecimal(entry["commitment"], 32), strict.hexadecimal(entry["signature"], 65)
        kept.commitments[participant] = SignedCommitment(participant, *parts)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise StoreError(f"The mailbox's file of scores has a line that no mailbox writes: {error}.") from error
