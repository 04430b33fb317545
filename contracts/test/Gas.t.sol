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
        cool();
        vm.deal(owner(7), STAKE);
        agree(signer(7), owner(7));
        vm.prank(owner(7));
        accounts.register{value: STAKE}(signer(7), payout(7), STAKE);
        _note("register");
        uint256 task = post(defaults(8));
        _note("takeSeat");
        cool();
        vm.deal(PUBLISHER, budget(defaults(8)));
        vm.prank(PUBLISHER);
        accounts.postTask{value: budget(defaults(8))}(defaults(8), NO_STANDBYS);
        _note("postTask");
        enrol(task, 7);
        cool();
        vm.prank(signer(7));
        opinions.enrol(task);
        _note("enrol");
        _round(task, 1, ", first");
        _round(task, 2, "");
        cool();
        accounts.withdrawCredit(task, 0);
        _note("withdrawCredit");
        vm.prank(AGGREGATOR);
        accounts.deposit{value: 1}(COIN, 1);
        cool();
        vm.prank(AGGREGATOR);
        accounts.withdraw(COIN, AGGREGATOR);
        _note("withdraw");
    }

    /// @dev A task's first round writes slots that later ones overwrite.
    function _round(uint256 task, uint32 round, string memory which) private {
        (uint32[] memory indices, uint256[] memory words) = selection(0, 255);
        cool();
        vm.prank(AGGREGATOR);
        ledger.openRound(task, round, indices, words);
        _note(string.concat("openRound of 8", which));
        for (uint256 i = 0; i < 8; ++i) {
            bytes32 value = commitment(task, round, i);
            cool();
            vm.prank(signer(i));
            ledger.commitUpdate(task, round, value);
            if (i == 1) _atMost(_note(string.concat("commitUpdate", which)), round == 1 ? 70_000 : 30_000, "commit");
        }
        for (uint256 i = 0; i < 8; ++i) {
            cool();
            reveal(task, round, i);
            if (i == 0) _note("revealUpdate, first of a word");
            if (i == 1) _atMost(_note("revealUpdate"), 30_000, "reveal");
        }
        Outcome memory o = accepted(8, 125);
        cool();
        vm.prank(AGGREGATOR);
        ledger.proposeRound(task, round, o.proposal, o.verdictWords, o.shareWords, NO_UPDATES);
        _note(string.concat("proposeRound of 8", which));
        pass(5);
        cool();
        settle(task, round, o);
        _note(string.concat("settleRound of 8", which));
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
            cool();
            vm.prank(AGGREGATOR);
            ledger.openRound(task, r, indices, words);
            _small(string.concat("openRound", which));
            commitAndReveal(task, r, LARGEST);
            Outcome memory o = _everybody(LARGEST / 8, 8);
            cool();
            vm.prank(AGGREGATOR);
            ledger.proposeRound(task, r, o.proposal, o.verdictWords, o.shareWords, NO_UPDATES);
            _small(string.concat("proposeRound", which));
            pass(5);
            cool();
            ledger.settleRound(task, r, o.proposal, o.verdictWords, o.shareWords, ALL);
            _small(string.concat("settleRound", which));
            eq(accounts.creditOf(task, uint32(LARGEST - 1)), r, "credit");
        }
    }

    /// @dev The most scattered round settles in parts: two participants in each slot of as many as enrol.
    function test_gas_mostSlots() public {
        uint256 slots = accounts.MAX_PARTICIPANTS() / 8;
        register(8 * slots);
        IFedLedger.TaskParams memory p = defaults(uint16(8 * slots));
        p.unitsPerRound = uint32(LARGEST);
        uint256 task = post(p);
        enrol(task, 8 * slots);
        uint32[] memory indices = new uint32[](slots / 32);
        uint256[] memory words = new uint256[](slots / 32);
        for (uint32 i = 0; i < words.length; ++i) {
            (indices[i], words[i]) = (i, ALL / 255 * 3);
        }
        vm.prank(AGGREGATOR);
        ledger.openRound(task, 1, indices, words);
        for (uint256 i = 0; i < 8 * slots; ++i) {
            if (i % 8 < 2) commit(task, 1, i);
        }
        for (uint256 i = 0; i < 8 * slots; ++i) {
            if (i % 8 < 2) reveal(task, 1, i);
        }
        Outcome memory o = _everybody(slots, 2);
        cool();
        vm.prank(AGGREGATOR);
        ledger.proposeRound(task, 1, o.proposal, o.verdictWords, o.shareWords, NO_UPDATES);
        _small("proposeRound of 1024 in 512 slots");
        pass(5);
        cool();
        ledger.settleRound(task, 1, o.proposal, o.verdictWords, o.shareWords, 256);
        _small("settleRound of 256 slots, first");
        cool();
        ledger.settleRound(task, 1, o.proposal, o.verdictWords, o.shareWords, 256);
        _small("settleRound of the next 256 slots, first");
        eq(uint8(accounts.round(task, 1).status), uint8(IFedLedger.RoundStatus.Settled), "status");
        eq(accounts.task(task).spentUnits, LARGEST, "spent");
    }

    /// @dev Nearly all were late, which is asked of each of them one by one; each pays, so a part settles fewer words.
    function test_gas_mostLate() public {
        register(LARGEST + POOL);
        for (uint256 i = LARGEST; i < LARGEST + POOL; ++i) {
            enlist(i);
        }
        pass(AGE);
        IFedLedger.TaskParams memory p = _large();
        (p.penalty, p.minStake) = (1 gwei, 1 gwei);
        uint256 task = post(p);
        for (uint256 i = LARGEST; i < LARGEST + POOL; ++i) {
            serve(task, i);
        }
        enrol(task, LARGEST);
        vm.prank(AGGREGATOR);
        ledger.openRound(task, 1, new uint32[](0), new uint256[](0));
        for (uint256 i = 0; i < LARGEST; ++i) {
            commit(task, 1, i);
        }
        reveal(task, 1, 0);
        reveal(task, 1, 1);
        pass(10);
        Outcome memory o = _everybody(LARGEST / 8, 8);
        for (uint256 s = 0; s < o.verdictWords.length; ++s) {
            (o.verdictWords[s], o.shareWords[s]) = ((s << 64) | (s == 0 ? 0x0303030303030101 : 0x0303030303030303), 0);
        }
        cool();
        vm.prank(AGGREGATOR);
        ledger.proposeRound(task, 1, o.proposal, o.verdictWords, o.shareWords, NO_UPDATES);
        _small("proposeRound of 1024, nearly all late");
        pass(5);
        cool();
        ledger.settleRound(task, 1, o.proposal, o.verdictWords, o.shareWords, LARGEST / 16);
        _small("settleRound of 512, nearly all late and slashed");
        cool();
        ledger.settleRound(task, 1, o.proposal, o.verdictWords, o.shareWords, ALL);
        eq(uint8(accounts.round(task, 1).status), uint8(IFedLedger.RoundStatus.Settled), "status");
        eq(accounts.participant(uint32(LARGEST - 1)).stake, STAKE - 0.25 gwei, "stake");
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
