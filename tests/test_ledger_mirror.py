"""Python's arithmetic is the ledger's: differential tests against the deployed bytecode in another EVM (revm)."""

from __future__ import annotations

import random

import pytest
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.records.opinions import opinion_with
from fedledger.protocol.records.reputation import LANE_BITS, PPM, Evidence
from fedledger.protocol.records.settlement import apportion, pack_words
from fedledger.protocol.records.signatures import commitment
from fedledger.protocol.records.verdicts import Verdict
from support.evm import Evm
from support.examples import examples
from support.ledger_records import Params

PUBLISHER, AGGREGATOR = "0x" + "aa" * 20, "0x" + "bb" * 20
PARTICIPANTS = 19  # three slots, the last of them not full
UNITS, ROUNDS = 1000, 40
ALL_WORDS = 2**256 - 1
MODEL = keccak(b"model")
# Whom nobody has scored the ledger lets nobody call outvoted.
REFUSALS = [verdict for verdict in Verdict if verdict.refused and verdict is not Verdict.OUTVOTED]


def signer(i: int) -> str:
    return f"0x{0x2000 + i:040x}"


def deployed() -> Evm:
    return Evm(1, 1, [PUBLISHER, AGGREGATOR, *map(signer, range(PARTICIPANTS))])


@pytest.fixture(scope="module")
def empty() -> Evm:
    return deployed()


lanes = st.integers(0, 2**32 - 1) | st.builds(
    lambda *counts: Evidence(*counts).pack(),
    st.sampled_from([0, 1, 15, 16, 240, 3839, 3840, 4095]),
    st.sampled_from([0, 1, 15, 16, 240, 3839, 3840, 4095]),
    st.sampled_from([0, 1, 15, 16, 239, 240, 255]),
)


@examples(150)
@given(st.lists(lanes, min_size=8, max_size=8))
def test_every_opinion_is_the_ledgers(empty: Evm, word: list[int]) -> None:
    slot = 3
    empty.put_evidence(PUBLISHER, slot, sum(lane << LANE_BITS * i for i, lane in enumerate(word)))
    for i, lane in enumerate(word):
        evidence = Evidence.unpack(lane)
        opinion = evidence.opinion
        participant = 8 * slot + i
        assert empty.view("evidence", PUBLISHER, participant) == (evidence.positive, evidence.negative, evidence.missed)
        expected = (opinion.belief, opinion.disbelief, opinion.uncertainty, evidence.reputation)
        assert empty.view("opinion", PUBLISHER, participant) == expected
        assert empty.view("reputation", PUBLISHER, participant) == evidence.reputation


@examples(150)
@given(own=lanes, others=st.lists(lanes, max_size=8), trust=st.integers(0, PPM) | st.sampled_from([0, 1, 500_000, PPM]))
def test_every_opinion_with_recommendations_is_the_ledgers(empty: Evm, own: int, others: list[int], trust: int) -> None:
    participant = 9
    recommenders = tuple(f"0x{0x3000 + k:040x}" for k in range(len(others)))
    for publisher, lane in ((PUBLISHER, own), *zip(recommenders, others, strict=True)):
        empty.put_evidence(publisher, 1, lane << LANE_BITS)
    held = opinion_with(Evidence.unpack(own), [Evidence.unpack(lane) for lane in others], trust)
    expected = (held.belief, held.disbelief, held.uncertainty, held.reputation)
    assert empty.view("opinionWith", PUBLISHER, recommenders, trust, participant) == expected


digests = st.binary(min_size=32, max_size=32)


@examples(100)
@given(
    task=st.integers(0, 2**256 - 1),
    index=st.integers(0, 2**32 - 1),
    sender=st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex()),
    base=digests,
    digest=digests,
    length=st.integers(0, 2**64 - 1),
    salt=digests,
)
def test_every_commitment_is_the_ledgers(
    empty: Evm, task: int, index: int, sender: str, base: bytes, digest: bytes, length: int, salt: bytes
) -> None:
    found = empty.view("commitmentOf", task, index, sender, base, (digest, length), salt)
    assert found == commitment((1, empty.address, task), index, sender, base, ContentRef(digest, length), salt)


