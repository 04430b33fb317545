"""Every aggregation rule and mixing, with parameters that suit nine rows."""

from __future__ import annotations

from typing import Any

NNM, WEIGHTED_NNM, STRICT_NNM = (f"nearest_neighbour_mixing@{version}" for version in (1, 2, 3))
DEFAULTS: dict[str, dict[str, Any]] = {
    "mean@1": {},
    "median@1": {},
    "trimmed_mean@1": {"f": 2},
    "multi_krum@1": {"f": 2},
    "multi_krum@2": {"f": 2},
    "geometric_median@1": {},
    "centred_clipping@1": {"tau": 1.0},
    "weighted_median@1": {},
    "weighted_trimmed_mean@1": {"share": 0.25},
    "bulyan@1": {"f": 1},
    "dnc@1": {"f": 2},
    "fltrust@1": {},
    "foolsgold@1": {},
    "supported_mean@1": {},
    "median@2": {},
    "trimmed_mean@2": {"f": 2},
    "multi_krum@3": {"f": 2},
    "geometric_median@2": {},
    "bulyan@2": {"f": 1},
    "dnc@2": {"f": 2},
    "fltrust@2": {},
}
MIXING_DEFAULTS: dict[str, dict[str, Any]] = {NNM: {"f": 2}, WEIGHTED_NNM: {"f": 2}, STRICT_NNM: {"f": 2}}
DEFAULTS |= {"mda@1": {"f": 2}, "meamed@1": {"f": 2}, "monna@1": {"f": 2}, "caf@1": {"f": 2}, "flame@1": {"noise": 0.0}}
DEFAULTS |= {
    "q_ffl@1": {"q": 1.0, "learning_rate": 1e12},
    "agnostic@1": {"step": 0.5},
    "fedmgda@1": {},
}
"""Curvature shortens no step of q_ffl@1 here: it is tested by itself."""
CLAIMING = {"q_ffl@1", "agnostic@1"}
"""Rules that rest on what participants claim of their losses, so that a spec names these, too."""
MIXING_DEFAULTS |= {"bucketing@1": {"s": 2}}
