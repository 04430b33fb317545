"""One update under other kernels, numbers of threads and releases: the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
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


def run_with(settings: dict[str, str], module: str = "support.replayable", python: str = sys.executable) -> list[str]:
    """Return the lines that a module prints under environment variables."""
    settings = dict(settings)
    command = [python, "-W", "ignore", "-m", module, settings.pop("THREADS", "1")]
    environment = os.environ | {"PYTHONPATH": str(TESTS)} | settings
    made = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=600)
    return made.stdout.splitlines()


@pytest.mark.parametrize("settings", QUICK, ids="-".join)
def test_updates_are_pinned_under_other_kernels(settings: dict[str, str]) -> None:
    assert dict(line.split() for line in run_with(settings)) == PINNED


@pytest.mark.long
@pytest.mark.parametrize("settings", MATRIX, ids=lambda settings: "-".join(settings.values()))
def test_updates_are_pinned_under_all_kernels(settings: dict[str, str]) -> None:
    assert dict(line.split() for line in run_with(settings)) == PINNED
