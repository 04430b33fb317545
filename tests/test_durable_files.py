"""Files that are made durable together."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.records import Transaction, load_account
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import StoreError
from fedledger.storage import durable_files
from fedledger.storage.durable_files import batched_writes
from fedledger.storage.local import LocalStore


def child(play: Callable[[], None]) -> int:
    """Run something in a forked process, and return its exit status as ``os.waitpid`` gives it."""
    pid = os.fork()
    if not pid:
        try:
            play()
        finally:
            os._exit(9)
    return os.waitpid(pid, 0)[1]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


class TestBatchedWrites:
    def test_what_is_held_is_seen_by_the_process_and_not_yet_on_the_disk(self, tmp_path: Path) -> None:
        path = tmp_path / "1.update"
        with batched_writes():
            durable_files.write_atomically(path, b"update")
            assert not path.exists() and names(tmp_path) == set()
            assert (
                durable_files.exists(path)
                and durable_files.read(path) == b"update"
                and durable_files.read(path, 2) == b"up"
            )
            assert (
                durable_files.listed(tmp_path, "*.update") == {path}
                and durable_files.listed(tmp_path, "*.state") == set()
            )
            durable_files.flush()
            assert path.read_bytes() == b"update"
            durable_files.write_atomically(path, b"another")
            assert durable_files.read(path) == b"another" and path.read_bytes() == b"update"
        assert path.read_bytes() == b"another" and names(tmp_path) == {"1.update"}

    def test_files_are_on_the_disk_before_they_have_their_names_and_folders_after_that(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        happened: list[str] = []
        fsync, replace = os.fsync, os.replace

        def synced(handle: int) -> None:
            target = Path(f"/proc/self/fd/{handle}").readlink()
            happened.append("folder" if target.is_dir() else f"sync {target.read_bytes().decode()}")
            fsync(handle)

        def named(path: str, target: str) -> None:
            happened.append(f"name {Path(path).read_bytes().decode()}")
            replace(path, target)

        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(os, "replace", named)
        with batched_writes():
            for name in "abc":
                durable_files.write_atomically(tmp_path / name, name.encode())
        assert sorted(happened) == ["folder", *(f"{what} {name}" for what in ("name", "sync") for name in "abc")]
        assert all(happened.index(f"sync {name}") < happened.index(f"name {name}") for name in "abc")
        assert happened[-1] == "folder", "once for all of them"

    def test_more_files_than_may_be_open(self, tmp_path: Path) -> None:
        many = 2 * durable_files.MOST_OPEN + 3
        with batched_writes():
            for number in range(many):
                durable_files.write_atomically(tmp_path / str(number), str(number).encode())
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
            str(number): str(number).encode() for number in range(many)
        }

    def test_a_line_follows_what_was_written_before_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        lines = tmp_path / "lines"

        def fail(handle: int) -> None:
            raise OSError(28, "No space left on device")

        with batched_writes():
            durable_files.write_atomically(tmp_path / "signed", b"digest")
            durable_files.append(lines, "taken\n")
            durable_files.append(lines, "and another\n")
            with monkeypatch.context() as patched:
                patched.setattr(os, "fsync", fail)
                with pytest.raises(StoreError, match="No space left") as raised:
                    durable_files.flush()
            assert "Free some space" in raised.value.remedy
            assert names(tmp_path) == set(), "neither the line, nor a file that may be cut off"
            assert durable_files.read(tmp_path / "signed") == b"digest"
        assert lines.read_text() == "taken\nand another\n"
        durable_files.append(lines, "without waiting\n")
        assert lines.read_text().endswith("without waiting\n")

    @pytest.mark.parametrize("batched", [True, False])
    def test_another_name_of_a_file_is_not_another_file(self, tmp_path: Path, batched: bool) -> None:
        one, other = tmp_path / "1.update", tmp_path / "signed"
        with batched_writes() if batched else nullcontext():
            durable_files.write_atomically(one, b"update")
            durable_files.link(other, one, b"update")
            assert durable_files.read(other) == b"update" and durable_files.exists(other)
            assert durable_files.listed(tmp_path, "*") == {one, other}
        assert other.samefile(one) and names(tmp_path) == {"1.update", "signed"}
        # Again, with what was there before, and in the place of something else.
        (tmp_path / "damaged").write_bytes(b"upd")
        with batched_writes() if batched else nullcontext():
            for name in ("signed", "damaged"):
                durable_files.link(tmp_path / name, one, b"update")
        assert all((tmp_path / name).samefile(one) for name in ("signed", "damaged"))
        assert names(tmp_path) == {"1.update", "signed", "damaged"}

    @pytest.mark.parametrize("batched", [True, False])
    def test_files_in_the_folder_where_one_is(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batched: bool
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with batched_writes() if batched else nullcontext():
            durable_files.write_atomically(Path("one"), b"update")
            durable_files.link("other", "one", b"update")
            assert durable_files.listed(Path(), "o*") == {Path("one"), Path("other")}
            durable_files.write_atomically("gone", b"")
            durable_files.remove("gone")
        assert names(tmp_path) == {"one", "other"} and Path("other").samefile("one")

    @pytest.mark.parametrize("flushed", [True, False])
    def test_another_name_stays_with_what_was_named(self, tmp_path: Path, flushed: bool) -> None:
        one, other = tmp_path / "1.update", tmp_path / "signed"
        with batched_writes():
            durable_files.write_atomically(one, b"update")
            if flushed:
                durable_files.flush()
            durable_files.link(other, one, b"update")
            durable_files.write_atomically(one, b"made again")
        assert one.read_bytes() == b"made again" and other.read_bytes() == b"update"
        with batched_writes():
            durable_files.link(other, one, b"made again")
            durable_files.write_atomically(other, b"something else")
        assert one.read_bytes() == b"made again" and other.read_bytes() == b"something else"

    @pytest.mark.parametrize("batched", [True, False])
    def test_where_files_have_one_name_only_another_is_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batched: bool
    ) -> None:
        def refuse(source: str, path: str) -> None:
            raise OSError(18, "Invalid cross-device link")

        monkeypatch.setattr(os, "link", refuse)
        one, other = tmp_path / "1.update", tmp_path / "signed"
        with batched_writes() if batched else nullcontext():
            durable_files.write_atomically(one, b"update")
            durable_files.link(other, one, b"update")
        assert other.read_bytes() == b"update" and not other.samefile(one)
        assert names(tmp_path) == {"1.update", "signed"}

    def test_a_name_that_could_not_be_given_is_given_later(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(handle: int) -> None:
            raise OSError(28, "No space left on device")

        one, other = tmp_path / "1.update", tmp_path / "signed"
        with batched_writes():
            durable_files.write_atomically(one, b"update")
            durable_files.link(other, one, b"update")
            with monkeypatch.context() as patched, pytest.raises(StoreError, match="No space left"):
                patched.setattr(os, "fsync", fail)
                durable_files.flush()
            assert names(tmp_path) == set() and durable_files.read(other) == b"update"
        assert one.read_bytes() == other.read_bytes() == b"update" and names(tmp_path) == {"1.update", "signed"}

    def test_one_in_another_changes_nothing(self, tmp_path: Path) -> None:
        with batched_writes():
            with batched_writes():
                durable_files.write_atomically(tmp_path / "a", b"a")
            assert not (tmp_path / "a").exists()
        assert (tmp_path / "a").exists()

    def test_what_is_held_is_written_whatever_ends_it(self, tmp_path: Path) -> None:
        with pytest.raises(KeyError), batched_writes():
            durable_files.write_atomically(tmp_path / "a", b"a")
            raise KeyError
        assert (tmp_path / "a").read_bytes() == b"a"
        durable_files.write_atomically(tmp_path / "b", b"b")
        assert (tmp_path / "b").exists(), "nothing is held any more"

    def test_not_too_much_is_held(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(durable_files, "MAX_BATCH_BYTES", 10)
        with batched_writes():
            durable_files.write_atomically(tmp_path / "a", b"123456")
            assert not (tmp_path / "a").exists()
            durable_files.write_atomically(tmp_path / "b", b"123456")
            assert names(tmp_path) == {"a", "b"}

    def test_a_forked_process_takes_no_part(self, tmp_path: Path) -> None:
        def play() -> None:
            durable_files.flush()
            durable_files.write_atomically(tmp_path / "its own", b"at once")
            os.kill(os.getpid(), signal.SIGKILL)

        with batched_writes():
            durable_files.write_atomically(tmp_path / "held", b"held")
            assert os.WTERMSIG(child(play)) == signal.SIGKILL
            assert names(tmp_path) == {"its own"}

    def test_who_is_killed_leaves_files_whole_or_not_at_all(self, tmp_path: Path) -> None:
        data = bytes(100_000)

        def play() -> None:
            with batched_writes():
                for number in range(100_000):
                    durable_files.write_atomically(tmp_path / str(number), data)
                    if number == 3:
                        durable_files.flush()
                    if number == 6:
                        os.kill(os.getpid(), signal.SIGKILL)

        assert os.WTERMSIG(child(play)) == signal.SIGKILL
        assert names(tmp_path) == {"0", "1", "2", "3"}
        assert all(path.read_bytes() == data for path in tmp_path.iterdir())


class TestStore:
    def test_content_is_held_and_found(self, tmp_path: Path) -> None:
        store = LocalStore(tmp_path)
        with batched_writes():
            ref = store.put(b"content")
            assert store.has(ref) and store.get(ref) == b"content" and store.put(b"content") == ref
            assert not Path(LocalStore(tmp_path)._path(ref)).exists()
            store.unpin(ref)
            assert not store.has(ref)
            store.put(b"content")
        assert LocalStore(tmp_path).get(ContentRef.of(b"content")) == b"content"

    def test_content_is_on_the_disk_before_a_transaction_can_name_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        chain, account = Chain(), load_account(b"\1" * 32)
        chain.fund(account.address, 10**18)
        store = LocalStore(tmp_path)
        there: list[bool] = []
        request = chain.connection.request

        def requested(method: str, params: list[Any]) -> Any:
            if method == "eth_sendRawTransaction":
                there.append(Path(store._path(ref)).exists())
            return request(method, params)

        monkeypatch.setattr(chain.connection, "request", requested)
        with batched_writes():
            ref = store.put(b"content")
            assert not Path(store._path(ref)).exists()
            chain.send(Transaction(account, account.address, ref.digest))
        assert there == [True]


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_line_that_a_kill_has_cut_off_spoils_no_later_one(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "lines"
    durable_files.append(path, "first\n")
    durable_files.append(path, "second line\n")
    with path.open("r+b") as file:
        file.truncate(len(b"first\nsecond line\n") - cut)
    for text in ("third\n", "fourth\n"):
        durable_files.append(path, text)
    rest = "second line"[: len("second line") + 1 - cut]
    assert path.read_text() == f"first\n{rest}\nthird\nfourth\n".replace("\n\n", "\n")
