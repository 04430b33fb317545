"""Images in the IDX format of MNIST."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Annotated, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.data import Dataset
from fedledger.learning.sources.base import DATASETS
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Text, Whole


@DATASETS.register("mnist_idx@1")
def mnist_idx(
    folder: Annotated[str, Text()],
    images: Annotated[str | None, Text()] = None,
    labels: Annotated[str | None, Text()] = None,
    classes: Annotated[int, Whole(2, 2**31)] = 10,
) -> Dataset:
    """Load images and labels in MNIST's IDX format, gzipped or not: float32[n, 1, rows, columns] in [0, 1].

    Parameters
    ----------
    folder
        Where the files lie.
    images, labels
        Their names; by default the folder's only pair, or the one whose name starts with ``train``.
    classes
        Number of classes.

    Raises
    ------
    ConfigError
        If a file is missing, is not such a file, or does not match the other.
    """
    root = Path(folder)
    pixels = read_idx(_idx_file(root, images, "images"))
    targets = read_idx(_idx_file(root, labels, "labels"))
    if pixels.ndim != 3 or targets.shape != pixels.shape[:1]:
        raise ConfigError(
            f"{root}: images have shape {list(pixels.shape)}, labels {list(targets.shape)}.",
            "Name an images file [n, rows, columns] and its labels file [n].",
        )
    scaled = np.divide(pixels[:, None], np.float32(255), dtype=np.float32)
    return Dataset.of(scaled, targets, classes=classes)


def read_idx(path: Path, max_bytes: int = 2**31) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, gzipped or not.

    Nothing larger than the file's own header announces, or than ``max_bytes``, is ever read.

    Raises
    ------
    ConfigError
        If the file is missing or is anything else.
    """
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            return _parse_idx(cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if zipped else raw, max_bytes)
    except (OSError, EOFError, zlib.error, ValueError, struct.error) as error:
        raise ConfigError(f"{path} cannot be read as IDX: {error}.", "Fetch the file again.") from error


def _parse_idx(stream: BinaryIO, max_bytes: int) -> NDArray[np.uint8]:
    zeros, kind, ndim = struct.unpack(">HBB", stream.read(4))
    if zeros != 0 or kind != 8 or not 1 <= ndim <= 4:
        raise ValueError("its header is not that of an array of unsigned bytes")
    shape = struct.unpack(f">{ndim}I", stream.read(4 * ndim))
    size = math.prod(shape)
    if size > max_bytes:
        raise ValueError(f"it announces {size} bytes")
    content = bytearray()
    while len(content) <= size and (chunk := stream.read(min(2**20, size + 1 - len(content)))):
        content += chunk
    if len(content) != size:
        raise ValueError(f"its header announces {size} bytes, there are {'more' if len(content) > size else 'fewer'}")
    return np.frombuffer(bytes(content), np.uint8).reshape(shape)


def _idx_file(folder: Path, name: str | None, kind: str) -> Path:
    if name is not None:
        return folder / name
    found = sorted(folder.glob(f"*{kind}*idx*"))
    chosen = [path for path in found if path.name.startswith("train")] or found
    if len(chosen) != 1:
        raise ConfigError(f"{folder} has {len(chosen)} files of {kind} in IDX format.", f"Name one as {kind}.")
    return chosen[0]
