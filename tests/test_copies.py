"""Two copies of one node on two machines: one of them says so and stops before both have signed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedledger.node.participant import Participant
from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import TrainingContext
from fedledger.protocol.errors import ActsElsewhereError
from support.world import World, world


class Differing:
    """Trains as another machine does: its last bits are others."""

    def __init__(self, w: World, number: int) -> None:
        self._trainer = w.experiment.trainer(number)

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        update = self._trainer(context)
        return replace(update, delta=np.nextafter(update.delta, np.float32(1)))


def copy_of(w: World, number: int, differs: bool = True) -> Participant:
    """Return a copy of a node, with a journal of its own."""
    person = w.people[number]
    trainer = Differing(w, number) if differs else w.experiment.trainer(number)
    mailbox = w.aggregators[0].commitments.mailbox
    return Participant(w.access(person.access.account), w.folder / "elsewhere", trainer, mailbox)


@pytest.mark.parametrize("batched", [False, True])
def test_a_copy_on_another_machine_says_so_and_stops(tmp_path: Path, batched: bool) -> None:
    with world(tmp_path, verifiers=0, rounds=3, batched=batched, penalty_gwei=0) as w:
        w.join()
        second = copy_of(w, 0)
        with pytest.raises(ActsElsewhereError, match="another machine"):
            w.play(lambda: second.step() is None or w.task.finished)
        w.play()
        # Nobody lost anything, and nothing was signed twice.
        assert not w.task.slashes
        mailbox = w.aggregators[0].commitments.mailbox
        assert mailbox is None or not any(mailbox.equivocations(index) for index in w.task.rounds)
        assert w.audit().reproduced


@pytest.mark.parametrize("batched", [False, True])
def test_a_node_that_is_started_again_with_its_journal_goes_on(tmp_path: Path, batched: bool) -> None:
    with world(tmp_path, verifiers=0, rounds=3, batched=batched) as w:
        w.join()
        began: set[int] = set()

        def again() -> bool:
            for index in set(w.task.rounds) - began:
                began.add(index)
                person = w.people[0]
                mailbox = w.aggregators[0].commitments.mailbox
                w.people[0] = Participant(
                    w.access(person.access.account), w.folder / "journal0", w.experiment.trainer(0), mailbox
                )
            return w.is_over()

        w.play(again)
        assert len(w.task.settled) == 3 and w.audit().reproduced


def test_an_aggregator_that_shows_what_the_node_did_not_sign_is_not_believed(tmp_path: Path) -> None:
    with world(tmp_path, verifiers=0, rounds=1, batched=True) as w:
        w.join()
        mailbox = w.aggregators[0].commitments.mailbox
        assert mailbox is not None
        told = []

        class Lying:
            def __getattr__(self, name: str) -> object:
                return getattr(mailbox, name)

            def commitment(self, index: int, participant: int) -> object:
                own = w.people[1].batched.signed_commitment(w.task, w.task.rounds[index], participant)
                told.append(index)
                return replace(own, commitment=b"\1" * 32)

        w.people[0].batched.mailbox = Lying()  # type: ignore[assignment]
        w.play()
        assert told and len(w.task.settled) == 1
