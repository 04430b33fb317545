"""When a run is of no use: nothing counts in it, or its model has no finite loss."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

from fedledger.platform.engine.federation import Round
from fedledger.protocol.errors import RoundError
from fedledger.protocol.records.measurement import LOSS_CAP
from fedledger.protocol.records.verdicts import Verdict

MAX_ROUNDS = 3
"""Rounds in a row that are of no use, after which a run ends with an error."""
_DIVERGES = "Lower the solver's learning_rate, or scale the data."
_REMEDIES: dict[Verdict, str] = {
    Verdict.OUT_OF_RANGE: (
        "Lower the solver's learning_rate, scale the inputs, or raise training.fixed_point.bound for numbers that are "
        "meant to be so large."
    ),
    Verdict.NOT_FINITE: f"Training diverges. {_DIVERGES}",
    Verdict.OVERSIZE: (
        "Raise training.limits.max_update_bytes, or send less: a codec such as top_k@1 in training.payload."
    ),
    **dict.fromkeys(
        (verdict for verdict in Verdict if verdict.statistical and verdict is not Verdict.UNKNOWN),
        "Loosen that method in training.detection, or leave it out.",
    ),
}


class Standstill:
    """Ends a run with an error once several rounds in a row are of no use, or none of all was of any.

    A round below quorum is not looked at. One of whose updates none counts is of no use, as is one that leaves a model
    whose loss is not finite, or beyond what a measurement can hold, though that of the initial model is not. Updates
    that are valid, but refused by a detector, end a run only at its end: the next rounds may ask others.

    Parameters
    ----------
    initial_loss
        Returns the loss of the initial model on the test set.
    counted
        Whether an update has counted in rounds that are not looked at.
    """

    def __init__(self, initial_loss: Callable[[], float], counted: bool = False) -> None:
        self._initial_loss, self._counted = initial_loss, counted
        self._refused: list[Round] = []
        self._lost: list[Round] = []
        self._negative: list[Round] = []

    def look(self, closed: Round, loss: float) -> None:
        """Look at a round, and at its model's loss on the test set.

        Raises
        ------
        RoundError
            If it is the last of several in a row that were of no use; the message says why.
        """
        if not closed.counts:
            return
        refused = any(verdict.refused for verdict in closed.verdicts.values())
        if closed.accepted or not refused:
            self._counted |= closed.accepted > 0
            self._refused = []
        else:
            self._refused.append(closed)
        self._lost = [*self._lost, closed] if _is_lost(loss) else []
        recent = self._refused[-MAX_ROUNDS:]
        if len(recent) == MAX_ROUNDS and any(map(_is_invalid, recent[-1].verdicts.values())):
            raise _nothing_counts(recent)
        if len(self._lost) >= MAX_ROUNDS:
            self._require_model()
        self._negative = [*self._negative, closed] if loss < 0 else []
        if len(self._negative) >= MAX_ROUNDS:
            raise RoundError(
                f"From round {self._negative[0].index} on, the model's loss on the test set is below 0, where a "
                "measurement holds 0 and shows no difference between updates.",
                "Set lowest, of OwnObjective, to a number that the loss stays above, such as -10.",
            )

    def end(self) -> None:
        """Look at the run as a whole, once it has ended.

        Raises
        ------
        RoundError
            If no update counted in it, or its model is of no use.
        """
        if self._refused and not self._counted:
            raise _nothing_counts(self._refused)
        if self._lost:
            self._require_model()

    def _require_model(self) -> None:
        if not _is_lost(self._initial_loss()):
            raise RoundError(
                f"From round {self._lost[0].index} on, the model's loss on the test set is not finite, or more than "
                f"{LOSS_CAP // 10**6:,}.",
                f"Training diverges. {_DIVERGES}",
            )


def _is_lost(loss: float) -> bool:
    return not math.isfinite(loss) or loss * 1e6 >= LOSS_CAP


def _is_invalid(verdict: Verdict) -> bool:
    return verdict.refused and verdict < Verdict.HELD_OUT


def _nothing_counts(rounds: list[Round]) -> RoundError:
    """Return the error of rounds in which all updates were refused: it names the commonest verdicts."""
    faults = [
        (verdict, closed.details.get(number, ""))
        for closed in rounds
        for number, verdict in closed.verdicts.items()
        if verdict.refused
    ]
    verdicts = Counter(verdict for verdict, _ in faults).most_common(2)
    told = []
    for verdict, count in verdicts:
        details = Counter(detail for fault, detail in faults if fault is verdict and detail).most_common(1)
        told.append(f"{count} {verdict.label}" + (f" ({details[0][0]})" if details else ""))
    first, last = rounds[0].index, rounds[-1].index
    where = f"In round {first}" if first == last else f"In rounds {first} to {last}"
    return RoundError(
        f"{where} no update counted: of {len(faults)} that were refused, {' and '.join(told)}.",
        _REMEDIES.get(verdicts[0][0], "Find out what sends such updates: the solver, a transform or an attack."),
    )
