"""Compile the contracts and keep their artifacts: ``python -m fedledger.contracts.compile [--check]``."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import shutil
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fedledger.protocol.errors import ConfigError

SOLC_VERSION = "0.8.37"
CONTRACTS = ("FedLedger", "LedgerAccounts", "LedgerCourt")
VERSION = 2
"""The ledger's version (``protocolVersion`` of the contract) that this release deploys; it reads earlier ones, too."""
ARTIFACTS = Path(__file__).with_name("artifacts")
SETTINGS: dict[str, Any] = {
    "optimizer": {"enabled": True, "runs": 200},
    "viaIR": True,
    "evmVersion": "shanghai",
    "metadata": {"bytecodeHash": "none", "appendCBOR": False},
    "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object", "evm.deployedBytecode"]}},
}
_ROOT = Path(__file__).resolve().parents[3]


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


@cache
def load_artifact(name: str, version: int = VERSION) -> Artifact:
    """Return the committed artifact of a contract; those of earlier ledger versions are kept for ever."""
    folder = ARTIFACTS if version == VERSION else ARTIFACTS / f"v{version}"
    document = json.loads((folder / f"{name}.json").read_text())
    places = tuple((place["start"], place["length"]) for place in document["immutables"])
    return Artifact(
        name, document["abi"], document["bytecode"], document["deployedBytecode"], places, document["compiler"]
    )


def compile_contracts() -> dict[str, dict[str, Any]]:
    """Compile the sources through py-solc-x and return the artifacts by contract name.

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
    return {name: _artifact(name, output, digests) for name in CONTRACTS}


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
    """Write the artifacts, or with ``--check`` compare them with the sources."""
    compiled = compile_contracts()
    stale = []
    for name, artifact in compiled.items():
        path = ARTIFACTS / f"{name}.json"
        text = json.dumps(artifact, indent=1, sort_keys=True) + "\n"
        if "--check" in arguments:
            stale += [] if path.exists() and path.read_text() == text else [name]
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        size = len(artifact["deployedBytecode"]) // 2 - 1
        print(f"{name}: {size:,} bytes deployed")
    if stale:
        print(f"Artifacts differ from the sources: {', '.join(stale)}. Run `python -m fedledger.contracts.compile`.")
    return 1 if stale else 0


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
