"""A fault over one stranger's thing stops nothing else, and a replay that takes too much is no judgement."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.exceptions import ConnectionError as NoConnectionError

from fedledger.contracts.abi import RevertedError
from fedledger.contracts.ledger import guard as guard_module
from fedledger.contracts.ledger.access import Access
from fedledger.contracts.ledger.actor import Action
from fedledger.contracts.ledger.guard import Guard
from fedledger.contracts.ledger.records import DisputeStatus
from fedledger.ledger_tools.audit.replay import OutageError, Replay
from fedledger.ledger_tools.verifier import workers
from fedledger.ledger_tools.verifier.replaying import Unable
from fedledger.ledger_tools.verifier.workers import Limits, Ordered, Workers
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import (
    ChainError,
    ConfigError,
    ContentUnavailableError,
    ContentUnreadableError,
    StoreError,
)
from fedledger.storage.deadlines import end_of
from fedledger.storage.local import LocalStore
from fedledger.storage.worker_process import WorkerEndedError, WorkerProcess
from support.strangers import NOTHING, Stranger, check_caught
from support.world import PAUSE, TASK, World, liar, settled, world, wrong_model

MIB = 1024 * 1024
FAULTS: tuple[Exception, ...] = (
    *(RuntimeError("torch"), ValueError("x"), KeyError("x"), RecursionError("deep"), MemoryError(), OSError("x")),
    *(ConfigError("x"), ContentUnavailableError("x"), ContentUnreadableError("x"), ChainError("refused")),
    *(RevertedError("Lost", (), "x"), RevertedError("Odd", (), "x")),
)


def unanswered() -> ChainError:
    error = ChainError("No chain answers.")
    error.__cause__ = NoConnectionError()
    return error


@given(st.lists(st.sampled_from([None, *range(len(FAULTS))]), min_size=1, max_size=20))
def test_whatever_fails_all_else_is_done(kinds: list[int | None]) -> None:
    guard, done = Guard(frozenset({"Lost"})), []

    def act(place: int, kind: int | None) -> int:
        if kind is not None:
            raise FAULTS[kind]
        done.append(place)
        return place

    answers = [guard(place, lambda place=place, kind=kind: act(place, kind)) for place, kind in enumerate(kinds)]
    fine = [place for place, kind in enumerate(kinds) if kind is None]
    assert done == fine == [answer for answer in answers if answer is not None]


@pytest.mark.parametrize("error", [unanswered(), StoreError("the daemon is down")], ids=["chain", "store"])
def test_what_is_away_for_the_program_as_a_whole_is_raised(error: Exception) -> None:
    def act() -> None:
        raise error

    with pytest.raises(type(error)):
        Guard(frozenset())("anything", act)


def test_what_fails_is_left_alone_for_longer_each_time_and_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock, tries = [0.0], []
    monkeypatch.setattr(guard_module.time, "monotonic", lambda: clock[0])
    guard = Guard(frozenset())

    def act() -> None:
        tries.append(clock[0])
        raise ValueError("bad bytes")

    while clock[0] < 1_000:
        guard("thing", act)
        clock[0] += 0.25
    pauses = np.diff(tries)
    assert len(tries) < 40 and (np.diff(pauses) >= 0).all() and pauses[-1] == guard_module.LONGEST_PAUSE
    assert (
        caplog.text.count("bad bytes") == caplog.text.count("ValueError: bad bytes") + 1 or "bad bytes" in caplog.text
    )
    assert len(caplog.records) == 1


# -- worker processes --------------------------------------------------------------------------------------------


def odd_jobs(pipe: Connection) -> None:
    """Do to this process what is asked for."""
    while True:
        match pipe.recv():
            case "allocate", size:
                try:
                    pipe.send(len(bytes(size)))
                except MemoryError:
                    pipe.send("no memory")
            case "die":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "sleep":
                time.sleep(3_600)
            case "compute":
                while True:
                    pass


@pytest.fixture
def process() -> Iterator[WorkerProcess]:
    made = WorkerProcess(odd_jobs, 256 * MIB, workers.PRELOAD)
    yield made
    made.kill()


def told(process: WorkerProcess, what: Any) -> Any:
    process.send(what)
    return process.receive(60.0)


def test_a_process_takes_no_more_memory_than_it_may_and_is_kept(process: WorkerProcess) -> None:
    assert told(process, ("allocate", 64 * MIB)) == 64 * MIB
    assert told(process, ("allocate", 2**40)) == told(process, ("allocate", 400 * MIB)) == "no memory"
    assert told(process, ("allocate", MIB)) == MIB


def test_a_process_that_dies_or_is_killed_says_so(process: WorkerProcess) -> None:
    with pytest.raises(WorkerEndedError, match="signal 11"):
        told(process, "die")
    other = WorkerProcess(odd_jobs, 256 * MIB, workers.PRELOAD)
    other.send("sleep")
    threading.Timer(0.2, other.kill).start()
    with pytest.raises(WorkerEndedError, match="signal 9"):
        other.receive(60.0)


# -- replays -----------------------------------------------------------------------------------------------------


class Slow(LocalStore):
    """A store in which some content takes for ever, or as long as whoever asks has time."""

    stopped: frozenset[bytes] = frozenset()
    heeds = True

    def get(self, ref: ContentRef, limit: int | None = None) -> bytes:
        if ref.digest in self.stopped:
            time.sleep(end_of(3_600.0) - time.monotonic() if self.heeds else 3_600.0)
            raise ContentUnavailableError("it comes too slowly")
        return super().get(ref, limit)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An honest task of three rounds that has ended."""
    with world(tmp_path_factory.mktemp("played"), rounds=3, verifiers=0) as w:
        yield w.join().play()


