// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Currency} from "./Currency.sol";
import {Evidence, Verdicts} from "./Evidence.sol";
import {Registry} from "./Registry.sol";

/// @title The ledger of federated training
/// @notice Records who took part in which round of which task, what each participant delivered, how it was judged and
/// what it earned. A round's phase follows from block time and from what was posted; anyone may push an overdue round
/// on, and nobody's refusal or silence stops a task.
contract FedLedger is Registry {
    /// @notice Version of the records.
    uint256 public constant protocolVersion = 1;
    /// @notice Most participants of a task, and most that a round selects.
    uint256 public constant MAX_PARTICIPANTS = 4096;
    uint256 public constant MAX_SELECTED = 1024;
    /// @notice Most slots of eight participants that a round selects from, so that settling it fits 16M gas.
    uint256 public constant MAX_SLOTS = 256;
    uint256 public constant MAX_UNFINAL = 8;
    uint256 public constant MAX_ROUNDS = 65_535;
    /// @notice Rounds in a row below quorum after which publisher or aggregator may end a task.
    uint256 public constant VOIDS_TO_FINISH = 3;
    uint8 private constant RANDOMNESS_BEACON = 1;
    uint256 private constant LANES = 8;
    uint256 private constant LANE_BITS = 32;
    uint256 private constant SLOTS_PER_WORD = 32;

    uint256 private _taskCount;
    mapping(uint256 task => Task) private _tasks;
    mapping(uint256 task => mapping(uint256 word => uint256)) private _enrolled;
    mapping(uint256 task => bytes32) private _beacons;
    mapping(uint256 task => mapping(uint32 round => Round)) private _rounds;
    mapping(uint256 task => mapping(uint32 round => mapping(uint256 word => uint256))) private _selected;
    mapping(uint256 task => mapping(uint32 round => mapping(uint256 word => uint256))) private _committed;
    mapping(uint256 task => mapping(uint32 round => mapping(uint256 word => uint256))) private _revealed;
    mapping(uint256 task => mapping(uint32 round => mapping(uint32 participant => bytes32))) private _commitments;
    mapping(uint256 task => mapping(uint32 round => bytes32)) private _salts;
    mapping(address publisher => mapping(uint256 slot => uint256)) private _evidence;
    mapping(uint256 task => mapping(uint256 slot => uint256)) private _credits;

    /// @param minStake Least stake of an active participant, in wei.
    /// @param delay Seconds between the request to leave and the return of the stake.
    constructor(uint96 minStake, uint40 delay) Registry(minStake, delay) {}

    /// @notice Posts a task with its whole budget in escrow.
    function postTask(TaskParams calldata p) external payable returns (uint256 id) {
        _checkParams(p);
        uint256 budget = uint256(p.rounds) * p.unitsPerRound * p.creditUnit;
        if (msg.value != budget) revert WrongBudget(budget, msg.value);
        id = ++_taskCount;
        Task storage t = _tasks[id];
        t.publisher = msg.sender;
        t.params = p;
        t.enrolDeadline = uint40(block.timestamp) + p.enrolPeriod;
        t.lastFinalAt = uint40(block.timestamp);
        t.latestModel = p.model.digest;
        emit TaskPosted(id, msg.sender, p, t.enrolDeadline);
    }

    /// @notice Enrols the sender's participant (as owner or signer) in a task.
    function enrol(uint256 task_) external {
        Task storage t = _open(task_);
        uint32 id = _idOfSender();
        if (t.currentRound != 0 || block.timestamp >= t.enrolDeadline) revert EnrolmentClosed(task_);
        if (t.enrolled == t.params.maxParticipants) revert TaskFull(task_);
        _requireStaked(t, id);
        _requireReputation(t, id);
        (uint256 word, uint256 bit) = _place(id);
        if (_enrolled[task_][word] & bit != 0) revert AlreadyEnrolled(task_, id);
        _enrolled[task_][word] |= bit;
        ++t.enrolled;
        emit Enrolled(task_, id);
    }

    /// @notice Ends a task and returns what it did not spend to its publisher's free balance.
    /// @dev Anyone may end a task that is complete, was stopped by its rule, or lies idle; publisher and aggregator also
    /// one that cannot gather a quorum. Earned credits stay.
    function finishTask(uint256 task_) external {
        Task storage t = _open(task_);
        // INVARIANT: no round is in flight, so nothing that was earned can be refunded.
        if (t.currentRound != t.finalizedRound || !_finishable(t)) revert TaskNotFinishable(task_);
        t.finished = true;
        uint256 units = uint256(t.params.rounds) * t.params.unitsPerRound - t.spentUnits;
        uint256 refund = units * t.params.creditUnit;
        emit TaskFinished(task_, refund);
        _credit(t.publisher, refund);
    }

    /// @notice Opens the next round.
    /// @param wordIndices Ascending indices of 256-participant words.
    /// @param words Bits of the selected participants in each word.
    function openRound(uint256 task_, uint32[] calldata wordIndices, uint256[] calldata words) external {
        Task storage t = _open(task_);
        if (msg.sender != t.params.aggregator) revert NotAggregator(msg.sender);
        if (t.currentRound == 0) {
            if (t.enrolled < t.params.minParticipants) {
                revert TooFewParticipants(t.enrolled, t.params.minParticipants);
            }
            if (t.enrolled != t.params.maxParticipants && block.timestamp < t.enrolDeadline) {
                revert EnrolmentOpen(task_);
            }
        }
        if (_rounds[task_][t.currentRound].status == RoundStatus.Open) revert PreviousRoundOpen(task_, t.currentRound);
        uint32 unfinal = t.currentRound - t.finalizedRound;
        if (unfinal >= t.params.maxUnfinal) revert TooManyUnfinal(task_);
        // INVARIANT: no more rounds can be paid than the budget covers.
        if (t.stopSettled || t.settledRounds + unfinal >= t.params.rounds) revert RoundsExhausted(task_);
        uint32 number = ++t.currentRound;
        Round storage r = _rounds[task_][number];
        r.status = RoundStatus.Open;
        r.openedAt = uint40(block.timestamp);
        r.openedBlock = uint40(block.number);
        r.baseModel = t.latestModel;
        r.selected = _select(task_, number, wordIndices, words, t.params.quorum);
        emit RoundOpened(task_, number, t.latestModel, wordIndices, words);
    }

    /// @notice Commits the sender's participant to an update; see `commitmentOf`.
    function commitUpdate(uint256 task_, uint32 round_, bytes32 commitment) external {
        Task storage t = _tasks[task_];
        Round storage r = _openRound(task_, round_);
        if (!_commitsOpen(t, r)) revert CommitsAreClosed();
        if (commitment == bytes32(0)) revert EmptyCommitment();
        uint32 id = idOfSigner(msg.sender);
        _requireStaked(t, id);
        (uint256 word, uint256 bit) = _place(id);
        // slither-disable-next-line incorrect-equality -- one bit, not an amount
        if (_selected[task_][round_][word] & bit == 0) revert NotSelected(id);
        uint256 committed = _committed[task_][round_][word];
        if (committed & bit != 0) revert AlreadyCommitted(id);
        _committed[task_][round_][word] = committed | bit;
        _commitments[task_][round_][id] = commitment;
        emit UpdateCommitted(task_, round_, id, msg.sender, commitment);
        if (++r.committed == r.selected) _closeCommits(task_, round_, r);
    }

    /// @notice Reveals the update that the sender committed to.
    function revealUpdate(uint256 task_, uint32 round_, ContentRef calldata update, bytes32 salt) external {
        Task storage t = _tasks[task_];
        Round storage r = _openRound(task_, round_);
        if (_commitsOpen(t, r)) revert CommitsAreOpen();
        if (!_revealsOpen(t, r)) revert RevealsAreClosed();
        uint32 id = idOfSigner(msg.sender);
        bytes32 commitment = _commitments[task_][round_][id];
        if (commitment == bytes32(0)) revert NotCommitted(id);
        // INVARIANT: the commitment names its sender, so a copied one cannot be opened.
        bytes32 found = commitmentOf(task_, round_, msg.sender, r.baseModel, update, salt);
        if (found != commitment) revert WrongReveal(commitment, found);
        delete _commitments[task_][round_][id];
        (uint256 word, uint256 bit) = _place(id);
        _revealed[task_][round_][word] |= bit;
        if (t.params.randomness == RANDOMNESS_BEACON) _salts[task_][round_] ^= keccak256(abi.encode(id, salt));
        emit UpdateRevealed(task_, round_, id, update.digest, update.length, salt);
        if (++r.revealed == r.committed) {
            r.revealsClosedAt = uint40(block.timestamp);
            emit RevealsClosed(task_, round_);
        }
    }

    /// @notice Proposes a round's outcome under a bond, taken from the aggregator's free balance and the value sent.
    /// @param verdictWords `slot << 64 | eight verdict bytes`, slots ascending; slot s covers participants 8s to 8s+7.
    /// @param shareWords Eight 32-bit pay shares for each verdict word.
    function proposeRound(
        uint256 task_,
        uint32 round_,
        Proposal calldata proposal,
        uint256[] calldata verdictWords,
        uint256[] calldata shareWords
    ) external payable {
        Task storage t = _tasks[task_];
        Round storage r = _openRound(task_, round_);
        if (msg.sender != t.params.aggregator) revert NotAggregator(msg.sender);
        _requireProposable(t, r);
        _credit(msg.sender, msg.value);
        _debit(msg.sender, t.params.bond);
        _checkWords(task_, round_, r, verdictWords, shareWords, t.params.unitsPerRound);
        r.status = RoundStatus.Proposed;
        r.proposedAt = uint40(block.timestamp);
        r.modelDigest = proposal.model.digest;
        r.proposalHash = keccak256(abi.encode(proposal, verdictWords, shareWords));
        t.latestModel = proposal.model.digest;
        emit RoundProposed(task_, round_, msg.sender, proposal, verdictWords, shareWords, r.baseModel);
    }

    /// @notice Applies a proposed round after its challenge window; rounds settle in order.
    function settleRound(
        uint256 task_,
        uint32 round_,
        Proposal calldata proposal,
        uint256[] calldata verdictWords,
        uint256[] calldata shareWords
    ) external {
        Task storage t = _open(task_);
        Round storage r = _rounds[task_][round_];
        if (r.status != RoundStatus.Proposed) revert NotProposed(task_, round_);
        if (round_ != t.finalizedRound + 1) revert WrongRound(round_, t.finalizedRound + 1);
        uint256 until = uint256(r.proposedAt) + t.params.challengeWindow;
        if (block.timestamp < until) revert WindowOpen(until);
        bytes32 found = keccak256(abi.encode(proposal, verdictWords, shareWords));
        if (found != r.proposalHash) revert WrongProposal(r.proposalHash, found);
        r.status = RoundStatus.Settled;
        uint256 units = _apply(task_, t.publisher, verdictWords, shareWords);
        t.spentUnits += uint32(units);
        ++t.settledRounds;
        t.consecutiveVoids = 0;
        if (proposal.stop) t.stopSettled = true;
        _finalize(task_, round_, t);
        emit RoundSettled(task_, round_, t.spentUnits);
        _credit(t.params.aggregator, t.params.bond);
    }

    /// @notice Voids a round that is below quorum or was not proposed in time; nobody loses anything by it.
    function voidRound(uint256 task_, uint32 round_) external {
        Task storage t = _tasks[task_];
        Round storage r = _openRound(task_, round_);
        if (!_overdue(t, r)) revert NotOverdue(task_, round_);
        if (round_ != t.finalizedRound + 1) revert WrongRound(round_, t.finalizedRound + 1);
        r.status = RoundStatus.Voided;
        if (t.consecutiveVoids < type(uint16).max) ++t.consecutiveVoids;
        _finalize(task_, round_, t);
        emit RoundVoided(task_, round_);
    }

    /// @notice Pays a participant's credit in a task to its payout address; anyone may call.
    function withdrawCredit(uint256 task_, uint32 id) external nonReentrant {
        Task storage t = _existing(task_);
        uint256 slot = id / LANES;
        uint256 shift = LANE_BITS * (id % LANES);
        uint256 word = _credits[task_][slot];
        uint256 units = (word >> shift) & type(uint32).max;
        if (units == 0) revert NoCredit(task_, id);
        word &= ~(uint256(type(uint32).max) << shift);
        _credits[task_][slot] = word;
        uint256 amount = units * t.params.creditUnit;
        address payout = _participant(id).payout;
        emit CreditsUpdated(task_, slot, word);
        emit CreditWithdrawn(task_, id, payout, amount);
        t.params.token.transfer(payout, amount);
    }

    /// @notice What binds a sender to one update before anybody else can see it.
    function commitmentOf(
        uint256 task_,
        uint32 round_,
        address sender,
        bytes32 baseModel,
        ContentRef calldata update,
        bytes32 salt
    ) public view returns (bytes32) {
        return keccak256(
            abi.encode(
                block.chainid, address(this), task_, round_, sender, baseModel, update.digest, update.length, salt
            )
        );
    }

    /// @notice How many tasks were ever posted; their ids start at 1.
    function taskCount() external view returns (uint256) {
        return _taskCount;
    }

    /// @notice A task's record.
    function task(uint256 id) external view returns (Task memory) {
        return _existing(id);
    }

    /// @notice A round's record.
    function round(uint256 task_, uint32 round_) external view returns (Round memory) {
        return _rounds[task_][round_];
    }

    /// @notice The phase of a task's current round.
    function phase(uint256 task_) external view returns (Phase) {
        Task storage t = _existing(task_);
        if (t.finished) return Phase.Finished;
        if (t.currentRound == 0) return block.timestamp < t.enrolDeadline ? Phase.Enrolling : Phase.Idle;
        Round storage r = _rounds[task_][t.currentRound];
        if (r.status == RoundStatus.Proposed) {
            bool over = block.timestamp >= uint256(r.proposedAt) + t.params.challengeWindow;
            return over ? Phase.Settleable : Phase.Challenging;
        }
        if (r.status != RoundStatus.Open) return Phase.Idle;
        if (_commitsOpen(t, r)) return Phase.Committing;
        if (_revealsOpen(t, r)) return Phase.Revealing;
        return _overdue(t, r) ? Phase.Overdue : Phase.Proposing;
    }

    /// @notice The task's randomness beacon: zero until a round with `randomness = beacon` settles.
    function beacon(uint256 task_) external view returns (bytes32) {
        return _beacons[task_];
    }

    /// @notice Bits of the enrolled participants `256 · word` and up.
    function enrolledWord(uint256 task_, uint256 word) external view returns (uint256) {
        return _enrolled[task_][word];
    }

    /// @notice Bits of the participants selected for a round.
    function selectedWord(uint256 task_, uint32 round_, uint256 word) external view returns (uint256) {
        return _selected[task_][round_][word];
    }

    /// @notice Bits of the participants that committed in a round.
    function committedWord(uint256 task_, uint32 round_, uint256 word) external view returns (uint256) {
        return _committed[task_][round_][word];
    }

    /// @notice Bits of the participants that revealed in a round.
    function revealedWord(uint256 task_, uint32 round_, uint256 word) external view returns (uint256) {
        return _revealed[task_][round_][word];
    }

    /// @notice Evidence of the participants `8 · slot` and up with a publisher, 32 bits each.
    function evidenceWord(address publisher, uint256 slot) external view returns (uint256) {
        return _evidence[publisher][slot];
    }

    /// @notice Credits of the participants `8 · slot` and up in a task, 32 bits each.
    function creditWord(uint256 task_, uint256 slot) external view returns (uint256) {
        return _credits[task_][slot];
    }

    /// @notice A participant's credit in a task, in units.
    function creditOf(uint256 task_, uint32 id) external view returns (uint256) {
        return (_credits[task_][id / LANES] >> (LANE_BITS * (id % LANES))) & type(uint32).max;
    }

    /// @notice A participant's evidence with a publisher.
    function evidence(address publisher, uint32 id)
        external
        view
        returns (uint256 positive, uint256 negative, uint256 missed)
    {
        // slither-disable-next-line unused-return -- false finding: all of it is returned
        return Evidence.unpack(_lane(publisher, id));
    }

    /// @notice The opinion that a publisher's evidence gives of a participant, in parts per million.
    function opinion(address publisher, uint32 id)
        external
        view
        returns (uint256 belief, uint256 disbelief, uint256 uncertainty, uint256 reputation_)
    {
        // slither-disable-next-line unused-return -- false finding: all of it is returned
        return Evidence.opinion(_lane(publisher, id));
    }

    /// @notice A participant's reputation with a publisher, in parts per million.
    function reputation(address publisher, uint32 id) public view returns (uint256 result) {
        // slither-disable-next-line unused-return -- the reputation alone is asked for
        (,,, result) = Evidence.opinion(_lane(publisher, id));
    }

    function _checkParams(TaskParams calldata p) private pure {
        p.token.requireSupported();
        if (p.aggregator == address(0)) revert ZeroAddress();
        if (p.maxStaleness != 0) revert UnsupportedStaleness(p.maxStaleness);
        if (p.spec.digest == bytes32(0)) revert InvalidParameter("spec");
        if (p.model.digest == bytes32(0)) revert InvalidParameter("model");
        if (p.rounds == 0 || p.rounds > MAX_ROUNDS) revert InvalidParameter("rounds");
        if (p.quorum == 0 || p.quorum > MAX_SELECTED) revert InvalidParameter("quorum");
        if (p.minParticipants < p.quorum) revert InvalidParameter("minParticipants");
        if (p.maxParticipants < p.minParticipants || p.maxParticipants > MAX_PARTICIPANTS) {
            revert InvalidParameter("maxParticipants");
        }
        if (p.enrolPeriod == 0) revert InvalidParameter("enrolPeriod");
        if (p.commitPeriod == 0) revert InvalidParameter("commitPeriod");
        if (p.revealPeriod == 0) revert InvalidParameter("revealPeriod");
        if (p.proposePeriod == 0) revert InvalidParameter("proposePeriod");
        if (p.maxUnfinal == 0 || p.maxUnfinal > MAX_UNFINAL) revert InvalidParameter("maxUnfinal");
        if (p.randomness > RANDOMNESS_BEACON) revert InvalidParameter("randomness");
        if (p.minReputation > Evidence.PPM) revert InvalidParameter("minReputation");
        if (p.creditUnit == 0) revert InvalidParameter("creditUnit");
        // INVARIANT: a task's units fit 32 bits, so no credit lane can overflow into its neighbour.
        if (p.unitsPerRound == 0 || uint256(p.rounds) * p.unitsPerRound > type(uint32).max) {
            revert InvalidParameter("unitsPerRound");
        }
    }

    function _finishable(Task storage t) private view returns (bool) {
        if (t.stopSettled || t.settledRounds == t.params.rounds) return true;
        uint256 idleSince = t.currentRound == 0 ? t.enrolDeadline : t.lastFinalAt;
        if (block.timestamp > idleSince + t.params.enrolPeriod) return true;
        if (msg.sender != t.publisher && msg.sender != t.params.aggregator) return false;
        if (t.consecutiveVoids >= VOIDS_TO_FINISH) return true;
        return t.currentRound == 0 && block.timestamp >= t.enrolDeadline && t.enrolled < t.params.minParticipants;
    }

    function _select(
        uint256 task_,
        uint32 round_,
        uint32[] calldata wordIndices,
        uint256[] calldata words,
        uint256 quorum
    ) private returns (uint16) {
        if (wordIndices.length != words.length) revert LengthMismatch();
        uint256 count;
        uint256 slots;
        for (uint256 i = 0; i < words.length; ++i) {
            if (words[i] == 0 || (i > 0 && wordIndices[i] <= wordIndices[i - 1])) revert WordsNotAscending();
            if (words[i] & ~_enrolled[task_][wordIndices[i]] != 0) revert NotEnrolled(wordIndices[i]);
            _selected[task_][round_][wordIndices[i]] = words[i];
            count += _popcount(words[i]);
            slots += _slotCount(words[i]);
        }
        if (count < quorum) revert TooFewParticipants(count, quorum);
        if (count > MAX_SELECTED) revert TooManySelected(count);
        // INVARIANT: a round that was opened can be settled in one transaction.
        if (slots > MAX_SLOTS) revert TooManySlots(slots);
        return uint16(count);
    }

    function _closeCommits(uint256 task_, uint32 round_, Round storage r) private {
        r.commitsClosedAt = uint40(block.timestamp);
        emit CommitsClosed(task_, round_);
    }

    function _requireProposable(Task storage t, Round storage r) private view {
        if (_commitsOpen(t, r)) revert CommitsAreOpen();
        if (_revealsOpen(t, r)) revert RevealsAreOpen();
        if (r.revealed < t.params.quorum) revert BelowQuorum(r.revealed, t.params.quorum);
        if (_overdue(t, r)) revert ProposalOverdue();
    }

    /// @dev Everybody selected is judged, absence is what the ledger saw, and only accepted updates are paid.
    function _checkWords(
        uint256 task_,
        uint32 round_,
        Round storage r,
        uint256[] calldata verdictWords,
        uint256[] calldata shareWords,
        uint256 limit
    ) private view {
        if (verdictWords.length != shareWords.length) revert LengthMismatch();
        uint256 judged = 0;
        uint256 units = 0;
        for (uint256 i = 0; i < verdictWords.length; ++i) {
            uint256 slot = verdictWords[i] >> 64;
            if (i > 0 && slot <= verdictWords[i - 1] >> 64) revert SlotsNotAscending();
            if (slot > type(uint32).max / LANES) revert SlotsNotAscending();
            (uint256 present, uint256 paid) = _checkSlot(task_, round_, slot, verdictWords[i], shareWords[i]);
            judged += present;
            units += paid;
        }
        if (judged != r.selected) revert NotEverybodyJudged(judged, r.selected);
        if (units > limit) revert PayOverBudget(units, limit);
    }

    function _checkSlot(uint256 task_, uint32 round_, uint256 slot, uint256 verdicts, uint256 shares)
        private
        view
        returns (uint256 judged, uint256 units)
    {
        uint256 selected = _eight(_selected[task_][round_], slot);
        uint256 committed = _eight(_committed[task_][round_], slot);
        uint256 revealed = _eight(_revealed[task_][round_], slot);
        for (uint256 lane = 0; lane < LANES; ++lane) {
            uint256 verdict = (verdicts >> (LANES * lane)) & 0xff;
            uint256 share = (shares >> (LANE_BITS * lane)) & type(uint32).max;
            uint256 bit = 1 << lane;
            if (!_follows(verdict, selected & bit != 0, committed & bit != 0, revealed & bit != 0)) {
                revert WrongVerdict(uint32(slot * LANES + lane), verdict);
            }
            if (share != 0 && verdict != Verdicts.ACCEPTED) revert PayWithoutAcceptance(uint32(slot * LANES + lane));
            if (verdict != 0) ++judged;
            units += share;
        }
    }

    /// @dev The eight bits of a slot's participants.
    function _eight(mapping(uint256 word => uint256) storage bits, uint256 slot) private view returns (uint256) {
        return (bits[slot / SLOTS_PER_WORD] >> ((slot % SLOTS_PER_WORD) * LANES)) & 0xff;
    }

    function _follows(uint256 verdict, bool selected, bool committed, bool revealed) private pure returns (bool) {
        if (!selected) return verdict == 0;
        if (!committed) return verdict == Verdicts.MISSED;
        if (!revealed) return verdict == Verdicts.LATE;
        return verdict == Verdicts.ACCEPTED || verdict >= Verdicts.FIRST_REFUSAL;
    }

    /// @dev The words were checked when they were proposed, and their hash since.
    function _apply(uint256 task_, address publisher, uint256[] calldata verdictWords, uint256[] calldata shareWords)
        private
        returns (uint256 units)
    {
        for (uint256 i = 0; i < verdictWords.length; ++i) {
            uint256 slot = verdictWords[i] >> 64;
            uint256 before = _evidence[publisher][slot];
            uint256 word = before;
            for (uint256 lane = 0; lane < LANES; ++lane) {
                uint256 verdict = (verdictWords[i] >> (LANES * lane)) & 0xff;
                if (verdict == 0) continue;
                uint256 shift = LANE_BITS * lane;
                uint256 next = Evidence.afterVerdict((before >> shift) & type(uint32).max, verdict);
                word = (word & ~(uint256(type(uint32).max) << shift)) | (next << shift);
                units += (shareWords[i] >> shift) & type(uint32).max;
            }
            _evidence[publisher][slot] = word;
            emit EvidenceUpdated(publisher, slot, word);
            if (shareWords[i] != 0) {
                // Lanes cannot overflow: all units of a task together fit 32 bits.
                uint256 credits = _credits[task_][slot] + shareWords[i];
                _credits[task_][slot] = credits;
                emit CreditsUpdated(task_, slot, credits);
            }
        }
    }

    function _finalize(uint256 task_, uint32 round_, Task storage t) private {
        t.finalizedRound = round_;
        t.lastFinalAt = uint40(block.timestamp);
        // slither-disable-next-line incorrect-equality -- a mode, not an amount
        if (t.params.randomness == RANDOMNESS_BEACON) {
            bytes32 next = keccak256(abi.encode(_beacons[task_], _salts[task_][round_]));
            _beacons[task_] = next;
            emit BeaconAdvanced(task_, round_, next);
        }
    }

    function _commitsOpen(Task storage t, Round storage r) private view returns (bool) {
        return r.commitsClosedAt == 0 && block.timestamp < uint256(r.openedAt) + t.params.commitPeriod;
    }

    function _commitsEnd(Task storage t, Round storage r) private view returns (uint256) {
        return r.commitsClosedAt != 0 ? r.commitsClosedAt : uint256(r.openedAt) + t.params.commitPeriod;
    }

    function _revealsOpen(Task storage t, Round storage r) private view returns (bool) {
        if (r.revealsClosedAt != 0 || r.committed == 0) return false;
        return block.timestamp < _commitsEnd(t, r) + t.params.revealPeriod;
    }

    function _overdue(Task storage t, Round storage r) private view returns (bool) {
        if (_commitsOpen(t, r) || _revealsOpen(t, r)) return false;
        if (r.revealed < t.params.quorum) return true;
        uint256 closed = r.revealsClosedAt != 0 ? r.revealsClosedAt : _commitsEnd(t, r) + t.params.revealPeriod;
        return block.timestamp >= closed + t.params.proposePeriod;
    }

    function _existing(uint256 task_) private view returns (Task storage t) {
        t = _tasks[task_];
        if (t.publisher == address(0)) revert UnknownTask(task_);
    }

    function _open(uint256 task_) private view returns (Task storage t) {
        t = _existing(task_);
        if (t.finished) revert TaskAlreadyFinished(task_);
    }

    function _openRound(uint256 task_, uint32 round_) private view returns (Round storage r) {
        r = _rounds[task_][round_];
        if (r.status != RoundStatus.Open) revert RoundNotOpen(task_, round_);
    }

    /// @dev Asked again at every commitment, or one stake could enrol many participants in turn.
    function _requireStaked(Task storage t, uint32 id) private view {
        _requireActive(id);
        uint96 stake = _participant(id).stake;
        if (stake < t.params.minStake) revert StakeTooSmall(stake, t.params.minStake);
    }

    function _requireReputation(Task storage t, uint32 id) private view {
        uint256 held = reputation(t.publisher, id);
        if (held < t.params.minReputation) revert ReputationTooLow(held, t.params.minReputation);
    }

    function _lane(address publisher, uint32 id) private view returns (uint256) {
        // slither-disable-next-line weak-prng -- a lane's place, not chance
        return (_evidence[publisher][id / LANES] >> (LANE_BITS * (id % LANES))) & type(uint32).max;
    }

    function _place(uint32 id) private pure returns (uint256 word, uint256 bit) {
        // slither-disable-next-line weak-prng -- a bit's place, not chance
        return (id / 256, 1 << (id % 256));
    }

    /// @dev How many bytes of `bits` are not zero: each byte is folded into its lowest bit.
    function _slotCount(uint256 bits) private pure returns (uint256) {
        bits |= bits >> 4;
        bits |= bits >> 2;
        bits |= bits >> 1;
        return _popcount(bits & (type(uint256).max / type(uint8).max));
    }

    function _popcount(uint256 bits) private pure returns (uint256 count) {
        // Kernighan: one step a set bit.
        while (bits != 0) {
            // `bits` is not zero, so nothing wraps.
            unchecked {
                bits &= bits - 1;
                ++count;
            }
        }
    }
}
