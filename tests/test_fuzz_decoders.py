"""Decoders of what another party wrote: one spelling of a value, only the errors that they document, bounded time."""

from __future__ import annotations

import random
import traceback

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fedledger.protocol.encoding import canonical
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

FAILED: list[tuple[str, bytes]] = [
    # Each of these once was accepted, or raised what nobody expected.
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
