"""Rounds in the ledger: from opening to settlement."""

from __future__ import annotations

from collections.abc import Sequence

from eth_account.signers.local import LocalAccount

from fedledger.contracts.abi import (
    functions,
)
from fedledger.contracts.chain.records import DEFAULT_GAS, MAX_GAS, Receipt
from fedledger.contracts.ledger.calls import enrolled_call, open_call, propose_call, settle_call
from fedledger.contracts.ledger.contract import LedgerContract
from fedledger.contracts.ledger.records import (
    Proposal,
    RoundRecord,
    RoundStatus,
)
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.records.reputation import LANES

SMALL_SETTLEMENT = 64
"""Verdict words that fit one transaction whatever happens to the participants."""
STEP_GAS = 3_000
"""What each step back to the base of a stale update may cost."""


class RoundMethods(LedgerContract):
    """What participants and aggregators do in a task's rounds."""

    def round(self, task: int, index: int) -> RoundRecord:
        """Return a round's record."""
        r = self._view("round", task, index)
        return RoundRecord(
            index=index,
            status=RoundStatus(r.status),
            selected=r.selected,
            committed=r.committed,
            proposed_at=r.proposedAt,
            disputes=r.disputes,
            base_model=bytes(self._view("baseModel", task, index)),
            model=bytes(r.modelDigest),
            reveal_period=r.revealPeriod,
            commit_deadline=r.commitDeadline,
            commits_closed_at=r.commitsClosedAt,
        )

    def selected(self, task: int, index: int) -> list[int]:
        """Return the ids of the participants selected for a round."""
        return self._members("selectedWord", task, index)

    def revealed(self, task: int, index: int) -> list[int]:
        """Return the ids of the participants that revealed in a round."""
        return self._members("revealedWord", task, index)

    def open_round(
        self,
        account: LocalAccount,
        task: int,
        index: int,
        selected: Sequence[int] | None = None,
        enrolled: Sequence[int] | None = None,
    ) -> Receipt:
        """Open the next round, ``index``, for the selected participants; without a selection for everybody.

        With ``enrolled`` it is refused unless these, and nobody else, are enrolled.
        """
        if enrolled is None:
            return self._transact(account, "openRound", open_call(task, index, selected))
        calls = [enrolled_call(task, enrolled), open_call(task, index, selected)]
        return self._transact(account, "multicall", functions()["multicall"].encode([calls]))

    def commit_update(self, account: LocalAccount, task: int, index: int, commitment: bytes) -> Receipt:
        """Commit to an update."""
        return self._send(account, "commitUpdate", task, index, commitment, gas=250_000)

    def reveal_update(
        self,
        account: LocalAccount,
        task: int,
        index: int,
        update: ContentRef,
        salt: bytes,
        proof: Sequence[bytes] = (),
        staleness: int = 0,
    ) -> Receipt:
        """Reveal an update that was committed to, on chain or, by proof, in a batched round's root.

        It is relative to the model that the round starts from, or to the one so many steps before it.
        """
        content = (update.digest, update.length)
        name, place = ("revealStaleUpdate", (task, index, staleness)) if staleness else ("revealUpdate", (task, index))
        gas = 250_000 + STEP_GAS * staleness
        return self._send(account, name, *place, content, salt, list(proof), gas=gas)

    def close_commits(
        self, account: LocalAccount, task: int, index: int, root: bytes, count: int, batch: ContentRef
    ) -> Receipt:
        """Close a batched round's commit phase with the root of ``count`` commitments, which the content holds."""
        content = (batch.digest, batch.length)
        return self._send(account, "closeCommits", task, index, root, count, content, gas=250_000)

    def propose_round(self, account: LocalAccount, task: int, index: int, proposal: Proposal) -> Receipt:
        """Propose a round's outcome."""
        gas = DEFAULT_GAS + _settle_gas(len(proposal.verdict_words)) + 2_000 * len(proposal.updates)
        return self._transact(account, "proposeRound", propose_call(task, index, proposal), gas=gas)

    def send_calls(self, account: LocalAccount, calls: Sequence[bytes]) -> Receipt | None:
        """Make several calls in one transaction; if they cannot all be made, send none and return None.

        Parameters
        ----------
        account
            The sender.
        calls
            What :func:`open_call`, :func:`propose_call` and :func:`settle_call` return.
        """
        data = functions()["multicall"].encode([list(calls)])
        if not self.chain.would_succeed(account, self.address, data):
            return None
        return self._transact(account, "multicall", data, gas=MAX_GAS)

    def settle_round(self, account: LocalAccount, task: int, index: int, proposal: Proposal, done: int = 0) -> int:
        """Apply a proposed round after its challenge window, or as much of it as fits one transaction.

        Parameters
        ----------
        account, task, index, proposal
            Who settles which round, and what was proposed.
        done
            Verdict words that were applied before.

        Returns
        -------
        int
            Verdict words that are applied now; all of them: the round is settled.
        """
        total = len(proposal.verdict_words)
        limit = total - done
        data = settle_call(task, index, proposal, limit)
        while limit > SMALL_SETTLEMENT and not self.chain.would_succeed(account, self.address, data):
            limit = (limit + 1) // 2
            data = settle_call(task, index, proposal, limit)
        self._transact(account, "settleRound", data, gas=DEFAULT_GAS + _settle_gas(limit))
        return done + limit

    def void_round(self, account: LocalAccount, task: int, index: int) -> Receipt:
        """Void an overdue round."""
        return self._send(account, "voidRound", task, index)


def _settle_gas(words: int) -> int:
    return 30_000 * LANES * words
