// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {Fixture} from "./Fixture.sol";
import {vm} from "./Vm.sol";

/// @notice Gas of each step, kept in `contracts/test/snapshots` so that a change in gas is a reviewed difference.
/// @dev Execution alone, from cold storage; a transaction adds 21,000 and its calldata, less refunds.
contract GasTest is Fixture {
    uint256 private constant LARGEST = 1024;
    uint256 private constant BLOCK_LIMIT = 16_000_000;

    function setUp() public {
        setUpLedger();
    }

    function test_gas_steps() public {
        register(7);
        _cold();
        vm.deal(owner(7), STAKE);
        vm.prank(owner(7));
        ledger.register{value: STAKE}(signer(7), payout(7));
        _note("register");
        uint256 task = post(defaults(8));
        _note("postTask");
        enrol(task, 7);
        _cold();
        vm.prank(signer(7));
        ledger.enrol(task);
        _note("enrol");
        _cold();
        open(task, 255);
        _note("openRound of 8");
        for (uint256 i = 0; i < 8; ++i) {
            bytes32 value = commitment(task, 1, i);
            _cold();
            vm.prank(signer(i));
            ledger.commitUpdate(task, 1, value);
            if (i == 0) _atMost(_note("commitUpdate, first of a word"), 75_000, "commit");
            if (i == 1) _atMost(_note("commitUpdate"), 60_000, "commit");
        }
        for (uint256 i = 0; i < 8; ++i) {
            _cold();
            reveal(task, 1, i);
            if (i == 0) _atMost(_note("revealUpdate, first of a word"), 60_000, "reveal");
            if (i == 1) _atMost(_note("revealUpdate"), 40_000, "reveal");
        }
        Outcome memory o = accepted(8, 125);
        _cold();
        vm.prank(AGGREGATOR);
        ledger.proposeRound{value: 1 ether}(task, 1, o.proposal, o.verdictWords, o.shareWords, NO_UPDATES);
        _note("proposeRound of 8");
        pass(5);
        _cold();
        settle(task, 1, o);
        _note("settleRound of 8");
        _cold();
        ledger.withdrawCredit(task, 0);
        _note("withdrawCredit");
        vm.prank(AGGREGATOR);
        ledger.withdraw(AGGREGATOR);
        _note("withdraw");
    }

    /// @dev The largest round fits a block of any chain, step by step.
    function test_gas_largestRound() public {
        register(LARGEST);
        uint256 task = post(_large());
        enrol(task, LARGEST);
        for (uint32 r = 1; r <= 2; ++r) {
            string memory which = r == 1 ? " of 1024, first" : " of 1024";
            (uint32[] memory indices, uint256[] memory words) = (new uint32[](4), new uint256[](4));
            for (uint32 i = 0; i < 4; ++i) {
                (indices[i], words[i]) = (i, type(uint256).max);
            }
            _cold();
            vm.prank(AGGREGATOR);
            ledger.openRound(task, indices, words);
            _small(string.concat("openRound", which));
            commitAndReveal(task, r, LARGEST);
            Outcome memory o = _everybody(LARGEST / 8, 8);
            _cold();
            vm.prank(AGGREGATOR);
            ledger.proposeRound{value: 1 ether}(task, r, o.proposal, o.verdictWords, o.shareWords, NO_UPDATES);
            _small(string.concat("proposeRound", which));
            pass(5);
            _cold();
            ledger.settleRound(task, r, o.proposal, o.verdictWords, o.shareWords);
            _small(string.concat("settleRound", which));
            eq(ledger.creditOf(task, uint32(LARGEST - 1)), r, "credit");
        }
    }

    /// @dev The most scattered round fits too: four participants in each of as many slots as may be, and no more.
    function test_gas_mostSlots() public {
        uint256 slots = ledger.MAX_SLOTS();
        register(8 * slots + 8);
        IFedLedger.TaskParams memory p = defaults(uint16(8 * slots + 8));
        p.unitsPerRound = uint32(LARGEST);
        uint256 task = post(p);
        enrol(task, 8 * slots + 8);
        uint32[] memory indices = new uint32[](slots / 32 + 1);
        uint256[] memory words = new uint256[](slots / 32 + 1);
        for (uint32 i = 0; i < words.length; ++i) {
            (indices[i], words[i]) = (i, type(uint256).max / 255 * 0x0f);
        }
        words[slots / 32] = 0x80;
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.TooManySelected.selector, 4 * slots + 1));
        ledger.openRound(task, indices, words);
        words[0] ^= 1;
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.TooManySlots.selector, slots + 1));
        ledger.openRound(task, indices, words);
        words[0] ^= 1;
        assembly {
            mstore(indices, sub(mload(indices), 1))
            mstore(words, sub(mload(words), 1))
        }
        vm.prank(AGGREGATOR);
        ledger.openRound(task, indices, words);
        for (uint256 i = 0; i < 8 * slots; ++i) {
            if (i % 8 < 4) commit(task, 1, i);
        }
        for (uint256 i = 0; i < 8 * slots; ++i) {
            if (i % 8 < 4) reveal(task, 1, i);
        }
        Outcome memory o = _everybody(slots, 4);
        _cold();
        vm.prank(AGGREGATOR);
        ledger.proposeRound{value: 1 ether}(task, 1, o.proposal, o.verdictWords, o.shareWords, NO_UPDATES);
        _small("proposeRound of 1024 in 256 slots");
        pass(5);
        _cold();
        ledger.settleRound(task, 1, o.proposal, o.verdictWords, o.shareWords);
        _small("settleRound of 1024 in 256 slots, first");
    }

    function _cold() private {
        vm.cool(address(ledger));
    }

    function _large() private pure returns (IFedLedger.TaskParams memory p) {
        p = defaults(uint16(LARGEST));
        p.unitsPerRound = uint32(LARGEST);
    }

    function _everybody(uint256 slots, uint256 lanes) private pure returns (Outcome memory o) {
        (o.verdictWords, o.shareWords) = (new uint256[](slots), new uint256[](slots));
        for (uint256 s = 0; s < slots; ++s) {
            o.verdictWords[s] = s << 64;
            for (uint256 lane = 0; lane < lanes; ++lane) {
                o.verdictWords[s] |= 1 << (8 * lane);
                o.shareWords[s] |= 1 << (32 * lane);
            }
        }
    }

    function _note(string memory name) private returns (uint256) {
        return vm.snapshotGasLastCall("FedLedger", name);
    }

    function _small(string memory name) private {
        _atMost(_note(name), BLOCK_LIMIT, name);
    }

    function _atMost(uint256 value, uint256 limit, string memory what) private pure {
        if (value > limit) revert Differs(what, value, limit);
    }
}
