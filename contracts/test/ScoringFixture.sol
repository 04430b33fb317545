// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {CourtFixture} from "./CourtFixture.sol";
import {vm} from "./Vm.sol";

/// @notice Scored rounds as one call a step. Participants have real keys; a scorer is named by its place among the drawn.
abstract contract ScoringFixture is CourtFixture {
    uint32 internal constant SCORE_PERIOD = 20;
    uint8 internal constant SPREAD = 12;
    uint16 internal constant FLOOR = 400;
    uint256 internal constant EVEN = 16_384;
    bytes32 private constant DOMAIN =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant SCORES =
        keccak256("Scores(uint256 task,uint32 round,uint32 participant,bytes32 commitment)");

    uint256 internal _task;
    uint32 internal _round;
    /// @dev Words of 256 participants that the round selects, and whose updates there are.
    uint32[] internal _indices;
    uint256[] internal _present;
    address[] internal _recommenders;
    /// @dev What each scorer says.
    mapping(uint256 place => uint256[]) internal _says;

    function scored(uint16 participants, uint8 scorers) internal pure returns (IFedLedger.TaskParams memory p) {
        p = defaults(participants);
        (p.scorers, p.scorePeriod, p.scoreSpread, p.scoreFloor) = (scorers, SCORE_PERIOD, SPREAD, FLOOR);
    }

    function scoredBatch(uint16 participants, uint8 scorers) internal pure returns (IFedLedger.TaskParams memory p) {
        p = scored(participants, scorers);
        (p.batched, p.gracePeriod) = (true, GRACE);
    }

    /// @notice Posts a task, and enrols the first participants.
    function begin(IFedLedger.TaskParams memory p, uint256 count) internal {
        _task = post(p);
        enrol(_task, count);
        pass(100);
    }

    /// @notice The next round is for the first `count` participants, all of them there.
    function openFor(uint256 count) internal {
        firstWords(count);
        _round = accounts.task(_task).currentRound + 1;
        vm.prank(AGGREGATOR);
        ledger.openRound(_task, _round, new uint32[](0), new uint256[](0));
    }

    function firstWords(uint256 count) internal {
        delete _indices;
        delete _present;
        for (uint32 i = 0; i * 256 < count; ++i) {
            _indices.push(i);
            uint256 rest = count - 256 * uint256(i);
            _present.push(rest >= 256 ? type(uint256).max : (1 << rest) - 1);
        }
    }

    /// @notice An opened round of everybody that has all of its updates, and has called its scorers.
    function calledRound(uint256 count) internal {
        openFor(count);
        if (accounts.task(_task).params.batched) close(_task, _round, keccak256("root"), uint16(count));
        else commitAndReveal(_task, _round, count);
        callBy(AGGREGATOR);
        nextBlock();
    }

    function callBy(address aggregator) internal {
        bytes memory data = calling();
        vm.prank(aggregator, aggregator);
        sent(data);
    }

    /// @notice The call of the scorers, by all of `_present` in a batched round.
    function calling() internal view returns (bytes memory) {
        bool batched_ = accounts.task(_task).params.batched;
        uint256[] memory words = batched_ ? _present : new uint256[](0);
        return abi.encodeCall(opinions.callScorers, (_task, _round, _indices, words, shown()));
    }

    /// @notice In a batched round the updates of `_present`.
    function shown() internal view returns (IFedLedger.Updates memory) {
        return accounts.task(_task).params.batched ? updatesOf(presentCount()) : NO_UPDATES;
    }

    function presentCount() internal view returns (uint256 count) {
        for (uint256 i = 0; i < _present.length; ++i) {
            for (uint256 word = _present[i]; word != 0; word &= word - 1) {
                ++count;
            }
        }
    }

    function sent(bytes memory data) internal {
        (bool done, bytes memory reason) = address(ledger).call(data);
        if (done) return;
        assembly ("memory-safe") {
            revert(add(reason, 32), mload(reason))
        }
    }

    function drawn() internal {
        opinions.drawScorers(_task, _round, _indices);
    }

    function scorers() internal view returns (uint256) {
        return opinions.scoring(_task).drawn;
    }

    function scorer(uint256 place) internal view returns (uint32) {
        return opinions.scoring(_task).scorers[place];
    }

    /// @notice What all scorers say: all updates are as good, each a little better or worse than the other.
    function sayEven() internal {
        for (uint256 place = 0; place < 15; ++place) {
            say(place, EVEN);
        }
    }

    /// @notice A scorer gives every update about the same score.
    function say(uint256 place, uint256 score) internal {
        uint256 count = presentCount();
        uint256[] memory words = new uint256[]((count + 15) / 16);
        for (uint256 rank = 0; rank < count; ++rank) {
            words[rank / 16] |= (score + (7 * rank + 3 * place) % 50) << (16 * (rank % 16));
        }
        _says[place] = words;
    }

    function sayOf(uint256 place, uint256 rank, uint256 score) internal {
        uint256 shift = 16 * (rank % 16);
        uint256 word = _says[place][rank / 16];
        _says[place][rank / 16] = (word & ~(uint256(0xffff) << shift)) | (score << shift);
    }

    /// @notice What all scorers say of one update.
    function sayOf(uint256 rank, uint256 score) internal {
        for (uint256 place = 0; place < 15; ++place) {
            sayOf(place, rank, score);
        }
    }

    function saltOf(uint256 place) internal pure returns (bytes32) {
        return keccak256(abi.encode("salt of scores", place));
    }

    function scoreHash(uint256 place) internal view returns (bytes32) {
        return opinions.scoreCommitment(_task, _round, scorer(place), saltOf(place), _says[place]);
    }

    function commitScore(uint256 place) internal {
        commitScore(place, scoreHash(place));
    }

    function commitScore(uint256 place, bytes32 value) internal {
        vm.prank(signer(scorer(place)));
        opinions.commitScore(_task, _round, _indices, value);
    }

    function commitAll(uint256 places) internal {
        for (uint256 place = 0; places >> place != 0; ++place) {
            if ((places >> place) & 1 != 0) commitScore(place);
        }
    }

    /// @notice All that were drawn.
    function everyPlace() internal view returns (uint256) {
        return (1 << scorers()) - 1;
    }

    function scored(uint256 place) internal view returns (IFedLedger.Scored memory) {
        return IFedLedger.Scored(uint8(place), saltOf(place), _says[place]);
    }

    function scoredOf(uint256 places) internal view returns (IFedLedger.Scored[] memory all) {
        all = new IFedLedger.Scored[](bits(places));
        uint256 next = 0;
        for (uint256 place = 0; places >> place != 0; ++place) {
            if ((places >> place) & 1 != 0) all[next++] = scored(place);
        }
    }

    function hashesOf(uint256 places) internal view returns (bytes32[] memory all) {
        all = new bytes32[](bits(places));
        uint256 next = 0;
        for (uint256 place = 0; places >> place != 0; ++place) {
            if ((places >> place) & 1 != 0) all[next++] = scoreHash(place);
        }
    }

    function signaturesOf(uint256 places) internal view returns (bytes[] memory all) {
        all = new bytes[](bits(places));
        uint256 next = 0;
        for (uint256 place = 0; places >> place != 0; ++place) {
            if ((places >> place) & 1 != 0) all[next++] = signed(place, key(scorer(place)), scoreHash(place));
        }
    }

    function signed(uint256 place, uint256 by, bytes32 value) internal view returns (bytes memory) {
        bytes32 domain =
            keccak256(abi.encode(DOMAIN, keccak256("fedledger"), keccak256("5"), block.chainid, address(ledger)));
        bytes32 message = keccak256(abi.encode(SCORES, _task, _round, scorer(place), value));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(by, keccak256(bytes.concat("\x19\x01", domain, message)));
        return abi.encodePacked(r, s, v);
    }

    function listing(uint256 places) internal view returns (bytes memory) {
        return abi.encodeCall(
            opinions.listScores, (_task, _round, _indices, uint16(places), hashesOf(places), signaturesOf(places))
        );
    }

    function list(uint256 places) internal {
        bytes memory data = listing(places);
        vm.prank(AGGREGATOR);
        sent(data);
    }

    function revealScore(uint256 place) internal {
        uint256 listed = opinions.scoring(_task).listed;
        bytes32[] memory all = (listed >> place) & 1 != 0 ? hashesOf(listed) : new bytes32[](0);
        IFedLedger.Scored memory one = scored(place);
        vm.prank(OUTSIDER);
        opinions.revealScore(_task, _round, one, all);
    }

    function tallying(uint256 places) internal view returns (bytes memory) {
        return abi.encodeCall(
            opinions.tallyScores,
            (
                _task,
                _round,
                _indices,
                scoredOf(places),
                hashesOf(opinions.scoring(_task).listed & ~places),
                _recommenders
            )
        );
    }

    function tally(uint256 places) internal {
        tallyBy(AGGREGATOR, places);
    }

    function tallyBy(address aggregator, uint256 places) internal {
        bytes memory data = tallying(places);
        vm.prank(aggregator);
        sent(data);
    }

    /// @notice Everybody commits itself and reveals, and the round is tallied.
    function tallied() internal {
        commitAll(everyPlace());
        tally(everyPlace());
    }

    function outvoted(uint256 word) internal view returns (uint256) {
        return opinions.outvotedWord(_task, _round, word);
    }

    /// @notice Verdicts and shares of 50 and more of the first `count` participants; who was outvoted gets that verdict and nothing.
    function outcomeOf(uint256 count) internal view returns (Outcome memory o) {
        o = everybody(count, 50);
        for (uint256 i = 0; i < count; ++i) {
            if ((outvoted(i / 256) >> (i % 256)) & 1 == 0) continue;
            judge(o, i, 38);
        }
    }

    /// @notice Gives the participant another verdict than that it was accepted, and no pay.
    function judge(Outcome memory o, uint256 i, uint256 verdict) internal pure {
        o.verdictWords[i / 8] ^= (1 ^ verdict) << (8 * (i % 8));
        o.shareWords[i / 8] &= ~(uint256(type(uint32).max) << (32 * (i % 8)));
    }

    function proposeScored(Outcome memory o) internal {
        proposeScoredBy(AGGREGATOR, o);
    }

    function proposeScoredBy(address aggregator, Outcome memory o) internal {
        bytes memory data = proposing(o);
        vm.prank(aggregator, aggregator);
        sent(data);
    }

    function proposing(Outcome memory o) internal view returns (bytes memory) {
        IFedLedger.Updates memory u = shown();
        if (accounts.task(_task).params.batched) bind(o, u);
        return abi.encodeCall(ledger.proposeRound, (_task, _round, o.proposal, o.verdictWords, o.shareWords, u));
    }

    function bits(uint256 word) internal pure returns (uint256 count) {
        for (; word != 0; word &= word - 1) {
            ++count;
        }
    }

    /// @notice Expects the aggregator's next call to be refused with this error.
    function refusedAggregator(bytes memory reason) internal {
        vm.expectRevert(reason);
        vm.prank(AGGREGATOR, AGGREGATOR);
    }
}
