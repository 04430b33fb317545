"""Write a table for the publisher and for each hospital, as if each had collected its own.

With UCI's Heart Disease data (see examples/README.md) these are four real hospitals; without it, four parts of the
Wisconsin breast cancer data, which scikit-learn ships.

Usage: python make_tables.py FOLDER [HEART_DISEASE_FOLDER]
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer

OWNERS = ("publisher", "hospital1", "hospital2", "hospital3")
HEART = ("cleveland", "hungarian", "va", "switzerland")


def write(folder: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write an owner's table into its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "own.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def heart_disease(target: Path, source: Path) -> None:
    """Write the tables of four hospitals."""
    for owner, hospital in zip(OWNERS, HEART, strict=True):
        with (source / f"processed.{hospital}.data").open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file, skipinitialspace=True)
        # 0 is no disease, 1 to 4 are grades of it.
        labelled = ([*row[:-1], int(float(row[-1]) > 0)] for row in rows)
        write(target / owner, [*header[:-1], "diagnosis"], labelled)


def breast_cancer(target: Path) -> None:
    """Write four parts of one table."""
    data = load_breast_cancer()
    header = [*(name.replace(" ", "_") for name in data.feature_names), "diagnosis"]
    rng = np.random.default_rng(0)
    # Each hospital sees tumours of other sizes, more or less.
    order = np.argsort(data.data[:, 0] + rng.normal(0, 9, len(data.data)))
    for owner, places in zip(OWNERS, np.array_split(order, len(OWNERS)), strict=True):
        write(
            target / owner, header, ([*data.data[i].tolist(), int(1 - data.target[i])] for i in rng.permutation(places))
        )


if __name__ == "__main__":
    target = Path(sys.argv[1])
    if len(sys.argv) > 2:
        heart_disease(target, Path(sys.argv[2]))
    else:
        breast_cancer(target)
