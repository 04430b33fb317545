"""Sequences: from each participant's text to windows of tokens and the tokens that follow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedledger.learning.arrays import as_inputs
from fedledger.learning.data import Dataset
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import whole

PADDING = -1
"""The target where a window is longer than what is left of a text."""
MAX_LENGTH = 2**20


def characters(texts: Iterable[str]) -> str:
    """Return the different characters of some texts, in order: a vocabulary of characters."""
    return "".join(sorted(set().union(*texts)))


def token_windows(
    texts: Mapping[str, str] | Mapping[str, ArrayLike],
    length: int,
    vocabulary: Sequence[str] | None = None,
    step: int | None = None,
) -> Dataset:
    """Return texts as data for the objective ``tokens@1``.

    An example is ``length`` tokens, int64[n, length], and its targets are the tokens that follow each of them. The last
    window of a text is filled up with token 0, whose target −1 is not learned from. Texts of fewer than two tokens are
    left out.

    Parameters
    ----------
    texts
        Each group's text (a speaker's, an author's, …), whose tokens are its characters, or its tokens, numbered from
        0. Groups are the keys, so ``natural@1`` makes them participants.
    length
        Tokens in a window.
    vocabulary
        The characters in the order of their numbers; by default those of all texts, see :func:`characters`.
    step
        From one window to the next; by default ``length``, so that no token is a target twice.

    Raises
    ------
    ConfigError
        If a text is neither, has a character that is not in the vocabulary, or there is no window.
    """
    size = whole("length", length, 1, MAX_LENGTH)
    apart = size if step is None else whole("step", step, 1, size)
    numbers = _numbers(texts, vocabulary)
    inputs: list[NDArray[np.int64]] = []
    targets: list[NDArray[np.int64]] = []
    groups: list[str] = []
    for name, text in texts.items():
        tokens = np.array([numbers[one] for one in text], np.int64) if isinstance(text, str) else _tokens(name, text)
        if len(tokens) < 2:
            continue
        # As many windows as it takes for the last token to be a target.
        count = 1 + max(0, -(-(len(tokens) - 1 - size) // apart))
        places = np.arange(count)[:, None] * apart + np.arange(size)
        inputs.append(np.append(tokens, 0)[np.where(places < len(tokens) - 1, places, len(tokens))])
        targets.append(np.append(tokens, PADDING)[np.minimum(places + 1, len(tokens))])
        groups += [name] * count
    if not inputs:
        raise ConfigError("No text has two tokens.", "Give longer texts.")
    return Dataset(np.concatenate(inputs), np.concatenate(targets), None, np.array(groups))


def _numbers(texts: Mapping[str, str] | Mapping[str, ArrayLike], vocabulary: Sequence[str] | None) -> dict[str, int]:
    """Return the number of each character."""
    plain = [text for text in texts.values() if isinstance(text, str)]
    known = characters(plain) if vocabulary is None else vocabulary
    numbers = {character: number for number, character in enumerate(known)}
    if len(numbers) != len(known):
        raise ConfigError("The vocabulary has a character twice.", "Give each one once.")
    unknown = sorted(set().union(*plain) - set(numbers))
    if unknown:
        raise ConfigError(
            f"{len(unknown)} characters are not in the vocabulary, such as {unknown[0]!r}.",
            "Add them, or leave them out of the texts.",
        )
    return numbers


def _tokens(name: str, text: ArrayLike) -> NDArray[np.int64]:
    found = as_inputs(text)
    if found.ndim != 1 or (found != np.floor(found)).any() or (len(found) and found.min() < 0):
        raise ConfigError(f"The text of {name!r} is not a sequence of tokens.", "Number tokens from 0.")
    return found.astype(np.int64)
