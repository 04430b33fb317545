"""IDX files under the names, in the folders and of the types that people have them in."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedledger.learning.sources.base import load_dataset
from fedledger.protocol.errors import ConfigError

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.integers(0, 256, (50, 8, 8)), RNG.integers(0, 10, 50)
OTHER_IMAGES = 255 - IMAGES
KINDS = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def idx(array: np.ndarray[Any, Any], kind: int = 8) -> bytes:
    header = struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape)
    return header + array.astype(KINDS[kind]).tobytes()


X, Y = idx(IMAGES), idx(LABELS)
OTHER = idx(OTHER_IMAGES)


def folder_of(tmp_path: Path, files: dict[str, bytes]) -> str:
    for name, content in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return str(tmp_path)


@pytest.mark.parametrize(
    "files",
    [
        {"train-images-idx3-ubyte": X, "train-labels-idx1-ubyte": Y},
        {"train-images.idx3-ubyte": X, "train-labels.idx1-ubyte": Y},
        {"t10k-images-idx3-ubyte.gz": gzip.compress(X), "t10k-labels-idx1-ubyte.gz": gzip.compress(Y)},
        {
            "train-images-idx3-ubyte": X,
            "train-images-idx3-ubyte.gz": gzip.compress(OTHER),
            "train-labels-idx1-ubyte": Y,
            "train-labels-idx1-ubyte.gz": gzip.compress(Y),
        },
        {
            "train-images-idx3-ubyte/train-images-idx3-ubyte": X,
            "train-labels-idx1-ubyte/train-labels-idx1-ubyte": Y,
            "t10k-images-idx3-ubyte/t10k-images-idx3-ubyte": OTHER,
            "t10k-labels-idx1-ubyte/t10k-labels-idx1-ubyte": Y,
        },
        {
            "emnist-digits-train-images-idx3-ubyte": X,
            "emnist-digits-train-labels-idx1-ubyte": Y,
            "emnist-digits-test-images-idx3-ubyte": OTHER,
            "emnist-digits-test-labels-idx1-ubyte": Y,
        },
    ],
)
def test_the_training_files_are_found(tmp_path: Path, files: dict[str, bytes]) -> None:
    found = load_dataset("mnist_idx@1", {"folder": folder_of(tmp_path, files)})
    assert np.array_equal(found.inputs[:, 0], (IMAGES / np.float32(255)).astype(np.float32))
    assert np.array_equal(found.targets, LABELS) and found.classes == 10


def test_labels_beyond_the_classes_name_the_remedy(tmp_path: Path) -> None:
    letters = idx(1 + np.arange(50) % 26)
    folder = folder_of(tmp_path, {"train-images-idx3-ubyte": X, "train-labels-idx1-ubyte": letters})
    with pytest.raises(ConfigError, match=r"labels go up to 26, but classes = 10. Set classes = 27"):
        load_dataset("mnist_idx@1", {"folder": folder})
    assert load_dataset("mnist_idx@1", {"folder": folder, "classes": 27}).classes == 27


@pytest.mark.parametrize(
    ("images", "labels", "told"),
    [
        (idx(IMAGES / 255, 13), Y, "holds float32, and only unsigned bytes"),
        (idx(IMAGES / 255, 14), Y, "holds float64"),
        (X, idx(LABELS, 12), "train-labels-idx1-ubyte .*holds int32"),
        (X, idx(LABELS, 11), "holds int16"),
        (X, idx(LABELS, 9), "holds int8"),
        (gzip.compress(X)[:-20], Y, "ended before"),
        (gzip.compress(gzip.compress(X)), Y, "gzipped twice"),
        (b"<!DOCTYPE html><html>404</html>", Y, "not that of an array"),
        (Y, X, "Name an images file"),
        (X, idx(LABELS[:49]), r"labels \[49\]"),
        (idx(IMAGES.reshape(50, 4, 4, 4)), Y, r"images have shape \[50, 4, 4, 4\]"),
        (idx(IMAGES[:, :, 0]), Y, r"images have shape \[50, 8\]"),
    ],
)
def test_what_is_no_pair_is_refused_in_a_sentence(tmp_path: Path, images: bytes, labels: bytes, told: str) -> None:
    folder = folder_of(tmp_path, {"train-images-idx3-ubyte": images, "train-labels-idx1-ubyte": labels})
    with pytest.raises(ConfigError, match=told):
        load_dataset("mnist_idx@1", {"folder": folder})


def test_several_training_files_are_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"a-train-images-idx3": X, "b-train-images-idx3": X, "train-labels-idx1": Y})
    with pytest.raises(
        ConfigError, match=r"2 files of images in IDX format \(a-train-images-idx3, b-train-images-idx3\)"
    ):
        load_dataset("mnist_idx@1", {"folder": folder})
    params = {"folder": folder, "images": "b-train-images-idx3"}
    assert len(load_dataset("mnist_idx@1", params)) == 50


@pytest.mark.parametrize("shape", [(0, 2**31, 2**31), (2**32 - 1, 0, 2**32 - 1), (2**11, 2**10, 2**11)])
def test_extents_that_no_array_has_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """An empty axis hid the others, so that what was made of them failed."""
    images = struct.pack(">HBB3I", 0, 8, 3, *shape)
    folder = folder_of(tmp_path, {"train-images-idx3-ubyte": images, "train-labels-idx1-ubyte": Y})
    with pytest.raises(ConfigError, match="it announces"):
        load_dataset("mnist_idx@1", {"folder": folder})
