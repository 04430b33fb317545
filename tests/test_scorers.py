"""What scores say, what scorers keep, and that nothing of their data leaves them."""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest
import torch

from fedledger.contracts.ledger.actor import Action
from fedledger.learning.data import Dataset
from fedledger.learning.objectives.classification import CLASSIFICATION
from fedledger.learning.vectors import FlatModel
from fedledger.ledger_tools.audit.export import LEDGER_FILE
from fedledger.node.duties.scoring import ScoreJournal
from fedledger.node.scoring import MOST_EXAMPLES, NO_SCORE, OwnScorer, ScoredRound, _scores, added_by
from fedledger.platform.attacks.base import attacker
from fedledger.platform.attacks.scoring import Scoring
from fedledger.platform.experiment.scorers import ParticipantScorer, VerifierScorer
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ConfigError, ContentUnavailableError, StoreError
from fedledger.protocol.records.scores import BEST_SCORE, SAME_SCORE, WORST_SCORE, pack_scores
from fedledger.storage.base import Readable
from fedledger.storage.deadlines import end_of, within
from support.command_line import caller
from support.scored import Scored, post_scored
from support.small import write_config

KEY = bytes(range(32))


@pytest.fixture(scope="module")
def called(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    """Return a task whose first round's scorers have been called to five updates."""
    world = post_scored(tmp_path_factory.mktemp("called"))
    world.play_to(Action.SCORERS_CALLED)
    return world


def asked(world: Scored, scorer: str = "0x" + "11" * 20) -> ScoredRound:
    current = world.current
    listed = current.listed
    owners = tuple(current.owners[participant] for participant in listed)
    return ScoredRound(
        world.experiment.spec, current.index, world.experiment.initial, owners, tuple(listed.values()), scorer
    )


def own_scorer(world: Scored, number: int) -> OwnScorer:
    experiment = world.experiment
    return OwnScorer.of(experiment.flat_model(), experiment.parts[number], experiment.objective, KEY)


def loss(world: Scored, vector: np.ndarray, examples: Dataset) -> float:
    """Return the mean over classes of the mean cross-entropy of the examples of each."""
    model = world.experiment.flat_model()
    model.load(vector)
    with torch.inference_mode():
        outputs = model.module(torch.from_numpy(examples.inputs)).double()
        targets = torch.from_numpy(examples.targets)
        each = torch.nn.functional.cross_entropy(outputs, targets, reduction="none").numpy()
    return float(np.mean([each[examples.targets == label].mean() for label in np.unique(examples.targets)]))


def test_a_score_is_what_an_update_does_to_the_loss_besides_all_others(called: Scored) -> None:
    given, scorer = asked(called), own_scorer(called, 0)
    updates = [added_by(called.store.get(ref), given).astype(np.float64) for ref in given.updates]
    most, changes = np.median([np.linalg.norm(update) for update in updates]), []
    for place, update in enumerate(updates):
        others = [each * min(1, most / np.linalg.norm(each)) for n, each in enumerate(updates) if n != place]
        beside = (given.base.vector + np.mean(others, axis=0)).astype(np.float32)
        with_it = (beside + update / 10).astype(np.float32)
        changes.append(loss(called, with_it, scorer.examples) - loss(called, beside, scorer.examples))
    usual = np.median(np.abs(changes))
    expected = [SAME_SCORE + round(1024 * change / usual) for change in changes]
    found = scorer(given, called.store)
    assert found is not None and max(abs(a - b) for a, b in zip(found, expected, strict=True)) <= 16
    assert len(set(found)) == len(found)


def test_an_opposite_update_has_a_worse_score_and_a_loss_that_is_none_the_worst(called: Scored) -> None:
    assert _scores(3, {0: 0.0, 2: 0.0}) == [SAME_SCORE, NO_SCORE, SAME_SCORE]
    assert _scores(3, {0: -1.0, 1: 1.0, 2: 1.0}) == [SAME_SCORE - 1024, SAME_SCORE + 1024, SAME_SCORE + 1024]
    assert _scores(3, {0: math.nan, 1: math.inf, 2: 1.0}) == [WORST_SCORE, WORST_SCORE, SAME_SCORE + 1024]
    assert _scores(2, {}) == [NO_SCORE] * 2
    assert _scores(3, {0: 1.0, 1: 1.0, 2: 1e9})[2] == WORST_SCORE


def test_classes_count_alike_and_a_secret_chooses_the_examples() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), [3000, 40, 7])
    examples = Dataset(rng.standard_normal((len(labels), 4)).astype(np.float32), labels, 3)
    model = torch.nn.Linear(4, 3)
    chosen = [OwnScorer.of(FlatModel(model), examples, CLASSIFICATION, key).examples for key in (KEY, KEY, bytes(32))]
    counts = Counter(chosen[0].targets.tolist())
    assert len(set(counts.values())) == 1 and set(counts) == {0, 1, 2} and len(chosen[0]) <= MOST_EXAMPLES
    assert np.array_equal(chosen[0].inputs, chosen[1].inputs)
    assert not np.array_equal(chosen[0].inputs, chosen[2].inputs)
    # Of the rare class all are there.
    rare = {row.tobytes() for row in examples.inputs[labels == 2]}
    assert rare <= {row.tobytes() for row in chosen[0].inputs}
    numbers = Dataset(examples.inputs, labels.astype(np.float32), None)
    assert len(OwnScorer.of(FlatModel(model), numbers, CLASSIFICATION, KEY).examples) == MOST_EXAMPLES


