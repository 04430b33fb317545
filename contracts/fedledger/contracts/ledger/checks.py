"""Committed data and spot checks in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eth_account.signers.local import LocalAccount

from fedledger.contracts.abi import encode_values
from fedledger.contracts.chain.records import DEFAULT_GAS, Receipt
from fedledger.contracts.ledger.check_history import Answer
from fedledger.contracts.ledger.contract import LedgerContract
from fedledger.contracts.ledger.records import CheckState, Proposal
from fedledger.protocol.encoding.keccak import keccak

CHECK_GAS = 60_000
"""Gas that each check of a call may take: a new slot of the ledger's, or a penalty."""


@dataclass(frozen=True)
class RoundFindings:
    """What an auditor found in a round's checks; a transcript for each that passed."""

    round: int
    passed: tuple[int, ...]
    failed: tuple[int, ...]
    transcripts: tuple[bytes, ...]

    def as_argument(self) -> tuple[int, list[int], list[int], list[bytes]]:
        """Return this as the ledger takes it."""
        return self.round, list(self.passed), list(self.failed), list(self.transcripts)


def auditors_hash(accounts: Sequence[str]) -> bytes:
    """Return what a task's terms hold of its auditors; zeros if there are none."""
    return keccak(encode_values(("address[]",), (list(accounts),))) if accounts else bytes(32)


def findings_hash(task: int, place: int, found: Sequence[RoundFindings], salt: bytes) -> bytes:
    """Return what an auditor commits to before it says what it found."""
    kinds = ("uint256", "uint256", "(uint32,uint32[],uint32[],bytes32[])[]", "bytes32")
    return keccak(encode_values(kinds, (task, place, [findings.as_argument() for findings in found], salt)))


class CheckMethods(LedgerContract):
    """What participants and auditors do about checks."""

    def commit_data(self, account: LocalAccount, task: int, word: int) -> Receipt:
        """Commit the account's participant to its data, from the next opened round on."""
        return self._send(account, "commitData", task, word)

    def commit_data_of(self, account: LocalAccount, task: int, signed: Sequence[tuple[int, int, bytes]]) -> Receipt:
        """Post commitments to data that participants signed: participant, word and signature of each."""
        columns = [list(column) for column in zip(*signed, strict=True)]
        return self._send(account, "commitDataOf", task, *columns, gas=DEFAULT_GAS + CHECK_GAS * len(signed))

    def summon(
        self, account: LocalAccount, task: int, index: int, participants: Sequence[int], proposal: Proposal
    ) -> Receipt:
        """Name participants that were drawn to be checked in a round."""
        posted = proposal.as_arguments()
        gas = DEFAULT_GAS + CHECK_GAS * len(participants)
        return self._send(account, "summon", task, index, list(participants), posted, gas=gas)

    def answer_check(self, account: LocalAccount, task: int, index: int, answer: Answer) -> Receipt:
        """Answer the summons of the account's participant."""
        return self._send(account, "answerCheck", task, index, *_arguments(answer))

    def appeal_check(self, account: LocalAccount, task: int, index: int, answer: Answer) -> Receipt:
        """Appeal, with a bond, against a failed check of the account's participant."""
        bond = self.appeal_bond(self._view("task", task).params.checkPenalty)
        value = self._lacking(account, bond)
        return self._send(account, "appealCheck", task, index, *_arguments(answer), value=value)

    def post_findings(
        self,
        account: LocalAccount,
        task: int,
        auditors: Sequence[str],
        found: Sequence[RoundFindings],
        salt: bytes,
        following: bytes = bytes(32),
    ) -> Receipt:
        """Reveal what the account, an auditor, committed to, if anything, and commit to ``following``, unless zeros."""
        place = list(auditors).index(account.address)
        values = [findings.as_argument() for findings in found]
        count = sum(len(findings.passed) + len(findings.failed) for findings in found)
        gas = DEFAULT_GAS + CHECK_GAS * count
        return self._send(account, "postFindings", task, list(auditors), place, values, salt, following, gas=gas)

    def end_checks(
        self, account: LocalAccount, task: int, index: int, participants: Sequence[int], auditors: Sequence[str]
    ) -> Receipt:
        """End checks whose last deadline is over, or that a second auditor decided."""
        gas = DEFAULT_GAS + 2 * CHECK_GAS * len(participants)
        return self._send(account, "endChecks", task, index, list(participants), list(auditors), gas=gas)

    def check(self, task: int, index: int, participant: int) -> tuple[CheckState, int]:
        """Return what has become of the check of an update, and the place of the auditor it is for."""
        state, auditor = self._view("checkOf", task, index, participant)
        return CheckState(state), int(auditor)

    def findings_committed(self, task: int, place: int) -> bytes:
        """Return what an auditor committed to and has not revealed; zeros: nothing."""
        return bytes(self._view("findingsOf", task, place))

    def appeal_bond(self, penalty: int) -> int:
        """Return the bond of an appeal against a check with this penalty."""
        return int(self._view("appealBond", penalty))


def _arguments(answer: Answer) -> tuple[tuple[bytes, int], bytes, bytes]:
    return (answer.box.digest, answer.box.length), answer.opening, answer.claim
