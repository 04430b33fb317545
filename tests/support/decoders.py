"""Every decoder of what another party wrote: valid examples, their mutants, and what it may do with these."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import rlp

from fedledger.aggregator.mailbox.http_server import CommitmentMessage, RevealMessage
from fedledger.aggregator.mailbox.mailbox import _remember, _Round
from fedledger.aggregator.round.methods import RoundMethods
from fedledger.aggregator.round.state import State
from fedledger.aggregator.round.validation import validate
from fedledger.aggregator.selection.candidates import _evaluated
from fedledger.contracts.abi import Log, functions
from fedledger.contracts.chain.answers import HEADER_FIELDS, typed
from fedledger.contracts.ledger.calls import call_scorers_call, decode_batch_proposal, listed_updates
from fedledger.learning.code_bundle import decode_code, encode_bundle
from fedledger.learning.objectives.classification import CLASSIFICATION
from fedledger.learning.validation_set import INPUTS, LABELS, SALT, read_part, read_validation
from fedledger.ledger_tools.audit.export import Header
from fedledger.protocol.arithmetic.exact import FixedPoint
from fedledger.protocol.codecs.payload import slots
from fedledger.protocol.codecs.statistics import Statistics, require_model
from fedledger.protocol.codecs.top_k import TopK
from fedledger.protocol.encoding import canonical, strict, tensors
from fedledger.protocol.encoding.cid import ContentRef, cid_bytes
from fedledger.protocol.encoding.encryption import decrypt, encrypt
from fedledger.protocol.errors import (
    ChainError,
    ConfigError,
    ContentUnreadableError,
    FedledgerError,
    RoundError,
    StoreError,
)
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.records import update as wire
from fedledger.protocol.records.commitment_batch import Batch, SignedCommitment
from fedledger.protocol.records.data_schema import (
    ArraySchema,
    CategoryColumn,
    ClassTarget,
    NumberColumn,
    StatisticsSchema,
    TableSchema,
    read_schema,
)
from fedledger.protocol.records.model import ModelFile, fixed_model
from fedledger.protocol.records.published_vectors import published
from fedledger.protocol.records.ref import Ref
from fedledger.protocol.records.seal import BlockIndex, SealSpec
from fedledger.protocol.records.settlement import pack_words, unpack_words
from fedledger.protocol.records.spec import StatisticSpec, TaskSpec, TensorsSpec
from fedledger.protocol.records.trusted_update import read_trusted
from fedledger.protocol.records.update import UpdateHeader, UpdateRefusedError
from fedledger.protocol.records.verdicts import Verdict
from fedledger.protocol.schedules.devices import Battery, Device, DeviceTable, Link
from support import mutate

D = 5
FIXED = FixedPoint(24, 64.0)
KEY = hashlib.sha256(b"key").digest()
OWNER = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
NOTHING = b""


@dataclass(frozen=True)
class Kind:
    """A kind of content.

    Parameters
    ----------
    examples
        Valid ones.
    mutant
        Makes another one of an example.
    again
        Decodes, and returns what was decoded in its one spelling; ``NOTHING`` where there is no such.
    errors
        All that it may raise.
    """

    examples: tuple[bytes, ...]
    mutant: mutate.Mutate
    again: Callable[[bytes], bytes]
    errors: tuple[type[Exception], ...]


def spec(**changes: Any) -> TaskSpec:
    ref = Ref.of(ContentRef.of(b"content"))
    return TaskSpec(name="fuzzed", rounds=3, initial_model=ref, validation=ref, **changes)


SPEC = spec(vectors=["control"])


def _spec(data: bytes) -> bytes:
    found = TaskSpec.decode(data)
    # What is made of it may be refused, but not crash.
    try:
        _ = found.fixed
        RoundMethods.of(found)
        slots(found, D)
    except FedledgerError:
        pass
    return found.encode()


def _model(data: bytes) -> bytes:
    found = ModelFile.decode(data)
    assert np.isfinite(found.vector).all()
    fixed_model(found.vector, FIXED)
    return found.encode()


DESCRIBED = TensorsSpec(statistics=[StatisticSpec(name="b.running_var", length=3, least=0.0)], fixed=["mask", "steps"])


def _described_model(data: bytes) -> bytes:
    found = ModelFile.decode(data, DESCRIBED)
    assert np.isfinite(found.vector).all() and found.statistics == 3
    with suppress(ContentUnreadableError):
        require_model(found, spec(tensors=DESCRIBED))
    return found.encode_whole()


def _statistics(data: bytes) -> bytes:
    sent = tensors.decode(data)["statistics"]
    whole = Statistics.of(DESCRIBED).decode(sent, 3, FIXED)
    assert (whole >= 0).all() and np.isfinite(Statistics.of(DESCRIBED).to_float32(whole)).all()
    return NOTHING


def _validation(data: bytes) -> bytes:
    inputs, labels = read_validation(data)
    return tensors.encode({INPUTS: inputs, LABELS: labels})


def _part(data: bytes) -> bytes:
    part = read_part(data, 4, CLASSIFICATION)
    assert len(part) == 4
    return NOTHING


def _index(data: bytes) -> bytes:
    return BlockIndex.decode(data, SealSpec(mode="opened", examples=5, slice=2)).encode()


def _ciphertext(data: bytes) -> bytes:
    assert decrypt(KEY, data) == b"examples"
    return NOTHING


def _code(data: bytes) -> bytes:
    files = decode_code(data)
    return encode_bundle(files) if len(files) > 1 else files["task.py"]


TABLE = DeviceTable(
    bytes_down=1000,
    bytes_up=1000,
    devices={
        OWNER: Device(
            examples=10,
            cycles_per_second=1000,
            cycles_per_example=10,
            link=Link(rates=((0, 5, 5), (10, 0, 7)), period_us=30, latency_us=2, transmit_uw=4),
            battery=Battery(capacity_uj=50_000, charge_uj=40_000, harvest_uw=3),
            online=((0, 10), (20, 2**50)),
        )
    },
)


TABLE_SCHEMA = TableSchema(
    columns=(
        NumberColumn(name="age", unit="years", least=0, most=120, mean=54.4, deviation=9.02, missing=56),
        CategoryColumn(name="pain", categories=("1", "2"), missing=True),
    ),
    target=ClassTarget(name="num", classes=("no", "yes"), threshold=0.5),
)
STATISTICS_SCHEMA = StatisticsSchema(
    columns=(
        NumberColumn(name="age", unit="years", least=0, most=120),
        CategoryColumn(name="pain", categories=("1", "2")),
    )
)
ARRAY_SCHEMA = ArraySchema(shape=(1, 28, 28), least=0, most=1, classes=2, class_names=("a", "b"))


def _devices(data: bytes) -> bytes:
    found = DeviceTable.decode(data)
    for address in found.addresses:
        found.trip(address, 7)
        found.nominal(address)
    return found.encode()


BATCH = Batch(
    tuple(SignedCommitment(i, bytes([i % 251]) * 32, bytes([i % 241 + 7]) * 65) for i in (0, 7, 300)),
    {0: b"s" * 32, 300: b"t" * 32},
    {300: 2},
)


def _batch(data: bytes) -> bytes:
    found = Batch.decode(data)
    _ = found.root
    return found.encode()


def _message(kind: type[CommitmentMessage | RevealMessage]) -> Callable[[bytes], bytes]:
    def again(data: bytes) -> bytes:
        # As the web framework hands it over: the text may be spelt in any way, its values may not.
        found = kind.model_validate(canonical.parse(data.decode()))
        return NOTHING if kind.model_validate_json(found.model_dump_json()) == found else b"another"

    return again


def _line(data: bytes) -> bytes:
    kept = _Round()
    _remember(kept, canonical.parse(data.decode()))
    return NOTHING


def header(**changes: Any) -> UpdateHeader:
    fields = {
        "spec": SPEC.digest.hex(),
        "round": 2,
        "participant": OWNER,
        "base": "00" * 32,
        "examples": 10,
        "steps": 1,
    }
    return UpdateHeader(**{**fields, "vectors": ["control", "delta"], "payload": "0" * 64, **changes})


VECTORS = {"delta": np.linspace(-1, 1, D, dtype=np.float32), "control": np.zeros(D, np.float32)}


def _update(data: bytes) -> bytes:
    found = wire.decode(data)
    _ = found.signed_by
    raw = canonical.encode(found.header.model_dump())
    again = b"".join((wire.MAGIC, len(raw).to_bytes(4, "little"), raw, found.signature, tensors.encode(found.vectors)))
    from fedledger.aggregator.round.validation import Expected

    try:
        validate(data, Expected(SPEC, 2, bytes(32), D), OWNER, found.signed_by or "")
    except UpdateRefusedError as error:
        assert error.verdict.refused and len(error.detail) < 4096
    return again


def of_update(data: bytes, rng: random.Random) -> bytes:
    """Return an update with another header, or with another payload that its header names."""
    if rng.random() < 0.4:
        return mutate.of_bytes(data, rng)
    end = 8 + int.from_bytes(data[4:8], "little")
    raw, payload = data[8:end], data[end + 65 :]
    if rng.random() < 0.5:
        raw = mutate.of_json(raw, rng)
    else:
        payload = mutate.of_tensors(payload, rng)
        raw = canonical.encode({**json.loads(raw), "payload": hashlib.sha256(payload).hexdigest()})
    return data[:4] + len(raw).to_bytes(4, "little") + raw + data[end : end + 65] + payload


STATE = State(
    np.arange(D),
    {"mean": np.full(D, 7), "root": np.full(D, 2**50)},
    12,
    3,
    {"control": np.full(D, -(2**29))},
    {"rules.0.0xab": np.arange(3)},
)


def _state(data: bytes) -> bytes:
    # No bytes are the state before the first round.
    return State.decode(data, D).encode() if data else NOTHING


def _trusted(data: bytes) -> bytes:
    read_trusted(data, SPEC, D)
    return tensors.encode(tensors.decode(data))


def _published(data: bytes) -> bytes:
    assert np.isfinite(published(data, {"control": D}, FIXED)["control"]).all()
    return tensors.encode(tensors.decode(data)) if data else b""


def _cid(data: bytes) -> bytes:
    text = data.decode()
    ref = ContentRef(cid_bytes(text)[-32:], 7)
    # Other bases are other spellings, which a document may not have; one base has one.
    return ContentRef.parse(text, 7).cid.encode() if text.startswith("b") and ref.cid == text else data


CODEC = TopK(k=3, bits=11, shift=2)


def _coded(data: bytes) -> bytes:
    values = CODEC.decode(np.frombuffer(data, np.uint8), 40, FIXED)
    return CODEC.pack(values >> CODEC.shift).tobytes()


WORDS = pack_words({0: Verdict.ACCEPTED, 9: Verdict.NORM, 70_000: Verdict.LATE}, {0: 900})


def _words(data: bytes) -> bytes:
    words = [int.from_bytes(data[at : at + 32], "big") for at in range(0, len(data), 32)]
    half = len(words) // 2
    unpack_words(words[:half], words[half:])
    return NOTHING


REPORT = {
    "measurements": {"base": {"loss": 700, "correct": 3}, "model": {"loss": 600, "correct": 4}},
    "updates": [
        {"participant": OWNER, "measurement": {"loss": 650, "correct": 3}, "examples": 10, "verdict": "accepted"},
        {"participant": OWNER[:-1] + "e", "measurement": None, "examples": 0, "verdict": "late"},
    ],
}


def _report(data: bytes) -> bytes:
    told = _evaluated(data)
    assert all(0 <= examples < 2**53 and utility >= 0 for examples, utility in told.values())
    return canonical.encode(canonical.decode(data))


def _calls() -> bytes:
    ref = (b"m" * 32, 5)
    propose, several = functions()["proposeRound"], functions()["multicall"]
    call = propose.encode((1, 2, (ref, ref, ref, bytes(32), False), [1 << 64], [9], ([b"u" * 32], [7])))
    listing = call_scorers_call(1, 2, [3, 300], {3: ContentRef(b"u" * 32, 7), 300: ContentRef(b"v" * 32, 9)})
    return several.encode([[several.encode([[call]]), call, listing, functions()["announce"].encode(("http://x",))]])


def _proposal(data: bytes) -> bytes:
    refs = {name: SimpleNamespace(digest=b"m" * 32, length=5) for name in ("model", "state", "report")}
    given = {"task": 1, "round": 2, "proposal": SimpleNamespace(**refs, stop=False, updates=bytes(32))}
    found = decode_batch_proposal(Log("BatchProposed", given, 1, bytes(32), 0, input=data))
    _ = found.is_readable
    return NOTHING


def _listed(data: bytes) -> bytes:
    given = {"task": 1, "round": 2, "present": 2}
    assert len(listed_updates(Log("ScorersCalled", given, 1, bytes(32), 0, input=data))) in (0, 2)
    return NOTHING


ANSWER = {
    "number": "0x10",
    "hash": "0x" + "ab" * 32,
    "miner": OWNER.lower(),
    "nonce": "0x0000000000000000",
    "transactions": [{"from": OWNER.lower(), "input": "0x00", "value": "0x0", "to": None}],
}


def _answer(data: bytes) -> bytes:
    typed(canonical.parse(data.decode()))
    return NOTHING


BLOCK = rlp.encode([b"\1" * 32, b"\2" * 32, b"\3" * 20, *([b"\4" * 8] * (len(HEADER_FIELDS) - 3))])


def _block(data: bytes) -> bytes:
    Header.decode(data)
    return NOTHING


def _digits(data: bytes) -> bytes:
    return str(strict.decimal(data.decode("utf-8", "surrogatepass"), 2**32 - 1)).encode()


def _hexadecimal(data: bytes) -> bytes:
    return strict.hexadecimal(data.decode("utf-8", "surrogatepass"), 32).hex().encode()


def _tensors(data: bytes) -> bytes:
    return tensors.encode(tensors.decode(data))


def _kinds() -> dict[str, Kind]:
    odd = (ValueError,)
    update = wire.encode(header(), VECTORS, KEY)
    words = b"".join(word.to_bytes(32, "big") for part in WORDS for word in part)
    named = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros((), np.float32)}
    moving = {"w": np.ones((2, 2), np.float32), "b.running_var": np.array([0, 1, 2], np.float32)}
    described = {**moving, "mask": np.array([True, False]), "steps": np.array(3)}
    validation = {INPUTS: np.ones((4, 3), np.float32), LABELS: np.array([0, 1, 2, 1])}
    kept = {"participant": 7, "kind": "commitment", "commitment": "ab" * 32, "signature": "cd" * 65}
    opening = {"participant": 7, "digest": "ab" * 32, "length": 70, "salt": "cd" * 32, "staleness": 1}
    commitment = {key: kept[key] for key in ("participant", "commitment", "signature")}
    rich = spec(
        objective=Method(method="regression@1", params={"offset": 1.5, "scale": 2.0}),
        tensors=DESCRIBED,
        lower_is_better=True,
        model=Method(method="mlp@1", params={"inputs": 4, "hidden": [3], "classes": 2}),
        detection=[Method(method="norm@1"), Method(method="cosine@1", params={"factor": 1.5})],
        aggregation=Method(method="geometric_median@1", params={"iterations": 7}),
        seal=SealSpec(mode="opened", examples=5, slice=2),
        payload=[{"name": "delta", "codec": {"method": "top_k@1", "params": {"k": 2}}}],
    )
    mixed = {"a": np.arange(3, dtype=np.uint8), "é": np.array([[-1, 2**40]]), "z": np.zeros((0, 2), np.float32)}
    cids = tuple(text.encode() for text in (ContentRef.of(b"x").cid, "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG"))
    return {
        "specs": Kind((SPEC.encode(), rich.encode()), mutate.of_json, _spec, (ConfigError,)),
        "models": Kind((ModelFile.of(named).encode(),), mutate.of_tensors, _model, (ContentUnreadableError,)),
        "models with statistics": Kind(
            (ModelFile.of(described, DESCRIBED).encode_whole(), ModelFile.of(moving, DESCRIBED).encode()),
            mutate.of_tensors,
            _described_model,
            (ContentUnreadableError,),
        ),
        "statistics": Kind(
            (tensors.encode({"statistics": np.array([0, 0.5, 1e4], np.float32)}),),
            mutate.of_tensors,
            _statistics,
            (UpdateRefusedError, tensors.TensorFormatError, KeyError),
        ),
        "validation sets": Kind(
            (tensors.encode(validation),), mutate.of_tensors, _validation, (ContentUnreadableError,)
        ),
        "parts of validation sets": Kind(
            (tensors.encode({**validation, SALT: np.zeros(32, np.uint8)}),),
            mutate.of_tensors,
            _part,
            (ContentUnreadableError,),
        ),
        "indices of validation sets": Kind(
            (BlockIndex.of([b"x", b"y", b"z"]).encode(),), mutate.of_tensors, _index, (ContentUnreadableError,)
        ),
        "ciphertexts": Kind((encrypt(KEY, b"examples"),), mutate.of_bytes, _ciphertext, (ContentUnreadableError,)),
        "bundles of code": Kind(
            (encode_bundle({"task.py": b"import a", "a.py": b"", "b/__init__.py": b"x = 1"}),),
            mutate.of_tensors,
            _code,
            (ContentUnreadableError,),
        ),
        "data schemas": Kind(
            (TABLE_SCHEMA.encode(), ARRAY_SCHEMA.encode(), STATISTICS_SCHEMA.encode()),
            mutate.of_json,
            lambda data: read_schema(data).encode(),
            (ConfigError,),
        ),
        "device tables": Kind((TABLE.encode(),), mutate.of_json, _devices, (ConfigError,)),
        "batches": Kind((BATCH.encode(),), mutate.of_json, _batch, odd),
        "dishonest batches": Kind((BATCH.encode(),), mutate.of_json, lambda data: Batch.read(data).encode(), odd),
        "commitments": Kind((canonical.encode(commitment),), mutate.of_json, _message(CommitmentMessage), odd),
        "openings": Kind((canonical.encode(opening),), mutate.of_json, _message(RevealMessage), odd),
        "lines of a mailbox": Kind(
            (canonical.encode(kept), canonical.encode({**opening, "kind": "opening"})),
            mutate.of_json,
            _line,
            (StoreError, *odd),
        ),
        "updates": Kind((update,), of_update, _update, (UpdateRefusedError,)),
        "coded vectors": Kind(
            (CODEC.pack(np.arange(40) * 3 - 9).tobytes(),), mutate.of_bytes, _coded, (UpdateRefusedError,)
        ),
        "states": Kind(
            (STATE.encode(),),
            mutate.of_tensors,
            _state,
            (ContentUnreadableError,),
        ),
        "published vectors": Kind((STATE.encode(),), mutate.of_tensors, _published, (ContentUnreadableError,)),
        "trusted updates": Kind(
            (tensors.encode({"delta": VECTORS["delta"]}),), mutate.of_tensors, _trusted, (RoundError,)
        ),
        "tensors": Kind((tensors.encode(mixed),), mutate.of_tensors, _tensors, (tensors.TensorFormatError,)),
        "reports": Kind((canonical.encode(REPORT),), mutate.of_json, _report, odd),
        "CIDs": Kind(cids, mutate.of_text, _cid, (StoreError, UnicodeDecodeError)),
        "words of a proposal": Kind((words,), mutate.of_bytes, _words, odd),
        "calls": Kind((_calls(),), mutate.of_bytes, _proposal, ()),
        "listed updates": Kind((_calls(),), mutate.of_bytes, _listed, ()),
        "answers of a node": Kind((json.dumps(ANSWER).encode(),), mutate.of_json, _answer, (ChainError, *odd)),
        "headers of blocks": Kind((BLOCK,), mutate.of_bytes, _block, odd),
        "decimal digits": Kind((b"0", b"1048576"), mutate.of_text, _digits, odd),
        "hexadecimal": Kind((b"ab" * 32,), mutate.of_text, _hexadecimal, odd),
    }


KINDS = _kinds()
