"""Participants, stakes, evidence and money in the ledger."""

from __future__ import annotations

from collections.abc import Sequence

from eth_account.signers.local import LocalAccount

from fedledger.contracts.abi import (
    RevertedError,
    checksum_address,
    functions,
)
from fedledger.contracts.chain.records import DEFAULT_GAS, Receipt
from fedledger.contracts.ledger.contract import LedgerContract
from fedledger.contracts.ledger.records import (
    COIN,
    ParticipantRecord,
)
from fedledger.protocol.records.reputation import Evidence, Opinion


class AccountMethods(LedgerContract):
    """What owners, signers and publishers do with participants, stakes, evidence and money."""

    def register(self, owner: LocalAccount, signer: str, payout: str, stake: int) -> Receipt:
        """Register (or bring back) a participant with a stake, from the free balance or, if it is coin, sent along."""
        return self._send(owner, "register", signer, payout, stake, value=self._lacking(owner, stake))

    def add_stake(self, owner: LocalAccount, amount: int) -> Receipt:
        """Add to the stake of the owner's participant."""
        return self._send(owner, "addStake", amount, value=self._lacking(owner, amount))

    def register_all(self, owners: Sequence[LocalAccount], stake: int) -> list[Receipt]:
        """Register many participants that sign for themselves and are paid themselves, without waiting in between."""
        calls = [functions()["register"].encode((owner.address, owner.address, stake)) for owner in owners]
        return self._send_all(owners, "register", calls, value=stake)

    def agree_to_sign(self, signer: LocalAccount, owner: str) -> Receipt:
        """Agree to sign for the participant of an owner, which may name the signer from now on."""
        return self._send(signer, "agreeToSign", checksum_address(owner))

    def rotate_signer(self, owner: LocalAccount, signer: str) -> Receipt:
        """Replace the signer of the owner's participant."""
        return self._send(owner, "rotateSigner", signer)

    def request_exit(self, owner: LocalAccount) -> Receipt:
        """Announce that the owner's participant leaves."""
        return self._send(owner, "requestExit")

    def complete_exit(self, owner: LocalAccount) -> Receipt:
        """Return the stake to the owner's free balance, once the exit delay is over."""
        return self._send(owner, "completeExit")

    def participant_id(self, address: str) -> int | None:
        """Return the id of the participant that an address owns or signs for, or None."""
        for view in ("idOfOwner", "idOfSigner"):
            try:
                return int(self._view(view, checksum_address(address)))
            except RevertedError:
                continue
        return None

    def participant(self, participant_id: int) -> ParticipantRecord:
        """Return a participant's record."""
        p = self._view("participant", participant_id)
        return ParticipantRecord(
            id=participant_id,
            owner=p.owner,
            signer=p.signer,
            payout=p.payout,
            stake=p.stake,
            unbonding=p.unbonding,
            registered_at=p.registeredAt,
            exit_at=p.exitAt,
            locks=p.locks,
        )

    def participant_count(self) -> int:
        """Return how many participants were ever registered."""
        return int(self._view("participantCount"))

    def adopt_evidence(self, publisher: LocalAccount, participants: Sequence[int]) -> Receipt:
        """Take over what the predecessor knows of participants with a publisher."""
        return self._send(publisher, "adoptEvidence", list(participants), gas=DEFAULT_GAS + 80_000 * len(participants))

    def evidence(self, publisher: str, participant_id: int) -> Evidence:
        """Return a participant's evidence with a publisher."""
        return Evidence(*(int(count) for count in self._view("evidence", publisher, participant_id)))

    def opinion(self, publisher: str, participant_id: int) -> tuple[Opinion, int]:
        """Return the opinion that the ledger computes, and the reputation in parts per million."""
        belief, disbelief, uncertainty, reputation = self._view("opinion", publisher, participant_id)
        return Opinion(int(belief), int(disbelief), int(uncertainty)), int(reputation)

    def evidence_word(self, publisher: str, slot: int) -> int:
        """Return eight participants' evidence with a publisher, 32 bits each."""
        return int(self._view("evidenceWord", publisher, slot))

    def deposit(self, account: LocalAccount, amount: int, currency: str = COIN) -> Receipt:
        """Add to the account's free balance; of a token, the ledger must have been approved for the amount."""
        return self._send(account, "deposit", currency, amount, value=amount if currency == COIN else 0)

    def withdraw(self, account: LocalAccount, to: str, currency: str = COIN) -> Receipt:
        """Withdraw the account's free balance of a currency."""
        return self._send(account, "withdraw", currency, to)

    def announce(self, account: LocalAccount, url: str) -> Receipt:
        """Say where an account can be reached off the chain."""
        return self._send(account, "announce", url)
