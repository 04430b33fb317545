"""Every rule of opinions and scores is tested: the tests in Solidity find a ledger that has one of them wrong."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from support.documents import ROOT
from support.mutants import compiled, names

CHANGES = [
    # The call.
    ("LedgerScores", "words[i] & ~selected != 0 ||", "(words[i] & ~selected != 0 && !<anybody is listed>) ||"),
    (
        "LedgerScores",
        "|| present & ~words[i] != 0)",
        "|| (present & ~words[i] != 0 && !<who revealed is left out>))",
    ),
    ("LedgerScores", "if (word == 0 || (i > 0", "if ((word == 0 && !<others have words>) || (i > 0"),
    ("LedgerScores", "if (count > head.committed())", "if (count > head.committed() && !<more than committed>)"),
    (
        "LedgerScores",
        "count != head.committed() && _revealsOpen",
        "count != head.committed() && !<called before the reveals> && _revealsOpen",
    ),
    # The draw.
    ("LedgerScores", "if (block.number <= s.drawBlock)", "if (block.number <= s.drawBlock && !<drawn at once>)"),
    ("LedgerScores", "if (seed != bytes32(0))", "if (seed != bytes32(0) || <drawn without a hash>)"),
    ("LedgerScores", "if (pool != 0) ++_undrawn", "if (pool != 0 && !<verifiers move before it>) ++_undrawn"),
    (
        "LedgerScores",
        "d.verifiers ? s.pool :",
        "d.verifiers ? (<who comes later is drawn> ? _pools[task_].length : s.pool) :",
    ),
    ("LedgerScores", "if (stained && _isPassedOver", "if (stained && !<nobody is passed over> && _isPassedOver"),
    # Commitments.
    (
        "LedgerScores",
        "(signing.committed >> place) & 1 != 0)",
        "(signing.committed >> place) & 1 != 0 && !<committed twice>)",
    ),
    (
        "LedgerScores",
        "return _signerIn(signing.domain",
        "return <anybody signs> || _signerIn(signing.domain",
    ),
    # The tally.
    (
        "LedgerScores",
        "if (s.revealed & ~tally.places != 0)",
        "if (s.revealed & ~tally.places != 0 && !<reveals are left out>)",
    ),
    ("LedgerScores", "bool closed = _allCommitted(s)", "bool closed = <before all have committed> || _allCommitted(s)"),
    (
        "LedgerScores",
        "if (block.timestamp < from) revert NotInTime(from, type",
        "if (block.timestamp < from && !<before the time is over>) revert NotInTime(from, type",
    ),
    (
        "LedgerScores",
        "_erase(tally, row, wordIndices, id);",
        "if (!<a scorer scores itself>) _erase(tally, row, wordIndices, id);",
    ),
    ("LedgerScores", "(column, tally.barred[i],", "(column, <all scorers are asked> ? 0 : tally.barred[i],"),
    ("LedgerScores", "if (owned[j] == known)", "if (owned[j] == known && !<who is named again counts again>)"),
    (
        "LedgerScores",
        "if (known == 0 || known == uint256(id) + 1",
        "if (<recommenders are scored by friends> || known == 0 || known == uint256(id) + 1",
    ),
    ("LedgerScores", "if (tally.count < LEAST_MEDIAN)", "if (tally.count < LEAST_MEDIAN && !<two medians decide>)"),
    (
        "LedgerScores",
        "(verdict, silent) = (Verdicts.FIRST_STATISTICAL,",
        "(verdict, silent) = (<silence is as good> ? Verdicts.ACCEPTED : Verdicts.FIRST_STATISTICAL,",
    ),
    (
        "LedgerScores",
        "if (verdict == Verdicts.ACCEPTED && (stained",
        "if (verdict == Verdicts.ACCEPTED && !<the clean are written> && (stained",
    ),
    # The proposal.
    (
        "FedLedger",
        "wrong |= Lanes.equal(verdicts, Verdicts.ACCEPTED) & outvoted;",
        "if (!<the outvoted are accepted>) wrong |= Lanes.equal(verdicts, Verdicts.ACCEPTED) & outvoted;",
    ),
    (
        "FedLedger",
        "wrong |= Lanes.equal(verdicts, Verdicts.OUTVOTED) & ~outvoted;",
        "if (!<anybody is outvoted>) wrong |= Lanes.equal(verdicts, Verdicts.OUTVOTED) & ~outvoted;",
    ),
    ("FedLedger", "|| !s.tallied)", "|| (!s.tallied && !<proposed before the tally>))"),
    (
        "FedLedger",
        "if (batched && s.updates != updates)",
        "if (batched && s.updates != updates && !<other updates are proposed>)",
    ),
    # Opinions.
    (
        "LedgerOpinions",
        "if (recommenders[i] == publisher)",
        "if (recommenders[i] == publisher && !<its word twice>)",
    ),
    (
        "LedgerOpinions",
        "if (recommenders[i] == recommenders[j])",
        "if (recommenders[i] == recommenders[j] && !<one is heard twice>)",
    ),
    (
        "FedLedger",
        "_judgedToday(s.publisher, s.word).value |= s.judged;",
        "if (!<rounds have no age>) _judgedToday(s.publisher, s.word).value |= s.judged;",
    ),
]
NAMES = names(CHANGES)


@pytest.fixture(scope="module")
def mutants(root: Path) -> Path:
    """Where the tests in Solidity find the ledger with all changes."""
    folder = root / "contracts" / "out" / "mutants"
    folder.mkdir(parents=True, exist_ok=True)
    for artifact in compiled(CHANGES):
        (folder / f"{artifact.name}.json").write_text(json.dumps({"bytecode": artifact.bytecode}))
    return folder


def passes(root: Path, folder: Path, number: int) -> bool:
    """Whether the tests in Solidity pass with a mutant; 0: none."""
    tests = ["--match-contract", "^(ScoringTest|ScoringAttacksTest|VerifiersScoreTest|OpinionsTest)$"]
    command = [ROOT / "contracts" / "tools" / "forge", "test", *tests]
    wrong = {"LEDGER_ARTIFACTS": str(folder.relative_to(root)), "LEDGER_MUTANT": str(number)}
    environment = {**os.environ, **wrong, "FOUNDRY_FUZZ_RUNS": "16"}
    environment |= {"FOUNDRY_CODE_SIZE_LIMIT": "65536", "FORGE_SNAPSHOT_EMIT": "false"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert "Ran " in done.stdout, f"the tests have not run: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.returncode == 0


@pytest.mark.long
def test_without_a_mutant_nothing_has_changed(root: Path, mutants: Path) -> None:
    assert passes(root, mutants, 0)


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_rule_is_found(name: str, root: Path, mutants: Path) -> None:
    assert not passes(root, mutants, NAMES.index(name) + 1)
