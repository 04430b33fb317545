"""A run with a ledger, from its chain to its results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.connection import EMBEDDED
from fedledger.contracts.chain.development import find_program, running_chain
from fedledger.contracts.chain.reverts import RefusedError
from fedledger.ledger_tools.audit.export import DEPLOYMENT_FILE
from fedledger.ledger_tools.deploy import Deployment
from fedledger.platform.engine.backends.base import Backend
from fedledger.platform.engine.plain_mean import mean_scores
from fedledger.platform.engine.with_ledger import RoundMetrics, run
from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.experiment.run_files import CHAIN_FILE
from fedledger.platform.runs.results import write_results
from fedledger.platform.runs.run_folder import begin_run
from fedledger.platform.runs.summary import LedgerSummary
from fedledger.protocol.errors import ChainError, ConfigError
from fedledger.storage.base import ContentStore
from fedledger.storage.foreign_files import read_text


@contextmanager
def open_chain(where: str, folder: Path) -> Iterator[Chain]:
    """Open the chain of a run; the run's folder remembers which it is.

    Parameters
    ----------
    where
        ``embedded``, ``anvil``, ``ganache``, a URL, or ``auto`` for the one that the folder remembers; else Anvil if it
        is found, else the embedded one.
    folder
        The run's folder.
    """
    remembered = folder / CHAIN_FILE
    if where == "auto":
        where = _remembered(remembered) or ("anvil" if find_program("anvil") else EMBEDDED)
    remembered.write_text(where)
    if where in ("anvil", "ganache"):
        with running_chain(where) as process:  # type: ignore[arg-type]
            chain = Chain(process.url)
            _keep_journal(chain, folder / "chain.jsonl")
            yield chain
        return
    chain = Chain(where)
    if where == EMBEDDED:
        _keep_journal(chain, folder / "chain.jsonl")
    yield chain


def _keep_journal(chain: Chain, path: Path) -> None:
    """Bring a new chain to where the run's was, and keep its journal on."""
    try:
        chain.keep_journal(path)
    except RefusedError as error:
        raise ChainError(f"The chain refuses what its journal {path} says: {error}.", "Start the run anew.") from error


def _remembered(path: Path) -> str | None:
    """Return which chain a run's folder remembers, if it does."""
    try:
        return read_text(path).strip() or None
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} does not say which chain the run is on: {error}.", "Give --chain.") from error


def run_with_ledger(
    experiment: Experiment,
    source: Path,
    folder: Path,
    chain: Chain,
    store: ContentStore,
    watch: Callable[[RoundMetrics], None] = lambda metrics: None,
    backend: Backend | None = None,
) -> LedgerSummary:
    """Run an experiment with a ledger, or continue an interrupted run, and write its results.

    Parameters
    ----------
    experiment
        The experiment.
    source
        Paths in the configuration are relative to it.
    folder
        The run's folder. If it has a deployment record, the run continues on that ledger.
    chain, store
        Where the ledger and the content are.
    watch
        Called after every round that counts.
    backend
        Where participants are trained; in this process unless given.

    Returns
    -------
    LedgerSummary
        What is in ``run.json``.

    Raises
    ------
    ConfigError
        If the run was made from something else, or draws by blocks' hashes on a chain on which others would be drawn.
    """
    found = folder / DEPLOYMENT_FILE
    deployment = Deployment.read(found) if found.exists() else None
    drawn = _drawn_by_blocks(experiment)
    if deployment is not None and chain.has_other_blocks and drawn:
        raise ConfigError(
            f"The run in {folder} cannot be resumed: its {drawn} were drawn by the hashes of blocks, which a "
            f"{chain.capabilities.client} made again does not have.",
            "Start a new run; those with --chain embedded can be resumed.",
        )
    begin_run(experiment, folder)
    aside = ProcessPoolExecutor(1, get_context("spawn"))
    try:
        compared = experiment.config.compare_with_mean and experiment.spec.schedule is None
        means = aside.submit(mean_scores, experiment.config, source) if compared else None
        finished = run(experiment, chain, store, folder, watch, deployment, backend)
        return write_results(finished, experiment, store, folder, means.result() if means else [])
    finally:
        # Nobody waits for the process to end once it has answered.
        aside.shutdown(wait=False, cancel_futures=True)


def _drawn_by_blocks(experiment: Experiment) -> str:
    """Return what hashes of blocks decide about in a run; empty if they do about nothing."""
    if experiment.config.ledger.check_rate:
        return "spot checks"
    return "scorers" if experiment.config.ledger.scorers else ""
