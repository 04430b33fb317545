"""Updates to an earlier base model: what they count, what each party checks, and that audits follow all of it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import test_validation as fresh
from hypothesis import given
from hypothesis import strategies as st
from test_batched import Round

from fedledger.aggregator.duties import commitments, proposing
from fedledger.aggregator.mailbox.mailbox import Mailbox
from fedledger.aggregator.round.batches import BatchError, complete
from fedledger.aggregator.round.outcome import Content, RoundInput, RoundOutcome, round_outcome
from fedledger.aggregator.staleness.base import ONE, STALENESS
from fedledger.aggregator.staleness.damping import damped, shifts, staleness_weight
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.records import Reveal
from fedledger.contracts.ledger.round_history import Participation, RoundHistory
from fedledger.ledger_tools.audit.audit import audit_chain, audit_run
from fedledger.ledger_tools.audit.execute import execute
from fedledger.ledger_tools.audit.export import LEDGER_FILE, LedgerExport
from fedledger.node.participant import Participant
from fedledger.platform.engine import with_ledger
from fedledger.platform.engine.ledger_agents import AgentParticipant
from fedledger.platform.experiment.accounts import experiment_account, participant_role
from fedledger.protocol.encoding import canonical
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.records.commitment_batch import Batch, Opening, SignedCommitment
from fedledger.protocol.records.mailbox import MailboxRefusedError
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.reputation import Evidence
from fedledger.protocol.records.signatures import commitment, commitment_message
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage.local import LocalStore
from support.small import TERMS, Small, run_small

MOST = 64
UNIT = 1 << 24
EARLIER = [ModelFile.of({"weight": np.full(fresh.D, x, np.float32)}) for x in (0.01, 0.02, 0.03)]
EARLIER_REFS = tuple(ContentRef.of(model.encode()) for model in EARLIER)


def weight(method: str, **params: Any) -> Callable[[int], int]:
    return build(STALENESS, method, params)


# -- weights ---------------------------------------------------------------------------------------------------


def test_weights_are_those_of_the_papers() -> None:
    assert [weight("constant@1")(tau) for tau in (0, 9)] == [ONE, ONE]
    assert [weight("fedbuff@1")(tau) for tau in (0, 3, 15)] == [ONE, ONE // 2, ONE // 4]
    assert [weight("polynomial@1", exponent=1.5)(tau) for tau in (0, 3)] == [ONE, ONE // 8]
    assert [weight("polynomial@1", exponent=2)(tau) for tau in (0, 3)] == [ONE, ONE // 16]
    hinge = weight("hinge@1", a=10, b=4)
    assert [hinge(tau) for tau in (0, 4, 5, 6)] == [ONE, ONE, round(Fraction(ONE, 11)), round(Fraction(ONE, 21))]


@pytest.mark.parametrize("tau", range(MOST + 1))
def test_square_roots_are_rounded_to_the_nearest(tau: int) -> None:
    nearest = (math.isqrt(4 * ONE * ONE // (1 + tau)) + 1) // 2
    assert weight("fedbuff@1")(tau) == weight("polynomial@1", exponent=0.5)(tau) == nearest


@pytest.mark.parametrize("name", sorted(STALENESS))
def test_weights_fall_with_staleness_from_one(name: str) -> None:
    found = [weight(name)(tau) for tau in range(MOST + 1)]
    assert found[0] == ONE and found == sorted(found, reverse=True) and found[-1] >= 0


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("polynomial@1", {"exponent": 0.3}),
        ("polynomial@1", {"exponent": -1}),
        ("polynomial@1", {"exponent": 32.5}),
        ("hinge@1", {"a": 0}),
        ("hinge@1", {"b": -1}),
        ("hinge@1", {"b": 0.5}),
        ("median@1", {}),
    ],
)
def test_other_parameters_are_refused(method: str, params: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        weight(method, **params)


values = st.integers(-(2**40), 2**40)


@given(x=st.lists(values, min_size=1, max_size=4), part=st.integers(0, ONE))
def test_damping_is_exact_and_rounds_once(x: list[int], part: int) -> None:
    assert damped(np.array(x, np.int64), part).tolist() == [round(Fraction(v * part, ONE)) for v in x]


@given(x=values, shift=values, part=st.integers(0, ONE))
def test_what_is_moved_is_cut_at_the_bound(x: int, shift: int, part: int) -> None:
    moved = max(-(2**40), min(2**40, x + shift))
    found = damped(np.array([x]), part, np.array([shift]), 2**40)
    assert found.tolist() == [round(Fraction(moved * part, ONE))]


def test_a_weight_beyond_one_is_refused() -> None:
    for wrong in (-1, ONE + 1):
        with pytest.raises(ConfigError, match="not from 0 to 1"):
            damped(np.zeros(1, np.int64), wrong)


def spec_with(method: Method | None) -> TaskSpec:
    return TaskSpec.model_validate(fresh.SPEC.model_dump() | {"staleness": method})


# -- the spec --------------------------------------------------------------------------------------------------


def test_a_spec_without_staleness_has_the_bytes_that_it_always_had() -> None:
    assert b"staleness" not in fresh.SPEC.encode() and not shifts(fresh.SPEC)
    assert staleness_weight(fresh.SPEC)(9) == ONE
    stale = spec_with(Method(method="fedbuff@1"))
    assert TaskSpec.decode(stale.encode()) == stale and stale.digest != fresh.SPEC.digest
    said = canonical.encode(canonical.decode(fresh.SPEC.encode()) | {"staleness": None})
    with pytest.raises(ConfigError, match="the other way round"):
        TaskSpec.decode(said)


# -- judging ---------------------------------------------------------------------------------------------------


def judged(steps: Mapping[int, int], method: Method | None, bases: Mapping[int, int] | None = None) -> RoundOutcome:
    """Judge updates of participants with a staleness, each relative to the base of that one unless another is given."""
    spec = spec_with(method)
    refs = (fresh.BASE_REF, *EARLIER_REFS)
    said = {i: (bases or {}).get(i, s) for i, s in steps.items()}
    data = {i: fresh.update(i, base=refs[s].digest.hex(), spec=spec.digest.hex()) for i, s in said.items()}
    participations = [
        Participation(i, fresh.OWNERS[i], fresh.SIGNERS[i], Evidence(), ContentRef.of(data[i]), s)
        for i, s in steps.items()
    ]
    given_ = RoundInput(
        spec=spec,
        index=fresh.EXPECTED.round,
        base=fresh.BASE,
        base_ref=fresh.BASE_REF,
        state=b"",
        participations=sorted(participations, key=lambda participation: participation.owner.lower()),
        updates={fresh.OWNERS[i]: content for i, content in data.items()},
        units=fresh.UNITS,
        max_staleness=len(EARLIER),
        earlier=EARLIER_REFS,
        earlier_models={s: EARLIER[s - 1] for s in set(steps.values()) if s} if shifts(spec) else {},
    )
    return round_outcome(given_, fresh.measure)


def fixed(vector: np.ndarray) -> list[int]:
    return [round(Fraction(float(x)) * UNIT) for x in vector]


def step_of(outcome: RoundOutcome) -> list[int]:
    after = fixed(ModelFile.decode(outcome.model.data).vector)
    return [a - b for a, b in zip(after, fixed(fresh.BASE.vector), strict=True)]


def test_stale_updates_are_damped_and_fresh_ones_do_not_gain() -> None:
    """Of equal weights, staleness 0 and 3: (δ₀ + δ₁ / 2) / 2, as in FedBuff."""
    outcome = judged({0: 0, 1: 3}, Method(method="fedbuff@1"))
    halves = [round(Fraction(x, 2)) for x in fixed(fresh.delta(1))]
    expected = [round(Fraction(x + y, 2)) for x, y in zip(fixed(fresh.delta(0)), halves, strict=True)]
    # The model is stored as float32, whose precision is 2^-28 or better for what is below 1/8.
    assert step_of(outcome) == pytest.approx(expected, abs=1)
    found = fresh.rows(outcome)
    assert [found[fresh.OWNERS[i]]["staleness"] for i in (0, 1)] == [0, 3]
    assert [found[fresh.OWNERS[i]]["weight"] for i in (0, 1)] == [2**20, 2**20]


def test_an_update_that_stands_for_its_model_moves_towards_it() -> None:
    """x ← (1 − α s) x + α s (x_base + δ), with α = 1: FedAsync."""
    method = Method(method="polynomial@1", params={"exponent": 0.5, "mix_models": True})
    outcome = judged({1: 3}, method)
    old = [Fraction(x) for x in fixed(fresh.BASE.vector)]
    trained = [x + d for x, d in zip(fixed(EARLIER[2].vector), fixed(fresh.delta(1)), strict=True)]
    mixed = [float((x + y) / 2) for x, y in zip(old, trained, strict=True)]
    assert fixed(ModelFile.decode(outcome.model.data).vector) == pytest.approx(mixed, abs=2)


@pytest.mark.parametrize(("steps", "base"), [(1, 0), (0, 1), (2, 1), (3, 2)])
def test_an_update_to_another_base_than_its_staleness_says_is_refused(steps: int, base: int) -> None:
    outcome = judged({0: 0, 1: steps}, Method(method="fedbuff@1"), {1: base})
    assert outcome.verdicts == {0: Verdict.ACCEPTED, 1: Verdict.WRONG_BASE}


def test_without_stale_updates_nothing_changes_but_what_the_rows_say(tmp_path: Path) -> None:
    allowed, damping = judged({0: 0, 1: 0}, None), judged({0: 0, 1: 0}, Method(method="fedbuff@1"))
    assert (allowed.model, allowed.state, allowed.shares) == (damping.model, damping.state, damping.shares)
    store = LocalStore(tmp_path)
    plain = fresh.run_round(store, {i: store.put(fresh.update(i)) for i in (0, 1)})
    assert plain.model == allowed.model
    rows = {owner: row for owner, row in fresh.rows(allowed).items() if row.pop("staleness") == 0}
    assert rows == {owner: row for owner, row in fresh.rows(plain).items() if row["verdict"] == "accepted"}


# -- batches ---------------------------------------------------------------------------------------------------

PLACE = (1, fresh.OWNERS[3], 7)


def test_a_batch_says_only_what_is_stale() -> None:
    row = SignedCommitment(3, b"c" * 32, b"s" * 65)
    plain = Batch((row,), {3: b"t" * 32})
    assert b"staleness" not in plain.encode() and Batch((row,), {3: b"t" * 32}, {3: 0}).encode() == plain.encode()
    stale = replace(plain, staleness={3: 2})
    assert Batch.decode(stale.encode()) == stale
    document = canonical.decode(plain.encode())
    for wrong in ({}, {"3": 0}, {"3": MOST + 1}, {"3": -1}, {"3": True}, {"3": "1"}, {"x": 1}, [], None):
        with pytest.raises(ValueError):
            Batch.decode(canonical.encode(document | {"staleness": wrong}))


def round_with(bases: tuple[ContentRef, ...], base: ContentRef) -> tuple[RoundHistory, Batch, ContentRef]:
    """Return a round of participant 0, and its batch; it committed to an update relative to ``base``."""
    update, key = ContentRef(b"u" * 32, 9), fresh.KEYS[0]
    digest = commitment(PLACE, 1, fresh.SIGNERS[0], base.digest, update, b"s" * 32)
    message = commitment_message(PLACE, 1, 0, digest)
    batch = Batch((SignedCommitment(0, digest, fresh.sign(message, key)),), {0: b"s" * 32})
    evidence = {0: Evidence()}
    current: Any = RoundHistory(
        1,
        bases[0],
        None,
        (0,),
        evidence,
        {0: fresh.OWNERS[0]},
        earlier=bases[1:],  # type: ignore[arg-type]
    )
    current.root, current.count, current.signers = batch.root, 1, {0: (fresh.SIGNERS[0],)}
    return current, batch, update


def refs(*names: str) -> tuple[ContentRef, ...]:
    return tuple(ContentRef.of(name.encode()) for name in names)


def test_a_batch_is_completed_with_the_staleness_that_opens_it() -> None:
    bases = refs("now", "before", "first")
    current, batch, update = round_with(bases, bases[2])
    done = complete(current, replace(batch, staleness={0: 2}), {0: update}, PLACE)
    assert done.reveals[0] == Reveal(0, update, b"s" * 32, 2) and done.participations[0].staleness == 2
    for wrong in ({}, {0: 1}, {0: 3}, {0: MOST}):
        with pytest.raises(BatchError) as caught:
            complete(current, replace(batch, staleness=wrong), {0: update}, PLACE)
        assert (caught.value.field, caught.value.expected) == (f"staleness of {fresh.OWNERS[0]}", 2)
    with pytest.raises(BatchError) as caught:
        complete(replace(current, earlier=bases[1:2]), replace(batch, staleness={0: 2}), {0: update}, PLACE)
    assert caught.value.field == f"commitment of {fresh.OWNERS[0]}", "the round does not take what is so stale"


def test_nobody_is_called_staler_than_it_is() -> None:
    """An empty round leaves the model as it was, so that two bases are the same; who claims the older one may."""
    bases = refs("same", "same", "first")
    current, batch, update = round_with(bases, bases[1])
    assert complete(current, batch, {0: update}, PLACE).reveals[0].staleness == 0
    with pytest.raises(BatchError, match="staleness"):
        complete(current, replace(batch, staleness={0: 1}), {0: update}, PLACE)
    claimed = replace(current, reveals={0: Reveal(0, update, b"s" * 32, 1)})
    assert complete(claimed, batch, {0: update}, PLACE).reveals[0].staleness == 1


def test_a_mailbox_takes_what_opens_a_stale_update(tmp_path: Path) -> None:
    place = Round(tmp_path)
    place.current.earlier = refs("before", "before", "first")
    update, salt = ContentRef(b"u" * 32, 5), b"s" * 32
    for who, steps in ((0, 3), (1, 2), (2, 1)):
        base = place.current.bases[steps].digest
        opened = commitment(place.place, 1, place.history.owners[who], base, update, salt)
        place.mailbox.commit(1, place.signed(who, opened))
    for wrong in (0, 1, 4, MOST, -1):
        with pytest.raises(MailboxRefusedError):
            place.mailbox.reveal(1, 0, update, salt, wrong)
    place.mailbox.reveal(1, 0, update, salt, 3)
    place.mailbox.reveal(1, 1, update, salt, 2)
    place.mailbox.reveal(1, 2, update, salt, 1)
    expected = {0: Opening(update, salt, 3), 1: Opening(update, salt, 1), 2: Opening(update, salt, 1)}
    assert place.mailbox.openings(1) == place.again().openings(1) == expected


# -- whole runs ------------------------------------------------------------------------------------------------

STALE = 'staleness = {{ method = "fedbuff@1", params = {{ mix_models = {mixes} }} }}\n[ledger]\nmax_staleness = 2\n'
DIRECT = STALE.format(mixes="false")
BATCHED = STALE.format(mixes="true") + "batched = true\nchallenge_window = 100\n"


def staleness_in(index: int, who: int) -> int:
    """Participant 0 is always up to date; the others are one or two models behind in turn, as far as there are any."""
    return (index + who) % 3 if who else 0


class Dispatched(AgentParticipant):
    """A participant that is not always up to date."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.updates.base_of = lambda index: staleness_in(index, self.access.participant or 0)


