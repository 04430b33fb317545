from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parents[1]
os.environ["PATH"] += f":{ROOT / 'node_modules' / '.bin'}"

# A machine that does something else meanwhile is no finding.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT
