"""Whatever a participant sends, it is judged with a reason code and the round goes on without it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from eth_account import Account
from hypothesis import example, given
from hypothesis import strategies as st

from fedledger.aggregator.round.outcome import Content, RoundInput, RoundOutcome, round_outcome
from fedledger.aggregator.round.validation import Expected, ValidUpdate, fetch, validate
from fedledger.aggregator.rules.base import RULES
from fedledger.contracts.ledger.round_history import Participation
from fedledger.protocol.encoding import canonical, tensors
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.records import update as wire
from fedledger.protocol.records.measurement import Measurement
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.ref import Ref
from fedledger.protocol.records.reputation import Evidence
from fedledger.protocol.records.signatures import sign
from fedledger.protocol.records.spec import FixedPointSpec, Limits, TaskSpec
from fedledger.protocol.records.spot_checks import CommittedData, SpotChecks, Windows
from fedledger.protocol.records.trusted_update import write_trusted
from fedledger.protocol.records.update import UpdateHeader, UpdateRefusedError
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage.local import LocalStore
from support.examples import examples
from support.rules import CLAIMING, DEFAULTS
from support.spot_checks import AUDITORS

D = 5
LIMIT = 2**21
BOUND = 0.1  # not a float32
SPEC = TaskSpec(
    name="judged",
    rounds=3,
    initial_model=Ref.of(ContentRef.of(b"model")),
    validation=Ref.of(ContentRef.of(b"validation")),
    limits=Limits(max_update_bytes=LIMIT, max_examples=100),
    fixed_point=FixedPointSpec(bound=BOUND),
    contribution=Method(method="weight@1"),
)
BASE = ModelFile.of({"weight": np.linspace(-0.05, 0.05, D, dtype=np.float32)})
BASE_REF = ContentRef.of(BASE.encode())
KEYS = [hashlib.sha256(bytes([i])).digest() for i in range(4)]
SIGNERS = [str(Account.from_key(key).address) for key in KEYS]
OWNERS = [str(Account.from_key(hashlib.sha256(key).digest()).address) for key in KEYS]
EXPECTED = Expected(SPEC, 2, BASE_REF.digest, D)
UNITS = 1000


def header(i: int = 0, **changes: object) -> UpdateHeader:
    fields: dict[str, object] = {
        "version": 1,
        "codec": "dense",
        "spec": SPEC.digest.hex(),
        "round": EXPECTED.round,
        "participant": OWNERS[i],
        "base": BASE_REF.digest.hex(),
        "examples": 10,
        "steps": 1,
        "vectors": ["delta"],
        "payload": "0" * 64,
    }
    return UpdateHeader.model_construct(**{**fields, **changes})


def delta(i: int = 0) -> np.ndarray:
    return np.linspace(0.01, 0.02 + 0.01 * i, D, dtype=np.float32)


def update(i: int = 0, vector: object = None, key: bytes | None = None, **changes: object) -> bytes:
    vectors = {"delta": delta(i) if vector is None else np.asarray(vector)}
    payload = tensors.encode(vectors)
    named = {"vectors": sorted(vectors), "payload": hashlib.sha256(payload).hexdigest()}
    head = header(i, **{**named, **changes})
    raw = canonical.encode(head.model_dump())
    return framed(raw, payload, sign(wire._message(head, raw), key or KEYS[i]))


def framed(head: bytes, payload: bytes, signature: bytes = bytes(65)) -> bytes:
    return b"FLU1" + len(head).to_bytes(4, "little") + head + signature + payload


def payload_of(head: dict[str, object]) -> bytes:
    raw = canonical.encode(head)
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw


def signed(payload: bytes, i: int = 0, **changes: object) -> bytes:
    """An update with any payload, signed over its true digest."""
    head = header(i, payload=hashlib.sha256(payload).hexdigest(), **changes)
    return framed(canonical.encode(head.model_dump()), payload, sign(wire._message(head), KEYS[i]))


def resigned(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    start = 8 + int.from_bytes(data[4:8], "little")
    return data[:start] + change(data[start : start + 65]) + data[start + 65 :]


def mirrored(signature: bytes) -> bytes:
    """The other signature by the same key that the curve allows."""
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    s = order - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes([55 - signature[64]])


def with_one(value: float) -> np.ndarray:
    return np.array([0.01, value, 0, 0, 0], np.float32)


huge = {"a": {"dtype": "F32", "shape": [0, 2**39, 2**39], "data_offsets": [0, 0]}}
bomb = {"delta": {"dtype": "F32", "shape": [2**39, 2**39], "data_offsets": [0, 2**40]}}
deep = b"[" * 1_000_000
CASES = {
    "empty": (Verdict.MALFORMED, b""),
    "magic alone": (Verdict.MALFORMED, b"FLU1"),
    "another format": (Verdict.MALFORMED, b"\x80\x04\x95" + bytes(90)),
    "truncated": (Verdict.MALFORMED, update()[:80]),
    "header too long": (Verdict.MALFORMED, framed(b" " * 5000, b"")),
    "header length lies": (Verdict.MALFORMED, b"FLU1" + b"\xff" * 4 + bytes(200)),
    "header not JSON": (Verdict.MALFORMED, framed(b"{", b"")),
    "header not canonical": (Verdict.MALFORMED, framed(b'{ "version":1}', b"")),
    "header lacks fields": (Verdict.MALFORMED, framed(b"{}", b"")),
    "header of another version": (Verdict.MALFORMED, update(version=2)),
    "unknown codec": (Verdict.MALFORMED, update(codec="sparse")),
    "unknown field": (Verdict.MALFORMED, framed(canonical.encode({**header().model_dump(), "more": 1}), b"")),
    "examples as text": (Verdict.MALFORMED, framed(canonical.encode({**header().model_dump(), "examples": "10"}), b"")),
    "trajectory that no spec wants": (Verdict.MALFORMED, update(trajectory="0" * 64)),
    "trajectory named and absent": (
        Verdict.MALFORMED,
        framed(canonical.encode({**header().model_dump(), "trajectory": None}), b""),
    ),
    "negative examples": (Verdict.MALFORMED, update(examples=-1)),
    "payload no tensors": (Verdict.MALFORMED, signed(b"not tensors")),
    "payload claims memory": (Verdict.MALFORMED, signed(payload_of(bomb))),
    "payload claims axes": (Verdict.MALFORMED, signed(payload_of(huge), vectors=["a"])),
    "payload nests": (Verdict.MALFORMED, signed(len(deep).to_bytes(8, "little") + deep)),
    "vectors unlike the header": (Verdict.MALFORMED, signed(tensors.encode({"other": delta()}))),
    "payload of another update": (Verdict.BAD_DIGEST, update()[:-1] + b"\x00"),
    "payload cut off": (Verdict.BAD_DIGEST, update()[:-4]),
    "bytes appended": (Verdict.BAD_DIGEST, update() + b"\x00"),
    "another participant": (Verdict.REPLAYED, update(1)),
    "another round": (Verdict.REPLAYED, update(round=1)),
    "another task": (Verdict.REPLAYED, update(spec="00" * 32)),
    "owner not checksummed": (Verdict.REPLAYED, update(participant=OWNERS[0].lower())),
    "another base": (Verdict.WRONG_BASE, update(base="00" * 32)),
    "signed by another": (Verdict.BAD_SIGNATURE, update(key=KEYS[1])),
    "signature zero": (Verdict.BAD_SIGNATURE, resigned(update(), lambda _: bytes(65))),
    "signature malleable": (Verdict.BAD_SIGNATURE, resigned(update(), mirrored)),
    "too few coordinates": (Verdict.WRONG_SHAPE, update(vector=delta()[:-1])),
    "a matrix": (Verdict.WRONG_SHAPE, update(vector=delta()[None])),
    "a scalar": (Verdict.WRONG_SHAPE, update(vector=np.float32(1))),
    "integers": (Verdict.WRONG_SHAPE, update(vector=np.zeros(D, np.int64))),
    "bytes": (Verdict.WRONG_SHAPE, update(vector=np.zeros(D, np.uint8))),
    "another name": (Verdict.WRONG_SHAPE, signed(tensors.encode({"other": delta()}), vectors=["other"])),
    "two vectors": (
        Verdict.WRONG_SHAPE,
        signed(tensors.encode({"control": delta(), "delta": delta()}), vectors=["control", "delta"]),
    ),
    "NaN": (Verdict.NOT_FINITE, update(vector=with_one(np.nan))),
    "infinity": (Verdict.NOT_FINITE, update(vector=with_one(-np.inf))),
    "beyond the bound": (Verdict.OUT_OF_RANGE, update(vector=with_one(0.11))),
    "one ulp beyond the bound": (Verdict.OUT_OF_RANGE, update(vector=with_one(BOUND))),
    "largest float": (Verdict.OUT_OF_RANGE, update(vector=with_one(-np.finfo(np.float32).max))),
}


def refusal(data: bytes) -> UpdateRefusedError:
    with pytest.raises(UpdateRefusedError) as caught:
        validate(data, EXPECTED, OWNERS[0], SIGNERS[0])
    return caught.value


def test_an_honest_update_is_valid() -> None:
    valid = validate(update(), EXPECTED, OWNERS[0], SIGNERS[0])
    assert valid.delta.tolist() == [round(float(x) * 2**24) for x in delta()]
    assert valid.examples == 10
    assert validate(update(examples=10**9), EXPECTED, OWNERS[0], SIGNERS[0]).examples == 100


def test_the_bound_itself_is_allowed() -> None:
    expected = replace(EXPECTED, spec=SPEC.model_copy(update={"fixed_point": FixedPointSpec(bound=0.5)}))
    data = update(vector=with_one(-0.5), spec=expected.spec.digest.hex())
    assert validate(data, expected, OWNERS[0], SIGNERS[0]).delta[1] == -(2**23)


@pytest.mark.parametrize("name", CASES)
def test_each_fault_has_its_reason(name: str) -> None:
    verdict, data = CASES[name]
    error = refusal(data)
    assert error.verdict is verdict
    assert len(error.detail) < 120


def test_an_update_names_a_trajectory_where_windows_of_it_are_replayed() -> None:
    checks = SpotChecks(auditors=AUDITORS, windows=Windows(steps=5))
    spec = SPEC.model_copy(update={"committed_data": CommittedData(), "spot_checks": checks})
    expected = replace(EXPECTED, spec=spec)
    named = update(spec=spec.digest.hex(), trajectory="ab" * 32)
    assert validate(named, expected, OWNERS[0], SIGNERS[0]).examples == 10
    with pytest.raises(UpdateRefusedError, match="no trajectory") as caught:
        validate(update(spec=spec.digest.hex()), expected, OWNERS[0], SIGNERS[0])
    assert caught.value.verdict is Verdict.MALFORMED


def test_the_first_reason_in_order_counts() -> None:
    everything = update(1, vector=with_one(np.nan), base="00" * 32, key=KEYS[2])
    assert refusal(everything).verdict is Verdict.REPLAYED
    assert refusal(update(vector=with_one(np.nan), base="00" * 32)).verdict is Verdict.WRONG_BASE
    assert refusal(update(vector=with_one(np.nan), key=KEYS[2])).verdict is Verdict.BAD_SIGNATURE


@examples(150)
@given(st.data())
def test_a_damaged_update_is_refused(data: st.DataObject) -> None:
    good = update()
    start = data.draw(st.integers(0, len(good) - 1))
    end = data.draw(st.integers(start, min(len(good), start + 8)))
    bad = good[:start] + data.draw(st.binary(max_size=8)) + good[end:]
    if bad != good:
        refusal(bad)


@given(st.binary(max_size=300))
@example(b"FLU1" + bytes(4))
def test_noise_is_malformed(noise: bytes) -> None:
    for data in (noise, b"FLU1" + noise):
        assert refusal(data).verdict is Verdict.MALFORMED


class TestFetch:
    def test_what_is_stored_is_fetched(self, tmp_path) -> None:
        store = LocalStore(tmp_path)
        assert fetch(store, store.put(b"bytes"), 5) == b"bytes"

    @pytest.mark.parametrize("length", [6, 2**53, 2**64 - 1])
    def test_what_is_too_long_is_not_asked_for(self, tmp_path, length: int) -> None:
        with pytest.raises(UpdateRefusedError) as caught:
            fetch(LocalStore(tmp_path), ContentRef(bytes(32), length), 5)
        assert caught.value.verdict is Verdict.OVERSIZE

    def test_what_is_gone_damaged_or_of_another_length_is_unavailable(self, tmp_path) -> None:
        store = LocalStore(tmp_path)
        there, damaged = store.put(b"there"), store.put(b"damaged")
        Path(store._path(damaged)).write_bytes(b"changed")
        for ref in (ContentRef.of(b"gone"), damaged, ContentRef(there.digest, there.length - 1)):
            with pytest.raises(UpdateRefusedError) as caught:
                fetch(store, ref, LIMIT)
            assert caught.value.verdict is Verdict.UNAVAILABLE


def participations(refs: dict[int, ContentRef | None]) -> list[Participation]:
    """Participants in address order; a reference of None is a commitment that was not revealed."""
    made = [
        Participation(i, OWNERS[i], SIGNERS[i] if i in refs else None, Evidence(), refs.get(i))
        for i in range(len(OWNERS))
    ]
    return sorted(made, key=lambda participation: participation.owner.lower())


def measure(what: str, vector: np.ndarray) -> Measurement:
    return Measurement(int(1e6 + 1e6 * float(vector.sum())), 7)


def run_round(
    store: LocalStore, refs: dict[int, ContentRef | None], spec: TaskSpec = SPEC, **more: object
) -> RoundOutcome:
    updates: dict[str, bytes | UpdateRefusedError] = {}
    for i, ref in refs.items():
        if ref is not None:
            try:
                updates[OWNERS[i]] = fetch(store, ref, spec.limits.max_update_bytes)
            except UpdateRefusedError as error:
                updates[OWNERS[i]] = error
    given_ = RoundInput(spec, EXPECTED.round, BASE, BASE_REF, b"", participations(refs), updates, UNITS, **more)
    outcome = round_outcome(given_, measure)
    assert round_outcome(given_, measure) == outcome
    return outcome


def test_what_was_validated_before_counts_only_for_the_same_content_sender_and_base(store: LocalStore) -> None:
    refs: dict[int, ContentRef | None] = {i: store.put(update(i)) for i in range(4)}
    plain = run_round(store, refs)
    data = {OWNERS[i]: store.get(ref) for i, ref in refs.items() if ref is not None}
    given_ = RoundInput(SPEC, EXPECTED.round, BASE, BASE_REF, b"", participations(refs), data, UNITS)
    other = ValidUpdate(np.zeros(D, np.int64), 1)
    longer = TaskSpec.model_validate({**SPEC.model_dump(), "rounds": 4})
    same = {
        EXPECTED.about(ref, OWNERS[i], SIGNERS[i]): validate(data[OWNERS[i]], EXPECTED, OWNERS[i], SIGNERS[i])
        for i, ref in refs.items()
        if ref is not None
    }
    assert round_outcome(replace(given_, valid=same), measure) == plain
    assert refs[0] is not None
    assert refs[1] is not None
    wrong = {
        EXPECTED.about(refs[1], OWNERS[0], SIGNERS[0]): other,
        EXPECTED.about(refs[0], OWNERS[1], SIGNERS[0]): other,
        EXPECTED.about(refs[0], OWNERS[0], SIGNERS[1]): other,
        replace(EXPECTED, round=1).about(refs[0], OWNERS[0], SIGNERS[0]): other,
        replace(EXPECTED, base=bytes(32)).about(refs[0], OWNERS[0], SIGNERS[0]): other,
        replace(EXPECTED, spec=longer).about(refs[0], OWNERS[0], SIGNERS[0]): other,
    }
    assert round_outcome(replace(given_, valid=wrong), measure) == plain
    used = {EXPECTED.about(refs[0], OWNERS[0], SIGNERS[0]): other}
    assert round_outcome(replace(given_, valid=used), measure) != plain


def rows(outcome: RoundOutcome) -> dict[str, dict]:
    document = canonical.decode(outcome.report.data)
    assert document == outcome.document
    return {row["participant"]: row for row in document["updates"]}


def goes_on_without_0(outcome: RoundOutcome, verdict: Verdict) -> None:
    assert outcome.verdicts == {0: verdict, **dict.fromkeys((1, 2, 3), Verdict.ACCEPTED)}
    assert sorted(outcome.shares) == [1, 2, 3]
    assert sum(outcome.shares.values()) == UNITS
    found = rows(outcome)
    assert (found[OWNERS[0]]["verdict"], found[OWNERS[0]]["weight"]) == (verdict.label, 0)
    # The mean of the others, and of nobody else.
    expected = BASE.vector + np.mean([delta(i).astype(np.float64) for i in (1, 2, 3)], axis=0)
    np.testing.assert_allclose(ModelFile.decode(outcome.model.data).vector, expected, atol=2**-23)


@pytest.fixture
def store(tmp_path) -> LocalStore:
    return LocalStore(tmp_path)


@pytest.fixture
def honest(store: LocalStore) -> dict[int, ContentRef | None]:
    return {i: store.put(update(i)) for i in (1, 2, 3)}


@pytest.mark.parametrize("name", CASES)
def test_a_round_goes_on_without_a_faulty_update(store: LocalStore, honest: dict, name: str) -> None:
    verdict, data = CASES[name]
    goes_on_without_0(run_round(store, {**honest, 0: store.put(data)}), verdict)


@pytest.mark.parametrize(
    ("ref", "verdict"),
    [
        (ContentRef.of(b"never stored"), Verdict.UNAVAILABLE),
        (ContentRef(bytes(32), LIMIT + 1), Verdict.OVERSIZE),
        (ContentRef(bytes(32), 2**64 - 1), Verdict.OVERSIZE),
        (None, Verdict.LATE),
    ],
)
def test_a_round_goes_on_without_what_cannot_be_had(
    store: LocalStore, honest: dict, ref: ContentRef | None, verdict: Verdict
) -> None:
    goes_on_without_0(run_round(store, {**honest, 0: ref}), verdict)


def test_a_round_goes_on_without_who_stays_away(store: LocalStore, honest: dict) -> None:
    goes_on_without_0(run_round(store, honest), Verdict.MISSED)


def test_a_copy_of_another_update_is_replayed(store: LocalStore, honest: dict) -> None:
    goes_on_without_0(run_round(store, {**honest, 0: honest[1]}), Verdict.REPLAYED)


def test_what_a_store_says_of_missing_content_stays_out_of_the_report(tmp_path) -> None:
    reports = []
    for place in ("here", "elsewhere"):
        store = LocalStore(tmp_path / place)
        refs = {i: store.put(update(i)) for i in (1, 2, 3)}
        reports.append(run_round(store, {**refs, 0: ContentRef.of(b"gone")}).report)
    assert reports[0] == reports[1]


def test_a_round_of_refused_updates_keeps_the_model_and_pays_nobody(store: LocalStore) -> None:
    refs = {i: store.put(update(i, vector=with_one(np.nan))) for i in range(4)}
    outcome = run_round(store, refs)
    assert set(outcome.verdicts.values()) == {Verdict.NOT_FINITE}
    assert outcome.shares == {}
    np.testing.assert_allclose(ModelFile.decode(outcome.model.data).vector, BASE.vector, atol=2**-24)


def test_every_reason_of_validation_is_tested_here() -> None:
    reasons = {verdict for verdict in Verdict if Verdict.MALFORMED <= verdict <= Verdict.UNAVAILABLE}
    assert {verdict for verdict, _ in CASES.values()} | {Verdict.OVERSIZE, Verdict.UNAVAILABLE} == reasons


@pytest.mark.parametrize("rule", sorted(set(RULES) - CLAIMING))
@pytest.mark.parametrize("survivors", [0, 1, 2, 3])
@pytest.mark.parametrize("mixing", [None, Method(method="nearest_neighbour_mixing@1", params={"f": 1})])
def test_every_rule_copes_with_whatever_is_left(
    store: LocalStore, rule: str, survivors: int, mixing: Method | None
) -> None:
    aggregation = Method(method=rule, params=DEFAULTS[rule])
    spec = SPEC.model_copy(update={"aggregation": aggregation, "mixing": mixing})
    refs = {i: store.put(update(i, spec=spec.digest.hex())) for i in range(survivors)}
    # Its length is what every row is scaled to.
    made = build(RULES, rule, DEFAULTS[rule])
    trusted = Content.of(write_trusted(delta(0))) if made.needs_trusted else None
    outcome = run_round(store, {**refs, 3: store.put(b"junk")}, spec, trusted=trusted)
    assert [v for v in outcome.verdicts.values() if v is Verdict.ACCEPTED] == [Verdict.ACCEPTED] * survivors
    moved = ModelFile.decode(outcome.model.data).vector - BASE.vector
    columns = [delta(i) for i in range(survivors)] or [np.zeros(D)]
    if rule == "fedmgda@1":
        # It combines directions, of the median length.
        assert np.linalg.norm(moved) <= max(map(np.linalg.norm, columns)) + 1e-6
    elif trusted is None:
        assert (moved <= np.max(columns, axis=0) + 1e-6).all()
        assert (moved >= min(0, *np.min(columns, axis=0)) - 1e-6).all()
    else:
        # Mixed rows are not as long as those whose lengths were compared.
        assert mixing is not None or np.linalg.norm(moved) <= np.linalg.norm(delta(0)) + 1e-6
        assert outcome.document["trusted"] == Ref.of(trusted.ref).model_dump()
    least = made.least_rows
    assert sum(outcome.shares.values()) == (UNITS if survivors >= max(1, least) else 0)
    told = {"counted": survivors, "needed": least}
    assert (outcome.document["aggregation"] == told) == (survivors < least)
    assert survivors >= least or outcome.model.ref == BASE_REF
