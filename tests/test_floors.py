"""What may import what: the floors of the house, read from the sources and tried in a fresh interpreter."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {
    "protocol": 0,
    "storage": 1,
    "contracts": 2,
    "learning": 2,
    "node": 3,
    "aggregator": 3,
    "ledger_tools": 4,
    "platform": 5,
}
CHAIN = {"web3", "eth_tester", "eth_account", "eth_abi", "eth_utils", "eth_keys", "eth", "rlp", "hexbytes", "pyrevm"}
BANNED = {
    "protocol": {"web3", "eth_tester", "eth", "torch", "sklearn"},
    "storage": CHAIN | {"torch", "sklearn"},
    "contracts": {"web3", "eth_tester", "torch", "sklearn"},
    "learning": CHAIN,
    "node": {"web3", "eth_tester", "eth"},
    "aggregator": {"web3", "eth_tester", "eth", "torch", "sklearn"},
    "ledger_tools": {"web3", "eth_tester", "torch", "sklearn"},
    "platform": {"web3", "eth_tester", "eth"},
}
OUTSIDE = {
    "socket",
    "ssl",
    "http",
    "urllib",
    "urllib3",
    "requests",
    "subprocess",
    "multiprocessing",
    "shutil",
    "tempfile",
}
OUTSIDE |= {"os", "io", "pathlib", "glob", "mmap", "fcntl", "threading", "asyncio", "fedledger.storage"}
UNSAFE = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
EXACT_MATH = {"factorial", "sqrt", "gcd", "lcm", "prod", "isqrt", "isfinite", "comb"}
INEXACT_ARRAYS = {"exp", "expm1", "log", "log1p", "log2", "log10", "tanh", "sin", "cos", "power", "cbrt", "linalg"}


def imports(source: str) -> Iterator[str]:
    """Every module that a source names, also inside functions and below ``if TYPE_CHECKING``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(package: str) -> list[tuple[Path, str]]:
    files = sorted((ROOT / package / "fedledger").rglob("*.py"))
    assert files, package
    return [(file.relative_to(ROOT), file.read_text()) for file in files]


def names_of(package: str) -> list[str]:
    return [".".join(file.with_suffix("").parts[2:]) for file, _ in modules(package)]


def test_imports_are_found_wherever_they_stand() -> None:
    source = "import a.b as c, d\nfrom e import f\ndef g():\n    if h:\n        from i.j import k"
    assert set(imports(source)) == {"a.b", "d", "e", "e.f", "i.j", "i.j.k"}


def test_every_package_has_a_floor() -> None:
    assert {path.parent.name for path in ROOT.glob("*/fedledger")} == set(FLOORS)
    assert not [path for package in FLOORS for path in (ROOT / package / "fedledger").rglob("__init__.py")]


@pytest.mark.parametrize("package", FLOORS)
def test_a_package_imports_only_lower_floors(package: str) -> None:
    for file, source in modules(package):
        for name in imports(source):
            parts = name.split(".")
            assert parts[0] not in {"tests", "support"}, f"{file} imports {name}"
            if parts[0] == "fedledger" and len(parts) > 1 and parts[1] != package:
                assert FLOORS[parts[1]] < FLOORS[package], f"{file} imports {name}"


@pytest.mark.parametrize("package", FLOORS)
def test_a_package_keeps_off_what_is_not_its_business(package: str) -> None:
    for file, source in modules(package):
        known = {"chain/embedded.py": {"web3", "eth_tester"}}
        allowed = next((names for path, names in known.items() if file.match(path)), set())
        found = {name.split(".")[0] for name in imports(source)} & BANNED[package]
        assert found <= allowed, f"{file} imports {found - allowed}"


def room(module: str) -> str:
    """The folder that a module lies in; a file beside folders is a room of its own."""
    return module if (found := module.rpartition(".")[0]).count(".") == 1 else found


@pytest.mark.parametrize("package", FLOORS)
def test_rooms_form_no_circle(package: str) -> None:
    sources = {".".join(file.with_suffix("").parts[1:]): source for file, source in modules(package)}
    graph: dict[str, set[str]] = {room(module): set() for module in sources}
    for module, source in sources.items():
        graph[room(module)] |= {room(name) for name in imports(source) if name in sources} - {room(module)}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"rooms import each other: {' -> '.join(reversed(error.args[1]))}")


def test_the_protocol_opens_no_file_and_no_socket() -> None:
    for file, source in modules("protocol"):
        # The Ethereum libraries are told by an environment variable which hash to take.
        allowed = {"os"} if file.match("encoding/keccak.py") else set()
        names = {name for name in imports(source) if {name, name.split(".")[0]} & (OUTSIDE - allowed)}
        assert not names, f"{file} imports {names}"
        called = {
            node.func.id
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert "open" not in called, file


def test_tools_for_a_ledger_do_not_train() -> None:
    for file, source in modules("ledger_tools"):
        assert not [name for name in imports(source) if name.startswith("fedledger.node")], file


@pytest.mark.parametrize("package", FLOORS)
def test_nothing_is_unpickled(package: str) -> None:
    for file, source in modules(package):
        assert not {name.split(".")[0] for name in imports(source)} & UNSAFE, file
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) != ("torch", "load"), file
            if isinstance(node, ast.keyword):
                assert node.arg != "allow_pickle", file


@pytest.mark.parametrize("package", ["protocol", "aggregator"])
def test_the_exact_layer_calls_no_function_that_rounds_as_the_processor_likes(package: str) -> None:
    for file, source in modules(package):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.module == "math":
                assert {alias.name for alias in node.names} <= EXACT_MATH, file
            if isinstance(node, ast.Import):
                assert "math" not in {alias.name for alias in node.names}, f"{file}: name the functions"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "np":
                assert node.attr not in INEXACT_ARRAYS, f"{file} uses np.{node.attr}"


@pytest.mark.parametrize(
    ("names", "absent"),
    [
        (names_of("protocol"), {"torch", "web3"}),
        (["contracts.ledger.history"], {"torch"}),
        (names_of("learning"), {"web3", "eth_account"}),
        (
            ["platform.runs.plain_run", "platform.engine.backends.choose"],
            {"web3", "eth_account", "pandas", "plotly", "ray", "sklearn", "scipy"},
        ),
        (
            ["aggregator.rules.aggregate", "aggregator.detectors.base", "aggregator.contributions.base"],
            {"torch", "web3"},
        ),
    ],
)
def test_what_modules_load_when_they_are_imported(names: list[str], absent: set[str]) -> None:
    code = f"import sys, {', '.join('fedledger.' + name for name in names)}; print(*({absent!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []
