"""Benchmark commands."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from fedledger.platform.cli.console import (
    BenchFormat,
    BenchFormatOption,
    err,
    number,
    out,
    print_json,
    print_rows,
    progress_bar,
)
from fedledger.protocol.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from fedledger.contracts.chain.chain import Chain
    from fedledger.platform.bench.gas import GasRow, PeerRow

bench_app = typer.Typer(no_args_is_help=True, help="Benchmarks of training, of the ledger and of its rounds.")

FiguresOption = Annotated[Path | None, typer.Option("--out", help="JSON file to write the figures to")]
WORKLOADS = "what to train, separated by commas"


@bench_app.command("gas")
def bench_gas(
    chains: Annotated[
        list[str] | None, typer.Option("--chain", help="anvil, ganache or embedded; repeatable (default: anvil)")
    ] = None,
    participants: Annotated[str, typer.Option(help="sizes of the batched rounds, separated by commas")] = "100,1000",
    sparse: Annotated[
        bool, typer.Option(help="also rounds of 1,000 of 4,096 registered participants; slow except on Anvil")
    ] = True,
    output: FiguresOption = None,
    format_: BenchFormatOption = BenchFormat.TABLE,
) -> None:
    """Measure the gas of a whole round per participant, and compare it with published figures of other ledgers."""
    from fedledger.contracts.compile import VERSION
    from fedledger.platform.bench.gas import PEERS, calldata_gas, measure

    counts = _sizes(participants)
    measured, rows = {}, []
    for kind in chains or ["anvil"]:
        with _fresh_chain(kind) as chain, err.status("measuring") as shown:
            measured[kind] = {"client": chain.capabilities.client, "calldata_byte": calldata_gas(chain)}
            rows += list(measure(chain, kind, counts, sparse, lambda doing: shown.update(f"measuring {doing}")))
    document = {
        "ledger": VERSION,
        "chains": measured,
        "rows": [vars(row) for row in rows],
        "peers": [vars(peer) for peer in PEERS],
    }
    if write_figures(document, output, format_):
        return
    print_rows([_gas_cells(row) for row in rows], "Gas of whole rounds")
    print_rows([_peer_cells(peer) for peer in PEERS], "Published figures of other ledgers")
    for kind, about in measured.items():
        out.print(f"{kind}: {about['client']}, {about['calldata_byte']} gas per byte of plain calldata")


def _sizes(text: str) -> list[int]:
    try:
        return [int(size) for size in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"{text!r} is not a list of numbers.", "Give for example --participants 100,1000.") from error


def _gas_cells(row: GasRow) -> dict[str, object]:
    return {
        "mode": row.mode,
        "case": row.case,
        "chain": row.chain,
        "participants": row.participants,
        "gas per participant": number(row.gas_per_participant),
        "largest own transaction": number(row.own_transaction),
        "withdrawal": number(row.withdrawal),
        "": row.error,
    }


def _peer_cells(peer: PeerRow) -> dict[str, object]:
    return {
        "ledger": peer.name,
        "participants": number(peer.participants),
        "gas per participant": " to ".join(f"{gas:,}" for gas in sorted({peer.gas, peer.gas_most})),
        "": peer.note,
    }


@bench_app.command("round")
def bench_round(
    participants: Annotated[int, typer.Option(help="number of participants", min=1, max=1024)] = 1000,
    kind: Annotated[str, typer.Option("--chain", help="anvil or ganache")] = "anvil",
    format_: BenchFormatOption = BenchFormat.TABLE,
) -> None:
    """Time a round of signed commitments without training and evaluation: mailbox over HTTP, ledger and chain."""
    from fedledger.contracts.chain.connection import EMBEDDED
    from fedledger.platform.bench.round import Part, time_round

    if kind == EMBEDDED:
        raise ConfigError("The embedded chain cannot be shared by two processes.", "Give anvil or ganache.")
    with _fresh_chain(kind) as chain, TemporaryDirectory() as folder, err.status("registering, then timing"):
        client = chain.capabilities.client
        parts = time_round(chain, participants, Path(folder))
    total = sum(part.seconds for part in parts)
    if format_ is BenchFormat.JSON:
        document = {"participants": participants, "chain": client, "seconds": total}
        print_json({**document, "parts": [vars(part) for part in parts]})
        return
    whole = Part("total", total, sum(part.aggregator for part in parts), sum(part.participants for part in parts))
    print_rows(
        [
            {
                "part": part.name,
                "seconds": f"{part.seconds:.2f}",
                "CPU seconds of the aggregator": f"{part.aggregator:.2f}",
                "CPU seconds of all participants": f"{part.participants:.2f}",
            }
            for part in [*parts, whole]
        ],
        f"A round of {participants:,} on {client}",
    )


@bench_app.command("schedules")
def bench_schedules(
    workloads: Annotated[str, typer.Option(help=WORKLOADS)] = "digits,heavy",
    seeds: Annotated[int, typer.Option(help="number of seeds", min=1)] = 5,
    output: FiguresOption = None,
    format_: BenchFormatOption = BenchFormat.TABLE,
) -> None:
    """Simulate the time and energy that each schedule needs to reach 90 % test accuracy on a mix of devices."""
    from fedledger.platform.bench.option_lists import listed
    from fedledger.platform.bench.schedules import CYCLES, compare

    chosen = listed(workloads, "--workloads")
    unknown = [name for name in chosen if name not in CYCLES]
    if unknown:
        raise ConfigError(f"There is no workload {unknown[0]}.", f"There are: {', '.join(CYCLES)}.")
    with err.status("starting", refresh_per_second=1) as shown:
        rows = compare(chosen, range(seeds), lambda doing: shown.update(f"playing {doing}"))
    document = {"seeds": seeds, "rows": [asdict(row) for row in rows]}
    if write_figures(document, output, format_):
        return
    print_rows(
        [
            {
                "workload": row.workload,
                "schedule": row.schedule,
                "rate, epochs": f"{row.learning_rate}, {row.local_epochs}",
                "s to 90 %": f"{row.seconds:.3f}",
                "joules": f"{row.joules:.1f}",
                "speed-up": "–" if row.speedup is None else f"{row.speedup:.2f}",
                "energy": "–" if row.energy is None else f"{row.energy:.2f}",
                "rounds": f"{row.rounds:g}",
                "staleness": f"{row.mean_staleness:.1f}",
                "heard": f"{row.heard:.0f}",
                "reached": f"{row.reached} of {seeds}",
            }
            for row in rows
        ],
        "Medians over seeds",
    )


@bench_app.command("engine")
def bench_engine(
    peers: Annotated[str, typer.Option(help="frameworks to compare with, besides bare torch: flwr, pfl or both")] = "",
    workloads: Annotated[str, typer.Option(help=WORKLOADS)] = "digits,mlp,cnn,gru",
    rounds: Annotated[int | None, typer.Option(help="rounds of each workload (default: its own number)")] = None,
    repetitions: Annotated[int | None, typer.Option(help="how often each engine is run (default: 5)")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="few rounds, two repetitions: only see that it runs")] = False,
    peer_python: Annotated[
        Path | None,
        typer.Option(help="Python interpreter with the peers installed (default: that of `make bench`)"),
    ] = None,
    output: FiguresOption = None,
    format_: BenchFormatOption = BenchFormat.TABLE,
) -> None:
    """Compare rounds of training without a ledger with bare torch and other frameworks, in time and memory."""
    from fedledger.platform.bench.engine import QUICK_ROUNDS, ROUNDS, WARM_UP, Bench
    from fedledger.platform.bench.option_lists import listed

    usual = QUICK_ROUNDS if quick else ROUNDS
    plan = {name: rounds or usual.get(name, WARM_UP + 1) for name in listed(workloads, "--workloads")}
    times = repetitions if repetitions is not None else 2 if quick else 5
    # A spinner would take time from what is timed.
    with err.status("starting", refresh_per_second=1) as shown:
        result = Bench.find(peer_python).compare(
            listed(peers, "--peers") if peers else [], plan, times, lambda doing: shown.update(f"measuring {doing}")
        )
    document = {"warm_up_rounds": WARM_UP, **asdict(result)}
    if write_figures(document, output, format_):
        return
    print_rows(
        [
            {
                "workload": row.workload,
                "engine": row.engine,
                "s per round, median": f"{row.seconds_per_round:.5f}",
                "mean": f"{row.mean_seconds_per_round:.5f}",
                "s until the first round ends": f"{row.first_round_seconds:.2f}",
                "peak MB (PSS)": "–" if row.peak_pss_mb is None else f"{row.peak_pss_mb:,.0f}",
                "rounds": f"{len(row.repetitions)} × {row.rounds}",
                "": row.about,
            }
            for row in result.rows
        ],
        "Rounds of training without a ledger",
    )
    print_rows(
        [
            {
                "workload": ratio.workload,
                "ratio": ratio.ratio,
                "figure": ratio.figure,
                "value": f"{ratio.value:.2f}",
                "target": ratio.target,
                "met": {True: "yes", False: "no", None: ""}[ratio.met],
            }
            for ratio in result.ratios
        ],
        "Ratios",
    )


@bench_app.command("scale")
def bench_scale(
    participants: Annotated[int, typer.Option(min=1, help="number of participants")] = 100_000,
    selected: Annotated[int, typer.Option(min=1, help="number of participants selected in each round")] = 1_000,
    rounds: Annotated[int, typer.Option(min=1, help="number of rounds")] = 200,
    ledger: Annotated[bool, typer.Option("--ledger", help="run with a ledger (at most 4,096 participants)")] = False,
    format_: BenchFormatOption = BenchFormat.TABLE,
) -> None:
    """Run rounds with very many participants and show how time and memory develop."""
    from fedledger.platform.bench.scale import play, summary

    with progress_bar("playing") as watch:
        rows = play(participants, selected, rounds, ledger, lambda row: watch("rounds", row.round, rounds))
    document = {"participants": participants, "selected": selected, "ledger": ledger, **summary(rows)}
    if format_ is BenchFormat.JSON:
        print_json({**document, "rows": [asdict(row) for row in rows]})
        return
    shown = rows[:: max(1, len(rows) // 20)]
    most = max((row.memory_mb or 0.0 for row in rows), default=0.0) or 1.0
    print_rows(
        [
            {
                "round": row.round,
                "seconds": f"{row.seconds:.3f}",
                "MB (PSS)": "–" if row.memory_mb is None else f"{row.memory_mb:,.0f}",
                "": "█" * round(40 * (row.memory_mb or 0.0) / most),
            }
            for row in shown
        ],
        f"{participants:,} participants, {selected:,} per round{', with a ledger' if ledger else ''}",
    )
    out.print(", ".join(f"{name.replace('_', ' ')} {value:,.2f}" for name, value in summary(rows).items()))


@bench_app.command("ledger")
def bench_ledger(
    cases: Annotated[
        str | None,
        typer.Option(
            help="WORKLOAD:PARTICIPANTS:VALIDATION:ROUNDS[:WORKERS], separated by commas (default: all the usual ones)"
        ),
    ] = None,
    audit: Annotated[bool, typer.Option(help="also time an audit and the run that it replays")] = True,
    quick: Annotated[bool, typer.Option("--quick", help="few rounds of few participants, and no audit")] = False,
    output: FiguresOption = None,
    format_: BenchFormatOption = BenchFormat.TABLE,
) -> None:
    """Compare rounds with the ledger on Anvil with the training in them, and an audit with the run it replays."""
    from fedledger.platform.bench.ledger import AUDITED, CASES, QUICK, WARM_UP, Case, time_all
    from fedledger.platform.bench.option_lists import listed

    chosen = (QUICK if quick else CASES) if cases is None else tuple(map(Case.read, listed(cases, "--cases")))
    # A spinner would take time from what is timed.
    with err.status("starting", refresh_per_second=1) as shown:
        rows, audits = time_all(
            chosen, AUDITED if audit and not quick else None, lambda doing: shown.update(f"timing {doing}")
        )
    document = {"warm_up_rounds": WARM_UP, "rows": [asdict(r) for r in rows], "audits": [asdict(a) for a in audits]}
    if write_figures(document, output, format_):
        return
    print_rows(
        [
            {
                "workload": row.workload,
                "participants": number(row.participants),
                "validation": number(row.validation),
                "workers": number(row.workers),
                "s per round, median": f"{row.seconds_per_round:.4f}",
                "s per round, 9th decile": f"{row.most_seconds_per_round:.4f}",
                "training alone": f"{row.training_seconds_per_round:.4f}",
                "overhead": f"{row.overhead:.1%}",
                "overhead, ms per participant": f"{row.overhead_ms_per_participant:.2f}",
                "CPU ms per participant": f"{row.processor_ms_per_participant:.2f}",
                "accepted": number(row.accepted),
                "rounds": number(row.rounds),
            }
            for row in rows
        ],
        "Rounds with the ledger on Anvil",
    )
    if audits:
        print_rows(
            [
                {
                    "workload": row.workload,
                    "rounds": number(row.rounds),
                    "processes": number(row.processes),
                    "run, s": f"{row.run_seconds:.2f}",
                    "audit, s": f"{row.audit_seconds:.2f}",
                    "ratio": f"{row.ratio:.1f}",
                    "ratio of each repetition": ", ".join(f"{ratio:.1f}" for ratio in row.ratios),
                }
                for row in audits
            ],
            "Audits",
        )


@bench_app.command("models")
def bench_models(
    examples: Annotated[
        str | None, typer.Option(help="which, separated by commas: lora, batch_norm/fedavgm, … (default: all of them)")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="folder of data sets (default: FEDLEDGER_DATA, or else examples/data)")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="rounds of each example (default: its own number)")] = None,
    document: Annotated[
        Path | None, typer.Option(help="document whose table is to be written anew, such as docs/models.md")
    ] = None,
    output: FiguresOption = None,
    format_: BenchFormatOption = BenchFormat.TABLE,
) -> None:
    """Train each example without a ledger and with one, audit it, and show what it comes to.

    The ledger is on the embedded chain, and one process plays all parts. The exit code is 6 unless all are reproduced.
    """
    from fedledger.platform.bench.models import COMMAND, REPRODUCED, Examples, table_cells, try_examples, with_table
    from fedledger.platform.bench.option_lists import listed
    from fedledger.platform.bench.tables import marked_document

    text = None if document is None else marked_document(document, COMMAND)

    with err.status("starting", refresh_per_second=1) as shown:
        rows, left_out = try_examples(
            Examples.find(data),
            [] if examples is None else listed(examples, "--examples"),
            rounds,
            lambda doing: shown.update(f"trying {doing}"),
        )
    for name, lacking in left_out.items():
        err.print(f"{name} is left out: there is no data set {lacking}; give its folder with --data.", markup=False)
    if document is not None and text is not None:
        document.write_text(with_table(text, rows), encoding="utf-8")
    if not write_figures({"rows": [asdict(row) for row in rows], "left_out": left_out}, output, format_):
        print_rows([table_cells(row) for row in rows], "What the examples come to, in one run")
    if any(row.audit != REPRODUCED for row in rows):
        raise typer.Exit(ExitCode.NOT_REPRODUCED)


@contextmanager
def _fresh_chain(kind: str) -> Iterator[Chain]:
    from fedledger.contracts.chain.chain import Chain
    from fedledger.contracts.chain.connection import EMBEDDED
    from fedledger.contracts.chain.development import running_chain

    if kind == EMBEDDED:
        yield Chain()
    elif kind in ("anvil", "ganache"):
        with running_chain(kind) as process:  # type: ignore[arg-type]
            yield Chain(process.url)
    else:
        raise ConfigError(f"There is no chain {kind!r}.", "Give anvil, ganache or embedded.")


def write_figures(document: Mapping[str, object], output: Path | None, format_: BenchFormat) -> bool:
    """Write figures to the file if one was given, print them if JSON is wanted, and return whether it is."""
    if output is not None:
        output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if format_ is BenchFormat.JSON:
        print_json(document)
    return format_ is BenchFormat.JSON
