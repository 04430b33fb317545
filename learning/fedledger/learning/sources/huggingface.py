"""Data sets of Hugging Face's ``datasets``."""

from __future__ import annotations

from collections.abc import Sequence

from fedledger.learning.data import Dataset
from fedledger.learning.sources.base import DATASETS


@DATASETS.register("huggingface@1")
def huggingface(
    path: str | None = None,
    name: str | None = None,
    split: str = "train",
    subset: str | None = None,
    inputs: str | Sequence[str] | None = None,
    labels: str | None = None,
    groups: str | None = None,
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
