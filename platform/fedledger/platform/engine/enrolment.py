"""Money, registration and enrolment for an experiment's participants: many in one block."""

from __future__ import annotations

from collections.abc import Sequence

from eth_account.signers.local import LocalAccount

from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.records import PAYMENT_GAS, Transaction
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.records import Phase
from fedledger.node.duties.joining import usual_stake
from fedledger.platform.experiment.accounts import PURSE, experiment_account, verifier_role

ETHER = 10**18
MANY = 64
"""Participants from which on they are funded, registered and enrolled together, many in a block."""


def fund(chain: Chain, seed: int, accounts: Sequence[LocalAccount], wei: int) -> None:
    """Bring every account of an experiment to a balance."""
    if len(accounts) < MANY:
        for account in accounts:
            chain.fund(account.address, wei)
        return
    missing = {account.address: wei - chain.balance(account.address) for account in accounts}
    payments = {address: amount for address, amount in missing.items() if amount > 0}
    if payments:
        purse = experiment_account(seed, PURSE, chain)
        chain.fund(purse.address, sum(payments.values()) + len(payments) * PAYMENT_GAS * chain.sender.price() + ETHER)
        chain.send_all([Transaction(purse, to, value=amount, gas=PAYMENT_GAS) for to, amount in payments.items()])


def seat_judges(ledger: Ledger, history: History, task: int, seed: int) -> None:
    """Let as many verifiers serve a task as the ledger asks for, without which nobody is punished.

    They are accounts of the experiment and do no more: where one process plays all parts, nobody lies to the others.
    """
    settings, chain = ledger.settings(), ledger.chain
    stake = max(settings.min_stake, settings.min_verifier_stake)
    for number in range(settings.least_pool):
        account = experiment_account(seed, verifier_role(number), chain)
        known = history.update().ids.get(account.address)
        if known is None:
            chain.fund(account.address, stake + ETHER)
            ledger.register(account, account.address, account.address, stake)
        if known not in history.verifiers:
            ledger.enlist(account)
        if known not in history.serving.get(task, ()):
            ledger.serve(account, task)


def enrol(ledger: Ledger, history: History, task_id: int, accounts: Sequence[LocalAccount]) -> None:
    """Register and enrol those who are not yet, if they are many; few do it themselves, as do those too late for it."""
    if len(accounts) < MANY:
        return
    task = history.update().task(task_id)
    new = [account for account in accounts if account.address not in history.ids]
    if new:
        ledger.register_all(new, usual_stake(ledger, task))
    enrolled = history.update().task(task_id).enrolled
    left = [account for account in accounts if history.ids.get(account.address) not in enrolled]
    if left and ledger.phase(task_id) is Phase.ENROLLING:
        ledger.enrol_all(left, task_id)
