// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {Currency} from "./Currency.sol";
import {Evidence, Verdicts} from "./Evidence.sol";
import {Lanes} from "./Lanes.sol";
import {Registry} from "./Registry.sol";

/// @title The ledger of federated training
/// @notice Records who took part in which round of which task, what each participant delivered, how it was judged and
/// what it earned. A round's phase follows from block time and from what was posted; anyone may push an overdue round
/// on, and nobody's refusal or silence stops a task.
contract FedLedger is Registry {
    /// @notice Version of the records.
    uint256 public constant protocolVersion = 2;
    /// @notice Most participants of a task, and most that a round selects.
    uint256 public constant MAX_PARTICIPANTS = 4096;
    uint256 public constant MAX_SELECTED = 1024;
    /// @notice Most slots of eight participants that a round selects from, so that settling it fits 16M gas.
    uint256 public constant MAX_SLOTS = 256;
    uint256 public constant MAX_UNFINAL = 8;
    uint256 private constant RING = 16;
    uint256 public constant MAX_ROUNDS = 65_535;
    /// @notice Rounds in a row below quorum after which publisher or aggregator may end a task.
    uint256 public constant VOIDS_TO_FINISH = 3;
    uint8 private constant RANDOMNESS_BEACON = 1;
    uint256 private constant LANES = 8;
    uint256 private constant LANE_BITS = 32;
    uint256 private constant SLOTS_PER_WORD = 32;

    /// @dev What the check of a proposal's words has seen: 256 participants as the ledger knows them, and sums so far.
    struct Seen {
        uint256 word;
        uint256 selected;
        uint256 committed;
        uint256 revealed;
        bool batched;
        uint256 judged;
        uint256 delivered;
        uint256 units;
    }

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
    /// @dev Hashes that a round needs until it settles, at its number modulo `RING`: an old slot costs a quarter of a new.
    mapping(uint256 task => mapping(uint256 place => bytes32)) private _roots;
    mapping(uint256 task => mapping(uint256 place => bytes32)) private _proposals;
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
        t.enrolDeadline = uint32(block.timestamp) + p.enrolPeriod;
        t.lastFinalAt = uint32(block.timestamp);
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

    /// @notice Opens the next round. Without words it is for everybody who is enrolled.
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
        r.openedAt = uint32(block.timestamp);
        r.openedBlock = uint32(block.number);
        r.baseRound = t.latestRound;
        if (wordIndices.length != words.length) revert LengthMismatch();
        r.everybody = words.length == 0;
        r.selected = r.everybody ? _all(task_) : _select(task_, number, wordIndices, words);
        if (r.selected < t.params.quorum) revert TooFewParticipants(r.selected, t.params.quorum);
        emit RoundOpened(task_, number, _baseModel(t, task_, r), wordIndices, words);
    }

    /// @notice Commits the sender's participant to an update; see `commitmentOf`. In a batched task this is for who was
    /// left out of the root.
    function commitUpdate(uint256 task_, uint32 round_, bytes32 commitment) external {
        Task storage t = _tasks[task_];
        Round storage r = _openRound(task_, round_);
        if (t.params.batched) {
            if (!_admitting(t, r)) revert NotAdmitting();
        } else if (!_commitsOpen(t, r)) {
            revert CommitsAreClosed();
        }
        if (commitment == bytes32(0)) revert EmptyCommitment();
        uint32 id = idOfSigner(msg.sender);
        _requireStaked(t, id);
        (uint256 word, uint256 bit) = _place(id);
        // slither-disable-next-line incorrect-equality -- one bit, not an amount
        if (selectedWord(task_, round_, word) & bit == 0) revert NotSelected(id);
        uint256 committed = _committed[task_][round_][word];
        if (committed & bit != 0) revert AlreadyCommitted(id);
        _committed[task_][round_][word] = committed | bit;
        _commitments[task_][round_][id] = commitment;
        emit UpdateCommitted(task_, round_, id, msg.sender, commitment);
        // Of a batched round somebody may be in the root and here, so this cannot tell that nobody is missing.
        if (++r.committed == r.selected && !t.params.batched) _closeCommits(task_, round_, r);
    }

    /// @notice Closes the commit phase of a batched round with the root of all commitments that were signed.
    /// @param root Root of a tree laid out like OpenZeppelin's StandardMerkleTree over `(uint32 participant, bytes32
    /// commitment)`.
    /// @param count How many commitments it has.
    function closeCommits(uint256 task_, uint32 round_, bytes32 root, uint16 count) external {
        Task storage t = _tasks[task_];
        Round storage r = _openRound(task_, round_);
        if (msg.sender != t.params.aggregator) revert NotAggregator(msg.sender);
        if (!t.params.batched) revert NotBatched(task_);
        if (count > r.selected) revert WrongCount(count, r.selected);
        if (_commitsOpen(t, r) && count != r.selected) revert CommitsAreOpen();
        if (r.commitsClosedAt != 0 || block.timestamp >= _closingUntil(t, r)) revert NotClosing();
        r.commitsClosedAt = uint32(block.timestamp) + (count == r.selected ? 0 : t.params.gracePeriod);
        r.committed = count;
        _roots[task_][round_ % RING] = root;
        emit CommitsRooted(task_, round_, root, count);
    }

    /// @notice Reveals the update that the sender committed to. In a batched task only who cannot get through to the
    /// aggregator needs this, or who was reported as late: then it says so, and stays unpunished.
    /// @param proof Way from the commitment to the batched round's root; empty for one that was committed on chain.
    function revealUpdate(
        uint256 task_,
        uint32 round_,
        ContentRef calldata update,
        bytes32 salt,
        bytes32[] calldata proof
    ) external {
        _requireRevealable(task_, round_);
        uint32 id = idOfSigner(msg.sender);
        // INVARIANT: the commitment names its sender, so a copied one cannot be opened.
        _requireCommitted(
            task_, round_, id, commitmentOf(task_, round_, msg.sender, baseModel(task_, round_), update, salt), proof
        );
        (uint256 word, uint256 bit) = _place(id);
        if (_revealed[task_][round_][word] & bit != 0) revert AlreadyRevealed(id);
        _revealed[task_][round_][word] |= bit;
        // slither-disable-next-line incorrect-equality -- a mode, not an amount
        if (_tasks[task_].params.randomness == RANDOMNESS_BEACON) {
            _salts[task_][round_] ^= keccak256(abi.encode(id, salt));
        }
        emit UpdateRevealed(task_, round_, id, update.digest, update.length, salt);
        _countReveal(task_, round_);
    }

    /// @notice Proposes a round's outcome under a bond, taken from the aggregator's free balance and the value sent.
    /// @dev A batched round's updates are read from this call's data, so no contract may stand between sender and ledger.
    /// @param verdictWords `slot << 64 | eight verdict bytes`, slots ascending; slot s covers participants 8s to 8s+7.
    /// @param shareWords Eight 32-bit pay shares for each verdict word.
    /// @param updates What was revealed to the aggregator of a batched round; empty in a direct one.
    function proposeRound(
        uint256 task_,
        uint32 round_,
        Proposal calldata proposal,
        uint256[] calldata verdictWords,
        uint256[] calldata shareWords,
        Updates calldata updates
    ) external payable {
        Round storage r = _openRound(task_, round_);
        bool batched = _tasks[task_].params.batched;
        if (msg.sender != _tasks[task_].params.aggregator) revert NotAggregator(msg.sender);
        // slither-disable-next-line tx-origin -- no authorisation: it keeps the data where everybody can read it
        if (batched && msg.sender != tx.origin) revert ThroughContract(msg.sender);
        _requireUpdates(batched, proposal.updates, updates);
        _requireProposable(_tasks[task_], r, batched ? updates.digests.length : r.revealed);
        uint256 delivered = _checkWords(task_, round_, verdictWords, shareWords, batched);
        if (batched && delivered != updates.digests.length) revert WrongCount(updates.digests.length, delivered);
        _credit(msg.sender, msg.value);
        _debit(msg.sender, _tasks[task_].params.bond);
        r.status = RoundStatus.Proposed;
        r.proposedAt = uint32(block.timestamp);
        r.modelDigest = proposal.model.digest;
        _tasks[task_].latestRound = round_;
        _record(task_, round_, proposal, verdictWords, shareWords);
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
        bytes32 expected = _proposals[task_][round_ % RING];
        if (found != expected) revert WrongProposal(expected, found);
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
        emit CreditWithdrawn(task_, id, payout, amount);
        t.params.token.transfer(payout, amount);
    }

    /// @notice The model that a round starts from.
    function baseModel(uint256 task_, uint32 round_) public view returns (bytes32) {
        return _baseModel(_existing(task_), task_, _rounds[task_][round_]);
    }

    /// @notice The root of a batched round's commitments; zero before it is posted and some rounds later.
    function commitsRoot(uint256 task_, uint32 round_) external view returns (bytes32) {
        bool known = _rounds[task_][round_].commitsClosedAt != 0 && _tasks[task_].currentRound < round_ + RING;
        return known ? _roots[task_][round_ % RING] : bytes32(0);
    }

    /// @notice Says where the sender can be reached off the chain: an aggregator's mailbox. The last word counts.
    function announce(string calldata url) external {
        emit EndpointAnnounced(msg.sender, url);
    }

    /// @notice Makes several calls of the sender in one transaction; all of them, or none.
    /// @dev It takes no value, and none of the calls sees any.
    function multicall(bytes[] calldata calls) external {
        for (uint256 i = 0; i < calls.length; ++i) {
            // slither-disable-next-line delegatecall-loop,controlled-delegatecall,calls-loop -- into this very contract
            (bool done, bytes memory reason) = address(this).delegatecall(calls[i]);
            if (done) continue;
            assembly ("memory-safe") {
                revert(add(reason, 32), mload(reason))
            }
        }
    }

    /// @notice What binds a sender to one update before anybody else can see it.
    function commitmentOf(
        uint256 task_,
        uint32 round_,
        address sender,
        bytes32 base,
        ContentRef calldata update,
        bytes32 salt
    ) public view returns (bytes32) {
        return keccak256(
            abi.encode(block.chainid, address(this), task_, round_, sender, base, update.digest, update.length, salt)
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
        if (t.params.batched && r.commitsClosedAt == 0 && block.timestamp < _closingUntil(t, r)) return Phase.Closing;
        if (_admitting(t, r)) return Phase.Admitting;
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
    function selectedWord(uint256 task_, uint32 round_, uint256 word) public view returns (uint256) {
        return _rounds[task_][round_].everybody ? _enrolled[task_][word] : _selected[task_][round_][word];
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
        // A beacon is made of salts that are revealed on chain, which a batched task leaves out.
        if (p.randomness > (p.batched ? 0 : RANDOMNESS_BEACON)) revert InvalidParameter("randomness");
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

    function _select(uint256 task_, uint32 round_, uint32[] calldata wordIndices, uint256[] calldata words)
        private
        returns (uint16)
    {
        uint256 count;
        uint256 slots;
        for (uint256 i = 0; i < words.length; ++i) {
            if (words[i] == 0 || (i > 0 && wordIndices[i] <= wordIndices[i - 1])) revert WordsNotAscending();
            if (words[i] & ~_enrolled[task_][wordIndices[i]] != 0) revert NotEnrolled(wordIndices[i]);
            _selected[task_][round_][wordIndices[i]] = words[i];
            count += Lanes.popcount(words[i]);
            slots += Lanes.occupiedBytes(words[i]);
        }
        return _selectable(count, slots);
    }

    /// @dev Nothing is written: who is enrolled cannot change any more.
    function _all(uint256 task_) private view returns (uint16) {
        uint256 count;
        uint256 slots;
        uint256 words = (participantCount() + 255) / 256;
        for (uint256 i = 0; i < words; ++i) {
            uint256 word = _enrolled[task_][i];
            count += Lanes.popcount(word);
            slots += Lanes.occupiedBytes(word);
        }
        return _selectable(count, slots);
    }

    function _selectable(uint256 count, uint256 slots) private pure returns (uint16) {
        if (count > MAX_SELECTED) revert TooManySelected(count);
        // INVARIANT: a round that was opened can be settled in one transaction.
        if (slots > MAX_SLOTS) revert TooManySlots(slots);
        return uint16(count);
    }

    function _closeCommits(uint256 task_, uint32 round_, Round storage r) private {
        r.commitsClosedAt = uint32(block.timestamp);
        emit CommitsClosed(task_, round_);
    }

    function _requireCommitted(uint256 task_, uint32 round_, uint32 id, bytes32 commitment, bytes32[] calldata proof)
        private
        view
    {
        bytes32 stored = _commitments[task_][round_][id];
        // slither-disable-next-line incorrect-equality -- a hash, not an amount
        if (stored == commitment) return;
        // Hashed twice, so that an inner node cannot pass for a leaf.
        bytes32 leaf = keccak256(bytes.concat(keccak256(abi.encode(id, commitment))));
        bytes32 root = _roots[task_][round_ % RING];
        if (root != bytes32(0) && MerkleProof.verifyCalldata(proof, root, leaf)) return;
        if (stored != bytes32(0)) revert WrongReveal(stored, commitment);
        revert NotCommitted(id);
    }

    function _countReveal(uint256 task_, uint32 round_) private {
        Round storage r = _rounds[task_][round_];
        if (++r.revealed != r.committed || r.status != RoundStatus.Open) return;
        r.revealsClosedAt = uint32(block.timestamp);
        emit RevealsClosed(task_, round_);
    }

    function _requireRevealable(uint256 task_, uint32 round_) private view {
        Task storage t = _tasks[task_];
        Round storage r = _rounds[task_][round_];
        if (r.status == RoundStatus.Proposed && t.params.batched) {
            uint256 until = uint256(r.proposedAt) + t.params.challengeWindow;
            if (block.timestamp >= until) revert RevealsAreClosed();
            return;
        }
        if (r.status != RoundStatus.Open) revert RoundNotOpen(task_, round_);
        if (_commitsOpen(t, r)) revert CommitsAreOpen();
        if (_admitting(t, r)) revert StillAdmitting(r.commitsClosedAt);
        if (!_revealsOpen(t, r)) revert RevealsAreClosed();
    }

    function _requireProposable(Task storage t, Round storage r, uint256 delivered) private view {
        if (_commitsOpen(t, r) || (t.params.batched && r.commitsClosedAt == 0)) revert CommitsAreOpen();
        if (_admitting(t, r)) revert StillAdmitting(r.commitsClosedAt);
        if (delivered > r.committed) revert WrongCount(delivered, r.committed);
        // All that was committed is there, or the time to reveal it is over.
        if (delivered != r.committed && _revealsOpen(t, r)) revert RevealsAreOpen();
        if (delivered < t.params.quorum) revert BelowQuorum(delivered, t.params.quorum);
        if (_overdue(t, r)) revert ProposalOverdue();
    }

    function _record(
        uint256 task_,
        uint32 round_,
        Proposal calldata proposal,
        uint256[] calldata verdictWords,
        uint256[] calldata shareWords
    ) private {
        _proposals[task_][round_ % RING] = keccak256(abi.encode(proposal, verdictWords, shareWords));
        bytes32 base = baseModel(task_, round_);
        if (_tasks[task_].params.batched) emit BatchProposed(task_, round_, msg.sender, proposal, base);
        else emit RoundProposed(task_, round_, msg.sender, proposal, verdictWords, shareWords, base);
    }

    function _requireUpdates(bool batched, bytes32 expected, Updates calldata updates) private pure {
        uint256 count = updates.digests.length;
        if (updates.lengthWords.length != (count + LANES - 1) / LANES) revert LengthMismatch();
        // The number of lengths follows from that of digests, so no two pairs have the same bytes.
        // slither-disable-next-line encode-packed-collision
        bytes32 found = batched ? keccak256(abi.encodePacked(updates.digests, updates.lengthWords)) : bytes32(0);
        if (found != expected || (!batched && count != 0)) revert WrongUpdates(expected, found);
    }

    /// @dev Everybody selected is judged, absence is what the ledger saw, and only accepted updates are paid. Returns how
    /// many are judged by an update.
    function _checkWords(
        uint256 task_,
        uint32 round_,
        uint256[] calldata verdictWords,
        uint256[] calldata shareWords,
        bool batched
    ) private view returns (uint256) {
        if (verdictWords.length != shareWords.length) revert LengthMismatch();
        // slither-disable-next-line uninitialized-local -- memory is zeroed
        Seen memory seen;
        seen.word = type(uint256).max;
        seen.batched = batched;
        uint256 least = 0;
        for (uint256 i = 0; i < verdictWords.length; ++i) {
            uint256 slot = verdictWords[i] >> 64;
            if (slot < least || slot > type(uint32).max / LANES) revert SlotsNotAscending();
            least = slot + 1;
            if (slot / SLOTS_PER_WORD != seen.word) _look(seen, task_, round_, slot / SLOTS_PER_WORD);
            _checkSlot(seen, slot, verdictWords[i] & type(uint64).max, shareWords[i]);
        }
        uint256 selected = _rounds[task_][round_].selected;
        if (seen.judged != selected) revert NotEverybodyJudged(seen.judged, selected);
        uint256 limit = _tasks[task_].params.unitsPerRound;
        if (seen.units > limit) revert PayOverBudget(seen.units, limit);
        return seen.delivered;
    }

    function _look(Seen memory seen, uint256 task_, uint32 round_, uint256 word) private view {
        seen.word = word;
        seen.selected = selectedWord(task_, round_, word);
        seen.committed = _committed[task_][round_][word];
        seen.revealed = _revealed[task_][round_][word];
    }

    function _checkSlot(Seen memory seen, uint256 slot, uint256 verdicts, uint256 shares) private pure {
        uint256 shift = (slot % SLOTS_PER_WORD) * LANES;
        uint256 selected = Lanes.spread((seen.selected >> shift) & 0xff);
        // The usual case, and the reason that a thousand participants are cheap: all eight were accepted.
        if (verdicts == Lanes.ALL && selected == Lanes.ALL && (seen.batched || (seen.revealed >> shift) & 0xff == 0xff))
        {
            _add(seen, LANES, LANES, shares);
            return;
        }
        uint256 accepted = Lanes.equal(verdicts, Verdicts.ACCEPTED);
        uint256 present = accepted | Lanes.atLeastSixteen(verdicts);
        uint256 wrong = _contradiction(seen, shift, verdicts, selected, present);
        if (wrong != 0) {
            uint256 lane = Lanes.first(wrong);
            revert WrongVerdict(uint32(slot * LANES + lane), (verdicts >> (LANES * lane)) & 0xff);
        }
        if (shares & ~Lanes.widen(accepted) != 0) {
            uint256 unpaid = Lanes.occupied(shares) & ~accepted;
            revert PayWithoutAcceptance(uint32(slot * LANES + Lanes.first(unpaid)));
        }
        _add(seen, Lanes.count(selected), Lanes.count(present), shares);
    }

    function _add(Seen memory seen, uint256 judged, uint256 delivered, uint256 shares) private pure {
        // Counts and 32-bit sums of at most 2^29 slots: nothing wraps.
        unchecked {
            seen.judged += judged;
            seen.delivered += delivered;
            seen.units += Lanes.sum(shares);
        }
    }

    /// @dev Flags of the lanes whose verdict is not what the ledger saw. Of a batched round it saw only what was done on
    /// chain, so there more may be present than it knows, and less may not.
    function _contradiction(Seen memory seen, uint256 shift, uint256 verdicts, uint256 selected, uint256 present)
        private
        pure
        returns (uint256 wrong)
    {
        uint256 committed = Lanes.spread((seen.committed >> shift) & 0xff);
        uint256 revealed = Lanes.spread((seen.revealed >> shift) & 0xff);
        uint256 missed = Lanes.equal(verdicts, Verdicts.MISSED);
        uint256 late = Lanes.equal(verdicts, Verdicts.LATE);
        // Exactly who was selected has a verdict, and a known one.
        wrong = (Lanes.equal(verdicts, 0) ^ Lanes.ALL ^ selected) | ((present | missed | late) ^ selected);
        wrong |= missed & committed;
        wrong |= seen.batched ? revealed & ~present : (revealed ^ present) | (late & ~committed);
    }

    /// @dev The words were checked when they were proposed, and their hash since.
    function _apply(uint256 task_, address publisher, uint256[] calldata verdictWords, uint256[] calldata shareWords)
        private
        returns (uint256 units)
    {
        mapping(uint256 slot => uint256) storage evidences = _evidence[publisher];
        mapping(uint256 slot => uint256) storage credits = _credits[task_];
        for (uint256 i = 0; i < verdictWords.length; ++i) {
            uint256 word = verdictWords[i];
            uint256 shares = shareWords[i];
            uint256 slot = word >> 64;
            word &= type(uint64).max;
            uint256 before = evidences[slot];
            evidences[slot] = word == Lanes.ALL ? Evidence.afterAcceptance(before) : _judged(before, word);
            if (shares == 0) continue;
            // INVARIANT: all units of a task together fit 32 bits, so no lane of its credits overflows.
            unchecked {
                credits[slot] += shares;
                units += Lanes.sum(shares);
            }
        }
    }

    function _judged(uint256 before, uint256 verdicts) private pure returns (uint256 word) {
        word = before;
        for (uint256 lane = 0; lane < LANES; ++lane) {
            uint256 verdict = (verdicts >> (LANES * lane)) & 0xff;
            if (verdict == 0) continue;
            uint256 shift = LANE_BITS * lane;
            uint256 next = Evidence.afterVerdict((before >> shift) & type(uint32).max, verdict);
            word = (word & ~(uint256(type(uint32).max) << shift)) | (next << shift);
        }
    }

    function _finalize(uint256 task_, uint32 round_, Task storage t) private {
        t.finalizedRound = round_;
        t.lastFinalAt = uint32(block.timestamp);
        // slither-disable-next-line incorrect-equality -- a mode, not an amount
        if (t.params.randomness == RANDOMNESS_BEACON) {
            bytes32 next = keccak256(abi.encode(_beacons[task_], _salts[task_][round_]));
            _beacons[task_] = next;
            emit BeaconAdvanced(task_, round_, next);
        }
    }

    function _baseModel(Task storage t, uint256 task_, Round storage r) private view returns (bytes32) {
        return r.baseRound == 0 ? t.params.model.digest : _rounds[task_][r.baseRound].modelDigest;
    }

    function _commitsOpen(Task storage t, Round storage r) private view returns (bool) {
        return r.commitsClosedAt == 0 && block.timestamp < _commitDeadline(t, r);
    }

    function _commitDeadline(Task storage t, Round storage r) private view returns (uint256) {
        return uint256(r.openedAt) + t.params.commitPeriod;
    }

    /// @dev Until when the root of a batched round may be posted.
    function _closingUntil(Task storage t, Round storage r) private view returns (uint256) {
        return _commitDeadline(t, r) + t.params.proposePeriod;
    }

    /// @dev Whether who was left out of the root may still commit.
    function _admitting(Task storage t, Round storage r) private view returns (bool) {
        return t.params.batched && block.timestamp < r.commitsClosedAt;
    }

    /// @dev When reveals begin. A batched round without a root has none.
    function _commitsEnd(Task storage t, Round storage r) private view returns (uint256) {
        if (r.commitsClosedAt != 0) return r.commitsClosedAt;
        return t.params.batched ? _closingUntil(t, r) : _commitDeadline(t, r);
    }

    function _revealsOpen(Task storage t, Round storage r) private view returns (bool) {
        if (r.revealsClosedAt != 0 || r.committed == 0) return false;
        uint256 began = _commitsEnd(t, r);
        return block.timestamp >= began && block.timestamp < began + t.params.revealPeriod;
    }

    function _overdue(Task storage t, Round storage r) private view returns (bool) {
        if (_commitsOpen(t, r) || _revealsOpen(t, r)) return false;
        uint256 began = _commitsEnd(t, r);
        if (block.timestamp < began) return false;
        // Of a batched round nobody but the aggregator knows yet what was revealed.
        if ((t.params.batched ? r.committed : r.revealed) < t.params.quorum) return true;
        uint256 closed = r.revealsClosedAt != 0 ? r.revealsClosedAt : began + t.params.revealPeriod;
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
}
