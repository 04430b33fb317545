"""A task with as many participants as one likes and rounds of random updates: what benchmarks are measured on.

Everything that the ledger sees is as in a real task. Nobody trains: an update is a digest and a length that follow
from the participant and the round, and everybody is accepted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from eth_account.signers.local import LocalAccount

from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.records import Transaction, load_account
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.records import Proposal, Settings, TaskParams
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import KeyStoreError
from fedledger.protocol.records.commitment_batch import Batch, SignedCommitment
from fedledger.protocol.records.settlement import pack_words, updates_hash
from fedledger.protocol.records.signatures import Place, commitment, commitment_message, sign
from fedledger.protocol.records.verdicts import Verdict

ETHER = 10**18
STAKE = BOND = 10**15
PERIOD = 30 * 86_400
UNITS = 1_000
"""Pay a participant and round, about; the shares differ."""
UPDATE_BYTES = 250_000


@dataclass(frozen=True)
class SyntheticTask:
    """A task on a ledger of its own, all of whose participants are enrolled.

    Parameters
    ----------
    ledger, task
        The ledger, and the task's id.
    aggregator
        The aggregator's account.
    accounts
        The participants' accounts by id; each is owner, signer and payout address.
    """

    ledger: Ledger
    task: int
    aggregator: LocalAccount
    accounts: dict[int, LocalAccount]

    @classmethod
    def prepare(
        cls, chain: Chain, participants: int, rounds: int, batched: bool, quorum: int = 1, max_unfinal: int = 1
    ) -> SyntheticTask:
        """Deploy a ledger, fund and register participants and enrol them in a task.

        Raises
        ------
        KeyStoreError
            If the chain is not a development chain: anybody can derive the accounts.
        """
        if not chain.development:
            raise KeyStoreError("Synthetic tasks need a development chain: anybody can derive their accounts.")
        publisher, aggregator = _account("publisher"), _account("aggregator")
        people = _people(participants)
        chain.fund(publisher.address, (participants + 100) * ETHER)
        money = [Transaction(publisher, one.address, value=ETHER, gas=21_000) for one in people]
        chain.send_all([*money, Transaction(publisher, aggregator.address, value=10 * ETHER, gas=21_000)])
        ledger, _ = Ledger.deploy(chain, publisher, Settings(STAKE, 0))
        ledger.register_all(people, STAKE)
        units = UNITS * participants
        params = TaskParams(
            spec=_content("spec", 1_000),
            model=_content("model", UPDATE_BYTES),
            aggregator=aggregator.address,
            rounds=rounds,
            quorum=quorum,
            min_participants=participants,
            max_participants=participants,
            enrol_period=PERIOD,
            commit_period=PERIOD,
            reveal_period=PERIOD,
            propose_period=PERIOD,
            challenge_window=0,
            max_unfinal=max_unfinal,
            randomness=0,
            min_stake=STAKE,
            min_reputation=0,
            bond=BOND,
            credit_unit=1,
            units_per_round=units,
            batched=batched,
            grace_period=PERIOD,
        )
        task = ledger.post_task(publisher, params)
        ledger.enrol_all(people, task)
        ledger.take_seat(aggregator, task)
        return cls.join(ledger, task, participants)

    @classmethod
    def join(cls, ledger: Ledger, task: int, participants: int) -> SyntheticTask:
        """Return a synthetic task that was prepared before, perhaps by another program."""
        ids = History(ledger).update().ids
        accounts = {ids[one.address]: one for one in _people(participants)}
        return cls(ledger, task, _account("aggregator"), accounts)

    @property
    def place(self) -> Place:
        """Chain, ledger and task: what commitments are bound to besides the round."""
        return self.ledger.chain.chain_id, self.ledger.address, self.task

    def update(self, index: int, participant: int) -> ContentRef:
        """Return a participant's update of a round."""
        return _content(f"update|{index}|{participant}", UPDATE_BYTES + participant)

    def salt(self, index: int, participant: int) -> bytes:
        """Return the salt of a participant's commitment."""
        return _content(f"salt|{index}|{participant}", 0).digest

    def commitment(self, index: int, participant: int, base: bytes) -> bytes:
        """Return a participant's commitment in a round that starts from the model with the digest ``base``."""
        sender, update = self.accounts[participant].address, self.update(index, participant)
        return commitment(self.place, index, sender, base, update, self.salt(index, participant))

    def signed(self, index: int, participant: int, base: bytes) -> SignedCommitment:
        """Return a participant's signed commitment."""
        digest = self.commitment(index, participant, base)
        message = commitment_message(self.place, index, participant, digest)
        return SignedCommitment(participant, digest, sign(message, bytes(self.accounts[participant].key)))

    def batch(self, index: int, participants: Sequence[int], base: bytes) -> Batch:
        """Return the signed commitments of all ``participants``."""
        return Batch(tuple(self.signed(index, participant, base) for participant in sorted(participants)))

    def proposal(self, index: int, participants: Sequence[int], batched: bool) -> Proposal:
        """Return an outcome that accepts all ``participants`` and pays each of them."""
        ids = sorted(participants)
        shares = {participant: UNITS // 2 + participant % (UNITS // 2) for participant in ids}
        verdict_words, share_words = pack_words(dict.fromkeys(ids, Verdict.ACCEPTED), shares)
        updates = tuple(self.update(index, participant) for participant in ids) if batched else ()
        return Proposal(
            model=_content(f"model|{index}", UPDATE_BYTES),
            state=_content(f"state|{index}", 2 * UPDATE_BYTES),
            report=_content(f"report|{index}", 300 * len(ids)),
            stop=False,
            verdict_words=tuple(verdict_words),
            share_words=tuple(share_words),
            updates_hash=updates_hash(updates) if batched else bytes(32),
            updates=updates,
        )


def _people(count: int) -> list[LocalAccount]:
    return [_account(f"participant {number}") for number in range(count)]


def _account(role: str) -> LocalAccount:
    return load_account(hashlib.sha256(f"fedledger rehearsal|{role}".encode()).digest())


def _content(name: str, length: int) -> ContentRef:
    return ContentRef(hashlib.sha256(f"fedledger rehearsal|{name}".encode()).digest(), length)
