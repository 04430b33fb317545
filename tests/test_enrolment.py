"""People come late, leave and come back: who is asked follows from the ledger, and rounds keep whom they are for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fedledger.contracts.ledger.actor import Action
from fedledger.contracts.ledger.records import Phase
from fedledger.contracts.ledger.waits import task_wait
from fedledger.ledger_tools.report.own_account import OwnAccount
from fedledger.ledger_tools.report.tables import task_cells, task_status_rows
from fedledger.ledger_tools.report.task_view import TaskView
from fedledger.ledger_tools.upkeep import leave_task
from fedledger.node.participant import Participant
from fedledger.platform.experiment.accounts import AGGREGATOR, PUBLISHER, participant_role
from fedledger.protocol.errors import ConfigError
from support.world import World, world

OPEN = "open_enrolment = true\nmin_participants = 2\n"
UNIFORM = 'selection = { method = "uniform@1", params = { count = 2 } }'


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[World]:
    """A task of which one of two participants has come."""
    with world(tmp_path, participants=2, verifiers=0, window=0, ledger="min_participants = 2\n") as w:
        late = w.people.pop()
        w.join()
        w.chain.advance(601)
        w.aggregators[0].step()
        w.people.append(late)
        yield w


def ids(w: World, *numbers: int) -> tuple[int, ...]:
    """Return the ledger's numbers of participants."""
    return tuple(sorted(w.history.ids[w.accounts[participant_role(n)].address] for n in numbers))


def opened(w: World, index: int) -> bool:
    return index in w.task.rounds


CASES = [(False, 1, UNIFORM), (True, 2, ""), (False, 2, ""), (True, 1, UNIFORM)]


@pytest.mark.parametrize(("batched", "max_unfinal", "selection"), CASES)
def test_who_comes_and_who_leaves_counts_from_the_next_opened_round(
    tmp_path: Path, batched: bool, max_unfinal: int, selection: str
) -> None:
    terms = {"batched": batched, "max_unfinal": max_unfinal, "extra": selection, "ledger": OPEN}
    with world(tmp_path, participants=4, rounds=6, verifiers=0, window=600, **terms) as w:
        late, w.people = w.people[3], w.people[:3]
        w.join().play(lambda: opened(w, 2))
        before = w.task.rounds[2].selected
        w.people.append(late)
        gone = w.people[0]
        w.play(lambda: late.access.participant in w.task.enrolled)
        left = leave_task(w.ledger, gone.access.account, w.number)
        assert (
            left.last_round == (2 if gone.access.participant in before else 0) and w.task.rounds[2].selected == before
        )
        w.play()
        final = w.task
        for index, current in final.rounds.items():
            expected = ids(w, 0, 1, 2) if index <= 2 else ids(w, 1, 2, 3)
            assert tuple(sorted(current.enrolled)) == expected
            assert set(current.selected) <= set(expected) and len(current.selected) == (2 if selection else 3)
        assert len(final.counted) == 6 and w.audit().reproduced
        shown = {each.address for each in TaskView.of(w.history, w.number).participants}
        assert shown == {w.accounts[participant_role(n)].address for n in range(4)}
        assert gone.step().action is Action.DONE
        asked = [r for r in final.rounds.values() if gone.access.participant in r.selected]
        assert not any(r.verdicts[gone.access.participant].absent for r in asked)
        w.check_money()


def test_who_has_left_comes_back_when_it_says_so(tmp_path: Path) -> None:
    with world(tmp_path, participants=3, rounds=4, verifiers=0, window=0, ledger=OPEN) as w:
        w.join()
        gone = w.people.pop()
        leave_task(w.ledger, gone.access.account, w.number)
        assert gone.step().action is Action.DONE
        own = OwnAccount.of(w.history, w.store, w.number, gone.access.address)
        assert own is not None and own.left and "--rejoin" in " ".join(own.lines())
        again = w.participant(2)
        assert again.step().action is Action.DONE
        again.joining.rejoins = True
        assert again.step().action is Action.WAITED
        w.people.append(again)
        w.play(lambda: opened(w, 2))
        assert [len(w.task.rounds[index].selected) for index in (1, 2)] == [2, 3]
        leave_task(w.ledger, gone.access.account, w.number)
        w.play()
        assert len(w.task.rounds[3].selected) == 2 and not again.joining.rejoins
        assert w.audit().reproduced


