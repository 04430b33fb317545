"""The checkpoint of a run without a ledger: one file, whole or not at all, from which it goes on to the same bits."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, TypeAdapter
from pydantic_core import from_json

from fedledger.aggregator.reputation.base import Standing
from fedledger.aggregator.round.state import State
from fedledger.platform.agents.agent import Experience
from fedledger.platform.engine.participant_states import ParticipantStates
from fedledger.platform.engine.progress import ParticipantHistory, Progress
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.platform.experiment.run_files import CHECKPOINT_FILE
from fedledger.protocol.encoding import tensors
from fedledger.protocol.errors import ConfigError, StoreError
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.reputation import Evidence
from fedledger.storage.durable_files import write_atomically
from fedledger.storage.foreign_files import shaped

STATES_FOLDER = "states"
MAX_ASKED = 10_000_000
"""Most times of a schedule that a checkpoint may remember."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """How far a run has come: its progress, its rows of metrics, and the seconds that it took."""

    progress: Progress
    rows: list[dict[str, Any]]
    seconds: float


class _Document(BaseModel):
    """What a checkpoint says besides its vectors."""

    config: str
    versions: dict[str, str]
    index: int = Field(ge=0, lt=2**53)
    counted: int = Field(ge=0, lt=2**53)
    voids: int = Field(ge=0, lt=2**53)
    stopped: bool
    unspent: int = Field(default=0, ge=0, lt=2**53)
    asked: int = Field(ge=0, le=MAX_ASKED)
    rows: list[dict[str, Any]]
    seconds: float = Field(ge=0)


_DOCUMENT = TypeAdapter(_Document)


class _Bids(BaseModel):
    """The bids that were heard last, by the number of their participant, and whose do not stand."""

    last: int = Field(default=0, ge=0, lt=2**53)
    reports: list[tuple[int, dict[str, int]]] = Field(default_factory=list)
    absent: set[int] = Field(default_factory=set)
    in_vain: set[int] = Field(default_factory=set)


_BIDS = TypeAdapter(_Bids)


class CheckpointFile:
    """The file of a run's newest checkpoint.

    Parameters
    ----------
    folder
        The run's folder.
    config
        The run's configuration; a checkpoint of another one is refused.
    """

    def __init__(self, folder: Path, config: ExperimentConfig) -> None:
        self.path = folder / CHECKPOINT_FILE
        self._digest = hashlib.sha256(json.dumps(config.model_dump(), sort_keys=True).encode()).hexdigest()

    def save(self, checkpoint: Checkpoint, states: ParticipantStates) -> None:
        """Write a checkpoint, and what the participants keep.

        Raises
        ------
        StoreError
            If there is no room; the checkpoint before this one is left as it was.
        """
        progress = checkpoint.progress
        document = {
            "config": self._digest,
            "versions": _versions(),
            "index": progress.index,
            "counted": progress.counted,
            "voids": progress.voids,
            "stopped": progress.stopped,
            "unspent": progress.unspent,
            "asked": len(progress.asked),
            "rows": checkpoint.rows,
            "seconds": checkpoint.seconds,
        }
        histories = [
            (number, history.evidence.pack(), history.last_round, history.examples, history.utility)
            for number, history in progress.histories.items()
        ]
        named: dict[str, NDArray[Any]] = {
            "document": _bytes(json.dumps(document).encode()),
            "state": _bytes(progress.state.encode()),
            "standings": np.array(histories, np.int64).reshape(-1, 5),
            "base": progress.base,
        }
        if progress.earlier:
            named["earlier"] = np.vstack(progress.earlier)
        if progress.asked:
            asked = [(time, number) for time, numbers in enumerate(progress.asked) for number in numbers]
            named["asked"] = np.array(asked, np.int64).reshape(-1, 2)
        if progress.last_bidding or progress.in_vain:
            bids = _Bids(
                last=progress.last_bidding,
                reports=sorted(progress.reports.items()),
                absent=progress.absent,
                in_vain=progress.in_vain,
            )
            named["bids"] = _bytes(bids.model_dump_json().encode())
        if progress.experiences:
            named["experiences"] = np.array([(key, *seen) for key, seen in progress.experiences.items()], np.int64)
        if progress.names_left:
            named["names_left"] = np.array(list(progress.names_left.items()), np.int64)
        for name, standings in (("standings", progress.standings), ("opening", progress.standings_at_opening)):
            if standings:
                named[f"modelled.{name}"] = np.array([(key, *kept) for key, kept in standings.items()], np.int64)
        states.save()
        try:
            write_atomically(self.path, tensors.encode(named))
        except OSError as error:
            raise StoreError(
                f"The checkpoint {self.path} could not be written: {error.strerror}.", "Free some space, then resume."
            ) from error
        states.forget_before(progress.index)

    def load(self, states: ParticipantStates, model: ModelFile | None = None) -> Checkpoint | None:
        """Return the checkpoint, and put the participants' states back to it; None if there is no checkpoint.

        Parameters
        ----------
        states
            The participants' states.
        model
            A model of the run, whose shapes are checked if it is given.

        Raises
        ------
        ConfigError
            If it is a checkpoint of another configuration.
        StoreError
            If it cannot be read.
        """
        if not self.path.exists():
            states.return_to(0)
            return None
        try:
            named = tensors.decode(self.path.read_bytes())
            document = shaped(_DOCUMENT, from_json(named["document"].tobytes())).model_dump()
            base = np.array(named["base"], np.float32)
            earlier = list(np.array(named["earlier"], np.float32)) if "earlier" in named else []
            length, dimension = (len(base),) * 2 if model is None else (len(model.vector), model.dimension)
            if any(vector.shape != (length,) for vector in (base, *earlier)):
                raise ValueError("a model has not the task's length")
            asked: list[list[int]] = [[] for _ in range(document["asked"])]
            for time, number in named["asked"].tolist() if "asked" in named else ():
                asked[time].append(number)
            state = State.decode(named["state"].tobytes(), dimension)
            histories = {
                number: ParticipantHistory(Evidence.unpack(evidence), last_round, examples, utility)
                for number, evidence, last_round, examples, utility in named["standings"].tolist()
            }
            bids = shaped(_BIDS, from_json(named["bids"].tobytes())) if "bids" in named else _Bids()
            found, versions = document["config"], document["versions"]
            progress = Progress(
                base=base,
                state=state,
                earlier=earlier,
                index=document["index"],
                counted=document["counted"],
                voids=document["voids"],
                stopped=document["stopped"],
                histories=histories,
                asked=asked,
                names_left=dict(named["names_left"].tolist() if "names_left" in named else ()),
                last_bidding=bids.last,
                reports=dict(bids.reports),
                absent=bids.absent,
                in_vain=bids.in_vain,
                unspent=document["unspent"],
                experiences=_experiences(named),
                standings=_standings(named, "standings"),
                standings_at_opening=_standings(named, "opening"),
            )
            checkpoint = Checkpoint(progress, document["rows"], document["seconds"])
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise StoreError(f"The checkpoint {self.path} cannot be read: {error}.", "Start the run anew.") from error
        if found != self._digest:
            raise ConfigError(
                f"{self.path} is of a run with another configuration.",
                "Resume with the configuration and seed that it was started with.",
            )
        if versions != _versions():
            log.warning("the run was started with %s: with %s it may end with another model", versions, _versions())
        states.return_to(progress.index)
        return checkpoint


def _experiences(named: Mapping[str, NDArray[Any]]) -> dict[int, Experience]:
    rows = named["experiences"].tolist() if "experiences" in named else ()
    return {number: Experience(*seen) for number, *seen in rows}


def _standings(named: Mapping[str, NDArray[Any]], name: str) -> dict[int, Standing]:
    rows = named[f"modelled.{name}"].tolist() if f"modelled.{name}" in named else ()
    return {number: tuple(kept) for number, *kept in rows}


def _bytes(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8)


def _versions() -> dict[str, str]:
    return {package: version(package) for package in ("fedledger", "numpy", "torch")}