class Task:
    """A task on the ledger beside what Python expects of it."""

    def __init__(self, draw: random.Random) -> None:
        self.ledger, self.draw, self.index, self.base = deployed(), draw, 0, MODEL
        for i in range(PARTICIPANTS):
            self.ledger("register", signer(i), signer(i), 1, sender=signer(i), value=1)
        ref = (MODEL, 1)
        sizes = {"quorum": 1, "min_participants": 1, "max_participants": PARTICIPANTS}
        terms = Params(ref, ref, AGGREGATOR, rounds=ROUNDS, units_per_round=UNITS, **sizes)
        self.ledger("postTask", *terms.abi(), [], sender=PUBLISHER, value=terms.budget)
        for i in range(PARTICIPANTS):
            self.ledger("enrol", 1, sender=signer(i))
        self.evidence = [Evidence() for _ in range(PARTICIPANTS)]
        self.credits = [0] * PARTICIPANTS

    def known_already(self) -> None:
        """Give everybody some past with the publisher, of any kind."""
        self.evidence = [Evidence.unpack(self.draw.getrandbits(32)) for _ in range(PARTICIPANTS)]
        for slot in range(3):
            self.ledger.put_evidence(PUBLISHER, slot, self.packed([e.pack() for e in self.evidence], slot))

    def play(self) -> None:
        """Play a round in which everybody does anything."""
        draw, ledger = self.draw, self.ledger
        self.index += 1
        selected = sorted(draw.sample(range(PARTICIPANTS), draw.randint(1, PARTICIPANTS)))
        verdicts = {i: draw.choice([Verdict.ACCEPTED, Verdict.MISSED, Verdict.LATE, *REFUSALS]) for i in selected}
        verdicts[draw.choice(selected)] = Verdict.ACCEPTED
        accepted = [i for i in selected if verdicts[i] is Verdict.ACCEPTED]
        scores = [draw.choice([0, 1, draw.getrandbits(40)]) for _ in accepted]
        shares = dict(zip(accepted, apportion(UNITS, scores), strict=True))

        ledger("openRound", 1, self.index, [0], [sum(1 << i for i in selected)], sender=AGGREGATOR)
        for i in selected:
            if verdicts[i] is not Verdict.MISSED:
                ledger("commitUpdate", 1, self.index, self.commitment(i), sender=signer(i))
        # A phase ends at its deadline, or as soon as everybody has acted.
        if Verdict.MISSED in verdicts.values():
            ledger.wait(10)
        for i in selected:
            if not verdicts[i].absent:
                ledger("revealUpdate", 1, self.index, self.update(i), self.salt(i), [], sender=signer(i))
        if Verdict.LATE in verdicts.values():
            ledger.wait(10)
        self.base = draw.randbytes(32)
        content = ((self.base, 1), (bytes(32), 0), (bytes(32), 0), bytes(32), False)
        outcome = (1, self.index, content, *pack_words(verdicts, shares))
        ledger("proposeRound", *outcome, ([], []), sender=AGGREGATOR)
        ledger("settleRound", *outcome, ALL_WORDS, sender=PUBLISHER)

        for i, verdict in verdicts.items():
            self.evidence[i] = self.evidence[i].after(verdict)
            self.credits[i] += shares.get(i, 0)

    def check(self) -> None:
        for slot in range(3):
            expected = self.packed([e.pack() for e in self.evidence], slot)
            assert self.ledger.view("evidenceWord", PUBLISHER, slot) == expected
            assert self.ledger.view("creditWord", 1, slot) == self.packed(self.credits, slot)
        for i in range(PARTICIPANTS):
            assert self.ledger.view("reputation", PUBLISHER, i) == self.evidence[i].reputation
            assert self.ledger.view("creditOf", 1, i) == self.credits[i]

    def packed(self, values: list[int], slot: int) -> int:
        return sum(value << LANE_BITS * lane for lane, value in enumerate(values[8 * slot : 8 * slot + 8]))

    def update(self, i: int) -> tuple[bytes, int]:
        return keccak(b"%d %d" % (i, self.index)), 100 + i

    def salt(self, i: int) -> bytes:
        return keccak(b"salt %d" % i)

    def commitment(self, i: int) -> bytes:
        ref = ContentRef(*self.update(i))
        return commitment((1, self.ledger.address, 1), self.index, signer(i), self.base, ref, self.salt(i))


@pytest.mark.parametrize("seed", range(3))
def test_random_histories_leave_the_ledgers_words(seed: int) -> None:
    task = Task(random.Random(seed))
    for _ in range(ROUNDS):
        task.play()
        task.check()
    assert len(set(task.evidence)) > PARTICIPANTS // 2
    assert sum(task.credits) > 0


@pytest.mark.parametrize("seed", range(10))
def test_any_evidence_moves_as_on_the_ledger(seed: int) -> None:
    task = Task(random.Random(seed))
    for _ in range(4):
        task.known_already()
        task.play()
        task.check()


@pytest.mark.parametrize("verdict", [Verdict.ACCEPTED, Verdict.NORM, Verdict.MISSED])
def test_counts_come_to_rest_where_the_ledgers_do(verdict: Verdict, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task(random.Random(0))
    monkeypatch.setattr(task.draw, "choice", lambda options: verdict if isinstance(options[0], Verdict) else 0)
    monkeypatch.setattr(task.draw, "sample", lambda population, count: list(population))
    for _ in range(ROUNDS):
        task.play()
    task.check()
    lasting = {task.evidence[i] for i in range(1, PARTICIPANTS)}
    assert len(lasting) == 1
    assert max(vars(lasting.pop()).values()) > 200
