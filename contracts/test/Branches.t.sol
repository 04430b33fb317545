// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {BatchedFixture} from "./Batched.t.sol";
import {vm} from "./Vm.sol";

/// @notice What no story of the other tests passes by.
contract BranchesTest is BatchedFixture {
    function setUp() public {
        setUpLedger();
        register(1);
    }

    function test_withdraw_toNobody_isRefused() public {
        refused(owner(0), abi.encodeWithSelector(IFedLedger.ZeroAddress.selector));
        accounts.withdraw(COIN, address(0));
    }

    function test_rotateSignerAndSetPayout_toNobody_areRefused() public {
        refused(owner(0), abi.encodeWithSelector(IFedLedger.ZeroAddress.selector));
        accounts.rotateSigner(address(0));
        refused(owner(0), abi.encodeWithSelector(IFedLedger.ZeroAddress.selector));
        accounts.setPayout(address(0));
    }

    function test_participant_neverRegistered_isUnknown() public {
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.UnknownParticipant.selector, 1));
        accounts.participant(1);
    }

    function test_completeExit_notRequested_isRefused() public {
        refused(owner(0), abi.encodeWithSelector(IFedLedger.NotExiting.selector, 0));
        accounts.completeExit();
    }

    /// @dev 96 bits hold every stake there can be; one wei more is refused, not truncated.
    function test_addStake_beyond96Bits_isRefused() public {
        uint96 most = type(uint96).max;
        vm.deal(owner(0), 2 * uint256(most));
        vm.prank(owner(0));
        accounts.addStake{value: most - STAKE}(most - STAKE);
        eq(accounts.participant(0).stake, most, "stake");
        refused(owner(0), abi.encodeWithSignature("Panic(uint256)", 0x11));
        accounts.addStake{value: 1}(1);
    }

    function test_announce_emits() public {
        vm.expectEmit(address(ledger));
        emit IFedLedger.EndpointAnnounced(AGGREGATOR, "https://example.org");
        vm.prank(AGGREGATOR);
        accounts.announce("https://example.org");
    }

    function test_propose_whileSomebodyMayCommit_isRefused() public {
        uint256 task = _batchedRound();
        Outcome memory o = accepted(4, 1);
        IFedLedger.Updates memory u = updatesOf(4);
        bind(o, u);
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.CommitsAreOpen.selector));
        vm.prank(AGGREGATOR, AGGREGATOR);
        ledger.proposeRound(task, 1, o.proposal, o.verdictWords, o.shareWords, u);
        pass(10);
        close(task, 1, keccak256("root"), 3);
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.StillAdmitting.selector, START + 10 + GRACE));
        vm.prank(AGGREGATOR, AGGREGATOR);
        ledger.proposeRound(task, 1, o.proposal, o.verdictWords, o.shareWords, u);
    }

    function test_void_whileTheRootMayCome_isRefused() public {
        uint256 task = _batchedRound();
        pass(19);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotOverdue.selector, task, 1));
        ledger.voidRound(task, 1);
    }

    function test_addStake_whileLeaving_isRefused() public {
        vm.prank(owner(0));
        accounts.requestExit();
        refused(owner(0), abi.encodeWithSelector(IFedLedger.AlreadyExiting.selector, 0));
        accounts.addStake{value: 1}(1);
    }

    function test_idOfOwner_neverRegistered_isUnknown() public {
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.NotRegistered.selector, OUTSIDER));
        accounts.idOfOwner(OUTSIDER);
    }

    function test_commitUpdate_byASignerThatWasReplaced_isRefused() public {
        uint256 task = _directRound();
        commit(task, 1, 0);
        commit(task, 1, 1);
        pass(10);
        reveal(task, 1, 0);
        reveal(task, 1, 1);
        Outcome memory o = outcome(verdicts(1, 1, 2, 0), new uint256[](4));
        vm.prank(AGGREGATOR);
        ledger.proposeRound(task, 1, o.proposal, o.verdictWords, o.shareWords, NO_UPDATES);
        pass(5);
        settle(task, 1, o);
        open(task, 7);
        vm.prank(owner(0));
        accounts.rotateSigner(signer(9));
        refused(signer(0), abi.encodeWithSelector(IFedLedger.NotRegistered.selector, signer(0)));
        ledger.commitUpdate(task, 2, keccak256("some"));
        vm.prank(signer(9));
        ledger.commitUpdate(task, 2, keccak256("some"));
        // The old place is gone, and so is the new one once the old signer is back.
        vm.prank(owner(0));
        accounts.rotateSigner(signer(0));
        refused(signer(0), abi.encodeWithSelector(IFedLedger.AlreadyCommitted.selector, 0));
        ledger.commitUpdate(task, 2, keccak256("another"));
    }

    function test_commitAndReveal_byWhoIsNotEnrolledOrRegistered_isRefused() public {
        uint256 task = _directRound();
        refused(signer(3), abi.encodeWithSelector(IFedLedger.NotSelected.selector, 3));
        ledger.commitUpdate(task, 1, keccak256("some"));
        commit(task, 1, 0);
        pass(10);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotRegistered.selector, OUTSIDER));
        ledger.revealUpdate(task, 1, update(0), SALT, NO_PROOF);
    }

    function test_propose_moreThanCommitted_isRefused() public {
        uint256 task = _batchedRound();
        pass(10);
        close(task, 1, keccak256("root"), 3);
        pass(GRACE);
        Outcome memory o = accepted(4, 1);
        bind(o, updatesOf(4));
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.WrongCount.selector, 4, 3));
        vm.prank(AGGREGATOR, AGGREGATOR);
        ledger.proposeRound(task, 1, o.proposal, o.verdictWords, o.shareWords, updatesOf(4));
    }

    function test_mayAct_byAStranger_isNever() public {
        uint256 task = _batchedRound();
        eq(ledger.mayAct(task, OUTSIDER) ? 1 : 0, 0, "a stranger");
        eq(ledger.mayAct(task, AGGREGATOR) ? 1 : 0, 1, "the aggregator");
    }

    function test_hasCommitted_beforeAnyRound_isNever() public {
        uint256 task = _directRound();
        eq(accounts.hasCommitted(task, 0, 0) ? 1 : 0, 0, "round 0");
        eq(accounts.hasCommitted(task, 1, 0) ? 1 : 0, 0, "round 1");
        commit(task, 1, 0);
        eq(accounts.hasCommitted(task, 1, 0) ? 1 : 0, 1, "committed");
    }

    /// @dev Three of four take part.
    function _directRound() private returns (uint256 task) {
        registerFrom(1, 3);
        task = post(defaults(3));
        enrol(task, 3);
        openAll(task);
    }

    function _batchedRound() private returns (uint256 task) {
        for (uint256 i = 1; i < 4; ++i) {
            vm.deal(owner(i), 10 ether);
            vm.prank(owner(i));
            accounts.register{value: STAKE}(signer(i), payout(i), STAKE);
        }
        task = post(batched(4));
        enrol(task, 4);
        openAll(task);
    }
}
