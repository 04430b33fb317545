"""Other releases of Python and of libraries than the repository's own, each in a folder that is kept between runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".venv-releases"
SOURCES = os.pathsep.join([str(ROOT / "tests"), *sorted(str(each.parent) for each in ROOT.glob("*/fedledger"))])
NEEDED = ("coincurve", "eth-utils", "numpy", "pycryptodome", "pydantic", "rfc8785", "safe-pysha3", "torch")
"""What `support.replayable` imports, and what that imports."""
TORCH_NEEDS = ("filelock", "fsspec", "jinja2", "networkx", "sympy", "typing-extensions")
FREE = 8 << 30
"""Bytes of disk: torch with CUDA and half as much again."""
PIP = ("-m", "pip", "install", "--quiet", "--no-cache-dir", "--no-compile", "--only-binary=:all:")
DEBIANS = ("python3-minimal", "libpython3-stdlib", "libstdc++6")
"""Of these, and what they depend on, is an emulated interpreter made."""


@dataclass(frozen=True)
class Interpreter:
    """A command that runs Python, and the environment variables with which it finds a release's libraries."""

    command: list[str]
    settings: dict[str, str] = field(default_factory=lambda: {"PYTHONPATH": SOURCES})


def lowest() -> dict[str, str]:
    """Return the lowest versions that pyproject.toml allows, and for what it does not name those of the lock file."""
    bounds = re.findall(r'^ +"([\w-]+)>=([\d.]+)', (ROOT / "pyproject.toml").read_text(), re.M)
    return locked() | {name: version for name, version in bounds if name in NEEDED}


def locked() -> dict[str, str]:
    """Return the versions of the lock file."""
    found = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "requirements.lock").read_text(), re.M))
    return {name: found[name] for name in NEEDED}


def run(*command: str | Path) -> str:
    """Return what a command writes; a failure says the last lines of its errors."""
    parts = [str(part) for part in command]
    made = subprocess.run(parts, check=False, capture_output=True, text=True, timeout=600)
    if made.returncode:
        raise RuntimeError(f"{' '.join(parts)} failed:\n{made.stderr[-2000:]}")
    return made.stdout


def kept(name: str, contents: list[str], make: Callable[[Path], None]) -> Path:
    """Return the folder of that name, made unless it is whole and of these contents.

    A full disk skips the test, and so does an index that does not have what is asked for, or cannot be reached.
    """
    folder = FOLDER / name
    stamp, text = folder / "contents.txt", "\n".join(contents)
    if not stamp.exists() or stamp.read_text() != text:
        shutil.rmtree(folder, ignore_errors=True)
        if shutil.disk_usage(ROOT).free < FREE:
            pytest.skip(f"less than {FREE >> 30} GiB of disk are free")
        folder.mkdir(parents=True)
        try:
            make(folder)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            shutil.rmtree(folder, ignore_errors=True)
            pytest.skip(f"the environment cannot be made here: {error}")
        stamp.write_text(text)
    return folder


def requirements(versions: dict[str, str]) -> list[str]:
    return [f"{name}=={version}" for name, version in versions.items()]


def environment(name: str, python: str, versions: dict[str, str]) -> Interpreter:
    """Return the interpreter of an environment with these versions.

    TORCH_INDEX has the meaning that it has in the Makefile.
    """
    wanted = requirements(versions)

    def make(folder: Path) -> None:
        run(python, "-m", "venv", folder)
        install = (folder / "bin" / "python", *PIP)
        if index := os.environ.get("TORCH_INDEX"):
            run(*install, "--index-url", index, f"torch=={versions['torch']}")
        run(*install, *wanted)

    about = run(python, "-c", "import sys; print(sys.version, sys.base_prefix)")
    return Interpreter([str(kept(name, [about, *wanted], make) / "bin" / "python")])


def another_python() -> str:
    """Return the newest interpreter of another release than this one; without any, skip the test."""
    names = [f"python3.{minor}" for minor in (13, 12, 11) if minor != sys.version_info.minor]
    for name in names:
        # Who keeps several releases often keeps them beside each other, and not all of them in the path.
        beside = sorted(map(str, Path(sys.base_prefix).parent.glob(f"*/bin/{name}")))
        for path in [shutil.which(name), *beside]:
            probe = [path or "", "-c", "import ensurepip, venv"]
            if path and not subprocess.run(probe, check=False, capture_output=True).returncode:
                return path
    pytest.skip(f"no {', '.join(names)} that makes environments is here")


def emulator() -> str:
    """Return a program that runs those of 64-bit ARM; without any, skip the test."""
    for name in ("qemu-aarch64-static", "qemu-aarch64"):
        if path := shutil.which(name):
            return path
    pytest.skip("no qemu-aarch64-static (Debian's package qemu-user-static)")


def unpack_debian_python(folder: Path) -> None:
    """Unpack Debian's Python for 64-bit ARM, without a word to the machine's own list of packages."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        pytest.skip("no apt-get and dpkg-deb, which have a Python for 64-bit ARM")
    apt = folder / "apt"
    for each in ("lists/partial", "archives/partial"):
        (apt / each).mkdir(parents=True)
    (apt / "status").touch()
    places = {"State::Lists": "lists", "State::Status": "status", "Cache": ".", "Cache::Archives": "archives"}
    options = [f"-oDir::{key}={apt / place}" for key, place in places.items()]
    options += ["-oAPT::Architecture=arm64", "-oAPT::Architectures=arm64", "-oDebug::NoLocking=1"]
    try:
        run("apt-get", *options, "update")
        run("apt-get", *options, "--yes", "--no-install-recommends", "--download-only", "install", *DEBIANS)
    except RuntimeError as error:
        pytest.skip(f"apt-get has no Python for 64-bit ARM here: {error}")
    for package in sorted((apt / "archives").glob("*.deb")):
        run("dpkg-deb", "--extract", package, folder / "root")
    if not (folder / "root" / "lib").exists():
        # Newer releases have all libraries in one folder, to which another package makes the link.
        (folder / "root" / "lib").symlink_to("usr/lib")
    shutil.rmtree(apt)


def emulated(name: str, versions: dict[str, str]) -> Interpreter:
    """Return an emulated interpreter of 64-bit ARM with these versions; where that cannot be, skip the test."""
    torch = f"torch=={versions['torch']}"
    others = [each for each in requirements(versions) if each != torch] + list(TORCH_NEEDS)

    def make(folder: Path) -> None:
        unpack_debian_python(folder)
        python = (folder / "root" / "usr" / "bin" / "python3").readlink().name
        platforms = [f"--platform=manylinux{each}_aarch64" for each in ("_2_28", "_2_17", "2014")]
        place = ["--target", str(folder / "site"), "--python-version", python.removeprefix("python"), *platforms]
        # For torch, pip would fetch what it needs on this machine's processor.
        run(sys.executable, *PIP, *place, "--no-deps", torch)
        run(sys.executable, *PIP, *place, *others)

    command = [emulator(), "-L"]
    folder = kept(name, [torch, *others], make)
    command += [str(folder / "root"), str(folder / "root" / "usr" / "bin" / "python3")]
    return Interpreter(command, {"PYTHONPATH": os.pathsep.join([SOURCES, str(folder / "site")])})
