// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {LedgerCourt} from "../src/LedgerCourt.sol";
import {BatchedFixture} from "./Batched.t.sol";
import {Vm, vm} from "./Vm.sol";

/// @notice Disputes as one call each, signed commitments, and an account of all money. Participants 0 to 3 train, those
/// after them verify.
abstract contract CourtFixture is BatchedFixture {
    uint256 internal constant WORKERS = 4;
    uint256 internal constant AUDITORS = 3;
    uint96 internal constant BOND = 1 ether;
    address internal constant CHALLENGER = address(0xC4A);
    address internal constant APPELLANT = address(0xA44);
    address internal constant STANDBY = address(0x57B);
    address internal constant RESERVE = address(0x4E5);
    bytes32 internal constant TRANSCRIPT = keccak256("transcript");
    bytes32 internal constant OTHER = keccak256("other transcript");
    bytes32 private constant DOMAIN =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant COMMITMENT =
        keccak256("Commitment(uint256 task,uint32 round,uint32 participant,bytes32 commitment)");

    uint256 private _burned;
    uint256 private _verifiers;

    function setUpCourt(uint256 verifiers) internal {
        setUpLedger();
        burnedBefore();
        vm.roll(1000);
        // All verifiers are old enough at the start.
        vm.warp(START - AGE);
        register(WORKERS + verifiers);
        for (uint256 i = 0; i < verifiers; ++i) {
            enlist(WORKERS + i);
        }
        vm.warp(START);
        setUpVerifiers(verifiers);
        vm.deal(CHALLENGER, 1000 ether);
        vm.deal(APPELLANT, 1000 ether);
        vm.deal(STANDBY, 1000 ether);
        vm.deal(RESERVE, 1000 ether);
        nextBlock();
    }

    /// @notice How many there are that serve what is posted.
    function setUpVerifiers(uint256 verifiers) internal {
        _verifiers = verifiers;
    }

    /// @notice Another ledger's books begin.
    function burnedBefore() internal {
        vm.recordLogs();
        _burned = 0;
    }

    function key(uint256 i) internal pure returns (uint256) {
        return 0x5000 + i;
    }

    function signer(uint256 i) internal pure override returns (address) {
        return vm.addr(key(i));
    }

    function auditor(uint256 place) internal pure returns (address) {
        return address(uint160(0xA0D0 + place));
    }

    /// @notice Posts a task that every verifier serves that is old enough, if it has a challenge window.
    function post(IFedLedger.TaskParams memory p, address[] memory standbys) internal override returns (uint256 task) {
        task = super.post(p, standbys);
        if (p.challengeWindow == 0) return task;
        for (uint256 i = WORKERS; i < WORKERS + _verifiers; ++i) {
            if (court.isServing(uint32(i)) && _mayServeFrom(i) <= vm.getBlockTimestamp()) serve(task, i);
        }
        nextBlock();
    }

    /// @notice A verifier that retires and comes back as soon as it may, and from when on it may serve.
    function comeBack(uint256 i) internal returns (uint256 from) {
        vm.prank(owner(i));
        court.retire();
        pass(DISPUTE);
        vm.prank(owner(i));
        court.enlist();
        return _mayServeFrom(i);
    }

    function nextBlock() internal {
        vm.roll(vm.getBlockNumber() + 1);
    }

    /// @notice A direct task of all workers whose first round is proposed, everybody accepted.
    function proposedRound() internal returns (uint256 task) {
        task = post(defaults(uint16(WORKERS)));
        enrol(task, WORKERS);
        proposeNext(task, 1, 250);
    }

    function proposeNext(uint256 task, uint32 round, uint256 share) internal {
        open(task, (1 << WORKERS) - 1);
        commitAndReveal(task, round, WORKERS);
        propose(task, round, accepted(WORKERS, share));
    }

    function challenge(uint256 task, uint32 round) internal returns (uint256 dispute) {
        vm.prank(CHALLENGER);
        return juries.challengeRound{value: BOND}(task, round);
    }

    function draw(uint256 dispute) internal returns (uint32[] memory members) {
        nextBlock();
        juries.drawJury(dispute);
        return juries.juryOf(dispute, level(dispute)).members;
    }

    function level(uint256 dispute) internal view returns (uint8) {
        return juries.disputeRecord(dispute).level;
    }

    function valid(bool yes) internal pure returns (IFedLedger.Finding) {
        return yes ? IFedLedger.Finding.Valid : IFedLedger.Finding.Invalid;
    }

    /// @notice What a juror of a level has for a transcript: hashed once for each level there could be above it.
    function atLevel(bytes32 core, uint256 level_) internal pure returns (bytes32) {
        for (; level_ < 2; ++level_) {
            core = keccak256(abi.encode(core));
        }
        return core;
    }

    function commitVote(uint256 dispute, uint32 juror, bool yes, bytes32 core) internal {
        commitVote(dispute, juror, valid(yes), atLevel(core, level(dispute)));
    }

    function revealVote(uint256 dispute, uint32 juror, bool yes, bytes32 core) internal {
        revealVote(dispute, juror, valid(yes), atLevel(core, level(dispute)));
    }

    function commitVote(uint256 dispute, uint32 juror, IFedLedger.Finding finding, bytes32 transcript) internal {
        bytes32 value = juries.voteOf(dispute, level(dispute), juror, finding, transcript, SALT);
        vm.prank(owner(juror));
        juries.commitVote(dispute, value);
    }

    function revealVote(uint256 dispute, uint32 juror, IFedLedger.Finding finding, bytes32 transcript) internal {
        vm.prank(owner(juror));
        juries.revealVote(dispute, finding, transcript, SALT);
    }

    /// @notice The first `yes` jurors find the proposal valid, the next `no` invalid, and the others say nothing.
    function vote(uint256 dispute, uint32[] memory members, uint256 yes, uint256 no) internal {
        vote(dispute, members, yes, no, 0);
    }

    /// @notice So many cannot judge it besides.
    function vote(uint256 dispute, uint32[] memory members, uint256 yes, uint256 no, uint256 unable) internal {
        uint256 cast = yes + no + unable;
        bytes32 transcript = atLevel(TRANSCRIPT, level(dispute));
        for (uint256 i = 0; i < cast; ++i) {
            if (i < yes + no) commitVote(dispute, members[i], valid(i < yes), transcript);
            else commitVote(dispute, members[i], IFedLedger.Finding.Unable, 0);
        }
        if (cast != members.length) pass(DISPUTE);
        for (uint256 i = 0; i < cast; ++i) {
            if (i < yes + no) revealVote(dispute, members[i], valid(i < yes), transcript);
            else revealVote(dispute, members[i], IFedLedger.Finding.Unable, 0);
        }
        if (cast != members.length) pass(DISPUTE);
        juries.decide(dispute);
    }

    /// @notice A jury that agrees.
    function decided(uint256 dispute, bool yes) internal returns (uint32[] memory members) {
        members = draw(dispute);
        vote(dispute, members, yes ? members.length : 0, yes ? 0 : members.length);
    }

    function appeal(uint256 dispute, uint256 bond) internal {
        vm.prank(APPELLANT);
        juries.appeal{value: bond}(dispute);
    }

    function closeLate(uint256 dispute) internal {
        pass(DISPUTE);
        juries.closeDispute(dispute);
    }

    function statusIs(uint256 dispute, IFedLedger.DisputeStatus expected) internal view {
        eq(uint8(juries.disputeRecord(dispute).status), uint8(expected), "dispute");
    }

    function roundIs(uint256 task, uint32 round, IFedLedger.RoundStatus expected) internal view {
        eq(uint8(accounts.round(task, round).status), uint8(expected), "round");
    }

    function posted(Outcome memory o) internal pure returns (IFedLedger.Posted memory) {
        return IFedLedger.Posted(o.proposal, o.verdictWords, o.shareWords);
    }

    /// @notice The commitment of participant `i`, as it signed it and with its way to the root.
    function signed(uint256 task, uint32 round, uint256 i, bytes32[] memory proof)
        internal
        view
        returns (LedgerCourt.Claim memory)
    {
        return signedAs(task, round, i, commitment(task, round, i), proof);
    }

    function signedAs(uint256 task, uint32 round, uint256 i, bytes32 value, bytes32[] memory proof)
        internal
        view
        returns (LedgerCourt.Claim memory)
    {
        return LedgerCourt.Claim(value, signature(key(i), task, round, i, value), proof);
    }

    function signature(uint256 by, uint256 task, uint32 round, uint256 i, bytes32 value)
        internal
        view
        returns (bytes memory)
    {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(by, digest(task, round, i, value));
        return abi.encodePacked(r, s, v);
    }

    /// @notice What is signed.
    function digest(uint256 task, uint32 round, uint256 i, bytes32 value) internal view returns (bytes32) {
        bytes32 domain =
            keccak256(abi.encode(DOMAIN, keccak256("fedledger"), keccak256("5"), block.chainid, address(ledger)));
        bytes32 message = keccak256(abi.encode(COMMITMENT, task, round, uint32(i), value));
        return keccak256(bytes.concat("\x19\x01", domain, message));
    }

    /// @notice What nobody gets, by the events.
    function burned() internal returns (uint256) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] == IFedLedger.Burned.selector) _burned += abi.decode(logs[i].data, (uint256));
        }
        return _burned;
    }

    /// @notice Every wei that was paid in has one owner, or none for ever.
    function conserved() internal {
        conservedBut(burned());
    }

    function conservedBut(uint256 burned_) internal view {
        uint256 sum = burned_ + _participants() + _tasks() + _disputes();
        address[7] memory all = [PUBLISHER, AGGREGATOR, OUTSIDER, CHALLENGER, APPELLANT, STANDBY, RESERVE];
        for (uint256 i = 0; i < all.length; ++i) {
            sum += free(all[i]);
        }
        for (uint256 i = 0; i < AUDITORS; ++i) {
            sum += free(auditor(i));
        }
        eq(address(ledger).balance, sum, "money");
    }

    function stakeOf(uint256 i) internal view returns (uint256) {
        return uint256(accounts.participant(uint32(i)).stake) + accounts.participant(uint32(i)).unbonding;
    }

    function _mayServeFrom(uint256 i) private view returns (uint256) {
        return uint256(court.verifier(uint32(i)).since) + accounts.settings().verifierAge;
    }

    function _participants() private view returns (uint256 sum) {
        for (uint256 i = 0; i < accounts.participantCount(); ++i) {
            sum += stakeOf(i) + free(owner(i));
        }
    }

    function _tasks() private view returns (uint256 sum) {
        for (uint256 task = 1; task <= accounts.taskCount(); ++task) {
            IFedLedger.Task memory t = accounts.task(task);
            if (!t.finished) sum += budget(t.params) - uint256(t.spentUnits) * t.params.creditUnit;
            sum += court.sealOf(task).deposit + _appeals(task, t);
            for (uint32 i = 0; i < accounts.participantCount(); ++i) {
                sum += accounts.creditOf(task, i) * t.params.creditUnit;
            }
            IFedLedger.Seat[] memory seats = accounts.seats(task);
            for (uint256 place = 0; place < seats.length; ++place) {
                sum += uint256(seats[place].deposit) + juries.heldOf(task, place).amount;
            }
        }
    }

    /// @dev Bonds of appeals against checks that have not ended.
    function _appeals(uint256 task, IFedLedger.Task memory t) private view returns (uint256 sum) {
        if (t.params.checkRate == 0) return 0;
        for (uint32 round = 1; round <= t.currentRound; ++round) {
            for (uint32 i = 0; i < WORKERS; ++i) {
                (IFedLedger.CheckState state,) = court.checkOf(task, round, i);
                if (state >= IFedLedger.CheckState.Appealed) sum += court.appealBond(t.params.checkPenalty);
            }
        }
    }

    function _disputes() private view returns (uint256 sum) {
        for (uint256 id = 0; id < juries.disputeCount(); ++id) {
            IFedLedger.Dispute memory d = juries.disputeRecord(id);
            if (d.status != IFedLedger.DisputeStatus.Open) continue;
            sum += uint256(d.bond) + d.won;
            for (uint8 l = 0; l <= d.level; ++l) {
                sum += juries.juryOf(id, l).appealBond;
            }
        }
    }
}
