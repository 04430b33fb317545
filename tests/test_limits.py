"""No function, class or file is too long to read, and nothing stands twice."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

SOURCES = ("protocol", "storage", "contracts", "learning", "node", "aggregator", "ledger_tools", "platform")
FILE_LINES = 500
CLASS_LINES = 300
FUNCTION_LINES = 60
"""Of a function without its docstring."""
COMPLEXITY = 15
PARAMETERS = 7
REPEATED_LINES = 10
COMMANDS = "platform/fedledger/platform/cli/"
"""Here a function's parameters are a command's options."""

Function = ast.FunctionDef | ast.AsyncFunctionDef
Lines = list[tuple[int, str]]
"""Numbered lines without white space around them."""

BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.Assert, ast.comprehension)


def functions(tree: ast.Module) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def classes(tree: ast.Module) -> Iterator[ast.ClassDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def span(node: ast.stmt) -> range:
    assert node.end_lineno is not None
    return range(node.lineno, node.end_lineno + 1)


def docstring(node: Function | ast.ClassDef | ast.Module) -> range:
    return span(node.body[0]) if ast.get_docstring(node, clean=False) is not None else range(0)


def length(function: Function) -> int:
    return len(span(function)) - len(docstring(function))


def complexity(function: Function) -> int:
    """One more than the branches; each further operand of ``and`` or ``or``, filter and case is one, too."""
    count = 1
    for node in ast.walk(function):
        count += isinstance(node, BRANCHES)
        if isinstance(node, ast.comprehension):
            count += len(node.ifs)
        elif isinstance(node, ast.BoolOp):
            count += len(node.values) - 1
        elif isinstance(node, ast.Match):
            count += len(node.cases)
    return count


def parameters(function: Function) -> int:
    given = function.args
    named = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    named += [argument.arg for argument in (given.vararg, given.kwarg) if argument is not None]
    return len(named) - (named[:1] in (["self"], ["cls"]))


def code_lines(text: str) -> Lines:
    """A file's lines that are no comments, imports, docstrings or signatures, which all methods of a kind repeat."""
    tree, left_out = ast.parse(text), set[int]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            left_out |= set(span(node))
        elif isinstance(node, Function | ast.ClassDef | ast.Module):
            left_out |= set(docstring(node))
        if isinstance(node, Function):
            left_out |= set(range(node.lineno, node.body[0].lineno))
    numbered = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(n, line) for n, line in numbered if n not in left_out and line and not line.startswith("#")]


def repeats(files: Mapping[str, Lines]) -> list[str]:
    """Runs of so many lines that stand in two places, each named once by where it begins."""
    seen: dict[tuple[str, ...], list[tuple[str, int]]] = defaultdict(list)
    for name, lines in files.items():
        for at in range(len(lines) - REPEATED_LINES + 1):
            seen[tuple(line for _, line in lines[at : at + REPEATED_LINES])].append((name, at))
    twice = {(first, second) for first, second, *_ in (places for places in seen.values() if len(places) > 1)}
    begun = [(first, second) for first, second in sorted(twice) if (_before(first), _before(second)) not in twice]
    return [" = ".join(f"{name}:{files[name][at][0]}" for name, at in places) for places in begun]


def _before(place: tuple[str, int]) -> tuple[str, int]:
    return place[0], place[1] - 1


@pytest.fixture(scope="module")
def texts(root: Path) -> dict[str, str]:
    paths = (path for source in SOURCES for path in sorted((root / source / "fedledger").rglob("*.py")))
    return {path.relative_to(root).as_posix(): path.read_text() for path in paths}


@pytest.fixture(scope="module")
def trees(texts: dict[str, str]) -> dict[str, ast.Module]:
    assert len(texts) > 200
    return {name: ast.parse(text) for name, text in texts.items()}


def test_no_file_is_too_long(texts: dict[str, str]) -> None:
    lines = {name: len(text.splitlines()) for name, text in texts.items()}
    assert {name: count for name, count in lines.items() if count > FILE_LINES} == {}


def test_no_class_is_too_long(trees: dict[str, ast.Module]) -> None:
    lines = {f"{name}: {node.name}": len(span(node)) for name, tree in trees.items() for node in classes(tree)}
    assert {name: count for name, count in lines.items() if count > CLASS_LINES} == {}


def test_no_function_is_too_long(trees: dict[str, ast.Module]) -> None:
    lines = {
        f"{name}:{node.lineno} {node.name}": length(node) for name, tree in trees.items() for node in functions(tree)
    }
    assert {name: count for name, count in lines.items() if count > FUNCTION_LINES} == {}


def test_no_function_is_too_complex(trees: dict[str, ast.Module]) -> None:
    found = {
        f"{name}:{node.lineno} {node.name}": complexity(node)
        for name, tree in trees.items()
        for node in functions(tree)
    }
    assert {name: count for name, count in found.items() if count > COMPLEXITY} == {}


def test_no_function_has_too_many_parameters(trees: dict[str, ast.Module]) -> None:
    found = {
        f"{name}:{node.lineno} {node.name}": parameters(node)
        for name, tree in trees.items()
        for node in functions(tree)
        if not name.startswith(COMMANDS)
    }
    assert {name: count for name, count in found.items() if count > PARAMETERS} == {}


def test_nothing_stands_twice(texts: dict[str, str]) -> None:
    assert repeats({name: code_lines(text) for name, text in texts.items()}) == []


EXAMPLE = '''
def first(a, /, b, *rest, key=None, **more):
    """Two lines

    of docstring."""
    if a and b or key:
        return [x for x in rest if x]
    try:
        assert b
    except ValueError:
        return more if a else b


class Second:
    @property
    def third(self):
        import ast

        # A comment.
        for x in self:
            while x:
                match x:
                    case 1:
                        pass
                    case _:
                        x -= 1
'''


def test_lengths_branches_and_parameters_are_counted() -> None:
    tree = ast.parse(EXAMPLE)
    first, third = functions(tree)
    (second,) = classes(tree)
    assert [length(first), length(third), len(span(second))] == [7, 11, 13]
    # if, and, or; for, if; assert; except; if else — for, while and two cases.
    assert [complexity(first), complexity(third)] == [1 + 8, 1 + 4]
    assert [parameters(first), parameters(third)] == [5, 0]
    assert [number for number, _ in code_lines(EXAMPLE)] == [*range(6, 12), 14, 15, *range(20, 27)]


def test_a_run_of_lines_that_stands_twice_is_named_once_and_whole() -> None:
    lines = [(number, f"line {number}") for number in range(1, 13)]
    shifted = [(100 + number, line) for number, line in lines]
    assert repeats({"a": lines, "b": [(1, "other"), *shifted, (200, "another")]}) == ["a:1 = b:101"]
    assert repeats({"a": lines, "b": shifted[:9]}) == []
    assert repeats({"a": [*lines, *shifted]}) == ["a:1 = a:101"]