def test_nobody_leaves_a_task_that_does_not_say_so(waiting: World) -> None:
    with pytest.raises(ConfigError, match="lets nobody leave"):
        leave_task(waiting.ledger, waiting.people[0].access.account, waiting.number)
    with pytest.raises(ConfigError, match="not enrolled"):
        leave_task(waiting.ledger, waiting.accounts[PUBLISHER], waiting.number)


def test_too_few_wait_for_more_and_say_so(waiting: World) -> None:
    assert waiting.ledger.phase(waiting.number) is Phase.ENROLLING and not waiting.task.rounds
    told = str(task_wait(waiting.ledger, waiting.number))
    (row,) = task_status_rows(waiting.ledger)
    assert row["waits"] == told and (row["enrols"], row["least"], row["most"]) == (True, 2, 2)
    assert task_cells(row)["enrolled"] == "1 (2 to 2), enrols"
    for part in ("more participants to enrol", "has 1 of the 2 participants that it needs", "until"):
        assert part in told
    waiting.play()
    assert len(waiting.task.counted) == 2 and waiting.audit().reproduced


def test_a_task_that_nobody_joins_ends_and_returns_its_budget(waiting: World) -> None:
    waiting.people.pop()
    waiting.play()
    assert waiting.task.refund == waiting.params.budget and not waiting.task.rounds
    assert waiting.gains() == {} and waiting.ledger.free_balance(waiting.accounts[AGGREGATOR].address) > 0
    waiting.check_money()


def test_a_task_that_too_many_leave_ends_and_returns_the_rest(tmp_path: Path) -> None:
    with world(tmp_path, participants=2, rounds=3, verifiers=0, window=0, ledger=OPEN) as w:
        w.join().play(lambda: len(w.task.settled) == 1)
        gone = w.people.pop()
        leave_task(w.ledger, gone.access.account, w.number)
        w.play()
        unsettled = 3 - len(w.task.settled)
        assert unsettled in (1, 2) and w.task.refund == unsettled * w.params.budget // 3
        w.check_money()


def test_a_round_is_opened_for_those_whom_the_ledger_has(tmp_path: Path) -> None:
    """Somebody enrols between the aggregator's look at the ledger and its call."""
    with world(tmp_path, participants=3, rounds=1, verifiers=0, window=0, extra=UNIFORM, ledger=OPEN) as w:
        late, w.people = w.people[2], w.people[:2]
        w.join()
        late.step()
        aggregator = w.aggregators[0]
        aggregator.step()
        w.chain.advance(601)
        seen = aggregator.look()
        asked = w.ledger.task(w.number)
        w.ledger.enrol(late.access.account, w.number)
        w.ledger.task, honest = lambda number: asked, w.ledger.task  # type: ignore[method-assign]
        assert aggregator.act(seen).action is Action.WAITED and not w.task.rounds
        w.ledger.task = honest  # type: ignore[method-assign]
        w.people.append(late)
        w.play()
        assert len(w.task.rounds[1].enrolled) == 3 and w.audit().reproduced


@pytest.mark.parametrize("max_unfinal", [1, 2])
def test_who_comes_or_goes_holds_up_no_proposal(tmp_path: Path, max_unfinal: int) -> None:
    """Where enrolment is open, a round is opened by itself: what fails with it costs its aggregator nothing."""
    terms = {"max_unfinal": max_unfinal, "ledger": OPEN}
    with world(tmp_path, participants=2, rounds=3, verifiers=0, window=0, **terms) as w:
        w.join().play()
        rounds = w.task.rounds.values()
        opened = {current.opened_at.transaction for current in rounds}
        proposed = {current.proposed_at.transaction for current in rounds if current.proposed_at is not None}
        assert len(opened) == len(proposed) == 3 and not opened & proposed


def test_a_place_without_stake_is_free(tmp_path: Path) -> None:
    with world(tmp_path, participants=3, rounds=2, verifiers=0, window=0, ledger=OPEN) as w:
        w.join()
        gone = w.people.pop()
        w.ledger.request_exit(gone.access.account)
        stranger = w.purse("stranger")
        late = Participant(w.access(stranger), w.folder / "late", w.experiment.trainer(2))
        steps = [late.step() for _ in range(4)]
        assert [step.action for step in steps[:3]] == [Action.REGISTERED, Action.STRUCK, Action.ENROLLED]
        w.people.append(late)
        w.play()
        assert late.access.participant in w.task.rounds[1].selected and w.audit().reproduced
        assert gone.access.participant not in w.task.rounds[1].selected
