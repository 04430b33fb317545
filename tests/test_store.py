from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.protocol.encoding.cid import MAX_OBJECT_BYTES, ContentRef
from fedledger.protocol.errors import ContentCorruptError, ContentUnavailableError, StoreError
from fedledger.storage.durable_files import STALE_SECONDS
from fedledger.storage.local import LocalStore
from fedledger.storage.open import open_store
from support.examples import examples

WRITER = """
import sys
from pathlib import Path
from fedledger.storage.local import LocalStore
store = LocalStore(Path(sys.argv[1]))
print("ready", flush=True)
for i in range(10**9):
    store.put(i.to_bytes(8, "big") * 20_000)
"""
# Puts 200 000 bytes where a file may have 100 000: there the system refuses the write, or kills the writer.
CRAMPED = """
import resource, signal, sys
from pathlib import Path
from fedledger.protocol.errors import StoreError
from fedledger.storage.local import LocalStore
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
if sys.argv[2] == "killed":
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
try:
    LocalStore(Path(sys.argv[1])).put(bytes(200_000))
except StoreError as error:
    print(error.remedy)
"""


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def files(store: LocalStore) -> list[Path]:
    return [path for path in store.folder.rglob("*") if path.is_file()]


@examples(30)
@given(st.binary(max_size=200))
def test_what_was_put_is_got(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    store = LocalStore(tmp_path_factory.getbasetemp() / "shared")
    ref = store.put(data)
    assert ref == ContentRef.of(data)
    assert store.put(data) == ref
    assert store.has(ref)
    assert LocalStore(store.folder).get(ref, limit=len(data)) == data


def test_missing_content_is_unavailable(store: LocalStore) -> None:
    ref = ContentRef.of(b"never stored")
    assert not store.has(ref)
    for use in (store.get, store.pin):
        with pytest.raises(ContentUnavailableError, match="fetch it from"):
            use(ref)


def test_unpinned_content_goes(store: LocalStore) -> None:
    ref = store.put(b"content")
    store.pin(ref)
    store.unpin(ref)
    store.unpin(ref)
    assert not store.has(ref)


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b + b"!", lambda b: b"X" + b[1:], lambda b: b""])
def test_damage_is_noticed_and_repaired(store: LocalStore, damage) -> None:
    ref = store.put(b"some content")
    (path,) = files(store)
    path.write_bytes(damage(b"some content"))
    assert not store.has(ref)
    with pytest.raises(ContentCorruptError):
        store.get(ref)
    store.put(b"some content")
    assert store.get(ref) == b"some content"


def test_a_false_length_is_corrupt(store: LocalStore) -> None:
    ref = store.put(b"some content")
    for length in (ref.length - 1, ref.length + 1):
        with pytest.raises(ContentCorruptError):
            store.get(ContentRef(ref.digest, length))


def test_too_long_content_is_refused_unread(store: LocalStore) -> None:
    ref = store.put(b"some content")
    with pytest.raises(ContentUnavailableError, match="the limit is 11"):
        store.get(ref, limit=11)
    with pytest.raises(ContentUnavailableError, match=f"the limit is {MAX_OBJECT_BYTES}"):
        store.get(ContentRef(ref.digest, 2**62))


def test_a_writer_killed_at_any_moment_leaves_whole_files(tmp_path: Path) -> None:
    for delay in (0.0, 0.03, 0.07):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
    store = LocalStore(tmp_path)
    for path in files(store):
        if not path.name.startswith("."):
            store.get(ContentRef.parse(path.name, 160_000))
    for i in range(20):
        data = i.to_bytes(8, "big") * 20_000
        assert store.get(store.put(data)) == data


def test_a_writer_killed_in_the_middle_of_a_file_leaves_no_content(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CRAMPED, str(tmp_path), "killed"], check=False)
    assert done.returncode == -signal.SIGXFSZ
    store, ref = LocalStore(tmp_path), ContentRef.of(bytes(200_000))
    assert [path.stat().st_size for path in files(store)] == [100_000]
    assert not store.has(ref)
    assert store.get(store.put(bytes(200_000))) == bytes(200_000)


def test_only_stale_temporary_files_are_removed(store: LocalStore) -> None:
    store.put(b"content")
    (path,) = files(store)
    live, stale = path.with_name(".tmp-live"), path.with_name(".tmp-stale")
    for file in (live, stale):
        file.write_bytes(b"half of some con")
    long_ago = time.time() - 2 * STALE_SECONDS
    for file in (stale, path):
        os.utime(file, (long_ago, long_ago))
    assert set(files(LocalStore(store.folder))) == {path, live}


def test_many_may_put_at_once(store: LocalStore) -> None:
    contents = [bytes([i % 4]) * 300_000 for i in range(32)]
    with ThreadPoolExecutor(8) as pool:
        refs = list(pool.map(LocalStore(store.folder).put, contents))
    assert [store.get(ref) for ref in refs] == contents
    assert len(files(store)) == 4


def test_a_full_disk_leaves_nothing_and_names_the_remedy(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CRAMPED, str(tmp_path), "refused"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Free some space" in done.stdout
    assert not files(LocalStore(tmp_path))


def test_a_folder_that_cannot_be_made_names_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="Choose another folder"):
        open_store("local", tmp_path / "file")
