from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
os.environ["PATH"] += f":{ROOT / 'node_modules' / '.bin'}"


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT
