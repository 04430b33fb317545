"""Text under a vocabulary that a task names: everybody makes the same tokens of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.learning.data import Dataset
from fedledger.learning.schemas.arrays import fit_arrays
from fedledger.learning.schemas.texts import fit_texts
from fedledger.node.own_data import NodeConfig, OwnData
from fedledger.node.own_examples import own_examples
from fedledger.platform.experiment.posted_task import read_data_schema
from fedledger.platform.experiment.task_config import TaskConfig, make_task
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.data_schema import ArraySchema
from fedledger.protocol.records.ref import Ref
from fedledger.protocol.records.vocabulary import MAX_TOKENS, Vocabulary
from fedledger.storage.local import LocalStore

WORDS = Vocabulary(("<?>", "a", "b", "ab", "abba", "\n", "é"), 0)
SCHEMA = ArraySchema(
    shape=(4,),
    whole=True,
    target_shape=(4,),
    whole_targets=True,
    vocabulary=Ref.of(ContentRef.of(WORDS.encode())),
    unknown=0,
)


def by_hand(vocabulary: Vocabulary, text: str) -> list[int]:
    """The longest token that the rest of the text begins with, until nothing is left."""
    found = []
    while text:
        fitting = [token for token in vocabulary.texts if text.startswith(token)]
        longest = max(fitting, key=len, default=None)
        found.append(0 if longest is None else vocabulary.texts.index(longest))
        text = text[1 if longest is None else len(longest) :]
    return found


words = st.text("abc", min_size=1, max_size=4) | st.text("ab", min_size=1, max_size=30)


@given(
    texts=st.lists(words, min_size=1, max_size=12, unique=True),
    text=st.text("abcd"),
    chosen=st.lists(st.integers(0, 11), max_size=4),
)
def test_tokens_are_the_longest_that_fit_and_make_the_text_again(
    texts: list[str], text: str, chosen: list[int]
) -> None:
    text += "".join(texts[place % len(texts)][: 1 + place * 3] for place in chosen)
    vocabulary = Vocabulary(("<unknown>", *texts), 0)
    tokens, strange = vocabulary.tokens(text)
    assert tokens == by_hand(vocabulary, text)
    left = iter(strange)
    assert "".join(vocabulary.texts[token] if token else next(left) for token in tokens) == text
    assert Vocabulary.decode(vocabulary.encode(), 0) == vocabulary


class Watched(str):
    """Text that counts how often it is looked into."""

    looks = 0

    def __getitem__(self, key: Any) -> str:
        self.looks += 1
        return super().__getitem__(key)


def test_tokens_of_many_lengths_take_few_looks() -> None:
    vocabulary = Vocabulary(("?", *("a" * length + "b" for length in range(1, 64))), 0)
    text = Watched("a" * 1000)
    assert vocabulary.tokens(text)[0] == [0] * 1000
    assert text.looks <= 9 * len(text)


def test_windows_of_a_text_are_the_same_however_its_lines_end(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_bytes("abbaab\nbé".encode())
    made = [fit_texts(SCHEMA, WORDS, folder).required()]
    (folder / "a.txt").write_bytes(b"\xef\xbb\xbf" + "abbaab\r\nbé".encode())
    made.append(fit_texts(SCHEMA, WORDS, folder).required())
    for examples in made:
        assert examples.inputs.tolist() == [[4, 3, 5, 2]] and examples.targets.tolist() == [[3, 5, 2, 6]]
    (folder / "b.txt").write_text("axb")
    fit = fit_texts(SCHEMA, WORDS, folder)
    assert fit.required().inputs.tolist()[1] == [1, 0, 0, 0] and fit.required().targets.tolist()[1] == [0, 2, -1, -1]
    assert "'x'" in fit.misfits[0].problem
    strict = fit_texts(SCHEMA, Vocabulary(WORDS.texts), folder)
    assert strict.examples is None and "b.txt" in strict.serious[0].problem


def test_windows_that_would_hardly_hold_anything_are_refused(tmp_path: Path) -> None:
    for number in range(600):
        (tmp_path / f"{number}.txt").write_text("ab")
    long = SCHEMA.model_copy(update={"shape": (2**20,), "target_shape": (2**20,)})
    with pytest.raises(ConfigError, match="are the limit"):
        fit_texts(long, WORDS, tmp_path)


@pytest.mark.parametrize(
    ("inputs", "targets", "told"),
    [
        (6, 6, None),
        (6, -1, None),
        (7, 6, "Inputs are tokens"),
        (-1, 6, "Inputs are"),
        (6, 7, "Targets are"),
        (6, -2, "Targets"),
    ],
)
def test_own_tokens_are_within_the_vocabulary(inputs: int, targets: int, told: str | None) -> None:
    given_ = Dataset(np.full((3, 4), inputs), np.full((3, 4), targets), None)
    fit = fit_arrays(SCHEMA, given_, WORDS)
    assert (fit.examples is None) == (told is not None)
    assert told is None or told in fit.serious[0].problem


@pytest.mark.parametrize(
    "document",
    [{}, [], "abc", [""], ["a", 1], ["a", "a"], ["a" * 65], [["a"]], [None], ["a"] * (MAX_TOKENS + 1), ["\ud800"]],
)
def test_a_vocabulary_that_cannot_be_is_refused(document: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        Vocabulary.of(document).encode()
    with pytest.raises(ConfigError):
        Vocabulary.decode(json.dumps(document).encode())


TASK = """
from torch import nn


def model() -> nn.Module:
    return nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 7))
"""


def task(folder: Path, **changed: Any) -> TaskConfig:
    (folder / "task.py").write_text(TASK)
    (folder / "tokens.json").write_text(json.dumps(WORDS.texts))
    (folder / "held.txt").write_text("abba" * 9)
    document: dict[str, Any] = {
        "name": "letters",
        "code": "task.py",
        "vocabulary": "tokens.json",
        "validation": {"data": {"text": "held.txt"}},
        "training": {"objective": {"method": "tokens@1"}},
        "data_schema": {
            "kind": "arrays",
            "shape": [4],
            "whole": True,
            "target_shape": [4],
            "whole_targets": True,
            "unknown": 0,
        },
    }
    return TaskConfig.model_validate(document | changed)


def test_a_posted_task_brings_its_vocabulary_and_owners_need_their_text_alone(tmp_path: Path) -> None:
    experiment = make_task(task(tmp_path), tmp_path).experiment
    store = LocalStore(tmp_path / "store")
    experiment.publish(store)
    schema = read_data_schema(experiment.spec, store)
    assert schema == SCHEMA
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("abba" * 5 + "ba" * 30)
    assert experiment.spec.code is not None
    config = NodeConfig(data=OwnData(text="notes.txt"), trust_code=(experiment.spec.code.cid,))
    own = own_examples(config, mine, schema, experiment.spec, store)
    # The first window is one of the validation set's.
    assert own.left_out == 1 and own.fit.required().inputs.shape == (8, 4)
    own.trainer()


def test_a_vocabulary_that_is_not_the_schema_s_or_not_there_is_told(tmp_path: Path) -> None:
    schema = task(tmp_path).model_dump()["data_schema"]
    other = Ref.of(ContentRef.of(b'["x"]')).model_dump()
    (tmp_path / "deep.json").write_text("[" * 100_000)
    for changed, told in (
        ({"vocabulary": None}, "not there"),
        ({"vocabulary": "none.json"}, "cannot be read"),
        ({"vocabulary": "deep.json"}, "cannot be read"),
        ({"vocabulary": "held.txt"}, "cannot be read"),
        ({"data_schema": schema | {"vocabulary": other}}, "another vocabulary"),
        ({"data_schema": schema | {"unknown": 7}}, "no token 7"),
        ({"data_schema": None}, "for a data schema of arrays"),
    ):
        with pytest.raises(ConfigError, match=told):
            make_task(task(tmp_path, **changed), tmp_path)