def test_what_cannot_be_had_or_read_and_ones_own_gets_no_score(called: Scored) -> None:
    given = asked(called)
    missing, garbage = ContentRef.of(b"nobody has this"), called.store.put(b"no update")
    huge = ContentRef(given.updates[0].digest, given.spec.limits.max_update_bytes + 1)
    model = called.store.put(called.experiment.contents[0])
    updates = (given.updates[0], missing, garbage, huge, model)
    strange = ScoredRound(given.spec, given.index, given.base, given.owners, updates, given.owners[0])
    assert own_scorer(called, 1)(strange, called.store) == [NO_SCORE, WORST_SCORE, NO_SCORE, NO_SCORE, NO_SCORE]
    other = ScoredRound(given.spec, given.index, given.base, given.owners, updates, given.owners[4])
    # The only one is the usual one.
    found = own_scorer(called, 1)(other, called.store)
    assert found is not None and abs(found[0] - SAME_SCORE) == 1024
    assert found[1:] == [WORST_SCORE, NO_SCORE, NO_SCORE, NO_SCORE]
    unread = ScoredRound(given.spec, given.index, given.base, given.owners, (), given.owners[4])
    assert own_scorer(called, 1)(unread, called.store) == [NO_SCORE] * 5


class Slow:
    """A store in which some updates never come: whoever asks for them waits as long as it may."""

    def __init__(self, store: Readable, never: Collection[ContentRef]) -> None:
        self.store, self.never = store, never

    def get(self, ref: ContentRef, limit: int | None = None) -> bytes:
        if ref in self.never:
            time.sleep(max(0.0, end_of(60) - time.monotonic()))
        if ref in self.never or end_of(60) <= time.monotonic():
            raise ContentUnavailableError("It comes too slowly.")
        return self.store.get(ref, limit)


@pytest.mark.parametrize("count", [1, 2])
def test_updates_that_never_come_cost_no_other_its_score_and_have_the_worst(called: Scored, count: int) -> None:
    given = asked(called)
    for first in range(len(given.owners)):
        never = [given.updates[(first + n) % len(given.owners)] for n in range(count)]
        began = time.monotonic()
        with within(lambda: 1.5):
            found = own_scorer(called, 0)(given, Slow(called.store, never))
        assert found is not None and time.monotonic() < began + 3
        worst = {given.updates[place] for place, score in enumerate(found) if score == WORST_SCORE}
        assert worst == set(never) and NO_SCORE not in found


def test_a_scorer_that_is_cut_off_speaks_against_nobody(called: Scored) -> None:
    given = asked(called)
    with within(lambda: 0.5):
        found = own_scorer(called, 0)(given, Slow(called.store, given.updates[:3]))
    assert found is not None and found[:3] == [NO_SCORE] * 3 and WORST_SCORE not in found
    assert NO_SCORE not in found[3:]


class Noted(Slow):
    """A store that notes what is read, in order."""

    def __init__(self, store: Readable) -> None:
        super().__init__(store, ())
        self.read: list[ContentRef] = []

    def get(self, ref: ContentRef, limit: int | None = None) -> bytes:
        self.read.append(ref)
        return super().get(ref, limit)


def test_scorers_read_updates_in_different_orders(called: Scored) -> None:
    firsts = set()
    for number in range(20):
        store = Noted(called.store)
        assert own_scorer(called, 0)(asked(called, f"0x{number:040x}"), store)
        firsts.add(store.read[0])
    assert len(firsts) > 2


def test_a_scorer_whose_examples_cannot_be_measured_has_no_scores(called: Scored) -> None:
    given, none = asked(called), called.experiment.parts[0].take(np.zeros(0, np.int64))
    scorer = OwnScorer(called.experiment.flat_model(), none, called.experiment.objective)
    assert scorer(given, called.store) is None


