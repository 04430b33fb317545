"""Run Slither over the contracts: ``python contracts/tools/slither_check.py``.

Fails on every finding of high or medium impact; one that is no fault is explained and switched off in the source.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from fedledger.contracts.compile import SETTINGS, SOLC_VERSION, source_files

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "contracts" / "slither"
SERIOUS = ("High", "Medium")


def main() -> int:
    """Print the findings, the serious ones in full, and return 1 if there is a serious one."""
    prepare()
    findings = analyse()
    serious = [finding for finding in findings if finding["impact"] in SERIOUS]
    for finding in serious:
        print(f"{finding['impact']} {finding['check']}: {finding['description']}")
    print(f"{len(serious)} findings of high or medium impact, {len(findings) - len(serious)} lesser ones.")
    return 1 if serious else 0


def prepare() -> None:
    """Lay out what Slither takes for a compiled Hardhat project, so that it needs no native compiler."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    sources = {}
    for name, file in source_files().items():
        sources[name] = {"content": file.read_text()}
        copy = FOLDER / ("node_modules" if name.startswith("@") else "") / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(file.read_text())
    wanted = {"": ["ast"], "*": ["abi", "evm.bytecode", "evm.deployedBytecode"]}
    settings = SETTINGS | {"outputSelection": {"*": wanted}}
    document = {"language": "Solidity", "sources": sources, "settings": settings}
    build = {"solcVersion": SOLC_VERSION, "input": document, "output": _compile(document)}
    target = FOLDER / "artifacts" / "build-info" / "fedledger.json"
    target.parent.mkdir(parents=True)
    target.write_text(json.dumps(build))
    (FOLDER / "hardhat.config.js").touch()


def analyse() -> list[dict[str, Any]]:
    """Run Slither in the prepared folder and return its findings.

    Raises
    ------
    RuntimeError
        If Slither itself fails.
    """
    options = ["--compile-force-framework", "hardhat", "--hardhat-ignore-compile", "--exclude-dependencies"]
    slither = str(Path(sys.executable).with_name("slither"))
    done = subprocess.run(
        [slither, ".", *options, "--json", "-"], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    try:
        report = json.loads(done.stdout)
    except ValueError as error:
        raise RuntimeError(f"Slither failed: {done.stderr}") from error
    if not report["success"]:
        raise RuntimeError(f"Slither failed: {report['error']}")
    findings: list[dict[str, Any]] = report["results"].get("detectors", [])
    return findings


def _compile(document: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [str(ROOT / "contracts" / "tools" / "solc"), "--standard-json"],
        input=json.dumps(document),
        capture_output=True,
        text=True,
        check=True,
    )
    output: dict[str, Any] = json.loads(done.stdout)
    errors = [entry["formattedMessage"] for entry in output.get("errors", []) if entry["severity"] == "error"]
    if errors:
        raise RuntimeError("\n".join(errors))
    return output


if __name__ == "__main__":
    sys.exit(main())
