"""Scoring in the ledger, and what publishers think of participants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eth_account.signers.local import LocalAccount

from fedledger.contracts.abi import checksum_address, encode_values, functions
from fedledger.contracts.chain.records import DEFAULT_GAS, MAX_GAS, Receipt
from fedledger.contracts.ledger.calls import WORD_BITS, call_scorers_call
from fedledger.contracts.ledger.contract import LedgerContract
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.encoding.keccak import keccak
from fedledger.protocol.records.reputation import Evidence, Opinion
from fedledger.protocol.records.scores import SCORE_LANES, Scored

LISTED_GAS, DRAW_GAS, SIGNED_GAS = 2_000, 2_500_000, 60_000
"""Gas for each update that scorers are called to, for the draws of a round, and for each listed commitment."""
SCORE_WORD_GAS, SCORE_GAS = 4_000, 600
"""Gas for each word of scores that is revealed, and for each score that is tallied."""
KEPT_WORD_GAS, READ_WORD_GAS = 32_000, 7_000
"""Gas for each 256-participant word of a round, which is kept, or read: few participants may be in many of them."""
NEVER = 2**256 - 1


@dataclass(frozen=True)
class ScoringRecord:
    """How a task's latest scored round stands on the ledger.

    Scorers were called at ``called_at``, a block's time, in block ``draw_block``. ``present`` updates are scored. Who
    has ``committed`` on chain, was ``listed`` by the aggregator, has ``revealed`` on chain, or had failed before, which
    are the ``stained``, is given by place among the drawn. ``is_drawn`` and ``is_tallied`` say what has been done.
    """

    round: int
    called_at: int
    draw_block: int
    present: int
    scorers: tuple[int, ...]
    committed: frozenset[int]
    listed: frozenset[int]
    revealed: frozenset[int]
    stained: frozenset[int]
    is_drawn: bool
    is_tallied: bool
    updates_hash: bytes

    @property
    def all_committed(self) -> bool:
        """Whether nobody is left to commit."""
        return self.is_drawn and len(self.committed | self.listed) == len(self.scorers)


def recommenders_hash(recommenders: Sequence[str]) -> bytes:
    """Return what a task's terms hold of its recommenders; zeros if there are none."""
    return keccak(encode_values(("address[]",), (list(recommenders),))) if recommenders else bytes(32)


