"""Programs that see their own folders alone play a task together, and no row leaves its owner."""

from __future__ import annotations

import json
import socket
import sys
import time
from pathlib import Path

import pytest

from support.consortium import KEY, Consortium, Member, consortium, machines, write_tables
from support.isolation import Walls, missing, missing_network, network
from support.rows import files_with, outside, row_forms

LOOK = "import pathlib, sys; print(*pathlib.Path(sys.argv[1]).rglob('own.csv'))"
"""Lists the tables that a program can find in a folder."""
REACH = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1)"
FETCH = """
import sys, urllib.request
print(urllib.request.urlopen(f"http://{sys.argv[1]}:{sys.argv[2]}/served").read().decode(), end="")
"""
PORT = 8080

needs_walls = pytest.mark.skipif(missing() is not None, reason=f"programs cannot be kept apart here: {missing()}")
needs_machines = pytest.mark.skipif(missing_network() is not None, reason=f"no machines here: {missing_network()}")


def tables_seen(member: Member) -> set[Path]:
    done = member.run(sys.executable, "-c", LOOK, str(member.folder.parents[1]))
    assert done.returncode == 0, done.stderr
    return {Path(path) for path in done.stdout.split()}


def reaches(member: Member, address: str, port: int) -> bool:
    return member.run(sys.executable, "-c", REACH, address, str(port)).returncode == 0


def require_rows_at_home(made: Consortium) -> None:
    """Fail if a row is anywhere but with its owner, or offered for validation and in the store."""
    publisher = made.publisher.folder
    private = {owner.folder: row_forms(owner.folder / "own.csv", made.schema) for owner in made.owners}
    private[publisher] = row_forms(publisher / "training.csv", made.schema)
    offered = row_forms(publisher / "validation.csv", made.schema)
    # Most files have no row at all, and are searched once.
    files = files_with(offered.union(*private.values()), made.folder.rglob("*"))
    for owner, rows in private.items():
        assert files_with(rows, outside(files, owner)) == []
    shown = files_with(offered, outside(files, publisher))
    assert any(path.is_relative_to(made.store) for path in shown), "the search finds nothing"
    assert not any(path.is_relative_to(member.folder) for path in shown for member in made.members)


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


def test_a_row_is_found_wherever_it_is_and_nothing_else(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    write_tables(folders)
    rows, others = (row_forms(folder / "own.csv") for folder in folders)
    for number, row in enumerate(rows):
        (tmp_path / f"{number}").write_bytes(b"." * (number % 9) + (row.hex().encode() if number % 2 else row) + b".")
    files = outside(tmp_path.glob("*"), folders[0])
    assert len(files_with(rows, files)) == len(rows) > 300 and not files_with(others, files)


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


@needs_machines
def test_machines_reach_each_other_as_far_and_as_fast_as_the_network_lets_them(tmp_path: Path) -> None:
    names = ["one", "two", "three"]
    for name in [*names, "wire"]:
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "served").write_text("what one has")
    with network(names, 0.05, tmp_path / "wire") as net:
        one, two, three = (Member(tmp_path / name, [], Walls(tmp_path, network=net)) for name in names)
        one.command = [sys.executable, "-m", "http.server", "--bind", net.addresses["one"], str(PORT)]
        one.start()
        try:
            while not reaches(one, net.addresses["one"], PORT):
                time.sleep(0.05)
            assert two.run(sys.executable, "-c", FETCH, net.addresses["one"], str(PORT)).stdout == "what one has"
            began = time.monotonic()
            assert reaches(three, net.addresses["one"], PORT) and time.monotonic() > began + 0.1
            net.part("one", "two")
            assert reaches(two, net.addresses["one"], PORT) and not reaches(three, net.addresses["one"], PORT)
            net.heal()
            assert reaches(three, net.addresses["one"], PORT)
            with socket.create_server(("127.0.0.1", 0)) as outside:
                where = outside.getsockname()
                assert reaches(Member(tmp_path / "two", []), *where) and not reaches(two, *where)
        finally:
            one.kill()
    assert b"what one has" in (tmp_path / "wire" / "one-two").read_bytes()


ROUNDS = 20
TERMS = {
    **{"rounds": ROUNDS, "standbys": 1, "max_participants": 4, "min_participants": 2, "open_enrolment": "true"},
    **{"enrol_period": 90, "commit_period": 8, "reveal_period": 8, "propose_period": 6, "grace_period": 4},
    **{"challenge_window": 2},
}
"""Short, so that 20 rounds take minutes; programs on a busy machine meet them nevertheless."""
BOND, DELAY = 10**16, 0.02
"""Wei that an aggregator deposits; seconds that a packet takes."""


