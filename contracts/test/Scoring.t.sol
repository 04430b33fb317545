// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {Relay} from "./Batched.t.sol";
import {ScoringFixture} from "./ScoringFixture.sol";
import {vm} from "./Vm.sol";

/// @notice Scored rounds from their call to their settlement, and every step that is refused.
contract ScoringTest is ScoringFixture {
    uint256 private constant COUNT = 9;
    uint8 private constant SCORERS = 5;
    uint256 private constant ODD = 4;
    uint256 private constant FAR = 20_000;

    function setUp() public {
        setUpLedger();
        burnedBefore();
        vm.roll(1000);
        register(COUNT);
        vm.deal(STANDBY, 1000 ether);
        vm.deal(RESERVE, 1000 ether);
    }

    function test_directRound_whole() public {
        _called(false);
        phaseIs(_task, IFedLedger.Phase.Scoring, "called");
        _sayOdd();
        commitAll(7);
        tallyIsEarly(7);
        commitAll(24);
        revealScore(1);
        tally(everyPlace());
        eq(outvoted(0), 1 << ODD, "outvoted");
        phaseIs(_task, IFedLedger.Phase.Revealing, "a proposal is next");
        _finish();
    }

    function test_batchedRound_whole_listed() public {
        _called(true);
        _sayOdd();
        vm.expectEmit(address(ledger));
        emit IFedLedger.ScoresCommitted(_task, _round, 31, hashesOf(31));
        list(everyPlace());
        revealScore(3);
        revealScore(0);
        tally(everyPlace());
        eq(outvoted(0), 1 << ODD, "outvoted");
        _finish();
    }

    /// @dev Some on a list, some by themselves; one of either says nothing more.
    function test_batchedRound_whole_mixed() public {
        _called(true);
        _sayOdd();
        commitAll(6);
        list(9);
        pass(SCORE_PERIOD);
        revealScore(0);
        tallyIsEarly(11);
        pass(SCORE_PERIOD);
        tally(11);
        eq(outvoted(0), 1 << ODD, "outvoted");
        _silent(4, 1);
        _silent(2, 1);
        _silent(0, 0);
        _finish();
    }

    /// @dev A selection in two of three words, of which another round has only one.
    function test_batchedRound_selectionsInSeveralWords() public {
        registerFrom(COUNT, 540 - COUNT);
        begin(scoredBatch(540, SCORERS), 540);
        _openSome(0xff, 0xffff);
        callBy(AGGREGATOR);
        nextBlock();
        drawn();
        for (uint256 place = 0; place < SCORERS; ++place) {
            uint32 id = scorer(place);
            if (id >= 8 && (id < 512 || id >= 528)) revert Differs("scorer", id, 0);
        }
        sayEven();
        sayOf(3, FAR);
        sayOf(10, FAR);
        tallied();
        eq(outvoted(0), 1 << 3, "of the first word");
        eq(outvoted(2), 1 << 2, "of the other");
        Outcome memory o = _outcomeOfSome(0xff, 0xffff);
        proposeScored(o);
        pass(5);
        settle(_task, 1, o);
        (, uint256 negative,) = opinions.evidence(PUBLISHER, 514);
        eq(negative, 240, "514");
        _openSome(0, 0xffff);
        callBy(AGGREGATOR);
        nextBlock();
        _staleWords();
    }

    function test_callScorers_badCalls_areRefused() public {
        _open(true);
        bytes memory data = calling();
        fails(AGGREGATOR, data, abi.encodeWithSelector(IFedLedger.CommitsAreOpen.selector));
        pass(10);
        fails(AGGREGATOR, data, abi.encodeWithSelector(IFedLedger.CommitsAreOpen.selector));
        close(_task, _round, keccak256("root"), 8);
        uint256 until = vm.getBlockTimestamp() + GRACE;
        fails(AGGREGATOR, data, abi.encodeWithSelector(IFedLedger.StillAdmitting.selector, until));
        pass(GRACE);
        fails(AGGREGATOR, data, abi.encodeWithSelector(IFedLedger.WrongCount.selector, 9, 8));
        fails(OUTSIDER, data, abi.encodeWithSelector(IFedLedger.NotAggregator.selector, OUTSIDER));
        _present[0] = 0x7f;
        fails(AGGREGATOR, calling(), abi.encodeWithSelector(IFedLedger.RevealsAreOpen.selector));
        _present[0] = 0x2ff;
        fails(AGGREGATOR, calling(), abi.encodeWithSelector(IFedLedger.WrongList.selector, 0, 0x2ff));
        _present[0] = 0xff;
        _badUpdates();
        _badWords();
        Relay relay = new Relay();
        data = calling();
        refusedAggregator(abi.encodeWithSelector(IFedLedger.NotAggregator.selector, address(relay)));
        relay.pass(address(ledger), data);
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.ThroughContract.selector, AGGREGATOR));
        vm.prank(AGGREGATOR, OUTSIDER);
        sent(data);
        callBy(AGGREGATOR);
        fails(AGGREGATOR, data, abi.encodeWithSelector(IFedLedger.AlreadyCalled.selector, _task, 1));
    }

    function test_callScorers_ofOtherRounds_isRefused() public {
        _open(false);
        _round = 2;
        fails(AGGREGATOR, calling(), abi.encodeWithSelector(IFedLedger.RoundNotOpen.selector, _task, 2));
        begin(defaults(uint16(COUNT)), COUNT);
        openFor(COUNT);
        commitAndReveal(_task, 1, COUNT);
        fails(AGGREGATOR, calling(), abi.encodeWithSelector(IFedLedger.NotScored.selector, _task));
        _open(false);
        fails(AGGREGATOR, calling(), abi.encodeWithSelector(IFedLedger.CommitsAreOpen.selector));
        commit(_task, 1, 0);
        commit(_task, 1, 1);
        pass(10);
        reveal(_task, 1, 0);
        bytes memory data = calling();
        fails(AGGREGATOR, data, abi.encodeWithSelector(IFedLedger.RevealsAreOpen.selector));
        pass(20);
        fails(AGGREGATOR, data, abi.encodeWithSelector(IFedLedger.ProposalOverdue.selector));
        eq(uint8(ledger.phase(_task)), uint8(IFedLedger.Phase.Overdue), "phase");
    }

    /// @dev What was revealed on chain is shown to the scorers, and in a direct round that is all.
    function test_callScorers_showsWhatWasRevealed() public {
        _open(true);
        (bytes32 root, bytes32[] memory of0,) = pair(_task, 1);
        pass(10);
        close(_task, 1, root, 2);
        pass(GRACE);
        vm.prank(signer(0));
        ledger.revealUpdate(_task, 1, update(0), SALT, of0);
        pass(10);
        _present[0] = 6;
        fails(AGGREGATOR, calling(), abi.encodeWithSelector(IFedLedger.WrongList.selector, 0, 6));
        _present[0] = 3;
        callBy(AGGREGATOR);
        eq(opinions.scoring(_task).present, 2, "present");
        _open(false);
        commit(_task, 1, 2);
        commit(_task, 1, 5);
        commit(_task, 1, 7);
        pass(10);
        reveal(_task, 1, 2);
        reveal(_task, 1, 7);
        pass(10);
        bytes memory data = abi.encodeCall(opinions.callScorers, (_task, 1, _indices, new uint256[](0), updatesOf(2)));
        fails(AGGREGATOR, data, abi.encodeWithSelector(IFedLedger.WrongCount.selector, 2, 0));
        callBy(AGGREGATOR);
        eq(opinions.scoring(_task).present, 2, "present");
    }

    function test_scoring_withoutACall_isRefused() public {
        _open(false);
        bytes memory reason = abi.encodeWithSelector(IFedLedger.NotCalled.selector, _task, 1);
        fails(OUTSIDER, abi.encodeCall(opinions.drawScorers, (_task, 1, _indices)), reason);
        fails(signer(0), abi.encodeCall(opinions.commitScore, (_task, 1, _indices, SALT)), reason);
        fails(AGGREGATOR, tallying(0), reason);
        fails(
            OUTSIDER,
            abi.encodeCall(opinions.drawScorers, (_task, 0, _indices)),
            abi.encodeWithSelector(IFedLedger.NotCalled.selector, _task, 0)
        );
        commitAndReveal(_task, 1, COUNT);
        fails(AGGREGATOR, proposing(outcomeOf(COUNT)), abi.encodeWithSelector(IFedLedger.NotTallied.selector, _task, 1));
        callBy(AGGREGATOR);
        fails(AGGREGATOR, proposing(outcomeOf(COUNT)), abi.encodeWithSelector(IFedLedger.NotTallied.selector, _task, 1));
    }

    function test_drawScorers_byALaterBlock_andOnce() public {
        _open(false);
        commitAndReveal(_task, 1, COUNT);
        callBy(AGGREGATOR);
        bytes memory data = abi.encodeCall(opinions.drawScorers, (_task, 1, _indices));
        uint256 next = vm.getBlockNumber() + 1;
        fails(OUTSIDER, data, abi.encodeWithSelector(IFedLedger.NotInTime.selector, next, type(uint256).max));
        nextBlock();
        uint32[] memory none = new uint32[](0);
        fails(
            OUTSIDER,
            abi.encodeCall(opinions.drawScorers, (_task, 1, none)),
            abi.encodeWithSelector(IFedLedger.NotEverybodyJudged.selector, 0, COUNT)
        );
        drawn();
        fails(OUTSIDER, data, abi.encodeWithSelector(IFedLedger.AlreadyCalled.selector, _task, 1));
        eq(scorers(), SCORERS, "as many as the task asks for");
        for (uint256 a = 0; a < SCORERS; ++a) {
            if (scorer(a) >= COUNT) revert Differs("selected", scorer(a), COUNT);
            for (uint256 b = 0; b < a; ++b) {
                if (scorer(a) == scorer(b)) revert Differs("drawn twice", a, b);
            }
        }
    }

    /// @dev By the first draws of the block's hash, as everybody can compute them.
    function test_drawScorers_followsTheHash() public {
        _called(false);
        bytes32 seed = keccak256(abi.encode(blockhash(vm.getBlockNumber() - 1), _task, uint32(1)));
        uint256 place = 0;
        uint256 seen = 0;
        for (uint256 attempt = 0; place < SCORERS; ++attempt) {
            uint256 id = uint256(keccak256(abi.encode(seed, attempt))) % COUNT;
            if ((seen >> id) & 1 != 0) continue;
            seen |= 1 << id;
            eq(scorer(place++), id, "scorer");
        }
    }

    function test_drawScorers_hashLost_excludesNobody() public {
        _open(false);
        commitAndReveal(_task, 1, COUNT);
        callBy(AGGREGATOR);
        vm.roll(vm.getBlockNumber() + 257);
        vm.expectEmit(address(ledger));
        emit IFedLedger.ScorersDrawn(_task, 1, 0, new uint32[](0));
        drawn();
        fails(
            signer(0),
            abi.encodeCall(opinions.commitScore, (_task, 1, _indices, SALT)),
            abi.encodeWithSelector(IFedLedger.NotScorer.selector, 0)
        );
        tally(0);
        eq(outvoted(0), 0, "outvoted");
        proposeScored(outcomeOf(COUNT));
    }

    /// @dev A round in which nobody draws, commits or reveals waits for the scorers' time, and then counts all updates.
    function test_tally_nobodyDrawn_afterTheTime_excludesNobody() public {
        _open(false);
        commitAndReveal(_task, 1, COUNT);
        callBy(AGGREGATOR);
        nextBlock();
        uint256 until = vm.getBlockTimestamp() + 2 * SCORE_PERIOD;
        pass(2 * SCORE_PERIOD - 1);
        tallyIsEarly(0);
        eq(uint256(opinions.scoring(_task).calledAt) + 2 * SCORE_PERIOD, until, "until");
        pass(1);
        tally(0);
        proposeScored(outcomeOf(COUNT));
    }

    function test_commitScore_badOnes_areRefused() public {
        _called(false);
        _sayOdd();
        bytes32 value = scoreHash(0);
        _failsCommit(signer(scorer(0)), 0, abi.encodeWithSelector(IFedLedger.EmptyCommitment.selector));
        uint32 other = _notDrawn();
        _failsCommit(signer(other), value, abi.encodeWithSelector(IFedLedger.NotScorer.selector, other));
        _failsCommit(OUTSIDER, value, abi.encodeWithSelector(IFedLedger.NotRegistered.selector, OUTSIDER));
        commitScore(0);
        bytes memory twice = abi.encodeWithSelector(IFedLedger.AlreadyCommitted.selector, scorer(0));
        _failsCommit(signer(scorer(0)), value, twice);
        list(2);
        twice = abi.encodeWithSelector(IFedLedger.AlreadyCommitted.selector, scorer(1));
        _failsCommit(signer(scorer(1)), value, twice);
        uint256 until = opinions.scoring(_task).calledAt + SCORE_PERIOD;
        pass(SCORE_PERIOD - 1);
        commitScore(2);
        pass(1);
        bytes memory late = abi.encodeWithSelector(IFedLedger.NotInTime.selector, 0, until);
        _failsCommit(signer(scorer(3)), value, late);
        fails(AGGREGATOR, listing(8), late);
    }

    function test_listScores_badLists_areRefused() public {
        _called(false);
        _sayOdd();
        uint32[] memory at = _indices;
        fails(
            AGGREGATOR,
            abi.encodeCall(opinions.listScores, (_task, 1, at, 32, hashesOf(1), signaturesOf(1))),
            abi.encodeWithSelector(IFedLedger.WrongScores.selector, 32)
        );
        bytes memory lengths = abi.encodeWithSelector(IFedLedger.LengthMismatch.selector);
        fails(AGGREGATOR, abi.encodeCall(opinions.listScores, (_task, 1, at, 3, hashesOf(1), signaturesOf(1))), lengths);
        fails(AGGREGATOR, abi.encodeCall(opinions.listScores, (_task, 1, at, 3, hashesOf(3), signaturesOf(1))), lengths);
        fails(
            AGGREGATOR,
            abi.encodeCall(opinions.listScores, (_task, 1, at, 0, hashesOf(0), signaturesOf(0))),
            abi.encodeWithSelector(IFedLedger.WrongScores.selector, 0)
        );
        fails(OUTSIDER, listing(1), abi.encodeWithSelector(IFedLedger.NotAggregator.selector, OUTSIDER));
        list(1);
        fails(AGGREGATOR, listing(2), abi.encodeWithSelector(IFedLedger.WrongScores.selector, 2));
    }

    function test_revealScore_badOnes_areRefused() public {
        _called(false);
        _sayOdd();
        commitAll(3);
        list(12);
        uint256 from = opinions.scoring(_task).calledAt + SCORE_PERIOD;
        bytes32[] memory none = new bytes32[](0);
        bytes memory early = abi.encodeWithSelector(IFedLedger.NotInTime.selector, from, from + SCORE_PERIOD);
        _failsReveal(scored(0), none, early);
        pass(SCORE_PERIOD);
        IFedLedger.Scored memory other = scored(0);
        other.salt = 0;
        bytes32 found = opinions.scoreCommitment(_task, 1, scorer(0), 0, other.words);
        _failsReveal(other, none, abi.encodeWithSelector(IFedLedger.WrongReveal.selector, scoreHash(0), found));
        _failsReveal(scored(4), none, abi.encodeWithSelector(IFedLedger.WrongReveal.selector, 0, scoreHash(4)));
        other = scored(0);
        other.place = 200;
        found = opinions.scoreCommitment(_task, 1, type(uint32).max, other.salt, other.words);
        _failsReveal(other, none, abi.encodeWithSelector(IFedLedger.WrongReveal.selector, 0, found));
        bytes32 known = keccak256(abi.encodePacked(hashesOf(12)));
        _failsReveal(
            scored(2),
            hashesOf(4),
            abi.encodeWithSelector(IFedLedger.WrongList.selector, known, keccak256(abi.encodePacked(hashesOf(4))))
        );
        revealScore(3);
        _failsReveal(scored(3), hashesOf(12), abi.encodeWithSelector(IFedLedger.AlreadyRevealed.selector, scorer(3)));
        pass(SCORE_PERIOD);
        _failsReveal(scored(2), hashesOf(12), early);
    }

    /// @dev Too many words, a score above the greatest, and one of no update: nobody who committed to that reveals it.
    function test_revealScore_ofGarbage_isRefused() public {
        _called(false);
        _sayOdd();
        _says[0].push(0);
        _says[1][0] = 0x7fff;
        _says[2][0] |= 1 << (16 * COUNT);
        _says[3].pop();
        commitAll(everyPlace());
        for (uint256 place = 0; place < 4; ++place) {
            bytes memory wrong = abi.encodeWithSelector(IFedLedger.WrongScores.selector, place);
            _failsReveal(scored(place), new bytes32[](0), wrong);
            fails(AGGREGATOR, tallying(1 << place), wrong);
        }
        revealScore(4);
        pass(2 * SCORE_PERIOD);
        tally(16);
        eq(outvoted(0), 0, "one of five decides nothing");
        _silent(3, 1);
        _silent(4, 0);
    }

    function test_tallyScores_badTallies_areRefused() public {
        _called(false);
        _sayOdd();
        commitAll(3);
        list(28);
        fails(OUTSIDER, tallying(31), abi.encodeWithSelector(IFedLedger.NotAggregator.selector, OUTSIDER));
        tallyIsEarly(15);
        revealScore(3);
        pass(2 * SCORE_PERIOD);
        fails(AGGREGATOR, tallying(23), abi.encodeWithSelector(IFedLedger.MissingScores.selector, 8));
        bytes32[] memory none = new bytes32[](0);
        address[] memory nobody = new address[](0);
        IFedLedger.Scored[] memory all = scoredOf(31);
        (all[0], all[1]) = (all[1], all[0]);
        fails(
            AGGREGATOR,
            abi.encodeCall(opinions.tallyScores, (_task, 1, _indices, all, none, nobody)),
            abi.encodeWithSelector(IFedLedger.LengthMismatch.selector)
        );
        all = scoredOf(31);
        all[4].salt = SALT;
        bytes32[] memory changed = hashesOf(28);
        changed[2] = opinions.scoreCommitment(_task, 1, scorer(4), SALT, all[4].words);
        fails(
            AGGREGATOR,
            abi.encodeCall(opinions.tallyScores, (_task, 1, _indices, all, none, nobody)),
            abi.encodeWithSelector(
                IFedLedger.WrongList.selector,
                keccak256(abi.encodePacked(hashesOf(28))),
                keccak256(abi.encodePacked(changed))
            )
        );
        all = scoredOf(31);
        all[1].salt = SALT;
        bytes32 found = opinions.scoreCommitment(_task, 1, scorer(1), SALT, all[1].words);
        fails(
            AGGREGATOR,
            abi.encodeCall(opinions.tallyScores, (_task, 1, _indices, all, none, nobody)),
            abi.encodeWithSelector(IFedLedger.WrongReveal.selector, scoreHash(1), found)
        );
        fails(
            AGGREGATOR,
            abi.encodeCall(opinions.tallyScores, (_task, 1, _indices, scoredOf(31), hashesOf(4), nobody)),
            abi.encodeWithSelector(IFedLedger.LengthMismatch.selector)
        );
        uint32[] memory nowhere = new uint32[](0);
        fails(
            AGGREGATOR,
            abi.encodeCall(opinions.tallyScores, (_task, 1, nowhere, scoredOf(31), none, nobody)),
            abi.encodeWithSelector(IFedLedger.NotEverybodyJudged.selector, 0, COUNT)
        );
        _recommenders = [OUTSIDER];
        fails(
            AGGREGATOR,
            tallying(31),
            abi.encodeWithSelector(IFedLedger.WrongList.selector, 0, keccak256(abi.encode(_recommenders)))
        );
        delete _recommenders;
        tally(31);
        fails(AGGREGATOR, tallying(31), abi.encodeWithSelector(IFedLedger.AlreadyTallied.selector, _task, 1));
    }

    /// @dev Three of five are a quorum, two are not; who was silent is known either way.
    function test_tally_belowQuorum_excludesNobody() public {
        uint256 state = vm.snapshotState();
        for (uint256 places = 3; places < 8; places += 4) {
            _called(false);
            _sayOdd();
            commitAll(everyPlace());
            pass(2 * SCORE_PERIOD);
            tally(places);
            eq(outvoted(0), places == 3 ? 0 : 1 << ODD, "outvoted");
            _silent(4, 1);
            proposeScored(outcomeOf(COUNT));
            vm.revertToState(state);
        }
    }

    function test_tally_tooFewUpdates_makeNoScoring() public {
        _open(true);
        pass(10);
        close(_task, 1, keccak256("root"), 2);
        pass(GRACE + 10);
        _present[0] = 1;
        callBy(AGGREGATOR);
        Outcome memory o = outcomeOf(COUNT);
        for (uint256 i = 1; i < COUNT; ++i) {
            judge(o, i, 3);
        }
        o.shareWords = new uint256[](2);
        o.proposal.model.digest = MODEL;
        fails(
            OUTSIDER,
            abi.encodeCall(opinions.drawScorers, (_task, 1, _indices)),
            abi.encodeWithSelector(IFedLedger.AlreadyTallied.selector, _task, 1)
        );
        proposeScored(o);
    }

    /// @dev Fewer than three medians say nothing.
    function test_tally_ofTwoUpdates_excludesNobody() public {
        _open(false);
        commit(_task, 1, 2);
        commit(_task, 1, 3);
        pass(10);
        reveal(_task, 1, 2);
        reveal(_task, 1, 3);
        _present[0] = 12;
        callBy(AGGREGATOR);
        nextBlock();
        drawn();
        sayEven();
        sayOf(1, FAR);
        tallied();
        eq(outvoted(0), 0, "outvoted");
    }

    /// @dev Two of the three others find an update bad; with its scorer's own word it would be good.
    function test_tally_ofItsOwnUpdate_aScorerHasNoSay() public {
        begin(scored(4, 4), 4);
        calledRound(4);
        drawn();
        eq(scorers(), 4, "all");
        sayEven();
        for (uint256 place = 1; place < 3; ++place) {
            sayOf(place, scorer(0), FAR);
        }
        sayOf(0, scorer(0), 1);
        tallied();
        eq(outvoted(0), 1 << scorer(0), "outvoted");
    }

    function test_propose_onlyWhoWasOutvoted_isOutvoted() public {
        _called(false);
        _sayOdd();
        tallied();
        Outcome memory o = everybody(COUNT, 10);
        fails(AGGREGATOR, proposing(o), _wrongVerdict(ODD, 1));
        judge(o, ODD, 38);
        judge(o, 2, 38);
        fails(AGGREGATOR, proposing(o), _wrongVerdict(2, 38));
        judge(o, 2, 38);
        judge(o, 2, 33);
        // Another reason is as good for who was outvoted, and nobody needs one who was not.
        judge(o, ODD, 38);
        judge(o, ODD, 17);
        proposeScored(o);
    }

    function test_propose_outvotedWithoutScorers_isRefused() public {
        begin(defaults(uint16(COUNT)), COUNT);
        openFor(COUNT);
        commitAndReveal(_task, 1, COUNT);
        Outcome memory o = everybody(COUNT, 10);
        judge(o, 2, 38);
        fails(AGGREGATOR, proposing(o), _wrongVerdict(2, 38));
    }

    function test_propose_whoWasListed_isJudged_andNobodyElse() public {
        _open(true);
        close(_task, 1, keccak256("root"), uint16(COUNT));
        pass(10);
        _present[0] = 0xff;
        callBy(AGGREGATOR);
        nextBlock();
        drawn();
        sayEven();
        tallied();
        Outcome memory o = outcomeOf(COUNT);
        fails(AGGREGATOR, proposing(o), _wrongVerdict(8, 1));
        judge(o, 8, 3);
        judge(o, 7, 3);
        fails(AGGREGATOR, proposing(o), _wrongVerdict(7, 3));
        judge(o, 7, 3);
        IFedLedger.Updates memory u = updatesOf(8);
        bytes32 shownHash = keccak256(abi.encodePacked(u.digests, u.lengthWords));
        u.digests[0] = SALT;
        bind(o, u);
        fails(
            AGGREGATOR,
            abi.encodeCall(ledger.proposeRound, (_task, 1, o.proposal, o.verdictWords, o.shareWords, u)),
            abi.encodeWithSelector(IFedLedger.WrongUpdates.selector, shownHash, o.proposal.updates)
        );
        proposeScored(o);
    }

    /// @dev Who was left out of the list says so on chain, and is not punished.
    function test_lateReveal_ofABatchedRound_excuses() public {
        IFedLedger.TaskParams memory p = scoredBatch(uint16(COUNT), SCORERS);
        p.quorum = 1;
        begin(p, COUNT);
        openFor(COUNT);
        (bytes32 root, bytes32[] memory of0,) = pair(_task, 1);
        pass(10);
        close(_task, 1, root, 2);
        pass(GRACE + 10);
        _present[0] = 2;
        callBy(AGGREGATOR);
        bytes memory reveal_ = abi.encodeCall(ledger.revealUpdate, (_task, 1, update(0), SALT, of0));
        fails(signer(0), reveal_, abi.encodeWithSelector(IFedLedger.RevealsAreClosed.selector));
        pass(2 * SCORE_PERIOD);
        tally(0);
        Outcome memory o = everybody(COUNT, 10);
        for (uint256 i = 0; i < COUNT; ++i) {
            if (i != 1) judge(o, i, i == 0 ? 3 : 2);
        }
        proposeScored(o);
        vm.prank(signer(0));
        sent(reveal_);
        pass(5);
        settle(_task, 1, o);
        (,, uint256 missed) = opinions.evidence(PUBLISHER, 0);
        eq(missed, 15, "absent, and that is all");
    }

    function test_standby_takesOverAtEachStage() public {
        for (uint256 stage = 0; stage < 3; ++stage) {
            uint256 state = vm.snapshotState();
            _standbyFrom(stage);
            conserved();
            vm.revertToState(state);
        }
    }

    function test_void_nobodyCalls() public {
        _open(false);
        commitAndReveal(_task, 1, COUNT);
        _voidAt(_revealsEnd() + 10, 1 ether);
    }

    function test_void_nobodyTallies() public {
        _called(false);
        _sayOdd();
        commitAll(everyPlace());
        _voidAt(opinions.scoring(_task).calledAt + 2 * SCORE_PERIOD + 10, 1 ether);
        // It is as if there had been no scoring, and the next round has its own.
        eq(uint8(ledger.phase(_task)), uint8(IFedLedger.Phase.Idle), "phase");
        bytes memory late = tallying(31);
        fails(AGGREGATOR, late, abi.encodeWithSelector(IFedLedger.RoundNotOpen.selector, _task, 1));
        takeSeat(_task, AGGREGATOR);
        calledRound(COUNT);
        drawn();
        sayEven();
        tallied();
        eq(outvoted(0), 0, "outvoted");
    }

    function test_void_talliedAndNotProposed() public {
        _called(true);
        _sayOdd();
        tallied();
        _voidAt(opinions.scoring(_task).calledAt + 2 * SCORE_PERIOD + 10, 1 ether);
    }

    /// @dev The second round is scored while the first is in its window; each has its own outvoted.
    function test_maxUnfinal_roundsHaveTheirOwnScores() public {
        IFedLedger.TaskParams memory p = scored(uint16(COUNT), SCORERS);
        p.maxUnfinal = 2;
        begin(p, COUNT);
        calledRound(COUNT);
        drawn();
        _sayOdd();
        tallied();
        Outcome memory first = outcomeOf(COUNT);
        proposeScored(first);
        calledRound(COUNT);
        drawn();
        sayEven();
        sayOf(0, FAR);
        tallied();
        Outcome memory second = outcomeOf(COUNT);
        proposeScored(second);
        eq(opinions.outvotedWord(_task, 1, 0), 1 << ODD, "of the first");
        eq(opinions.outvotedWord(_task, 2, 0), 1, "of the second");
        pass(5);
        settle(_task, 1, first);
        settle(_task, 2, second);
        conserved();
    }

    /// @dev Tally and proposal in one transaction, as the aggregator sends them.
    function test_multicall_talliesAndProposes() public {
        _called(true);
        sayEven();
        commitAll(everyPlace());
        bytes[] memory calls = new bytes[](2);
        calls[0] = tallying(everyPlace());
        calls[1] = proposing(outcomeOf(COUNT));
        vm.prank(AGGREGATOR, AGGREGATOR);
        ledger.multicall(calls);
        roundIs(_task, 1, IFedLedger.RoundStatus.Proposed);
    }

    function test_postTask_badScoring_isRefusedByName() public {
        IFedLedger.TaskParams memory p = scored(uint16(COUNT), 2);
        _refusedParameter(p, "scorers");
        p.scorers = 16;
        _refusedParameter(p, "scorers");
        (p.scorers, p.scorePeriod) = (3, 0);
        _refusedParameter(p, "scorePeriod");
        p.scorePeriod = 365 days + 1;
        _refusedParameter(p, "scorePeriod");
        (p.scorePeriod, p.scoreSpread) = (1, 3);
        _refusedParameter(p, "scoreSpread");
        (p.scoreSpread, p.scoreFloor) = (4, 0);
        _refusedParameter(p, "scoreFloor");
        p.scoreFloor = 32_767;
        _refusedParameter(p, "scoreFloor");
        p = defaults(uint16(COUNT));
        p.verifiersScore = true;
        _refusedParameter(p, "verifiersScore");
        (p.verifiersScore, p.scorePeriod) = (false, 1);
        _refusedParameter(p, "scorePeriod");
        (p.scorePeriod, p.scoreSpread) = (0, 1);
        _refusedParameter(p, "scoreSpread");
        (p.scoreSpread, p.scoreFloor) = (0, 1);
        _refusedParameter(p, "scoreFloor");
    }

    /// @dev A round with its scorers is longer, and no stake leaves before it is found out who lied in it.
    function test_postTask_scoringCountsForTheExitDelay() public {
        IFedLedger.TaskParams memory p = scored(uint16(COUNT), 3);
        uint256 rest = uint256(p.commitPeriod) + p.revealPeriod + 3 * p.proposePeriod + p.challengeWindow + 12 * DISPUTE;
        p.revealPeriod += 2;
        p.scorePeriod = uint32((EXIT_DELAY - rest) / 2);
        vm.deal(PUBLISHER, PUBLISHER.balance + budget(p));
        uint256 least = rest + 2 + 2 * uint256(p.scorePeriod);
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.ExitDelayTooShort.selector, EXIT_DELAY, least));
        accounts.postTask{value: budget(p)}(p, NO_STANDBYS);
        p.revealPeriod -= 1;
        post(p);
    }

    /// @dev What a refusal of the aggregator's tally says when it comes before the scorers' time is over.
    function tallyIsEarly(uint256 places) private {
        uint256 from = opinions.scoring(_task).calledAt + 2 * SCORE_PERIOD;
        fails(
            AGGREGATOR, tallying(places), abi.encodeWithSelector(IFedLedger.NotInTime.selector, from, type(uint256).max)
        );
    }

    function fails(address sender, bytes memory data, bytes memory reason) private {
        vm.expectRevert(reason);
        vm.prank(sender, sender);
        sent(data);
    }

    function _open(bool batched_) private {
        uint16 count = uint16(COUNT);
        begin(batched_ ? scoredBatch(count, SCORERS) : scored(count, SCORERS), COUNT);
        openFor(COUNT);
    }

    function _called(bool batched_) private {
        uint16 count = uint16(COUNT);
        begin(batched_ ? scoredBatch(count, SCORERS) : scored(count, SCORERS), COUNT);
        calledRound(COUNT);
        drawn();
    }

    /// @dev All scorers agree that one update is bad.
    function _sayOdd() private {
        sayEven();
        sayOf(ODD, FAR);
    }

    /// @dev Proposes and settles what was tallied; the outvoted one has nothing but negative evidence.
    function _finish() private {
        Outcome memory o = outcomeOf(COUNT);
        proposeScored(o);
        pass(5);
        settle(_task, _round, o);
        (uint256 positive, uint256 negative,) = opinions.evidence(PUBLISHER, uint32(ODD));
        eq(positive, 0, "positive");
        eq(negative, 240, "negative");
        eq(accounts.creditOf(_task, uint32(ODD)), 0, "pay");
        eq(accounts.creditOf(_task, 3), 53, "another's pay");
        conserved();
    }

    /// @dev In how many rounds a scorer was silent.
    function _silent(uint256 place, uint256 rounds) private view {
        (uint256 positive, uint256 negative, uint256 missed) = opinions.scorerEvidence(PUBLISHER, scorer(place));
        eq(negative, 240 * rounds, "negative");
        eq(positive + missed, 0, "nothing else");
    }

    /// @dev One who was selected and is no scorer.
    function _notDrawn() private view returns (uint32) {
        uint256 taken = 0;
        for (uint256 place = 0; place < SCORERS; ++place) {
            taken |= 1 << scorer(place);
        }
        for (uint32 id = 0; id < COUNT; ++id) {
            if ((taken >> id) & 1 == 0) return id;
        }
        revert Differs("all are scorers", 0, 0);
    }

    function _failsCommit(address sender, bytes32 value, bytes memory reason) private {
        fails(sender, abi.encodeCall(opinions.commitScore, (_task, 1, _indices, value)), reason);
    }

    function _failsReveal(IFedLedger.Scored memory one, bytes32[] memory all, bytes memory reason) private {
        fails(OUTSIDER, abi.encodeCall(opinions.revealScore, (_task, 1, one, all)), reason);
    }

    function _badUpdates() private {
        uint256[] memory words = _present;
        bytes memory data = abi.encodeCall(opinions.callScorers, (_task, 1, _indices, words, updatesOf(7)));
        fails(AGGREGATOR, data, abi.encodeWithSelector(IFedLedger.WrongCount.selector, 7, 8));
        IFedLedger.Updates memory u = updatesOf(8);
        u.lengthWords = new uint256[](2);
        data = abi.encodeCall(opinions.callScorers, (_task, 1, _indices, words, u));
        fails(AGGREGATOR, data, abi.encodeWithSelector(IFedLedger.LengthMismatch.selector));
        data = abi.encodeCall(opinions.callScorers, (_task, 1, _indices, new uint256[](0), u));
        fails(AGGREGATOR, data, abi.encodeWithSelector(IFedLedger.LengthMismatch.selector));
    }

    function _badWords() private {
        (uint32[] memory at, uint256[] memory words) = (new uint32[](2), new uint256[](2));
        bytes memory ascending = abi.encodeWithSelector(IFedLedger.WordsNotAscending.selector);
        words[0] = 0xff;
        for (uint32 second = 0; second < 2; ++second) {
            at[1] = second;
            bytes memory data = abi.encodeCall(opinions.callScorers, (_task, 1, at, words, updatesOf(8)));
            fails(AGGREGATOR, data, ascending);
        }
        bytes memory none =
            abi.encodeCall(opinions.callScorers, (_task, 1, new uint32[](0), new uint256[](0), updatesOf(0)));
        fails(AGGREGATOR, none, abi.encodeWithSelector(IFedLedger.NotEverybodyJudged.selector, 0, COUNT));
    }

    /// @dev A round of the first and the third word, whose updates are all there.
    function _openSome(uint256 first, uint256 third) private {
        delete _indices;
        delete _present;
        if (first != 0) _indices.push(0);
        if (first != 0) _present.push(first);
        _indices.push(2);
        _present.push(third);
        _round = accounts.task(_task).currentRound + 1;
        uint256[] memory words = _present;
        vm.prank(AGGREGATOR);
        ledger.openRound(_task, _round, _indices, words);
        close(_task, _round, keccak256("root"), uint16(presentCount()));
    }

    /// @dev All of them, by slots of eight, without pay.
    function _outcomeOfSome(uint256 first, uint256 third) private view returns (Outcome memory o) {
        uint256 slots = presentCount() / 8;
        (o.verdictWords, o.shareWords) = (new uint256[](slots), new uint256[](slots));
        uint256 next = 0;
        for (uint256 slot = 0; slot < 96; ++slot) {
            uint256 word = slot / 32 == 0 ? first : slot / 32 == 2 ? third : 0;
            uint256 bits_ = (word >> (8 * (slot % 32))) & 0xff;
            if (bits_ == 0) continue;
            o.verdictWords[next] = slot << 64;
            for (uint256 i = 0; i < 8; ++i) {
                bool out = (outvoted(slot / 32) >> (8 * (slot % 32) + i)) & 1 != 0;
                o.verdictWords[next] |= uint256(out ? 38 : 1) << (8 * i);
            }
            ++next;
        }
        o.proposal.model = IFedLedger.ContentRef(keccak256(abi.encode(first, third)), 1000);
    }

    /// @dev The first word's list is an earlier round's.
    function _staleWords() private {
        bytes memory ascending = abi.encodeWithSelector(IFedLedger.WordsNotAscending.selector);
        uint32[] memory both = new uint32[](2);
        both[1] = 2;
        fails(OUTSIDER, abi.encodeCall(opinions.drawScorers, (_task, 2, both)), ascending);
        drawn();
        sayEven();
        sayOf(9, FAR);
        commitAll(everyPlace());
        bytes32[] memory none = new bytes32[](0);
        fails(
            AGGREGATOR,
            abi.encodeCall(opinions.tallyScores, (_task, 2, both, scoredOf(everyPlace()), none, _recommenders)),
            ascending
        );
        tally(everyPlace());
        eq(outvoted(2), 1 << 9, "by its own rank");
        eq(outvoted(0), 0, "nobody else");
        // As many judged as were selected, but others.
        Outcome memory o = _outcomeOfSome(0, 0xffff);
        uint256 kept = o.verdictWords[0];
        (o.verdictWords[0], o.verdictWords[1]) = (0x0101010101010101, kept);
        fails(AGGREGATOR, proposing(o), _wrongVerdict(0, 1));
        proposeScored(_outcomeOfSome(0, 0xffff));
    }

    function _wrongVerdict(uint256 i, uint256 verdict) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IFedLedger.WrongVerdict.selector, uint32(i), verdict);
    }

    function _revealsEnd() private view returns (uint256) {
        IFedLedger.Round memory r = accounts.round(_task, _round);
        return uint256(r.commitsClosedAt) + r.revealPeriod;
    }

    /// @dev From then on, and not before, anyone may void the round; its aggregator loses its deposit.
    function _voidAt(uint256 time, uint256 lost) private {
        vm.warp(time - 1);
        fails(
            OUTSIDER,
            abi.encodeCall(ledger.voidRound, (_task, _round)),
            abi.encodeWithSelector(IFedLedger.NotOverdue.selector, _task, _round)
        );
        vm.warp(time);
        uint256 before = free(OUTSIDER);
        vm.prank(OUTSIDER);
        ledger.voidRound(_task, _round);
        eq(free(OUTSIDER) - before, lost / 8, "reward");
        eq(burned(), lost - lost / 8, "burned");
        roundIs(_task, _round, IFedLedger.RoundStatus.Voided);
        conserved();
    }

    /// @dev The aggregator does its work up to a stage; then the standby does, in its turn and not before.
    function _standbyFrom(uint256 stage) private {
        address[] memory standbys = new address[](1);
        standbys[0] = STANDBY;
        _task = post(scoredBatch(uint16(COUNT), SCORERS), standbys);
        takeSeat(_task, STANDBY);
        enrol(_task, COUNT);
        pass(100);
        openFor(COUNT);
        close(_task, 1, keccak256("root"), uint16(COUNT));
        if (stage == 0) _takesOver(_revealsEnd(), calling());
        else callBy(AGGREGATOR);
        nextBlock();
        drawn();
        _sayOdd();
        commitAll(everyPlace());
        uint256 due = opinions.scoring(_task).calledAt + 2 * SCORE_PERIOD;
        if (stage == 0) tallyBy(STANDBY, everyPlace());
        else if (stage == 1) _takesOver(due, tallying(everyPlace()));
        else tally(everyPlace());
        eq(outvoted(0), 1 << ODD, "outvoted");
        Outcome memory o = outcomeOf(COUNT);
        if (stage == 2) _takesOver(due, proposing(o));
        else proposeScoredBy(STANDBY, o);
        pass(5);
        settle(_task, 1, o);
    }

    function _takesOver(uint256 due, bytes memory data) private {
        vm.warp(due + 9);
        fails(STANDBY, data, abi.encodeWithSelector(IFedLedger.NotYourTurn.selector, due + 10));
        vm.warp(due + 10);
        if (!ledger.mayAct(_task, STANDBY)) revert Differs("may act", 0, 1);
        uint256 before = free(STANDBY);
        vm.prank(STANDBY, STANDBY);
        sent(data);
        eq(free(STANDBY) - before, 0.5 ether, "half of the silent one's deposit");
    }

    function _refusedParameter(IFedLedger.TaskParams memory p, bytes32 name) private {
        vm.deal(PUBLISHER, PUBLISHER.balance + budget(p));
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.InvalidParameter.selector, name));
        accounts.postTask{value: budget(p)}(p, NO_STANDBYS);
    }
}
