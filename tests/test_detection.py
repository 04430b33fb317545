"""Detectors on hand-checkable rounds: who stands out, and who does not although a plain threshold would say so."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.aggregator.context.round_features import RoundFeatures, median
from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.detectors.base import DETECTORS, Detector, Finding, detect, worst
from fedledger.aggregator.detectors.cosine import Cosine, CosineToAccepted
from fedledger.aggregator.detectors.held_out import HeldOut, HeldOutOfAccepted
from fedledger.aggregator.detectors.near_duplicate import NearDuplicate, RepeatedStep
from fedledger.aggregator.detectors.norm import Norm, NormOfAccepted
from fedledger.aggregator.detectors.reference import harm_limits
from fedledger.protocol.arithmetic.exact import gram
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.records.measurement import Measurement
from fedledger.protocol.records.verdicts import Verdict
from support.examples import examples

BASE = Measurement(1_000_000, 50)
ORTHOGONAL = np.eye(8, dtype=np.int64)[:6] * 1000


def seen(
    harms: list[int],
    rows: np.ndarray = ORTHOGONAL,
    correct: list[int] | None = None,
    reputations: list[int] | None = None,
    previous: np.ndarray | None = None,
    centre: np.ndarray | None = None,
) -> RoundFeatures:
    n, d = len(harms), rows.shape[1]
    extra = [np.zeros(d, np.int64) if row is None else row for row in (centre, previous)]
    measured = [Measurement(BASE.loss + harm, c) for harm, c in zip(harms, correct or [BASE.score] * n, strict=True)]
    return RoundFeatures(BASE, measured, reputations or [500_000] * n, gram(np.vstack([*rows[:n], *extra])))


def a_round(*args: object, **kwargs: object) -> StageContext:
    return StageContext(seen(*args, **kwargs))


def flags(detector: Detector, context: StageContext) -> list[bool]:
    return [bool(flag) for flag in detector(context)]


def judged(methods: list[str], features: RoundFeatures) -> list[Verdict]:
    detectors = [build(DETECTORS, method, {}) for method in methods]
    return [one.verdict for one in detect(detectors, [StageContext(features)] * len(methods), features.count)]


HARMS = [-30, -20, -10, 0, 10, 500]  # median −5, deviations 5 5 15 15 25 505: their median is 15


class TestHarm:
    def test_the_limit_is_median_and_spread(self) -> None:
        assert seen(HARMS).harmless(5, 4.0) == -5 + 4 * 15
        assert seen(HARMS).harmless(5, 0.1) == 0

    @pytest.mark.parametrize(("reputation", "trust"), [(500_000, 1.0), (0, 0.0), (900_000, 2.5), (200_000, 0.25)])
    def test_reputation_scales_it_up_to_a_limit(self, reputation: int, trust: float) -> None:
        given = seen(HARMS, reputations=[reputation] * 6)
        assert given.trust(0) == trust
        assert given.harmless(0, 4.0) == max(0.0, -5 + 4 * trust * 15)

    @pytest.mark.parametrize(("harm", "flagged"), [(55, False), (56, True), (10**9, True)])
    def test_only_what_stands_out_is_flagged(self, harm: int, flagged: bool) -> None:
        assert HeldOut(4.0)(a_round([*HARMS[:5], harm])) == [False] * 5 + [flagged]

    def test_an_update_that_gains_accuracy_is_not(self) -> None:
        assert not any(HeldOut()(a_round(HARMS, correct=[50] * 5 + [51])))

    def test_an_update_that_lowers_the_loss_is_not_though_others_lower_it_more(self) -> None:
        assert not any(HeldOut()(a_round([-1000, -1001, -999, -1000, -1000, -1])))

    def test_scale_changes_nothing(self) -> None:
        for factor in (1, 1000):
            assert HeldOut()(a_round([factor * harm for harm in HARMS])) == [False] * 5 + [True]

    def test_a_lone_update_is_not_compared_with_itself(self) -> None:
        assert not any(HeldOut()(a_round([500])))


class TestOpposed:
    centre = np.ones(8, np.int64) * 1000

    def test_away_and_harmful_is_flagged(self) -> None:
        rows = ORTHOGONAL.copy()
        rows[5] = -rows[5]
        assert Cosine()(a_round(HARMS, rows, centre=self.centre)) == [False] * 5 + [True]

    def test_away_alone_or_harmful_alone_is_not(self) -> None:
        rows = ORTHOGONAL.copy()
        rows[0] = -rows[0]
        assert not any(Cosine()(a_round(HARMS, rows, centre=self.centre)))


class TestNearDuplicate:
    noise = np.array([0, 0, 0, 0, 0, 0, 10, 0])

    def test_of_copies_the_first_stands(self) -> None:
        rows = ORTHOGONAL.copy()
        rows[2] = rows[0] + self.noise
        rows[4] = rows[0] - self.noise
        assert NearDuplicate()(a_round([0] * 6, rows)) == [False, False, True, False, True, False]

    def test_a_repeated_step_is_flagged(self) -> None:
        assert NearDuplicate()(a_round([0] * 6, previous=ORTHOGONAL[3] + self.noise)) == [i == 3 for i in range(6)]

    def test_updates_that_are_all_alike_are_not_copies(self) -> None:
        rng = np.random.default_rng(0)
        rows = 100_000 + rng.integers(-500, 500, (6, 64))
        given = seen([0] * 6, rows, previous=100_000 + rng.integers(-500, 500, 64))
        assert given.cosine(0, 1) > 0.9999 and given.cosine(0, given.previous) > 0.9999
        assert not any(NearDuplicate()(StageContext(given)))

    def test_two_identical_updates_are_copies_even_if_nobody_else_is_there(self) -> None:
        assert NearDuplicate()(a_round([0, 0], np.stack([ORTHOGONAL[0]] * 2))) == [False, True]

    def test_no_work_is_no_copy(self) -> None:
        assert not any(NearDuplicate()(a_round([0, 0], np.zeros((2, 8), np.int64))))


@st.composite
def rounds(draw: st.DrawFn) -> RoundFeatures:
    """Rounds with copies, near copies, opposites and zeros, of values small and large."""
    n, d = draw(st.integers(1, 9)), draw(st.sampled_from([1, 2, 5, 40]))
    bits = draw(st.sampled_from([0, 2, 20, 27, 33]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = rng.integers(-(1 << bits), 1 << bits, (n + 2, d), np.int64, endpoint=True)
    for i, j, what in draw(
        st.lists(st.tuples(st.integers(0, n + 1), st.integers(0, n + 1), st.sampled_from("=~-0*")), max_size=6)
    ):
        copies = {"=": rows[j], "~": rows[j], "-": -rows[j], "0": 0 * rows[j], "*": 2 * rows[j]}
        rows[i] = copies[what]
        if what == "~":
            rows[i, draw(st.integers(0, d - 1))] += draw(st.sampled_from([-1, 1]))
    return seen([0] * n, rows, centre=rows[n], previous=rows[n + 1])


class TestRepeatedStep:
    step = np.ones(8, np.int64) * 1000
    noise = TestNearDuplicate.noise

    def test_a_repeated_step_is_flagged_and_copies_of_a_round_are_not(self) -> None:
        rows = ORTHOGONAL.copy()
        rows[4] = rows[0] - self.noise
        rows[5] = rows[0]
        given = a_round([0] * 6, rows, previous=rows[3] + self.noise, centre=self.step)
        assert flags(RepeatedStep(), given) == [i == 3 for i in range(6)]

    def test_nobody_repeats_the_step_where_training_goes_straight_on(self) -> None:
        rng = np.random.default_rng(0)
        rows = 100_000 + rng.integers(-500, 500, (6, 64))
        centre = np.median(rows, axis=0).astype(np.int64)
        assert not any(flags(RepeatedStep(), a_round([0] * 6, rows, previous=centre + 400, centre=centre)))

    def test_who_sends_the_step_itself_repeats_it_however_close_the_others_are(self) -> None:
        rows = np.stack([self.step] * 3)
        rows[1:] += self.noise
        given = a_round([0] * 3, rows, previous=self.step, centre=self.step)
        assert flags(RepeatedStep(), given) == [True, False, False]
        assert not any(flags(RepeatedStep(), a_round([0, 0], np.zeros((2, 8), np.int64))))

    @given(st.integers(0, 2**32 - 1), st.floats(0.01, 30), st.integers(1, 4), st.sampled_from([-1, 1, 50, -50]))
    @examples(200)
    def test_attackers_who_widen_the_spread_get_no_honest_update_refused(
        self, seed: int, spread: float, hostile: int, reach: int
    ) -> None:
        """Honest updates and the last step share a direction; up to four of ten send the coordinates' extremes."""
        rng = np.random.default_rng(seed)
        direction = rng.normal(size=64)
        own = spread * rng.normal(size=(11, 64))
        honest = 1e6 * (direction + own[hostile:10])
        step = 1e6 * (direction + own[10] / sqrt(10))
        far = np.where(step > 0, honest.min(axis=0), honest.max(axis=0)) * abs(reach)
        rows = np.vstack([honest, np.tile(far if reach > 0 else -far, (hostile, 1))]).astype(np.int64)
        centre = np.median(rows, axis=0).astype(np.int64)
        given = a_round([0] * 10, rows, previous=step.astype(np.int64), centre=centre)
        assert not any(flags(RepeatedStep(), given)[: 10 - hostile])

    @given(rounds(), st.permutations(range(9)))
    @examples(100)
    def test_the_order_of_updates_does_not_matter(self, given: RoundFeatures, order: list[int]) -> None:
        order = [i for i in order if i < given.count]
        rest = [given.centre, given.previous]
        shuffled = replace(given, gram=given.gram[np.ix_([*order, *rest], [*order, *rest])])
        found = flags(RepeatedStep(), StageContext(given))
        assert flags(RepeatedStep(), StageContext(shuffled)) == [found[i] for i in order]


