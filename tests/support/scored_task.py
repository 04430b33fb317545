"""A task with scorers on the committed ledger in a fresh revm, played at random beside the history of its logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eth_account import Account
from eth_utils.crypto import keccak

from fedledger.contracts.abi import functions
from fedledger.contracts.ledger.scores import recommenders_hash
from fedledger.contracts.ledger.state import LedgerState
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.encoding.merkle import MerkleTree
from fedledger.protocol.records.commitment_batch import leaf
from fedledger.protocol.records.reputation import LANE_BITS, LANES, Evidence
from fedledger.protocol.records.scores import Scored, pack_scores, score_commitment
from fedledger.protocol.records.settlement import pack_lengths, pack_words, updates_hash
from fedledger.protocol.records.signatures import checksummed, commitment, scores_message, sign
from fedledger.protocol.records.verdicts import Verdict
from support.evm import Evm
from support.ledger_records import Params

PUBLISHER, AGGREGATOR = checksummed("0x" + "aa" * 20), checksummed("0x" + "bb" * 20)
MODEL = keccak(b"model")
ALL_WORDS = 2**256 - 1
PERIOD = 10


def key_of(i: int) -> bytes:
    return keccak(b"scorer %d" % i)


def account_of(i: int) -> str:
    return str(Account.from_key(key_of(i)).address)


class ScoredTask:
    """A task whose participants, or the verifiers among them, score each other.

    Parameters
    ----------
    participants
        How many there are; their signers are their owners.
    recommenders
        Which of them have published, too, and are the task's recommenders.
    terms
        Of the task.
    """

    def __init__(self, participants: int, recommenders: Sequence[int] = (), **terms: Any) -> None:
        self.accounts = [account_of(i) for i in range(participants)]
        self.evm = Evm(1, 1, [PUBLISHER, AGGREGATOR, *self.accounts])
        self.state, self.base, self.index = LedgerState(), MODEL, 0
        self.place = 1, checksummed(self.evm.address), 1
        for account in self.accounts:
            self.send("register", account, account, 1, sender=account, value=1)
        ref = (MODEL, 1)
        self.recommenders = [self.accounts[i] for i in recommenders]
        scored = {"scorers": 5, "score_period": PERIOD, "score_spread": 8, "score_floor": 50} | terms
        if self.recommenders:
            scored |= {"recommenders": recommenders_hash(self.recommenders), "recommender_trust": 500_000}
        sizes = {"quorum": 1, "min_participants": 1, "max_participants": participants}
        self.terms = Params(ref, ref, AGGREGATOR, rounds=40, **sizes | scored)
        self.send("postTask", *self.terms.abi(), [], sender=PUBLISHER, value=self.terms.budget)
        for account in self.accounts:
            self.send("enrol", 1, sender=account)

    def send(self, name: str, *arguments: Any, sender: str, value: int = 0) -> Any:
        found = self.evm(name, *arguments, sender=sender, value=value)
        self.state.extend(self.evm.events(functions()[name].encode(arguments)))
        return found

    @property
    def current(self) -> Any:
        return self.state.tasks[1].rounds[self.index]

    def update(self, i: int) -> ContentRef:
        return ContentRef(keccak(b"%d %d" % (i, self.index)), 100 + i)

    def known(self, publisher: str, i: int, evidence: Evidence) -> None:
        """Give a publisher evidence about a participant."""
        slot = i // LANES
        words = self.state.evidence_words.setdefault(publisher, {})
        shift = LANE_BITS * (i % LANES)
        words[slot] = words.get(slot, 0) & ~(0xFFFFFFFF << shift) | evidence.pack() << shift
        self.evm.put_evidence(publisher, slot, words[slot])

    # A round, step by step.

    def train(self, selected: Sequence[int], silent: Sequence[int] = (), late: Sequence[int] = ()) -> None:
        """Open a round, in which all but some commit, and all of these but the late ones reveal."""
        self.index += 1
        words = [
            (w, sum(1 << i % 256 for i in selected if i // 256 == w)) for w in sorted({i // 256 for i in selected})
        ]
        self.words = [w for w, _ in words]
        self.send("openRound", 1, self.index, self.words, [bits for _, bits in words], sender=AGGREGATOR)
        committed = [i for i in selected if i not in silent]
        self.there, self.late = [i for i in committed if i not in late], late
        salt = keccak(b"salt")
        if self.terms.batched:
            tree = MerkleTree([leaf(i, self.commitment(i, salt)) for i in committed])
            self.evm.wait(PERIOD)
            self.send(
                "closeCommits", 1, self.index, tree.root, len(committed), (keccak(b"batch"), 1), sender=AGGREGATOR
            )
        else:
            for i in committed:
                self.send("commitUpdate", 1, self.index, self.commitment(i, salt), sender=self.accounts[i])
            # A phase ends at its deadline, or as soon as everybody has acted.
            self.evm.wait(PERIOD if silent else 0)
            for i in self.there:
                update = self.update(i)
                content = (update.digest, update.length)
                self.send("revealUpdate", 1, self.index, content, salt, [], sender=self.accounts[i])
        self.evm.wait(PERIOD if late else 0)

    def commitment(self, i: int, salt: bytes) -> bytes:
        return commitment(self.place, self.index, self.accounts[i], self.base, self.update(i), salt)

    def call(self) -> None:
        if not self.terms.batched:
            self.send("callScorers", 1, self.index, self.words, [], ([], []), sender=AGGREGATOR)
        else:
            bits = [sum(1 << i % 256 for i in self.there if i // 256 == w) for w in self.words]
            updates = [self.update(i) for i in self.there]
            packed = [update.digest for update in updates], pack_lengths(updates)
            self.send("callScorers", 1, self.index, self.words, bits, packed, sender=AGGREGATOR)
        self.evm.wait(1)

    def draw(self) -> tuple[int, ...]:
        self.send("drawScorers", 1, self.index, self.words, sender=PUBLISHER)
        return tuple(self.current.scoring.scorers)

    def scored(self, place: int, scores: Sequence[int]) -> Scored:
        return Scored(place, keccak(b"salt %d" % place), pack_scores(scores))

    def commitment_of(self, scored: Scored) -> bytes:
        i = self.current.scoring.scorers[scored.place]
        return score_commitment(self.place, self.index, i, scored.salt, scored.words)

    def commit(self, all_scored: Mapping[int, Scored], listed: Sequence[int]) -> None:
        """Commit scorers, some of them by a list that they have signed."""
        scorers = self.current.scoring.scorers
        if listed:
            digests = [self.commitment_of(all_scored[place]) for place in sorted(listed)]
            signed = [
                sign(scores_message(self.place, self.index, scorers[place], digest), key_of(scorers[place]))
                for place, digest in zip(sorted(listed), digests, strict=True)
            ]
            bits = sum(1 << place for place in listed)
            self.send("listScores", 1, self.index, self.words, bits, digests, signed, sender=AGGREGATOR)
        for place in sorted(set(all_scored) - set(listed)):
            digest = self.commitment_of(all_scored[place])
            self.send("commitScore", 1, self.index, self.words, digest, sender=self.accounts[scorers[place]])

    def reveal(self, scored: Scored, commitments: Sequence[bytes] = ()) -> None:
        self.send("revealScore", 1, self.index, argument(scored), list(commitments), sender=PUBLISHER)

    def tally(self, revealed: Sequence[Scored], unopened: Sequence[bytes] = ()) -> None:
        given = [argument(scored) for scored in revealed], list(unopened), self.recommenders
        self.send("tallyScores", 1, self.index, self.words, *given, sender=AGGREGATOR)

    def propose(self) -> None:
        """Propose and settle the round: who is outvoted is refused for that, all others are accepted."""
        outvoted, there = self.current.outvoted, self.there
        verdicts = {
            i: Verdict.OUTVOTED if i in outvoted else Verdict.ACCEPTED if i in there else Verdict.MISSED
            for i in self.current.selected
        } | dict.fromkeys(self.late, Verdict.LATE)
        accepted = [i for i in verdicts if verdicts[i] is Verdict.ACCEPTED]
        shares = {accepted[0]: 10} if accepted else {}
        updates = [self.update(i) for i in there] if self.terms.batched else []
        packed = [update.digest for update in updates], pack_lengths(updates)
        model = keccak(b"model %d" % self.index)
        hashed = updates_hash(updates) if self.terms.batched else bytes(32)
        content = ((model, 1), (bytes(32), 0), (bytes(32), 0), hashed, False)
        outcome = (1, self.index, content, *pack_words(verdicts, shares))
        self.send("proposeRound", *outcome, packed, sender=AGGREGATOR)
        self.send("settleRound", *outcome, ALL_WORDS, sender=PUBLISHER)
        self.base = model


def argument(scored: Scored) -> tuple[int, bytes, list[int]]:
    return scored.place, scored.salt, list(scored.words)
