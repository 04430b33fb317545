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
from fedledger.node.participant import Participant
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


def goes_on(ledger: Ledger, task: int) -> bool:
    """Return whether a task has rounds to come, for which accounts need money; resuming a finished run costs none."""
    return ledger.phase(task) is not Phase.FINISHED


def seat_judges(ledger: Ledger, history: History, task: int, seed: int, count: int) -> None:
    """Let so many verifiers serve a task: without as many as the ledger asks for nobody is punished.

    They are accounts of the experiment, and judge nothing: where one process plays all parts, nobody lies to others.
    """
    settings, chain = ledger.settings(), ledger.chain
    stake = max(settings.min_stake, settings.min_verifier_stake)
    for number in range(count):
        account = experiment_account(seed, verifier_role(number), chain)
        known = history.update().ids.get(account.address)
        if known is None:
            chain.fund(account.address, stake + ETHER)
            ledger.register(account, account.address, account.address, stake)
        if known not in history.verifiers:
            ledger.enlist(account)
        if known not in history.serving.get(task, ()):
            ledger.serve(account, task)


def enrol(ledger: Ledger, history: History, task_id: int, participants: Sequence[Participant]) -> None:
    """Register and enrol those who are not yet, if they are many; few do it themselves, as do those too late for it."""
    if len(participants) < MANY:
        return
    task = history.update().task(task_id)
    new = [each.access.account for each in participants if each.access.address not in history.ids]
    if new:
        ledger.register_all(new, usual_stake(ledger, task))
    enrolled = history.update().task(task_id).enrolled
    left = [each for each in participants if history.ids.get(each.access.address) not in enrolled]
    if left and ledger.phase(task_id) is Phase.ENROLLING:
        words = [None if each.data is None else each.data.missing(task) for each in left]
        recommenders = left[0].joining.access.spec.reputation.recommenders
        ledger.enrol_all([each.access.account for each in left], task_id, words, recommenders)
