"""Which of a participant's examples are held out: those that it offered, and those on which updates are measured."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.data import Dataset
from fedledger.learning.equal_examples import places_of
from fedledger.learning.schemas.fit import Fit, Misfit


@dataclass(frozen=True)
class HeldOut:
    """Examples on which a participant does not train.

    Rows of few columns are often equal, and whoever offers the common ones could take them from everybody. So a
    validation example holds out one equal example, however many there are, and all of them together hold out a share
    at most, but for those that the participant offered itself.

    Parameters
    ----------
    examples
        The participant's own.
    offered
        The places int64[m] of those that it offered.
    others
        The places int64[k] of others that are in the validation set, as many as may be held out.
    equal
        How many of these there are.
    """

    examples: Dataset
    offered: NDArray[np.int64]
    others: NDArray[np.int64]
    equal: int

    @classmethod
    def of(cls, examples: Dataset, offered: Counter[bytes], public: Counter[bytes], share: float) -> HeldOut:
        """Find them by the keys of examples.

        Parameters
        ----------
        examples
            The participant's own.
        offered, public
            How many examples of each key it offered, and how many the validation set has, if everybody can read it.
        share
            How much of its own the validation set may hold out, from 0 to 1.
        """
        own = places_of(examples, offered)
        others = np.setdiff1d(places_of(examples, offered | public), own)
        return cls(examples, own, others[: math.ceil(share * len(examples))], len(others))

    def __len__(self) -> int:
        return len(self.offered) + len(self.others)

    def fit_without(self, fit: Fit, least: int) -> Fit:
        """Return a fit without the examples that are held out, and with what there is to say of them.

        Parameters
        ----------
        fit
            How the examples fit so far.
        least
            How many the task asks for.
        """
        kept = self.examples.take(np.delete(np.arange(len(self.examples)), [*self.offered, *self.others]))
        if not len(self):
            return replace(fit, examples=self.examples, misfits=(*fit.misfits, *self._limit()))
        if len(kept) >= least:
            told = (*fit.misfits, self._told(), *self._limit())
            return replace(fit, examples=kept, count=len(kept), misfits=told)
        few = Misfit(
            "",
            f"{len(kept):,} examples are left without the {len(self):,} that are held out, and the task asks for "
            f"{least:,}.",
            "Add some, or do not take part.",
        )
        return replace(fit, examples=None, count=len(kept), misfits=(*fit.misfits, few))

    def filled(self, kept: Dataset) -> Dataset:
        """Return the examples to train on, some of them twice in place of others' validation examples.

        So neither the number of examples nor that of steps, which updates state, says how many of the validation
        examples a participant has.

        Parameters
        ----------
        kept
            Those that are not held out.
        """
        if not len(self.others):
            return kept
        again = np.linspace(0, len(kept) - 1, len(self.others)).astype(np.int64)
        return kept.take(np.sort(np.concatenate([np.arange(len(kept)), again])))

    def _told(self) -> Misfit:
        return Misfit(
            "",
            f"{len(self):,} examples are held out: they are in the task's validation set, or were offered for one.",
            "The node does not train on them.",
            is_serious=False,
        )

    def _limit(self) -> list[Misfit]:
        """Tell of a validation set that would hold out more than it may."""
        if self.equal == len(self.others):
            return []
        return [
            Misfit(
                "",
                f"{self.equal:,} of {len(self.examples):,} examples are also in the task's validation set, and only "
                f"{len(self.others):,} of them are held out.",
                "Somebody may have offered rows that many have. If they are your own, so that your updates should not "
                "be measured on them, set most_held_out = 1.",
                is_serious=False,
            )
        ]