class TestAccepted:
    """The second versions: what is refused sets no threshold, and trust only tightens one."""

    def test_norms_are_compared_with_those_that_stand(self) -> None:
        rows = ORTHOGONAL.copy()
        rows[2:] *= 50
        given = a_round([0] * 6, rows)
        assert flags(NormOfAccepted(), given) == Norm()(given) == [True, True, False, False, False, False]
        stand = np.array([True, True, False, False, False, False])
        assert flags(NormOfAccepted(), replace(given, accepted=stand)) == [False, False, True, True, True, True]
        assert flags(NormOfAccepted(), replace(given, accepted=~(stand | True))) == Norm()(given)

    def test_harms_are_compared_with_those_that_stand(self) -> None:
        """Of −30 −20 −10 0 10 the median is −10 and the deviation 10."""
        given = a_round([*HARMS[:5], 40])
        assert harm_limits(given, 4.0) == [-5 + 4 * 15.0] * 6
        refused = replace(given, accepted=np.arange(6) < 5)
        assert harm_limits(refused, 4.0) == [-10 + 4 * 10.0] * 6
        assert flags(HeldOutOfAccepted(), refused) == [False] * 5 + [True] and not any(
            flags(HeldOutOfAccepted(), given)
        )

    def test_who_points_away_is_compared_with_those_that_stand(self) -> None:
        rows = ORTHOGONAL.copy()
        rows[5] = -rows[5]
        given = a_round([*HARMS[:5], 20], rows, centre=TestOpposed.centre)
        refused = replace(given, accepted=np.arange(6) < 5)
        assert flags(CosineToAccepted(), refused) == [False] * 5 + [True] and not any(flags(CosineToAccepted(), given))

    @pytest.mark.parametrize(("reputation", "trust"), [(0, 0.0), (200_000, 0.25), (500_000, 1.0), (1_000_000, 1.0)])
    def test_a_good_name_loosens_nothing(self, reputation: int, trust: float) -> None:
        given = a_round(HARMS, reputations=[reputation] * 6)
        assert harm_limits(given, 4.0)[0] == max(0.0, -5 + 4 * trust * 15)

    @given(rounds(), st.data())
    @examples(100)
    def test_more_reputation_never_refuses_and_beyond_a_newcomers_never_excuses(
        self, given: RoundFeatures, data: st.DataObject
    ) -> None:
        harms = data.draw(st.lists(st.integers(-50, 50), min_size=given.count, max_size=given.count))
        measured = [Measurement(BASE.loss + harm, BASE.score) for harm in harms]

        def flagged_at(reputation: int) -> list[list[bool]]:
            known = replace(given, measured=measured, reputations=[reputation] * given.count)
            return [flags(detector, StageContext(known)) for detector in (HeldOutOfAccepted(), CosineToAccepted())]

        low, high = sorted(data.draw(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6))))
        for before, after in zip(flagged_at(low), flagged_at(high), strict=True):
            assert all(was or not flagged for was, flagged in zip(before, after, strict=True))
        assert flagged_at(500_000) == flagged_at(10**6)

    def test_a_finding_tells_what_was_found_and_the_worst_come_first(self) -> None:
        rows = ORTHOGONAL.copy()
        rows[0], rows[1], rows[2] = rows[0] * 0, rows[1] * 20, rows[2] * 11
        given = a_round([0] * 6, rows)
        nothing, far, less = NormOfAccepted()(given)[:3]
        assert nothing == Finding("norm", 0, 50.0, float("inf"))
        assert far == Finding("norm", 20_000, 10_000, 1.0) and less == Finding("norm", 11_000, 10_000, 0.1)
        judged_ = detect([NormOfAccepted()], [given], 6)
        # The one that is nothing is refused in any case.
        for most, refused in ((0, [0]), (1, [0, 1]), (2, [0, 1, 2])):
            assert [i for i, one in enumerate(worst(judged_, most)) if one.verdict.refused] == refused
        harms = HeldOutOfAccepted()(a_round(HARMS))
        assert harms == [None] * 5 + [Finding("harm", 500, 55.0, 445 / 55)]
        repeated = RepeatedStep()(a_round([0] * 6, previous=ORTHOGONAL[3]))
        assert repeated == [None] * 3 + [Finding("distance to the last step", 0.0, 0.1, float("inf"))] + [None] * 2


