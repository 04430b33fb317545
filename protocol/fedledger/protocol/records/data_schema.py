"""The data schema of a task: how each participant makes inputs and targets of its own data, so that all of them agree.

A schema is a canonical document that a spec names by CID. It holds nobody's data: names, types, categories, units, what
a missing value becomes, and the constants by which numbers are scaled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from fedledger.protocol.documents import LATER, Document, validated
from fedledger.protocol.encoding import canonical
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.ref import Ref

MAX_SCHEMA_BYTES = 4 * 1024 * 1024
MAX_COLUMNS = 4096
MAX_CATEGORIES = 4096
MAX_INPUTS = 2**20
"""Numbers of one example."""
MAX_DIMENSIONS = 8

Name = Annotated[str, Field(min_length=1, max_length=200)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Deviation = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Unit = Annotated[str, Field(max_length=100)]


class _Bounded(Document):
    """Numbers between bounds, which are no single person's: limits of what the quantity can be."""

    unit: Unit = Field("", description="what the numbers are in, such as mg/dL")
    least: Finite | None = Field(None, description="a smaller number is refused")
    most: Finite | None = Field(None, description="a larger number is refused")

    @model_validator(mode="after")
    def _in_order(self) -> _Bounded:
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError(f"least is {self.least:g}, above most, {self.most:g}")
        return self


class NumberColumn(_Bounded):
    """A column of numbers x; each becomes one input, (x - mean) / deviation."""

    kind: Literal["number"] = "number"
    name: Name
    mean: Finite = 0.0
    deviation: Deviation = 1.0
    missing: Finite | None = Field(None, description="the number that a missing value becomes; null: it is refused")

    @property
    def width(self) -> int:
        """How many inputs it makes."""
        return 1

    @property
    def half_range(self) -> float:
        """Half the distance between the bounds; 0 unless both are given."""
        return 0.0 if self.least is None or self.most is None else self.most / 2 - self.least / 2

    @property
    def middle(self) -> float:
        """The middle between the bounds; 0 unless both are given."""
        return 0.0 if self.least is None or self.most is None else self.most / 2 + self.least / 2


class CategoryColumn(Document):
    """A column of names; each becomes one input per category: 1 for its own, 0 for the others."""

    kind: Literal["category"] = "category"
    name: Name
    categories: tuple[Name, ...] = Field(min_length=1, max_length=MAX_CATEGORIES)
    missing: bool = Field(default=False, description="whether a value may be missing; then all its inputs are 0")

    @field_validator("categories")
    @classmethod
    def _once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        require_once("category", names)
        return names

    @property
    def width(self) -> int:
        """How many inputs it makes."""
        return len(self.categories)


Column = Annotated[NumberColumn | CategoryColumn, Field(discriminator="kind")]


class ClassTarget(Document):
    """Classes to predict, numbered in their order."""

    kind: Literal["classes"] = "classes"
    name: Name = "label"
    classes: tuple[Name, ...] = Field(min_length=2, max_length=MAX_CATEGORIES)
    threshold: Finite | None = Field(
        None, description="makes two classes of numbers: the second one is those above it; null: cells name classes"
    )

    @model_validator(mode="after")
    def _suit(self) -> ClassTarget:
        require_once("class", self.classes)
        if self.threshold is not None and len(self.classes) != 2:
            raise ValueError(f"a threshold makes two classes, and {len(self.classes)} are named")
        return self


class NumberTarget(_Bounded):
    """A number to predict, as it is."""

    kind: Literal["number"] = "number"
    name: Name = "target"


Target = Annotated[ClassTarget | NumberTarget, Field(discriminator="kind")]


class _Schema(Document):
    least_examples: int = Field(1, ge=1, lt=2**31, description="who has fewer cannot take part")

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return canonical.encode(self.model_dump())


class TableSchema(_Schema):
    """Tables with a header: the inputs are those of the columns, in this order; other columns are not read."""

    kind: Literal["table"] = "table"
    columns: tuple[Column, ...] = Field(min_length=1, max_length=MAX_COLUMNS)
    target: Target

    @model_validator(mode="after")
    def _suit(self) -> TableSchema:
        require_once("column", [*(column.name for column in self.columns), self.target.name])
        if self.width > MAX_INPUTS:
            raise ValueError(f"the columns make {self.width:,} inputs, more than {MAX_INPUTS:,}")
        return self

    @property
    def width(self) -> int:
        """How many inputs an example has."""
        return sum(column.width for column in self.columns)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of an example's inputs."""
        return (self.width,)

    @property
    def classes(self) -> int | None:
        """How many classes there are; None where the target is a number."""
        return len(self.target.classes) if isinstance(self.target, ClassTarget) else None


