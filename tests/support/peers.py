"""ByzFL's rules, which tests and benchmarks compare with, without the rest of that package.

``import byzfl`` also loads its benchmark, which needs torchvision and other packages that its rules do without.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType


def byzfl_aggregators() -> ModuleType:
    """Return ByzFL's module of aggregation rules: ``Average``, ``Krum``, ``CAF``, …"""
    return _byzfl("aggregators")


def byzfl_preaggregators() -> ModuleType:
    """Return ByzFL's module of what goes before a rule: ``NNM``, ``Bucketing``, ``Clipping`` and ``ARC``."""
    return _byzfl("preaggregators")


@cache
def _byzfl(name: str) -> ModuleType:
    if "byzfl" not in sys.modules:
        found = find_spec("byzfl")
        assert found is not None and found.submodule_search_locations, "make install-test installs byzfl"
        # A package of this name whose own code is not run; its parts are found in its folder as usual.
        package = ModuleType("byzfl")
        package.__path__ = list(found.submodule_search_locations)
        sys.modules["byzfl"] = package
    return import_module(f"byzfl.aggregators.{name}")
