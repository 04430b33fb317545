"""Which examples of a test are played by `make test`; the others are left to `make test-long`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def quick(keep: int, examples: Iterable[Any], ids: Iterable[str] | None = None) -> list[Any]:
    """Return the examples of ``parametrize``, all but the first few of them marked as long.

    Parameters
    ----------
    keep
        How many are not.
    examples
        What ``parametrize`` takes; a tuple is the values of several parameters.
    ids
        Their names, if pytest is not to find some.
    """
    named = zip(examples, ids, strict=True) if ids is not None else ((example, None) for example in examples)
    return [
        pytest.param(
            *(example if isinstance(example, tuple) else (example,)),
            id=name,
            marks=() if number < keep else pytest.mark.long,
        )
        for number, (example, name) in enumerate(named)
    ]