@contextmanager
def workers_for(w: World, at_once: int = 1, memory: int = 4096 * MIB) -> Iterator[Workers]:
    made = Workers(w.history, Limits(at_once, memory))
    try:
        yield made
    finally:
        made.close()


def ordered(w: World, index: int, store: LocalStore | None = None, seconds: float = 60.0) -> Ordered:
    place = w.ledger.chain.chain_id, w.ledger.address, TASK
    return Ordered(TASK, index, place, frozenset(), store or w.store, seconds)


def awaited(pool: Workers, key: object, order: Ordered) -> Replay | Unable | OutageError:
    deadline = time.monotonic() + 60
    while (done := pool.ask(key, order)) is None:
        assert time.monotonic() < deadline, "no answer"
        time.sleep(0.005)
    return done.found


def test_a_process_is_kept_and_replays_round_after_round(played: World) -> None:
    with workers_for(played) as pool:
        pids = set()
        for index in (1, 2, 3):
            found = awaited(pool, index, ordered(played, index))
            assert isinstance(found, Replay) and found.valid and found.checked
            pids |= {worker.process.pid for worker in pool._idle}
        assert len(pids) == 1 and not pool.busy


def test_a_limit_is_no_judgement(played: World) -> None:
    stuck = Slow(played.store.folder)
    stuck.stopped = frozenset({played.experiment.spec.validation.ref.digest})
    stuck.heeds = False
    with workers_for(played, memory=MIB) as hungry, workers_for(played) as pool:
        starved = awaited(hungry, 1, ordered(played, 1))
        assert isinstance(starved, Unable) and starved.limited
        found = awaited(pool, 1, ordered(played, 1, stuck, seconds=1.0))
        assert found == Unable("replaying it takes longer than 1 s", limited=True)


