"""Tasks whose validation set is public, opened block by block, or sealed: runs, audits, verifiers and liars."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fedledger.aggregator.driver import Aggregator
from fedledger.aggregator.duties.proposing import Proposing
from fedledger.aggregator.round.measurer import Measurer, in_round
from fedledger.aggregator.round.outcome import Content, RoundInput, RoundOutcome
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.development import running_chain
from fedledger.contracts.ledger.actor import Action
from fedledger.contracts.ledger.records import DisputeStatus
from fedledger.ledger_tools.audit.audit import AuditResult, audit_chain, audit_run
from fedledger.ledger_tools.audit.export import LEDGER_FILE, export_ledger
from fedledger.ledger_tools.upkeep import Push, open_seal, push_on
from fedledger.platform.cli.context import open_experiment
from fedledger.platform.engine.backends.serial import Serial
from fedledger.platform.engine.federation import play
from fedledger.platform.engine.with_ledger import TASK, LedgerRecord
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.accounts import AGGREGATOR, PUBLISHER, experiment_account
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import load_config
from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.experiment.kept_validation import KeptValidation
from fedledger.platform.experiment.posted_task import posted_spec
from fedledger.protocol.encoding import canonical
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.encoding.encryption import encrypt
from fedledger.protocol.errors import ConfigError, ExitCode
from fedledger.protocol.records.measurement import Measurement
from fedledger.protocol.records.ref import Ref
from fedledger.protocol.records.seal import BlockIndex, drawn_block
from fedledger.protocol.records.verdicts import Verdict
from fedledger.protocol.units import GWEI
from fedledger.storage.local import LocalStore
from support.command_line import caller
from support.small import Small, run_small, write_config
from support.world import World, liar, settled, world, wrong_verdict

ROUNDS = 5
MODES = ("public", "opened", "sealed")


def data(access: str, size: int = 40) -> str:
    return f'validation_access = "{access}"\nvalidation_slice = {size}'


@dataclass
class Unopened:
    """A run with a sealed validation set, whose task has ended, and whose seal nobody has opened yet."""

    folder: Path
    experiment: Experiment
    record: LedgerRecord

    @property
    def store(self) -> LocalStore:
        return LocalStore(self.folder / "store")

    def audit(self, **more: Any) -> AuditResult:
        """Audit from the chain; several processes find the same."""
        result = audit_chain(self.record.ledger, self.store, TASK, **more)
        assert audit_chain(self.record.ledger, self.store, TASK, jobs=2, **more).document() == result.document()
        return result

    def open(self) -> bool:
        key = self.experiment.seal_key
        assert key is not None
        publisher = experiment_account(0, PUBLISHER, self.record.ledger.chain)
        return open_seal(self.record.ledger, publisher, TASK, key)


def unopened(folder: Path, experiment: Experiment, measure: Measurer | None = None) -> Unopened:
    """Run an experiment to its task's end; ``measure`` is its aggregator's measurer, the honest one unless given."""
    record = LedgerRecord(experiment, Chain(), LocalStore(folder / "store"), folder)
    if measure is not None:
        record._aggregator.proposing.measure = measure
    assert [closed.index for closed in play(record, Serial(experiment))] == list(range(1, experiment.spec.rounds + 1))
    return Unopened(folder, experiment, record)


def made(folder: Path, access: str, **config: Any) -> Experiment:
    return make_experiment(load_config(write_config(folder, data=data(access), **config)), folder)


COME_BACK = "The validation set has {} for 6 rounds: blocks come back, and participants can have trained on them."
ALL_OF_THEM = "validation_slice is 400, and the validation set has 180 examples: each round is judged on all of them."


@pytest.mark.parametrize(
    ("access", "size", "told"),
    [
        ("public", 400, []),
        ("sealed", 180, []),
        ("sealed", 400, [ALL_OF_THEM]),
        ("opened", 30, []),
        ("opened", 40, [COME_BACK.format("5 blocks")]),
        ("opened", 400, [ALL_OF_THEM, COME_BACK.format("1 block")]),
    ],
)
def test_whoever_runs_a_task_is_told_where_a_validation_set_is_small(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], access: str, size: int, told: list[str]
) -> None:
    open_experiment(write_config(tmp_path, rounds=6, data=data(access, size)), None)
    assert capsys.readouterr().err.splitlines() == [f"Warning: {caution}" for caution in told]


@pytest.fixture(scope="module", params=MODES)
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    yield run_small(tmp_path_factory.mktemp(request.param), Chain(), rounds=ROUNDS, data=data(request.param))


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Unopened:
    folder = tmp_path_factory.mktemp("unopened")
    return unopened(folder, made(folder, "sealed", rounds=2))


def reports(small: Small) -> list[dict[str, Any]]:
    store = LocalStore(small.folder / "store")
    proposals = [r.proposal for r in small.run.task.settled]
    return [canonical.decode(store.get(p.report)) for p in proposals if p is not None]


# -- honest runs -------------------------------------------------------------------------------------------------


def test_without_a_ledger_the_model_is_the_same(finished: Small) -> None:
    config = load_config(finished.folder / "config.toml")
    record = MemoryRecord(make_experiment(config, finished.folder))
    *_, last = play(record, Serial(record.experiment))
    assert record.spec == finished.experiment.spec
    assert last.model.vector.tobytes() == finished.run.final.vector.tobytes()


def test_once_the_run_has_ended_an_audit_measures_everything(finished: Small) -> None:
    result = audit_run(finished.folder)
    assert result.reproduced and result.measured and result.rounds == ROUNDS and not result.sealed
    assert audit_run(finished.folder, jobs=2).document() == result.document()


def test_a_round_is_judged_on_what_its_setting_says(finished: Small) -> None:
    kept, spec = finished.experiment.validation, finished.experiment.spec
    n = len(kept.examples()[1])
    of_updates = [row["measurement"]["correct"] for r in reports(finished) for row in r["updates"]]
    of_models = [r["measurements"]["model"]["correct"] for r in reports(finished)]
    assert spec.seal is None or (spec.seal.examples, spec.seal.slice) == (n, 40)
    assert max(of_updates) <= 40 if spec.seal is not None else max(of_updates) > 40
    assert max(of_models) > 40 if spec.seal is None or spec.seal.is_sealed else max(of_models) <= 40


def test_opened_blocks_are_named_and_stored_and_no_others_are(finished: Small) -> None:
    named = [report.get("validation") for report in reports(finished)]
    seal, store = finished.experiment.spec.seal, LocalStore(finished.folder / "store")
    if seal is None or seal.is_sealed:
        assert named == [None] * ROUNDS
        return
    index = BlockIndex.decode(store.get(finished.experiment.spec.validation.ref), seal)
    drawn = [drawn_block(finished.experiment.spec.digest, index, seal.blocks) for index in range(1, ROUNDS + 1)]
    assert named == [Ref.of(index.refs[number]).model_dump() for number in drawn]
    # Five blocks of 36 examples: all of them were used, the last one in the last round.
    assert seal.blocks == 5 and all(map(store.has, index.refs))
    assert BlockIndex.of(finished.experiment.validation.blocks) == index


def test_who_trains_on_the_validation_set_has_what_is_public_of_it(finished: Small) -> None:
    kept, spec = finished.experiment.validation, finished.experiment.spec
    everything = kept.examples()
    known = [kept.public(spec, index) for index in range(1, ROUNDS + 2)]
    if spec.seal is None:
        assert all(k is not None and (k[0] == everything[0]).all() for k in known)
    elif spec.seal.is_sealed:
        assert known == [None] * (ROUNDS + 1)
    else:
        assert [0 if k is None else len(k[1]) for k in known] == [0, 36, 72, 108, 144, 180]


def test_nothing_that_is_stored_tells_a_sealed_example(sealed: Unopened) -> None:
    inputs, _ = sealed.experiment.validation.examples()
    rows = {row.tobytes() for row in inputs}
    stored = [path.read_bytes() for path in (sealed.folder / "store").rglob("*") if path.is_file()]
    assert len(stored) > 8 and not any(row in content for content in stored for row in rows)
    public = [content for content in stored if len(content) == sealed.experiment.spec.validation.length]
    assert public == [sealed.experiment.contents[1]]


# -- audits of sealed sets -----------------------------------------------------------------------------------------


def test_an_audit_before_the_opening_says_what_it_took_as_posted(
    sealed: Unopened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = sealed.audit()
    # Of each round the base, the new model and four updates.
    assert result.reproduced and not result.measured and result.sealed == 2 * (2 + 4)
    assert any("12 measurements were taken as posted" in note for note in result.notes)
    named = sealed.audit(seal_key=sealed.experiment.seal_key)
    assert named.reproduced and named.measured and not named.sealed and named.rounds == 2
    with pytest.raises(ConfigError, match="sealed with another key"):
        sealed.audit(seal_key=b"x" * 32)

    # On the command line, from an export.
    shutil.copytree(sealed.folder / "store", tmp_path / "store")
    record = sealed.record
    export_ledger(record.ledger, record.deployment, record.history.update()).write(tmp_path / LEDGER_FILE)
    call = caller(monkeypatch, capsys)
    code, told, _ = call("audit", tmp_path)
    assert code == ExitCode.OK and "reproduced, 12 measurements sealed until their key is opened" in told
    key = tmp_path / "seal.key"
    key.write_text((sealed.experiment.seal_key or b"").hex())
    code, told, _ = call("audit", tmp_path, "--seal-key", key)
    assert code == ExitCode.OK and "sealed" not in told and "Measurements: largest deviation 0" in told
    key.write_text("ab" * 32)
    assert call("audit", tmp_path, "--seal-key", key)[0] == ExitCode.CONFIG


def test_after_the_opening_everybody_measures(tmp_path: Path) -> None:
    done = unopened(tmp_path, made(tmp_path, "sealed", rounds=1))
    assert done.audit().sealed == 6
    assert done.open() and not done.open()
    assert done.record.history.update().task(TASK).seal_key == done.experiment.seal_key
    result = done.audit()
    assert result.reproduced and result.measured and not result.sealed


def test_the_deposit_of_a_seal_that_is_not_opened_in_time_is_burned_and_the_audit_says_so(tmp_path: Path) -> None:
    experiment = made(tmp_path, "sealed", rounds=1)
    done = unopened(tmp_path, experiment)
    ledger, chain = done.record.ledger, done.record.ledger.chain
    account, deposit = experiment_account(0, AGGREGATOR, chain), experiment.config.ledger.seal_deposit_gwei * GWEI
    assert push_on(ledger, account, TASK).done is Push.NOTHING and ledger.seal(TASK).deposit == deposit > 0
    chain.advance(experiment.config.ledger.seal_period)
    assert push_on(ledger, account, TASK).done is Push.FORFEITED and not ledger.seal(TASK).deposit
    assert push_on(ledger, account, TASK).done is Push.NOTHING
    result = done.audit()
    assert result.reproduced and result.sealed and any("nobody opened" in note for note in result.notes)
    assert done.open() and done.audit().measured


def test_a_key_is_only_for_a_sealed_set(finished: Small) -> None:
    if finished.experiment.seal_key is None:
        with pytest.raises(ConfigError, match="is not sealed"):
            audit_run(finished.folder, seal_key=b"x" * 32)


class Flattering:
    """A measurer that tells of every new model a loss that is lower than what it measures."""

    def __init__(self, honest: Measurer) -> None:
        self._honest = honest

    def at(self, index: int) -> Measurer:
        return Flattering(in_round(self._honest, index))

    def opened(self, index: int) -> bytes | None:
        return None

    def __call__(self, what: str, vector: NDArray[np.float32]) -> Measurement:
        found = self._honest(what, vector)
        return replace(found, loss=found.loss - 3_000) if what == "model" else found


def test_a_liar_about_a_measurement_is_named_after_the_opening(tmp_path: Path) -> None:
    experiment = made(tmp_path, "sealed", rounds=2)
    done = unopened(tmp_path, experiment, Flattering(experiment.measurer()))
    assert done.audit().reproduced and done.audit().sealed
    for result in (done.audit(seal_key=experiment.seal_key), done.audit() if done.open() else None):
        assert result is not None and not result.reproduced and result.first_divergence is not None
        assert (result.first_divergence.round, result.first_divergence.field) == (1, "measurement of model: loss")


def resealed(experiment: Experiment, **changes: Any) -> Experiment:
    """Return an experiment whose spec names another ciphertext or plaintext than an honest publisher's."""
    kept = experiment.validation
    assert kept.seal is not None
    content = changes.pop("content", kept.content)
    seal = kept.seal.model_copy(update=changes)
    spec = experiment.spec.model_copy(update={"seal": seal, "validation": Ref.of(ContentRef.of(content))})
    contents = (experiment.contents[0], content, *experiment.contents[2:])
    return replace(experiment, spec=spec, contents=contents, validation=replace(kept, content=content, seal=seal))


