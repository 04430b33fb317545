"""Examples held out of training: for measuring updates, and for the reported accuracy."""

from __future__ import annotations

import numpy as np

from fedledger.learning.data import Dataset, Parts, Prepared, split


def hold_out(
    prepared: Prepared, test_fraction: float, validation_fraction: float, rng: np.random.Generator
) -> tuple[Dataset | Parts, Dataset, Dataset]:
    """Return what participants learn from, the validation set and the test set.

    What is missing of the last two is taken from the first, at random as in :func:`split`; but a validation set that is
    missing beside a test set is taken from that one. Parts keep their other examples, in their order.

    Parameters
    ----------
    prepared
        The examples.
    test_fraction, validation_fraction
        Shares of what they are taken from.
    rng
        Decides everything that is random.

    Raises
    ------
    ConfigError
        If the fractions do not suit, or a part would be left without an example.
    """
    train, test, validation = prepared.train, prepared.test, prepared.validation
    if test is not None:
        if validation is None:
            test, validation, _ = split(test, 0.0, validation_fraction, rng)
        return train, validation, test
    fractions = test_fraction, 0.0 if validation is not None else validation_fraction
    if isinstance(train, Dataset):
        divided: tuple[Dataset | Parts, Dataset, Dataset] = split(train, *fractions, rng)
    else:
        divided = train.split(*fractions, rng)
    return divided[0], divided[1] if validation is None else validation, divided[2]
