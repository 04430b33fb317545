"""Seals of validation sets through the client: who opens them, what it returns, and what the logs tell of it."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest
from eth_account.signers.local import LocalAccount

from fedledger.contracts.abi import RevertedError, checksum_address
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.records import SealRecord, Settings, TaskParams
from fedledger.ledger_tools.deploy import deploy
from fedledger.platform.experiment.accounts import PUBLISHER, experiment_account, participant_role
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.encoding.keccak import keccak

KEY = bytes(range(32))
DEPOSIT, PERIOD = 10**15, 1000
TERMS = TaskParams(
    spec=ContentRef.of(b"spec"),
    model=ContentRef.of(b"model"),
    aggregator=checksum_address("0x" + "aa" * 20),
    rounds=1,
    quorum=1,
    min_participants=1,
    max_participants=1,
    enrol_period=100,
    commit_period=10,
    reveal_period=10,
    propose_period=10,
    challenge_window=0,
    max_unfinal=1,
    randomness=0,
    min_stake=0,
    min_reputation=0,
    bond=0,
    credit_unit=7,
    units_per_round=1000,
    seal=keccak(KEY),
    seal_deposit=DEPOSIT,
    seal_period=PERIOD,
)


class Sealed(NamedTuple):
    """A ledger with a sealed task, its publisher and somebody else."""

    ledger: Ledger
    history: History
    task: int
    publisher: LocalAccount
    stranger: LocalAccount

    def end(self) -> None:
        """Let the task lie idle for so long that anybody may end it."""
        self.ledger.chain.advance(500)
        self.ledger.finish_task(self.stranger, self.task)


@pytest.fixture
def sealed() -> Sealed:
    chain = Chain()
    publisher, stranger = (experiment_account(0, role, chain) for role in (PUBLISHER, participant_role(0)))
    for account in (publisher, stranger):
        chain.fund(account.address, 10**18)
    ledger, _ = deploy(chain, publisher, Settings(1, 0))
    return Sealed(ledger, History(ledger), ledger.post_task(publisher, TERMS), publisher, stranger)


def test_posting_takes_budget_and_deposit_and_the_record_has_them(sealed: Sealed) -> None:
    assert sealed.ledger.chain.balance(sealed.ledger.address) == TERMS.budget + DEPOSIT
    assert sealed.ledger.seal(sealed.task) == SealRecord(DEPOSIT, opened=False, forfeited=False)
    assert sealed.ledger.task(sealed.task).params == TERMS
    task = sealed.history.update().task(sealed.task)
    assert task.params == TERMS and task.version == 5
    assert (task.seal_key, task.seal_opened_in, task.seal_forfeited) == (None, None, False)


def test_after_the_end_anybody_opens_it_and_the_publisher_has_its_deposit_back(sealed: Sealed) -> None:
    with pytest.raises(RevertedError, match=r"TaskNotFinished\(1\).*only its publisher"):
        sealed.ledger.open_seal(sealed.stranger, sealed.task, KEY)
    sealed.end()
    with pytest.raises(RevertedError, match=r"WrongKey.*Keccak-256"):
        sealed.ledger.open_seal(sealed.stranger, sealed.task, bytes(32))
    receipt = sealed.ledger.open_seal(sealed.stranger, sealed.task, KEY)
    assert sealed.ledger.free_balance(sealed.publisher.address) == TERMS.budget + DEPOSIT
    assert sealed.ledger.seal(sealed.task) == SealRecord(0, opened=True, forfeited=False)
    task = sealed.history.update().task(sealed.task)
    assert (task.seal_key, task.seal_opened_in, task.seal_forfeited) == (KEY, receipt.block, False)


def test_before_the_end_the_publisher_alone_opens_it(sealed: Sealed) -> None:
    sealed.ledger.open_seal(sealed.publisher, sealed.task, KEY)
    assert sealed.ledger.free_balance(sealed.publisher.address) == DEPOSIT
    assert sealed.history.update().task(sealed.task).seal_key == KEY
    with pytest.raises(RevertedError, match="SealAlreadyOpen"):
        sealed.ledger.open_seal(sealed.publisher, sealed.task, KEY)


def test_a_deposit_that_is_forfeited_is_burned_and_the_key_can_still_be_told(sealed: Sealed) -> None:
    sealed.end()
    with pytest.raises(RevertedError, match=r"SealPeriodOpen.*Wait until .* UTC"):
        sealed.ledger.forfeit_seal(sealed.stranger, sealed.task)
    sealed.ledger.chain.advance(PERIOD)
    sealed.ledger.forfeit_seal(sealed.stranger, sealed.task)
    assert sealed.history.update().task(sealed.task).seal_forfeited
    assert [log.arguments["amount"] for log in sealed.ledger.events(["Burned"])] == [DEPOSIT]
    sealed.ledger.open_seal(sealed.stranger, sealed.task, KEY)
    assert sealed.ledger.free_balance(sealed.publisher.address) == TERMS.budget
    assert sealed.ledger.seal(sealed.task) == SealRecord(0, opened=True, forfeited=True)
    task = sealed.history.update().task(sealed.task)
    assert task.seal_key == KEY and task.seal_forfeited


@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [
        ({"seal": bytes(32)}, r"InvalidParameter\(sealDeposit\).*without a seal there is no deposit"),
        ({"seal_period": 0}, r"InvalidParameter\(sealPeriod\).*at most a year"),
        ({"statistical_share": 1, "free_refusals": 0}, r"InvalidParameter\(freeRefusals\).*at least 1"),
        ({"garbage_share": 1_000_001}, r"InvalidParameter\(garbageShare\).*1,000,000"),
    ],
)
def test_terms_that_the_ledger_refuses_are_named_with_a_remedy(
    sealed: Sealed, wrong: dict[str, int | bytes], remedy: str
) -> None:
    with pytest.raises(RevertedError, match=remedy):
        sealed.ledger.post_task(sealed.publisher, replace(TERMS, **wrong))  # type: ignore[arg-type]
