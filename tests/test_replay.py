"""A replay's transcript: the same for everybody who is honest, and known only to who replayed the round."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedledger.contracts.chain.chain import Chain
from fedledger.ledger_tools.audit.measuring import live_measure
from fedledger.ledger_tools.audit.replay import Replay, ReplayedTask, Transcript, read_terms, replay_round
from fedledger.protocol.encoding import canonical, tensors
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import Method
from fedledger.storage.base import ContentStore
from fedledger.storage.local import LocalStore
from support.quick import quick
from support.small import Small, run_small

TRANSCRIPT = """
import sys
from pathlib import Path
from fedledger.contracts.ledger.history import History
from fedledger.ledger_tools.audit.execute import execute
from fedledger.ledger_tools.audit.export import LEDGER_FILE, LedgerExport
from fedledger.ledger_tools.audit.measuring import live_measure
from fedledger.ledger_tools.audit.replay import ReplayedTask, read_terms, replay_round
from fedledger.storage.local import LocalStore
folder = Path(sys.argv[1])
export = LedgerExport.read(folder / LEDGER_FILE)
history, store = History().extend(execute(export)), LocalStore(folder / "store")
task = history.task(1)
spec = read_terms(task, store)
place = export.chain_id, export.address, 1
measure = live_measure(spec, store, frozenset())
print(replay_round(ReplayedTask(history, task, spec, store, measure, place), task.rounds[2]).transcript.hex())
"""


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return run_small(tmp_path_factory.mktemp("honest"), Chain(), rounds=2)


def replayed(small: Small, index: int = 2, store: ContentStore | None = None, measured: bool = True) -> Replay:
    store = store or LocalStore(small.folder / "store")
    spec = read_terms(small.run.task, store)
    measure = live_measure(spec, store, frozenset()) if measured else None
    place = small.run.ledger.chain.chain_id, small.run.ledger.address, 1
    known = ReplayedTask(small.run.history, small.run.task, spec, store, measure, place)
    return replay_round(known, small.run.task.rounds[index])


def test_an_honest_proposal_is_valid_and_each_round_has_a_transcript_of_its_own(honest: Small) -> None:
    first, second = replayed(honest, 1), replayed(honest, 2)
    assert first.valid and second.valid and first.checked
    assert len(second.transcript) == 32 and first.transcript != second.transcript
    assert replayed(honest, 2) == second


@pytest.mark.parametrize(
    "environment",
    quick(
        1,
        [
            {"OMP_NUM_THREADS": "2", "MKL_CBWR": "COMPATIBLE", "OPENBLAS_CORETYPE": "Nehalem"},
            {"NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX2 FMA3"},
        ],
        ["blas", "numpy"],
    ),
)
def test_the_transcript_is_the_same_under_other_arithmetic(honest: Small, environment: dict[str, str]) -> None:
    command = [sys.executable, "-c", TRANSCRIPT, str(honest.folder)]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == replayed(honest).transcript.hex(), done.stderr


def test_the_transcript_does_not_tell_whether_measurements_were_made(honest: Small) -> None:
    """Who cannot measure finds the same transcript, and must not say that it checked."""
    without = replayed(honest, measured=False)
    assert without.transcript == replayed(honest).transcript
    assert without.valid and not without.checked


def test_the_transcript_does_not_follow_from_what_anybody_can_read(
    honest: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One unit in the last place of one update's fixed-point vector makes another transcript."""
    observe = Transcript.observe

    def altered(self: Transcript, what: str, values: object) -> None:
        if what.startswith("update of"):
            values = np.array(values) + np.eye(1, len(values), 3, np.int64)[0]  # type: ignore[arg-type, call-overload]
        observe(self, what, values)  # type: ignore[arg-type]

    expected = replayed(honest)
    monkeypatch.setattr(Transcript, "observe", altered)
    assert replayed(honest).valid and replayed(honest).transcript != expected.transcript


class Forgetful:
    """A store that lacks one content, and says so in words of its own."""

    def __init__(self, folder: Path, lost: ContentRef, name: str) -> None:
        self.store, self.lost, self.name = LocalStore(folder), lost, name

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    def get(self, ref: ContentRef, limit: int | None = None) -> bytes:
        if ref == self.lost:
            ref = replace(ref, digest=hashlib.sha256(self.name.encode()).digest())
        return self.store.get(ref, limit)


