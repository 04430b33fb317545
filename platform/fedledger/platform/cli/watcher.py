"""How the command line lets a node, an aggregator or a verifier run until it ends or is stopped."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

from fedledger.contracts.ledger.actor import Action, Actor, Step, Watcher, stop_signals
from fedledger.platform.cli.console import err


class CountingWatcher(Watcher):
    """Logs what a program does, and counts it."""

    def __init__(self, logger: logging.Logger, tell: Callable[[Step], None] | None = None) -> None:
        super().__init__(logger)
        self.counts: Counter[Action] = Counter()
        self._tell = tell

    def did(self, step: Step) -> None:
        super().did(step)
        self.counts[step.action] += 1
        if self._tell is not None:
            self._tell(step)


def run_program(
    actor: Actor[Any], poll: float, name: str, tell: Callable[[Step], None] | None = None
) -> tuple[bool, dict[str, int]]:
    """Run a program until it has nothing left to do, or SIGINT or SIGTERM stops it.

    Parameters
    ----------
    actor
        The program.
    poll
        Seconds between two looks at the ledger while there is nothing to do.
    name
        What it is, for its log: node, aggregator or verifier.
    tell
        Is told each step that did something.

    Returns
    -------
    tuple
        Whether it has nothing left to do, and how often it did what.
    """
    watcher = CountingWatcher(logging.getLogger(f"fedledger.{name}"), tell)
    with stop_signals() as stop:
        ended = actor.run(poll, stop, watcher)
    if not ended:
        err.print(f"The {name} was stopped; started again, it goes on where it was.", highlight=False)
    return ended, {action.value: count for action, count in watcher.counts.items()}