class ScoreMethods(LedgerContract):
    """What aggregators and scorers do about scores, and what is known of participants by opinions."""

    def call_scorers(
        self,
        account: LocalAccount,
        task: int,
        index: int,
        selected: Sequence[int],
        listed: Mapping[int, ContentRef] | None = None,
    ) -> Receipt:
        """Call the scorers of a round whose reveals are over, or complete.

        Parameters
        ----------
        account, task, index
            The aggregator whose turn it is, and the round.
        selected
            Whom the round selects.
        listed
            In a batched round, the updates that the aggregator has, by participant; the proposal must have the same.
        """
        gas = DEFAULT_GAS + LISTED_GAS * len(listed or selected) + KEPT_WORD_GAS * len(_indices(selected))
        return self._transact(account, "callScorers", call_scorers_call(task, index, selected, listed), gas=gas)

    def draw_scorers(self, account: LocalAccount, task: int, index: int, selected: Sequence[int]) -> Receipt:
        """Draw the scorers that were called, from the block after that on; so does the first commitment."""
        return self._send(account, "drawScorers", task, index, _indices(selected), gas=_draw_gas(selected))

    def commit_score(
        self, account: LocalAccount, task: int, index: int, selected: Sequence[int], commitment: bytes
    ) -> Receipt:
        """Commit the account's participant, a scorer, to its scores."""
        gas = _draw_gas(selected)
        return self._send(account, "commitScore", task, index, _indices(selected), commitment, gas=gas)

    def would_score(self, account: LocalAccount, task: int, index: int, selected: Sequence[int]) -> bool:
        """Return whether the account's participant could commit to scores now: it is drawn, or would be."""
        data = functions()["commitScore"].encode((task, index, _indices(selected), b"\1" * 32))
        return self.chain.would_succeed(account, self.address, data)

    def list_scores(
        self,
        account: LocalAccount,
        task: int,
        index: int,
        selected: Sequence[int],
        signed: Mapping[int, tuple[bytes, bytes]],
    ) -> Receipt:
        """Commit scorers by what they have signed: commitment and signature of each, by its place among the drawn."""
        places = sorted(signed)
        columns = ([signed[place][i] for place in places] for i in (0, 1))
        bits = sum(1 << place for place in places)
        gas = _draw_gas(selected) + SIGNED_GAS * len(places)
        return self._send(account, "listScores", task, index, _indices(selected), bits, *columns, gas=gas)

    def reveal_score(
        self, account: LocalAccount, task: int, index: int, scored: Scored, commitments: Sequence[bytes] = ()
    ) -> Receipt:
        """Reveal a scorer's scores on chain, after which no tally can leave them out.

        ``commitments`` are all that the aggregator has listed, by place, if this scorer's is among them.
        """
        gas = DEFAULT_GAS + SCORE_WORD_GAS * len(scored.words)
        return self._send(account, "revealScore", task, index, _argument(scored), list(commitments), gas=gas)

    def tally_scores(
        self,
        account: LocalAccount,
        task: int,
        index: int,
        selected: Sequence[int],
        scores: Sequence[Scored],
        unopened: Sequence[bytes] = (),
        recommenders: Sequence[str] = (),
    ) -> Receipt:
        """Have the ledger take the medians of what the scorers revealed, and decide whose updates do not count.

        Parameters
        ----------
        account, task, index, selected
            The aggregator whose turn it is, the round and whom it selects.
        scores
            Of those who revealed, by ascending place; all who revealed on chain must be there.
        unopened
            Listed commitments that were not revealed, by ascending place.
        recommenders
            The task's.
        """
        count = sum(SCORE_LANES * len(scored.words) for scored in scores)
        gas = min(MAX_GAS, DEFAULT_GAS + SCORE_GAS * count + KEPT_WORD_GAS * len(_indices(selected)))
        given = [_argument(scored) for scored in scores], list(unopened), list(recommenders)
        return self._send(account, "tallyScores", task, index, _indices(selected), *given, gas=gas)

    def scoring(self, task: int) -> ScoringRecord:
        """Return how a task's latest scored round stands; round 0: none was scored yet."""
        s = self._view("scoring", task)
        return ScoringRecord(
            round=s.round,
            called_at=s.calledAt,
            draw_block=s.drawBlock,
            present=s.present,
            scorers=tuple(s.scorers[: s.drawn]),
            committed=_places(s.committed),
            listed=_places(s.listed),
            revealed=_places(s.revealed),
            stained=_places(s.stained),
            is_drawn=s.isDrawn,
            is_tallied=s.tallied,
            updates_hash=bytes(s.updates),
        )

    def outvoted(self, task: int, index: int) -> list[int]:
        """Return the participants whose updates do not count in a round, by its scores."""
        return self._members("outvotedWord", task, index)

    def outvoted_word(self, task: int, index: int, word: int) -> int:
        """Return the bits of those among the 256 participants of a word."""
        return int(self._view("outvotedWord", task, index, word))

    def scorer_evidence(self, publisher: str, participant: int) -> Evidence:
        """Return a participant's evidence as a scorer for a publisher; empty unless it has failed."""
        return Evidence(*self._view("scorerEvidence", checksum_address(publisher), participant))

    def reputation_of(self, publisher: str, participant: int) -> tuple[int, int | None]:
        """Return a participant's reputation with a publisher, in parts per million, and its age.

        The age is in days since what it follows from last changed, 0 if that was today; None if that was more than 90
        days ago or never.
        """
        reputation, age = self._view("reputationOf", checksum_address(publisher), participant)
        return int(reputation), None if age == NEVER else int(age)

    def opinion_with(self, publisher: str, recommenders: Sequence[str], trust: int, participant: int) -> Opinion:
        """Return what a publisher thinks of a participant if it listens to recommenders.

        Parameters
        ----------
        publisher, participant
            Who thinks, and of whom.
        recommenders
            At most 8 other publishers.
        trust
            How much their opinions count, in parts per million.
        """
        others = [checksum_address(recommender) for recommender in recommenders]
        values = self._view("opinionWith", checksum_address(publisher), others, trust, participant)
        return Opinion(*map(int, values[:3]))


def _draw_gas(selected: Sequence[int]) -> int:
    """Return what a transaction may need that draws scorers."""
    return DEFAULT_GAS + DRAW_GAS + READ_WORD_GAS * len(_indices(selected))


def _argument(scored: Scored) -> tuple[int, bytes, list[int]]:
    return scored.place, scored.salt, list(scored.words)


def _indices(selected: Sequence[int]) -> list[int]:
    return sorted({participant // WORD_BITS for participant in selected})


def _places(bits: int) -> frozenset[int]:
    return frozenset(place for place in range(bits.bit_length()) if bits >> place & 1)
