"""Implicit feedback: from what users chose to lists of candidates, among which a model ranks the chosen one."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedledger.learning.arrays import as_inputs
from fedledger.learning.data import Dataset, Prepared
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import whole

MAX_ITEMS = 2**31
MAX_CANDIDATES = 10_000


def leave_one_out(
    users: ArrayLike,
    items: ArrayLike,
    negatives: int = 4,
    candidates: int = 99,
    last: bool = True,
    item_count: int | None = None,
    seed: int = 0,
) -> Prepared:
    """Return interactions as data for the objective ``ranking@1``, each user's last one held out (He et al. 2017).

    An example is a list of candidates, int64[k, 2]: the user and an item each, of which the user chose one. The target
    is its place, which is drawn at random. Groups are the users, so ``natural@1`` makes them participants. A user with
    a single item has no part in the test set.

    Parameters
    ----------
    users, items
        Which user chose which item, int64[m] each, from the first interaction to the last. A pair that comes more than
        once counts as its last.
    negatives
        Items beside each chosen one in training, drawn from those that the user never chose; one may come twice.
    candidates
        Items beside each chosen one in the test set, all different, none ever chosen by the user.
    last
        Whether a user's last item is held out; else a random one.
    item_count
        Number of items; one more than the largest unless given.
    seed
        Decides everything that is random.

    Raises
    ------
    ConfigError
        If these are no interactions, or a user chose so many items that too few others are left.
    """
    user, item = (_numbered(name, values) for name, values in (("users", users), ("items", items)))
    if len(user) != len(item) or not len(user):
        raise ConfigError(f"There are {len(user)} users and {len(item)} items.", "Give one of each per interaction.")
    count = whole("item_count", int(item.max()) + 1 if item_count is None else item_count, 1, MAX_ITEMS)
    if item.max() >= count:
        raise ConfigError(f"An item is {item.max()}, but item_count = {count}.", "Number the items from 0.")
    sizes = [whole(n, v, 1, MAX_CANDIDATES) for n, v in (("negatives", negatives), ("candidates", candidates))]
    rng = np.random.default_rng(seed)
    train: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    test: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    names, chosen = _by_user(user, item)
    for name, own in zip(names.tolist(), chosen, strict=True):
        unseen, learned = _Unseen(name, own, count), own
        if len(own) > 1:
            held = len(own) - 1 if last else int(rng.integers(len(own)))
            test.append(_lists(name, own[held : held + 1], unseen.different(sizes[1], rng)[None], rng))
            learned = np.delete(own, held)
        train.append(_lists(name, learned, unseen.any((len(learned), sizes[0]), rng), rng))
    if not test:
        raise ConfigError("No user chose two items, so none can be held out.", "Give users with several interactions.")
    return Prepared(_dataset(train), test=_dataset(test))


class _Unseen:
    """The items that a user never chose, without a list of them."""

    def __init__(self, user: int, chosen: NDArray[np.int64], count: int) -> None:
        seen = np.sort(chosen)
        self._user, self._left = user, count - len(seen)
        # How many unseen items are below each seen one.
        self._below = seen - np.arange(len(seen))

    def any(self, shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw items, of which several may be the same."""
        self._require(1)
        return self._items(rng.integers(self._left, size=shape))

    def different(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw so many different items."""
        self._require(count)
        return self._items(rng.choice(self._left, count, replace=False))

    def _require(self, count: int) -> None:
        if self._left < count:
            raise ConfigError(
                f"User {self._user} never chose {self._left} items, and {count} are wanted as other candidates.",
                "Reduce `candidates`, or leave this user out.",
            )

    def _items(self, ranks: NDArray[np.int64]) -> NDArray[np.int64]:
        return ranks + np.searchsorted(self._below, ranks, side="right")


def _by_user(user: NDArray[np.int64], item: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """Return the users in order, and the different items that each chose, by when it last did."""
    pairs = np.stack([user, item], axis=1)[::-1]
    _, first = np.unique(pairs, axis=0, return_index=True)
    kept = np.sort(len(pairs) - 1 - first)
    order = kept[np.argsort(user[kept], kind="stable")]
    names, counts = np.unique(user[order], return_counts=True)
    return names, np.split(item[order], np.cumsum(counts)[:-1])


def _lists(
    user: int, chosen: NDArray[np.int64], others: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return candidates int64[n, k, 2] with the chosen one at a random place, and that place int64[n]."""
    rows = np.arange(len(chosen))
    items = np.concatenate([chosen[:, None], others], axis=1)
    places = rng.integers(items.shape[1], size=len(chosen))
    items[rows, 0] = items[rows, places]
    items[rows, places] = chosen
    return np.stack([np.full_like(items, user), items], axis=2), places


def _dataset(lists: list[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> Dataset:
    inputs = np.concatenate([candidates for candidates, _ in lists])
    places = np.concatenate([places for _, places in lists])
    return Dataset(inputs, places, inputs.shape[1], inputs[:, 0, 0].copy())


def _numbered(name: str, values: ArrayLike) -> NDArray[np.int64]:
    found = as_inputs(values)
    if found.ndim != 1 or (found != np.floor(found)).any() or (len(found) and found.min() < 0):
        raise ConfigError(f"{name} are not one whole number per interaction.", "Number them from 0.")
    return found.astype(np.int64)
