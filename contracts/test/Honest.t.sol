// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {CourtFixture} from "./CourtFixture.sol";
import {MoneyHandler} from "./Money.t.sol";

/// @notice As `MoneyHandler`, but of the verifiers all but one are honest, and one challenger. Each round is either true or
/// false; honest verifiers say which, in time, and the honest challenger disputes false rounds alone. All others, the last
/// verifier among them, do as they like.
contract HonestHandler is MoneyHandler {
    uint32 private constant STEP = 4;
    address private constant RIVAL = RESERVE;

    /// @notice Whether a round's proposal follows from the round.
    function isTrue(uint256 task, uint32 round) public view returns (bool) {
        return uint256(keccak256(abi.encode(task, round, _outcomes[task][round].proposal.model.digest))) % 2 == 0;
    }

    function isHonest(uint256 i) public pure returns (bool) {
        return i > WORKERS && i < WORKERS + VERIFIERS;
    }

    /// @notice What the honest challenger has put in and not got back.
    function missing() external view returns (uint256) {
        uint256 has = takenOut[CHALLENGER] + free(CHALLENGER);
        for (uint256 id = 0; id < juries.disputeCount(); ++id) {
            IFedLedger.Dispute memory d = juries.disputeRecord(id);
            if (d.status == IFedLedger.DisputeStatus.Open && d.challenger == CHALLENGER) has += d.bond;
        }
        return paidIn[CHALLENGER] > has ? paidIn[CHALLENGER] - has : 0;
    }

    function equivocate(uint256 task, uint256 who, uint32 round) public override {
        super.equivocate(task, who % (WORKERS + 1), round);
    }

    /// @dev Whenever time goes by, the honest look whether they are asked for.
    function pass(uint256 duration) internal override {
        for (; duration > STEP; duration -= STEP) {
            super.pass(STEP);
            _serve();
        }
        super.pass(duration);
        _serve();
    }

    function _serve() private {
        for (uint256 id = 0; id < juries.disputeCount(); ++id) {
            IFedLedger.Dispute memory d = juries.disputeRecord(id);
            bool open = d.status == IFedLedger.DisputeStatus.Open && d.kind == IFedLedger.DisputeKind.Replay;
            if (!open || juries.juryOf(id, d.level).decided) continue;
            uint32[] memory members = juries.juryOf(id, d.level).members;
            for (uint256 i = 0; i < members.length; ++i) {
                if (isHonest(members[i])) _vote(id, d.level, members[i]);
            }
        }
    }

    function _vote(uint256 id, uint8 l, uint32 juror) private {
        (IFedLedger.Finding finding, bytes32 transcript) = _finding(id, juror, 0);
        IFedLedger.Vote memory v = juries.voteBy(id, l, juror);
        if (v.commitment == bytes32(0)) {
            bytes32 sealed_ = juries.voteOf(id, l, juror, finding, transcript, SALT);
            _as(owner(juror), abi.encodeCall(juries.commitVote, (id, sealed_)));
        } else if (v.finding == IFedLedger.Finding.None) {
            _as(owner(juror), abi.encodeCall(juries.revealVote, (id, finding, transcript, SALT)));
        }
    }

    function _finding(uint256 dispute, uint32 juror, uint256 seed)
        internal
        view
        override
        returns (IFedLedger.Finding, bytes32)
    {
        if (!isHonest(juror)) return super._finding(dispute, juror, seed);
        IFedLedger.Dispute memory d = juries.disputeRecord(dispute);
        return (valid(isTrue(d.task, d.round)), atLevel(TRANSCRIPT, d.level));
    }

    function _challengerOf(uint256 task, uint32 round) internal view override returns (address) {
        return round != 0 && !isTrue(task, round) ? CHALLENGER : RIVAL;
    }
}

contract HonestTest is CourtFixture {
    HonestHandler private _handler;

    function setUp() public {
        _handler = new HonestHandler();
        use(_handler.theLedger());
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    /// forge-config: default.invariant.runs = 12
    /// forge-config: default.invariant.fail-on-revert = true
    /// @dev Whatever the others do: who is honest loses nothing by it, and no dispute ends against the truth.
    function invariant_honest_loseNothing() public view {
        for (uint32 i = 0; i < accounts.participantCount(); ++i) {
            if (_handler.isHonest(i)) eq(_handler.slashedOf(i), 0, "an honest verifier's stake");
        }
        eq(_handler.missing(), 0, "the honest challenger's bonds");
        for (uint256 id = 0; id < juries.disputeCount(); ++id) {
            IFedLedger.Dispute memory d = juries.disputeRecord(id);
            if (d.kind == IFedLedger.DisputeKind.Commitment) continue;
            bool followed = _handler.isTrue(d.task, d.round);
            eq(d.status == IFedLedger.DisputeStatus.Overturned && followed ? 1 : 0, 0, "overturned though true");
            eq(d.status == IFedLedger.DisputeStatus.Upheld && !followed ? 1 : 0, 0, "upheld though false");
            eq(d.status == IFedLedger.DisputeStatus.Unjudged ? 1 : 0, 0, "unjudged by honest verifiers");
        }
        _handler.checkMoney();
    }

    /// @dev The handler reaches both ends; without them the invariant would say little.
    function test_handler_reachesBothEnds() public {
        for (uint256 i = 0; i < 24; ++i) {
            uint256 seed = uint256(keccak256(abi.encode(i)));
            _handler.wholeRound(i, seed | 0xff);
            _handler.wholeDispute(i, seed >> 100);
            _handler.wait_(24);
            for (uint256 step = 0; step < 4; ++step) {
                _handler.push(i);
            }
            invariant_honest_loseNothing();
        }
        eq(_handler.overturned() > 0 ? 1 : 0, 1, "overturned");
        eq(_handler.upheld() > 0 ? 1 : 0, 1, "upheld");
    }
}
