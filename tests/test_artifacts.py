import json
from collections.abc import Iterator
from typing import Any

import pytest

from fedledger.contracts.compile import ARTIFACTS, CONTRACTS, compile_contracts, load_artifact

SIZE_LIMIT = 24_576  # EIP-170
PUSH1, PUSH32 = 0x60, 0x7F
CANCUN = {0x49: "BLOBHASH", 0x4A: "BLOBBASEFEE", 0x5C: "TLOAD", 0x5D: "TSTORE", 0x5E: "MCOPY"}


@pytest.fixture(scope="module")
def compiled() -> dict[str, dict[str, Any]]:
    return compile_contracts()


def opcodes(code: bytes) -> Iterator[int]:
    position = 0
    while position < len(code):
        opcode = code[position]
        yield opcode
        position += 1 + (opcode - PUSH1 + 1 if PUSH1 <= opcode <= PUSH32 else 0)


def test_opcodes_skip_pushed_data() -> None:
    assert list(opcodes(bytes.fromhex("605e 5f 7f" + "5e" * 32 + "5e"))) == [0x60, 0x5F, 0x7F, 0x5E]


@pytest.mark.parametrize("name", CONTRACTS)
def test_committed_artifact_is_what_the_sources_compile_to(name: str, compiled: dict[str, dict[str, Any]]) -> None:
    assert json.loads((ARTIFACTS / f"{name}.json").read_text()) == compiled[name]


@pytest.mark.parametrize("name", CONTRACTS)
def test_code_fits_the_size_limit_of_every_chain(name: str) -> None:
    assert 0 < len(load_artifact(name).deployed_bytecode) // 2 - 1 < SIZE_LIMIT


@pytest.mark.parametrize("name", CONTRACTS)
def test_code_runs_on_shanghai(name: str) -> None:
    artifact = load_artifact(name)
    # Nothing but code: no metadata is appended, so the walk meets no data at the end.
    for code in (artifact.bytecode, artifact.deployed_bytecode):
        found = set(opcodes(bytes.fromhex(code[2:])))
        assert found & CANCUN.keys() == set()


@pytest.mark.parametrize("name", CONTRACTS)
def test_no_name_is_overloaded(name: str) -> None:
    abi = load_artifact(name).abi
    for kind in ("function", "event", "error"):
        names = [entry["name"] for entry in abi if entry["type"] == kind]
        assert len(names) == len(set(names)), kind