def test_content_that_comes_too_slowly_is_missing(played: World) -> None:
    """Otherwise an aggregator would only have to serve its lies slowly."""
    slow = Slow(played.store.folder)
    proposal = played.task.rounds[2].proposal
    assert proposal is not None
    slow.stopped = frozenset({proposal.report.digest})
    with workers_for(played) as pool:
        found = awaited(pool, 2, ordered(played, 2, slow, seconds=10.0))
        assert isinstance(found, Replay) and found.missing and not found.valid
        slow.stopped = frozenset()
        found = awaited(pool, 3, ordered(played, 2, slow, seconds=10.0))
        assert isinstance(found, Replay) and found.valid


def test_a_process_that_is_ended_is_replaced_and_a_store_that_is_down_is_told(played: World) -> None:
    class Down(LocalStore):
        def get(self, ref: ContentRef, limit: int | None = None) -> bytes:
            raise StoreError("the daemon is down")

    with workers_for(played) as pool:
        assert isinstance(awaited(pool, 1, ordered(played, 1, Down(played.store.folder))), OutageError)
        (worker,) = pool._idle
        worker.process.kill()
        assert isinstance(awaited(pool, 2, ordered(played, 2)), Replay)


@pytest.mark.long
@pytest.mark.parametrize("at_once", [1, 2])
def test_slow_content_of_some_tasks_keeps_no_other_task_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """Three tasks of a stranger, whose reports never come, before the task in which a round is a lie."""
    monkeypatch.setattr(workers, "FIRST_SLICE", 1.0)
    strangers: list[Stranger] = []

    def first(w: World) -> None:
        strangers.append(stranger := Stranger(w))
        for number in range(3):
            stranger.fabricate(stranger.post(w.experiment.spec.model_copy(update={"seed": number})))

    with world(tmp_path, verifiers=3, first=first) as w:
        w.aggregators = [w.aggregator(kind=liar(wrong_model))]
        stuck = Slow(w.store.folder)
        stuck.stopped, stuck.heeds = frozenset({NOTHING.digest}), False
        w.verifiers = [w.verifier(n, access=Access(w.ledger, w.history, v.access.account, stuck), jobs=at_once)
                       for n, v in enumerate(w.verifiers)]  # fmt: skip
        w.patient, w.pause = False, 1
        w.join()
        w.play(lambda: len([s for _, s in w.steps if (s.action, s.task) == (Action.REPLAYED, w.number)]) == 3)
        w.pause = PAUSE
        w.play(lambda: w.task.finished)
        assert [d.status for d in w.history.disputes if d.task == w.number] == [DisputeStatus.OVERTURNED]
        assert settled(w.task) == [2, 3]
        check_caught(w)


def test_what_takes_long_never_takes_all_processes_and_what_is_new_comes_after_what_waits(tmp_path: Path) -> None:
    strangers: list[int] = []

    def first(w: World) -> None:
        stranger = Stranger(w)
        for number in range(3):
            strangers.append(stranger.post(w.experiment.spec.model_copy(update={"seed": number})))
            stranger.fabricate(strangers[-1])

    with world(tmp_path, rounds=2, verifiers=0, first=first) as w, workers_for(w, at_once=2) as pool:
        w.join().play()
        stuck = Slow(w.store.folder)
        stuck.stopped = frozenset({NOTHING.digest})
        place = w.ledger.chain.chain_id, w.ledger.address

        def order(task: int, index: int) -> Ordered:
            slice_ = workers.FIRST_SLICE if task == w.number else 3_600.0
            return Ordered(task, index, (*place, task), frozenset(), stuck, 3_600.0, slice=slice_)

        for task in strangers:
            assert pool.ask(task, order(task, 1)) is None
        found = awaited(pool, "quick", order(w.number, 1))
        assert isinstance(found, Replay) and found.valid
        # However long a task has been served: one that was never seen before does not come before it.
        pool._spent[w.number] += 1_000.0
        assert isinstance(awaited(pool, "again", order(w.number, 2)), Replay)
        pool.ask("new", order(strangers[-1] + 10, 1))
        assert pool._spent[strangers[-1] + 10] >= 1_000.0 - workers.CREDIT
