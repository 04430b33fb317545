// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {CourtFixture} from "./CourtFixture.sol";
import {vm} from "./Vm.sol";

/// @notice Checks as one call each, in a task of the four workers whose updates are all checked if nothing else is said.
abstract contract ChecksFixture is CourtFixture {
    uint32 internal constant PERIOD = 22;
    uint96 internal constant PENALTY = 0.3 ether + 3;
    bytes32 internal constant CLAIM = keccak256("claim");
    bytes32 internal constant OPENING = keccak256("opening");
    bytes32 internal constant SECRET = keccak256("salt of the findings");
    IFedLedger.ContentRef internal BOX = IFedLedger.ContentRef(keccak256("box"), 1234);
    uint256 internal _task;

    function checked() internal pure returns (IFedLedger.TaskParams memory p) {
        p = defaults(uint16(WORKERS));
        (p.checkRate, p.checkPeriod, p.checkPenalty, p.minStake) = (1_000_000, PERIOD, PENALTY, STAKE);
        (p.auditorCount, p.auditors) = (uint8(AUDITORS), keccak256(abi.encode(auditors())));
    }

    function auditors() internal pure returns (address[] memory all) {
        all = new address[](AUDITORS);
        for (uint256 place = 0; place < AUDITORS; ++place) {
            all[place] = auditor(place);
        }
    }

    function one(uint256 id) internal pure returns (uint32[] memory all) {
        all = new uint32[](1);
        all[0] = uint32(id);
    }

    function workers() internal pure returns (uint32[] memory all) {
        all = new uint32[](WORKERS);
        for (uint32 i = 0; i < WORKERS; ++i) {
            all[i] = i;
        }
    }

    /// @notice The round that is proposed there is in the first block from which its checks can be drawn.
    function proposedChecks(IFedLedger.TaskParams memory p) internal returns (uint256 task) {
        task = post(p);
        enrol(task, WORKERS);
        proposeNext(task, 1, 250);
        nextBlock();
    }

    function outcomeOf() internal pure returns (Outcome memory) {
        return accepted(WORKERS, 250);
    }

    function summon(uint32 round, uint32[] memory ids) internal {
        vm.prank(OUTSIDER);
        court.summon(_task, round, ids, posted(outcomeOf()));
    }

    function settleFirst() internal {
        settle(_task, 1, outcomeOf());
    }

    function answer(uint256 i) internal {
        vm.prank(signer(i));
        court.answerCheck(_task, 1, BOX, OPENING, CLAIM);
    }

    function summonAndAnswer(uint256 i) internal {
        summon(1, one(i));
        answer(i);
    }

    /// @notice What is found in one check.
    function found(uint32 round, uint256 i, bool passes) internal pure returns (IFedLedger.Findings[] memory all) {
        all = new IFedLedger.Findings[](1);
        all[0].round = round;
        if (!passes) {
            all[0].failed = one(i);
            return all;
        }
        (all[0].passed, all[0].transcripts) = (one(i), new bytes32[](1));
        all[0].transcripts[0] = TRANSCRIPT;
    }

    function hashOf(uint256 place, IFedLedger.Findings[] memory all) internal view returns (bytes32) {
        return keccak256(abi.encode(_task, place, all, SECRET));
    }

    function commitFindings(uint256 place, bytes32 value) internal {
        vm.prank(auditor(place));
        court.postFindings(_task, auditors(), place, new IFedLedger.Findings[](0), 0, value);
    }

    function revealFindings(uint256 place, IFedLedger.Findings[] memory all) internal {
        vm.prank(auditor(place));
        court.postFindings(_task, auditors(), place, all, SECRET, 0);
    }

    function post(uint256 place, IFedLedger.Findings[] memory all) internal {
        commitFindings(place, hashOf(place, all));
        revealFindings(place, all);
    }

    /// @notice The auditor that a check is for says what it found.
    function judge(uint256 i, bool passes) internal {
        post(placeOf(i), found(1, i, passes));
    }

    function appealOf(uint256 i) internal {
        uint256 bond = bondOfAppeal();
        vm.deal(owner(i), owner(i).balance + bond);
        vm.prank(owner(i));
        court.appealCheck{value: bond}(_task, 1, BOX, OPENING, CLAIM);
    }

    function end(uint256 i) internal {
        vm.prank(OUTSIDER);
        court.endChecks(_task, 1, one(i), auditors());
    }

    /// @notice A check that the first auditor failed, and against which its owner appealed.
    function appealed(uint256 i) internal {
        summonAndAnswer(i);
        judge(i, false);
        appealOf(i);
    }

    function bondOfAppeal() internal view returns (uint256) {
        return court.appealBond(PENALTY);
    }

    function placeOf(uint256 i) internal view returns (uint256 place) {
        (, place) = court.checkOf(_task, 1, uint32(i));
    }

    /// @notice Seconds from the proposal until so many check periods are over; from then on it is too late.
    function until(uint256 periods) internal view returns (uint256) {
        return accounts.round(_task, 1).proposedAt + periods * PERIOD;
    }

    function stateIs(uint256 i, IFedLedger.CheckState expected) internal view {
        (IFedLedger.CheckState state,) = court.checkOf(_task, 1, uint32(i));
        eq(uint8(state), uint8(expected), "check");
    }

    function lane(uint256 i) internal view returns (uint256) {
        return (opinions.evidenceWord(PUBLISHER, i / 8) >> (32 * (i % 8))) & type(uint32).max;
    }

    function wrongCheck(uint256 i, IFedLedger.CheckState state) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(IFedLedger.WrongCheck.selector, uint32(i), state);
    }

    function tooLate(uint256 periods) internal view returns (bytes memory) {
        return abi.encodeWithSelector(IFedLedger.NotInTime.selector, 0, until(periods));
    }
}
