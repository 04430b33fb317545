"""A run's folder: what is written into it before the first round, and what is read from it afterwards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedledger.protocol.encoding import canonical
from fedledger.protocol.errors import ConfigError
from fedledger.storage.durable_files import write_atomically

if TYPE_CHECKING:
    from fedledger.learning.label_counts import LabelCounts
    from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.experiment.provenance import flat, provenance
from fedledger.platform.experiment.run_files import (
    CONFIG_FILE,
    METRICS_FILE,
    PARTITION_FILE,
    PARTITION_PAGE,
    SUMMARY_FILE,
)


def begin_run(experiment: Experiment, folder: Path) -> LabelCounts:
    """Write a run's configuration and how its examples are divided, before the first round.

    Parameters
    ----------
    experiment
        The experiment.
    folder
        The run's folder; it gets ``config.json`` (canonical), ``partition.json`` and ``partition.html``.

    Returns
    -------
    LabelCounts
        What was written about the examples.
    """
    from fedledger.ledger_tools.report.page import heat_map, write_page

    labels = experiment.label_counts
    write_atomically(folder / CONFIG_FILE, canonical.encode(provenance(experiment.config)))
    write_atomically(folder / PARTITION_FILE, (json.dumps(labels.document(), indent=1) + "\n").encode())
    write_page(folder / PARTITION_PAGE, experiment.config.name, "how the examples are divided", [heat_map(labels)])
    return labels


@dataclass(frozen=True)
class RunRecord:
    """What a run's folder tells of it.

    Parameters
    ----------
    folder
        The folder.
    summary
        Its ``run.json``.
    metrics
        Its ``metrics.json``: a row a round.
    made_from
        Its ``config.json``; empty in folders of versions that did not write it.
    """

    folder: Path
    summary: Mapping[str, Any]
    metrics: tuple[Mapping[str, Any], ...]
    made_from: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> RunRecord:
        """Read a run's folder.

        Raises
        ------
        ConfigError
            If it is not that of a run that has ended.
        """
        try:
            summary, metrics = (json.loads((folder / name).read_bytes()) for name in (SUMMARY_FILE, METRICS_FILE))
            made_from = folder / CONFIG_FILE
            return cls(
                folder, summary, tuple(metrics), json.loads(made_from.read_bytes()) if made_from.exists() else {}
            )
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{folder} is not the folder of a run that has ended: {error}.",
                "Give a folder that `fedledger run` made.",
            ) from error

    @property
    def accuracies(self) -> list[tuple[int, float]]:
        """Round and test accuracy after it, for each round that counted."""
        return [(int(row["round"]), float(row["accuracy"])) for row in self.metrics]

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration by dotted paths."""
        return flat(self.made_from.get("config", {}))
