"""A participant's own data, and nothing of others': where they are, and how they fit the task's data schema."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from fedledger.learning.code_bundle import read_code
from fedledger.learning.data import Dataset, Parts
from fedledger.learning.schemas.arrays import fit_arrays
from fedledger.learning.schemas.columns import Reading
from fedledger.learning.schemas.fit import Fit
from fedledger.learning.schemas.statistics import fit_statistics
from fedledger.learning.schemas.tables import fit_tables
from fedledger.learning.schemas.texts import fit_texts
from fedledger.learning.sources.base import load_dataset
from fedledger.learning.sources.tables import read_tables
from fedledger.learning.task_code import load_task_code
from fedledger.protocol.documents import Document
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.records.data_schema import DataSchema, StatisticsSchema, TableSchema
from fedledger.protocol.records.vocabulary import Vocabulary


class OwnData(Document):
    """Where one's own data are: a table, a data source, or a script. Paths are relative to the configuration."""

    table: str | None = Field(None, description="CSV file with a header, or a folder of such")
    source: Method | None = Field(None, description="a data source, such as mnist_idx@1 or huggingface@1")
    text: str | None = Field(None, description="text in UTF-8, or a folder of .txt files")
    script: str | None = Field(None, description="one's own Python file, whose data() returns the examples")
    delimiter: str = Field(",", min_length=1, max_length=1, description="what separates a table's cells")
    missing: tuple[str, ...] = Field(("?",), description="cells of a table that stand for a missing value")
    missing_in: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="more of them, by the task's name of the column"
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="the table's own name of a column, by the task's, where they differ"
    )

    @model_validator(mode="after")
    def _one_place(self) -> OwnData:
        given = [name for name in ("table", "text", "source", "script") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of table, text, source and script, not {' and '.join(given) or 'none'}")
        if self.table is None and self.model_fields_set & {"delimiter", "missing", "missing_in", "columns"}:
            raise ValueError("delimiter, missing, missing_in and columns are for a table")
        return self

    @property
    def reading(self) -> Reading:
        """How one's own tables are written."""
        return Reading(frozenset(self.missing), self.missing_in, self.columns)


class NodeConfig(Document):
    """What a participant's program reads: where its own data are, and nothing of others'."""

    data: OwnData
    offered: str = Field("offered", description="folder of the rows that were offered for validation sets")
    most_held_out: float = Field(
        0.1,
        ge=0,
        le=1,
        description="share of the own examples that the validation set may hold out, besides own offers",
    )
    trust_code: tuple[str, ...] = Field((), description="CIDs of publishers' code that may run here, once it was read")
    device: str = Field("cpu", description="where it trains, as torch names it")
    bids: dict[str, int] = Field(
        default_factory=dict, description="what it reports in bidding rounds, a whole number by each name of the task's"
    )


def fit_own_data(own: OwnData, folder: Path, schema: DataSchema | None, vocabulary: Vocabulary | None = None) -> Fit:
    """Load one's own data and look how they fit a task.

    Parameters
    ----------
    own, folder
        Where they are; paths are relative to the folder.
    schema
        The task's data schema; None where it has none: then the data are taken as they are.
    vocabulary
        The vocabulary that it names, if it does.

    Raises
    ------
    ConfigError
        If they cannot be read, or are of another kind than the schema's.
    """
    if isinstance(schema, TableSchema | StatisticsSchema):
        if own.table is None:
            raise ConfigError("The task is about tables.", 'Give the path of yours: table = "MINE.csv".')
        tables = read_tables(folder / own.table, own.delimiter)
        if isinstance(schema, StatisticsSchema):
            return fit_statistics(schema, tables, own.reading)
        return fit_tables(schema, tables, own.reading)
    if own.table is not None:
        raise ConfigError(
            "The task does not say how tables become its inputs.",
            "Give a script whose data() returns inputs and targets as the task's model takes them, or a source.",
        )
    if own.text is not None:
        if schema is None or vocabulary is None:
            raise ConfigError(
                "The task names no vocabulary by which text becomes tokens.",
                "Give a script whose data() returns inputs and targets as the task's model takes them.",
            )
        return fit_texts(schema, vocabulary, folder / own.text)
    given = _loaded(own, folder)
    if schema is None:
        return Fit(given, len(given))
    return fit_arrays(schema, given, vocabulary)


def _loaded(own: OwnData, folder: Path) -> Dataset:
    if own.source is not None:
        return load_dataset(own.source.method, own.source.params, folder=folder)
    path = folder / (own.script or "")
    content = read_code(path)
    cid = ContentRef.of(content).cid
    # One's own script is trusted.
    train = load_task_code(content, cid, {cid}, path, needs_model=False).data().train
    return train.whole if isinstance(train, Parts) else train
