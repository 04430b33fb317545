"""TensorBoard's event files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fedledger.platform.experiment.provenance import Described
from fedledger.platform.runs.trackers.base import TRACKERS
from fedledger.platform.runs.trackers.parameters import not_installed, parameters


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

    def __init__(self, config: Described, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise not_installed("tensorboard") from error
        self._writer: Any = None
        self._make: Callable[[], Any] = partial(SummaryWriter, str(folder / "tensorboard"))
        rows = "".join(f"| {key} | {value} |\n" for key, value in parameters(config).items())
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
