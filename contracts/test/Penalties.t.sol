// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Evidence} from "../src/Evidence.sol";
import {IFedLedger} from "../src/IFedLedger.sol";
import {Offences} from "../src/Offences.sol";
import {CourtFixture} from "./CourtFixture.sol";
import {vm} from "./Vm.sol";

/// @notice The schedule of a task's penalties: what each class of verdict costs, and what a refusal by statistics costs who
/// was refused before.
contract PenaltiesTest is CourtFixture {
    uint96 private constant PENALTY = 0.1 ether + 3;
    uint256 private constant REFUSED = 33;
    /// @dev What the participant that is refused again and again has staked.
    uint256 private constant MORE = 2 * STAKE;

    function setUp() public {
        setUpCourt(POOL);
        vm.prank(owner(1));
        accounts.addStake{value: STAKE}(STAKE);
    }

    /// @dev Three refusals in a row are remembered as two and a bit: the fourth is the first that costs something.
    function test_settle_statisticalRefusals_costMoreTheMoreThereAre() public {
        uint256 task = _post(defaults(4));
        uint256[5] memory factors = [uint256(0), 0, 0, 1, 2];
        uint256 stake = MORE;
        for (uint32 round = 1; round <= 5; ++round) {
            uint256 cost = Offences.part(PENALTY, 62_500 * factors[round - 1]);
            Outcome memory o = _proposed(task, round, REFUSED);
            if (cost != 0) {
                vm.expectEmit(address(ledger));
                emit IFedLedger.Slashed(1, task, round, IFedLedger.Offence.RepeatedRefusal, cost);
            }
            settle(task, round, o);
            stake -= cost;
            eq(stakeOf(1), stake, "stake");
        }
        eq(burned(), MORE - stake, "burned");
        eq(stakeOf(0), STAKE, "accepted");
        conserved();
    }

    function test_settle_refusalsFarApart_areForgiven() public {
        uint256 task = _post(defaults(4));
        for (uint32 round = 1; round <= 36; ++round) {
            _play(task, round, round % 12 == 0 ? REFUSED : 1);
        }
        eq(stakeOf(1), MORE, "stake");
        eq(burned(), 0, "burned");
    }

    /// @dev What the evidence remembers of garbage makes the next refusal dearer, but costs its own share alone.
    function test_settle_garbageBeforeARefusal_isRemembered() public {
        IFedLedger.TaskParams memory p = defaults(4);
        p.freeRefusals = 1;
        (p.garbageShare, p.statisticalShare) = (10_000, 20_000);
        uint256 task = _post(p);
        for (uint32 round = 1; round <= 3; ++round) {
            _play(task, round, 16);
        }
        uint256 garbage = 3 * Offences.part(PENALTY, 10_000);
        eq(stakeOf(1), MORE - garbage, "garbage");
        _play(task, 4, REFUSED);
        eq(stakeOf(1), MORE - garbage - Offences.part(PENALTY, 40_000), "and a refusal");
    }

    /// @dev Neither what nobody could fetch nor what has no class costs anything, however often.
    function test_settle_unavailableOrUnclassified_costsNothing() public {
        uint256 task = _post(defaults(4));
        for (uint32 round = 1; round <= 14; ++round) {
            _play(task, round, 25 + round % 7);
        }
        eq(stakeOf(1), MORE, "stake");
    }

    function test_settle_sharesOfZero_costNothing() public {
        IFedLedger.TaskParams memory p = defaults(4);
        (p.garbageShare, p.neverRevealedShare, p.statisticalShare, p.freeRefusals) = (0, 0, 0, 0);
        uint256 task = _post(p);
        for (uint32 round = 1; round <= 8; ++round) {
            _play(task, round, [uint256(16), 3, 24, REFUSED][round % 4]);
        }
        eq(stakeOf(1), MORE, "stake");
        eq(burned(), 0, "burned");
    }

    function test_settle_fullShares_costThePenaltyAtMost() public {
        IFedLedger.TaskParams memory p = defaults(4);
        (p.garbageShare, p.neverRevealedShare, p.statisticalShare, p.freeRefusals) = (1e6, 1e6, 1e6, 1);
        uint256 task = _post(p);
        _play(task, 1, 16);
        eq(stakeOf(1), MORE - PENALTY, "garbage");
        _play(task, 2, 3);
        eq(stakeOf(1), MORE - 2 * PENALTY, "late");
        _play(task, 3, REFUSED);
        eq(stakeOf(1), MORE - 2 * PENALTY, "once more, which is free");
        _play(task, 4, 255);
        eq(stakeOf(1), MORE - 3 * PENALTY, "one beyond what is free");
        _play(task, 5, 255);
        eq(stakeOf(1), MORE - 4 * PENALTY, "two beyond it");
        conserved();
    }

    /// @dev Whoever has nothing left is refused like the others: no punishment fails.
    function test_settle_refusedWithoutStake_stopsNobody() public {
        IFedLedger.TaskParams memory p = defaults(4);
        (p.statisticalShare, p.freeRefusals, p.quorum) = (1e6, 1, 1);
        uint256 task = _post(p);
        for (uint32 round = 1; round <= 3; ++round) {
            _play(task, round, REFUSED);
        }
        Outcome memory o = _proposed(task, 4, REFUSED);
        vm.prank(owner(1));
        accounts.requestExit();
        pass(EXIT_DELAY);
        vm.prank(owner(1));
        accounts.completeExit();
        vm.expectEmit(address(ledger));
        emit IFedLedger.Slashed(1, task, 4, IFedLedger.Offence.RepeatedRefusal, 0);
        settle(task, 4, o);
        conserved();
    }

    function test_postTask_badShares_areRefusedByName() public {
        IFedLedger.TaskParams memory p = defaults(4);
        p.garbageShare = 1e6 + 1;
        _refusedParameter(p, "garbageShare");
        (p.garbageShare, p.neverRevealedShare) = (1e6, 1e6 + 1);
        _refusedParameter(p, "neverRevealedShare");
        (p.neverRevealedShare, p.statisticalShare) = (1e6, 1e6 + 1);
        _refusedParameter(p, "statisticalShare");
        (p.statisticalShare, p.freeRefusals) = (1, 0);
        _refusedParameter(p, "freeRefusals");
        p.freeRefusals = 1;
        post(p);
    }

    /// @dev Any share of any penalty, rounded up, and never more than there is.
    function testFuzz_part_roundsUp(uint96 penalty, uint24 share) public pure {
        uint256 found = Offences.part(penalty, share);
        eq(Offences.equivocation(penalty), penalty, "all");
        eq(found <= penalty ? 1 : 0, 1, "no more than all");
        if (share >= 1e6) return eq(found, penalty, "all of it");
        eq(found * 1e6 >= uint256(penalty) * share ? 1 : 0, 1, "no less than the share");
        eq(found * 1e6 < uint256(penalty) * share + 1e6 ? 1 : 0, 1, "less than one more");
    }

    function testFuzz_repeatedRefusal_neverFewer(uint96 penalty, uint24 share, uint8 free, uint16 negative)
        public
        pure
    {
        uint256 found = Offences.repeatedRefusal(penalty, share, free, negative);
        uint256 refusals = negative / Evidence.UNIT;
        eq(found == 0 || refusals > free ? 1 : 0, 1, "free");
        eq(found <= Offences.repeatedRefusal(penalty, share, free, uint256(negative) + 240) ? 1 : 0, 1, "one more");
        eq(found >= Offences.repeatedRefusal(penalty, share, uint256(free) + 1, negative) ? 1 : 0, 1, "one more free");
        eq(found <= penalty ? 1 : 0, 1, "no more than all");
    }

    function _refusedParameter(IFedLedger.TaskParams memory p, bytes32 name) private {
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.InvalidParameter.selector, name));
        accounts.postTask{value: budget(p)}(p, NO_STANDBYS);
    }

    function _post(IFedLedger.TaskParams memory p) private returns (uint256 task) {
        (p.penalty, p.minStake, p.rounds) = (PENALTY, PENALTY, 40);
        task = post(p);
        enrol(task, p.maxParticipants);
    }

    /// @dev A round in which the second of four is judged so, and the others are accepted. Who is late does not reveal.
    function _play(uint256 task, uint32 round, uint256 verdict) private {
        settle(task, round, _proposed(task, round, verdict));
    }

    function _proposed(uint256 task, uint32 round, uint256 verdict) private returns (Outcome memory o) {
        open(task, 15);
        for (uint256 i = 0; i < 4; ++i) {
            commit(task, round, i);
        }
        for (uint256 i = 0; i < 4; ++i) {
            if (i != 1 || verdict != 3) reveal(task, round, i);
        }
        if (verdict == 3) pass(10);
        o = outcome(verdicts(1, verdict, 1, 1), new uint256[](4));
        propose(task, round, o);
        pass(5);
    }
}
