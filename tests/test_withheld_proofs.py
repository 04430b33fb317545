"""An aggregator that shows who is in its root only once, and then calls it late: nobody loses stake by that."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fedledger.aggregator.mailbox.mailbox import Mailbox
from fedledger.contracts.ledger.records import Phase
from fedledger.node.duties import objections
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ContentUnavailableError
from fedledger.protocol.records.commitment_batch import Opening, SignedCommitment
from fedledger.protocol.records.mailbox import MailboxRefusedError
from fedledger.protocol.records.verdicts import Verdict
from support.world import TASK, World, world

VICTIM = 0


@dataclass
class Shy:
    """A mailbox that gives proofs in one phase only, after it was silent some times, and takes no reveals."""

    w: World
    inner: Any
    proves: Phase
    silent: int
    asked: list[Phase] = field(default_factory=list)

    def commit(self, index: int, signed: SignedCommitment) -> None:
        self.inner.commit(index, signed)

    def reveal(self, index: int, *opening: object) -> bool:
        raise MailboxRefusedError("Nobody is at home.")

    def commitment(self, index: int, participant: int) -> SignedCommitment | None:
        found: SignedCommitment | None = self.inner.commitment(index, participant)
        return found

    def proof(self, index: int, participant: int) -> list[bytes] | None:
        phase = self.w.ledger.phase(TASK)
        self.asked.append(phase)
        shows = phase is self.proves and self.asked.count(phase) > self.silent
        found: list[bytes] | None = self.inner.proof(index, participant) if shows else None
        return found


class Withheld:
    """A store that lacks the commitments."""

    def __init__(self, w: World, inner: Any) -> None:
        self.w, self.inner = w, inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def get(self, ref: ContentRef, limit: int | None = None) -> bytes:
        if ref in [known.batch for known in self.w.task.rounds.values()]:
            raise ContentUnavailableError("It is withheld.", "")
        content: bytes = self.inner.get(ref, limit)
        return content


@pytest.mark.parametrize(("proves", "silent"), [(Phase.ADMITTING, 0), (Phase.CHALLENGING, 2)])
def test_who_is_shown_a_proof_at_any_time_loses_no_stake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proves: Phase, silent: int
) -> None:
    openings = Mailbox.openings

    def forgetful(self: Mailbox, index: int) -> dict[int, Opening]:
        return {who: opening for who, opening in openings(self, index).items() if who != victim}

    monkeypatch.setattr(Mailbox, "openings", forgetful)
    # The chain's time passes faster than anybody's patience.
    monkeypatch.setattr(objections, "PAUSE", 0.0)
    monkeypatch.setattr(objections, "REST", 0.0)
    with world(tmp_path, rounds=1, batched=True, verifiers=0, penalty_gwei=1_000_000) as w:
        w.join()
        victim = w.history.ids[w.people[VICTIM].access.address]
        rounds = w.people[VICTIM].batched
        rounds.mailbox = shy = Shy(w, rounds.mailbox, proves, silent)
        object.__setattr__(rounds.access, "store", Withheld(w, rounds.access.store))
        if proves is Phase.ADMITTING:
            # There is a grace period only where somebody is missing.
            w.people[-1].batched.signed.add(1)
        w.pause = 10
        w.play()
        first = w.task.rounds[1]
        assert shy.asked.count(proves) == silent + 1, "it asked until it was told, and then no more"
        assert victim not in first.commits and victim in {**first.reveals, **first.excuses}
        assert (first.verdicts[victim] is Verdict.LATE) == (proves is Phase.CHALLENGING)
        assert not list(w.ledger.events(["Slashed"]))
        w.check_money()
