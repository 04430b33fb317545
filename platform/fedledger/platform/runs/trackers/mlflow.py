"""Runs in MLflow."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedledger.protocol.errors import ConfigError

if TYPE_CHECKING:
    pass
from fedledger.platform.experiment.provenance import Described
from fedledger.platform.runs.trackers.base import TRACKERS
from fedledger.platform.runs.trackers.parameters import not_installed, parameters

_MLFLOW_PARAMETERS = 100


_MLFLOW_LENGTH = 500


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

    def __init__(self, config: Described, folder: Path) -> None:
        try:
            from mlflow.entities import Metric, Param
            from mlflow.exceptions import MlflowException
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise not_installed("mlflow") from error
        # Its notes on databases that it makes or changes are not about this run.
        for name in ("alembic", "mlflow"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self._metric, self._folder = Metric, folder
        self._name = config.name
        self._parameters = [Param(key, str(value)[:_MLFLOW_LENGTH]) for key, value in parameters(config).items()]
        self._run = ""
        try:
            self._client = MlflowClient()
        except MlflowException as error:
            raise ConfigError(f"MLflow rejected the run: {error}.", "Check MLFLOW_TRACKING_URI.") from error

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
