"""Data sets of Hugging Face's ``datasets``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fedledger.learning.data import Dataset
from fedledger.learning.sources.base import DATASETS
from fedledger.protocol.methods.parameters import AnyOf, ListOf, Text


@DATASETS.register("huggingface@1")
def huggingface(
    path: Annotated[str | None, Text()] = None,
    name: Annotated[str | None, Text()] = None,
    split: Annotated[str, Text()] = "train",
    subset: Annotated[str | None, Text()] = None,
    inputs: Annotated[str | Sequence[str] | None, AnyOf((Text(), ListOf(Text(), 10_000)))] = None,
    labels: Annotated[str | None, Text()] = None,
    groups: Annotated[str | None, Text()] = None,
) -> Dataset:
    """Load a split of a Hugging Face data set; needs the package ``datasets``.

    Parameters
    ----------
    path, name, split, subset
        Where it is; see :func:`fedledger.learning.huggingface.load_huggingface`.
    inputs, labels, groups
        Its columns; see :func:`fedledger.learning.huggingface.dataset_from_huggingface`.
    """
    from fedledger.learning.huggingface import dataset_from_huggingface, load_huggingface

    return dataset_from_huggingface(load_huggingface(path, name, split, subset), inputs, labels, groups)
