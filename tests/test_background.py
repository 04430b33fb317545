"""What follows a training, in the background of the next one."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest
import torch

from fedledger.platform.engine import background
from fedledger.platform.engine.background import MOST_WAITING, Background


@pytest.fixture(params=[0.0, 1e9], ids=["beside", "at once"])
def long(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(background, "LONG", request.param)
    return float(request.param)


def test_all_that_is_needed_is_done_in_order_and_what_is_useful_beside_it(long: float) -> None:
    done: list[tuple[str, int]] = []
    threads: set[int] = set()

    def note(what: str, number: int) -> None:
        threads.add(threading.get_ident())
        done.append((what, number))

    with Background() as beside:
        for number in range(20):
            beside(partial(note, "needed", number), partial(note, "useful", number))
        beside.wait()
        assert [number for what, number in done if what == "needed"] == list(range(20))
    if long:
        assert done == [("needed", number) for number in range(20)]
        assert threads == {threading.get_ident()}
    else:
        assert done == [(what, number) for number in range(20) for what in ("needed", "useful")]
        assert threading.get_ident() not in threads
        assert len(threads) == 1


def test_an_error_of_either_reaches_who_leaves(long: float) -> None:
    def fail() -> None:
        raise ValueError("no room left")

    with pytest.raises(ValueError, match="no room left"), Background() as beside:
        beside(fail, lambda: None)
    if not long:
        with pytest.raises(ValueError, match="no room left"), Background() as beside:
            beside(lambda: None, fail)


def test_an_error_of_training_is_the_one_that_is_raised(long: float) -> None:
    with pytest.raises(KeyError), Background() as beside:
        beside(lambda: time.sleep(0.05), lambda: None)
        raise KeyError


def test_only_so_many_results_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "LONG", 0.0)
    go, done, handed = threading.Event(), [], 0

    def look() -> None:
        assert go.wait(20)
        done.append(0)

    threading.Timer(0.2, go.set).start()
    with Background() as beside:
        while not go.is_set():
            beside(lambda: None, look)
            handed += 1
            assert handed - len(done) <= MOST_WAITING + 1
    assert len(done) == handed


def test_torch_has_one_thread_within_and_its_generator_is_put_back() -> None:
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with Background():
            assert torch.get_num_threads() == 1
            torch.rand(3)
        assert torch.get_num_threads() == 2
        assert torch.equal(torch.get_rng_state(), before)
    finally:
        torch.set_num_threads(threads)