class ArraySchema(_Bounded, _Schema):
    """Arrays of one shape, such as images [channels, height, width], or rows of tokens.

    Numbers x become (x - mean) / deviation; whole numbers, such as tokens, stay what they are.
    """

    pinned: ClassVar[bool] = True

    kind: Literal["arrays"] = "arrays"
    shape: tuple[Annotated[int, Field(ge=1, le=MAX_INPUTS)], ...] = Field(min_length=1, max_length=MAX_DIMENSIONS)
    resize: Annotated[Literal["area"] | None, LATER] = Field(
        None, description="what becomes of images of another height and width: the mean of each area; null: refused"
    )
    whole: bool = Field(default=False, description="whether inputs are whole numbers, as tokens and ids are")
    tokeniser: str = Field("", max_length=200, description="what made the tokens, with its version")
    vocabulary: Annotated[Ref | None, LATER] = Field(
        None, description="the list of texts that are tokens, by which everybody makes the same of a text"
    )
    unknown: Annotated[int | None, LATER] = Field(
        None, ge=0, description="the token of a character with which none of the vocabulary begins; null: it is refused"
    )
    mean: Finite = 0.0
    deviation: Deviation = 1.0
    classes: int | None = Field(
        None, ge=2, lt=2**31, description="classes, numbered from 0; null: targets are no classes"
    )
    class_names: tuple[Name, ...] = Field((), max_length=MAX_CATEGORIES, description="of the classes, if they have any")
    target_shape: tuple[Annotated[int, Field(ge=1, le=MAX_INPUTS)], ...] = Field((), max_length=MAX_DIMENSIONS)
    whole_targets: bool = Field(default=False, description="whether targets without classes are whole numbers")

    @model_validator(mode="after")
    def _suit(self) -> ArraySchema:
        width = 1
        for size in self.shape:
            width *= size
        if width > MAX_INPUTS:
            raise ValueError(f"an example has {width:,} inputs, more than {MAX_INPUTS:,}")
        if self.whole and (self.mean, self.deviation) != (0.0, 1.0):
            raise ValueError("whole numbers are not scaled: leave mean and deviation out")
        if self.class_names and len(self.class_names) != self.classes:
            raise ValueError(f"there are {self.classes} classes, and {len(self.class_names)} names for them")
        if self.classes is not None and (self.target_shape or self.whole_targets):
            raise ValueError("classes are one whole number each: leave target_shape and whole_targets out")
        require_once("class", self.class_names)
        return self

    @model_validator(mode="after")
    def _images_or_tokens(self) -> ArraySchema:
        if self.resize is not None and (self.whole or len(self.shape) < 2):
            raise ValueError("images are resized: leave whole out, and give height and width as the last of the shape")
        if self.vocabulary is not None and (not self.whole or len(self.shape) != 1):
            raise ValueError("a vocabulary makes tokens: set whole = true, and shape = [length of a window]")
        return self


class StatisticsSchema(_Schema):
    """Columns of tables of which each participant tells means, spreads and shares, and no row.

    A number x becomes 2 (x - least) / (most - least) - 1, within [-1, 1]; a category becomes one number for each of its
    names, 1 for the row's own and 0 for the others. Any value may be missing.
    """

    kind: Literal["statistics"] = "statistics"
    columns: tuple[Column, ...] = Field(min_length=1, max_length=MAX_COLUMNS)

    @model_validator(mode="after")
    def _suit(self) -> StatisticsSchema:
        require_once("column", [column.name for column in self.columns])
        for column in self.columns:
            if column.model_fields_set & {"mean", "deviation", "missing"}:
                raise ValueError(f"column {column.name!r}: leave mean, deviation and missing out, which are looked for")
            if isinstance(column, NumberColumn) and not column.half_range > 0:
                raise ValueError(f"column {column.name!r} takes least, and most above it: statistics stay within them")
        if self.width > MAX_INPUTS:
            raise ValueError(f"the columns make {self.width:,} numbers, more than {MAX_INPUTS:,}")
        return self

    @property
    def width(self) -> int:
        """How many numbers a row makes."""
        return sum(column.width for column in self.columns)

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return canonical.encode(self.model_dump(exclude={"columns": {"__all__": {"mean", "deviation", "missing"}}}))


DataSchema = TableSchema | ArraySchema | StatisticsSchema
KINDS: dict[str, type[TableSchema] | type[ArraySchema] | type[StatisticsSchema]] = {
    "table": TableSchema,
    "arrays": ArraySchema,
    "statistics": StatisticsSchema,
}


def require_once(what: str, names: Sequence[str]) -> None:
    """Raise ValueError if a name comes twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"the {what} {name!r} comes twice")
        seen.add(name)


def read_schema(data: bytes) -> DataSchema:
    """Read a data schema from its canonical bytes.

    Raises
    ------
    ConfigError
        If the bytes are not a canonical schema of a kind that this release knows.
    """
    try:
        document = canonical.decode(data, MAX_SCHEMA_BYTES)
    except ValueError as error:
        raise ConfigError(f"The task's data schema cannot be read: {error}.") from error
    schema = schema_of(document, "the task's data schema")
    if schema.encode() != data:
        raise ConfigError("The task's data schema is not in its canonical form.")
    return schema


def schema_of(document: object, where: str) -> DataSchema:
    """Return the schema that a document is.

    Raises
    ------
    ConfigError
        If it is none; ``where`` says in the message where it stands.
    """
    kind = KINDS.get(str(document.get("kind"))) if isinstance(document, dict) else None
    if kind is None or not isinstance(document, dict):
        raise ConfigError(
            f"{where} is of no kind that this release knows.", f"Known kinds: {', '.join(sorted(KINDS))}."
        )
    return validated(kind, document, where)