class TestNorm:
    def test_too_little_and_too_much(self) -> None:
        rows = ORTHOGONAL.copy()
        rows[0], rows[1], rows[2] = rows[0] * 0, rows[1] // 25, rows[2] * 11
        assert Norm()(a_round([0] * 6, rows)) == [True, True, True, False, False, False]


def test_the_first_detector_that_flags_gives_the_verdict() -> None:
    rows = ORTHOGONAL.copy()
    rows[5] *= 100
    methods = ["norm@1", "held_out@1"]
    given = seen(HARMS, rows)
    assert judged(methods, given) == [Verdict.ACCEPTED] * 5 + [Verdict.NORM]
    assert judged(methods[::-1], given) == [Verdict.ACCEPTED] * 5 + [Verdict.HELD_OUT]
    assert judged([], given) == [Verdict.ACCEPTED] * 6


@pytest.mark.parametrize(
    "methods", [f"{name}@{version}" for name in ("held_out", "cosine", "norm", "near_duplicate") for version in (1, 2)]
)
def test_a_round_without_updates_is_no_problem(methods: str) -> None:
    assert judged([methods], replace(seen([0]), measured=[], reputations=[])) == []


@pytest.mark.parametrize(
    ("make", "params"),
    [
        (HeldOut, {"factor": 0}),
        (Cosine, {"threshold": 2}),
        (Cosine, {"factor": -1}),
        (Norm, {"most": 0.5}),
        (NearDuplicate, {"closeness": 1}),
        (RepeatedStep, {"closeness": 1}),
        (RepeatedStep, {"most": 1.5}),
    ],
)
def test_wrong_parameters_are_refused(make: type, params: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        make(**params)


class Plainly:
    """The detectors' arithmetic in plain loops over Python's numbers: the oracle."""

    def __init__(self, given: RoundFeatures) -> None:
        self.gram, self.n = given.gram.tolist(), given.count

    def cosine(self, i: int, j: int) -> float:
        norms = sqrt(self.gram[i][i]) * sqrt(self.gram[j][j])
        return self.gram[i][j] / norms if norms > 0 else 0.0

    def near_duplicates(self, closeness: float) -> list[bool]:
        n, gram, previous = self.n, self.gram, self.n + 1
        apart = [[1 - self.cosine(i, j) for j in range(n)] for i in range(n)]
        back = [1 - self.cosine(i, previous) for i in range(n)]
        pair = closeness * median([apart[i][j] for i in range(n) for j in range(i)] or [0.0])
        repeat = closeness * median(back)
        flags: list[bool] = []
        for i in range(n):
            standing = [j for j in range(i) if not flags[j]]
            equal = any(gram[i][i] + gram[j][j] == 2 * gram[i][j] for j in [*standing, previous])
            copied = any(apart[i][j] < pair for j in standing)
            flags.append(copied or back[i] < repeat or (gram[i][i] > 0 and equal))
        return flags


@given(rounds(), st.sampled_from([0.0, 0.25, 0.9]))
@examples(300)
def test_vectors_tell_the_same_as_plain_loops(given: RoundFeatures, closeness: float) -> None:
    plain = Plainly(given)
    size = range(given.count + 2)
    assert [[given.cosine(i, j) for j in size] for i in size] == [[plain.cosine(i, j) for j in size] for i in size]
    assert given.norms.tolist() == [sqrt(given.gram[i][i]) for i in size]
    assert NearDuplicate(closeness)(StageContext(given)) == plain.near_duplicates(closeness)
    kept = [*range(given.count), given.previous]
    assert given.without_centre.tolist() == [[given.gram[i][j] for j in kept] for i in kept]


@pytest.mark.parametrize("returned", [0, 5, 7])
def test_a_detector_that_does_not_look_at_every_update_is_named(returned: int) -> None:
    class Careless:
        verdict = Verdict.NORM

        def __call__(self, context: StageContext) -> list[bool]:
            return [True] * returned

    with pytest.raises(ConfigError, match=f"detector Careless returned {returned} flags for 6 updates"):
        detect([NormOfAccepted(), Careless()], [a_round([0] * 6)] * 2, 6)
