"""Transactions about scores have the gas that they need, also where a task's participants are far apart."""

from __future__ import annotations

from typing import Any

import pytest
from eth_utils.crypto import keccak

from fedledger.contracts.chain.records import DEFAULT_GAS
from fedledger.contracts.ledger.scores import ScoreMethods
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.encoding.merkle import MerkleTree
from fedledger.protocol.records.commitment_batch import leaf
from fedledger.protocol.records.scores import Scored, pack_scores, score_commitment
from fedledger.protocol.records.signatures import checksummed, commitment, scores_message, sign
from support.evm import Evm
from support.ledger_records import Params
from support.scored_task import AGGREGATOR, MODEL, PERIOD, PUBLISHER, account_of, key_of

WORDS, SALT = 80, b"s" * 32


class Metered(ScoreMethods):
    """The ledger's client on an embedded machine; it asks whether each transaction had gas enough."""

    def __init__(self, evm: Evm) -> None:
        self.evm = evm

    def _transact(self, account: Any, name: str, data: bytes, value: int = 0, gas: int = DEFAULT_GAS) -> Any:
        self.evm._call(name, data, account, value)
        used = self.evm._evm.result.gas_used
        assert used <= gas, f"{name} needs {used:,} of {gas:,}"


def spread_task(batched: bool) -> Evm:
    """Return a ledger with a task in which one of 256 consecutive participants takes part, 80 times."""
    accounts = [account_of(i // 256) if i % 256 == 0 else f"0x{10**6 + i:040x}" for i in range(256 * WORDS)]
    evm = Evm(1, 1, [PUBLISHER, AGGREGATOR, *accounts])
    for account in accounts:
        evm("register", account, account, 1, sender=account, value=1)
    sizes = {"quorum": 1, "min_participants": 1, "max_participants": WORDS, "batched": batched}
    scored = {"scorers": 5, "score_period": PERIOD, "score_spread": 8, "score_floor": 50}
    terms = Params((MODEL, 1), (MODEL, 1), AGGREGATOR, rounds=2, **sizes, **scored)
    evm("postTask", *terms.abi(), [], sender=PUBLISHER, value=terms.budget)
    for i in range(WORDS):
        evm("enrol", 1, sender=account_of(i))
    evm("openRound", 1, 1, [], [], sender=AGGREGATOR)
    return evm


@pytest.mark.parametrize("batched", [False, True], ids=["direct", "batched"])
def test_scoring_participants_that_are_far_apart_takes_no_more_gas_than_it_is_given(batched: bool) -> None:
    evm = spread_task(batched)
    ledger, place = Metered(evm), (1, checksummed(evm.address), 1)
    selected = [256 * i for i in range(WORDS)]
    updates = {i: ContentRef(keccak(b"%d" % i), 100) for i in selected}
    sealed = {i: commitment(place, 1, account_of(i // 256), MODEL, updates[i], SALT) for i in selected}
    if batched:
        evm.wait(PERIOD)
        root = MerkleTree([leaf(i, sealed[i]) for i in selected]).root
        evm("closeCommits", 1, 1, root, WORDS, (keccak(b"batch"), 1), sender=AGGREGATOR)
        evm.wait(PERIOD)
    else:
        for i in selected:
            evm("commitUpdate", 1, 1, sealed[i], sender=account_of(i // 256))
        for i in selected:
            content = (updates[i].digest, updates[i].length)
            evm("revealUpdate", 1, 1, content, SALT, [], sender=account_of(i // 256))
    ledger.call_scorers(AGGREGATOR, 1, 1, selected, updates if batched else None)  # type: ignore[arg-type]
    evm.wait(1)
    ledger.draw_scorers(AGGREGATOR, 1, 1, selected)  # type: ignore[arg-type]
    ids = list(evm.view("scoring", 1)[-1])[:5]
    # Nearly half of them are outvoted, in nearly half of the words.
    words = pack_scores([30_000 if n % 2 and n > 3 else 100 for n in range(WORDS)])
    digests = [score_commitment(place, 1, i, SALT, words) for i in ids]
    if batched:
        signed = {
            n: (d, sign(scores_message(place, 1, i, d), key_of(i // 256)))
            for n, (i, d) in enumerate(zip(ids, digests, strict=True))
        }
        ledger.list_scores(AGGREGATOR, 1, 1, selected, signed)  # type: ignore[arg-type]
    else:
        for i, digest in zip(ids, digests, strict=True):
            ledger.commit_score(account_of(i // 256), 1, 1, selected, digest)  # type: ignore[arg-type]
    scores = [Scored(n, SALT, words) for n in range(5)]
    ledger.tally_scores(AGGREGATOR, 1, 1, selected, scores)  # type: ignore[arg-type]
    assert evm.view("outvotedWord", 1, 1, 5) == 1 and not evm.view("outvotedWord", 1, 1, 4)