def run_stale(folder: Path, patch: pytest.MonkeyPatch, extra: str) -> Small:
    patch.setattr(with_ledger, "AgentParticipant", Dispatched)
    return run_small(folder, Chain(), rounds=4, extra=extra)


@pytest.fixture(scope="module", params=[DIRECT, BATCHED], ids=["direct", "batched"])
def stale(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Small:
    with pytest.MonkeyPatch.context() as patch:
        return run_stale(tmp_path_factory.mktemp("stale"), patch, request.param)


def test_a_history_with_stale_updates_is_reproduced(stale: Small) -> None:
    result = audit_run(stale.folder)
    assert result.reproduced and result.measured and result.rounds == 4, result.first_divergence
    assert audit_chain(stale.run.ledger, LocalStore(stale.folder / "store"), 1).reproduced
    for index, current in stale.run.task.rounds.items():
        report = canonical.decode(LocalStore(stale.folder / "store").get(current.proposal.report))  # type: ignore[union-attr]
        found = {row["participant"]: row["staleness"] for row in report["updates"]}
        expected = {current.owners[i]: min(staleness_in(index, i), index - 1, 2) for i in current.selected}
        assert found == expected
        assert {row["verdict"] for row in report["updates"]} == {"accepted"}


def test_the_way_back_is_the_ledgers(stale: Small) -> None:
    for index, current in stale.run.task.rounds.items():
        assert len(current.bases) == min(index, 3)
        for steps, base in enumerate(current.bases):
            assert stale.run.ledger._view("staleBase", 1, index, steps) == base.digest


def test_what_is_revealed_on_chain_tells_its_staleness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody gets through to the aggregator, so all reveal on chain; the outcome is the same."""

    def deaf(*given: object) -> None:
        raise MailboxRefusedError("nobody is at home")

    expected = run_stale(tmp_path, monkeypatch, BATCHED).summary
    monkeypatch.setattr(Mailbox, "reveal", deaf)
    (forced := tmp_path / "forced").mkdir()
    small = run_stale(forced, monkeypatch, BATCHED)
    third = small.run.task.rounds[3]
    assert {i: r.staleness for i, r in third.reveals.items()} == {i: staleness_in(3, i) for i in range(4)}
    assert small.summary["final_model"] == expected["final_model"]
    assert audit_run(forced).reproduced


def test_who_is_called_late_may_be_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openings = Mailbox.openings

    def forgetful(self: Mailbox, index: int) -> dict[int, Opening]:
        return {who: opening for who, opening in openings(self, index).items() if index != 3 or who != 2}

    monkeypatch.setattr(Mailbox, "openings", forgetful)
    small = run_stale(tmp_path, monkeypatch, BATCHED)
    third = small.run.task.rounds[3]
    assert third.verdicts[2] is Verdict.LATE and third.excuses[2].staleness == staleness_in(3, 2) == 2
    assert audit_run(small.folder).reproduced


def test_without_stale_updates_a_run_has_the_same_model(tmp_path: Path) -> None:
    outcomes = []
    for name, extra in (("plain", ""), ("allowed", "[ledger]\nmax_staleness = 2\n")):
        (tmp_path / name).mkdir()
        outcomes.append(run_small(tmp_path / name, Chain(), rounds=2, extra=extra).summary)
    assert outcomes[0]["final_model"] == outcomes[1]["final_model"]
    assert outcomes[0]["participants"] == outcomes[1]["participants"]


def test_a_false_staleness_in_a_report_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = proposing.round_outcome

    def lying(*given: Any) -> RoundOutcome:
        outcome = real(*given)
        if outcome.document["round"] != 3:
            return outcome
        rows = [{**row, "staleness": 0} for row in outcome.document["updates"]]
        document = outcome.document | {"updates": rows}
        return replace(outcome, document=document, report=Content.of(canonical.encode(document)))

    monkeypatch.setattr(proposing, "round_outcome", lying)
    small = run_stale(tmp_path, monkeypatch, DIRECT)
    divergence = audit_run(small.folder).first_divergence
    assert divergence is not None and divergence.round == 3 and divergence.field.startswith("staleness of 0x")
    assert divergence.found == 0 and divergence.expected in (1, 2)


def test_a_false_staleness_in_a_batch_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The aggregator judges rightly, and stores another batch than the one that it judged by."""
    right: list[Batch] = []
    real_opened, real_complete = commitments.opened, commitments.complete

    def false(sealed: Batch, openings: Mapping[int, Opening]) -> Batch:
        right.append(real_opened(sealed, openings))
        return replace(right[-1], staleness=dict.fromkeys(right[-1].staleness, 1))

    monkeypatch.setattr(commitments, "opened", false)
    monkeypatch.setattr(commitments, "complete", lambda current, batch, *rest: real_complete(current, right[-1], *rest))
    small = run_stale(tmp_path, monkeypatch, BATCHED)
    divergence = audit_run(small.folder).first_divergence
    assert divergence is not None and divergence.field.startswith("staleness of 0x")
    assert (divergence.expected, divergence.found) == (2, 1)


def test_a_participant_stays_with_the_base_that_it_trained_on(stale: Small) -> None:
    """After a crash its schedule may say something else; two commitments would be equivocation."""
    run, seed = stale.run, stale.experiment.config.seed
    account = experiment_account(seed, participant_role(1), run.ledger.chain)
    store, journal = LocalStore(stale.folder / "store"), stale.folder / "elsewhere"
    access = TaskAccess(run.ledger, run.history, account, store, 1, stale.experiment.spec)
    task, third = run.task, run.task.rounds[3]

    def again(steps: int) -> tuple[bytes, int]:
        updates = Participant(access, journal, stale.experiment.trainer(1), base_of=lambda index: steps).updates
        return updates.commitment(task, third), updates.made(task, third).staleness(third)

    digest, steps = again(9)
    assert steps == 2, "the oldest that the round takes"
    assert again(0) == again(1) == (digest, 2)


# -- rounds that fell ------------------------------------------------------------------------------------------


def test_the_way_back_leaves_out_rounds_that_fell() -> None:
    """Logs as the ledger emits them: round 2 and 3 fall, and a round that nobody proposed is voided."""
    model = {index: SimpleNamespace(digest=bytes([index]) * 32, length=1) for index in range(7)}
    history = History()
    publisher, aggregator = "0x" + "11" * 20, "0x" + "22" * 20
    terms = vars(replace(TERMS, aggregator=aggregator, model=model[0], max_staleness=3))
    params = SimpleNamespace(**{re.sub("_(.)", lambda m: m[1].upper(), name): value for name, value in terms.items()})
    posted = {"task": 1, "publisher": publisher, "params": params, "standbys": [], "version": 4}

    def tell(event: str, **more: Any) -> None:
        history.extend([SimpleNamespace(event=event, arguments={"task": 1, **more}, version=4, block=1)])  # type: ignore[list-item]

    def propose(index: int) -> None:
        proposal = SimpleNamespace(model=model[index], state=model[0], report=model[0], stop=False, updates=bytes(32))
        tell("RoundOpened", round=index, wordIndices=[], words=[])
        tell("RoundProposed", round=index, proposal=proposal, verdictWords=[1], shareWords=[0], aggregator=aggregator)

    def way(index: int) -> list[int]:
        return [base.digest[0] for base in history.task(1).rounds[index].bases]

    tell("TaskPosted", **posted)
    for index in (1, 2, 3):
        propose(index)
    assert [way(index) for index in (1, 2, 3)] == [[0], [1, 0], [2, 1, 0]]
    tell("RoundVoided", round=2)
    tell("RoundVoided", round=3)
    tell("RoundOpened", round=4, wordIndices=[], words=[])
    tell("RoundVoided", round=4)
    for index in (5, 6):
        propose(index)
    assert [way(index) for index in (4, 5, 6)] == [[1, 0], [1, 0], [5, 1, 0]]
    tell("RoundOpened", round=7, wordIndices=[], words=[])
    assert way(7) == [6, 5, 1, 0] and history.task(1).version == 4


def test_the_recorded_history_has_stale_updates_of_every_kind() -> None:
    folder = Path(__file__).parent / "histories" / "v4-stale"
    task = History().extend(execute(LedgerExport.read(folder / LEDGER_FILE))).task(1)
    assert task.version == 4 and task.max_staleness == 3
    assert [index for index, current in task.rounds.items() if current.voided] == [2, 3]
    first, fourth = task.rounds[1], task.rounds[4]
    assert first.proposal is not None and fourth.bases == (first.proposal.model, first.base)
    # The sixth round was below quorum, so its model is that of the fifth.
    assert task.is_empty(task.rounds[6]) and task.rounds[7].bases[0] == task.rounds[7].bases[1]
    assert {i: r.staleness for i, r in task.rounds[8].reveals.items()} == {6: 3}, "on chain"
    assert {i: r.staleness for i, r in task.rounds[8].excuses.items()} == {5: 1}, "in the challenge window"
