"""The configuration of a task whose participants bring their own data: what `fedledger task post` reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from fedledger.learning.data import Parts
from fedledger.learning.schemas.statistics import require_statistics
from fedledger.node.own_data import OwnData
from fedledger.platform.experiment.assembly import assemble, own_code
from fedledger.platform.experiment.config import (
    DataConfig,
    ExperimentConfig,
    LedgerConfig,
    TrainingConfig,
    load_config,
    read_document,
    require_possible,
)
from fedledger.platform.experiment.experiment import MAX_PARTICIPANTS, Experiment
from fedledger.platform.experiment.task_objective import task_objective
from fedledger.platform.experiment.task_validation import MAX_OFFERS, ValidationSource, validation_examples
from fedledger.protocol.documents import Document, validated
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.records.data_schema import ArraySchema, DataSchema, StatisticsSchema, TableSchema
from fedledger.protocol.records.ref import Ref
from fedledger.protocol.records.vocabulary import MAX_BYTES, Vocabulary
from fedledger.storage.foreign_files import read_json

MIN_PARTICIPANTS = 3
"""With fewer participants, each one can tell what the others' updates were."""


class ValidationConfig(Document):
    """The examples on which updates are measured: the publisher's own, offered ones, or both."""

    data: OwnData | None = Field(default=None, description="the publisher's own")
    offered: tuple[str, ...] = Field(
        default=(), max_length=MAX_OFFERS, description="tables of rows that participants offer, made by `node offer`"
    )
    access: Literal["public", "opened", "sealed"] = Field(
        default="public", description="who can read them; see data.validation_access of experiments"
    )
    slice: int = Field(default=32, ge=1, description="examples that a round is judged on, unless all are public")


class TaskConfig(Document):
    """A task: what its spec and the ledger say. Nobody's training data are part of it."""

    name: str = Field(min_length=1, max_length=100)
    seed: int = Field(default=0, ge=0, lt=2**53)
    model: Method | None = None
    code: str | None = Field(default=None, description="path of a task.py with model()")
    max_participants: int = Field(default=100, ge=1, le=MAX_PARTICIPANTS)
    validation: ValidationConfig = ValidationConfig()
    data_schema: Annotated[TableSchema | ArraySchema | StatisticsSchema, Field(discriminator="kind")] | None = Field(
        default=None, description="how participants make inputs of their data; if not given, each one's script does"
    )
    vocabulary: str | None = Field(
        default=None, description="path of a JSON list of texts, by which participants make tokens of theirs"
    )
    training: TrainingConfig = TrainingConfig()
    ledger: LedgerConfig = LedgerConfig()


@dataclass(frozen=True)
class OpenedTask:
    """A task that may be posted.

    Parameters
    ----------
    experiment
        Its spec, with what that names.
    sources
        Where the validation examples come from, if participants bring their own data.
    """

    experiment: Experiment
    sources: tuple[ValidationSource, ...] = ()


def read_task_config(path: Path, seed: int | None = None) -> TaskConfig:
    """Read the configuration of a task; a seed replaces its own.

    Raises
    ------
    ConfigError
        If the file cannot be read, or says something else.
    """
    document = read_document(path)
    return validated(TaskConfig, document if seed is None else document | {"seed": seed}, str(path))


def task_terms(config: TaskConfig) -> ExperimentConfig:
    """Return a task's training and terms as an experiment has them, with as many participants as may take part."""
    fewest = config.ledger.min_participants or MIN_PARTICIPANTS
    ledger = config.ledger.model_copy(update={"min_participants": min(fewest, config.max_participants)})
    return ExperimentConfig(
        name=config.name,
        seed=config.seed,
        participants=config.max_participants,
        model=config.model,
        code=config.code,
        compare_with_mean=False,
        data=DataConfig(validation_access=config.validation.access, validation_slice=config.validation.slice),
        training=config.training,
        ledger=ledger,
    )


def read_terms(path: Path) -> ExperimentConfig:
    """Read what a file in TOML says of training and the ledger, whether it is of a task or of an experiment.

    Raises
    ------
    ConfigError
        If it is neither, or says what cannot be.
    """
    is_task = bool(read_document(path).keys() & {"validation", "data_schema"})
    return task_terms(read_task_config(path)) if is_task else load_config(path)


def make_task(config: TaskConfig, folder: Path) -> OpenedTask:
    """Write the spec of a task, with the model tried out on the validation examples; nobody plays it here.

    Parameters
    ----------
    config
        The task's configuration.
    folder
        Paths in the configuration are relative to it.

    Raises
    ------
    ConfigError
        If the validation examples do not fit the schema, or anything else cannot be.
    """
    if config.training.schedule is not None:
        raise ConfigError(
            "A schedule needs the participants' devices, and a task of participants with data of their own knows none.",
            "Leave the schedule out.",
        )
    terms = task_terms(config)
    require_possible(terms, "the task's configuration")
    own = None if config.code is None else own_code(folder / config.code)
    given = config.validation
    schema, vocabulary = _described(config, folder)
    _require_inputs(config.model, schema)
    found, sources = validation_examples(given.data, given.offered, folder, schema, vocabulary)
    examples = task_objective(terms, own).objective.prepared(found)
    seen = Parts.stretches(examples, [len(examples)])
    task = assemble(terms, seen, examples, examples, own)
    if isinstance(schema, StatisticsSchema):
        require_statistics(schema, task.spec, task.initial)
    if schema is not None:
        task = task.described(schema)
    if vocabulary is not None:
        task = replace(task, contents=(*task.contents[:3], vocabulary.encode(), *task.contents[3:]))
    return OpenedTask(task, tuple(sources))


def _require_inputs(model: Method | None, schema: DataSchema | None) -> None:
    """Raise ConfigError if a model takes another number of inputs than the columns make."""
    taken = None if model is None else model.params.get("inputs")
    if isinstance(schema, TableSchema) and isinstance(taken, int) and taken != schema.width:
        raise ConfigError(
            f"The columns make {schema.width:,} inputs, and the model takes {taken:,}.",
            f"Set inputs = {schema.width} in the model's params.",
        )


def _described(config: TaskConfig, folder: Path) -> tuple[DataSchema | None, Vocabulary | None]:
    """Return the data schema of a configuration, and its vocabulary, which the schema then names."""
    schema = config.data_schema
    named = schema.vocabulary if isinstance(schema, ArraySchema) else None
    if config.vocabulary is None:
        if named is not None or (isinstance(schema, ArraySchema) and schema.unknown is not None):
            raise ConfigError(
                "The data schema is about a vocabulary, which is not there.",
                'Give its file: vocabulary = "TOKENS.json".',
            )
        return schema, None
    if not isinstance(schema, ArraySchema):
        raise ConfigError("A vocabulary is for a data schema of arrays.", "Leave vocabulary out.")
    path = folder / config.vocabulary
    try:
        # What is unknown is part of the schema, which is read once it names the vocabulary.
        vocabulary = Vocabulary.of(read_json(path, MAX_BYTES), schema.unknown)
    except (OSError, ValueError) as error:
        raise ConfigError(f"The vocabulary {path} cannot be read: {error}.", "Give a JSON list of texts.") from error
    ref = Ref.of(ContentRef.of(vocabulary.encode()))
    if named not in {None, ref}:
        raise ConfigError(f"{path} is another vocabulary than the data schema names.", "Leave it out of the schema.")
    return validated(ArraySchema, schema.model_dump() | {"vocabulary": ref.model_dump()}, "data_schema"), vocabulary