def test_a_publisher_whose_key_does_not_open_what_the_spec_names_is_named(tmp_path: Path) -> None:
    honest = made(tmp_path, "sealed", rounds=1)
    seal, key = honest.spec.seal, honest.seal_key
    assert seal is not None and seal.plaintext is not None and key is not None
    length = seal.plaintext.length
    lies = {
        "another key": resealed(honest, content=encrypt(b"x" * 32, bytes(length))),
        "another plaintext": resealed(honest, plaintext=Ref.of(ContentRef.of(bytes(length)))),
        "another content": resealed(
            honest, content=encrypt(key, bytes(length)), plaintext=Ref.of(ContentRef.of(bytes(length)))
        ),
        "another number": resealed(honest, examples=seal.examples + 1),
    }
    for name, lie in lies.items():
        folder = tmp_path / name
        folder.mkdir()
        done = unopened(folder, lie)
        assert done.audit().reproduced and done.open(), name
        divergence = done.audit().first_divergence
        assert divergence is not None and (divergence.round, divergence.field) == (0, "validation set"), name


def test_a_ciphertext_that_nobody_has_is_missed_before_the_opening(tmp_path: Path) -> None:
    done = unopened(tmp_path, made(tmp_path, "sealed", rounds=1))
    done.store.unpin(done.experiment.spec.validation.ref)
    divergence = done.audit().first_divergence
    assert divergence is not None and divergence.field == "validation set"


