"""What all programs share: which duty is done, what is forgiven and borne, what is told of waits, and how one stops."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fedledger.contracts.abi import RevertedError
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.ledger import actor
from fedledger.contracts.ledger.access import Access
from fedledger.contracts.ledger.actor import DONE, WAITED, Action, Actor, Step, Watcher, stop_signals
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.records import Phase, Settings
from fedledger.contracts.ledger.waits import Wait, task_wait
from fedledger.ledger_tools.deploy import deploy
from fedledger.platform.experiment.accounts import DEPLOYER, experiment_account
from fedledger.protocol.errors import StoreError
from fedledger.storage.local import LocalStore
from support.world import TASK, World, world


class Program(Actor[int]):
    """A program that sees how often it has looked, and waits for noon."""

    looks = 0

    def look(self) -> int:
        self.looks += 1
        return self.looks

    def wait(self) -> Wait:
        return Wait("noon", self.access.ledger.chain.now() + 1)


class Told(Watcher):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.waited: list[Wait] = []
        self.still: list[int] = []
        self.outages: list[StoreError] = []

    def did(self, step: Step) -> None:
        self.steps.append(step)

    def waits(self, wait: Wait) -> None:
        self.waited.append(wait)

    def stands_still(self, now: int, seconds: float) -> None:
        self.still.append(now)

    def outage(self, error: StoreError) -> None:
        self.outages.append(error)


@pytest.fixture
def access(tmp_path: Path) -> Access:
    chain = Chain()
    account = experiment_account(0, DEPLOYER, chain)
    chain.fund(account.address, 10**18)
    ledger, _ = deploy(chain, account, Settings(1, 0))
    return Access(ledger, History(ledger), account, LocalStore(tmp_path))


def test_the_first_duty_that_applies_is_done_and_a_wait_keeps_from_the_others(access: Access) -> None:
    opened, closed = Step(Action.OPENED), Step(Action.CLOSED)
    assert Program(access, [lambda _: None, lambda _: opened, lambda _: closed], frozenset()).step() is opened
    assert Program(access, [lambda _: WAITED, lambda _: opened], frozenset()).step() is WAITED
    assert Program(access, [lambda _: None], frozenset()).step().action is Action.WAITED
    program = Program(access, [lambda looks: Step(Action.OPENED, round=looks)], frozenset())
    assert [program.step().round, program.act(7).round, program.seen] == [1, 7, 7]


def test_only_races_are_forgiven(access: Access) -> None:
    def register(_: int) -> Step:
        access.ledger.register(access.account, access.address, access.address, 1)
        return Step(Action.REGISTERED)

    program = Program(access, [register], frozenset({"AlreadyRegistered"}))
    assert [program.step().action, program.step().action] == [Action.REGISTERED, Action.WAITED]
    with pytest.raises(RevertedError, match="AlreadyRegistered"):
        Program(access, [register], frozenset({"AlreadyEnrolled"})).step()


def test_a_store_that_does_not_work_is_borne_until_patience_ends(access: Access, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(actor, "STORE_PAUSE", 0.01)

    def failing_until(third: int) -> Program:
        def fetch(looks: int) -> Step:
            if looks < third:
                raise StoreError("it is down")
            return DONE

        return Program(access, [fetch], frozenset())

    told = Told()
    assert failing_until(4).run(0.01, watcher=told)
    assert len(told.outages) == 3
    with pytest.raises(StoreError, match="it is down"):
        failing_until(10**9).run(0.01, watcher=told, patience=0.05)


def test_a_program_says_what_it_waits_for_and_that_the_chains_time_stands_still(
    access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("SHORT_WAIT", 0.05), ("TELL_EVERY", 0.05), ("STALL", 0.3)):
        monkeypatch.setattr(actor, name, seconds)
    began, told = time.monotonic(), Told()

    def wait(looks: int) -> Step | None:
        if looks == 1:
            return Step(Action.OPENED)
        return DONE if time.monotonic() > began + 1.0 else None

    assert Program(access, [wait], frozenset()).run(0.01, watcher=told)
    now = access.ledger.chain.now()
    assert [step.action for step in told.steps] == [Action.OPENED]
    assert told.waited == [Wait("noon", now + 1)] and told.still == [now], "each is told once"
    assert str(Wait("noon", 0)) == "noon, until 1970-01-01 00:00:00 UTC by the chain's time"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_program_after_its_step(access: Access, number: signal.Signals) -> None:
    finished, before = [], signal.getsignal(number)

    def work(looks: int) -> Step | None:
        if looks == 1:
            os.kill(os.getpid(), number)
            finished.append(looks)
            return Step(Action.OPENED)
        return None

    with stop_signals() as stop:
        watchdog = threading.Timer(20, stop.ask)
        watchdog.start()
        began = time.monotonic()
        assert not Program(access, [work], frozenset()).run(60.0, stop)
        watchdog.cancel()
    assert finished == [1] and time.monotonic() < began + 10
    assert signal.getsignal(number) is before


def test_a_wait_is_cut_short_by_a_signal(access: Access) -> None:
    with stop_signals() as stop:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
        began = time.monotonic()
        assert not Program(access, [lambda _: None], frozenset()).run(60.0, stop)
    assert time.monotonic() < began + 10


def test_what_a_step_did_is_told_in_one_line() -> None:
    also = ((Action.SETTLED, 2), (Action.OPENED, 4))
    assert str(Step(Action.PROPOSED, 1, 3, also=also)) == "task 1, round 3: proposed; round 2: settled; round 4: opened"
    assert str(Step(Action.ENLISTED)) == "enlisted"
    assert str(Step(Action.ENROLLED, 1)) == "task 1: enrolled"
    told = "task 1, round 2: vote revealed (dispute 0): the proposal follows"
    assert str(Step(Action.VOTE_REVEALED, 1, 2, 0, "the proposal follows")) == told


def until_its_end(w: World, phase: Phase, actors: list[Actor[Any]]) -> Phase:
    """Let some programs act until a phase, and return which follows at the time that a program would tell."""
    for _ in range(30):
        if w.ledger.phase(TASK) is phase:
            break
        for program in actors:
            program.step()
    wait = task_wait(w.ledger, TASK)
    assert w.ledger.phase(TASK) is phase and wait.until is not None
    for seconds in (wait.until - 1, wait.until):
        assert w.ledger.phase(TASK) is phase
        w.chain.connection.ask("evm_setNextBlockTimestamp", [seconds])
        w.chain.connection.ask("evm_mine", [])
    return w.ledger.phase(TASK)


def test_a_phase_ends_when_programs_say_that_it_does(tmp_path: Path) -> None:
    with world(tmp_path, batched=True, standbys=1, verifiers=0, window=100) as w:
        (active, _), people = w.aggregators, w.people
        everybody: list[Actor[Any]] = [*people, active]
        for person in people:
            assert [person.step().action, person.step().action] == [Action.REGISTERED, Action.ENROLLED]
        assert until_its_end(w, Phase.ENROLLING, []) is Phase.IDLE
        w.verifiers, w.aggregators = [], [active]
        # Nobody commits; then nobody reveals; then one is too late for the root.
        assert until_its_end(w, Phase.COMMITTING, [active]) is Phase.CLOSING
        assert until_its_end(w, Phase.CLOSING, []) is Phase.OVERDUE
        w.play(lambda: 2 in w.task.rounds)
        for program in everybody:
            program.step()
        assert until_its_end(w, Phase.REVEALING, [active]) is Phase.PROPOSING
        assert until_its_end(w, Phase.PROPOSING, []) is Phase.OVERDUE
        w.people = []
        w.play(lambda: 3 in w.task.rounds)
        assert [person.step().action for person in people[:2]] == [Action.COMMITTED] * 2
        assert until_its_end(w, Phase.COMMITTING, []) is Phase.CLOSING
        assert until_its_end(w, Phase.ADMITTING, [active]) is Phase.REVEALING
        assert until_its_end(w, Phase.CHALLENGING, [*people[:2], active]) is Phase.SETTLEABLE
