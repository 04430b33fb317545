"""Walls between programs: each sees its own folder and the installed software, and nothing else of the machine.

Linux namespaces do it, without privileges. A program behind walls has a root of its own, in which others' folders do
not exist, processes of its own, and, with a :class:`Network`, an address of its own. It can undo none of that.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOLS = ("unshare", "nsenter", "mount", "setpriv")
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc")
DEVICES = ("null", "zero", "full", "random", "urandom")
FLAGS = {
    os.ST_NOSUID: "nosuid",
    os.ST_NODEV: "nodev",
    os.ST_NOEXEC: "noexec",
    os.ST_NOATIME: "noatime",
    os.ST_NODIRATIME: "nodiratime",
    os.ST_RELATIME: "relatime",
}
"""Flags of a mount that must stay when it is mounted again: without privileges nobody may take them away."""
BEHIND = ("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL")
BUILD = r"""
set -e
PATH=$PATH:/usr/sbin:/sbin
new=$1 folder=$2
shift 2
mount -t tmpfs -o mode=755 walls "$new"
mkdir "$new/proc" "$new/dev" "$new/dev/shm" "$new/tmp" "$new/old"
mount -t proc proc "$new/proc"
mount -t tmpfs shm "$new/dev/shm"
ln -s /proc/self/fd "$new/dev/fd"
while [ "$1" != -- ]; do
    kind=$1 path=$2 flags=$3
    shift 3
    case $kind in
    link) ln -s "$flags" "$new$path" ;;
    device) touch "$new$path" && mount --bind "$path" "$new$path" ;;
    software) mkdir -p "$new$path" && mount --rbind "$path" "$new$path" && mount -o "$flags" "$new$path" ;;
    hidden) { [ -d "$new$path" ] || mkdir -p "$new$path"; } && mount -t tmpfs hidden "$new$path" ;;
    own) mkdir -p "$new$path" && mount --bind "$path" "$new$path" ;;
    esac
done
shift
cd "$new"
pivot_root . old
umount -l /old
rmdir /old
cd "$folder"
exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"
"""
"""Builds a root of tmpfs, moves into it, leaves what was the root before, and gives up the right to do so again."""


@cache
def missing() -> str | None:
    """Return why there can be no walls on this machine; None if there can be."""
    lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
    if lacking:
        return f"there is no program {lacking[0]}"
    with tempfile.TemporaryDirectory() as folder:
        command = Walls(Path(folder)).around(Path(folder), ["true"])
        tried = subprocess.run(command, check=False, capture_output=True, text=True)
    return None if tried.returncode == 0 else f"no walls without privileges: {tried.stderr.strip()}"


@cache
def missing_network() -> str | None:
    """Return why there can be no network on this machine; None if there can be."""
    if shutil.which("ip") is None:
        return "there is no program ip"
    if missing() is not None:
        return missing()
    with tempfile.TemporaryDirectory() as folder:
        try:
            with network(["one"], 0.0, Path(folder)):
                return None
        except OSError as error:
            return f"no network without privileges: {error}"


@dataclass
class Network:
    """Machines with addresses of their own; see :mod:`support.network`.

    Parameters
    ----------
    program
        Carries the packets.
    addresses
        Of each machine, by its name.
    namespaces
        The network namespace of each, as a descriptor of the program.
    """

    program: subprocess.Popen[str]
    addresses: dict[str, str]
    namespaces: dict[str, int]

    def enter(self, name: str) -> list[str]:
        """Return the words before a command that make it run on a machine."""
        where = f"/proc/{self.program.pid}"
        inside = [f"--user={where}/ns/user", f"--net={where}/fd/{self.namespaces[name]}"]
        return ["nsenter", *inside, "--preserve-credentials", "--"]

    def part(self, *names: str) -> None:
        """Cut machines off from all others but each other, until :meth:`heal`."""
        self._order(" ".join(["part", *names]))

    def heal(self) -> None:
        """Connect all machines again."""
        self._order("heal")

    def _order(self, order: str) -> None:
        assert self.program.stdin is not None and self.program.stdout is not None
        self.program.stdin.write(f"{order}\n")
        self.program.stdin.flush()
        assert self.program.stdout.readline() == "done\n"


@contextmanager
def network(names: Sequence[str], delay: float, record: Path) -> Iterator[Network]:
    """Run a network of some machines, in which a packet takes ``delay`` seconds; ``record`` gets what they send.

    Raises
    ------
    OSError
        If this machine does not allow it.
    """
    command = ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-m", "support.network"]
    program = subprocess.Popen(
        [*command, *names, "--delay", str(delay), "--record", str(record)],
        cwd=ROOT / "tests",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdin is not None and program.stdout is not None and program.stderr is not None
    try:
        line = program.stdout.readline()
        if not line:
            raise OSError(program.stderr.read().strip().splitlines()[-1])
        made = json.loads(line)
        addresses, namespaces = ({name: made[name][part] for name in names} for part in (0, 1))
        yield Network(program, addresses, namespaces)
    finally:
        program.stdin.close()
        program.wait(timeout=30)
        program.stdout.close()
        program.stderr.close()


@dataclass
class Walls:
    """How programs of one consortium are kept apart.

    Parameters
    ----------
    hidden
        Folder of which a program sees only its own part.
    shared
        Folders in it that all programs see besides.
    network
        Machines on which they run; without it they share this machine's network.
    """

    hidden: Path
    shared: Sequence[Path] = ()
    network: Network | None = None

    def around(self, folder: Path, command: Sequence[str]) -> list[str]:
        """Return a command that runs another one behind walls, in its own folder; killing it kills the other one.

        The machine that it runs on, if there is a network, has the name of the folder.
        """
        enter = (
            ["unshare", "--user", "--map-root-user", "--"] if self.network is None else self.network.enter(folder.name)
        )
        point = self.hidden / "root"
        point.mkdir(exist_ok=True)
        parts = [*_system(), *(each for path in _software() for each in ("software", str(path), _read_only(path)))]
        parts += ["hidden", str(self.hidden), ""]
        for own in (folder, *self.shared):
            parts += ["own", str(own), ""]
        return [*enter, *BEHIND, "--", "sh", "-c", BUILD, "walls", str(point), str(folder), *parts, "--", *command]


@cache
def _system() -> list[str]:
    parts = []
    for name in SYSTEM:
        path = Path(name)
        if path.is_symlink():
            parts += ["link", name, str(path.readlink())]
        elif path.exists():
            parts += ["software", name, _read_only(path)]
    for name in DEVICES:
        parts += ["device", f"/dev/{name}", ""]
    return parts


@cache
def _software() -> list[Path]:
    """Return the folders in which fedledger, Python, its packages and Anvil are, without those within others."""
    found = {Path(path).resolve() for path in (sys.base_prefix, sys.prefix, *sys.path) if Path(path).is_dir()}
    found |= {ROOT, (ROOT / "node_modules").resolve()}
    system = [Path(name).resolve() for name in SYSTEM]
    return [
        path
        for path in sorted(found)
        if path.is_dir() and not any(path.is_relative_to(other) for other in (*system, *(found - {path})))
    ]


def _read_only(path: Path) -> str:
    flags = os.statvfs(path).f_flag
    return ",".join(["remount", "bind", "ro", *(name for flag, name in FLAGS.items() if flags & flag)])