def test_who_has_no_key_takes_part_and_does_not_aggregate(tmp_path: Path) -> None:
    for access in ("sealed", "opened"):
        folder = tmp_path / access
        folder.mkdir()
        experiment = made(folder, access, rounds=1)
        done = unopened(folder, experiment.under(b"p" * 32))
        place = done.record.ledger, done.store, TASK
        assert posted_spec(*place, experiment, holds_key=False) == done.experiment.spec != experiment.spec
        assert posted_spec(*place, experiment.under(b"p" * 32)) == done.experiment.spec
        with pytest.raises(ConfigError, match=r"another key.*--seal-key"):
            posted_spec(*place, experiment)
        other = make_experiment(load_config(write_config(folder, data=data(access, 41), rounds=1)), folder)
        with pytest.raises(ConfigError, match="differs from the one that this configuration makes"):
            posted_spec(*place, other, holds_key=False)


# -- opened sets ---------------------------------------------------------------------------------------------------


def test_a_block_that_is_withheld_is_missing_content(tmp_path: Path) -> None:
    small = run_small(tmp_path, Chain(), rounds=2, data=data("opened"))
    second = ContentRef.of(small.experiment.validation.blocks[drawn_block(small.experiment.spec.digest, 2, 5)])
    LocalStore(tmp_path / "store").unpin(second)
    divergence = audit_run(tmp_path).first_divergence
    assert divergence is not None and (divergence.round, divergence.field) == (2, "validation block")


