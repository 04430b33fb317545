"""Metrics of a run, passed on round by round to tools for tracking experiments."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fedledger.platform.experiment.provenance import Described
from fedledger.protocol.methods.catalogue import TRACKER
from fedledger.protocol.methods.registry import Registry

if TYPE_CHECKING:
    from fedledger.platform.engine.with_ledger import RoundMetrics


log = logging.getLogger(__name__)


class Tracker(Protocol):
    """A tool that is shown a run. Making one starts no thread: a run's processes are forked after that."""

    def open(self) -> None:
        """Begin, right before the first round is shown."""

    def log(self, index: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics after round ``index``; whoever watches sees them at once."""

    def close(self, summary: Mapping[str, Any] | None, folder: Path) -> None:
        """End, with what is in ``run.json``, or None if the run failed, and where the run's folder stays."""


TRACKERS: Registry[Callable[[Described, Path], Tracker]] = Registry(TRACKER)
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

    def show(self, metrics: RoundMetrics) -> None:
        """Pass on the metrics of a round of a run with a ledger."""
        self.log(metrics.row)

    def close(self) -> None:
        """Tell all of them that the run has ended."""
        if self._opened:
            self._tell(lambda tracker: tracker.close(self.summary, self._folder))

    def _tell(self, what: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                what(tracker)
            except Exception as error:
                log.warning("%s failed and is told nothing more: %s", name, error)
                del self._trackers[name]


@contextmanager
def tracking(names: Sequence[str], config: Described, folder: Path, stays: Path | None = None) -> Iterator[Tracked]:
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
