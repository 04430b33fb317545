"""Python's arithmetic is the ledger's: differential tests against the deployed bytecode in another EVM (revm)."""

from __future__ import annotations

import random
from typing import Any

import pyrevm
import pytest
from eth_abi import decode, encode
from eth_utils.abi import get_abi_input_types, get_abi_output_types
from eth_utils.crypto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from fedledger.contracts.compile import load_artifact
from fedledger.protocol.cid import ContentRef
from fedledger.protocol.messages import commitment
from fedledger.protocol.reputation import LANE_BITS, Evidence
from fedledger.protocol.settlement import apportion, pack_words
from fedledger.protocol.verdicts import Verdict

ARTIFACT = load_artifact("FedLedger")
FUNCTIONS = {item["name"]: item for item in ARTIFACT.abi if item["type"] == "function"}
PUBLISHER, AGGREGATOR = "0x" + "aa" * 20, "0x" + "bb" * 20
PARTICIPANTS = 19  # three slots, the last of them not full
UNITS, ROUNDS = 1000, 40
MODEL = keccak(b"model")
REFUSALS = [verdict for verdict in Verdict if verdict.refused]


def signer(i: int) -> str:
    return f"0x{0x2000 + i:040x}"


class Evm:
    """A ledger in a fresh revm, called through its ABI."""

    def __init__(self) -> None:
        self._evm = pyrevm.EVM(spec_id="SHANGHAI")
        self.now = 1_000_000
        self.wait(0)
        for address in (PUBLISHER, AGGREGATOR, *map(signer, range(PARTICIPANTS))):
            self._evm.set_balance(address, 10**20)
        code = bytes.fromhex(ARTIFACT.bytecode[2:]) + encode(["uint96", "uint40"], [1, 1])
        self.address = self._evm.deploy(PUBLISHER, code)

    def wait(self, seconds: int) -> None:
        self.now += seconds
        self._evm.set_block_env(pyrevm.BlockEnv(number=1, timestamp=self.now))

    def __call__(self, name: str, *arguments: Any, sender: str = PUBLISHER, value: int = 0) -> Any:
        item = FUNCTIONS[name]
        types = get_abi_input_types(item)
        data = keccak(text=f"{name}({','.join(types)})")[:4] + encode(types, arguments)
        returned = decode(
            get_abi_output_types(item),
            bytes(self._evm.message_call(sender, self.address, calldata=data, value=value)),
        )
        return returned[0] if len(returned) == 1 else returned

    def put_evidence(self, slot: int, word: int) -> None:
        """Write a word of evidence with the publisher straight into storage."""
        owner = int(PUBLISHER, 16).to_bytes(32, "big")
        inner = keccak(owner + self._evidence_mapping().to_bytes(32, "big"))
        place = int.from_bytes(keccak(slot.to_bytes(32, "big") + inner), "big")
        self._evm.insert_account_storage(self.address, place, word)

    def _evidence_mapping(self) -> int:
        # The mapping's number is found by trying, so that the layout may change.
        if not hasattr(self, "_mapping"):
            for number in range(64):
                self._mapping = number
                self.put_evidence(2**20, 7)
                if self("evidenceWord", PUBLISHER, 2**20) == 7:
                    break
            else:
                raise AssertionError("the mapping of evidence was not found")
        return self._mapping


@pytest.fixture(scope="module")
def empty() -> Evm:
    return Evm()


lanes = st.integers(0, 2**32 - 1) | st.builds(
    lambda *counts: Evidence(*counts).pack(),
    st.sampled_from([0, 1, 15, 16, 240, 3839, 3840, 4095]),
    st.sampled_from([0, 1, 15, 16, 240, 3839, 3840, 4095]),
    st.sampled_from([0, 1, 15, 16, 239, 240, 255]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(lanes, min_size=8, max_size=8))
def test_every_opinion_is_the_ledgers(empty: Evm, word: list[int]) -> None:
    slot = 3
    empty.put_evidence(slot, sum(lane << LANE_BITS * i for i, lane in enumerate(word)))
    for i, lane in enumerate(word):
        evidence = Evidence.unpack(lane)
        opinion = evidence.opinion
        participant = 8 * slot + i
        assert empty("evidence", PUBLISHER, participant) == (evidence.positive, evidence.negative, evidence.missed)
        expected = (opinion.belief, opinion.disbelief, opinion.uncertainty, evidence.reputation)
        assert empty("opinion", PUBLISHER, participant) == expected
        assert empty("reputation", PUBLISHER, participant) == evidence.reputation


digests = st.binary(min_size=32, max_size=32)


@settings(max_examples=100, deadline=None)
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
    found = empty("commitmentOf", task, index, sender, base, (digest, length), salt)
    assert found == commitment(1, empty.address, task, index, sender, base, ContentRef(digest, length), salt)


class Task:
    """A task on the ledger beside what Python expects of it."""

    def __init__(self, draw: random.Random) -> None:
        self.ledger, self.draw, self.index, self.base = Evm(), draw, 0, MODEL
        for i in range(PARTICIPANTS):
            self.ledger("register", signer(i), signer(i), sender=signer(i), value=1)
        ref = (MODEL, 1)
        sizes = (ROUNDS, 1, 1, PARTICIPANTS)
        periods = (100, 10, 10, 10, 5)
        params = (ref, ref, AGGREGATOR, "0x" + "00" * 20, *sizes, *periods, 1, 0, 0, False, 0, 0, 0, 0, 1, UNITS)
        self.ledger("postTask", params, value=ROUNDS * UNITS)
        for i in range(PARTICIPANTS):
            self.ledger("enrol", 1, sender=signer(i))
        self.evidence = [Evidence() for _ in range(PARTICIPANTS)]
        self.credits = [0] * PARTICIPANTS

    def known_already(self) -> None:
        """Give everybody some past with the publisher, of any kind."""
        self.evidence = [Evidence.unpack(self.draw.getrandbits(32)) for _ in range(PARTICIPANTS)]
        for slot in range(3):
            self.ledger.put_evidence(slot, self.packed([e.pack() for e in self.evidence], slot))

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

        ledger("openRound", 1, [0], [sum(1 << i for i in selected)], sender=AGGREGATOR)
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
        ledger.wait(5)
        ledger("settleRound", *outcome)

        for i, verdict in verdicts.items():
            self.evidence[i] = self.evidence[i].after(verdict)
            self.credits[i] += shares.get(i, 0)

    def check(self) -> None:
        for slot in range(3):
            expected = self.packed([e.pack() for e in self.evidence], slot)
            assert self.ledger("evidenceWord", PUBLISHER, slot) == expected
            assert self.ledger("creditWord", 1, slot) == self.packed(self.credits, slot)
        for i in range(PARTICIPANTS):
            assert self.ledger("reputation", PUBLISHER, i) == self.evidence[i].reputation
            assert self.ledger("creditOf", 1, i) == self.credits[i]

    def packed(self, values: list[int], slot: int) -> int:
        return sum(value << LANE_BITS * lane for lane, value in enumerate(values[8 * slot : 8 * slot + 8]))

    def update(self, i: int) -> tuple[bytes, int]:
        return keccak(b"%d %d" % (i, self.index)), 100 + i

    def salt(self, i: int) -> bytes:
        return keccak(b"salt %d" % i)

    def commitment(self, i: int) -> bytes:
        ref = ContentRef(*self.update(i))
        return commitment(1, self.ledger.address, 1, self.index, signer(i), self.base, ref, self.salt(i))


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
