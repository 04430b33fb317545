"""Programs that see their own folders alone play a task together, and no row leaves its owner."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from support.consortium import Consortium, Member, consortium
from support.isolation import Walls, missing
from support.rows import files_with, row_forms, rows_elsewhere

LOOK = "import pathlib, sys; print(*pathlib.Path(sys.argv[1]).rglob('own.csv'))"
"""Lists the tables that a program can find in a folder."""

needs_walls = pytest.mark.skipif(missing() is not None, reason=f"programs cannot be kept apart here: {missing()}")


def tables_seen(member: Member) -> set[Path]:
    done = member.run(sys.executable, "-c", LOOK, str(member.folder.parents[1]))
    assert done.returncode == 0, done.stderr
    return {Path(path) for path in done.stdout.split()}


def require_rows_at_home(made: Consortium) -> None:
    """Fail if a row is anywhere but with its owner, or offered for validation and in the store."""
    for owner in made.owners:
        assert not rows_elsewhere(made.folder, owner.folder, schema=made.schema)
    publisher = made.publisher.folder
    assert not rows_elsewhere(made.folder, publisher, "training.csv", made.schema)
    offered = files_with(row_forms(publisher / "validation.csv", made.schema), made.folder, publisher)
    assert any(path.is_relative_to(made.store) for path in offered), "the search finds nothing"
    assert not any(path.is_relative_to(member.folder) for path in offered for member in made.members)


def test_owners_train_on_their_own_tables_and_no_row_leaves_them(tmp_path: Path) -> None:
    with consortium(tmp_path, 3, apart=missing() is None) as made:
        made.draft(challenge_window=0, penalty_gwei=0, rounds=2, max_participants=3)
        validation = made.publisher.json("task", "post", "task.toml")["validation"]
        assert validation["examples"] == 45 and min(validation["classes"].values()) > 5
        for number, owner in enumerate(made.owners):
            owner.take_part("--experiment-seed", 0, "--participant", number)
        done = made.aggregator.json("aggregator", "start", "--experiment-seed", 0, "--poll", 0.1)
        told = [owner.ended() for owner in made.owners]
        assert done["ended"] and done["rounds"] == 2
        assert all("updates were accepted" in each and "fedledger withdraw" in each for each in told)
        require_rows_at_home(made)


@needs_walls
def test_walls_leave_a_program_its_own_folder_alone(tmp_path: Path) -> None:
    for name in ("one", "two", "store"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "own.csv").touch()
    walls, folders = Walls(tmp_path, [tmp_path / "store"]), [tmp_path / name for name in ("one", "two")]
    apart = [Member(folder, [], walls) for folder in folders]
    for member in apart:
        assert tables_seen(member) == {member.folder / "own.csv", tmp_path / "store" / "own.csv"}
        # Nor does it see others' programs, through which it could see their folders.
        assert member.run("sh", "-c", "echo /proc/[0-9]*").stdout.split() == ["/proc/1"]
        assert member.run("sh", "-c", "umount -l . || touch /usr/bin/own || touch /etc/own").returncode != 0
    assert tmp_path / "two" / "own.csv" in tables_seen(Member(folders[0], []))
