"""What weights and gates promise: who moves the model and earns, and how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.aggregator.contributions.base import CONTRIBUTIONS
from fedledger.aggregator.round.pipeline import Entry, RoundContext, RoundResult, evaluate_round
from fedledger.aggregator.round.server_step import MAX_WEIGHT, weigh
from fedledger.aggregator.round.state import State
from fedledger.aggregator.round.validation import ValidUpdate
from fedledger.aggregator.rules.base import RULES
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.records.measurement import Measurement
from fedledger.protocol.records.ref import Ref
from fedledger.protocol.records.reputation import PPM, Evidence
from fedledger.protocol.records.spec import ReputationSpec, TaskSpec
from fedledger.protocol.records.verdicts import Verdict
from support.examples import examples
from support.rules import CLAIMING, DEFAULTS

OPEN = ReputationSpec(gate=0, relative_gate=0)
MOST_EXAMPLES = 2**20 - 1
UNITS = 1_000
NEWCOMER = Evidence().reputation

reputations = st.integers(0, PPM) | st.sampled_from([0, 1, 399_999, 400_000, 400_001, NEWCOMER, PPM])
counts = st.integers(0, MOST_EXAMPLES) | st.sampled_from([0, 1, MOST_EXAMPLES])
updates = st.lists(st.tuples(reputations, counts), min_size=1, max_size=9)
gates = st.builds(ReputationSpec, gate=st.integers(0, PPM), relative_gate=st.integers(0, PPM)) | st.just(
    ReputationSpec()
)


def weights_of(known: Sequence[tuple[int, int]], rule: ReputationSpec, absent: Sequence[int] = ()) -> list[int]:
    """Weights of updates (reputation, examples) in a round that asked their senders and some who sent nothing."""
    held = [reputation for reputation, _ in known]
    return weigh(held, [count for _, count in known], [*held, *absent], rule)


class TestWeights:
    @given(updates)
    def test_are_reputation_times_examples_in_proportion_to_a_largest_of_2_to_the_20(
        self, known: list[tuple[int, int]]
    ) -> None:
        products = [reputation * count for reputation, count in known]
        weights = weights_of(known, OPEN)
        if not any(products):
            assert not any(weights)
            return
        assert max(weights) == MAX_WEIGHT == 2**20
        for weight, product in zip(weights, products, strict=True):
            exact = Fraction(product * MAX_WEIGHT, max(products))
            assert abs(weight - exact) < 1
            assert weight == max(1, exact.numerator // exact.denominator) if product else weight == 0

    @given(updates, gates, st.lists(reputations, max_size=5))
    def test_are_zero_exactly_below_a_gate_or_without_reputation_or_examples(
        self, known: list[tuple[int, int]], rule: ReputationSpec, absent: list[int]
    ) -> None:
        everybody = sorted([*(reputation for reputation, _ in known), *absent])
        upper_median = everybody[len(everybody) // 2]
        for weight, (reputation, count) in zip(weights_of(known, rule, absent), known, strict=True):
            relative = Fraction(upper_median * rule.relative_gate, PPM)
            passes = reputation >= rule.gate and reputation >= relative.numerator // relative.denominator
            assert (weight > 0) == (passes and reputation * count > 0)

    @given(updates, gates, st.data())
    def test_never_fall_when_their_own_reputation_or_examples_grow(
        self, known: list[tuple[int, int]], rule: ReputationSpec, data: st.DataObject
    ) -> None:
        i = data.draw(st.integers(0, len(known) - 1))
        reputation, count = known[i]
        grown = (data.draw(st.integers(reputation, PPM)), data.draw(st.integers(count, MOST_EXAMPLES)))
        assert weights_of([*known[:i], grown, *known[i + 1 :]], rule)[i] >= weights_of(known, rule)[i]

    @given(updates, gates)
    def test_are_in_the_order_of_reputation_and_of_examples(
        self, known: list[tuple[int, int]], rule: ReputationSpec
    ) -> None:
        weighed = list(zip(known, weights_of(known, rule), strict=True))
        for (reputation, count), weight in weighed:
            for (other, fewer), less in weighed:
                assert weight >= less or reputation < other or count < fewer

    @given(st.lists(st.tuples(reputations, st.integers(0, 1000)), min_size=1, max_size=9), gates, st.integers(1, 1000))
    def test_stay_when_everybody_has_so_many_times_the_examples(
        self, known: list[tuple[int, int]], rule: ReputationSpec, times: int
    ) -> None:
        scaled = [(reputation, times * count) for reputation, count in known]
        assert weights_of(scaled, rule) == weights_of(known, rule)

    @given(updates, gates, st.randoms(use_true_random=False))
    def test_do_not_depend_on_the_order_of_updates(
        self, known: list[tuple[int, int]], rule: ReputationSpec, random: object
    ) -> None:
        order = list(range(len(known)))
        random.shuffle(order)  # type: ignore[attr-defined]
        weights = weights_of(known, rule)
        assert weights_of([known[i] for i in order], rule) == [weights[i] for i in order]

    def test_by_hand(self) -> None:
        assert weights_of([(PPM, 10), (PPM // 2, 10), (PPM, 5), (0, 10), (PPM, 0)], OPEN) == [2**20, 2**19, 2**19, 0, 0]
        # The smallest update beside the largest one still counts.
        assert weights_of([(PPM, MOST_EXAMPLES), (1, 1)], OPEN) == [2**20, 1]
        assert weigh([], [], [], ReputationSpec()) == []


class TestGates:
    def test_a_reputation_of_exactly_the_gate_passes(self) -> None:
        rule = ReputationSpec(gate=400_000, relative_gate=0)
        assert weights_of([(400_000, 1), (399_999, 1)], rule) == [2**20, 0]

    def test_the_relative_gate_is_about_the_upper_median_of_all_whom_the_round_asked(self) -> None:
        rule = ReputationSpec(gate=0, relative_gate=800_000)
        sent = [(500_000, 1), (400_000, 1), (399_999, 1)]
        for absent, passes in (
            ([], [True, True, True]),  # a median of 400,000 asks for 320,000
            ([500_000, 500_000], [True, True, False]),  # 500,000 for 400,000
            ([900_000] * 4, [False, False, False]),  # 900,000 for 720,000
        ):
            assert [weight > 0 for weight in weights_of(sent, rule, absent)] == passes
        # Of an even number, the upper one of the middle two.
        assert [weight > 0 for weight in weights_of([(500_000, 1), (900_000, 1)], rule)] == [False, True]

    @given(st.lists(reputations, min_size=1, max_size=9), gates)
    def test_whoever_has_the_median_reputation_or_more_passes_the_relative_gate(
        self, held: list[int], rule: ReputationSpec
    ) -> None:
        relative = ReputationSpec(gate=0, relative_gate=rule.relative_gate)
        median = sorted(held)[len(held) // 2]
        for reputation, weight in zip(held, weights_of([(r, 1) for r in held], relative), strict=True):
            assert weight > 0 or reputation < median or reputation == 0

    def test_newcomers_pass_the_default_gates_and_who_is_often_refused_does_not(self) -> None:
        refused = accepted = Evidence()
        for _ in range(3):
            refused, accepted = refused.after(Verdict.NORM), accepted.after(Verdict.ACCEPTED)
        known = [(NEWCOMER, 1), (refused.reputation, 1)]
        assert [weight > 0 for weight in weights_of(known, ReputationSpec())] == [True, False]
        # Beside enough participants whose updates were accepted, a newcomer does not pass.
        assert accepted.reputation * 8 // 10 > NEWCOMER
        assert weights_of([(NEWCOMER, 1), (accepted.reputation, 1)], ReputationSpec())[0] == 0


# A round as a whole.

D = 4
SPEC = TaskSpec(
    name="weighed",
    rounds=1,
    initial_model=Ref.of(ContentRef.of(b"model")),
    validation=Ref.of(ContentRef.of(b"validation")),
    detection=[Method(method="norm@1", params={"least": 0.0, "most": 10.0})],
    contribution=Method(method="weight@1"),
)
UNIT = SPEC.fixed.unit
TARGET = np.linspace(-1, 1, D, dtype=np.float32)
BASE = np.zeros(D, np.float32)


def loss(what: str, model: np.ndarray) -> Measurement:
    """The squared distance to a target, as the held-out loss of a model."""
    return Measurement(round(1e6 * float(((model - TARGET) ** 2).sum())), 0)


def spec_with(**changes: object) -> TaskSpec:
    return SPEC.model_copy(update=changes)


def entry(number: int, reputation: int, examples: int, delta: Sequence[float] | np.ndarray) -> Entry:
    quantised = np.rint(np.asarray(delta, np.float64) * UNIT).astype(np.int64)
    return Entry(f"0x{number:040x}", reputation, ValidUpdate(quantised, examples))


def evaluated(spec: TaskSpec, entries: Sequence[Entry], absent: Sequence[int] = (), **changes: object) -> RoundResult:
    asked = [*(e.reputation for e in entries), *absent]
    context = RoundContext(spec, BASE, State(np.zeros(D, np.int64)), asked, len(asked), units=UNITS)
    trusted = np.full(D, UNIT, np.int64)
    return evaluate_round(replace(context, trusted=trusted, **changes), entries, loss)


@st.composite
def rounds(draw: st.DrawFn, least: int = 1) -> list[Entry]:
    """Updates of like lengths, but for some that the norm detector refuses."""
    size = draw(st.integers(least, 7))
    entries = []
    for number in range(size):
        delta = draw(st.lists(st.floats(0.5, 1.0), min_size=D, max_size=D))
        far = draw(st.sampled_from([1.0, 1.0, 1.0, 40.0]))
        entries.append(
            entry(number, draw(reputations), draw(st.integers(0, 1000)), far * np.array(delta) * [1, -1, 1, -1])
        )
    return entries


class TestRounds:
    @examples(60)
    @given(rounds(), gates, st.sampled_from(sorted(CONTRIBUTIONS)), st.lists(reputations, max_size=3))
    def test_accepted_updates_weigh_and_those_alone_earn(
        self, entries: list[Entry], rule: ReputationSpec, contribution: str, absent: list[int]
    ) -> None:
        evidence = Method(method="work@1") if contribution == "corroborated@1" else None
        spec = spec_with(reputation=rule, contribution=Method(method=contribution), evidence=evidence)
        result = evaluated(spec, entries, absent)
        counting = [
            e.update.examples if verdict is Verdict.ACCEPTED else 0
            for e, verdict in zip(entries, result.verdicts, strict=True)
        ]
        held = [e.reputation for e in entries]
        alone = weigh(held, counting, [*held, *absent], rule)
        if evidence is None:
            assert list(result.weights) == alone
        # Where evidence tells who are copies, these share a weight.
        for weight, whole in zip(result.weights, alone, strict=True):
            assert weight in {max(1, whole // n) if whole else 0 for n in range(1, len(entries) + 1)}
        for verdict, weight, score, share in zip(
            result.verdicts, result.weights, result.scores, result.shares, strict=True
        ):
            assert weight == 0 or verdict is Verdict.ACCEPTED
            assert score >= 0 and share >= 0
            assert weight or not score
            assert score or not share
            # Who points elsewhere than the others, shows no work or adds nothing may earn nothing at any weight.
            assert score or not weight or contribution not in ("equal@1", "weight@1")
        assert sum(result.shares) == (UNITS if any(result.scores) else 0)

    @examples(60)
    @given(rounds(), gates)
    def test_a_mean_is_in_proportion_to_reputation_times_examples(
        self, entries: list[Entry], rule: ReputationSpec
    ) -> None:
        seen = {}
        spec = spec_with(reputation=rule, aggregation=Method(method="mean@1"))
        held = [e.reputation for e in entries]
        context = RoundContext(spec, BASE, State(np.zeros(D, np.int64)), held, len(held), units=UNITS)
        result = evaluate_round(context, entries, loss, lambda what, values: seen.update({what: values.copy()}))
        upper_median = sorted(held)[len(held) // 2]
        gate = max(rule.gate, upper_median * rule.relative_gate // PPM)
        products = [
            e.reputation * e.update.examples if verdict is Verdict.ACCEPTED and e.reputation >= gate else 0
            for e, verdict in zip(entries, result.verdicts, strict=True)
        ]
        total = sum(products)
        for coordinate in range(D):
            values = [int(e.update.delta[coordinate]) for e in entries]
            mean = Fraction(sum(p * v for p, v in zip(products, values, strict=True)), total) if total else Fraction(0)
            # Each weight is cut to 20 bits, or raised to 1.
            slack = 1 + 2 * len(entries) * max(map(abs, values)) / MAX_WEIGHT
            assert abs(int(seen["aggregate"][coordinate]) - mean) <= slack

    @examples(40)
    @given(rounds(2), gates, st.sampled_from(["mean@1", "median@1", "weighted_median@1", "trimmed_mean@1"]), st.data())
    def test_whoever_is_below_a_gate_cannot_move_the_model_or_the_pay(
        self, entries: list[Entry], rule: ReputationSpec, aggregation: str, data: st.DataObject
    ) -> None:
        method = Method(method=aggregation, params={"f": 0} if aggregation == "trimmed_mean@1" else {})
        spec = spec_with(reputation=rule, aggregation=method, detection=[])
        result = evaluated(spec, entries)
        out = [i for i, weight in enumerate(result.weights) if not weight]
        if not out:
            return
        i = data.draw(st.sampled_from(out))
        moved = entry(i, entries[i].reputation, entries[i].update.examples, data.draw(_vectors))
        other = evaluated(spec, [*entries[:i], moved, *entries[i + 1 :]])
        assert (other.model == result.model).all()
        assert (other.weights, other.shares) == (result.weights, result.shares)

    @pytest.mark.parametrize("rule", sorted(set(RULES) - CLAIMING))
    def test_the_gate_holds_whatever_the_rule(self, rule: str) -> None:
        spec = spec_with(aggregation=Method(method=rule, params=DEFAULTS[rule]), detection=[])
        good = [entry(i, NEWCOMER, 10 + i, [0.5 + i / 100, -0.5, 0.25, i / 50]) for i in range(7)]
        near, far = (entry(7, 300_000, 1000, delta) for delta in ([0.4, -0.4, 0.2, 0.1], [-9.0, 9.0, 9.0, -9.0]))
        with_near, with_far = evaluated(spec, [*good, near]), evaluated(spec, [*good, far])
        assert with_near.weights[7] == with_far.weights[7] == with_far.shares[7] == 0
        assert (with_near.model == with_far.model).all() and with_far.model.any()
        # The same update of somebody trusted does move it.
        assert (evaluated(spec, [*good, replace(far, reputation=NEWCOMER)]).weights[7]) > 0

    def test_a_refused_update_counts_as_one_without_examples(self) -> None:
        far = [50.0, 50.0, -50.0, 50.0]
        good = [entry(i, NEWCOMER, 10, [0.5, -0.5, 0.25, i / 50]) for i in range(4)]
        refused = evaluated(SPEC, [*good, entry(4, PPM, 1000, far)])
        assert refused.verdicts == [Verdict.ACCEPTED] * 4 + [Verdict.NORM]
        assert list(refused.weights) == [2**20] * 4 + [0] and list(refused.shares) == [250] * 4 + [0]
        without = evaluated(SPEC, [*good, entry(4, PPM, 0, far)])
        assert (refused.model == without.model).all() and refused.model.any()

    def test_a_round_in_which_nobody_counts_leaves_the_model_and_pays_nothing(self) -> None:
        entries = [entry(i, 399_999, 10, [0.5, -0.5, 0.25, i / 50]) for i in range(4)]
        result = evaluated(SPEC, entries)
        assert result.verdicts == [Verdict.ACCEPTED] * 4
        assert not any(result.weights) and not any(result.shares)
        assert (result.model == BASE).all()

    def test_a_round_without_enough_updates_leaves_the_model_and_pays_nothing(self) -> None:
        entries = [entry(i, NEWCOMER, 10, [0.5, -0.5, 0.25, i / 50]) for i in range(4)]
        result = evaluated(SPEC, entries, enough=False)
        assert result.verdicts == [Verdict.ACCEPTED] * 4
        assert (list(result.weights), list(result.shares)) == ([], [])
        assert (result.model == BASE).all()

    def test_an_observer_is_shown_all_that_a_transcript_holds_in_this_order(self) -> None:
        spec = spec_with(vectors=["control"])
        entries = [entry(i, NEWCOMER, 10, [0.5, -0.5, 0.25, i / 50]) for i in range(2)]
        control = np.full(D, UNIT, np.int64)
        sent = [replace(e, update=replace(e.update, vectors={"control": control})) for e in entries]
        context = RoundContext(spec, BASE, State(np.zeros(D, np.int64)), [NEWCOMER] * 2, 4, units=UNITS)
        names = list[str]()
        result = evaluate_round(context, sent, loss, lambda what, values: names.append(what))
        first, second = (e.owner for e in entries)
        rows = [f"{what} of {owner}" for owner in (first, second) for what in ("update", "control")]
        assert names == [*rows, "inner products", "aggregate", "step", "model", "published control"]
        # Two of four have sent it, so half of their mean is added.
        assert (result.state.published["control"] == UNIT // 2).all()
        again = evaluate_round(replace(context, state=result.state), sent, loss)
        assert (again.state.published["control"] == UNIT).all()
        # The smallest weight counts as one of those who have sent it.
        open_to_all = replace(context, spec=spec_with(vectors=["control"], reputation=OPEN))
        tiny = replace(sent[0], reputation=1, update=replace(sent[0].update, examples=1))
        large = replace(sent[1], update=replace(sent[1].update, examples=MOST_EXAMPLES))
        light = evaluate_round(open_to_all, [tiny, large], loss)
        assert light.weights == [1, 2**20] and (light.state.published["control"] == UNIT // 2).all()

    def test_a_round_without_updates_leaves_the_model(self) -> None:
        result = evaluated(SPEC, [])
        assert (result.verdicts, list(result.weights), list(result.shares)) == ([], [], [])
        assert (result.model == BASE).all()

    def test_twice_the_reputation_is_twice_the_pull_and_twice_the_pay(self) -> None:
        spec = spec_with(reputation=OPEN, detection=[], aggregation=Method(method="mean@1"))
        result = evaluated(spec, [entry(0, 900_000, 10, [3.0] * D), entry(1, 450_000, 10, [0.0] * D)])
        assert result.model.tolist() == [2.0] * D
        assert list(result.shares) == [667, 333]
        # Of vectors that nobody sends the report says nothing.
        assert "vectors" not in result.diagnostics


_vectors = st.lists(st.floats(-2.0, 2.0), min_size=D, max_size=D)
