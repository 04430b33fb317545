"""Metrics of a run, round by round, to the tools in which one watches experiments."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fedledger.platform.config import ExperimentConfig
from fedledger.platform.run_folder import flat, provenance
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.registry import Registry

if TYPE_CHECKING:
    from fedledger.platform.engine import Progress

log = logging.getLogger(__name__)

_MLFLOW_PARAMETERS = 100
_MLFLOW_LENGTH = 500


class Tracker(Protocol):
    """A tool that is shown a run. Making one starts no thread: a run's processes are forked after that."""

    def open(self) -> None:
        """Begin, right before the first round is shown."""

    def log(self, index: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics after round ``index``; whoever watches sees them at once."""

    def close(self, summary: Mapping[str, Any] | None, folder: Path) -> None:
        """End, with what is in ``run.json``, or None if the run failed, and where the run's folder stays."""


TRACKERS: Registry[Callable[[ExperimentConfig, Path], Tracker]] = Registry("tracker", "fedledger.trackers")
"""A tracker is made from the configuration and the run's folder."""


class Tracked:
    """What a run's rounds and its end are told to; a tracker that fails is told no more, and the run goes on.

    Parameters
    ----------
    trackers
        To whom they are passed on, by name.
    folder
        Where the run's folder stays.

    Attributes
    ----------
    summary
        What is in ``run.json``; to be set when the run has ended well.
    """

    def __init__(self, trackers: Mapping[str, Tracker], folder: Path) -> None:
        self._trackers, self._opened, self._folder = dict(trackers), False, folder
        self.summary: Mapping[str, Any] | None = None

    def log(self, row: Mapping[str, Any]) -> None:
        """Pass on a row of metrics: ``round``, and whatever else in it is a number."""
        numbers = {
            name: float(value)
            for name, value in row.items()
            if isinstance(value, int | float) and not isinstance(value, bool) and name not in ("round", "rounds")
        }
        if not self._opened:
            self._opened = True
            self._tell(lambda tracker: tracker.open())
        self._tell(lambda tracker: tracker.log(int(row["round"]), numbers))

    def show(self, progress: Progress) -> None:
        """Pass on the progress of a run with a ledger."""
        self.log(vars(progress))

    def close(self) -> None:
        """Tell all of them that the run has ended."""
        if self._opened:
            self._tell(lambda tracker: tracker.close(self.summary, self._folder))

    def _tell(self, what: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                what(tracker)
            except Exception as error:
                log.warning("%s is not told any more: %s", name, error)
                del self._trackers[name]


@contextmanager
def tracking(
    names: Sequence[str], config: ExperimentConfig, folder: Path, stays: Path | None = None
) -> Iterator[Tracked]:
    """Open the trackers of a run, and close them when it ends; set ``summary`` before.

    Parameters
    ----------
    names
        ``tensorboard``, ``mlflow``, or those of plug-ins.
    config
        The configuration.
    folder
        The run's folder.
    stays
        Where it will be once the run has ended; there unless given.

    Raises
    ------
    ConfigError
        If there is no such tracker, or what it needs is not installed.
    """
    tracked = Tracked({name: TRACKERS.get(f"{name}@1")(config, folder) for name in names}, stays or folder)
    try:
        yield tracked
    finally:
        tracked.close()


@TRACKERS.register("tensorboard@1")
class TensorBoard:
    """Event files in ``tensorboard/`` of the run's folder: ``tensorboard --logdir runs`` shows all runs.

    Parameters
    ----------
    config
        The configuration; it is shown as text.
    folder
        The run's folder.
    """

    def __init__(self, config: ExperimentConfig, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise _not_installed("tensorboard") from error
        self._writer: Any = None
        self._make: Callable[[], Any] = partial(SummaryWriter, str(folder / "tensorboard"))
        rows = "".join(f"| {key} | {value} |\n" for key, value in _parameters(config).items())
        self._text = f"| key | value |\n|---|---|\n{rows}"

    def open(self) -> None:
        self._writer = self._make()
        self._writer.add_text("configuration", self._text)

    def log(self, index: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, index)
        self._writer.flush()

    def close(self, summary: Mapping[str, Any] | None, folder: Path) -> None:
        self._writer.close()


@TRACKERS.register("mlflow@1")
class MLflow:
    """A run in MLflow's experiment of the configuration's name, where ``MLFLOW_TRACKING_URI`` says.

    Parameters
    ----------
    config
        The configuration; it becomes the run's parameters.
    folder
        The run's folder; its name becomes the run's.
    """

    def __init__(self, config: ExperimentConfig, folder: Path) -> None:
        try:
            from mlflow.entities import Metric, Param
            from mlflow.exceptions import MlflowException
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise _not_installed("mlflow") from error
        # Its notes on databases that it makes or changes are not about this run.
        for name in ("alembic", "mlflow"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self._metric, self._folder = Metric, folder
        self._name = config.name
        self._parameters = [Param(key, str(value)[:_MLFLOW_LENGTH]) for key, value in _parameters(config).items()]
        self._run = ""
        try:
            self._client = MlflowClient()
        except MlflowException as error:
            raise ConfigError(f"MLflow does not take the run: {error}.", "Check MLFLOW_TRACKING_URI.") from error

    def open(self) -> None:
        found = self._client.get_experiment_by_name(self._name)
        experiment = found.experiment_id if found else self._client.create_experiment(self._name)
        self._run = self._client.create_run(experiment, run_name=self._folder.name).info.run_id
        self._place(self._folder)
        for start in range(0, len(self._parameters), _MLFLOW_PARAMETERS):
            self._client.log_batch(self._run, params=self._parameters[start : start + _MLFLOW_PARAMETERS])

    def log(self, index: int, metrics: Mapping[str, float]) -> None:
        now = time.time_ns() // 1_000_000
        self._client.log_batch(self._run, [self._metric(name, value, now, index) for name, value in metrics.items()])

    def close(self, summary: Mapping[str, Any] | None, folder: Path) -> None:
        if summary is not None:
            self._client.set_tag(self._run, "fedledger.final_model", summary["final_model"])
            self._place(folder)
        self._client.set_terminated(self._run, "FAILED" if summary is None else "FINISHED")

    def _place(self, folder: Path) -> None:
        self._client.set_tag(self._run, "fedledger.folder", str(folder.resolve()))


def _parameters(config: ExperimentConfig) -> dict[str, Any]:
    made_from = provenance(config)
    return {"fedledger": made_from["fedledger"], **flat(made_from["config"])}


def _not_installed(extra: str) -> ConfigError:
    return ConfigError(f"{extra} is not installed.", f"pip install 'fedledger[{extra}]'")
