"""Fail if the contracts' tests reach too little of contracts/src: ``python contracts/tools/coverage_check.py LCOV``."""

import sys
from collections import Counter
from pathlib import Path

LEAST = {"lines": 0.98, "branches": 0.95}
KEYS = {"LF": "lines", "LH": "lines reached", "BRF": "branches", "BRH": "branches reached"}


def totals(report: str) -> Counter[str]:
    """Return the sums of an LCOV report over contracts/src."""
    found: Counter[str] = Counter()
    inside = False
    for line in report.splitlines():
        key, _, value = line.partition(":")
        if key == "SF":
            inside = value.startswith("contracts/src/")
        elif inside and key in KEYS:
            found[KEYS[key]] += int(value)
    return found


def main(path: str) -> int:
    """Print what was reached; 1 if it is too little."""
    found = totals(Path(path).read_text())
    enough = True
    for what, least in LEAST.items():
        reached, there = found[f"{what} reached"], found[what]
        enough &= there > 0 and reached >= least * there
        print(f"{what}: {reached} of {there}, at least {least:.0%}")
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