class Choosy:
    """A measurer that judges every round on the block of the first."""

    def __init__(self, honest: Any) -> None:
        self._honest = honest

    def at(self, index: int) -> Measurer:
        chosen: Measurer = self._honest.at(1)
        return chosen

    def opened(self, index: int) -> bytes | None:
        opened: bytes | None = self._honest.opened(1)
        return opened

    def __call__(self, what: str, vector: NDArray[np.float32]) -> Measurement:
        measured: Measurement = self._honest(what, vector)
        return measured


def test_a_round_on_another_block_than_is_drawn_is_named(tmp_path: Path) -> None:
    experiment = made(tmp_path, "opened", rounds=2)
    done = unopened(tmp_path, experiment, Choosy(experiment.measurer()))
    divergence = done.audit().first_divergence
    # Nobody has the block that should have been opened.
    assert divergence is not None and (divergence.round, divergence.field) == (2, "validation block")
    done.store.put(experiment.validation.blocks[drawn_block(experiment.spec.digest, 2, 5)])
    divergence = done.audit().first_divergence
    assert divergence is not None and divergence.round == 2 and "measurement of" in divergence.field


def test_an_index_of_other_blocks_is_named(tmp_path: Path) -> None:
    honest = made(tmp_path, "opened", rounds=1)
    inputs, labels = honest.validation.examples()
    narrow = KeptValidation.of((inputs[:, :9], labels), "opened", 40, b"k" * 32).blocks
    foreign = KeptValidation.of((inputs, labels + 90), "opened", 40, b"k" * 32).blocks
    lies = [((b"no block",) * 5, "validation block"), (narrow, "validation set"), (foreign, "validation set")]
    for number, (blocks, field) in enumerate([*lies, ((b"",) * 4, "validation set")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        done = unopened(folder, resealed(honest, content=BlockIndex.of(blocks).encode()))
        for block in blocks:
            done.store.put(block)
        divergence = done.audit().first_divergence
        assert divergence is not None and divergence.field == field, number


# -- verifiers -----------------------------------------------------------------------------------------------------


def overturned(w: World) -> None:
    """Assert that the first round was challenged, overturned and made again."""
    w.join().play()
    (dispute,) = w.history.disputes
    assert dispute.status is DisputeStatus.OVERTURNED and dispute.round == 1
    assert w.task.rounds[1].voided and settled(w.task) == [2, 3]


def test_verifiers_and_juries_serve_on_sealed_tasks(tmp_path: Path) -> None:
    with world(tmp_path, data=data("sealed")) as w:
        w.aggregators = [w.aggregator(kind=liar(wrong_verdict))]
        overturned(w)
        assert len(w.did(Action.VOTE_REVEALED)) == 2
        follows = [step.detail for _, step in w.steps if step.action is Action.REPLAYED and step.round > 1]
        assert follows == ["follows, with 6 measurements as posted: the validation set is sealed"] * 6
        assert w.audit().reproduced and w.audit().sealed == 12
        key = w.experiment.seal_key
        assert key is not None and open_seal(w.ledger, w.accounts[PUBLISHER], w.number, key)
        result = w.audit()
        assert result.reproduced and result.measured and not result.sealed
        w.check_money()


class Flatterer(Aggregator):
    """Tells of the first round's update of one participant, whose verdict it leaves as it is, a better score."""

    class Lying(Proposing):
        def outcome(self, given: RoundInput) -> RoundOutcome:
            outcome = super().outcome(given)
            if given.index > 1:
                return outcome
            accepted = Verdict.ACCEPTED.label
            row = next(row for row in outcome.document["updates"] if row["verdict"] == accepted)
            row["measurement"]["loss"] -= 3_000
            return replace(outcome, report=Content.of(canonical.encode(outcome.document)))

    proposing_kind = Lying


class Withholding(Proposing):
    """Does not store the block on which it judges the first round."""

    def _opened_in(self, index: int) -> Content | None:
        block = super()._opened_in(index)
        self._withheld = block if index == 1 else None
        return block

    def outcome(self, given: RoundInput) -> RoundOutcome:
        outcome = super().outcome(given)
        if self._withheld is not None:
            self.access.store.unpin(self._withheld.ref)
        return outcome

    def _store(self, task: Any, given: RoundInput, outcome: RoundOutcome) -> None:
        super()._store(task, given, outcome)
        if self._withheld is not None:
            self.access.store.unpin(self._withheld.ref)


class Withholder(Aggregator):
    proposing_kind = Withholding


@pytest.mark.parametrize("kind", [Flatterer, Withholder])
def test_on_opened_sets_a_false_measurement_and_a_withheld_block_are_overturned(
    tmp_path: Path, kind: type[Aggregator]
) -> None:
    with world(tmp_path, data=data("opened")) as w:
        w.aggregators = [w.aggregator(kind=kind)]
        overturned(w)
        told = next(step.detail for _, step in w.steps if step.action is Action.REPLAYED)
        assert ("measurement of 0x" if kind is Flatterer else "round 1, validation block") in told
        result = w.audit()
        assert result.reproduced and result.measured
        w.check_money()


# -- separate programs ---------------------------------------------------------------------------------------------

CLI = [sys.executable, "-m", "fedledger.platform.cli.app"]


@pytest.mark.long
def test_separate_programs_with_a_key_of_their_own(tmp_path: Path) -> None:
    config = write_config(tmp_path, participants=2, rounds=1, data=data("sealed"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def cli(*arguments: object, code: ExitCode = ExitCode.OK) -> str:
        words = [*CLI, *map(str, arguments)]
        given: Any = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "timeout": 300}
        done = subprocess.run(words, check=False, **given)
        assert done.returncode == code, done.stderr
        return done.stdout or done.stderr

    with running_chain("anvil") as chain:
        at = ["--rpc", chain.url]
        cli("deploy", *at, "--experiment-seed", 0)
        cli("task", "post", config, *at, "--seal-key", "seal.key")
        assert (tmp_path / "seal.key").stat().st_mode & 0o777 == 0o600
        nodes = [
            subprocess.Popen([*CLI, "node", "start", str(config), *at, "--participant", str(n)], cwd=tmp_path)
            for n in range(2)
        ]
        told = cli("aggregator", "start", config, *at, code=ExitCode.CONFIG)
        assert "--seal-key" in told
        cli("aggregator", "start", config, *at, "--seal-key", "seal.key")
        assert [node.wait(timeout=60) for node in nodes] == [0, 0]
        audited = json.loads(cli("audit", *at, "--deployment", "deployment.json", "--format", "json"))
        assert audited["reproduced"] and audited["measured"] and not audited["sealed"]
        opened = cli("task", "open", *at, "--experiment-seed", 0, "--seal-key", "seal.key")
        assert "it was before" in opened
        cli("task", "open", *at, "--experiment-seed", 0, code=ExitCode.CONFIG)
