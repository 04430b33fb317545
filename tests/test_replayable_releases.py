"""One update under other releases of Python, torch and NumPy, and on another processor: the same bytes.

The environments are kept, so only the first run makes them, in four minutes on two busy processors: 7 GiB, most of it
where pip offers torch with CUDA alone. `make test-long TORCH_INDEX=…` names an index of builds without. Later runs take
a minute or two for the emulated processor, and ten seconds for each other environment.
"""

from __future__ import annotations

import sys

import pytest
from test_replayable_environments import PINNED, digests

from support.releases import Interpreter, another_python, emulated, environment, locked, lowest

pytestmark = pytest.mark.long

NEWEST = {"torch": "2.14.1", "numpy": "2.4.6"}
ON_ARM = {"torch": "2.8.0", "numpy": "2.1.3"}
"""Wheels of later releases need CUDA there, too, and are four times as large."""


def found(python: Interpreter) -> dict[str, str]:
    return digests(python.settings, python=python.command)


def test_updates_are_pinned_with_the_lowest_versions() -> None:
    assert found(environment("lowest", sys.executable, lowest())) == PINNED


def test_updates_are_pinned_with_the_newest_versions_and_another_python() -> None:
    assert found(environment("newest", another_python(), locked() | NEWEST)) == PINNED


def test_updates_are_pinned_on_another_processor() -> None:
    assert found(emulated("aarch64", locked() | ON_ARM)) == PINNED
