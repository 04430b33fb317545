// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {ScoringFixture} from "./ScoringFixture.sol";
import {vm} from "./Vm.sol";

/// @notice What hostile scorers, recommenders and aggregators try, and that it changes neither who is outvoted nor whose
/// money is whose. Three of nine scorers are hostile.
contract ScoringAttacksTest is ScoringFixture {
    uint256 private constant COUNT = 12;
    uint8 private constant SCORERS = 9;
    uint256 private constant FAR = 20_000;
    uint256 private constant MOST = 32_766;
    /// @dev Of the ledger's storage; what is written there is compared with views.
    uint256 private constant EVIDENCE_SLOT = 23;
    uint256 private constant SEEDS = 240;
    /// @dev Whose update is bad: no scorer's.
    uint256 private _bad;

    function setUp() public {
        setUpLedger();
        burnedBefore();
        vm.roll(1000);
        register(COUNT);
        vm.deal(STANDBY, 1000 ether);
        vm.deal(RESERVE, 1000 ether);
    }

    /// @dev Whatever three of them do, each in a way of its own.
    function testFuzz_threeHostile_changeNothing(uint256 seed) public {
        _called();
        _sayHonestly();
        uint256 hostile = _three(seed);
        uint256 silent = 0;
        for (uint256 place = 0; place < SCORERS; ++place) {
            if ((hostile >> place) & 1 == 0) continue;
            seed = uint256(keccak256(abi.encode(seed, place)));
            if (_sayHostilely(place, seed)) silent |= 1 << place;
        }
        commitAll(everyPlace() & ~(silent & seed));
        pass(SCORE_PERIOD);
        if (seed % 2 == 0) revealScore(_first(~hostile));
        pass(SCORE_PERIOD);
        tally(everyPlace() & ~silent);
        eq(outvoted(0), 1 << _bad, "outvoted");
        for (uint256 place = 0; place < SCORERS; ++place) {
            if ((hostile >> place) & 1 != 0) continue;
            (uint256 positive, uint256 negative, uint256 missed) = opinions.scorerEvidence(PUBLISHER, scorer(place));
            eq(positive + negative + missed, 0, "who is honest stays clean");
        }
        Outcome memory o = outcomeOf(COUNT);
        proposeScored(o);
        pass(5);
        settle(_task, 1, o);
        eq(accounts.creditOf(_task, uint32(_bad)), 0, "pay of the bad one");
        conserved();
    }

    /// @dev They favour their friend and slander an honest one, all three alike.
    function test_threeInLeague_neitherSaveNorSlander() public {
        _called();
        _sayHonestly();
        uint256 victim = (_bad + 1) % COUNT;
        for (uint256 place = 0; place < 3; ++place) {
            sayOf(place, _bad, 1);
            sayOf(place, victim, MOST);
        }
        commitAll(everyPlace());
        tally(everyPlace());
        eq(outvoted(0), 1 << _bad, "outvoted");
    }

    /// @dev Two thirds could: that a third is too few is no accident of these scores.
    function test_sixInLeague_couldSlander() public {
        _called();
        _sayHonestly();
        uint256 victim = (_bad + 1) % COUNT;
        for (uint256 place = 0; place < 6; ++place) {
            sayOf(place, victim, MOST);
        }
        commitAll(everyPlace());
        tally(everyPlace());
        eq(outvoted(0), (1 << _bad) | (1 << victim), "outvoted");
    }

    /// @dev A copy of another's commitment commits to nothing that its copier can open.
    function test_copiedCommitment_cannotBeOpened() public {
        _called();
        _sayHonestly();
        commitAll(everyPlace() & ~uint256(1));
        commitScore(0, scoreHash(5));
        _says[0] = _says[5];
        IFedLedger.Scored memory copy = scored(0);
        copy.salt = saltOf(5);
        bytes32 found = opinions.scoreCommitment(_task, 1, scorer(0), copy.salt, copy.words);
        bytes memory wrong = abi.encodeWithSelector(IFedLedger.WrongReveal.selector, scoreHash(5), found);
        _fails(OUTSIDER, abi.encodeCall(opinions.revealScore, (_task, 1, copy, new bytes32[](0))), wrong);
        pass(2 * SCORE_PERIOD);
        tally(everyPlace() & ~uint256(1));
        eq(outvoted(0), 1 << _bad, "outvoted");
        _failed(0, 240);
    }

    /// @dev As long as somebody can commit nobody's scores are on chain, and once they are, nobody commits.
    function test_copiedScores_comeTooLate() public {
        _called();
        _sayHonestly();
        commitAll(everyPlace() & ~uint256(1));
        uint256 at = uint256(opinions.scoring(_task).calledAt) + SCORE_PERIOD;
        _fails(
            OUTSIDER,
            abi.encodeCall(opinions.revealScore, (_task, 1, scored(4), new bytes32[](0))),
            abi.encodeWithSelector(IFedLedger.NotInTime.selector, at, at + SCORE_PERIOD)
        );
        vm.warp(at);
        revealScore(4);
        _fails(
            signer(scorer(0)),
            abi.encodeCall(opinions.commitScore, (_task, 1, _indices, scoreHash(0))),
            abi.encodeWithSelector(IFedLedger.NotInTime.selector, 0, at)
        );
    }

    /// @dev One whose signature is not its own is not listed, alone or among others.
    function test_listScores_forgedSignatures_listNobody() public {
        _called();
        _sayHonestly();
        bytes[] memory forged = new bytes[](1);
        forged[0] = signed(0, key(scorer(1)), scoreHash(0));
        _fails(
            AGGREGATOR,
            abi.encodeCall(opinions.listScores, (_task, 1, _indices, 1, hashesOf(1), forged)),
            abi.encodeWithSelector(IFedLedger.WrongScores.selector, 1)
        );
        // Of another round, and of other scores.
        ++_round;
        forged[0] = signed(0, key(scorer(0)), scoreHash(0));
        --_round;
        _fails(
            AGGREGATOR,
            abi.encodeCall(opinions.listScores, (_task, 1, _indices, 1, hashesOf(1), forged)),
            abi.encodeWithSelector(IFedLedger.WrongScores.selector, 1)
        );
        forged = signaturesOf(7);
        forged[1] = signed(1, key(scorer(1)), SALT);
        bytes memory data = abi.encodeCall(opinions.listScores, (_task, 1, _indices, 7, hashesOf(7), forged));
        vm.expectEmit(address(ledger));
        emit IFedLedger.ScoresCommitted(_task, 1, 5, hashesOf(5));
        vm.prank(AGGREGATOR);
        sent(data);
        eq(opinions.scoring(_task).listed, 5, "listed");
        // Whom it left out so commits itself.
        commitScore(1);
        commitAll(everyPlace() & ~uint256(7));
        tally(everyPlace());
        eq(outvoted(0), 1 << _bad, "outvoted");
    }

    /// @dev Neither a commitment of one's own nor a new key, just before the list, keeps the others from it.
    function test_listScores_frontRun_listsTheOthers() public {
        _called();
        _sayHonestly();
        bytes memory data = listing(everyPlace());
        commitScore(0);
        uint32 id = scorer(1);
        address fresh = vm.addr(0xF00);
        agree(fresh, owner(id));
        vm.prank(owner(id));
        accounts.rotateSigner(fresh);
        vm.prank(AGGREGATOR);
        sent(data);
        eq(opinions.scoring(_task).listed, everyPlace() & ~uint256(3), "listed");
        eq(opinions.scoring(_task).committed, 1, "committed");
        pass(SCORE_PERIOD);
        revealScore(0);
        pass(SCORE_PERIOD);
        tally(everyPlace() & ~uint256(2));
        eq(outvoted(0), 1 << _bad, "outvoted");
        _failed(1, 240);
        _failed(0, 0);
    }

    /// @dev An aggregator lists its friends alone: the others commit and reveal on chain, and it cannot leave them out.
    function test_aggregator_listsItsFriendsAlone_changesNothing() public {
        _called();
        _sayHonestly();
        for (uint256 place = 0; place < 3; ++place) {
            sayOf(place, _bad, 1);
        }
        list(7);
        commitAll(everyPlace() & ~uint256(7));
        uint256 until = uint256(opinions.scoring(_task).calledAt) + 2 * SCORE_PERIOD;
        bytes memory early = abi.encodeWithSelector(IFedLedger.NotInTime.selector, until, type(uint256).max);
        _fails(AGGREGATOR, tallying(7), early);
        pass(SCORE_PERIOD);
        _fails(AGGREGATOR, tallying(7), early);
        for (uint256 place = 3; place < SCORERS; ++place) {
            revealScore(place);
        }
        pass(SCORE_PERIOD);
        _fails(AGGREGATOR, tallying(7), abi.encodeWithSelector(IFedLedger.MissingScores.selector, 0x1f8));
        tally(everyPlace());
        eq(outvoted(0), 1 << _bad, "outvoted");
        conserved();
    }

    /// @dev Who says nothing of the updates is as far from the others as who says something else; who leaves out its own
    /// is not, nor who could not read one of them.
    function test_scorers_whoLeaveOutUpdates_fail() public {
        _called();
        _sayHonestly();
        _says[0] = new uint256[](1);
        sayOf(1, scorer(1), 0);
        sayOf(2, (_bad + 1) % COUNT, 0);
        for (uint256 rank = 0; rank < COUNT; ++rank) {
            if (rank % 2 == 0) sayOf(3, rank, 0);
        }
        commitAll(everyPlace());
        tally(everyPlace());
        _failed(0, 240);
        _failed(1, 0);
        _failed(2, 0);
        _failed(3, 240);
        eq(outvoted(0), 1 << _bad, "outvoted");
    }

    /// @dev Only updates that most could score are asked for.
    function test_scorers_ofGarbage_needNotScoreIt() public {
        _called();
        _sayHonestly();
        for (uint256 rank = 0; rank < 5; ++rank) {
            sayOf(rank, 0);
        }
        commitAll(everyPlace());
        tally(everyPlace());
        for (uint256 place = 0; place < SCORERS; ++place) {
            _failed(place, 0);
        }
    }

    /// @dev One far scorer in more than a quarter of its scores fails, one in a quarter does not; what was lost comes back.
    function test_scorers_reputationFallsAndRecovers() public {
        IFedLedger.TaskParams memory p = scored(uint16(COUNT), 12);
        p.rounds = 20;
        begin(p, COUNT);
        calledRound(COUNT);
        drawn();
        eq(scorers(), COUNT, "all are drawn");
        sayEven();
        _sayFar(0, 4, 0);
        _sayFar(1, 2, 1);
        (uint32 far, uint32 near) = (scorer(0), scorer(1));
        commitAll(everyPlace());
        tally(everyPlace());
        _evidence(far, 0, 240, 0);
        _evidence(near, 0, 0, 0);
        Outcome memory o = outcomeOf(COUNT);
        proposeScored(o);
        pass(5);
        settle(_task, 1, o);
        uint256 clean = 0;
        while (clean < 2) {
            calledRound(COUNT);
            drawn();
            sayEven();
            commitAll(everyPlace());
            tally(everyPlace());
            // It may have been passed over.
            for (uint256 place = 0; place < scorers(); ++place) {
                if (scorer(place) == far) ++clean;
            }
            o = outcomeOf(COUNT);
            proposeScored(o);
            pass(5);
            settle(_task, _round, o);
        }
        // 240, then less a sixteenth each time, rounded for credit and against it.
        _evidence(far, 225 + 240, 240 - 15 - 14, 0);
        _evidence(near, 0, 0, 0);
    }

    /// @dev A recommender's participant is not scored by those whom it recommends.
    function test_recommendersParticipant_isNotScoredByWhomItRecommends() public {
        _recommenders = [owner(3)];
        IFedLedger.TaskParams memory p = scored(uint16(COUNT), SCORERS);
        (p.recommenders, p.recommenderTrust) = (keccak256(abi.encode(_recommenders)), 500_000);
        begin(p, COUNT);
        calledRound(COUNT);
        drawn();
        sayEven();
        sayOf(3, FAR);
        commitAll(everyPlace());
        uint256 state = vm.snapshotState();
        tally(everyPlace());
        eq(outvoted(0), 8, "it knows nobody");
        vm.revertToState(state);
        // It knows all but two of those that score it: whom it has judged are left out of those of whom most must.
        uint256 left = 0;
        uint256 silent = SCORERS;
        for (uint256 place = 0; place < SCORERS; ++place) {
            if (scorer(place) == 3) continue;
            if (++left > 2) _know(owner(3), scorer(place), 1);
            else silent = place;
        }
        uint256 known = vm.snapshotState();
        tally(everyPlace());
        eq(outvoted(0), 8, "two that it does not know are left");
        for (uint256 place = 0; place < SCORERS; ++place) {
            _failed(place, 0);
        }
        // Nobody decides alone, whether the other one is silent, or known, too.
        vm.revertToState(known);
        pass(2 * SCORE_PERIOD);
        tally(everyPlace() & ~(1 << silent));
        eq(outvoted(0), 0, "one of the two is silent");
        vm.revertToState(known);
        _know(owner(3), scorer(silent), 1);
        tally(everyPlace());
        eq(outvoted(0), 0, "it knows all but one");
        for (uint256 place = 0; place < SCORERS; ++place) {
            _failed(place, 0);
        }
    }

    /// @dev A list that names a recommender again and again has nobody left out more than once.
    function test_recommenderNamedTwice_countsOnce() public {
        _recommenders = [owner(3), OUTSIDER, owner(3), owner(3), owner(3), owner(3), owner(3)];
        IFedLedger.TaskParams memory p = scored(uint16(COUNT), SCORERS);
        (p.recommenders, p.recommenderTrust) = (keccak256(abi.encode(_recommenders)), 500_000);
        begin(p, COUNT);
        calledRound(COUNT);
        drawn();
        sayEven();
        sayOf(3, FAR);
        (uint256 others, uint256 silent) = (0, 0);
        for (uint256 place = 0; place < SCORERS; ++place) {
            if (scorer(place) == 3) continue;
            if (++others == 1) _know(owner(3), scorer(place), 1);
            else if (others <= 5) silent |= 1 << place;
        }
        commitAll(everyPlace());
        pass(2 * SCORE_PERIOD);
        tally(everyPlace() & ~silent);
        // Five revealed: three of seven that may score it if it is itself drawn, else four of eight.
        eq(outvoted(0), 0, "no more than half of those that may");
    }

    /// @dev All are drawn about as often: chi-square of eleven degrees of freedom, above 40 once in 30,000 times.
    function test_draws_areFair() public {
        uint256[] memory counts = _drawOften(3, 0);
        uint256 expected = (SEEDS * 3) / COUNT;
        uint256 sum = 0;
        for (uint256 i = 0; i < COUNT; ++i) {
            uint256 apart = counts[i] > expected ? counts[i] - expected : expected - counts[i];
            sum += apart * apart;
        }
        if (sum > 40 * expected) revert Differs("chi-square", sum, 40 * expected);
    }

    /// @dev One that is silent again and again is drawn far less, and not never.
    function test_draws_passOverWhoHasFailed() public {
        uint256[] memory before = _drawOften(3, 0);
        uint256[] memory later = _drawOften(3, 4);
        (, uint256 negative,) = opinions.scorerEvidence(PUBLISHER, 7);
        eq(negative, 874, "four times 240, less a sixteenth each time");
        // Its reputation is 480 of twice 1,354, and full is a half: it is passed over 64 times of 100.
        if (2 * later[7] > before[7]) revert Differs("passed over", later[7], before[7]);
        if (later[7] == 0) revert Differs("never drawn", later[7], 1);
    }

    function _called() private {
        begin(scoredBatch(uint16(COUNT), SCORERS), COUNT);
        calledRound(COUNT);
        drawn();
        uint256 taken = 0;
        for (uint256 place = 0; place < SCORERS; ++place) {
            taken |= 1 << scorer(place);
        }
        _bad = 0;
        while ((taken >> _bad) & 1 != 0) ++_bad;
    }

    function _sayHonestly() private {
        sayEven();
        for (uint256 place = 0; place < SCORERS; ++place) {
            sayOf(place, _bad, FAR + 100 * place);
        }
    }

    /// @dev One of six ways to do harm; whether it then says nothing.
    function _sayHostilely(uint256 place, uint256 seed) private returns (bool) {
        uint256 way = seed % 6;
        if (way == 0) return true;
        if (way == 1) _says[place] = new uint256[](1);
        else if (way == 2) _says[place] = _says[(seed >> 8) % SCORERS];
        for (uint256 rank = 0; rank < COUNT && way > 2; ++rank) {
            uint256 score = uint256(keccak256(abi.encode(seed, rank))) % (MOST + 1);
            if (way == 3) score = rank == _bad ? 1 : MOST;
            if (way == 4) score = score % 2 == 0 ? 1 : MOST;
            sayOf(place, rank, score);
        }
        return false;
    }

    /// @dev From a rank on so many scores are far away.
    function _sayFar(uint256 place, uint256 count, uint256 from) private {
        for (uint256 rank = from; count > 0; ++rank) {
            if (rank == scorer(place)) continue;
            sayOf(place, rank, FAR);
            --count;
        }
    }

    function _three(uint256 seed) private pure returns (uint256 places) {
        for (uint256 k = 0; bits(places) < 3; ++k) {
            places |= 1 << (uint256(keccak256(abi.encode(seed, k))) % SCORERS);
        }
    }

    function _first(uint256 places) private pure returns (uint256 place) {
        while ((places >> place) & 1 == 0) ++place;
    }

    /// @dev How often each is drawn over many hashes, once participant 7 has been silent so many times.
    function _drawOften(uint8 scorers_, uint256 silences) private returns (uint256[] memory counts) {
        counts = new uint256[](COUNT);
        for (uint256 k = 0; k < silences; ++k) {
            _silentRound();
        }
        begin(scored(uint16(COUNT), scorers_), COUNT);
        openFor(COUNT);
        commitAndReveal(_task, 1, COUNT);
        callBy(AGGREGATOR);
        uint256 called = vm.getBlockNumber();
        nextBlock();
        for (uint256 seed = 0; seed < SEEDS; ++seed) {
            uint256 state = vm.snapshotState();
            vm.setBlockhash(called, keccak256(abi.encode("draw", seed)));
            drawn();
            uint256 found = 0;
            for (uint256 place = 0; place < scorers(); ++place) {
                found |= 1 << scorer(place);
            }
            vm.revertToState(state);
            for (uint256 i = 0; i < COUNT; ++i) {
                counts[i] += (found >> i) & 1;
            }
        }
    }

    /// @dev A round of another task in which all score but participant 7.
    function _silentRound() private {
        begin(scored(uint16(COUNT), 12), COUNT);
        calledRound(COUNT);
        // By a hash by which it is drawn.
        uint256 state = vm.snapshotState();
        for (uint256 seed = 0;; ++seed) {
            vm.setBlockhash(vm.getBlockNumber() - 1, keccak256(abi.encode("silent", seed)));
            drawn();
            uint256 place = 0;
            while (place < scorers() && scorer(place) != 7) ++place;
            if (place == scorers()) {
                vm.revertToState(state);
                state = vm.snapshotState();
                continue;
            }
            sayEven();
            commitAll(everyPlace());
            pass(2 * SCORE_PERIOD);
            tally(everyPlace() & ~(1 << place));
            return;
        }
    }

    function _know(address publisher, uint32 id, uint256 known) private {
        bytes32 slot = keccak256(abi.encode(id / 8, keccak256(abi.encode(publisher, EVIDENCE_SLOT))));
        uint256 word = uint256(vm.load(address(ledger), slot)) | (known << (32 * (id % 8)));
        vm.store(address(ledger), slot, bytes32(word));
        eq(opinions.evidenceWord(publisher, id / 8), word, "slot");
    }

    function _failed(uint256 place, uint256 expected) private view {
        _evidence(scorer(place), 0, expected, 0);
    }

    function _evidence(uint32 id, uint256 positive, uint256 negative, uint256 missed) private view {
        (uint256 good, uint256 bad, uint256 none) = opinions.scorerEvidence(PUBLISHER, id);
        eq(good, positive, "positive");
        eq(bad, negative, "negative");
        eq(none, missed, "missed");
    }

    function _fails(address sender, bytes memory data, bytes memory reason) private {
        vm.expectRevert(reason);
        vm.prank(sender, sender);
        sent(data);
    }
}

