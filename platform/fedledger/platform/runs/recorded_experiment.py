"""The experiment that a run's folder tells of, made once more."""

from __future__ import annotations

from pathlib import Path

from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.runs.run_folder import recorded_config
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ConfigError, TrustError


def recorded_experiment(run_dir: Path, data_dir: Path, trusted: frozenset[str]) -> Experiment:
    """Make the experiment of a run once more, with its data and, if it has any, its code.

    Parameters
    ----------
    run_dir
        The run's folder.
    data_dir
        What paths of its configuration are relative to.
    trusted
        CIDs of code that may be run.

    Raises
    ------
    ConfigError
        If the folder does not tell, or the data or the code are not there.
    TrustError
        If it has code that is not trusted.
    """
    config, _ = recorded_config(run_dir)
    if config.code is not None:
        try:
            code = ContentRef.of((data_dir / config.code).read_bytes()).cid
        except OSError as error:
            raise ConfigError(f"{config.code} cannot be read: {error}.", "Give its folder with --data-dir.") from error
        if code not in trusted:
            raise TrustError(
                f"The experiment has code of its own, {config.code}.",
                f"Read it, then train with --trust-code {code}.",
            )
    return make_experiment(config, data_dir)
