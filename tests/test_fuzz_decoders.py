"""Decoders of what another party wrote: one spelling of a value, only the errors that they document, bounded time."""

from __future__ import annotations

import random
import traceback

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fedledger.protocol.encoding import canonical, tensors
from support import mutate
from support.decoders import KINDS, Kind
from support.examples import FUZZ
from support.limits import peak_mib, within

QUICK, MANY = 200, 10_000
"""Mutants of each kind, in every run and under the profile ``fuzz``."""
SECONDS, MIB = 10, 512
FUZZING = settings.get_current_profile_name() == FUZZ
many = settings(
    max_examples=MANY if FUZZING else QUICK,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)

ONES = np.ones((2, 3), np.float32)


def replaced(name: str, old: bytes, new: bytes) -> tuple[str, bytes]:
    """Return a kind and its first example with something else in one place."""
    data = KINDS[name].examples[0]
    assert old in data, name
    return name, data.replace(old, new, 1)


def ending(name: str, value: float) -> tuple[str, bytes]:
    """Return a kind whose first example ends in a float, and that with another one."""
    return name, KINDS[name].examples[0][:-4] + np.float32(value).tobytes()


def headed(header: bytes) -> bytes:
    """Return a file of tensors that has a header and nothing else."""
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header


FAILED: list[tuple[str, bytes]] = [
    # Each of these once was accepted, or raised what nobody expected.
    *(replaced(name, b"00" * 32, b"  " * 32) for name in ("batches", "dishonest batches")),
    *(replaced(name, b"07" * 32, b"0A" * 32) for name in ("batches", "dishonest batches")),
    replaced("batches", b'"300":2', b'" 300":2'),
    replaced("batches", b'"300":2', b'"0300":2'),
    replaced("batches", b'"300":2', b'"3_00":2'),
    replaced("batches", b'"300":2', '"٣00":2'.encode()),
    replaced("batches", b'"version":1', b'"version":true'),
    replaced("batches", b'"signature":"', b'"other":1,"signature":"'),
    ("batches", b'{"commitments":{},"salts":{},"version":1}'),
    ("batches", b'{"commitments":"","salts":{},"version":1}'),
    *(ending("models", value) for value in (np.nan, np.inf, -np.inf, 1e30)),
    *(ending("trusted updates", value) for value in (np.nan, np.inf, -np.inf, 1e30)),
    ("validation sets", tensors.encode({"inputs": ONES})),
    ("validation sets", tensors.encode({"inputs": ONES, "labels": np.zeros(0, np.int64)})),
    ("validation sets", tensors.encode({"inputs": ONES, "labels": np.zeros(2, np.uint8)})),
    ("validation sets", tensors.encode({"inputs": ONES, "labels": np.full(2, np.inf, np.float32)})),
    ("validation sets", tensors.encode({"inputs": ONES * np.float32(np.nan), "labels": np.zeros(2, np.int64)})),
    ("states", tensors.encode({"previous": np.zeros(5, np.int64)})),
    ("states", tensors.encode({"previous": np.zeros(5, np.float32), "counts": np.zeros(2, np.int64)})),
    ("states", tensors.encode({"previous": np.zeros(5, np.int64), "counts": np.zeros(2, np.uint8)})),
    ("states", tensors.encode({"previous": np.full(5, 2**63 - 1), "counts": np.zeros(2, np.int64)})),
    replaced("specs", b'"bound":64', b'"bound":1000000'),
    replaced("specs", b'"length":7', b'"length":2097152'),
    replaced("openings", b'"length":70', b'"length":"70"'),
    replaced("lines of a mailbox", b'"participant":7', b'"participant":"1_0"'),
    replaced("lines of a mailbox", b'"commitment":"abab', b'"commitment":"  ab'),
    ("answers of a node", b"[" * 100_000),
    ("answers of a node", b'{"number":"0x1_0"}'),
    ("answers of a node", b'{"hash":"0xab ab"}'),
    ("tensors", headed(rb'{"\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}')),
]
EXAMPLES = [(name, data) for name, kind in KINDS.items() for data in kind.examples]


def judge(kind: Kind, data: bytes) -> bool:
    """Return whether bytes are accepted, having checked all that holds whether or not they are."""
    with within(SECONDS, data):
        try:
            again = kind.again(data)
        except kind.errors:
            return False
        except Exception as error:
            raise AssertionError(f"{data!r:.2000} gives {''.join(traceback.format_exception(error))}") from error
    assert again in (data, b""), f"{data!r:.2000} has another spelling, {again!r:.2000}"
    return True


@pytest.mark.parametrize(("name", "data"), EXAMPLES)
def test_what_the_mutants_are_made_of_is_accepted(name: str, data: bytes) -> None:
    assert judge(KINDS[name], data)


@pytest.mark.parametrize(("name", "data"), FAILED)
def test_what_once_failed_is_refused(name: str, data: bytes) -> None:
    assert not judge(KINDS[name], data)


def test_a_proposal_whose_lengths_do_not_fit_is_unreadable_and_stops_nobody() -> None:
    data = KINDS["calls"].examples[0]
    lengths = (1).to_bytes(32, "big") + (7).to_bytes(32, "big")
    assert data.count(lengths) == 2
    assert judge(KINDS["calls"], data.replace(lengths, bytes(64)))


@pytest.mark.parametrize("name", KINDS)
@many
@given(seed=st.integers(0, 2**64 - 1))
def test_mutants_have_one_spelling_or_a_documented_error(name: str, seed: int) -> None:
    kind, rng, before = KINDS[name], random.Random(seed), peak_mib()
    judge(kind, kind.mutant(rng.choice(kind.examples), rng))
    assert peak_mib() < before + MIB


@pytest.mark.parametrize("name", KINDS)
def test_most_mutants_differ_and_most_are_refused(name: str) -> None:
    kind, rng = KINDS[name], random.Random(7)
    mutants = [kind.mutant(rng.choice(kind.examples), rng) for _ in range(QUICK)]
    assert len({*mutants}) > QUICK // 4
    assert sum(judge(kind, mutant) for mutant in mutants) < QUICK * 0.9 or not kind.errors


def test_a_mutant_of_a_document_is_well_formed_often_enough() -> None:
    rng, data = random.Random(8), KINDS["specs"].examples[1]
    parsed = 0
    for _ in range(QUICK):
        try:
            canonical.parse(mutate.of_json(data, rng).decode())
            parsed += 1
        except ValueError:
            pass
    assert QUICK // 3 < parsed < QUICK
