"""A ledger in which chosen rules are wrong, one at a time: a word of its storage says which.

A change is a contract, what it says once, and what a mutant says; where ``<a name>`` stands, that is whether the
ledger is the mutant of this name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from fedledger.contracts.compile import PARTS, SETTINGS, VERSION, Artifact, _compiler, source_files

Change = tuple[str, str, str]
SLOT = 2**255
NAME = r"<([a-z][a-z ,]+)>"
SWITCH = f"""
    function _is(uint256 mutant) internal view returns (bool) {{
        uint256 found;
        assembly ("memory-safe") {{ found := sload({SLOT}) }}
        return found == mutant;
    }}
}}
"""


def names(changes: Sequence[Change]) -> list[str]:
    """Return the names of all mutants; the number of the first one is 1."""
    return [name for _, _, new in changes for name in re.findall(NAME, new)]


def compiled(changes: Sequence[Change]) -> tuple[Artifact, ...]:
    """Compile the ledger with all changes; without a word in its storage it is the ledger itself.

    Raises
    ------
    AssertionError
        If a contract does not say once what a change is of.
    """
    import solcx

    known = names(changes)
    sources = {name: file.read_text() for name, file in source_files().items()}
    for contract, old, new in changes:
        path = f"contracts/src/{contract}.sol"
        assert sources[path].count(old) == 1, f"{contract} does not say {old!r} once"
        sources[path] = sources[path].replace(old, re.sub(NAME, lambda m: f"_is({known.index(m[1]) + 1})", new))
    state = "contracts/src/LedgerState.sol"
    sources[state] = sources[state].rstrip().removesuffix("}") + SWITCH
    document = {
        "language": "Solidity",
        "sources": {name: {"content": text} for name, text in sources.items()},
        "settings": SETTINGS,
    }
    return tuple(_artifacts(solcx.compile_standard(document, solc_binary=_compiler())))


def _artifacts(output: dict[str, Any]) -> Iterator[Artifact]:
    for name in PARTS[VERSION]:
        found = output["contracts"][f"contracts/src/{name}.sol"][name]
        code = found["evm"]["bytecode"]["object"], found["evm"]["deployedBytecode"]["object"]
        yield Artifact(name, found["abi"], "0x" + code[0], "0x" + code[1], (), "")