def test_scores_are_journalled_for_what_was_asked_and_no_other_file_counts(tmp_path: Path) -> None:
    journal, words, digest = ScoreJournal(tmp_path, "task"), pack_scores([5, 0, 7] * 9), hashlib.sha256(b"a").digest()
    assert not journal.has(3)
    journal.write(3, digest, words)
    again = ScoreJournal(tmp_path, "task")
    assert again.has(3) and again.read(3, digest, 27) == words
    assert again.read(3, bytes(32), 27) is None
    with pytest.raises(StoreError, match="cannot be revealed"):
        again.read(3, digest, 16)
    for spoilt in (b"", b"[]", b"{}", b'{"asked": 1, "words": 2}', b'{"asked": "00", "words": ["zz"]}'):
        (tmp_path / "task-4.scores").write_bytes(spoilt)
        with pytest.raises(StoreError, match="cannot be read"):
            again.read(4, digest, 27)


@pytest.mark.parametrize("batched", [False, True], ids=["direct", "batched"])
def test_no_row_of_a_scorer_is_in_anything_that_is_sent_or_stored(batched: bool, tmp_path: Path) -> None:
    world = post_scored(tmp_path, participants=4, batched=batched)
    world.end()
    assert len(world.task.rounds[1].scoring.scores) == 3  # type: ignore[union-attr]
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".toml"]
    assert any(path.suffix == ".scores" for path in tmp_path.rglob("*"))
    told = (tmp_path / LEDGER_FILE).read_text()
    validation = {row.tobytes() for row in world.experiment.validation.examples()[0]}
    # What is public is found.
    assert any(next(iter(validation)) in content for content in kept)
    for number in range(4):
        for row in world.experiment.parts[number].inputs:
            raw = row.tobytes()
            if raw in validation or not np.any(row):
                continue
            assert raw.hex() not in told and not any(raw in content for content in kept)


def test_liars_say_what_their_lie_is_and_other_attackers_score_honestly(tmp_path: Path) -> None:
    world = post_scored(tmp_path, extra='[[attackers]]\nattack = { method = "lying_scorer@1" }\n')
    experiment = world.experiment
    liar = experiment.behaviours.index("lying_scorer")
    world.play_to(Action.SCORERS_CALLED)
    given = asked(world, experiment.address(liar))
    honest = ParticipantScorer(experiment, (liar + 1) % 5, KEY)(asked(world), world.store)
    assert honest is not None and all(BEST_SCORE < score < WORST_SCORE for score in honest)
    lying = ParticipantScorer(experiment, liar, KEY)(given, world.store)
    assert lying is not None and lying.count(BEST_SCORE) == 1

    def said(lie: str) -> list[int] | None:
        attack = attacker("lying_scorer@1", {"lie": lie}, experiment._local(liar), experiment._coalition)
        assert isinstance(attack, Scoring)
        before = dict(zip(given.owners[:2], (7, 8), strict=True))
        later = ScoredRound(given.spec, 2, given.base, given.owners, given.updates, given.scorer, before)
        return attack.scores(later, [10, 20, 30, 40, 50])

    place = given.owners.index(experiment.address(liar))
    assert said("favour") == [1 if i == place else 10 * (i + 1) for i in range(5)]
    assert said("slander") == [10 * (i + 1) if i == place else WORST_SCORE for i in range(5)]
    assert said("copy") == [7, 8, 0, 0, 0]
    assert said("silence") is None
    with pytest.raises(ConfigError, match="lie"):
        said("praise")


def test_verifiers_of_an_experiment_score_on_shares_of_the_validation_examples(called: Scored) -> None:
    given, experiment = asked(called), called.experiment
    scores = [VerifierScorer(experiment, number, 3, KEY)(given, called.store) for number in range(3)]
    assert all(BEST_SCORE < score < WORST_SCORE for each in scores for score in each or [0])
    assert len({tuple(each or ()) for each in scores}) == 3


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("scorers = 2", "Give 3 or more"),
        ("scorers = 16", "less than or equal to 15"),
        ("scorers = 5", "Give at most 4 scorers"),
        ('score_from = "verifiers"', "Give scorers"),
        ('scorers = 3\nscore_from = "verifiers"', "Give challenge_window"),
        ("scorers = 3\nscore_spread = 3", "greater than or equal to 4"),
        ("scorers = 3\nscore_floor = 0", "greater than or equal to 1"),
    ],
)
def test_a_configuration_of_scorers_that_no_ledger_takes_is_refused(
    lines: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, extra=f"[ledger]\n{lines}")
    code, _, errors = caller(monkeypatch, capsys)("run", config, "--out", tmp_path / "run")
    assert code == 3 and told in " ".join(errors.split())


def test_without_a_ledger_nobody_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, extra="[ledger]\nscorers = 3")
    code, _, errors = caller(monkeypatch, capsys)("run", config, "--no-ledger", "--out", tmp_path / "run")
    assert code == 3 and "Leave scorers out" in " ".join(errors.split())
