"""Documents: immutable configuration objects whose unknown keys are refused, and how errors in them are told."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationError, model_serializer

from fedledger.protocol.errors import ConfigError

M = TypeVar("M", bound=BaseModel)

LONGEST_TOLD = 80
"""Characters of a wrong value that an error repeats."""


class _Later:
    """Marks a field that was added after documents without it had been posted; their bytes must stay the same."""


LATER = _Later()
"""In a field's ``Annotated``: a pinned document leaves the field out while it has its default."""


class Document(BaseModel):
    """Base of all configuration documents: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pinned: ClassVar[bool] = False
    """Whether the document's bytes are content-addressed, so that a later field must not change them."""

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = serialise(self)
        for name, field in type(self).model_fields.items() if self.pinned else ():
            if LATER in field.metadata and getattr(self, name) == field.get_default(call_default_factory=True):
                document.pop(name, None)
        return document


def validated(kind: type[M], document: Mapping[str, Any], where: str) -> M:
    """Validate a document; report what is wrong in one sentence, with a suggestion for unknown keys.

    Raises
    ------
    ConfigError
        Naming the first unknown key, or else the first thing that is wrong.
    """
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        wrongs = error.errors(include_url=False, include_context=False, include_input=True)
        # A key that is misspelt is unknown, and the one that was meant is missing: the former says more.
        first = next((each for each in wrongs if each["type"] == "extra_forbidden"), wrongs[0])
        path = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = _fields_at(kind, first["loc"][:-1])
            close = get_close_matches(str(first["loc"][-1]), known, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Known keys: {', '.join(sorted(known))}."
            raise ConfigError(f"Unknown key {path!r} in {where}.", hint) from None
        if first["type"] == "string_pattern_mismatch" and first["loc"][-1] == "method":
            given = str(first["input"])[:LONGEST_TOLD]
            raise ConfigError(
                f"{path} is {given!a}, which is no name@version (in {where}).",
                "Give one that `fedledger methods` lists, such as mean@1.",
            ) from None
        if first["type"] == "model_type":
            given = str(first["input"])[:LONGEST_TOLD]
            hint = f"Give {{ method = {given!a} }}." if "@" in given else "Give its keys."
            raise ConfigError(f"{path} is {given!a}, which is no table (in {where}).", hint) from None
        wrong = first["msg"].removeprefix("Value error, ").rstrip(".")
        raise ConfigError(f"{path}: {wrong} (in {where})." if path else f"{where}: {wrong}.") from None


def _fields_at(kind: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        if isinstance(part, str) and part in kind.model_fields:
            inner = _document_in(kind.model_fields[part].annotation)
            if inner is None:
                return []
            kind = inner
    return list(kind.model_fields)


def _document_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _document_in(argument)
        if found is not None:
            return found
    return None
