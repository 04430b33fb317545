"""The benchmark of rounds with the ledger: its cases, and the figures that it makes of times."""

from types import SimpleNamespace

import pytest

from fedledger.platform.bench.ledger import WARM_UP, Case, Times
from fedledger.protocol.errors import ConfigError


def test_cases_are_read_as_they_are_written():
    assert Case.read("digits:10:64:40") == Case("digits", 10, 64, 40, workers=1)
    assert Case.read("cnn:100:1000:5:2") == Case("cnn", 100, 1000, 5, workers=2)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "digits",
        "digits:10:64",
        "digits:10:64:x",
        "cnn:1:1:9:1:1",
        f"cnn:10:64:{WARM_UP}",
        "cnn:0:64:9",
        "cnn:9:9:9:0",
    ],
)
def test_what_is_no_case_is_told_with_one_that_is(text):
    with pytest.raises(ConfigError, match=r"is not a case|measures nothing") as told:
        Case.read(text)
    assert "give" in told.value.remedy.lower()


def test_overhead_is_what_a_round_takes_beyond_the_training_that_it_is_compared_with():
    times, clock = Times(), 100.0
    # Each round is trained once for its time (2 s), then played: trained again (2 s) with half a second besides.
    for number in range(WARM_UP + 3):
        slow = 7.0 if number < WARM_UP else 0.0
        times.train(2.0, 0.25)
        clock += 2.0 + 2.5 + slow
        times.ends.append((clock, 3.0 * number))
        times.trained.append(times.training)
    row = times.row(Case("cnn", 10, 64, WARM_UP + 3), SimpleNamespace(metrics=[{"accepted": 9}]))
    assert (row.rounds, row.accepted, row.workers) == (3, 9, 1)
    assert row.training_seconds_per_round == pytest.approx(2.0)
    assert row.seconds_per_round == row.most_seconds_per_round == pytest.approx(2.5)
    assert row.overhead == pytest.approx(0.25)
    assert row.overhead_ms_per_participant == pytest.approx(50.0)
    assert row.processor_seconds_per_round == pytest.approx(2.75)
    assert row.processor_ms_per_participant == pytest.approx(250.0)
