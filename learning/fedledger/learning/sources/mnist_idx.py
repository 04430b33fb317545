"""Images in the IDX format of MNIST."""

from __future__ import annotations

import gzip
import math
import re
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

_GZIP = b"\x1f\x8b"
_OTHER_KINDS = {9: "int8", 11: "int16", 12: "int32", 13: "float32", 14: "float64"}
_TRAIN = re.compile(r"(^|[^a-z])train([^a-z]|$)", re.IGNORECASE)


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
        Their names; by default the folder's only pair, or the one with ``train`` in its name. A file that lies beside
        itself gzipped is taken as it is; one in a folder of its name is found there.
    classes
        Number of classes; labels are below it.

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
    if targets.max(initial=0) >= classes:
        raise ConfigError(
            f"{root}: labels go up to {targets.max()}, but classes = {classes}.",
            f"Set classes = {int(targets.max()) + 1}, or what the data set has.",
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
            zipped = raw.read(2) == _GZIP
            raw.seek(0)
            return _parse_idx(cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if zipped else raw, max_bytes)
    except (OSError, EOFError, zlib.error, ValueError, struct.error) as error:
        raise ConfigError(f"{path} cannot be read as IDX: {error}.", "Fetch or make the file again.") from error


def _parse_idx(stream: BinaryIO, max_bytes: int) -> NDArray[np.uint8]:
    start = stream.read(4)
    if start[:2] == _GZIP:
        raise ValueError("it is gzipped twice")
    zeros, kind, ndim = struct.unpack(">HBB", start)
    if zeros == 0 and kind in _OTHER_KINDS:
        raise ValueError(f"it holds {_OTHER_KINDS[kind]}, and only unsigned bytes are read")
    if zeros != 0 or kind != 8 or not 1 <= ndim <= 4:
        raise ValueError("its header is not that of an array of unsigned bytes")
    shape = struct.unpack(f">{ndim}I", stream.read(4 * ndim))
    size = math.prod(shape)
    # An empty axis must not hide others that no array can have.
    if math.prod(extent or 1 for extent in shape) > max_bytes:
        raise ValueError(f"it announces {' · '.join(map(str, shape))} bytes")
    content = bytearray()
    while len(content) <= size and (chunk := stream.read(min(2**20, size + 1 - len(content)))):
        content += chunk
    if len(content) != size:
        raise ValueError(f"its header announces {size} bytes, there are {'more' if len(content) > size else 'fewer'}")
    return np.frombuffer(bytes(content), np.uint8).reshape(shape)


def _idx_file(folder: Path, name: str | None, kind: str) -> Path:
    if name is not None:
        return _inside(folder / name, kind)
    found = {path.name: _inside(path, kind) for path in sorted(folder.glob(f"*{kind}*idx*"))}
    # Beside a file its gzipped copy says nothing new.
    plain = [path for name, path in found.items() if not (name.endswith(".gz") and name[: -len(".gz")] in found)]
    chosen = [path for path in plain if _TRAIN.search(path.name)] or plain
    if len(chosen) != 1:
        names = f" ({', '.join(path.name for path in chosen[:3])}{', …' if len(chosen) > 3 else ''})" if chosen else ""
        raise ConfigError(f"{folder} has {len(chosen)} files of {kind} in IDX format{names}.", f"Name one as {kind}.")
    return chosen[0]


def _inside(path: Path, kind: str) -> Path:
    """Return the only such file of a folder, as archives are often unpacked into one; else the path itself."""
    within = sorted(path.glob(f"*{kind}*")) if path.is_dir() else []
    return within[0] if len(within) == 1 else path
