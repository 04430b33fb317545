"""Attacks on committed data and spot checks, by participants, publishers, aggregators and strangers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_spot_checks import terms

from fedledger.contracts.abi import RevertedError
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.actor import Situation
from fedledger.contracts.ledger.check_history import CheckHistory
from fedledger.contracts.ledger.check_times import CheckTimes
from fedledger.contracts.ledger.records import CheckState
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.learning.data import Dataset
from fedledger.learning.equal_examples import example_keys
from fedledger.node.held_out import HeldOut
from fedledger.node.training import LocalTrainer
from fedledger.platform.experiment.accounts import experiment_auditor
from fedledger.platform.spot_checks import judge as judge_module
from fedledger.platform.spot_checks.findings import Findings, Judged
from fedledger.platform.spot_checks.judge import TaskJudge
from fedledger.platform.spot_checks.summoning import Summoning
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records import update as wire
from fedledger.protocol.records.data_root import DataRoot
from fedledger.protocol.records.signatures import data_message, sign
from fedledger.protocol.records.spot_checks import Reason
from support import checked as support_checked
from support.checked import PERIOD, Checked, post_checked
from support.small import run_small
from support.spot_checks import digit_scene, key_of


def auditor_access(w: Checked, place: int) -> TaskAccess:
    return TaskAccess(w.ledger, w.history, w.auditors[place], w.store, w.number, w.people[0].access.spec)


def test_an_auditor_whose_key_the_spec_has_wrong_fails_nobody(tmp_path: Path) -> None:
    pairs = [(experiment_auditor(0, i), experiment_auditor(99, i)) for i in (0, 1)]
    named = ", ".join(
        f'{{ account = "{own.account}", key = "{other.key}", signature = "{signed.signature}" }}'
        for (own, other), signed in zip(pairs, (pairs[0][0], pairs[1][1]), strict=True)
    )
    with pytest.raises(ConfigError, match="has not signed its key"):
        run_small(tmp_path, Chain(), rounds=1, extra=terms(training=f"spot_checks = {{ auditors = [{named}] }}\n"))


def test_who_has_a_validation_row_twice_passes(tmp_path: Path) -> None:
    scene = digit_scene()
    first, rest = scene.dataset.stretch(0, 1), scene.dataset
    inputs, targets = (np.concatenate(pair) for pair in ((first.inputs, rest.inputs), (first.targets, rest.targets)))
    twice = Dataset(inputs, targets, 10)
    # As nodes take them in tasks with spot checks: all that are equal.
    public = Counter({next(iter(example_keys(twice.inputs, twice.targets))): len(twice)})
    held = HeldOut.of(twice, Counter(), public, 1.0)
    trained = replace(scene, dataset=held.filled(twice.take(np.delete(np.arange(len(twice)), held.others))))
    assert trained.judged(public=frozenset(public)).reason is Reason.PASSED


@pytest.mark.parametrize("every", [1, 4])
def test_a_node_with_other_data_commits_to_no_update_that_its_root_does_not_cover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    monkeypatch.setattr(support_checked, "CHECKED", f"committed_data = {{ every = {every} }}{support_checked.CHECKED}")
    w = post_checked(tmp_path, rounds=5)
    w.propose(1)
    if every == 1:
        w.play(lambda: 2 in w.task.rounds)
    node = w.people[0]
    assert isinstance(node.updates.trainer, LocalTrainer) and node.data is not None and node.checks is not None
    data = node.updates.trainer.dataset
    fewer = replace(node.updates.trainer, dataset=data.take(np.arange(len(data) - 2)))
    node.updates.trainer = node.data._trainer = node.checks.trainer = fewer
    node.data._roots = {}
    current, me = w.propose(2), node.access.participant
    assert me is not None
    word = w.task.committed(me, 2, every)
    assert word is not None
    if me in current.reveals:
        sent = wire.read_header(w.store.get(current.reveals[me].update)).examples
        assert sent == DataRoot.of_word(word).count


def test_a_signed_commitment_to_data_counts_once(tmp_path: Path) -> None:
    w = post_checked(tmp_path)
    node = w.people[0]
    w.play(lambda: node.access.participant is not None and node.access.participant in w.task.enrolled)
    me = node.access.participant
    assert me is not None and not w.task.rounds
    word = 7 << 32 | 5
    signed = [(me, word, sign(data_message(node.access.place, 1, me, word), bytes(node.access.account.key)))]
    w.ledger.commit_data_of(w.auditors[0], w.number, signed)
    w.ledger.commit_data(node.access.account, w.number, word + (1 << 40))
    w.ledger.commit_data_of(w.auditors[1], w.number, signed)
    words = [known.word for known in w.task.data[me]]
    assert words[-1] == word + (1 << 40) and words.count(word) == 1


def test_a_failure_that_was_found_is_posted_before_other_checks_are_looked_at(tmp_path: Path) -> None:
    w = post_checked(tmp_path, 8)
    w.propose(1)
    w.summon(1, w.task.enrolled)
    for participant in w.task.enrolled:
        w.answer(1, participant, b"t" * 32)
    place = max((0, 1), key=lambda p: sum(check.auditor == p for check in w.task.checks))
    mine = [check.participant for check in w.task.checks if check.auditor == place]

    def slow(task: TaskHistory, check: CheckHistory, is_last_try: bool) -> Judged:
        if check.participant == mine[0]:
            return Judged(False, reason="does not follow")
        w.ledger.chain.advance(6 * PERIOD // 5)
        return Judged(True, b"t" * 32)

    findings = Findings(auditor_access(w, place), place, CheckTimes(w.ledger), slow, tmp_path / "findings")
    while findings(Situation(w.task, w.ledger.phase(w.number))) is not None:
        pass
    assert w.check(1, mine[0]).state is CheckState.FAILED


def test_a_proposal_that_a_reorganisation_puts_into_another_block_is_drawn_anew(tmp_path: Path) -> None:
    w = post_checked(tmp_path)
    w.propose(1)
    summoning = Summoning(auditor_access(w, 1), 1, CheckTimes(w.ledger))
    w.ledger.chain.advance(1)
    while summoning.summon(Situation(w.task, w.ledger.phase(w.number))) is not None:
        pass
    task = w.task
    current = task.rounds[1]
    assert current.proposed_at is not None
    # The transaction is the same, the block another one, and the summons was in a block that is gone.
    current.checks.clear()
    current.check_seed = None
    current.proposed_at = replace(current.proposed_at, block=current.proposed_at.block + 1)
    with pytest.raises(RevertedError):
        summoning.summon(Situation(task, w.ledger.phase(w.number)))


def test_an_update_that_its_participant_did_not_sign_fails_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = post_checked(tmp_path)
    current, me = w.propose(1), w.people[0].access.participant
    assert me is not None
    w.summon(1, [me])
    w.answer(1, me, b"t" * 32)
    sent = wire.decode(w.store.get(current.reveals[me].update))
    forged = w.store.put(wire.encode(sent.header, {name: array * 0 for name, array in sent.vectors.items()}, key_of(7)))
    monkeypatch.setattr(judge_module, "_update_of", lambda *_: forged)
    check = w.check(1, me)
    assert TaskJudge(auditor_access(w, check.auditor))(w.task, check, True) is None
