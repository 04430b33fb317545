// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Evidence, Verdicts} from "./Evidence.sol";
import {Head, Heads} from "./Heads.sol";
import {Lanes} from "./Lanes.sol";
import {LedgerSignatures} from "./LedgerSignatures.sol";
import {LedgerState} from "./LedgerState.sol";
import {LedgerTurns} from "./LedgerTurns.sol";
import {Scores} from "./Scores.sol";

/// @title Detection that the contract decides
/// @notice Of a task with scorers, some participants or verifiers are drawn in each round. Each measures all updates on data
/// of its own, commits to its scores and reveals them; the contract takes their medians, and the updates whose median is
/// far above the round's do not count (Liu et al. 2020). Nobody's data are shown, and no third of the scorers decides.
abstract contract LedgerScores is LedgerTurns, LedgerSignatures {
    using Heads for Round;

    /// @notice Draws of which at most so many name scorers.
    uint256 public constant MOST_DRAWS = 64;
    /// @notice Who has a reputation as a scorer below this may be passed over when it is drawn: what nobody has failed has.
    uint256 public constant FULL_SCORER = 500_000;
    /// @dev Fewest scorers, and fewest updates, of which a median says something.
    uint256 private constant LEAST_MEDIAN = 3;
    /// @dev A scorer fails whose scores are far from the medians in more than one of so many.
    uint256 private constant FAR_PART = 4;
    /// @dev Of how many parts of the spread a task's `scoreSpread` is.
    uint256 private constant SPREAD_PARTS = 4;
    bytes32 private constant SCORES =
        keccak256("Scores(uint256 task,uint32 round,uint32 participant,bytes32 commitment)");

    /// @dev Among whom scorers are drawn: `size` verifiers of a task, or those who are selected, in `words`.
    struct Draw {
        uint256 task;
        address publisher;
        uint256 calledAt;
        uint256 drawBlock;
        bool verifiers;
        uint256 size;
        uint256[] words;
        bytes32 seed;
        uint256 stained;
    }

    /// @dev What was signed, and by whom.
    struct Signing {
        bytes32 domain;
        uint256 task;
        uint32 round;
        uint256 committed;
        uint256[2] scorers;
    }

    /// @dev What a tally works with: bits of the scorers who revealed (`places`), their scores word by word, and of how
    /// many updates each of them is not to be heard, and for each update, a lane each, of how many drawn ones (`barred`);
    /// bits of the updates that are scored, for each of the round's words.
    struct Tally {
        uint256 task;
        uint32 round;
        bool batched;
        uint256 drawn;
        uint256[2] scorers;
        uint256 places;
        uint256 updates;
        uint256 half;
        uint256 count;
        uint256[] present;
        uint256[][] words;
        uint256[] excused;
        uint256[] barred;
        uint256[] medians;
        uint256 limit;
        uint256 band;
        uint32[] outvoted;
        uint256 far;
    }

    /// @notice Calls the scorers of a round whose reveals are over, or complete. They are drawn by this call's block.
    /// @param wordIndices Ascending indices of all 256-participant words that the round selects.
    /// @param words In a batched round, bits of the participants whose updates the aggregator has; else empty.
    /// @param updates Of those; the proposal must have them, too. In a direct round empty.
    function callScorers(
        uint256 task_,
        uint32 round_,
        uint32[] calldata wordIndices,
        uint256[] calldata words,
        Updates calldata updates
    ) external {
        Head head = _callable(task_, round_);
        uint256 count = _list(task_, round_, head.has(BATCHED), wordIndices, words);
        if (count > head.committed()) revert WrongCount(count, head.committed());
        if (count != head.committed() && _revealsOpen(_tasks[task_], head)) revert RevealsAreOpen();
        _call(task_, round_, count, _hashUpdates(head.has(BATCHED), count, updates));
        emit ScorersCalled(task_, round_, count, wordIndices, words);
    }

    /// @notice Draws the scorers that were called; so does the first commitment. Once the chain has forgotten the block by
    /// which they are drawn there are none, and all updates count. Anyone may.
    /// @param wordIndices See `callScorers`.
    function drawScorers(uint256 task_, uint32 round_, uint32[] calldata wordIndices) external {
        Scoring storage s = _calledFor(task_, round_);
        if (s.isDrawn) revert AlreadyCalled(task_, round_);
        _drawOnce(s, task_, round_, wordIndices);
    }

    /// @notice Commits the sender's participant, a scorer, to its scores; see `scoreCommitment`. Whom the aggregator has not
    /// listed needs this.
    function commitScore(uint256 task_, uint32 round_, uint32[] calldata wordIndices, bytes32 commitment) external {
        Scoring storage s = _calledFor(task_, round_);
        _requireCommitting(s, task_);
        _drawOnce(s, task_, round_, wordIndices);
        if (commitment == bytes32(0)) revert EmptyCommitment();
        uint32 id = _idOfSender();
        uint256 place = _placeOf(s, id);
        if ((s.committed | s.listed) >> place & 1 != 0) revert AlreadyCommitted(id);
        s.committed |= uint16(1 << place);
        _scoreCommitments[task_][place] = commitment;
        bytes32[] memory told = new bytes32[](1);
        told[0] = commitment;
        emit ScoresCommitted(task_, round_, 1 << place, told);
    }

    /// @notice Commits scorers, by a list of what they have signed (EIP-712, with their present keys). The active aggregator
    /// may do so once a round. Who has committed itself, or has another key by now, is left out of the list: neither can
    /// keep the others from it at the last moment.
    /// @param places Bits of the scorers on the list, by their places among the drawn; commitments are in that order.
    function listScores(
        uint256 task_,
        uint32 round_,
        uint32[] calldata wordIndices,
        uint16 places,
        bytes32[] calldata commitments,
        bytes[] calldata signatures
    ) external {
        Scoring storage s = _calledFor(task_, round_);
        _requireCommitting(s, task_);
        _requireTurn(task_, round_);
        _drawOnce(s, task_, round_, wordIndices);
        if (s.listed != 0 || places >> s.drawn != 0) revert WrongScores(places);
        if (commitments.length != Lanes.popcount(places) || commitments.length != signatures.length) {
            revert LengthMismatch();
        }
        (uint256 listed, bytes32[] memory list) = _signed(s, task_, places, commitments, signatures);
        if (listed == 0) revert WrongScores(places);
        s.listed = uint16(listed);
        s.list = keccak256(abi.encodePacked(list));
        emit ScoresCommitted(task_, round_, listed, list);
    }

    /// @notice Reveals a scorer's scores on chain, after which no tally can leave them out. Anyone who has them may.
    /// @param list All listed commitments, if the scorer is on the list; else empty.
    function revealScore(uint256 task_, uint32 round_, Scored calldata scored, bytes32[] calldata list) external {
        Scoring storage s = _calledFor(task_, round_);
        uint256 from = uint256(s.calledAt) + _tasks[task_].params.scorePeriod;
        uint256 until = from + _tasks[task_].params.scorePeriod;
        if ((block.timestamp < from && !_allCommitted(s)) || block.timestamp >= until) revert NotInTime(from, until);
        uint256 bit = 1 << scored.place;
        uint32 id = scored.place < s.drawn ? s.scorers[scored.place] : type(uint32).max;
        if (s.revealed & bit != 0) revert AlreadyRevealed(id);
        bytes32 found = scoreCommitment(task_, round_, id, scored.salt, scored.words);
        bytes32 expected = bytes32(0);
        if (s.committed & bit != 0) {
            expected = _scoreCommitments[task_][scored.place];
        } else if (s.listed & bit != 0) {
            if (keccak256(abi.encodePacked(list)) != s.list) {
                revert WrongList(s.list, keccak256(abi.encodePacked(list)));
            }
            expected = list[Lanes.popcount(s.listed & (bit - 1))];
        }
        if (expected != found) revert WrongReveal(expected, found);
        if (!Scores.isValid(scored.words, s.present)) revert WrongScores(scored.place);
        s.revealed |= uint16(bit);
        emit ScoreRevealed(task_, round_, id, scored);
    }

    /// @notice Takes the medians of what the scorers revealed, and decides whose updates do not count: once all who committed
    /// have revealed, or their time is over. With scores of no more than half of the scorers all updates count.
    /// @param scores Of those who revealed, by ascending place; all who revealed on chain must be there.
    /// @param unopened Listed commitments that were not revealed, by ascending place.
    /// @param recommenders The task's: a participant of one of them is not scored by whom that one has judged.
    function tallyScores(
        uint256 task_,
        uint32 round_,
        uint32[] calldata wordIndices,
        Scored[] calldata scores,
        bytes32[] calldata unopened,
        address[] calldata recommenders
    ) external {
        // slither-disable-next-line uninitialized-local -- memory is zeroed
        Tally memory tally;
        (tally.task, tally.round) = (task_, round_);
        _beginTally(tally);
        _requireRecommenders(_tasks[task_], recommenders);
        _open(tally, scores, unopened);
        _requireTime(tally);
        if (tally.words.length > tally.half) {
            _ignore(tally, wordIndices, recommenders);
            _judge(tally);
            _exclude(tally, wordIndices);
        }
        uint256 silent = _judgeScorers(tally);
        emit ScoresTallied(task_, round_, scores, tally.limit, tally.outvoted, silent, tally.far);
    }

    /// @notice How a task's latest scored round stands.
    function scoring(uint256 task_) external view returns (Scoring memory) {
        return _scorings[task_];
    }

    /// @notice Bits of the participants of a word whose updates do not count in a round, by its scores.
    function outvotedWord(uint256 task_, uint32 round_, uint256 word) external view returns (uint256) {
        return _outvoted[task_][_place(round_, word)];
    }

    /// @notice A participant's evidence as a scorer for a publisher; empty unless it has failed.
    function scorerEvidence(address publisher, uint32 id)
        external
        view
        returns (uint256 positive, uint256 negative, uint256 missed)
    {
        // slither-disable-next-line unused-return -- false finding: all of it is returned
        return Evidence.unpack(_scorerLane(publisher, id));
    }

    /// @notice What a scorer commits to before anybody reveals.
    function scoreCommitment(uint256 task_, uint32 round_, uint32 id, bytes32 salt, uint256[] calldata words)
        public
        view
        returns (bytes32)
    {
        return keccak256(abi.encode(block.chainid, address(this), task_, round_, id, salt, words));
    }

    /// @dev The task's recommenders are these.
    function _requireRecommenders(Task storage t, address[] calldata recommenders) internal view {
        bytes32 expected = t.params.recommenders;
        bytes32 found = recommenders.length == 0 ? bytes32(0) : keccak256(abi.encode(recommenders));
        if (found != expected) revert WrongList(expected, found);
    }

    /// @dev A round whose scorers can be called by the sender.
    function _callable(uint256 task_, uint32 round_) private returns (Head head) {
        Task storage t = _tasks[task_];
        head = _rounds[task_][round_].head();
        if (!head.stands(RoundStatus.Open)) revert RoundNotOpen(task_, round_);
        if (!head.has(SCORED)) revert NotScored(task_);
        // slither-disable-next-line incorrect-equality -- a round's number, no amount
        if (_scorings[task_].round == round_) revert AlreadyCalled(task_, round_);
        if (_commitsOpen(head) || (head.has(BATCHED) && head.commitsClosedAt() == 0)) revert CommitsAreOpen();
        if (_admitting(head)) revert StillAdmitting(head.commitsClosedAt());
        if (_overdue(t, task_, round_, head)) revert ProposalOverdue();
        _actingSeat(t, task_, _revealsEnd(t, head), true);
    }

    function _call(uint256 task_, uint32 round_, uint256 count, bytes32 updates) private {
        Scoring storage s = _scorings[task_];
        (s.round, s.calledAt, s.drawBlock) = (round_, uint40(block.timestamp), uint64(block.number));
        (s.present, s.committed, s.listed, s.revealed, s.stained) = (uint16(count), 0, 0, 0, 0);
        _endDraw(s, task_);
        // Too few updates make no round, so there is nothing to score.
        bool tallied = count < _tasks[task_].params.quorum;
        uint256 pool = tallied || !_tasks[task_].params.verifiersScore ? 0 : _pools[task_].length;
        (s.drawn, s.isDrawn, s.tallied) = (0, false, tallied);
        s.pool = uint8(pool < MAX_LOOKS ? pool : MAX_LOOKS);
        // Whose draw is known must find all verifiers where they were.
        if (pool != 0) ++_undrawn[task_];
        s.updates = updates;
    }

    /// @dev Nobody is drawn by the latest call any more, so the task's verifiers may move again.
    function _endDraw(Scoring storage s, uint256 task_) private {
        if (s.isDrawn) return;
        s.isDrawn = true;
        if (s.pool != 0) --_undrawn[task_];
    }

    function _calledFor(uint256 task_, uint32 round_) private view returns (Scoring storage s) {
        s = _scorings[task_];
        if (s.round != round_ || round_ == 0) revert NotCalled(task_, round_);
        if (s.tallied) revert AlreadyTallied(task_, round_);
    }

    /// @dev It is the sender's turn in a round that is still to be proposed.
    function _requireTurn(uint256 task_, uint32 round_) private returns (Head head) {
        Task storage t = _tasks[task_];
        head = _rounds[task_][round_].head();
        if (!head.stands(RoundStatus.Open)) revert RoundNotOpen(task_, round_);
        if (_overdue(t, task_, round_, head)) revert ProposalOverdue();
        _actingSeat(t, task_, _proposalDue(t, task_, round_, head), true);
    }

    /// @dev Of these scorers, who signed and has not committed itself, and the commitments of those.
    function _signed(
        Scoring storage s,
        uint256 task_,
        uint256 places,
        bytes32[] calldata commitments,
        bytes[] calldata signatures
    ) private view returns (uint256 listed, bytes32[] memory list) {
        list = new bytes32[](commitments.length);
        Signing memory signing = Signing(_domain(), task_, s.round, s.committed, _packed(s));
        (uint256 next, uint256 count) = (0, 0);
        for (uint256 place = 0; places >> place != 0; ++place) {
            if ((places >> place) & 1 == 0) continue;
            if (_isSigned(signing, place, commitments[next], signatures[next])) {
                listed |= 1 << place;
                list[count++] = commitments[next];
            }
            ++next;
        }
        assembly ("memory-safe") {
            mstore(list, count)
        }
    }

    function _isSigned(Signing memory signing, uint256 place, bytes32 commitment, bytes calldata signature)
        private
        view
        returns (bool)
    {
        if ((signing.committed >> place) & 1 != 0) return false;
        uint32 id = _at(signing.scorers, place);
        bytes32 message = keccak256(abi.encode(SCORES, signing.task, signing.round, id, commitment));
        return _signerIn(signing.domain, message, signature) == _participants[id].signer;
    }

    /// @dev All who were drawn, out of two reads.
    function _packed(Scoring storage s) private view returns (uint256[2] memory ids) {
        uint32[15] storage all = s.scorers;
        assembly ("memory-safe") {
            mstore(ids, sload(all.slot))
            mstore(add(ids, 32), sload(add(all.slot, 1)))
        }
    }

    function _at(uint256[2] memory ids, uint256 place) private pure returns (uint32) {
        // slither-disable-next-line weak-prng -- a lane's place, not chance
        return uint32(ids[place / LANES] >> (LANE_BITS * (place % LANES)));
    }

    function _beginTally(Tally memory tally) private {
        Scoring storage s = _calledFor(tally.task, tally.round);
        tally.batched = _requireTurn(tally.task, tally.round).has(BATCHED);
        // Two scorers or fewer decide nothing.
        (tally.updates, tally.drawn, tally.scorers) = (s.present, s.drawn, _packed(s));
        tally.half = tally.drawn < LEAST_MEDIAN ? MOST_DRAWS : tally.drawn / 2;
        s.tallied = true;
    }

    function _requireCommitting(Scoring storage s, uint256 task_) private view {
        uint256 until = uint256(s.calledAt) + _tasks[task_].params.scorePeriod;
        if (block.timestamp >= until) revert NotInTime(0, until);
    }

    function _allCommitted(Scoring storage s) private view returns (bool) {
        return s.isDrawn && s.committed | s.listed == (1 << s.drawn) - 1;
    }

    function _placeOf(Scoring storage s, uint32 id) private view returns (uint256 place) {
        for (place = 0; place < s.drawn; ++place) {
            if (s.scorers[place] == id) return place;
        }
        revert NotScorer(id);
    }

    /// @dev Keeps whose updates are scored, and counts them.
    function _list(uint256 task_, uint32 round_, bool batched, uint32[] calldata wordIndices, uint256[] calldata words)
        private
        returns (uint256 count)
    {
        if (words.length != (batched ? wordIndices.length : 0)) revert LengthMismatch();
        _requireWhole(task_, round_, wordIndices);
        for (uint256 i = 0; i < wordIndices.length; ++i) {
            uint256 selected = _selectedWord(task_, round_, wordIndices[i]);
            uint256 present = _revealed[task_][_place(round_, wordIndices[i])].value & selected;
            if (batched) {
                if (words[i] & ~selected != 0 || present & ~words[i] != 0) revert WrongList(0, bytes32(words[i]));
                present = words[i];
                _listed[task_][wordIndices[i]] = present;
            }
            count += Lanes.popcount(present);
        }
    }

    /// @dev These words are all that a round selects, and no others.
    function _requireWhole(uint256 task_, uint32 round_, uint32[] calldata wordIndices) private view {
        uint256 selected = 0;
        for (uint256 i = 0; i < wordIndices.length; ++i) {
            uint256 word = _selectedWord(task_, round_, wordIndices[i]);
            if (word == 0 || (i > 0 && wordIndices[i] <= wordIndices[i - 1])) revert WordsNotAscending();
            selected += Lanes.popcount(word);
        }
        uint256 expected = _rounds[task_][round_].selected;
        if (selected != expected) revert NotEverybodyJudged(selected, expected);
    }

    function _hashUpdates(bool batched, uint256 count, Updates calldata updates) private view returns (bytes32) {
        uint256 expected = batched ? count : 0;
        if (updates.digests.length != expected) revert WrongCount(updates.digests.length, expected);
        if (updates.lengthWords.length != (updates.digests.length + LANES - 1) / LANES) revert LengthMismatch();
        if (!batched) return bytes32(0);
        // slither-disable-next-line tx-origin -- no authorisation: it keeps the data where everybody can read it
        if (msg.sender != tx.origin || msg.sender.code.length != 0) revert ThroughContract(msg.sender);
        // The number of lengths follows from that of digests, so no two pairs have the same bytes.
        // slither-disable-next-line encode-packed-collision
        return keccak256(abi.encodePacked(updates.digests, updates.lengthWords));
    }

    /// @dev Who has failed as a scorer is passed over as often as it has lost of its reputation.
    function _drawOnce(Scoring storage s, uint256 task_, uint32 round_, uint32[] calldata wordIndices) private {
        if (s.isDrawn) return;
        if (block.number <= s.drawBlock) revert NotInTime(s.drawBlock + 1, type(uint256).max);
        bytes32 seed = blockhash(s.drawBlock);
        _endDraw(s, task_);
        uint32[] memory found = new uint32[](0);
        if (seed != bytes32(0)) {
            seed = keccak256(abi.encode(seed, task_, round_));
            _requireWhole(task_, round_, wordIndices);
            found = _draw(s, task_, wordIndices, seed);
        }
        emit ScorersDrawn(task_, round_, seed, found);
    }

    function _draw(Scoring storage s, uint256 task_, uint32[] calldata wordIndices, bytes32 seed)
        private
        returns (uint32[] memory found)
    {
        Draw memory d = _poolOf(s, task_, wordIndices);
        d.seed = seed;
        found = new uint32[](_tasks[task_].params.scorers);
        uint256 count = 0;
        for (uint256 attempt = 0; attempt < MOST_DRAWS && count < found.length && d.size != 0; ++attempt) {
            (uint32 id, bool stained) = _candidate(d, wordIndices, attempt);
            if (id == type(uint32).max || _isAmong(found, count, id)) continue;
            if (stained) d.stained |= 1 << count;
            found[count++] = id;
        }
        (s.drawn, s.stained) = (uint8(count), uint16(d.stained));
        assembly ("memory-safe") {
            mstore(found, count)
        }
        _keep(s, found);
    }

    /// @dev Whom an attempt draws, and whether it has ever failed; the greatest number if nobody.
    function _candidate(Draw memory d, uint32[] calldata wordIndices, uint256 attempt)
        private
        view
        returns (uint32 id, bool stained)
    {
        uint256 value = uint256(keccak256(abi.encode(d.seed, attempt)));
        // slither-disable-next-line weak-prng -- of a block that nobody knew when the scorers were called
        uint256 nth = value % d.size;
        id = d.verifiers ? _verifier(d, nth) : _nthSelected(wordIndices, d.words, nth);
        // slither-disable-next-line weak-prng -- a bit's place, not chance
        stained = (_stained[d.publisher][id / 256] >> (id % 256)) & 1 != 0;
        if (stained && _isPassedOver(_scorerLane(d.publisher, id), value >> 128)) id = type(uint32).max;
    }

    function _poolOf(Scoring storage s, uint256 task_, uint32[] calldata wordIndices)
        private
        view
        returns (Draw memory d)
    {
        (d.task, d.publisher) = (task_, _tasks[task_].publisher);
        (d.calledAt, d.drawBlock) = (s.calledAt, s.drawBlock);
        d.verifiers = _tasks[task_].params.verifiersScore;
        d.size = d.verifiers ? s.pool : _rounds[task_][s.round].selected;
        if (d.verifiers) return d;
        d.words = new uint256[](wordIndices.length);
        for (uint256 i = 0; i < wordIndices.length; ++i) {
            d.words[i] = _selectedWord(task_, s.round, wordIndices[i]);
        }
    }

    /// @dev Writes no slot twice, nor one that nobody is in.
    function _keep(Scoring storage s, uint32[] memory found) private {
        uint256[2] memory ids;
        for (uint256 place = 0; place < found.length; ++place) {
            // slither-disable-next-line weak-prng -- a lane's place, not chance
            ids[place / LANES] |= uint256(found[place]) << (LANE_BITS * (place % LANES));
        }
        uint32[15] storage all = s.scorers;
        assembly ("memory-safe") {
            sstore(all.slot, mload(ids))
            if gt(mload(found), LANES) { sstore(add(all.slot, 1), mload(add(ids, 32))) }
        }
    }

    /// @dev The verifier at a place; the greatest number if it does not serve.
    function _verifier(Draw memory d, uint256 place) private view returns (uint32 id) {
        id = _pools[d.task][place];
        if (!_servedAt(d.task, id, d.calledAt, d.drawBlock + 1)) id = type(uint32).max;
    }

    function _isPassedOver(uint256 lane, uint256 chance) private pure returns (bool) {
        // slither-disable-next-line unused-return -- the reputation alone is asked for
        (,,, uint256 held) = Evidence.opinion(lane);
        // slither-disable-next-line weak-prng -- of a block that nobody knew
        return held < FULL_SCORER && chance % FULL_SCORER >= held;
    }

    function _isAmong(uint32[] memory ids, uint256 count, uint32 id) private pure returns (bool) {
        for (uint256 i = 0; i < count; ++i) {
            if (ids[i] == id) return true;
        }
        return false;
    }

    /// @dev The participant that so many of the selected come before.
    function _nthSelected(uint32[] calldata wordIndices, uint256[] memory words, uint256 nth)
        private
        pure
        returns (uint32)
    {
        for (uint256 i = 0; i < words.length; ++i) {
            uint256 word = words[i];
            uint256 count = Lanes.popcount(word);
            if (nth < count) return uint32(uint256(wordIndices[i]) * 256 + _nthBit(word, nth));
            nth -= count;
        }
        assert(false);
    }

    /// @dev The place of a word's bit that so many others come before.
    function _nthBit(uint256 word, uint256 nth) private pure returns (uint256 place) {
        unchecked {
            for (uint256 width = 128; width != 4; width >>= 1) {
                uint256 count = Lanes.popcount((word >> place) & ((1 << width) - 1));
                if (nth >= count) (nth, place) = (nth - count, place + width);
            }
            for (;; ++place) {
                if ((word >> place) & 1 == 0) continue;
                if (nth-- == 0) return place;
            }
        }
    }

    /// @dev Each of the scores is what its scorer committed to.
    function _open(Tally memory tally, Scored[] calldata scores, bytes32[] calldata unopened) private view {
        uint256 onList = _scorings[tally.task].listed;
        bytes32[] memory list = new bytes32[](Lanes.popcount(onList));
        tally.words = new uint256[][](scores.length);
        (uint256 next, uint256 listed, uint256 closed) = (0, 0, 0);
        for (uint256 place = 0; place < tally.drawn; ++place) {
            bool isListed = (onList >> place) & 1 != 0;
            if (next == scores.length || scores[next].place != place) {
                if (!isListed) continue;
                if (closed == unopened.length) revert LengthMismatch();
                list[listed++] = unopened[closed++];
                continue;
            }
            bytes32 found = _opened(tally, next, scores[next]);
            if (isListed) list[listed++] = found;
            else _requireOpens(tally.task, place, found);
            ++next;
            tally.places |= 1 << place;
        }
        if (next != scores.length || closed != unopened.length) revert LengthMismatch();
        _requireComplete(tally, list);
    }

    /// @dev The list is the one that was posted, and all who revealed on chain are there.
    function _requireComplete(Tally memory tally, bytes32[] memory list) private view {
        Scoring storage s = _scorings[tally.task];
        if (list.length != 0 && keccak256(abi.encodePacked(list)) != s.list) {
            revert WrongList(s.list, keccak256(abi.encodePacked(list)));
        }
        if (s.revealed & ~tally.places != 0) revert MissingScores(s.revealed & ~tally.places);
    }

    function _opened(Tally memory tally, uint256 next, Scored calldata scored) private view returns (bytes32) {
        uint256[] memory words = scored.words;
        if (!Scores.isValid(words, tally.updates)) revert WrongScores(scored.place);
        tally.words[next] = words;
        return scoreCommitment(tally.task, tally.round, _at(tally.scorers, scored.place), scored.salt, scored.words);
    }

    function _requireOpens(uint256 task_, uint256 place, bytes32 found) private view {
        bool committed = (_scorings[task_].committed >> place) & 1 != 0;
        bytes32 expected = committed ? _scoreCommitments[task_][place] : bytes32(0);
        if (expected != found) revert WrongReveal(expected, found);
    }

    /// @dev Nobody is kept from committing or revealing. Who was not drawn by now never is.
    function _requireTime(Tally memory tally) private {
        Scoring storage s = _scorings[tally.task];
        uint256 period = _tasks[tally.task].params.scorePeriod;
        bool closed = _allCommitted(s) || (s.isDrawn && block.timestamp >= s.calledAt + period);
        if (closed && tally.places == s.committed | s.listed) return;
        uint256 from = s.calledAt + 2 * period;
        if (block.timestamp < from) revert NotInTime(from, type(uint256).max);
        _endDraw(s, tally.task);
    }

    /// @dev Takes out the scores of a scorer's own update, and of the updates of who recommends it. Who may not score an update
    /// is none of those of whom more than half must: else who has judged many participants would be judged by nobody.
    function _ignore(Tally memory tally, uint32[] calldata wordIndices, address[] calldata recommenders) private view {
        _findPresent(tally, wordIndices);
        tally.excused = new uint256[](tally.words.length);
        tally.barred = new uint256[]((tally.updates + Scores.LANES - 1) / Scores.LANES);
        uint256[] memory owned = _owned(recommenders);
        uint256 next = 0;
        for (uint256 place = 0; place < tally.drawn; ++place) {
            uint256 row = (tally.places >> place) & 1 == 0 ? type(uint256).max : next++;
            uint32 id = _at(tally.scorers, place);
            _erase(tally, row, wordIndices, id);
            for (uint256 i = 0; i < owned.length; ++i) {
                uint256 known = owned[i];
                // slither-disable-next-line incorrect-equality -- zero marks absence, it is no amount
                if (known == 0 || known == uint256(id) + 1 || _lane(recommenders[i], id) == 0) continue;
                _erase(tally, row, wordIndices, uint32(known - 1));
            }
        }
    }

    /// @dev The participants, plus one, that accounts own, each once; else zero.
    function _owned(address[] calldata accounts) private view returns (uint256[] memory owned) {
        owned = new uint256[](accounts.length);
        for (uint256 i = 0; i < owned.length; ++i) {
            uint256 known = _byOwner[accounts[i]];
            for (uint256 j = 0; j < i && known != 0; ++j) {
                if (owned[j] == known) known = 0;
            }
            owned[i] = known;
        }
    }

    /// @dev Whose updates are scored, in each of the round's words.
    function _findPresent(Tally memory tally, uint32[] calldata wordIndices) private view {
        _requireWhole(tally.task, tally.round, wordIndices);
        tally.present = new uint256[](wordIndices.length);
        for (uint256 i = 0; i < wordIndices.length; ++i) {
            uint256 word = wordIndices[i];
            tally.present[i] = tally.batched
                ? _listed[tally.task][word]
                : _selectedWord(tally.task, tally.round, word) & _revealed[tally.task][_place(tally.round, word)].value;
        }
    }

    /// @dev Erases a scorer's score of a participant's update, if there is one: it need not have given any, nor have revealed
    /// any, of which `row` is beyond all words.
    function _erase(Tally memory tally, uint256 row, uint32[] calldata wordIndices, uint32 id) private pure {
        uint256 rank = 0;
        for (uint256 i = 0; i < wordIndices.length && wordIndices[i] <= id / 256; ++i) {
            uint256 present = tally.present[i];
            if (wordIndices[i] < id / 256) {
                rank += Lanes.popcount(present);
                continue;
            }
            // slither-disable-next-line weak-prng -- a bit's place, not chance
            uint256 bit = 1 << (id % 256);
            if (present & bit == 0) return;
            rank += Lanes.popcount(present & (bit - 1));
            // slither-disable-next-line weak-prng -- a lane's place, not chance
            uint256 shift = Scores.LANE_BITS * (rank % Scores.LANES);
            rank /= Scores.LANES;
            tally.barred[rank] += 1 << shift;
            if (row >= tally.words.length) return;
            tally.words[row][rank] &= ~(uint256(0xffff) << shift);
            ++tally.excused[row];
        }
    }

    /// @dev Medians of updates, and the limit above which these exclude.
    function _judge(Tally memory tally) private view {
        uint256[] memory medians = new uint256[]((tally.updates + Scores.LANES - 1) / Scores.LANES);
        uint256[] memory column = new uint256[](tally.words.length);
        for (uint256 i = 0; i < medians.length; ++i) {
            Scores.column(tally.words, i, column);
            medians[i] = Scores.medians(column, tally.barred[i], tally.drawn);
            tally.count += Scores.count(Scores.given(medians[i]) & Scores.everywhere(1));
        }
        if (tally.count < LEAST_MEDIAN) return;
        tally.medians = medians;
        uint256 middle = Scores.median(medians, tally.count);
        TaskParams storage p = _tasks[tally.task].params;
        // Distances are one more than they are.
        uint256 spread = Scores.median(Scores.distances(medians, middle), tally.count) - 1;
        uint256 band = (p.scoreSpread * spread) / SPREAD_PARTS;
        if (band < p.scoreFloor) band = p.scoreFloor;
        tally.band = band < Scores.MOST ? band : Scores.MOST;
        tally.limit = middle + band < Scores.MOST ? middle + band : Scores.MOST;
        _measureScorers(tally);
    }

    /// @dev Who scored far from the medians, or left updates out that most others could score.
    function _measureScorers(Tally memory tally) private pure {
        for (uint256 j = 0; j < tally.words.length; ++j) {
            (uint256 both, uint256 far) = Scores.compare(tally.words[j], tally.medians, tally.band);
            uint256 asked = tally.count > tally.excused[j] ? tally.count - tally.excused[j] : 0;
            if (asked > both) (both, far) = (asked, far + asked - both);
            if (FAR_PART * far > both) tally.far |= 1 << j;
        }
    }

    /// @dev Marks whose median is above the limit.
    function _exclude(Tally memory tally, uint32[] calldata wordIndices) private {
        uint256 count = 0;
        for (uint256 i = 0; i < tally.medians.length; ++i) {
            count += Scores.count(Scores.above(tally.medians[i], tally.limit));
        }
        if (count == 0) return;
        tally.outvoted = new uint32[](count);
        (uint256 rank, uint256 next) = (0, 0);
        for (uint256 i = 0; i < wordIndices.length; ++i) {
            uint256 present = tally.present[i];
            uint256 bits = 0;
            for (uint256 place = 0; place < 256 && present >> place != 0; ++place) {
                if ((present >> place) & 1 == 0) continue;
                if (!_isAbove(tally, rank++)) continue;
                bits |= 1 << place;
                tally.outvoted[next++] = uint32(uint256(wordIndices[i]) * 256 + place);
            }
            if (bits != 0) _outvoted[tally.task][_place(tally.round, wordIndices[i])] = bits;
        }
    }

    function _isAbove(Tally memory tally, uint256 rank) private pure returns (bool) {
        uint256 flags = Scores.above(tally.medians[rank / Scores.LANES], tally.limit);
        // slither-disable-next-line weak-prng -- a lane's place, not chance
        return (flags >> (Scores.LANE_BITS * (rank % Scores.LANES))) & 1 != 0;
    }

    /// @dev Who was silent or far from the medians loses reputation as a scorer; who was not regains what it has lost. Both
    /// are evidence against it: a missed round alone leaves an opinion as uncertain as a newcomer's, and would cost nothing.
    /// Bits of who is far change from places among those who revealed to places among all.
    function _judgeScorers(Tally memory tally) private returns (uint256 silent) {
        address publisher = _tasks[tally.task].publisher;
        uint256 stained = _scorings[tally.task].stained;
        (uint256 next, uint256 far) = (0, 0);
        for (uint256 place = 0; place < tally.drawn; ++place) {
            uint256 verdict = Verdicts.ACCEPTED;
            if ((tally.places >> place) & 1 == 0) {
                (verdict, silent) = (Verdicts.FIRST_STATISTICAL, silent | (1 << place));
            } else if ((tally.far >> next++) & 1 != 0) {
                (verdict, far) = (Verdicts.FIRST_STATISTICAL, far | (1 << place));
            }
            // Nothing is written of who never failed.
            // slither-disable-next-line incorrect-equality -- a verdict, no amount
            if (verdict == Verdicts.ACCEPTED && (stained >> place) & 1 == 0) continue;
            _judgeScorer(publisher, _at(tally.scorers, place), verdict);
        }
        tally.far = far;
    }

    function _judgeScorer(address publisher, uint32 id, uint256 verdict) private {
        // slither-disable-next-line weak-prng -- a bit's place, not chance
        _stained[publisher][id / 256] |= 1 << (id % 256);
        Word storage slot = _scoring[publisher][id / LANES];
        // slither-disable-next-line weak-prng -- a lane's place, not chance
        uint256 shift = LANE_BITS * (id % LANES);
        uint256 lane = Evidence.afterVerdict((slot.value >> shift) & type(uint32).max, verdict);
        slot.value = (slot.value & ~(uint256(type(uint32).max) << shift)) | (lane << shift);
    }

    function _scorerLane(address publisher, uint32 id) private view returns (uint256) {
        // slither-disable-next-line weak-prng -- a lane's place, not chance
        return (_scoring[publisher][id / LANES].value >> (LANE_BITS * (id % LANES))) & type(uint32).max;
    }
}
