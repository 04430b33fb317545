"""Compile the contracts and keep what came of it: ``python -m fedledger.contracts.compile [--check]``.

The artifacts are what is deployed; the snapshots of ABI, storage layout and size are for readers of a diff.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fedledger.protocol.errors import ConfigError

SOLC_VERSION = "0.8.37"
PARTS = {
    1: ("FedLedger",),
    2: ("FedLedger",),
    3: ("FedLedger", "LedgerAccounts", "LedgerCourt"),
    4: ("FedLedger", "LedgerAccounts", "LedgerCourt"),
    5: ("FedLedger", "LedgerAccounts", "LedgerOpinions", "LedgerCourt", "LedgerJuries"),
}
"""The contracts of each ledger version that this release reads; each but the last passes on what it does not know."""
VERSION = max(PARTS)
"""The ledger's version (``protocolVersion`` of the contract) that this release deploys."""
ARTIFACTS = Path(__file__).with_name("artifacts")
SETTINGS: dict[str, Any] = {
    "optimizer": {"enabled": True, "runs": 200},
    "viaIR": True,
    "evmVersion": "shanghai",
    "metadata": {"bytecodeHash": "none", "appendCBOR": False},
    "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object", "evm.deployedBytecode", "storageLayout"]}},
}
_ROOT = Path(__file__).resolve().parents[3]
SNAPSHOTS = _ROOT / "contracts" / "test" / "snapshots"


@dataclass(frozen=True)
class Artifact:
    """A compiled contract.

    Parameters
    ----------
    name, abi, compiler
        What it is, how it is called, and the version of the compiler.
    bytecode, deployed_bytecode
        The code that deploys it and the code that is deployed (0x…).
    immutables
        Where (start, length) the deployed code holds what its constructor was given.
    """

    name: str
    abi: list[dict[str, Any]]
    bytecode: str
    deployed_bytecode: str
    immutables: tuple[tuple[int, int], ...]
    compiler: str

    def deploys(self, code: bytes) -> bool:
        """Whether deployed code is this contract's, whatever its constructor wrote into its immutables."""
        found = bytearray(code)
        for start, length in self.immutables:
            found[start : start + length] = bytes(length)
        return bytes(found) == bytes.fromhex(self.deployed_bytecode[2:])

    def addresses_in(self, code: bytes) -> list[str]:
        """Return what its constructor may have written into its immutables of addresses, in lower case."""
        values = {code[start : start + length] for start, length in self.immutables}
        return sorted("0x" + value[12:].hex() for value in values if len(value) == 32 and not any(value[:12]))


@cache
def load_artifact(name: str, version: int = VERSION) -> Artifact:
    """Return the committed artifact of a contract; those of earlier ledger versions are kept for ever."""
    folder = ARTIFACTS if version == VERSION else ARTIFACTS / f"v{version}"
    document = json.loads((folder / f"{name}.json").read_text())
    places = tuple((place["start"], place["length"]) for place in document["immutables"])
    return Artifact(
        name, document["abi"], document["bytecode"], document["deployedBytecode"], places, document["compiler"]
    )


def parts(version: int = VERSION) -> tuple[Artifact, ...]:
    """Return the artifacts of a ledger version's parts; the first one's address is the ledger's."""
    return tuple(load_artifact(name, version) for name in PARTS[version])


def compile_sources() -> tuple[dict[str, Any], dict[str, str]]:
    """Compile the sources through py-solc-x and return the compiler's answer and the sources' SHA-256 digests.

    Raises
    ------
    ConfigError
        If no compiler of the right version is found, or OpenZeppelin's sources are missing.
    """
    import solcx

    sources = {name: {"content": file.read_text()} for name, file in source_files().items()}
    document = {"language": "Solidity", "sources": sources, "settings": SETTINGS}
    output = solcx.compile_standard(document, solc_binary=_compiler())
    digests = {name: hashlib.sha256(source["content"].encode()).hexdigest() for name, source in sources.items()}
    return output, digests


def render() -> dict[Path, str]:
    """Compile the sources and return the text of every file that is kept: artifacts and snapshots."""
    output, digests = compile_sources()
    files = {}
    for name in PARTS[VERSION]:
        artifact = _artifact(name, output, digests)
        layout = output["contracts"][f"contracts/src/{name}.sol"][name]["storageLayout"]
        files[ARTIFACTS / f"{name}.json"] = json.dumps(artifact, indent=1, sort_keys=True) + "\n"
        files[SNAPSHOTS / f"{name}.abi.txt"] = _lines(sorted(_signature(entry) for entry in artifact["abi"]))
        files[SNAPSHOTS / f"{name}.storage.txt"] = _lines(_storage(layout))
        files[SNAPSHOTS / f"{name}.size.txt"] = _lines(
            f"{key} {len(artifact[key]) // 2 - 1}" for key in ("bytecode", "deployedBytecode")
        )
    return files


