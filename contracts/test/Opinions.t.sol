// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IReputations, ReputationGate} from "../examples/ReputationGate.sol";
import {IFedLedger} from "../src/IFedLedger.sol";
import {Opinion, Opinions} from "../src/Opinions.sol";
import {ChecksFixture} from "./ChecksFixture.sol";
import {vm} from "./Vm.sol";

/// @notice What several publishers think together, how old that is, and whom it lets in.
contract OpinionsTest is ChecksFixture {
    using Opinions for Opinion;

    uint256 private constant PPM = 1_000_000;
    uint256 private constant NEVER = type(uint256).max;
    uint24 private constant HALF = 500_000;
    /// @dev Of the ledger's storage; what is written there is compared with a view.
    uint256 private constant EVIDENCE_SLOT = 23;
    address private constant KNOWS = address(0xAA01);
    address private constant ALSO = address(0xAA02);

    function setUp() public {
        setUpCourt(POOL);
    }

    /// @dev Kang et al. 2019: two opinions, and one of them without disbelief.
    function test_fused_vectorsOfTheLiterature() public pure {
        Opinion memory found = Opinion(600_000, 300_000, 100_000).fused(Opinion(91_000, 604_000, 305_000));
        _near(found, 512_950, 405_607, 81_442);
        found = Opinion(400_000, 0, 600_000).fused(Opinion(700_000, 0, 300_000));
        _near(found, 750_000, 0, 250_000);
    }

    function test_fused_dogmaticOpinions_areTheirMean_andIgnoranceStays() public pure {
        Opinion memory found = Opinion(1, PPM - 1, 0).fused(Opinion(PPM, 0, 0));
        _is(found, 500_000, 500_000, 0);
        found = Opinion(0, 0, PPM).fused(Opinion(0, 0, PPM));
        _is(found, 0, 0, PPM);
        // Who is certain is not moved by who is not.
        found = Opinion(300_000, 700_000, 0).fused(Opinion(900_000, 0, 100_000));
        _is(found, 300_000, 700_000, 0);
    }

    function testFuzz_fused_sumsToOne_andIsTheSameEitherWay(uint256 a, uint256 b, uint256 c, uint256 d) public pure {
        (Opinion memory one, Opinion memory two) = (_opinion(a, b), _opinion(c, d));
        Opinion memory found = one.fused(two);
        eq(found.belief + found.disbelief + found.uncertainty, PPM, "sum");
        Opinion memory other = two.fused(one);
        _is(other, found.belief, found.disbelief, found.uncertainty);
        uint256 least = one.uncertainty < two.uncertainty ? one.uncertainty : two.uncertainty;
        if (found.uncertainty > least) revert Differs("two are not less certain than one", found.uncertainty, least);
        uint256 most = one.belief > two.belief ? one.belief : two.belief;
        uint256 sum = one.belief + two.belief;
        if (found.belief > most && found.belief > sum) revert Differs("belief from nothing", found.belief, sum);
    }

    function testFuzz_fused_withIgnorance_changesNothing(uint256 a, uint256 b) public pure {
        Opinion memory one = _opinion(a, b);
        _is(one.fused(Opinion(0, 0, PPM)), one.belief, one.disbelief, one.uncertainty);
    }

    /// @dev Less trust is less belief and less disbelief; none at all is ignorance, and all of it the opinion as it was.
    function testFuzz_discounted_isMonotone(uint256 a, uint256 b, uint256 trust, uint256 more) public pure {
        Opinion memory one = _opinion(a, b);
        more = bound(more, 0, PPM);
        trust = bound(trust, 0, more);
        (Opinion memory low, Opinion memory high) = (one.discounted(trust), one.discounted(more));
        eq(low.belief + low.disbelief + low.uncertainty, PPM, "sum");
        if (low.belief > high.belief || low.disbelief > high.disbelief) revert Differs("monotone", trust, more);
        if (low.belief * PPM > one.belief * trust) revert Differs("credit rounds down", low.belief, one.belief);
        if (low.disbelief * PPM < one.disbelief * trust) {
            revert Differs("doubt rounds up", low.disbelief, one.disbelief);
        }
        _is(one.discounted(0), 0, 0, PPM);
        _is(one.discounted(PPM), one.belief, one.disbelief, one.uncertainty);
    }

    /// @dev Against the mean as the paper has it: opinions by interaction frequency, which is evidence by its mean.
    function testFuzz_recommended_isTheMeanByFrequency(uint32 a, uint32 b, uint32 c) public pure {
        uint256[] memory lanes = new uint256[](3);
        (lanes[0], lanes[1], lanes[2]) = (a, b, c);
        (uint256 total, uint256 belief, uint256 disbelief) = (0, 0, 0);
        for (uint256 i = 0; i < 3; ++i) {
            total += (lanes[i] & 0xfff) + ((lanes[i] >> 12) & 0xfff);
        }
        for (uint256 i = 0; i < 3 && total != 0; ++i) {
            uint256 frequency = (((lanes[i] & 0xfff) + ((lanes[i] >> 12) & 0xfff)) * 3 * 1e18) / total;
            belief += frequency * Opinions.from(lanes[i]).belief;
            disbelief += frequency * Opinions.from(lanes[i]).disbelief;
        }
        (belief, disbelief) = (belief / 3e18, disbelief / 3e18);
        Opinion memory found = Opinions.recommended(lanes);
        _near(found, belief, disbelief, PPM - belief - disbelief);
        eq(found.belief + found.disbelief + found.uncertainty, PPM, "sum");
    }

    function test_recommended_byNobodyWithEvidence_isIgnorance() public pure {
        _is(Opinions.recommended(new uint256[](0)), 0, 0, PPM);
        uint256[] memory lanes = new uint256[](2);
        // Only missed rounds, which are no interaction.
        lanes[1] = 200 << 24;
        _is(Opinions.recommended(lanes), 0, 0, PPM);
    }

    /// @dev An empty name that a recommender has never met weighs nothing beside one that it has.
    function test_recommended_unknownTo_weighsNothing() public pure {
        uint256[] memory lanes = new uint256[](1);
        lanes[0] = 2400 | (240 << 12);
        Opinion memory one = Opinions.recommended(lanes);
        uint256[] memory both = new uint256[](2);
        both[1] = lanes[0];
        _is(Opinions.recommended(both), one.belief, one.disbelief, one.uncertainty);
    }

    function testFuzz_opinionWith_isWhatTheLibrarySays(uint32 own, uint32 a, uint32 b, uint256 trust) public {
        trust = bound(trust, 0, PPM);
        _know(PUBLISHER, 3, own);
        _know(KNOWS, 3, a);
        _know(ALSO, 3, b);
        uint256[] memory lanes = new uint256[](2);
        (lanes[0], lanes[1]) = (a, b);
        Opinion memory expected = Opinions.from(own).fused(Opinions.recommended(lanes).discounted(trust));
        (uint256 belief, uint256 disbelief, uint256 uncertainty, uint256 held) =
            opinions.opinionWith(PUBLISHER, _both(), trust, 3);
        _is(Opinion(belief, disbelief, uncertainty), expected.belief, expected.disbelief, expected.uncertainty);
        eq(held, belief + uncertainty / 2, "reputation");
        (,,, uint256 alone) = opinions.opinionWith(PUBLISHER, new address[](0), trust, 3);
        eq(alone, opinions.reputation(PUBLISHER, 3), "without recommenders");
        (,,, uint256 stranger) = opinions.opinionWith(PUBLISHER, _both(), trust, 4);
        eq(stranger, 500_000, "a neighbour's lane");
    }

    function test_opinionWith_badLists_areRefused() public {
        address[] memory many = new address[](9);
        for (uint256 i = 0; i < 9; ++i) {
            many[i] = address(uint160(0xBB00 + i));
        }
        _refusedOpinion(many, HALF, "recommenders");
        address[] memory twice = _both();
        twice[1] = twice[0];
        _refusedOpinion(twice, HALF, "recommenders");
        twice[1] = PUBLISHER;
        _refusedOpinion(twice, HALF, "recommenders");
        _refusedOpinion(_both(), PPM + 1, "trust");
        assembly ("memory-safe") {
            mstore(many, 8)
        }
        opinions.opinionWith(PUBLISHER, many, HALF, 0);
    }

    /// @dev What a recommender knows lets in whom the publisher has never met, and keeps out whom it has met as bad.
    function test_enrolRecommended_fusesWhatRecommendersKnow() public {
        uint256 task = post(_recommended(550_000));
        _know(KNOWS, 0, 3600);
        _know(ALSO, 1, 3600 << 12);
        _enrolRecommended(task, 0);
        (,,, uint256 held) = opinions.opinionWith(PUBLISHER, _both(), HALF, 1);
        refused(signer(1), abi.encodeWithSelector(IFedLedger.ReputationTooLow.selector, held, 550_000));
        opinions.enrolRecommended(task, _both());
        refused(signer(2), abi.encodeWithSelector(IFedLedger.ReputationTooLow.selector, 500_000, 550_000));
        opinions.enrolRecommended(task, _both());
        eq(accounts.task(task).enrolled, 1, "enrolled");
    }

    function test_enrolRecommended_needsTheTasksWholeList() public {
        uint256 task = post(_recommended(550_000));
        bytes32 expected = keccak256(abi.encode(_both()));
        refused(signer(0), abi.encodeWithSelector(IFedLedger.WrongList.selector, expected, 0));
        opinions.enrol(task);
        refused(signer(0), abi.encodeWithSelector(IFedLedger.WrongList.selector, expected, 0));
        opinions.enrolRecommended(task, new address[](0));
        address[] memory one = new address[](1);
        one[0] = KNOWS;
        bytes32 found = keccak256(abi.encode(one));
        refused(signer(0), abi.encodeWithSelector(IFedLedger.WrongList.selector, expected, found));
        opinions.enrolRecommended(task, one);
        // A task without recommenders has an empty list, and one without a bar asks nobody.
        task = post(defaults(4));
        vm.prank(signer(0));
        opinions.enrolRecommended(task, new address[](0));
        task = post(_recommended(0));
        vm.prank(signer(0));
        opinions.enrol(task);
        _enrolRecommended(task, 1);
        refused(signer(1), abi.encodeWithSelector(IFedLedger.AlreadyEnrolled.selector, task, 1));
        opinions.enrolRecommended(task, _both());
    }

    function test_postTask_badRecommenders_areRefusedByName() public {
        IFedLedger.TaskParams memory p = _recommended(1);
        p.recommenderTrust = 0;
        _refusedParameter(p, "recommenderTrust");
        p.recommenderTrust = uint24(PPM) + 1;
        _refusedParameter(p, "recommenderTrust");
        (p.recommenderTrust, p.recommenders) = (1, 0);
        _refusedParameter(p, "recommenderTrust");
    }

    /// @dev Ages count calendar days, whatever the hour; what happened on no day is never.
    function test_reputationOf_agesByDays() public {
        vm.warp(200 days + 86_399);
        _age(0, NEVER, "nobody knows it");
        uint256 task = _settled();
        uint256 at = vm.getBlockTimestamp();
        _age(0, 0, "today");
        _age(4, NEVER, "who took no part");
        vm.warp((at / 1 days + 1) * 1 days - 1);
        _age(0, 0, "the day's last second");
        vm.warp((at / 1 days + 1) * 1 days);
        _age(0, 1, "the next day's first");
        vm.warp((at / 1 days + 90) * 1 days);
        _age(0, 90, "the oldest that is known");
        vm.warp((at / 1 days + 91) * 1 days);
        _age(0, NEVER, "older");
        (uint256 held,) = opinions.reputationOf(PUBLISHER, 0);
        eq(held, opinions.reputation(PUBLISHER, 0), "it stays all the same");
        proposeNext(task, 2, 250);
        nextBlock();
        _age(0, NEVER, "proposed is not settled");
        pass(5);
        settle(task, 2, accepted(WORKERS, 250));
        _age(0, 0, "a later round");
    }

    /// @dev Near the epoch there are fewer days than it looks back.
    function test_reputationOf_atTheEpoch() public view {
        _age(0, NEVER, "no day before the first");
    }

    /// @dev Of a settlement in parts only those have been judged that were applied.
    function test_reputationOf_settledInParts() public {
        registerFrom(WORKERS + POOL, 9);
        uint256 task = post(defaults(12));
        for (uint256 i = 0; i < 12; ++i) {
            if (i < WORKERS || i >= WORKERS + POOL) _enrolAs(task, i);
        }
        pass(100);
        openAll(task);
        for (uint256 i = 0; i < 2; ++i) {
            commit(task, 1, i);
        }
        pass(10);
        reveal(task, 1, 0);
        reveal(task, 1, 1);
        pass(10);
        Outcome memory o = outcome(verdicts(1, 1, 2, 2), new uint256[](4));
        (uint256[] memory words, uint256[] memory shares) = (new uint256[](2), new uint256[](2));
        (words[0], words[1]) = (o.verdictWords[0] | (2 << 56), (1 << 64) | 0x02020202);
        (o.verdictWords, o.shareWords) = (words, shares);
        propose(task, 1, o);
        nextBlock();
        pass(5);
        settle(task, 1, o, 1);
        _age(3, 0, "applied");
        _age(7, 0, "the last of the slot");
        _age(8, NEVER, "not yet");
        settle(task, 1, o);
        _age(8, 0, "now");
        _age(5, NEVER, "a gap");
    }

    function test_reputationOf_failedCheck_isNews() public {
        _task = proposedChecks(checked());
        summon(1, one(0));
        pass(2 * PERIOD);
        settleFirst();
        pass(3 days);
        _age(0, 3, "since the round");
        end(0);
        _age(0, 0, "since the check");
        _age(1, 3, "its neighbour");
    }

    function test_gate_admitsByReputationAndAge() public {
        vm.warp(200 days);
        ReputationGate gate = new ReputationGate(IReputations(address(ledger)), PUBLISHER, 600_000, 7);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotRegistered.selector, OUTSIDER));
        gate.enter();
        refused(owner(0), abi.encodeWithSelector(ReputationGate.ReputationTooLow.selector, 500_000, 600_000));
        gate.enter();
        _settled();
        uint256 held = opinions.reputation(PUBLISHER, 0);
        vm.expectEmit(address(gate));
        emit ReputationGate.Entered(owner(0), held, 0);
        vm.prank(owner(0));
        gate.enter();
        refused(signer(0), abi.encodeWithSelector(IFedLedger.NotRegistered.selector, signer(0)));
        gate.enter();
        pass(7 days);
        vm.prank(owner(0));
        gate.enter();
        pass(1 days);
        refused(owner(0), abi.encodeWithSelector(ReputationGate.ReputationTooOld.selector, 8, 7));
        gate.enter();
        // Another publisher's word is worth nothing here.
        _know(KNOWS, 1, 3600);
        (uint256 low,) = opinions.reputationOf(PUBLISHER, 4);
        refused(owner(4), abi.encodeWithSelector(ReputationGate.ReputationTooLow.selector, low, 600_000));
        gate.enter();
    }

    function test_gate_badTerms_areRefused() public {
        IReputations at = IReputations(address(ledger));
        vm.expectRevert(abi.encodeWithSelector(ReputationGate.BadTerms.selector));
        new ReputationGate(at, PUBLISHER, 500_000, 7);
        vm.expectRevert(abi.encodeWithSelector(ReputationGate.BadTerms.selector));
        new ReputationGate(at, PUBLISHER, PPM + 1, 7);
        vm.expectRevert(abi.encodeWithSelector(ReputationGate.BadTerms.selector));
        new ReputationGate(at, PUBLISHER, 600_000, 91);
    }

    /// @dev A round of all workers, settled.
    function _settled() private returns (uint256 task) {
        task = proposedRound();
        nextBlock();
        pass(5);
        settle(task, 1, accepted(WORKERS, 250));
    }

    function _recommended(uint32 least) private pure returns (IFedLedger.TaskParams memory p) {
        p = defaults(uint16(WORKERS));
        (p.recommenders, p.recommenderTrust, p.minReputation) = (keccak256(abi.encode(_both())), HALF, least);
    }

    function _both() private pure returns (address[] memory all) {
        all = new address[](2);
        (all[0], all[1]) = (KNOWS, ALSO);
    }

    function _enrolRecommended(uint256 task, uint256 i) private {
        vm.prank(signer(i));
        opinions.enrolRecommended(task, _both());
    }

    function _enrolAs(uint256 task, uint256 i) private {
        vm.prank(signer(i));
        opinions.enrol(task);
    }

    /// @dev Writes a publisher's evidence of a participant below eight, and nothing of the others.
    function _know(address publisher, uint32 i, uint256 known) private {
        bytes32 slot = keccak256(abi.encode(0, keccak256(abi.encode(publisher, EVIDENCE_SLOT))));
        vm.store(address(ledger), slot, bytes32(known << (32 * i)));
        eq(opinions.evidenceWord(publisher, 0), known << (32 * i), "slot");
    }

    function _refusedOpinion(address[] memory all, uint256 trust, bytes32 name) private {
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.InvalidParameter.selector, name));
        opinions.opinionWith(PUBLISHER, all, trust, 0);
    }

    function _refusedParameter(IFedLedger.TaskParams memory p, bytes32 name) private {
        vm.deal(PUBLISHER, PUBLISHER.balance + budget(p));
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.InvalidParameter.selector, name));
        accounts.postTask{value: budget(p)}(p, NO_STANDBYS);
    }

    function _age(uint32 i, uint256 expected, string memory what) private view {
        (uint256 held, uint256 age) = opinions.reputationOf(PUBLISHER, i);
        eq(age, expected, what);
        eq(held, opinions.reputation(PUBLISHER, i), "reputation");
    }

    function _opinion(uint256 a, uint256 b) private pure returns (Opinion memory) {
        a = bound(a, 0, PPM);
        b = bound(b, 0, PPM - a);
        return Opinion(a, b, PPM - a - b);
    }

    function _is(Opinion memory found, uint256 belief, uint256 disbelief, uint256 uncertainty) private pure {
        eq(found.belief, belief, "belief");
        eq(found.disbelief, disbelief, "disbelief");
        eq(found.uncertainty, uncertainty, "uncertainty");
    }

    function _near(Opinion memory found, uint256 belief, uint256 disbelief, uint256 uncertainty) private pure {
        _nearly(found.belief, belief, 1);
        _nearly(found.disbelief, disbelief, 2);
        _nearly(found.uncertainty, uncertainty, 2);
    }

    function _nearly(uint256 found, uint256 expected, uint256 most) private pure {
        if (found > expected + most || expected > found + most) revert Differs("nearly", found, expected);
    }
}