def test_missing_content_is_named_alike_wherever_it_is_missing(honest: Small) -> None:
    current = honest.run.task.rounds[2]
    assert current.proposal is not None
    update = current.participations[1].update
    assert update is not None
    for lost, field in ((current.proposal.report, "report"), (update, f"update of {current.participations[1].owner}")):
        here, there = (
            replayed(honest, store=Forgetful(honest.folder / "store", lost, name))  # type: ignore[arg-type]
            for name in ("here", "there")
        )
        assert here.divergence is not None and there.divergence is not None
        assert here.missing and here.divergence.field == field
        assert here.divergence.found != there.divergence.found, "each store says so in its own words"
        assert here.transcript == there.transcript


def test_what_does_not_follow_is_part_of_the_transcript(honest: Small) -> None:
    current = honest.run.task.rounds[2]
    assert current.proposal is not None
    honest_proposal, expected = current.proposal, replayed(honest)
    try:
        current.proposal = replace(honest_proposal, stop=not honest_proposal.stop)
        stopped = replayed(honest)
        current.proposal = replace(honest_proposal, model=honest_proposal.state)
        modelled = replayed(honest)
    finally:
        current.proposal = honest_proposal
    fields = [replay.divergence and replay.divergence.field for replay in (stopped, modelled)]
    assert fields == ["stop", "model"]
    assert len({expected.transcript, stopped.transcript, modelled.transcript}) == 3


def test_a_method_that_this_release_lacks_is_no_divergence(honest: Small) -> None:
    store = LocalStore(honest.folder / "store")
    spec = read_terms(honest.run.task, store).model_copy(update={"optimiser": Method(method="unheard@1")})
    task, place = honest.run.task, (1, honest.run.ledger.address, 1)
    with pytest.raises(ConfigError, match="unheard@1"):
        replay_round(ReplayedTask(honest.run.history, task, spec, store, None, place), task.rounds[2])


def test_names_and_contents_cannot_run_into_each_other() -> None:
    def digest(*items: tuple[str, bytes]) -> bytes:
        transcript = Transcript()
        for name, content in items:
            transcript.add(name, content)
        return transcript.digest()

    assert digest(("a", b"b")) != digest(("ab", b"")) != digest(("a", b""), ("b", b""))
    rows, other = Transcript(), Transcript()
    rows.observe("g", np.array([[1, 23], [4, 5]]))
    other.observe("g", np.array([[12, 3], [4, 5]]))
    assert rows.digest() != other.digest()


NONSENSE = [[], "report", {}, {"measurements": None}, {"measurements": {"base": 1, "model": 2}, "updates": [[]]}]
NO_BATCHES = [None, {"cid": "nonsense", "length": 1}, {"cid": ContentRef.of(b"{}").cid, "length": 2}, [1], {"cid": 3}]


@pytest.mark.parametrize("document", NONSENSE, ids=str)
def test_a_report_of_nonsense_does_not_follow(honest: Small, tmp_path: Path, document: object) -> None:
    """Whatever an aggregator posts, a replay ends: who could be stopped by it could not vote against it."""
    divergence = _reported(honest, tmp_path, document).divergence
    assert divergence is not None and divergence.field == "report"


@pytest.mark.parametrize("named", NO_BATCHES, ids=str)
def test_commitments_that_are_none_do_not_follow(batched: Small, tmp_path: Path, named: object) -> None:
    proposal = batched.run.task.rounds[2].proposal
    assert proposal is not None
    report = canonical.decode(LocalStore(batched.folder / "store").get(proposal.report))
    divergence = _reported(batched, tmp_path, {**report, "commitments": named}).divergence
    assert divergence is not None and divergence.field == "commitments"


def test_a_state_of_nonsense_does_not_follow(honest: Small, tmp_path: Path) -> None:
    first = honest.run.task.rounds[1]
    assert first.proposal is not None
    store, kept = _copied(honest, tmp_path), first.proposal
    try:
        first.proposal = replace(kept, state=store.put(tensors.encode({"counts": np.zeros(0, np.int64)})))
        divergence = replayed(honest, store=store).divergence
    finally:
        first.proposal = kept
    assert divergence is not None and divergence.field == "outcome"


@pytest.fixture(scope="module")
def batched(tmp_path_factory: pytest.TempPathFactory) -> Small:
    extra = "[ledger]\nbatched = true\nchallenge_window = 100\n"
    return run_small(tmp_path_factory.mktemp("batched"), Chain(), rounds=2, extra=extra)


def _copied(small: Small, folder: Path) -> LocalStore:
    return LocalStore(Path(shutil.copytree(small.folder / "store", folder / "store")))


def _reported(small: Small, folder: Path, document: object) -> Replay:
    store, current = _copied(small, folder), small.run.task.rounds[2]
    kept = current.proposal
    assert kept is not None
    try:
        current.proposal = replace(kept, report=store.put(canonical.encode(document)))
        store.put(b"{}")
        return replayed(small, store=store)
    finally:
        current.proposal = kept
