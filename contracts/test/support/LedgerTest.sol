// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Currency} from "../../src/Currency.sol";
import {Verdicts} from "../../src/Evidence.sol";
import {FedLedger} from "../../src/FedLedger.sol";
import {IFedLedger} from "../../src/IFedLedger.sol";
import {vm} from "./Vm.sol";

/// @notice A ledger, its actors, and the steps of a round.
/// @dev Participant i is owned by `_owner(i)`, signs as `_signer(i)` and is paid at `_payout(i)`; its id is i.
abstract contract LedgerTest {
    uint96 internal constant MIN_STAKE = 1 ether;
    uint40 internal constant EXIT_DELAY = 1 days;
    address internal constant PUBLISHER = address(0xb1);
    address internal constant AGGREGATOR = address(0xa9);
    address internal constant OUTSIDER = address(0x07);

    FedLedger internal ledger;

    error Failed(string what, uint256 found, uint256 expected);

    /// @notice A proposal with the words that go with it.
    struct Outcome {
        IFedLedger.Proposal proposal;
        uint256[] verdicts;
        uint256[] shares;
    }

    function setUp() public virtual {
        vm.warp(1_700_000_000);
        ledger = new FedLedger(MIN_STAKE, EXIT_DELAY);
        vm.deal(PUBLISHER, 1_000_000 ether);
        vm.deal(AGGREGATOR, 1_000_000 ether);
    }

    function _owner(uint256 i) internal pure returns (address) {
        return address(uint160(0x1000000 + i));
    }

    function _signer(uint256 i) internal pure returns (address) {
        return address(uint160(0x2000000 + i));
    }

    function _payout(uint256 i) internal pure returns (address) {
        return address(uint160(0x3000000 + i));
    }

    function _params() internal pure returns (IFedLedger.TaskParams memory p) {
        p.spec = IFedLedger.ContentRef(keccak256("spec"), 10);
        p.model = IFedLedger.ContentRef(keccak256("model 0"), 100);
        p.aggregator = AGGREGATOR;
        p.token = Currency.wrap(address(0));
        p.rounds = 3;
        p.quorum = 2;
        p.minParticipants = 2;
        p.maxParticipants = 4096;
        p.enrolPeriod = 1000;
        p.commitPeriod = 100;
        p.revealPeriod = 200;
        p.proposePeriod = 300;
        p.challengeWindow = 50;
        p.maxUnfinal = 1;
        p.minStake = MIN_STAKE;
        p.bond = 1 ether;
        p.creditUnit = 1 gwei;
        p.unitsPerRound = 1000;
    }

    function _budget(IFedLedger.TaskParams memory p) internal pure returns (uint256) {
        return uint256(p.rounds) * p.unitsPerRound * p.creditUnit;
    }

    function _update(uint256 round, uint256 i) internal pure returns (IFedLedger.ContentRef memory) {
        return IFedLedger.ContentRef(keccak256(abi.encode("update", round, i)), uint64(1000 + i));
    }

    function _salt(uint256 round, uint256 i) internal pure returns (bytes32) {
        return keccak256(abi.encode("salt", round, i));
    }

    function _register(uint256 i) internal {
        vm.deal(_owner(i), 100 ether);
        vm.prank(_owner(i));
        uint32 id = ledger.register{value: MIN_STAKE}(_signer(i), _payout(i));
        assertEq(id, i, "participant id");
    }

    function _post(IFedLedger.TaskParams memory p) internal returns (uint256) {
        vm.prank(PUBLISHER);
        return ledger.postTask{value: _budget(p)}(p);
    }

    /// @dev Registers and enrols participants 0 to count-1 in a new task, and lets enrolment end.
    function _started(IFedLedger.TaskParams memory p, uint256 count) internal returns (uint256 task) {
        task = _post(p);
        for (uint256 i = 0; i < count; ++i) {
            _register(i);
            vm.prank(_signer(i));
            ledger.enrol(task);
        }
        _skip(p.enrolPeriod);
    }

    function _firstOnes(uint256 count) internal pure returns (uint32[] memory indices, uint256[] memory words) {
        uint256 full = (count + 255) / 256;
        indices = new uint32[](full);
        words = new uint256[](full);
        for (uint256 i = 0; i < full; ++i) {
            indices[i] = uint32(i);
            words[i] = type(uint256).max;
        }
        if (count % 256 != 0) words[full - 1] = (1 << (count % 256)) - 1;
    }

    function _open(uint256 task, uint256 count) internal {
        (uint32[] memory indices, uint256[] memory words) = _firstOnes(count);
        vm.prank(AGGREGATOR);
        ledger.openRound(task, indices, words);
    }

    function _openWord(uint256 task, uint256 word) internal {
        (uint32[] memory indices, uint256[] memory words) = (new uint32[](1), new uint256[](1));
        words[0] = word;
        vm.prank(AGGREGATOR);
        ledger.openRound(task, indices, words);
    }

    function _commitment(uint256 task, uint32 round, uint256 i) internal view returns (bytes32) {
        bytes32 base = ledger.round(task, round).baseModel;
        return ledger.commitmentOf(task, round, _signer(i), base, _update(round, i), _salt(round, i));
    }

    function _commit(uint256 task, uint32 round, uint256 i) internal {
        bytes32 commitment = _commitment(task, round, i);
        vm.prank(_signer(i));
        ledger.commitUpdate(task, round, commitment);
    }

    function _reveal(uint256 task, uint32 round, uint256 i) internal {
        vm.prank(_signer(i));
        ledger.revealUpdate(task, round, _update(round, i), _salt(round, i));
    }

    function _delivered(uint256 task, uint32 round, uint256 count) internal {
        for (uint256 i = 0; i < count; ++i) {
            _commit(task, round, i);
        }
        for (uint256 i = 0; i < count; ++i) {
            _reveal(task, round, i);
        }
    }

    /// @dev Participants 0 to count-1 are judged alike and each gets `share`.
    function _uniform(uint32 round, uint256 count, uint8 verdict, uint32 share) internal pure returns (Outcome memory) {
        uint8[] memory verdicts = new uint8[](count);
        uint32[] memory shares = new uint32[](count);
        for (uint256 i = 0; i < count; ++i) {
            (verdicts[i], shares[i]) = (verdict, share);
        }
        return _outcome(round, verdicts, shares);
    }

    /// @dev Verdict and share of participant i are element i.
    function _outcome(uint32 round, uint8[] memory verdicts, uint32[] memory shares)
        internal
        pure
        returns (Outcome memory o)
    {
        uint256 slots = (verdicts.length + 7) / 8;
        (o.verdicts, o.shares) = (new uint256[](slots), new uint256[](slots));
        for (uint256 s = 0; s < slots; ++s) {
            o.verdicts[s] = s << 64;
        }
        for (uint256 i = 0; i < verdicts.length; ++i) {
            o.verdicts[i / 8] |= uint256(verdicts[i]) << (8 * (i % 8));
            o.shares[i / 8] |= uint256(shares[i]) << (32 * (i % 8));
        }
        o.proposal.model = IFedLedger.ContentRef(keccak256(abi.encode("model", round)), 100);
        o.proposal.state = IFedLedger.ContentRef(keccak256(abi.encode("state", round)), 10);
        o.proposal.report = IFedLedger.ContentRef(keccak256(abi.encode("report", round)), 20);
    }

    function _three(uint8 a, uint8 b, uint8 c) internal pure returns (uint8[] memory list) {
        list = new uint8[](3);
        (list[0], list[1], list[2]) = (a, b, c);
    }

    function _shares(uint32 a, uint32 b, uint32 c) internal pure returns (uint32[] memory list) {
        list = new uint32[](3);
        (list[0], list[1], list[2]) = (a, b, c);
    }

    function _propose(uint256 task, uint32 round, Outcome memory o) internal {
        uint256 bond = ledger.task(task).params.bond;
        vm.prank(AGGREGATOR);
        ledger.proposeRound{value: bond}(task, round, o.proposal, o.verdicts, o.shares);
    }

    function _settle(uint256 task, uint32 round, Outcome memory o) internal {
        vm.prank(OUTSIDER);
        ledger.settleRound(task, round, o.proposal, o.verdicts, o.shares);
    }

    /// @dev A whole round in which everybody delivers and is accepted.
    function _round(uint256 task, uint32 round, uint256 count, uint32 share) internal {
        _open(task, count);
        _delivered(task, round, count);
        Outcome memory o = _uniform(round, count, uint8(Verdicts.ACCEPTED), share);
        _propose(task, round, o);
        _skip(ledger.task(task).params.challengeWindow);
        _settle(task, round, o);
    }

    /// @dev Asks the VM for the time: the optimiser takes `block.timestamp` for a constant of the call.
    function _now() internal view returns (uint256) {
        return vm.getBlockTimestamp();
    }

    function _skip(uint256 duration) internal {
        vm.warp(_now() + duration);
    }

    function _bound(uint256 x, uint256 low, uint256 high) internal pure returns (uint256) {
        return low + x % (high - low + 1);
    }

    function _expect(bytes4 selector) internal {
        vm.expectRevert(abi.encodeWithSelector(selector));
    }

    function _expect(bytes4 selector, uint256 a) internal {
        vm.expectRevert(abi.encodeWithSelector(selector, a));
    }

    function _expect(bytes4 selector, uint256 a, uint256 b) internal {
        vm.expectRevert(abi.encodeWithSelector(selector, a, b));
    }

    function _expect(bytes4 selector, address account) internal {
        vm.expectRevert(abi.encodeWithSelector(selector, account));
    }

    function assertEq(uint256 found, uint256 expected, string memory what) internal pure {
        if (found != expected) revert Failed(what, found, expected);
    }

    function assertEq(address found, address expected, string memory what) internal pure {
        assertEq(uint160(found), uint160(expected), what);
    }

    function assertEq(bytes32 found, bytes32 expected, string memory what) internal pure {
        assertEq(uint256(found), uint256(expected), what);
    }

    function assertTrue(bool condition, string memory what) internal pure {
        assertEq(condition ? 1 : 0, 1, what);
    }

    function assertPhase(uint256 task, IFedLedger.Phase expected) internal view {
        assertEq(uint256(ledger.phase(task)), uint256(expected), "phase");
    }

    function assertStatus(uint256 task, uint32 round, IFedLedger.RoundStatus expected) internal view {
        assertEq(uint256(ledger.round(task, round).status), uint256(expected), "status");
    }
}
