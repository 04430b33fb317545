"""The experiment that a run's folder tells of, made once more; whoever wrote the folder may be a stranger."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.learning.task_code import TaskCode, load_task_code
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.runs.run_folder import recorded_config
from fedledger.protocol.encoding.strict import shown
from fedledger.protocol.errors import ConfigError, TrustError
from fedledger.protocol.records.spec import MAX_SPEC_BYTES, TaskSpec
from fedledger.storage.base import Readable


def recorded_experiment(
    run_dir: Path, data_dir: Path | None, trusted: frozenset[str], store: Readable, task: TaskHistory
) -> Experiment:
    """Make the experiment of a run once more, with its data and the code that its spec names.

    Parameters
    ----------
    run_dir
        The run's folder.
    data_dir
        What paths of its configuration are relative to. They may not lead out of it. Only with it are data read that
        the configuration names, and not only some that come with an installed package.
    trusted
        CIDs of code that may be run.
    store
        The run's content.
    task
        Its task.

    Raises
    ------
    ConfigError
        If the folder does not tell, or the data are not there or make another spec.
    StoreError
        If the spec or the code cannot be had.
    TrustError
        If it has code that is not trusted.
    """
    config, _ = recorded_config(run_dir)
    spec = TaskSpec.decode(store.get(task.spec, MAX_SPEC_BYTES))
    require_inside(config, run_dir, data_dir, None if spec.code is None else spec.code.cid, trusted)
    folder = data_dir or run_dir
    experiment = make_experiment(config, folder, _code(spec, store, trusted, folder, config))
    if experiment.spec.digest != spec.digest:
        raise ConfigError(
            f"The configuration in {run_dir} makes another spec than that of task {task.id}.",
            "Give the folder with the data that the run had, and the release that it was made with.",
        )
    return experiment


def require_inside(
    config: ExperimentConfig, run_dir: Path, data_dir: Path | None, code: str | None, trusted: frozenset[str]
) -> None:
    """Raise ConfigError or TrustError unless a recorded configuration may be played.

    Parameters
    ----------
    config, run_dir
        The configuration, and where it was found.
    data_dir
        The folder within which its paths have to stay.
    code
        CID of the code that it has.
    trusted
        CIDs of code that may be run.
    """
    named = _named_paths(config)
    untrusted = code is not None and code not in trusted
    options = ["--data-dir FOLDER"] * (data_dir is None and bool(named)) + [f"--trust-code {code}"] * untrusted
    if options:
        wants = ", ".join([*map(shown, named), *(["code of its own"] if code else [])])
        raise (TrustError if untrusted else ConfigError)(
            f"To train again takes what the configuration in {run_dir} names: {wants}.",
            f"Look at it, then give {' '.join(options)}.",
        )
    for name in named:
        if any(kind(name).is_absolute() or ".." in kind(name).parts for kind in (PurePosixPath, PureWindowsPath)):
            raise ConfigError(f"{shown(name)} leads out of the folder of the data.", "Give data that lie within it.")


def _named_paths(config: ExperimentConfig) -> list[str]:
    """Return the texts in a configuration that may be paths or addresses: of its data, its code and its devices."""
    named = [value for value in config.data.source.params.values() if isinstance(value, str)]
    for kind in () if config.devices is None else config.devices.kinds:
        named += [path for path in (kind.rates, kind.online) if isinstance(path, str)]
    return [*named, *([config.code] if config.code is not None else [])]


def _code(
    spec: TaskSpec, store: Readable, trusted: frozenset[str], folder: Path, config: ExperimentConfig
) -> TaskCode | None:
    """Return the code that a spec names, as the store has it: a folder may hold other modules of the same names."""
    if (spec.code is None) != (config.code is None):
        raise ConfigError("The run's configuration and its spec disagree about code.", "Give the folder of a run.")
    if spec.code is None:
        return None
    return load_task_code(store.get(spec.code.ref), spec.code.cid, trusted, folder / "task.py")
