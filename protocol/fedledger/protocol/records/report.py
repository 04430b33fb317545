"""Names in a round's report."""

from __future__ import annotations

BASE, MODEL = "base", "model"
