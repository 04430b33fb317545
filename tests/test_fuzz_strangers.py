"""Whatever strangers post, propose, announce or call, programs go on: fuzzing of whole programs on a real chain.

One world takes many hostile tasks. Besides them an honest task goes on, with a liar as its aggregator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import settings

from fedledger.contracts.abi import functions
from fedledger.contracts.ledger.records import DisputeStatus
from fedledger.ledger_tools.audit.audit import AuditResult
from fedledger.protocol.encoding.cid import ContentRef
from support.examples import FUZZ, FUZZ_TIMES
from support.hostile import mutated_bytes
from support.strangers import Stranger, audited, check_caught, hostile_proposal, hostile_spec, odd_argument
from support.world import World, liar, settled, world, wrong_model

QUICK = 20
"""Mutants of each kind."""

Hostile = Callable[[Stranger, Random], None]


def many() -> int:
    return QUICK * (FUZZ_TIMES if settings.get_current_profile_name() == FUZZ else 1)


def specs(stranger: Stranger, rng: Random) -> None:
    """A task whose spec, model or validation set is wrong, and a proposal of nothing in it."""
    stranger.fabricate(stranger.post(hostile_spec(stranger.world, rng)))


def proposals(stranger: Stranger, rng: Random) -> None:
    """A task with a good spec, a round that is played as it should be, and a wrong proposal."""
    spec = stranger.world.experiment.spec
    task = stranger.post(spec)
    honest = stranger.work(task, spec)
    stranger.world.ledger.propose_round(stranger.account, task, 1, hostile_proposal(stranger.world, honest, rng))


def updates(stranger: Stranger, rng: Random) -> None:
    """A good task, an update that is none, and a proposal that follows all the same from nothing."""
    world = stranger.world
    content = rng.choice((b"", b"\0" * 9, rng.randbytes(3_000), mutated_bytes(world.experiment.spec.encode(), rng)))
    ref = world.store.put(content)
    odd = rng.choice(
        (ref, ref, replace(ref, length=ref.length + 1), ContentRef(ref.digest, 2**40), ContentRef(SALT, 1))
    )
    stranger.fabricate(stranger.post(world.experiment.spec), odd)


SALT = bytes(32)


def calls(stranger: Stranger, rng: Random) -> None:
    """Every function of the ledger, with arguments that nobody expects."""
    for name, function in sorted(functions().items()):
        stranger.call(name, *(odd_argument(kind, rng, stranger.world) for kind in function.inputs))


KINDS: dict[str, Hostile] = {each.__name__: each for each in (specs, proposals, updates, calls)}


def play_beside(folder: Path, kind: str, seeds: range) -> None:
    """Have a liar's task, and verifiers that meet hostile tasks first; check that nothing is lost."""
    strangers: list[Stranger] = []

    def first(w: World) -> None:
        strangers.append(Stranger(w))
        for seed in seeds:
            KINDS[kind](strangers[0], Random(f"{kind} {seed}"))

    with world(folder, verifiers=4, first=first) as w:
        w.aggregators = [w.aggregator(kind=liar(wrong_model))]
        w.join().play(lambda: w.task.finished)
        (dispute,) = [d for d in w.history.disputes if d.task == w.number]
        assert dispute.status is DisputeStatus.OVERTURNED and dispute.round == 1
        assert settled(w.task) == [2, 3] and w.audit().reproduced
        check_caught(w)
        for task in strangers[0].tasks:
            found = audited(w, task)
            assert not isinstance(found, AuditResult) or not found.reproduced or kind == "proposals"


@pytest.mark.hypothesis
@pytest.mark.parametrize("kind", KINDS)
def test_strangers_stop_nobody_and_save_no_liar(tmp_path: Path, kind: str) -> None:
    play_beside(tmp_path, kind, range(many()))


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_many_strangers_stop_nobody_and_save_no_liar(tmp_path: Path, kind: str) -> None:
    play_beside(tmp_path, kind, range(1_000, 1_000 + QUICK * FUZZ_TIMES))
