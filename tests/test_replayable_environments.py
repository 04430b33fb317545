"""One update under other kernels, numbers of threads and releases: the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PINNED = {
    "perceptron": "4190f1e92a74390d",
    "wide": "762b5acd518d8b85",
    "lenet": "160d251baaf2b7e6",
    "tokens": "a3a3849ce4683f3b",
    "regression": "ccd035982976cfc3",
    "measured": "2b402a6c26a4d59b",
}
"""Digests of updates and measurements: version 1 of the solver gives these for ever."""
QUICK = [
    {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "COMPATIBLE", "THREADS": "2"},
    {"NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512F AVX2", "ONEDNN_MAX_CPU_ISA": "SSE41"},
]
MATRIX = [
    *(
        {"ATEN_CPU_CAPABILITY": level, "THREADS": threads}
        for level in ("default", "avx2", "avx512")
        for threads in "12"
    ),
    *({"MKL_CBWR": mode} for mode in ("COMPATIBLE", "SSE4_2", "AVX", "AVX2", "AVX512")),
    *({"ONEDNN_MAX_CPU_ISA": level} for level in ("SSE41", "AVX2", "AVX512_CORE")),
    *({"OPENBLAS_CORETYPE": core} for core in ("SkylakeX", "Haswell", "Sandybridge", "Nehalem", "Prescott")),
]


def digests(
    settings: dict[str, str], method: str = "replayable_sgd@1", python: Sequence[str] = (sys.executable,)
) -> dict[str, str]:
    """Return the digests that a solver gives under environment variables."""
    settings = dict(settings)
    command = [*python, "-W", "ignore", "-m", "support.replayable", settings.pop("THREADS", "1"), method]
    environment = os.environ | {"PYTHONPATH": str(TESTS)} | settings
    made = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=600)
    return dict(line.split() for line in made.stdout.splitlines())


@pytest.mark.parametrize("settings", QUICK, ids="-".join)
def test_updates_are_pinned_under_other_kernels(settings: dict[str, str]) -> None:
    assert digests(settings) == PINNED


@pytest.mark.long
@pytest.mark.parametrize("settings", MATRIX, ids=lambda settings: "-".join(settings.values()))
def test_updates_are_pinned_under_all_kernels(settings: dict[str, str]) -> None:
    assert digests(settings) == PINNED


@pytest.mark.long
def test_floating_point_differs_between_the_same_kernels() -> None:
    found = [digests(settings, "fedprox@1") for settings in ({}, *QUICK)]
    # Each task's update: else its digest would say nothing.
    for name in PINNED.keys() - {"measured"}:
        assert len({each[name] for each in found}) > 1, name
