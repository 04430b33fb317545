// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Evidence} from "../src/Evidence.sol";
import {IFedLedger} from "../src/IFedLedger.sol";
import {Fixture} from "./Fixture.sol";
import {vm} from "./Vm.sol";

/// @notice Attacks that ledgers of this kind have fallen to.
contract AttacksTest is Fixture {
    uint256 private constant ACCEPTED = 1;
    uint256 private constant MISSED = 2;
    uint256 private constant LATE = 3;
    uint256 private constant OUTVOTED = 38;
    uint256 private constant REFUSED = 16;

    function setUp() public {
        setUpLedger();
        register(4);
    }

    /// @dev One stake that is passed on from hand to hand must not carry many participants through a task's gate.
    function test_commitUpdate_stakeTakenOutSinceEnrolment_isRefused() public {
        IFedLedger.TaskParams memory p = defaults(4);
        (p.minStake, p.enrolPeriod) = (2 * STAKE, uint32(EXIT_DELAY) + 50);
        uint256 task = post(p);
        for (uint256 i = 0; i < 3; ++i) {
            vm.prank(owner(i));
            accounts.addStake{value: STAKE}(STAKE);
        }
        enrol(task, 3);
        _leaveAndReturn(0);
        pass(50);
        open(task, 7);
        bytes32 value = commitment(task, 1, 0);
        refused(signer(0), abi.encodeWithSelector(IFedLedger.StakeTooSmall.selector, STAKE, 2 * STAKE));
        ledger.commitUpdate(task, 1, value);
        commit(task, 1, 1);
    }

    /// @dev A new signer brings no second vote.
    function test_commitUpdate_againThroughANewSigner_isRefused() public {
        uint256 task = _started(4);
        open(task, 15);
        commit(task, 1, 0);
        agree(signer(9), owner(0));
        vm.prank(owner(0));
        accounts.rotateSigner(signer(9));
        refused(signer(9), abi.encodeWithSelector(IFedLedger.AlreadyCommitted.selector, 0));
        ledger.commitUpdate(task, 1, keccak256("another"));
    }

    function test_commitmentOf_isTheDocumentedHash() public {
        bytes memory fields = abi.encode(address(ledger), uint256(4), uint256(5), signer(6), MODEL);
        bytes memory rest = abi.encode(update(7).digest, uint256(107), SALT);
        for (uint256 chain = 1; chain < 3; ++chain) {
            vm.chainId(chain);
            bytes32 found = ledger.commitmentOf(4, 5, signer(6), MODEL, update(7), SALT);
            eq(found, keccak256(bytes.concat(bytes32(chain), fields, rest)), "commitment");
        }
    }

    /// @dev Leaving and coming back washes nothing: evidence belongs to the owner's one id.
    function test_exit_comingBack_keepsBadEvidence() public {
        uint256 task = _started(2);
        open(task, 3);
        commitAndReveal(task, 1, 2);
        uint256[] memory verdicts = new uint256[](2);
        (verdicts[0], verdicts[1]) = (REFUSED, ACCEPTED);
        _settleNow(task, 1, outcome(verdicts, new uint256[](2)));
        uint256 before = opinions.reputation(PUBLISHER, 0);
        _leaveAndReturn(0);
        eq(accounts.idOfOwner(owner(0)), 0, "id");
        eq(opinions.reputation(PUBLISHER, 0), before, "reputation");
    }

    /// @dev A requester cannot take back what was earned, and who has left is paid all the same.
    function test_withdrawCredit_afterExitAndFinish_stillPays() public {
        uint256 task = _started(2);
        open(task, 3);
        commitAndReveal(task, 1, 2);
        _settleNow(task, 1, accepted(2, 400));
        vm.prank(owner(0));
        accounts.requestExit();
        pass(EXIT_DELAY + 101);
        vm.prank(owner(0));
        accounts.completeExit();
        vm.prank(PUBLISHER);
        accounts.finishTask(task);
        accounts.withdrawCredit(task, 0);
        eq(payout(0).balance, 400 gwei, "paid");
    }

    /// @dev The most that a task can ever credit fills one lane to its last bit and touches no other.
    function test_settleRound_wholeBudgetToOne_fillsItsLaneOnly() public {
        IFedLedger.TaskParams memory p = defaults(4);
        p.unitsPerRound = type(uint32).max / 3;
        uint256 task = post(p);
        enrol(task, 4);
        Outcome memory o = accepted(4, 0);
        o.shareWords[0] = uint256(p.unitsPerRound) << 32;
        for (uint32 r = 1; r <= 3; ++r) {
            open(task, 15);
            commitAndReveal(task, r, 4);
            _settleNow(task, r, o);
        }
        eq(accounts.creditWord(task, 0), uint256(type(uint32).max) << 32, "credits");
        vm.prank(OUTSIDER);
        accounts.finishTask(task);
        accounts.withdrawCredit(task, 1);
        eq(payout(1).balance, uint256(type(uint32).max) * 1 gwei, "paid");
        eq(free(PUBLISHER), 0, "nothing to refund");
    }

    /// @dev Of all 256 codes exactly those are taken that follow from what the ledger saw.
    function test_proposeRound_everyVerdictCode_mustFollowFromTheRecord() public {
        uint256 task = _started(4);
        open(task, 15);
        for (uint256 i = 0; i < 3; ++i) {
            commit(task, 1, i);
        }
        pass(10);
        reveal(task, 1, 0);
        reveal(task, 1, 1);
        pass(10);
        uint256[5] memory fitting = [REFUSED, ACCEPTED, LATE, MISSED, 0];
        for (uint256 id = 0; id < 5; ++id) {
            for (uint256 code = 0; code < 256; ++code) {
                // Nobody is outvoted where nobody scores.
                bool refused_ = code >= REFUSED && code != OUTVOTED;
                bool valid = id < 2 ? code == ACCEPTED || refused_ : code == fitting[id];
                _try(task, fitting, id, code, valid);
            }
        }
    }

    /// @dev Who is silent loses its deposit; the voided round leaves no other trace.
    function test_voidRound_silentAggregator_costsItsDepositOnly() public {
        uint256 task = _started(4);
        open(task, 15);
        commitAndReveal(task, 1, 4);
        uint256 held = address(ledger).balance;
        pass(20);
        vm.prank(OUTSIDER);
        ledger.voidRound(task, 1);
        eq(accounts.seats(task)[0].deposit, 0, "deposit");
        takeSeat(task, AGGREGATOR);
        open(task, 15);
        eq(accounts.baseModel(task, 2), MODEL, "base");
        eq(opinions.evidenceWord(PUBLISHER, 0), 0, "evidence");
        eq(address(ledger).balance, held + 1 ether, "money and a new deposit");
    }

    /// @dev Staying away never launders: belief never rises by it and bad evidence stays to the last unit.
    function testFuzz_absence_neverLaunders(uint32 lane, uint8 rounds) public pure {
        (uint256 before,,,) = Evidence.opinion(lane);
        (, uint256 negative,) = Evidence.unpack(lane);
        uint256 next = lane;
        for (uint256 i = 0; i < rounds; ++i) {
            next = Evidence.afterVerdict(next, i % 2 == 0 ? MISSED : LATE);
        }
        (uint256 belief,,,) = Evidence.opinion(next);
        (, uint256 left,) = Evidence.unpack(next);
        eq(belief > before ? 1 : 0, 0, "belief rose");
        eq(left, negative, "negative");
    }

    /// @dev Behaving well only until trusted does not pay: trust is lost at least four times as fast as it is won.
    function test_onOff_trustIsLostFasterThanWon() public pure {
        uint256 lane;
        for (uint256 i = 0; i < 40; ++i) {
            lane = Evidence.afterVerdict(lane, ACCEPTED);
        }
        uint256 trusted = _reputation(lane);
        uint256 bad;
        for (; _reputation(lane) >= 500_000; ++bad) {
            lane = Evidence.afterVerdict(lane, REFUSED);
        }
        uint256 good;
        for (; _reputation(lane) < trusted - 10_000; ++good) {
            lane = Evidence.afterVerdict(lane, ACCEPTED);
        }
        eq(trusted > 900_000 && good >= 4 * bad ? 1 : 0, 1, "asymmetry");
    }

    function _started(uint256 count) private returns (uint256 task) {
        task = post(defaults(uint16(count)));
        enrol(task, count);
    }

    function _settleNow(uint256 task, uint32 round, Outcome memory o) private {
        propose(task, round, o);
        pass(5);
        settle(task, round, o);
    }

    function _leaveAndReturn(uint256 i) private {
        vm.prank(owner(i));
        accounts.requestExit();
        pass(EXIT_DELAY);
        vm.prank(owner(i));
        accounts.completeExit();
        agree(signer(i), owner(i));
        vm.prank(owner(i));
        accounts.register{value: STAKE}(signer(i), payout(i), STAKE);
    }

    /// @dev Proposes `fitting` with `code` for `id`, and undoes it.
    function _try(uint256 task, uint256[5] memory fitting, uint256 id, uint256 code, bool valid) private {
        uint256[] memory verdicts = new uint256[](5);
        for (uint256 i = 0; i < 5; ++i) {
            verdicts[i] = i == id ? code : fitting[i];
        }
        Outcome memory o = outcome(verdicts, new uint256[](5));
        uint256 state = vm.snapshotState();
        if (!valid) vm.expectRevert(abi.encodeWithSelector(IFedLedger.WrongVerdict.selector, id, code));
        vm.prank(AGGREGATOR);
        ledger.proposeRound(task, 1, o.proposal, o.verdictWords, o.shareWords, NO_UPDATES);
        vm.revertToState(state);
    }

    function _reputation(uint256 lane) private pure returns (uint256 held) {
        (,,, held) = Evidence.opinion(lane);
    }
}
