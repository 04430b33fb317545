"""The command that tells what publishers think of participants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fedledger.platform.cli.console import Format, FormatOption, err, out, print_json, print_rows
from fedledger.platform.cli.console import reputation as in_words
from fedledger.platform.cli.context import LedgerOptions
from fedledger.platform.cli.options import TaskOption, expand_options, read_address
from fedledger.protocol.records.reputation import PPM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedledger.contracts.ledger.records import TaskRecord
    from fedledger.ledger_tools.report.opinions import Listening, ReputationView
    from fedledger.protocol.records.reputation import Opinion

reputations_app = typer.Typer()


@reputations_app.command()
@expand_options
def reputation(
    at: LedgerOptions,
    address: Annotated[
        str | None, typer.Argument(parser=read_address, metavar="ADDRESS", help="owner of a participant")
    ] = None,
    task: TaskOption = 1,
    publisher: Annotated[
        str | None,
        typer.Option(parser=read_address, metavar="ADDRESS", help="who thinks of them (default: the task's publisher)"),
    ] = None,
    recommenders: Annotated[
        str, typer.Option(help="addresses of other publishers to which it listens, separated by commas")
    ] = "",
    trust: Annotated[
        int | None,
        typer.Option(
            min=0, max=PPM, metavar="PPM", help="how much their opinions count (default: the task's, or else half)"
        ),
    ] = None,
    block: Annotated[int | None, typer.Option(min=0, help="number of a block (default: the newest one)")] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show what a publisher thinks of a participant, or of all of a task: its own opinion, and with recommenders.

    These are the ledger's own opinions, whatever reputation model the task has. An opinion is belief / disbelief /
    uncertainty; a reputation is belief and half of the uncertainty. Evidence counts 240 for each accepted or refused
    update and 15 for each missed round, and fades with each verdict. The age is the days since the evidence last
    changed, up to 90. A task's recommenders are heard if --recommenders names them, as its spec does.
    """
    from fedledger.ledger_tools.report.opinions import Listening, reputation_rows

    ledger = at.open(reading=True)
    terms = ledger.task(task) if publisher is None or address is None else None
    named = _addresses(recommenders)
    if trust is None:
        trust = _trust(terms)
    if publisher is None and terms is not None:
        publisher = terms.publisher
    asked = Listening(publisher or "", named, trust)
    rows = reputation_rows(ledger, task, [] if address is None else [address], asked, block)
    if format_ is Format.JSON:
        document = {"publisher": asked.publisher, "recommenders": list(named), "trust": trust if named else None}
        print_json({**document, "block": block, "participants": [row.document() for row in rows]})
        return
    _print(asked, rows, task)
    if not named and terms is not None and terms.publisher == publisher:
        _tell_recommenders(terms, task)


def _trust(terms: TaskRecord | None) -> int:
    from fedledger.protocol.records.opinions import DEFAULT_RECOMMENDER_TRUST

    return (0 if terms is None else terms.params.recommender_trust) or DEFAULT_RECOMMENDER_TRUST


def _tell_recommenders(terms: TaskRecord, task: int) -> None:
    # The ledger has no more of them than a hash.
    if any(terms.params.recommenders):
        err.print(f"Task {task} has recommenders. To hear them, name those of its spec: --recommenders.", markup=False)


def _print(asked: Listening, rows: Sequence[ReputationView], task: int) -> None:
    if not rows:
        out.print(f"Nobody has enrolled in task {task}.", markup=False, highlight=False)
        return
    print_rows([_cells(row, bool(asked.recommenders)) for row in rows], f"What {asked.publisher} thinks")


def _addresses(text: str) -> tuple[str, ...]:
    return tuple(read_address(each.strip()) for each in text.split(",") if each.strip())


def _cells(row: ReputationView, listens: bool) -> dict[str, object]:
    """Return a row of the table; without recommenders there is one opinion."""
    evidence = row.evidence
    cells: dict[str, object] = {
        "participant": row.address,
        "reputation": in_words(row.reputation),
        "own opinion": _opinion(row.own),
    }
    if listens:
        cells |= {"recommended": _opinion(row.recommended), "fused": _opinion(row.fused)}
    return cells | {
        "age": "unknown" if row.age is None else f"{row.age} days",
        "evidence": f"{evidence.positive} good, {evidence.negative} bad, {evidence.missed} missed",
        "as scorer": in_words(row.scorer.reputation),
    }


def _opinion(opinion: Opinion) -> str:
    parts = opinion.belief, opinion.disbelief, opinion.uncertainty
    return " / ".join(in_words(part) for part in parts)
