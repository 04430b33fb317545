"""What there is to choose from: every method of a kind with its parameters, read from the methods themselves."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fedledger.protocol.methods.parameters import Parameter, parameters_of
from fedledger.protocol.methods.registry import Kind, registry_of

_CITATION = re.compile(r"\(((?:[^()]*: )?[A-Z][^()]*?\b(?:19|20)\d\d\b[^()]*)\)")
_SECTION = re.compile(r"^(\w+)\n-{3,}\n", re.MULTILINE)


@dataclass(frozen=True)
class ParameterDescription:
    """A parameter of a method, in words.

    Parameters
    ----------
    name
        Its name.
    required
        Whether it must be given.
    default
        Its default; None also where that is nothing.
    values
        What may be given.
    meaning
        What it does.
    """

    name: str
    required: bool
    default: object
    values: str
    meaning: str

    @property
    def default_in_words(self) -> str:
        """The default as a table shows it."""
        if self.required:
            return "required"
        if self.default is None:
            return "nothing"
        return f"{self.default!r}".replace("'", '"').replace("True", "true").replace("False", "false")

    @property
    def plain_meaning(self) -> str:
        """The meaning without the marks of docstrings, and with None called as a table calls it."""
        return re.sub(r"\bNone\b", "nothing", _without_marks(self.meaning))


@dataclass(frozen=True)
class MethodDescription:
    """A method, in words.

    Parameters
    ----------
    method
        ``name@version``.
    summary
        What it does, in a sentence.
    paper
        Where it comes from; empty if it is this project's own.
    parameters
        Its parameters.
    """

    method: str
    summary: str
    paper: str
    parameters: tuple[ParameterDescription, ...]


def described(kind: Kind) -> Iterator[MethodDescription]:
    """Yield the description of every method of a kind, in the order of their names."""
    registry = registry_of(kind)
    for key in registry:
        method = registry.get(key)
        text, meanings = inspect.getdoc(method) or "", _meanings(method)
        yield MethodDescription(
            method=key,
            summary=_first_sentence(text),
            paper=_paper(text) or _paper(sys.modules[method.__module__].__doc__ or ""),
            parameters=tuple(
                _described(parameter, meanings.get(parameter.name, ""))
                for parameter in parameters_of(method)
                if parameter.name not in kind.supplied
            ),
        )


def _described(parameter: Parameter, meaning: str) -> ParameterDescription:
    values = str(parameter.bound) if parameter.bound is not None else "anything"
    if parameter.optional:
        values += ", or nothing"
    default = None if parameter.is_required else parameter.default
    return ParameterDescription(parameter.name, parameter.is_required, default, values, meaning)


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.;]) (?=[A-Z])", _without_marks(" ".join(text.partition("\n\n")[0].split())))[0]


def _without_marks(text: str) -> str:
    return re.sub(r":\w+:`~?([^`]*)`|`+([^`]*)`+", r"\1\2", text)


def _paper(text: str) -> str:
    found = _CITATION.search(" ".join(_SECTION.split(text)[0].split()))
    return "" if found is None else found[1]


def _meanings(method: Callable[..., object]) -> dict[str, str]:
    """Return what a method's docstring, or those of its bases, says of each parameter."""
    meanings: dict[str, str] = {}
    for owner in reversed(inspect.getmro(method)) if isinstance(method, type) else (method,):
        parts = _SECTION.split(inspect.cleandoc(owner.__doc__ or ""))
        for title, body in zip(parts[1::2], parts[2::2], strict=True):
            if title != "Parameters":
                continue
            for entry in re.split(r"\n(?=\S)", body):
                names, _, meaning = entry.partition("\n")
                meanings |= {name.strip(): " ".join(meaning.split()) for name in names.split(",")}
    return meanings


def markdown(kind: Kind) -> str:
    """Return a table of the methods of a kind, as the documents have it."""
    lines = ["| method | what it does | parameters (default) | paper |", "|---|---|---|---|"]
    for method in described(kind):
        parameters = "<br>".join(
            f"`{p.name}` ({p.default_in_words}): {p.values}" + (f". {p.meaning}" if p.meaning else "")
            for p in method.parameters
        )
        paper = "" if method.paper in method.summary else method.paper
        cells = (f"`{method.method}`", method.summary, parameters, paper)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
