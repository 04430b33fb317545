"""Judging a round's updates: by those that are accepted, until nothing changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.detectors.base import ACCEPTED, Judged, detect, worst
from fedledger.aggregator.round.methods import RoundMethods
from fedledger.protocol.records.reputation import PPM
from fedledger.protocol.records.spec import JudgementSpec

PASSES = 8
"""How often updates are judged by those that were accepted before, at most."""

Contexts = Callable[[NDArray[np.bool_]], dict[str, StageContext]]
"""Says what each method may know, by its name, given which updates judge the others, bool[n]."""


def judge(
    methods: RoundMethods, rule: JudgementSpec | None, count: int, contexts: Contexts
) -> tuple[Sequence[Judged], dict[str, StageContext]]:
    """Return how the updates of a round are judged, and what each method may know of it afterwards, by its name.

    Parameters
    ----------
    methods
        The task's.
    rule
        Without one, all updates judge each other once. With one, those that are accepted judge all, until these are
        the same as before; who is accepted and refused in turns is refused; and only some are refused, the worst.
    count
        Number of updates n.
    contexts
        What each method may know.
    """
    accepted = np.ones(count, np.bool_)
    known = contexts(accepted)
    judged = _detected(methods, known, count)
    if rule is None:
        return judged, known
    most = count * rule.most_refused // PPM
    passes: list[list[Judged]] = [[ACCEPTED] * count]
    for _ in range(PASSES):
        judged = worst(judged, most)
        before = [_refused(one) for one in passes]
        if _refused(judged) == before[-1]:
            return judged, known
        if _refused(judged) in before:
            # Some are accepted if and only if they are refused: whom any of these passes refuses stays so.
            judged = worst(_any_refusal([*passes[before.index(_refused(judged)) :], judged]), most)
            break
        passes.append(judged)
        known = contexts(~np.array(_refused(judged), np.bool_))
        judged = _detected(methods, known, count)
    else:
        judged = passes[-1]
    return judged, contexts(~np.array(_refused(judged), np.bool_))


def _refused(judged: Sequence[Judged]) -> list[bool]:
    return [one.verdict.refused for one in judged]


def _any_refusal(passes: Sequence[Sequence[Judged]]) -> list[Judged]:
    """Return the last refusal of each update, if it was refused in one of some passes."""
    return [
        next((one for one in reversed(each) if one.verdict.refused), ACCEPTED) for each in zip(*passes, strict=True)
    ]


def _detected(methods: RoundMethods, known: dict[str, StageContext], count: int) -> list[Judged]:
    detectors = methods.detectors
    return detect([staged.method for staged in detectors], [known[staged.name] for staged in detectors], count)
