"""The Python mirror of the reputation arithmetic against the ledger's own library, run in an EVM."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from eth_abi.abi import decode, encode
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st
from pyrevm import EVM

from fedledger.protocol.records.penalties import PenaltySchedule
from fedledger.protocol.records.reputation import Evidence
from fedledger.protocol.records.verdicts import Verdict
from support.examples import examples

ROOT = Path(__file__).resolve().parents[1]
HARNESS = """
pragma solidity ^0.8.28;
import {Evidence} from "contracts/src/Evidence.sol";
import {Offences} from "contracts/src/Offences.sol";
contract Harness {
    function afterVerdict(uint256 lane, uint256 verdict) external pure returns (uint256) {
        return Evidence.afterVerdict(lane, verdict);
    }
    function part(uint256 penalty, uint256 share) external pure returns (uint256) {
        return Offences.part(penalty, share);
    }
    function repeatedRefusal(uint256 penalty, uint256 share, uint256 free, uint256 negative)
        external pure returns (uint256)
    {
        return Offences.repeatedRefusal(penalty, share, free, negative);
    }
    function opinion(uint256 lane) external pure returns (uint256, uint256, uint256, uint256) {
        return Evidence.opinion(lane);
    }
}
"""
SENDER = "0x" + "11" * 20
Call = Callable[..., tuple[int, ...]]

lanes = st.integers(0, 2**32 - 1)
verdicts = st.sampled_from([verdict for verdict in Verdict if verdict is not Verdict.NONE])


@pytest.fixture(scope="module")
def call() -> Call:
    names = "contracts/src/Evidence.sol", "contracts/src/Offences.sol"
    libraries = {name: {"content": (ROOT / name).read_text()} for name in names}
    document = {
        "language": "Solidity",
        "sources": {"Harness.sol": {"content": HARNESS}, **libraries},
        "settings": {
            "evmVersion": "shanghai",
            "outputSelection": {"Harness.sol": {"Harness": ["evm.bytecode.object"]}},
        },
    }
    compiler = [str(ROOT / "contracts" / "tools" / "solc"), "--standard-json"]
    done = subprocess.run(compiler, input=json.dumps(document), capture_output=True, text=True, check=True)
    bytecode = json.loads(done.stdout)["contracts"]["Harness.sol"]["Harness"]["evm"]["bytecode"]["object"]
    evm = EVM()
    harness = evm.deploy(SENDER, bytes.fromhex(bytecode))

    def run(name: str, *arguments: int) -> tuple[int, ...]:
        types = ["uint256"] * len(arguments)
        data = keccak(text=f"{name}({','.join(types)})")[:4] + encode(types, arguments)
        found = evm.message_call(SENDER, harness, calldata=data)
        return decode(["uint256"] * (len(found) // 32), found)

    return run


@examples(60)
@given(history=st.lists(verdicts, max_size=80))
def test_histories_leave_the_same_bits(call: Call, history: list[Verdict]) -> None:
    evidence = Evidence()
    for verdict in history:
        (lane,) = call("afterVerdict", evidence.pack(), int(verdict))
        evidence = evidence.after(verdict)
        assert evidence.pack() == lane


@examples(400)
@given(lane=lanes, verdict=verdicts)
def test_any_lane_moves_alike(call: Call, lane: int, verdict: Verdict) -> None:
    assert call("afterVerdict", lane, int(verdict)) == (Evidence.unpack(lane).after(verdict).pack(),)


@examples(400)
@given(lane=lanes)
def test_any_lane_gives_the_same_opinion(call: Call, lane: int) -> None:
    opinion = Evidence.unpack(lane).opinion
    expected = (opinion.belief, opinion.disbelief, opinion.uncertainty, opinion.reputation)
    assert call("opinion", lane) == expected


shares = st.sampled_from([0, 1, 62_500, 250_000, 333_333, 500_000, 999_999, 1_000_000]) | st.integers(0, 1_000_000)


@examples(400)
@given(
    lane=lanes,
    verdict=verdicts,
    penalty=st.integers(0, 2**96 - 1),
    of=st.tuples(shares, shares, shares),
    free=st.integers(0, 255),
)
def test_any_verdict_costs_the_same(
    call: Call, lane: int, verdict: Verdict, penalty: int, of: tuple[int, int, int], free: int
) -> None:
    evidence = Evidence.unpack(lane).after(verdict)
    schedule = PenaltySchedule(penalty, *of, free)
    garbage, never_revealed, statistical = of
    if verdict.statistical:
        expected = call("repeatedRefusal", penalty, statistical, free, evidence.negative)
    elif verdict is Verdict.LATE or Verdict.MALFORMED <= verdict <= Verdict.REPLAYED:
        expected = call("part", penalty, never_revealed if verdict is Verdict.LATE else garbage)
    else:
        expected = (0,)
    assert (schedule.cost(verdict, evidence),) == expected


@pytest.mark.parametrize("verdict", [verdict for verdict in Verdict if verdict is not Verdict.NONE])
def test_repeated_verdicts_saturate_alike(call: Call, verdict: Verdict) -> None:
    evidence, lane = Evidence(), 0
    for _ in range(200):
        evidence = evidence.after(verdict)
        (lane,) = call("afterVerdict", lane, int(verdict))
    assert evidence.pack() == lane
    assert evidence == evidence.after(verdict)
