from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from support.examples import REPEATABLE, register_profiles

ROOT = Path(__file__).parents[1]
os.environ["PATH"] += f":{ROOT / 'node_modules' / '.bin'}"

register_profiles()
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", REPEATABLE))


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT
