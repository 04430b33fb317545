"""Selections: by hand, by their distribution, and against slower oracles."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.aggregator.selection.base import SELECTIONS, Candidate, SelectionContext
from fedledger.aggregator.selection.candidates import Candidates, _evaluated
from fedledger.aggregator.selection.fedcs import FedCS
from fedledger.aggregator.selection.oort import Oort
from fedledger.aggregator.selection.planner import RoundPlanner
from fedledger.aggregator.selection.reputation import Reputation
from fedledger.aggregator.selection.sampling import weighted_sample
from fedledger.contracts.chain.chain import Chain
from fedledger.ledger_tools.audit.audit import audit_run
from fedledger.ledger_tools.audit.replay import ReplayedTask, replay_round
from fedledger.platform.engine.backends.serial import Serial
from fedledger.platform.engine.federation import play
from fedledger.platform.engine.with_ledger import run
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.platform.experiment.experiment import Experiment
from fedledger.protocol.arithmetic.logarithm import ln_ppm
from fedledger.protocol.arithmetic.random_streams import Stream, stream
from fedledger.protocol.encoding import canonical
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.records.ref import Ref
from fedledger.protocol.schedules.devices import Device, DeviceTable, Link
from fedledger.storage.local import LocalStore
from support.small import run_small

SECOND = 1_000_000


def draws(number: int) -> Stream:
    return stream(bytes(32), "selection", number)


def people(**columns: list[Any]) -> list[Candidate]:
    count = len(next(iter(columns.values())))
    rows = [{name: column[i] for name, column in columns.items()} for i in range(count)]
    return [Candidate(f"0x{i:02d}", **{"reputation": 500_000, **row}) for i, row in enumerate(rows)]


def test_what_was_chosen_before_is_chosen_still() -> None:
    """As recorded when a selection was still given bare addresses."""
    known = people(reputation=[0] * 6)
    addresses = [candidate.address for candidate in known]
    for index in range(1, 20):
        assert build(SELECTIONS, "all@1", {})(SelectionContext(known, index, draws(index))) == addresses
        chosen = build(SELECTIONS, "uniform@1", {"count": 3})(SelectionContext(known, index, draws(index)))
        assert chosen == sorted(draws(index).sample(addresses, 3))


class TestWeightedSample:
    @given(st.lists(st.integers(0, 50), min_size=1, max_size=40), st.data())
    def test_it_draws_as_a_walk_along_the_weights_would(self, weights: list[int], data: st.DataObject) -> None:
        count = data.draw(st.integers(0, len(weights)))
        left, walk, expected = [max(1, weight) for weight in weights], draws(1), []
        for _ in range(count):
            aim = walk.below(sum(left))
            place = next(i for i in range(len(left)) if sum(left[: i + 1]) > aim)
            expected.append(place)
            left[place] = 0
        assert weighted_sample(weights, count, draws(1)) == expected

    def test_probabilities_are_in_proportion(self) -> None:
        counts = Counter(weighted_sample([1, 2, 5], 1, draws(i))[0] for i in range(4000))
        for place, share in enumerate((1 / 8, 2 / 8, 5 / 8)):
            # Four standard deviations.
            assert abs(counts[place] / 4000 - share) < 4 * (share * (1 - share) / 4000) ** 0.5


def test_reputation_decides_how_often_one_is_drawn() -> None:
    known = people(reputation=[900_000, 100_000, 500_000])
    drawn = Counter(Reputation(1)(SelectionContext(known, i, draws(i)))[0] for i in range(1500))
    assert drawn["0x00"] > drawn["0x02"] > drawn["0x01"] > 0
    assert Reputation(3)(SelectionContext(known, 1, draws(1))) == ["0x00", "0x01", "0x02"]


@given(st.integers(1, 2**53))
def test_a_logarithm_without_logarithms(value: int) -> None:
    assert abs(ln_ppm(value) - 1e6 * math.log(value)) < 2 + 1e-6 * ln_ppm(value)


class TestOort:
    def test_at_first_the_fast_are_explored(self) -> None:
        known = people(duration=[SECOND, 10 * SECOND, None])
        drawn = Counter(Oort(1)(SelectionContext(known, 1, draws(i)))[0] for i in range(1200))
        assert drawn["0x00"] > 5 * drawn["0x01"] > 0 and drawn["0x02"] > 0

    def test_the_useful_are_exploited(self) -> None:
        known = people(utility=[900, 10, 1000, 0], last_round=[99] * 4)
        rule = Oort(2, exploration=0, least_exploration=0)
        assert all(rule(SelectionContext(known, 100, draws(i))) == ["0x00", "0x02"] for i in range(50))

    def test_the_slow_are_worth_less(self) -> None:
        known = people(utility=[1000, 600], last_round=[9, 9], duration=[2 * SECOND, SECOND])
        fast_first = Oort(1, SECOND, exploration=0, least_exploration=0)
        assert all(fast_first(SelectionContext(known, 10, draws(i))) == ["0x01"] for i in range(20))
        assert fast_first._worth(known[0], 1000, 10) * 4 == pytest.approx(
            replace(fast_first, preferred_us=None)._worth(known[0], 1000, 10), abs=4
        )

    def test_who_was_long_not_asked_is_worth_more(self) -> None:
        known = people(utility=[10, 10], last_round=[1, 400])
        rule = Oort(1, exploration=0, least_exploration=0)
        assert rule(SelectionContext(known, 401, draws(1))) == ["0x00"]
        worth = 1e6 * (1 + math.sqrt(0.1 * math.log(401) / 1))
        assert rule._worth(known[0], 10, 401) == pytest.approx(worth, abs=3)

    def test_exploration_decays_to_its_least(self) -> None:
        rule = Oort(10)
        shares = [rule._share(index) for index in (1, 2, 50, 1000)]
        assert shares[:2] == [900_000, 882_000] and shares[3] == 200_000 and shares[2] > 200_000
        known = people(last_round=[1] * 30 + [0] * 30)
        asked = rule(SelectionContext(known, 1000, draws(1)))
        assert sum(int(address[2:]) >= 30 for address in asked) == 2

    def test_one_outlier_does_not_outweigh_all(self) -> None:
        known = people(utility=[100] * 40 + [10**12], last_round=[1] * 41)
        rule = Oort(1, exploration=0, least_exploration=0)
        assert len({rule(SelectionContext(known, 2, draws(i)))[0] for i in range(100)}) > 20

    @given(
        st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 5), st.none() | st.integers(1, 10**9)), min_size=1)
    )
    def test_it_asks_as_many_as_it_should(self, rows: list[tuple[int, int, int | None]]) -> None:
        utility, last, duration = (list(column) for column in zip(*rows, strict=True))
        known = people(utility=utility, last_round=last, duration=duration)
        for count in {1, len(known) // 2 or 1, len(known)}:
            chosen = Oort(count, 10**6)(SelectionContext(known, 6, draws(count)))
            assert len(set(chosen)) == count and chosen == sorted(chosen)


def greedy(known: list[Candidate], deadline: int, most: int) -> list[str]:
    """Nishio and Yonetani's algorithm 2 as it is written."""
    left, chosen, done = [c for c in known if c.duration is not None], [], 0
    while left and len(chosen) < most:
        ends = [(max(done, c.duration - c.upload) + c.upload, c.address) for c in left]  # type: ignore[operator]
        if min(ends)[0] > deadline:
            break
        done, address = min(ends)
        chosen.append(address)
        left = [c for c in left if c.address != address]
    return sorted(chosen)


class TestFedCS:
    def test_by_hand(self) -> None:
        known = people(duration=[3, 4, 10, 5, None], upload=[1, 2, 3, 4, 1])
        # 0 is done at 3; 1, ready at 2, at 5; 3, ready at 1, at 9; 2 would be done at 12.
        assert FedCS(9)(SelectionContext(known, 1, draws(1))) == ["0x00", "0x01", "0x03"]
        assert FedCS(12)(SelectionContext(known, 1, draws(1))) == ["0x00", "0x01", "0x02", "0x03"]
        assert FedCS(12, most=2)(SelectionContext(known, 1, draws(1))) == ["0x00", "0x01"]
        assert len(FedCS(12, asked=2)(SelectionContext(known[:4], 1, draws(1)))) <= 2
        with pytest.raises(ConfigError, match="deadline of 2"):
            FedCS(2)(SelectionContext(known, 1, draws(1)))

    @given(
        st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=20),
        st.integers(1, 100),
        st.integers(1, 20),
    )
    def test_it_is_the_papers_greedy_algorithm(self, times: list[tuple[int, int]], deadline: int, most: int) -> None:
        known = people(duration=[ready + upload for ready, upload in times], upload=[upload for _, upload in times])
        expected = greedy(known, deadline, most)
        if expected:
            assert FedCS(deadline, most=most)(SelectionContext(known, 1, draws(1))) == expected


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("reputation@1", {"count": 0}),
        ("reputation@1", {"count": 4}),
        ("oort@1", {"count": 4}),
        ("oort@1", {"count": 1, "exploration": 1.5}),
        ("oort@1", {"count": 1, "clip": -0.1}),
        ("oort@1", {"count": 1, "penalty": 0.5}),
        ("oort@1", {"count": 1, "preferred_us": 0}),
        ("fedcs@1", {"deadline_us": 0}),
        ("fedcs@1", {"deadline_us": 1, "asked": 4}),
        ("fedcs@1", {"deadline_us": 1, "most": 0}),
    ],
)
def test_what_makes_no_sense_is_refused(method: str, params: dict[str, Any]) -> None:
    known = people(duration=[2, 2, 2])
    with pytest.raises(ConfigError):
        build(SELECTIONS, method, params)(SelectionContext(known, 1, draws(1)))


@pytest.mark.parametrize("method", ["reputation@1", "oort@1"])
@pytest.mark.parametrize("ledger", ["", "[ledger]\nmax_unfinal = 3"], ids=["final", "unfinal"])
def test_rounds_that_were_selected_by_the_record_are_audited(tmp_path: Path, method: str, ledger: str) -> None:
    extra = f'selection = {{ method = "{method}", params = {{ count = 2 }} }}\n{ledger}'
    small = run_small(tmp_path, Chain(), rounds=5, extra=extra)
    task = small.run.task
    assert all(len(r.selected) == 2 for r in task.settled) and len({r.selected for r in task.settled}) > 1
    result = audit_run(small.folder)
    assert result.reproduced, result.first_divergence
    # A replay that starts anywhere finds the same.
    store, place = LocalStore(small.folder / "store"), (31337, small.run.ledger.address, 1)
    known_task = ReplayedTask(small.run.history, task, small.experiment.spec, store, None, place)
    fifth = replay_round(known_task, task.rounds[5])
    assert fifth.divergence is None or fifth.divergence.field != "selection"

    known = Candidates(store)(small.run.history, task, small.experiment.spec, 6, Oort(1))
    for candidate in known:
        participant = small.run.history.ids[candidate.address]
        rounds = [r for r in task.settled if participant in r.selected]
        assert candidate.last_round == max((r.index for r in rounds), default=0)
        # With one task of the publisher, the ledger says the same once all rounds are settled.
        assert candidate.reputation == small.run.history.evidence(task.publisher, participant).reputation
        assert (candidate.examples > 0) == bool(rounds)
        gains = []
        for r in rounds:
            report = canonical.decode(store.get(r.proposal.report))  # type: ignore[union-attr]
            row = next(u for u in report["updates"] if u["participant"] == candidate.address)
            gain = report["measurements"]["base"]["loss"] - row["measurement"]["loss"]
            gains.append(max(0, gain) * row["examples"] if row["verdict"] == "accepted" else 0)
        assert candidate.utility == (gains[-1] if gains else 0)


def test_times_come_from_the_table_that_the_spec_names(tmp_path: Path) -> None:
    small = run_small(tmp_path, Chain(), rounds=1)
    store, history, task = LocalStore(small.folder / "store"), small.run.history, small.run.task
    owners = sorted((history.owners[i] for i in task.enrolled), key=str.lower)
    # However an address is written; the last one is not in it.
    devices = {
        owner.lower(): Device(
            examples=10 * place,
            cycles_per_second=1000,
            cycles_per_example=100,
            link=Link(rates=((0, 1000, 500),)),
        )
        for place, owner in enumerate(owners[:-1], start=1)
    }
    table = DeviceTable(bytes_down=2000, bytes_up=1000, devices=devices)
    spec = small.experiment.spec.model_copy(update={"devices": Ref.of(store.put(table.encode()))})
    known = Candidates(store)(history, task, spec, 2, FedCS(1))
    # 2 s down, a second for ten examples, 2 s up.
    assert [(c.duration, c.upload) for c in known[:-1]] == [(s * SECOND, 2 * SECOND) for s in (5, 6, 7)]
    assert known[-1].duration is None and [c.address for c in known] == owners
    by_deadline = spec.model_copy(update={"selection": Method(method="fedcs@1", params={"deadline_us": 7 * SECOND})})
    chosen = RoundPlanner(store).selected(history, task, by_deadline, 2, bytes(32))
    # The second one's upload follows the first one's, and is done at 7 s.
    assert [history.owners[i] for i in chosen] == owners[:2]


@pytest.mark.parametrize(
    "report",
    [
        b"",
        b"{}",
        canonical.encode({"measurements": {"base": {"loss": 1}}, "updates": 3}),
        canonical.encode({"measurements": {"base": {"loss": 1}}, "updates": [{}]}),
        canonical.encode(
            {
                "measurements": {"base": {"loss": "1"}},
                "updates": [{"participant": "x", "measurement": {"loss": 1}, "examples": 1, "verdict": "accepted"}],
            }
        ),
    ],
)
def test_a_report_that_is_none_tells_nothing(report: bytes) -> None:
    assert _evaluated(report) == {}


def _plain(selection: dict[str, Any]) -> Experiment:
    document = {
        "name": "plain",
        "participants": 6,
        "model": {"method": "mlp@1", "params": {"inputs": 64, "hidden": [8], "classes": 10}},
        "training": {"pipeline": "plain", "rounds": 4, "selection": selection},
    }
    return make_experiment(ExperimentConfig.model_validate(document), Path())


def test_without_a_ledger_reputation_selects_the_same(tmp_path: Path) -> None:
    given = _plain({"method": "reputation@1", "params": {"count": 3}})
    finished = run(given, Chain(), LocalStore(tmp_path / "store"), tmp_path)
    with Serial(given) as serial:
        record = MemoryRecord(given)
        rounds = [sorted(given.address(number) for number in done.verdicts) for done in play(record, serial)]
    on_ledger = [sorted(r.owners.values()) for r in finished.task.settled]
    assert rounds == on_ledger and len({tuple(asked) for asked in rounds}) > 1
    assert record.model.encode() == finished.final.encode()