def until(member: Member, text: str, seconds: float = 240.0) -> None:
    """Wait until a member's log has a text."""
    deadline = time.monotonic() + seconds
    while text not in (member.folder / "log").read_text():
        assert member.program is not None and member.program.poll() is None, (member.folder / "log").read_text()
        assert time.monotonic() < deadline, f"{member.folder.name} never told {text!r}"
        time.sleep(0.1)


def begin(made: Consortium, batched: bool) -> int:
    """Post the task, start all programs but that of the owner who joins late, and return the budget in wei."""
    assert made.net is not None
    made.draft(**TERMS, batched=str(batched).lower())
    seats = [made.aggregator, made.others["standby"]]
    named = ("--aggregator", seats[0].address, "--standby", seats[1].address)
    posted = made.publisher.json("task", "post", "task.toml", *KEY, *named)
    made.others["verifier"].start("verifier", "start", *KEY)
    for seat in seats:
        seat.start("aggregator", "start", *KEY, "--listen", f"{made.net.addresses[seat.folder.name]}:8700")
    _, late, *_ = made.owners
    for owner in made.owners:
        if owner is not late:
            owner.take_part(*KEY)
    return int(posted["budget"])


def play(made: Consortium) -> None:
    """Play 20 rounds in which machines die, are cut off, come late and leave."""
    assert made.net is not None
    steady, late, leaver, gone = made.owners
    until(steady, "round 3: committed")
    late.take_part(*KEY)
    until(late, ": committed")
    late.kill()
    until(steady, "round 7: committed")
    late.start()
    until(made.aggregator, "round 9: opened")
    made.aggregator.kill()
    until(steady, "round 12: committed")
    made.net.part("owner2", "verifier")
    chain = made.net.addresses["chain"]
    assert not reaches(leaver, chain, 8545) and reaches(steady, chain, 8545)
    time.sleep(8)
    made.net.heal()
    until(leaver, "round 14: revealed")
    leaver.cli("node", "leave", *KEY, *leaver.ledger, where=False)
    until(gone, "round 15: revealed")
    gone.kill()
    leaver.ended()
    for member in (steady, late, made.others["standby"]):
        member.ended(300)


def require_expected(made: Consortium, budget: int) -> None:
    """Fail unless everybody was asked while it took part, missed what it missed, and all money is where it belongs."""
    rounds = made.publisher.json("history")
    asked = [each["selected"] for each in rounds]
    assert sum(each["status"] == "settled" for each in rounds) == ROUNDS
    assert (asked[0], max(asked), asked[-1]) == (3, 4, 3)
    found = {each["address"]: each for each in made.publisher.json("history", "--participants")}
    steady, late, leaver, gone = (found[owner.address] for owner in made.owners)
    total = {each["address"]: each["accepted"] + sum(each["refused"].values()) for each in found.values()}
    assert total[steady["address"]] == total[gone["address"]] == ROUNDS and steady["accepted"] >= ROUNDS - 2
    assert gone["refused"]["missed"] >= ROUNDS - 16
    assert 10 <= total[late["address"]] < ROUNDS and 14 <= total[leaver["address"]] < ROUNDS
    audited = made.publisher.json("audit")
    assert audited["reproduced"] and audited["measured"] and audited["rounds"] == ROUNDS
    paid = {member.folder.name: withdrawn(member) for member in made.members}
    assert sum(paid[owner.folder.name] for owner in made.owners) + paid["publisher"] == budget
    assert all(paid[owner.folder.name] > 0 for owner in made.owners)
    # The standby has its own deposit, and half of that of the aggregator who did not come back.
    assert (paid["aggregator"], paid["standby"]) == (0, 3 * BOND // 2)


def withdrawn(member: Member) -> int:
    """Withdraw what a member is owed, and return how many wei that was."""
    document = json.loads(member.cli("withdraw", *KEY, *member.ledger, "--format", "json", where=False))
    return int(document["balance"]) + sum(int(credit["wei"]) for credit in document["credits"])


@pytest.mark.long
@needs_machines
@pytest.mark.parametrize("batched", [False, True])
def test_owners_on_machines_of_their_own_play_twenty_rounds_and_no_row_leaves_them(
    tmp_path: Path, batched: bool
) -> None:
    with machines(tmp_path, 4, ["standby", "verifier"], DELAY) as made:
        for member in made.members:
            assert tables_seen(member) <= {member.folder / "own.csv"}
        budget = begin(made, batched)
        play(made)
        require_expected(made, budget)
        require_rows_at_home(made)
        for member in made.members:
            assert "Traceback" not in "".join(path.read_text() for path in member.folder.glob("log"))
