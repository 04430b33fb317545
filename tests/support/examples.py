"""How many examples a property is tried on."""

from __future__ import annotations

from hypothesis import settings

REPEATABLE, FUZZ = "repeatable", "fuzz"
FUZZ_TIMES = 10
"""How many times the examples of a quick test ``make fuzz`` tries."""


def register_profiles() -> None:
    """Register the profiles of property tests: the same examples each time, and others each time."""
    # A machine that does something else meanwhile is no finding.
    settings.register_profile(REPEATABLE, deadline=None, derandomize=True)
    settings.register_profile(FUZZ, deadline=None, max_examples=100 * FUZZ_TIMES, print_blob=True)


def examples(count: int) -> settings:
    """Return settings that try a property on so many examples, or ten times as many under the profile ``fuzz``."""
    fuzzing = settings.get_current_profile_name() == FUZZ
    return settings(max_examples=count * FUZZ_TIMES if fuzzing else count)
