"""Runs compared: what differs between their configurations, and their results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedledger.platform.runs.curves import common_name, score_figure
from fedledger.platform.runs.grid import short_names
from fedledger.platform.runs.run_folder import RunRecord
from fedledger.protocol.errors import ConfigError

_NAMED = ("name", "seed")
FAIRNESS_COLUMNS = {"worst tenth": "worst_tenth", "Jain": "jain", "Jain of pay": "jain_pay"}


@dataclass(frozen=True)
class Comparison:
    """A comparison of several runs.

    Parameters
    ----------
    records
        The runs, in the order given.
    """

    records: Sequence[RunRecord]

    @classmethod
    def read(cls, folders: Sequence[Path]) -> Comparison:
        """Read the folders of at least one run.

        Raises
        ------
        ConfigError
            If one is not the folder of a run that has ended, or two are the same.
        """
        twice = [str(folder) for folder, count in Counter(folder.resolve() for folder in folders).items() if count > 1]
        if twice:
            raise ConfigError(f"{twice[0]} was given twice.", "Give each run once.")
        return cls([RunRecord.read(folder) for folder in folders])

    def differing(self) -> list[str]:
        """Return the keys of the configuration whose values are not the same in all runs that wrote theirs down."""
        known = [record.settings for record in self.records if record.settings]
        keys = dict.fromkeys(key for settings in known for key in settings)
        # A table that is empty in one run may have keys in another; these say it all.
        outer = {key[:place] for key in keys for place, letter in enumerate(key) if letter == "."}
        return [
            key
            for key in keys
            if key not in _NAMED
            and key not in outer
            and any(settings.get(key) != known[0].get(key) for settings in known)
        ]

    def same_models(self) -> list[list[int]]:
        """Return the places of runs that ended with the same model, for each model of several runs."""
        places: dict[str, list[int]] = {}
        for place, record in enumerate(self.records):
            places.setdefault(record.final_model, []).append(place)
        return [group for group in places.values() if len(group) > 1]

    def document(self) -> dict[str, Any]:
        """Return the comparison as JSON."""
        differing = self.differing()
        runs = []
        for record in self.records:
            row = {
                "folder": str(record.folder),
                "name": record.name,
                "seed": record.seed,
                "fedledger": record.made_from.get("fedledger"),
                "ledger": record.ledger,
                "settings": {key: record.settings.get(key) for key in differing} if record.settings else None,
                "rounds": record.rounds,
                "score_name": record.score_name,
                "lower_is_better": record.lower_is_better,
                "loss": record.loss,
                "score": record.score,
                "best_score": record.best_score,
                "fairness": record.fairness,
                "final_model": record.final_model,
                "seconds": record.seconds,
                "gas": record.gas,
                "spent": record.spent,
            }
            runs.append(row)
        return {"differing": differing, "runs": runs, "same_final_models": self.same_models()}

    def table(self) -> list[dict[str, str]]:
        """Return the runs as a table to read; a run's number is its place, from 1."""
        document = self.document()
        names = short_names(document["differing"])
        same = {place: group[0] for group in document["same_final_models"] for place in group[1:]}
        rows, score_name = list[dict[str, str]](), self._score_name
        for place, run in enumerate(document["runs"]):
            cid = run["final_model"]
            settings = run["settings"] or {}
            rows.append(
                {
                    "run": str(place + 1),
                    "name": run["name"],
                    "seed": str(run["seed"]),
                    **{names[key]: _shown(settings.get(key)) for key in document["differing"]},
                    "rounds": str(run["rounds"]),
                    "test loss": "–" if run["loss"] is None else f"{run['loss']:.4f}",
                    f"test {score_name}": f"{run['score']:.4f}",
                    "best": f"{run['best_score']:.4f}",
                    **told_figures(run["fairness"]),
                    "final model": f"the same as run {same[place] + 1}" if place in same else f"{cid[:8]}…{cid[-6:]}",
                    "seconds": f"{run['seconds']:.1f}",
                    "gas": "–" if run["gas"] is None else f"{run['gas']:,}",
                    "spent": "–" if run["spent"] is None else f"{run['spent']:,}",
                }
            )
        return rows

    def write_page(self, path: Path) -> None:
        """Write the table and the runs' scores by round as a page, with a plot for each kind of score."""
        from fedledger.ledger_tools.report.page import table, write_page

        curves: dict[str, dict[str, list[list[tuple[int, float]]]]] = {}
        for place, record in enumerate(self.records, start=1):
            curves.setdefault(record.score_name, {})[f"{place}: {record.folder.name}"] = [record.scores]
        figures = [score_figure(group, score_name) for score_name, group in curves.items()]
        write_page(path, "Runs compared", "fedledger compare", [table(self.table()), *figures])

    @property
    def _score_name(self) -> str:
        return common_name(record.score_name for record in self.records)


def told_figures(fairness: Mapping[str, float | None]) -> dict[str, str]:
    """Return the columns in which a table tells how fair a run was: see ``RunRecord.fairness``."""
    return {name: "–" if fairness[key] is None else f"{fairness[key]:.4f}" for name, key in FAIRNESS_COLUMNS.items()}


def _shown(value: Any) -> str:
    return "–" if value is None else str(value)
