"""How likely a jury is captured by chance, against all draws there are."""

from __future__ import annotations

from itertools import combinations

import pytest

from fedledger.contracts.ledger.pools import Pool, capture_chance


@pytest.mark.parametrize("pool", range(1, 9))
def test_the_chance_is_that_of_all_draws(pool: int) -> None:
    for hostile in range(pool + 1):
        for seats in (1, 3, 5, 7, 15):
            drawn = list(combinations(range(pool), min(seats, pool)))
            captured = sum(2 * sum(place < hostile for place in jury) > len(jury) for jury in drawn)
            assert capture_chance(pool, hostile, seats) == pytest.approx(captured / len(drawn))


def test_in_large_pools_three_tenths_capture_what_the_documents_say() -> None:
    chances = [capture_chance(100_000, 30_000, seats) for seats in (3, 7, 15, 31)]
    assert chances == pytest.approx([0.216, 0.126, 0.050, 0.0095], abs=0.001)


def test_a_pool_says_who_could_capture_it() -> None:
    assert Pool(2, 3, False, (3, 7)).told().endswith("no challenges and no penalties")
    assert Pool(2, 3, False, (3, 7), True).told().endswith("no penalties but for failed spot checks")
    assert Pool(3, 3, True, (3, 7)).told().endswith("of 0%, 0%; 2 of them of 100%, 100%")
    assert Pool(0, 3, False, (3,)).capture == (0.0,)
