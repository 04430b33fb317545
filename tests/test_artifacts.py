from collections.abc import Iterator
from pathlib import Path

import pytest

from fedledger.contracts.compile import ARTIFACTS, PARTS, VERSION, load_artifact, render
from support.evm import Evm

SIZE_LIMIT = 24_576  # EIP-170
PUSH1, PUSH32 = 0x60, 0x7F
CANCUN = {0x49: "BLOBHASH", 0x4A: "BLOBBASEFEE", 0x5C: "TLOAD", 0x5D: "TSTORE", 0x5E: "MCOPY"}


def opcodes(code: bytes) -> Iterator[int]:
    position = 0
    while position < len(code):
        opcode = code[position]
        yield opcode
        position += 1 + (opcode - PUSH1 + 1 if PUSH1 <= opcode <= PUSH32 else 0)


def test_opcodes_skip_pushed_data() -> None:
    assert list(opcodes(bytes.fromhex("605e 5f 7f" + "5e" * 32 + "5e"))) == [0x60, 0x5F, 0x7F, 0x5E]


def test_committed_artifacts_and_snapshots_are_what_the_sources_compile_to() -> None:
    def differences(path: Path, text: str) -> set[str]:
        found = path.read_text() if path.exists() else ""
        return set(found.splitlines()) ^ set(text.splitlines()) or ({"order"} if found != text else set())

    rendered = render()
    assert {path.suffix for path in rendered} == {".json", ".txt"}
    stale = {path.name: differences(path, text) for path, text in rendered.items()}
    assert {name: lines for name, lines in stale.items() if lines} == {}, "run `python -m fedledger.contracts.compile`"


def test_the_contract_says_the_version_that_is_deployed() -> None:
    assert Evm(1, 1, ["0x" + "aa" * 20]).view("protocolVersion") == VERSION


def test_a_version_that_is_kept_does_not_change() -> None:
    kept = {int(folder.name[1:]): folder for folder in ARTIFACTS.glob("v*")}
    assert kept.keys() | {VERSION} == set(PARTS)
    for file in kept[VERSION].iterdir() if VERSION in kept else ():
        assert file.read_bytes() == (ARTIFACTS / file.name).read_bytes(), "make it another VERSION"


@pytest.mark.parametrize("name", PARTS[VERSION])
def test_code_fits_the_size_limit_of_every_chain(name: str) -> None:
    assert 0 < len(load_artifact(name).deployed_bytecode) // 2 - 1 < SIZE_LIMIT


@pytest.mark.parametrize("name", PARTS[VERSION])
def test_code_runs_on_shanghai(name: str) -> None:
    artifact = load_artifact(name)
    # Nothing but code: no metadata is appended, so the walk meets no data at the end.
    for code in (artifact.bytecode, artifact.deployed_bytecode):
        found = set(opcodes(bytes.fromhex(code[2:])))
        assert found & CANCUN.keys() == set()


@pytest.mark.parametrize("name", PARTS[VERSION])
def test_no_name_is_overloaded(name: str) -> None:
    abi = load_artifact(name).abi
    for kind in ("function", "event", "error"):
        names = [entry["name"] for entry in abi if entry["type"] == kind]
        assert len(names) == len(set(names)), kind
