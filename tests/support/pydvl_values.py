"""What pyDVL makes of random games: ``python tests/support/pydvl_values.py`` writes tests/vectors/pydvl.json anew.

Run it with an interpreter that has pyDVL 0.10.0, in an environment of its own; nothing of this project is needed.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parents[1] / "vectors" / "pydvl.json"
SIZES = (1, 2, 3, 4, 5, 6, 7, 8)


def games() -> list[list[int]]:
    """Worths of all coalitions by their bits; that of nobody is 0, as pyDVL has it."""
    rng = random.Random(11)
    return [[0, *(rng.randrange(-(10**6), 10**6) for _ in range(1, 1 << n))] for n in SIZES]


def values(worths: list[int]) -> dict[str, Any]:
    """Return pyDVL's values of a game."""
    from pydvl.valuation import (
        BanzhafValuation,
        ExactLeastCoreValuation,
        LOOValuation,
        NoStopping,
        PowersetSampler,
        ShapleyValuation,
    )
    from pydvl.valuation.games import Game
    from pydvl.valuation.samplers import DeterministicUniformSampler

    class Given(Game):
        def _score(self, x: Any) -> float:
            return float(worths[sum(1 << int(i) for i in set(x.flatten().tolist()))])

    players = len(worths).bit_length() - 1
    game = Given(players)

    def exact() -> PowersetSampler:
        return DeterministicUniformSampler(batch_size=1)

    methods = {
        "shapley": ShapleyValuation(game.u, exact(), NoStopping(), progress=False),
        "banzhaf": BanzhafValuation(game.u, exact(), NoStopping(), progress=False),
        "leave_one_out": LOOValuation(game.u, progress=False),
        "least_core": ExactLeastCoreValuation(game.u, progress=False),
    }
    found: dict[str, Any] = {"worths": worths}
    for name, method in methods.items():
        # Its least core wants two players.
        if name != "least_core" or players > 1:
            method.fit(game.data)
            result = method.result.sort(key="index")
            found[name] = [float(value) for value in result.values]
            if name == "least_core":
                found["subsidy"] = float(result.subsidy)
    return found


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(values(worths)) for worths in games())
    VECTORS.write_text(f"[\n{lines}\n]\n")