/// @notice Where a task's verifiers score: nobody moves among them between the block that draws and the draw.
contract VerifiersScoreTest is ScoringFixture {
    uint256 private constant VERIFIERS = 6;

    function setUp() public {
        setUpCourt(VERIFIERS);
        IFedLedger.TaskParams memory p = scored(uint16(WORKERS), 3);
        p.verifiersScore = true;
        begin(p, WORKERS);
    }

    function test_verifiersScore_whole() public {
        calledRound(WORKERS);
        eq(opinions.scoring(_task).pool, VERIFIERS, "pool");
        drawn();
        eq(scorers(), 3, "scorers");
        for (uint256 place = 0; place < 3; ++place) {
            if (scorer(place) < WORKERS) revert Differs("a worker", scorer(place), WORKERS);
        }
        sayEven();
        sayOf(2, 20_000);
        tallied();
        eq(outvoted(0), 4, "outvoted");
        Outcome memory o = outcomeOf(WORKERS);
        proposeScored(o);
        nextBlock();
        pass(5);
        settle(_task, 1, o);
        conserved();
    }

    /// @dev Who knows the block's hash can neither quit, nor be struck, nor come, to have others drawn.
    function test_draw_isTheSame_whoeverMovesBeforeIt() public {
        calledRound(WORKERS);
        uint256[] memory expected = _draws();
        for (uint256 i = 0; i < VERIFIERS; i += 2) {
            vm.prank(owner(WORKERS + i));
            court.quit(_task);
        }
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.JuryNotDrawn.selector, _task));
        court.strike(_task, one(WORKERS));
        registerFrom(WORKERS + VERIFIERS, 1);
        enlist(WORKERS + VERIFIERS);
        pass(AGE);
        serve(_task, WORKERS + VERIFIERS);
        uint256[] memory found = _draws();
        for (uint256 i = 0; i < expected.length; ++i) {
            eq(found[i], expected[i], "scorer");
        }
        drawn();
        court.strike(_task, one(WORKERS));
    }

    /// @dev Who is drawn by each of ten hashes.
    function _draws() private returns (uint256[] memory ids) {
        ids = new uint256[](30);
        for (uint256 seed = 0; seed < 10; ++seed) {
            uint256 state = vm.snapshotState();
            vm.setBlockhash(opinions.scoring(_task).drawBlock, keccak256(abi.encode(seed)));
            drawn();
            for (uint256 place = 0; place < 3; ++place) {
                ids[3 * seed + place] = scorer(place);
            }
            vm.revertToState(state);
        }
    }

    /// @dev Who had left in an earlier block is passed over, and who comes in a later one is not there.
    function test_draw_onlyOfWhoServed() public {
        openFor(WORKERS);
        commitAndReveal(_task, 1, WORKERS);
        for (uint256 i = 0; i < 3; ++i) {
            vm.prank(owner(WORKERS + i));
            court.retire();
        }
        nextBlock();
        callBy(AGGREGATOR);
        nextBlock();
        drawn();
        eq(scorers(), 3, "scorers");
        for (uint256 place = 0; place < 3; ++place) {
            if (scorer(place) < WORKERS + 3) revert Differs("retired", scorer(place), WORKERS + 3);
        }
    }

    /// @dev A call that nobody drew by, tallied or fallen, holds the verifiers no longer than the next.
    function test_undrawnCalls_letVerifiersGo() public {
        calledRound(WORKERS);
        uint256 state = vm.snapshotState();
        pass(2 * SCORE_PERIOD);
        tally(0);
        _moves();
        vm.revertToState(state);
        pass(2 * SCORE_PERIOD + 10);
        vm.prank(OUTSIDER);
        ledger.voidRound(_task, 1);
        vm.roll(vm.getBlockNumber() + 300);
        drawn();
        _moves();
        vm.revertToState(state);
        pass(2 * SCORE_PERIOD + 10);
        vm.prank(OUTSIDER);
        ledger.voidRound(_task, 1);
        takeSeat(_task, AGGREGATOR);
        calledRound(WORKERS);
        drawn();
        _moves();
    }

    /// @dev One that quits is gone, and not only marked.
    function _moves() private {
        vm.prank(owner(WORKERS));
        court.quit(_task);
        vm.prank(owner(WORKERS));
        court.serve(_task);
    }

    function one(uint256 id) private pure returns (uint32[] memory all) {
        all = new uint32[](1);
        all[0] = uint32(id);
    }
}
