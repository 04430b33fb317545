"""Against Krum: as far against the honest mean's signs as Krum still selects it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedledger.platform.attacks.base import ATTACKS
from fedledger.platform.attacks.coalition import OMNISCIENT
from fedledger.platform.attacks.colluding import Crafted, Rows, squared_distances

LEAST = 1e-5
"""Below this λ the search ends, as in the paper."""


@ATTACKS.register("fang_krum@1")
@dataclass(frozen=True)
class FangKrum(Crafted):
    """Sends −λ times the signs of the honest mean, λ the largest of its halvings that Krum selects.

    The search starts from the upper bound of the paper (Fang et al. 2020, https://arxiv.org/abs/1911.11815, section
    4.2). An omniscient coalition takes the honest updates, and as many copies as it has members. Others take what they
    would send themselves for the honest updates, and one copy; while no λ suits, one copy more.
    """

    def craft(self, rows: Rows) -> Rows:
        """Return what is sent; the opposite signs at the least λ if Krum selects none."""
        signs = np.sign(rows.mean(axis=0))
        between = np.array([squared_distances(rows, row) for row in rows])
        members = len(self.coalition.members)
        highest = self._upper_bound(rows, between)
        for copies in (members,) if self.knowledge == OMNISCIENT else range(1, members + 1):
            factor = highest
            while factor >= LEAST:
                if selected_by_krum(between, squared_distances(rows, -factor * signs), copies):
                    return np.asarray(-factor * signs)
                factor /= 2
        return np.asarray(-LEAST * signs)

    def _upper_bound(self, rows: Rows, between: Rows) -> float:
        """Return the λ beyond which the paper shows that Krum selects no such update."""
        n, d = rows.shape
        near = _nearest(n)
        scores = np.sqrt(np.sort(between, axis=1)[:, 1 : near + 1]).sum(axis=1)
        lengths = np.sqrt(squared_distances(rows, np.zeros(d)))
        bound = float((scores.min() / max(near + 1 - len(self.coalition.members), 1) + lengths.max()) / np.sqrt(d))
        return bound if np.isfinite(bound) else 0.0


def selected_by_krum(between: Rows, to: Rows, copies: int) -> bool:
    """Return whether Krum, which expects as many attackers as there are copies, selects a crafted update.

    Parameters
    ----------
    between
        float64[n, n], squared distances of the honest updates.
    to
        float64[n], those of the crafted update to them.
    copies
        How often it is sent, at least once.
    """
    near = _nearest(len(to))
    own = np.sort(np.concatenate([np.zeros(copies - 1), to]))[:near].sum()
    # The nearest of an honest update is itself.
    others = np.sort(np.hstack([between, np.repeat(to[:, None], copies, axis=1)]), axis=1)[:, 1 : near + 1].sum(axis=1)
    return bool(own < others.min()) if len(others) else True


def _nearest(honest: int) -> int:
    """Return of how many nearest updates Krum adds up distances: n − f − 2, with n less f honest ones; one at least."""
    return max(honest - 2, 1)
