"""Pipelines: what a configuration chooses by one name for all the methods that judge, aggregate and pay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Pipeline = Literal["default", "plain", "0.1.0"]

DEFAULT: Pipeline = "default"
PLAIN: Pipeline = "plain"
FILLED = ("evidence", "judgement", "normalisation", "detection", "mixing", "aggregation", "contribution")
"""The keys of a configuration's training that a pipeline fills in."""

_PLAIN: Mapping[str, Any] = {"aggregation": {"method": "mean@1"}, "contribution": {"method": "alignment@1"}}

PIPELINES: Mapping[Pipeline, Mapping[str, Any]] = {
    "default": {
        "normalisation": {"method": "median_clip@1"},
        "evidence": {"method": "work@1"},
        "judgement": {},
        "detection": [{"method": "no_work@1"}, {"method": "harm@1"}],
        "aggregation": {"method": "supported_mean@1"},
        "contribution": {"method": "corroborated@1"},
    },
    "plain": _PLAIN,
    "0.1.0": {
        **_PLAIN,
        "detection": [{"method": f"{name}@1"} for name in ("norm", "near_duplicate", "held_out", "cosine")],
    },
}
"""What each pipeline names; whatever one does not name, it leaves out."""


def with_pipeline(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a configuration says of training, with the methods of its pipeline that it does not name itself."""
    named = training.get("pipeline", DEFAULT)
    # Another name is told of where the whole is checked.
    filling = next((methods for name, methods in PIPELINES.items() if name == named), {})
    return {**filling, **training}
