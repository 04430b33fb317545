"""Runs with scorers on the embedded chain: whom only they catch, and liars among them who change nothing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from fedledger.contracts.chain.chain import Chain
from fedledger.ledger_tools.audit.audit import audit_run
from fedledger.platform.engine.with_ledger import RoundMetrics, Run, run
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import load_config
from fedledger.platform.experiment.experiment import HONEST, Experiment
from fedledger.platform.runs.ledger_run import open_chain, run_with_ledger
from fedledger.platform.runs.results import write_results
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage.local import LocalStore
from support.quick import quick

CONFIG = """
name = "scored"
participants = {participants}
compare_with_mean = false
model = {{ method = "mlp@1", params = {{ inputs = 64, hidden = [16], classes = 10 }} }}
[data]
partition = {{ method = "iid@1" }}
[training]
pipeline = "plain"
rounds = {rounds}
solver = {{ method = "sgd@1", params = {{ learning_rate = 0.1, momentum = 0.9, batch_size = 16, local_epochs = 2 }} }}
[[attackers]]
attack = {{ method = "sign_flip@1", params = {{ factor = 2 }} }}
{attackers}
[ledger]
{terms}
"""
LIARS = """[[attackers]]
attack = {{ method = "lying_scorer@1", params = {{ lie = "{lie}" }} }}
count = {count}
"""
Verdicts = Mapping[int, Mapping[int, Verdict]]


@dataclass(frozen=True)
class Played:
    experiment: Experiment
    run: Run
    folder: Path

    @property
    def flipper(self) -> int:
        return self.experiment.behaviours.index("sign_flip")

    @property
    def verdicts(self) -> Verdicts:
        """Verdicts by participants' numbers, round by round."""
        numbers = {self.experiment.address(n): n for n in range(len(self.experiment.behaviours))}
        return {
            index: {numbers[current.owners[i]]: verdict for i, verdict in current.verdicts.items()}
            for index, current in self.run.task.rounds.items()
        }


def play(folder: Path, terms: str = "", attackers: str = "", participants: int = 7, rounds: int = 3) -> Played:
    folder.mkdir(exist_ok=True)
    text = CONFIG.format(participants=participants, rounds=rounds, attackers=attackers, terms=terms)
    (folder / "config.toml").write_text(text)
    experiment, store = make_experiment(load_config(folder / "config.toml"), folder), LocalStore(folder / "store")
    finished = run(experiment, Chain(), store, folder)
    write_results(finished, experiment, store, folder, [])
    return Played(experiment, finished, folder)


@pytest.mark.parametrize(
    "terms",
    [
        "scorers = 5",
        "scorers = 5\nbatched = true",
        'scorers = 3\nbatched = true\nchallenge_window = 60\nscore_from = "verifiers"',
    ],
    ids=["direct", "batched", "verifiers"],
)
def test_only_scorers_catch_who_flips_signs_and_an_audit_reproduces_it(terms: str, tmp_path: Path) -> None:
    free = play(tmp_path / "free")
    assert all(verdict is Verdict.ACCEPTED for each in free.verdicts.values() for verdict in each.values())
    scored = play(tmp_path / "scored", terms)
    for index, verdicts in scored.verdicts.items():
        current = scored.run.task.rounds[index]
        assert current.scoring is not None and len(current.scoring.scores) == len(current.scoring.scorers) >= 3
        assert verdicts.pop(scored.flipper) is Verdict.OUTVOTED  # type: ignore[attr-defined]
        assert set(verdicts.values()) == {Verdict.ACCEPTED}
        assert current.proposal is not None and current.proposal.shares.get(current.scoring.outvoted[0], 0) == 0
    assert [row["outvoted"] for row in scored.run.metrics] == [str(scored.flipper)] * 3
    assert scored.run.tested.score > free.run.tested.score
    found = audit_run(scored.folder)
    assert found.reproduced and any("on data of their own" in note for note in found.notes)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Verdicts:
    """Return the verdicts where nobody lies, of nine participants who all score."""
    played = play(tmp_path_factory.mktemp("honest"), "scorers = 9\nbatched = true", participants=9)
    assert all(verdicts[played.flipper] is Verdict.OUTVOTED for verdicts in played.verdicts.values())
    return played.verdicts


@pytest.mark.parametrize("lie", quick(2, ["favour", "slander", "silence", "copy"]))
def test_a_third_of_the_scorers_change_no_verdict_by_any_lie(lie: str, honest: Verdicts, tmp_path: Path) -> None:
    liars = LIARS.format(lie=lie, count=3)
    played = play(tmp_path, "scorers = 9\nbatched = true", liars, participants=9)
    assert played.experiment.behaviours.count("lying_scorer") == 3
    assert played.verdicts == honest
    lying = {str(n) for n, behaviour in enumerate(played.experiment.behaviours) if behaviour == "lying_scorer"}
    told = [{*row["silent"].split(), *row["far"].split()} for row in played.run.metrics]
    honest_ones = {str(n) for n, behaviour in enumerate(played.experiment.behaviours) if behaviour == HONEST}
    assert not any(names & honest_ones for names in told)
    if lie in ("slander", "silence"):
        # Who has lost its reputation as a scorer may be passed over later.
        assert told[0] == lying and all(names <= lying for names in told)


class StoppedError(Exception):
    """Ends a run in its middle."""


def test_a_run_with_scorers_that_stops_goes_on_as_it_would_have(tmp_path: Path) -> None:
    terms = CONFIG.format(participants=5, rounds=3, attackers="", terms="scorers = 3\nbatched = true")
    (tmp_path / "config.toml").write_text(terms)
    experiment = make_experiment(load_config(tmp_path / "config.toml"), tmp_path)

    def stop(metrics: RoundMetrics) -> None:
        raise StoppedError

    for number, watch in enumerate((stop, lambda metrics: None)):
        with open_chain("embedded", tmp_path) as chain, suppress(StoppedError):
            summary = run_with_ledger(experiment, tmp_path, tmp_path, chain, LocalStore(tmp_path / "store"), watch)
            assert number == 1 and summary["rounds"] == 3
    assert audit_run(tmp_path).reproduced


@pytest.mark.long
@pytest.mark.parametrize("kind", ["anvil", "ganache"])
def test_scorers_play_on_other_chains_as_well(kind: str, tmp_path: Path) -> None:
    from fedledger.contracts.chain.development import running_chain

    with running_chain(kind) as process:  # type: ignore[arg-type]
        (tmp_path / "config.toml").write_text(
            CONFIG.format(participants=5, rounds=2, attackers="", terms="scorers = 3\nbatched = true")
        )
        experiment = make_experiment(load_config(tmp_path / "config.toml"), tmp_path)
        finished = run(experiment, Chain(process.url), LocalStore(tmp_path / "store"), tmp_path)
    rounds = finished.task.rounds.values()
    assert all(current.scoring is not None and len(current.scoring.scores) == 3 for current in rounds)
