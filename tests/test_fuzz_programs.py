"""Whatever a file that the command line reads holds, a command ends: with its result, or with one sentence.

Each mutant runs in a process of its own, with limits on time and memory. It must not end with a traceback, and must not
write anything outside of its folder. The mutants follow from their kind and number.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from fedledger.contracts.chain.development import running_chain
from support.examples import FUZZ, FUZZ_TIMES
from support.hostile_programs import KINDS, Bench, prepare, try_mutant
from support.programs import Programs
from support.quick import quick

QUICK = 20
"""Mutants of each kind."""
PATIENCE = 120.0
"""Seconds after which a command hangs: a hundred times as long as one takes, as others may use the machine, too."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_chain("anvil") as process, Programs() as programs:
        yield prepare(tmp_path_factory.mktemp("bench"), programs, process.url)


def faults(bench: Bench, kind: str, numbers: range) -> str:
    """Return what mutants did that they should not."""
    found = (try_mutant(bench, kind, number, PATIENCE)[0] for number in numbers)
    return "\n".join(str(finding) for finding in found if finding is not None)


SLOW = ("run_folder", "resumed", "stored_content")


@pytest.mark.hypothesis
@pytest.mark.parametrize("kind", quick(3, sorted(KINDS, key=SLOW.__contains__)))
def test_no_file_breaks_a_command(bench: Bench, kind: str) -> None:
    many = QUICK * (FUZZ_TIMES if settings.get_current_profile_name() == FUZZ else 1)
    assert faults(bench, kind, range(many)) == ""