def source_files() -> dict[str, Path]:
    """Return the contracts and all that they import, by the name under which the compiler knows it.

    Raises
    ------
    ConfigError
        If OpenZeppelin's sources are missing.
    """
    files = {f"contracts/src/{file.name}": file for file in sorted((_ROOT / "contracts" / "src").glob("*.sol"))}
    waiting = list(files)
    while waiting:
        name = waiting.pop()
        for path in re.findall(r'^import .*"(.+)";', files[name].read_text(), re.MULTILINE):
            found = path if path.startswith("@") else posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
            if found in files:
                continue
            files[found] = _ROOT / "node_modules" / found if found.startswith("@") else _ROOT / found
            if not files[found].exists():
                raise ConfigError(f"{files[found]} is missing.", "Run `npm ci` first.")
            waiting.append(found)
    return files


def main(arguments: list[str]) -> int:
    """Write artifacts and snapshots, or with ``--check`` compare them with the sources."""
    stale = []
    for path, text in render().items():
        if "--check" in arguments:
            stale += [] if path.exists() and path.read_text() == text else [path.name]
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            print(path.relative_to(_ROOT))
    if stale:
        print(f"Differ from the sources: {', '.join(stale)}. Run `python -m fedledger.contracts.compile`.")
    return 1 if stale else 0


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _signature(entry: dict[str, Any]) -> str:
    """Return one line that changes with whatever a caller could notice."""
    inputs = ", ".join(_parameter(item) for item in entry.get("inputs", ()))
    words = [f"{entry['type']} {entry.get('name', '')}".rstrip() + f"({inputs})"]
    words += [entry["stateMutability"]] if "stateMutability" in entry else []
    if entry.get("outputs"):
        words.append(f"returns ({', '.join(_parameter(item) for item in entry['outputs'])})")
    return " ".join(words)


def _parameter(item: dict[str, Any]) -> str:
    kind = str(item["type"])
    if kind.startswith("tuple"):
        kind = f"({', '.join(_parameter(part) for part in item['components'])}){kind[5:]}"
    return " ".join([kind, *(["indexed"] if item.get("indexed") else []), *filter(None, [item["name"]])])


def _storage(layout: dict[str, Any]) -> list[str]:
    """Return ``slot offset type label`` of every variable, and of every member of the structs among them."""
    types = layout["types"] or {}
    lines = [_place(variable, types) for variable in layout["storage"]]
    for kind in sorted(
        (found for found in types.values() if "members" in found), key=lambda found: str(found["label"])
    ):
        lines += ["", str(kind["label"]), *(_place(member, types) for member in kind["members"])]
    return lines


def _place(variable: dict[str, Any], types: dict[str, Any]) -> str:
    return f"{variable['slot']} {variable['offset']} {types[variable['type']]['label']} {variable['label']}"


def _artifact(name: str, output: dict[str, Any], digests: dict[str, str]) -> dict[str, Any]:
    contract = output["contracts"][f"contracts/src/{name}.sol"][name]
    references = contract["evm"]["deployedBytecode"]["immutableReferences"]
    places = [place for found in references.values() for place in found]
    settings = {key: value for key, value in SETTINGS.items() if key != "outputSelection"}
    return {
        "contractName": name,
        "abi": contract["abi"],
        "bytecode": "0x" + contract["evm"]["bytecode"]["object"],
        "deployedBytecode": "0x" + contract["evm"]["deployedBytecode"]["object"],
        "immutables": sorted(places, key=lambda place: int(place["start"])),
        "compiler": SOLC_VERSION,
        "settings": settings,
        "sources": digests,
    }


def _compiler() -> str:
    import solcx
    from solcx.exceptions import SolcNotInstalled

    try:
        return str(solcx.install.get_executable(SOLC_VERSION))
    except SolcNotInstalled:
        pass
    shim = _ROOT / "contracts" / "tools" / "solc"
    if shutil.which("node") is None or not (_ROOT / "node_modules" / "solc").exists():
        raise ConfigError(f"No Solidity compiler {SOLC_VERSION} was found.", "Run `npm ci` (needs Node 20 or later).")
    return str(shim)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
