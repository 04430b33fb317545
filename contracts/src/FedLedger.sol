// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Evidence, Verdicts} from "./Evidence.sol";
import {Head, Heads} from "./Heads.sol";
import {Lanes} from "./Lanes.sol";
import {LedgerReveals} from "./LedgerReveals.sol";
import {LedgerState} from "./LedgerState.sol";
import {LedgerTurns} from "./LedgerTurns.sol";
import {Offences} from "./Offences.sol";

/// @title The ledger of federated training
/// @notice Records who took part in which round of which task, what each participant delivered, how it was judged and
/// what it earned. A round's phase follows from block time and from what was posted; anyone may push an overdue round
/// on, and nobody's refusal or silence stops a task.
/// @dev The first of the ledger's parts: rounds. Its address is the ledger's; see `LedgerState`.
contract FedLedger is LedgerReveals, LedgerTurns {
    using Heads for Round;

    /// @dev A round that is not proposed in time costs its aggregators their deposits; this part goes to who voids it.
    uint256 private constant VOID_REWARD = 8;
    /// @dev Part of the bond that goes from the active aggregator to who does its work for it.
    uint256 private constant BOUNTY = 64;

    /// @notice The part that knows the calls that this one does not. Whoever trusts a ledger looks at its code, too.
    address public immutable nextPart;

    /// @dev What the check of a proposal's words has seen: 256 participants as the ledger knows them, and sums so far.
    struct Seen {
        uint256 task;
        uint32 round;
        uint256 word;
        uint256 selected;
        uint256 revealed;
        uint256 present;
        uint256 outvoted;
        bool batched;
        bool scored;
        bool bidding;
        uint256 judged;
        uint256 delivered;
        uint256 late;
        uint256 units;
    }

    /// @dev A settlement on its way: what is applied, and sums so far.
    struct Settling {
        uint256 task;
        uint32 round;
        address publisher;
        uint256 penalty;
        uint256 units;
        uint256 burned;
        bool looked;
        bool spared;
        uint256 word;
        uint256 judged;
    }

    /// @param next See `nextPart`.
    constructor(Settings memory s, address next) LedgerState(s) {
        nextPart = next;
    }

    /// @dev All other functions of the ledger are those of the next parts.
    fallback() external payable {
        _handOn(nextPart);
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

    /// @notice Reverts unless exactly these participants are enrolled in a task: first in a `multicall`, it has the calls
    /// after it act on those participants that their sender knows.
    /// @param wordIndices Ascending indices of 256-participant words.
    /// @param words Bits of all that are enrolled.
    function requireEnrolled(uint256 task_, uint32[] calldata wordIndices, uint256[] calldata words) external view {
        if (wordIndices.length != words.length) revert LengthMismatch();
        uint256 count = 0;
        for (uint256 i = 0; i < words.length; ++i) {
            if (i > 0 && wordIndices[i] <= wordIndices[i - 1]) revert WordsNotAscending();
            if (_enrolled[task_][wordIndices[i]] != words[i]) revert EnrolmentChanged(task_);
            count += Lanes.popcount(words[i]);
        }
        if (count != _existing(task_).enrolled) revert EnrolmentChanged(task_);
    }

    /// @notice Opens the next round. Without words it is for everybody who is enrolled; a task of open enrolment needs words,
    /// and its least participants in every round.
    /// @param round_ The number of the round: one more than the last one's, so that a call that is sent again opens no other.
    /// @param wordIndices Ascending indices of 256-participant words.
    /// @param words Bits of the selected participants in each word.
    function openRound(uint256 task_, uint32 round_, uint32[] calldata wordIndices, uint256[] calldata words) external {
        Task storage t = _open(task_);
        _requireOpenable(t, task_, round_);
        t.currentRound = round_;
        if (wordIndices.length != words.length) revert LengthMismatch();
        // Who is enrolled may change while a round of open enrolment lasts, so it keeps whom it is for.
        bool everybody = words.length == 0 && !t.params.openEnrolment;
        uint256 selected = everybody ? t.enrolled : _select(task_, round_, wordIndices, words);
        Round storage r = _begin(t, task_, round_, selected, everybody ? EVERYBODY : 0);
        emit RoundOpened(task_, round_, _baseModel(t, task_, r), wordIndices, words);
    }

    /// @notice Commits the sender's participant to an update; see `commitmentOf`. In a batched task this is for who was
    /// left out of the root.
    function commitUpdate(uint256 task_, uint32 round_, bytes32 commitment) external {
        Round storage r = _rounds[task_][round_];
        Head head = r.head();
        if (!head.stands(RoundStatus.Open)) revert RoundNotOpen(task_, round_);
        if (head.has(BATCHED)) {
            if (!_admitting(head)) revert NotAdmitting();
        } else if (!_commitsOpen(head)) {
            revert CommitsAreClosed();
        }
        if (commitment == bytes32(0)) revert EmptyCommitment();
        Word storage place = _pledges[task_][msg.sender];
        uint256 pledge = place.value;
        uint32 id;
        // A pledge that is not zero ends in an id plus one, which is not zero.
        unchecked {
            // slither-disable-next-line incorrect-equality -- zero marks absence, it is no amount
            id = pledge == 0 ? _newPledger(task_, round_) : uint32(pledge) - 1;
        }
        Participant storage p = _participants[id];
        if (p.signer != msg.sender) revert NotRegistered(msg.sender);
        // Asked again at every commitment, or one stake could serve many participants in turn.
        if (p.stake < _minStake) revert NotActive(id);
        bool plain = head.hasOf(EVERYBODY | STAKED | BATCHED, EVERYBODY);
        if (!plain) _requireEntitled(head, task_, round_, id, p.stake);
        if (uint32(pledge >> 32) == round_) revert AlreadyCommitted(id);
        if (!plain && head.has(BATCHED)) _forced[task_][round_][id] = commitment;
        // An id is below 2^32 - 1, and fewer than 2^16 are selected: nothing wraps.
        unchecked {
            place.value =
                (uint256(commitment) & ~uint256(type(uint64).max)) | (uint256(round_) << 32) | (uint256(id) + 1);
            emit UpdateCommitted(task_, round_, id, msg.sender, commitment);
            r.countCommitted(head);
            if (head.committed() + 1 != head.selected()) return;
        }
        // Of a batched round somebody may be in the root and here, so this cannot tell that nobody is missing.
        if (head.has(BATCHED)) return;
        r.commitsClosedAt = uint32(block.timestamp);
        emit CommitsClosed(task_, round_);
    }

    /// @notice Closes the commit phase of a batched round with the root of all commitments that were signed.
    /// @param root Root of a tree laid out like OpenZeppelin's StandardMerkleTree over `(uint32 participant, bytes32
    /// commitment)`.
    /// @param count How many commitments it has. All who were selected: then nobody is admitted later, and who was left
    /// out all the same may demand to see its commitment.
    /// @param batch The content that holds them all, so that everybody finds its own, and a standby what it needs.
    function closeCommits(uint256 task_, uint32 round_, bytes32 root, uint16 count, ContentRef calldata batch)
        external
    {
        Task storage t = _tasks[task_];
        Round storage r = _openRound(task_, round_);
        if (r.flags & BATCHED == 0) revert NotBatched(task_);
        _actingSeat(t, task_, r.commitDeadline, true);
        if (count > r.selected) revert WrongCount(count, r.selected);
        if (_commitsOpen(r.head()) && count != r.selected) revert CommitsAreOpen();
        if (r.commitsClosedAt != 0 || block.timestamp >= _closingUntil(t, r.head())) revert NotClosing();
        if (count == r.selected) {
            r.commitsClosedAt = uint32(block.timestamp);
            r.flags |= COMPLETE;
        } else {
            r.commitsClosedAt = uint32(block.timestamp) + t.params.gracePeriod;
        }
        r.committed = count;
        _roots[task_][round_ % t.params.maxUnfinal] = root;
        emit CommitsRooted(task_, round_, root, count, batch);
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
        Head head = _rounds[task_][round_].head();
        _requireRevealable(head, task_, round_);
        // INVARIANT: the commitment names its sender, so a copied one cannot be opened.
        bytes32 commitment = _commitment(task_, round_, msg.sender, _base(head, task_), update, salt);
        uint32 id = _committer(head, task_, round_, commitment, proof);
        _markRevealed(task_, round_, id);
        if (head.has(BEACON)) _salts[task_][round_] ^= keccak256(abi.encode(id, salt));
        emit UpdateRevealed(task_, round_, id, update.digest, update.length, salt);
    }

    /// @notice Proposes a round's outcome; the sender's deposit answers for it. Below quorum the model must stay as it was
    /// and nobody is paid, so that who withheld an update is called late for it, and not the aggregator silent.
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
    ) external {
        Task storage t = _tasks[task_];
        Round storage r = _openRound(task_, round_);
        bool batched = r.flags & BATCHED != 0;
        r.seat = _actingSeat(t, task_, _proposalDue(t, task_, round_, r.head()), true);
        // slither-disable-next-line tx-origin -- no authorisation: it keeps the data where everybody can read it
        if (batched && (msg.sender != tx.origin || msg.sender.code.length != 0)) revert ThroughContract(msg.sender);
        _requireUpdates(batched, proposal.updates, updates);
        bool scored = r.flags & SCORED != 0;
        if (scored) _requireTallied(_scorings[task_], task_, round_, batched, proposal.updates);
        Seen memory seen = _checkWords(task_, round_, verdictWords, shareWords, r.flags);
        if (seen.judged != r.selected) revert NotEverybodyJudged(seen.judged, r.selected);
        if (batched && seen.delivered != updates.digests.length) {
            revert WrongCount(updates.digests.length, seen.delivered);
        }
        _requireProposable(t, task_, round_, r, seen);
        _requirePayable(t, task_, r, seen, proposal);
        r.status = RoundStatus.Proposed;
        r.proposedAt = uint32(block.timestamp);
        r.modelDigest = proposal.model.digest;
        t.latestRound = round_;
        _record(task_, round_, proposal, verdictWords, shareWords);
    }

    /// @notice Applies a proposed round after its challenge window, or the next part of it; rounds settle in order.
    /// @param limit Most verdict words to apply by this call. What is left is for the next one.
    function settleRound(
        uint256 task_,
        uint32 round_,
        Proposal calldata proposal,
        uint256[] calldata verdictWords,
        uint256[] calldata shareWords,
        uint256 limit
    ) external {
        Task storage t = _open(task_);
        Round storage r = _rounds[task_][round_];
        uint256 until = _requireSettleable(t, r, task_, round_);
        _requireProposal(t, task_, round_, proposal, verdictWords, shareWords);
        uint256 from = r.settledWords;
        uint256 to = verdictWords.length - from > limit ? from + limit : verdictWords.length;
        // slither-disable-next-line uninitialized-local -- memory is zeroed
        Settling memory s;
        (s.task, s.round, s.publisher, s.penalty) = (task_, round_, t.publisher, t.params.penalty);
        s.word = type(uint256).max;
        _applyWords(s, verdictWords[from:to], shareWords[from:to]);
        _burn(s.burned);
        t.spentUnits += uint32(s.units);
        r.settledWords = uint16(to);
        if (to != verdictWords.length) {
            emit SettlementAdvanced(task_, round_, to);
            return;
        }
        r.status = RoundStatus.Settled;
        if (r.flags & EMPTY != 0) {
            _countVoid(t);
        } else if (r.flags & BIDDING == 0) {
            // Bids alone bring a task no further: whoever bids and never trains cannot keep it from being ended.
            ++t.settledRounds;
            t.consecutiveVoids = 0;
        }
        if (proposal.stop) t.stopSettled = true;
        emit RoundSettled(task_, round_, t.spentUnits);
        _finalize(t, task_, round_);
        _advance(t, task_);
        _payBounty(t, task_, until);
    }

    /// @notice Voids a round that has too few commitments or was not proposed in time. In the latter case its aggregators
    /// lose their deposits, or in a batched round the one that posted the root; nobody else loses anything by it.
    function voidRound(uint256 task_, uint32 round_) external {
        Task storage t = _tasks[task_];
        Round storage r = _openRound(task_, round_);
        if (!_overdue(t, task_, round_, r.head())) revert NotOverdue(task_, round_);
        _countVoid(t);
        bool batched = r.flags & BATCHED != 0;
        bool silent = batched && r.commitsClosedAt == 0;
        if (silent || r.committed >= t.params.quorum) {
            // Nobody but who posted a root can be asked to stand for it.
            uint256 lost = _forfeit(task_, t.active, batched && !silent ? 1 : t.seats, t.seats);
            _credit(_stakes(), msg.sender, lost / VOID_REWARD);
            _burn(lost - lost / VOID_REWARD);
        } else {
            _payBounty(t, task_, _revealsEnd(t, r.head()));
            // Too few committed, or the active seat says so: the next one may ask better, or count better.
            _passTurn(t, task_);
        }
        _void(t, task_, round_, false);
    }

    /// @notice What binds a sender to one update before anybody else can see it.
    function commitmentOf(
        uint256 task_,
        uint32 round_,
        address sender,
        bytes32 base,
        ContentRef calldata update,
        bytes32 salt
    ) external view returns (bytes32) {
        return _commitment(task_, round_, sender, base, update, salt);
    }

    /// @notice The phase of a task's current round. In `Revealing` a proposal may come already, if it has an update of
    /// everybody who committed.
    function phase(uint256 task_) external view returns (Phase) {
        Task storage t = _existing(task_);
        if (t.finished) return Phase.Finished;
        if (t.currentRound == 0) {
            bool enrolling = block.timestamp < t.enrolDeadline || t.enrolled < t.params.minParticipants;
            return enrolling ? Phase.Enrolling : Phase.Idle;
        }
        Round storage r = _rounds[task_][t.currentRound];
        if (r.status == RoundStatus.Proposed) {
            if (r.disputes != 0) return Phase.Disputed;
            return _windowOpen(t, task_, t.currentRound, r.proposedAt) ? Phase.Challenging : Phase.Settleable;
        }
        if (r.status != RoundStatus.Open) return Phase.Idle;
        if (_commitsOpen(r.head())) return Phase.Committing;
        if (r.flags & BATCHED != 0 && r.commitsClosedAt == 0 && block.timestamp < _closingUntil(t, r.head())) {
            return Phase.Closing;
        }
        if (_admitting(r.head())) return Phase.Admitting;
        if (_overdue(t, task_, t.currentRound, r.head())) return Phase.Overdue;
        if (_isScoring(task_, t.currentRound)) return Phase.Scoring;
        return _revealsOpen(t, r.head()) ? Phase.Revealing : Phase.Proposing;
    }

    /// @notice The round that can be settled now; 0: none.
    function settleable(uint256 task_) external view returns (uint32 number) {
        Task storage t = _existing(task_);
        number = t.finalizedRound + 1;
        Round storage r = _rounds[task_][number];
        if (r.status != RoundStatus.Proposed || r.disputes != 0) return 0;
        if (_windowOpen(t, task_, number, r.proposedAt)) return 0;
    }

    /// @notice Whether it is an aggregator's turn to do what the task needs next.
    function mayAct(uint256 task_, address holder) external view returns (bool) {
        Task storage t = _existing(task_);
        Round storage r = _rounds[task_][t.currentRound];
        uint256 due = _openingDue(t, task_);
        if (r.status == RoundStatus.Open) {
            due = r.flags & BATCHED != 0 && r.commitsClosedAt == 0
                ? r.commitDeadline
                : _proposalDue(t, task_, t.currentRound, r.head());
        }
        for (uint256 turn = 0; turn < t.seats; ++turn) {
            if (_seats[task_][(t.active + turn) % t.seats].holder != holder) continue;
            return turn == 0 || block.timestamp >= due + turn * t.params.proposePeriod;
        }
        return false;
    }

    function _passTurn(Task storage t, uint256 task_) private {
        if (t.seats == 1) return;
        uint8 next = (t.active + 1) % t.seats;
        t.active = next;
        emit TurnTaken(task_, next, _seats[task_][next].holder);
    }

    /// @dev For what an aggregator should have done, and somebody else did a propose period later.
    function _payBounty(Task storage t, uint256 task_, uint256 due) private {
        if (block.timestamp < due + t.params.proposePeriod) return;
        uint256 active = t.active;
        if (_seats[task_][active].holder == msg.sender) return;
        uint256 bounty = t.params.bond / BOUNTY;
        _credit(_stakes(), msg.sender, _takeDeposit(task_, active, bounty));
    }

    function _requireOpenable(Task storage t, uint256 task_, uint32 round_) private {
        uint32 number = t.currentRound;
        if (round_ != number + 1) revert WrongRound(round_, number + 1);
        // slither-disable-next-line incorrect-equality -- a status, no amount
        if (number != 0 && _rounds[task_][number].status == RoundStatus.Open) revert PreviousRoundOpen(task_, number);
        if (number == 0 || t.params.openEnrolment) _requireEnrolled(t, task_);
        _actingSeat(t, task_, _openingDue(t, task_), false);
        uint32 unfinal = number - t.finalizedRound;
        if (unfinal >= t.params.maxUnfinal) revert TooManyUnfinal(task_);
        // INVARIANT: no more rounds can be paid than the budget covers.
        if (t.stopSettled || t.settledRounds + unfinal >= t.params.rounds) revert RoundsExhausted(task_);
    }

    function _requireEnrolled(Task storage t, uint256 task_) private view {
        if (t.enrolled < t.params.minParticipants) revert TooFewParticipants(t.enrolled, t.params.minParticipants);
        if (t.enrolled != t.params.maxParticipants && block.timestamp < t.enrolDeadline) revert EnrolmentOpen(task_);
    }

    /// @dev Since when the next round could have been opened.
    function _openingDue(Task storage t, uint256 task_) private view returns (uint256) {
        if (t.currentRound == 0) return t.enrolDeadline;
        uint256 proposedAt = _rounds[task_][t.currentRound].proposedAt;
        return proposedAt > t.lastFinalAt ? proposedAt : t.lastFinalAt;
    }

    /// @dev The flags of what a new round is for. It is for bids if there are none yet, the last ones do not stand, or they are
    /// old.
    function _purpose(Task storage t, uint256 task_, uint32 number, uint256 selected) private returns (uint8) {
        uint256 every = t.params.biddingEvery;
        if (every != 0) {
            uint32 last = t.lastBidding;
            Round storage r = _rounds[task_][last];
            if (last == 0 || r.status == RoundStatus.Voided || r.flags & EMPTY != 0 || number - last >= every) {
                if (selected != t.enrolled) revert TooFewParticipants(selected, t.enrolled);
                t.lastBidding = number;
                return BIDDING;
            }
        }
        return t.params.scorers != 0 ? SCORED : 0;
    }

    /// @dev All is read before anything is written, so that the slot is written once.
    function _begin(Task storage t, uint256 task_, uint32 number, uint256 selected, uint8 flags)
        private
        returns (Round storage r)
    {
        if (selected > MOST_SELECTED) revert TooManySelected(selected);
        if (selected < t.params.quorum) revert TooFewParticipants(selected, t.params.quorum);
        uint32 deadline = uint32(block.timestamp) + t.params.commitPeriod;
        uint32 revealPeriod = t.params.revealPeriod;
        uint32 base = t.latestRound;
        flags |= _purpose(t, task_, number, selected);
        flags |= (t.params.batched ? BATCHED : 0) | (t.params.randomness == RANDOMNESS_BEACON ? BEACON : 0)
            | (t.params.minStake > _minStake ? STAKED : 0);
        r = _rounds[task_][number];
        (r.status, r.commitDeadline, r.revealPeriod) = (RoundStatus.Open, deadline, revealPeriod);
        (r.baseRound, r.selected, r.flags) = (base, uint16(selected), flags);
    }

    function _select(uint256 task_, uint32 round_, uint32[] calldata wordIndices, uint256[] calldata words)
        private
        returns (uint256 count)
    {
        for (uint256 i = 0; i < words.length; ++i) {
            if (words[i] == 0 || (i > 0 && wordIndices[i] <= wordIndices[i - 1])) revert WordsNotAscending();
            if (words[i] & ~_enrolled[task_][wordIndices[i]] != 0) revert NotEnrolled(wordIndices[i]);
            _selected[task_][_place(round_, wordIndices[i])] = words[i];
            count += Lanes.popcount(words[i]);
        }
    }

    /// @dev A signer's first commitment in a task; another signer of the same participant loses its place.
    function _newPledger(uint256 task_, uint32 round_) private returns (uint32 id) {
        id = _idOfSigner(msg.sender);
        if (!_isSelected(task_, round_, id)) revert NotSelected(id);
        if (_pledged(task_, round_, id)) revert AlreadyCommitted(id);
        delete _pledges[task_][_pledgers[task_][id]];
        _pledgers[task_][id] = msg.sender;
    }

    /// @dev What not every round asks.
    function _requireEntitled(Head head, uint256 task_, uint32 round_, uint32 id, uint256 stake) private view {
        if (head.has(STAKED)) {
            uint256 least = _tasks[task_].params.minStake;
            if (stake < least) revert StakeTooSmall(stake, least);
        }
        if (!head.has(EVERYBODY) && !_isSelected(task_, round_, id)) revert NotSelected(id);
    }

    function _requireProposable(Task storage t, uint256 task_, uint32 round_, Round storage r, Seen memory seen)
        private
        view
    {
        if (_commitsOpen(r.head()) || (r.flags & BATCHED != 0 && r.commitsClosedAt == 0)) {
            revert CommitsAreOpen();
        }
        if (_admitting(r.head())) revert StillAdmitting(r.commitsClosedAt);
        if (seen.delivered > r.committed) revert WrongCount(seen.delivered, r.committed);
        // All that was committed is there, or the time to reveal it is over. Who is in the root and on chain counts twice
        // among the committed.
        if (seen.late != 0 && _revealsOpen(t, r.head())) revert RevealsAreOpen();
        if (_overdue(t, task_, round_, r.head())) revert ProposalOverdue();
    }

    /// @dev Below quorum, and in a bidding round, the model must stay, the task goes on, and nobody is paid.
    function _requirePayable(
        Task storage t,
        uint256 task_,
        Round storage r,
        Seen memory seen,
        Proposal calldata proposal
    ) private {
        uint256 limit = t.params.unitsPerRound;
        // INVARIANT: all earlier rounds of a task that pools pay are final, and have paid at most what they released.
        if (t.params.poolsPay) limit = limit * (uint256(t.settledRounds) + 1) - t.spentUnits;
        bool below = seen.delivered < t.params.quorum;
        if (below || seen.bidding) {
            // slither-disable-next-line incorrect-equality -- a digest, no amount
            bool stays = !proposal.stop && proposal.model.digest == _baseModel(t, task_, r);
            if (!stays) revert BelowQuorum(seen.delivered, t.params.quorum);
            limit = 0;
            if (below) r.flags |= EMPTY;
        }
        if (seen.units > limit) revert PayOverBudget(seen.units, limit);
    }

    function _record(
        uint256 task_,
        uint32 round_,
        Proposal calldata proposal,
        uint256[] calldata verdictWords,
        uint256[] calldata shareWords
    ) private {
        Task storage t = _tasks[task_];
        Round storage r = _rounds[task_][round_];
        _proposals[task_][round_ % t.params.maxUnfinal] = keccak256(abi.encode(proposal, verdictWords, shareWords));
        if (t.params.checkRate != 0 || (t.params.penalty != 0 && _leastWindowBlocks != 0)) {
            _proposedIn[task_][round_ % t.params.maxUnfinal] = (uint256(round_) << 64) | block.number;
        }
        bytes32 base = _baseModel(t, task_, r);
        if (r.flags & BATCHED != 0) emit BatchProposed(task_, round_, msg.sender, proposal, base);
        else emit RoundProposed(task_, round_, msg.sender, proposal, verdictWords, shareWords, base);
    }

    function _requireSettleable(Task storage t, Round storage r, uint256 task_, uint32 round_)
        private
        view
        returns (uint256 until)
    {
        if (r.status != RoundStatus.Proposed) revert NotProposed(task_, round_);
        if (round_ != t.finalizedRound + 1) revert WrongRound(round_, t.finalizedRound + 1);
        until = uint256(r.proposedAt) + t.params.challengeWindow;
        if (_windowOpen(t, task_, round_, r.proposedAt)) revert WindowOpen(until);
        if (r.disputes != 0) revert DisputesOpen(r.disputes);
        // Nobody is late with what an earlier round or a dispute kept it from.
        if (t.lastFinalAt > until) until = t.lastFinalAt;
        // Nor with what waited for blocks: it has as many again.
        if (_waitsForBlocks(t, task_, round_, 2)) until = block.timestamp;
    }

    /// @dev Whose updates the scorers were shown is judged, on what the contract made of the scores.
    function _requireTallied(Scoring storage s, uint256 task_, uint32 round_, bool batched, bytes32 updates)
        private
        view
    {
        if (s.round != round_ || !s.tallied) revert NotTallied(task_, round_);
        if (batched && s.updates != updates) revert WrongUpdates(s.updates, updates);
    }

    function _isScoring(uint256 task_, uint32 round_) private view returns (bool) {
        return _scorings[task_].round == round_ && !_scorings[task_].tallied;
    }

    function _requireUpdates(bool batched, bytes32 expected, Updates calldata updates) private pure {
        uint256 count = updates.digests.length;
        if (updates.lengthWords.length != (count + LANES - 1) / LANES) revert LengthMismatch();
        // The number of lengths follows from that of digests, so no two pairs have the same bytes.
        // slither-disable-next-line encode-packed-collision
        bytes32 found = batched ? keccak256(abi.encodePacked(updates.digests, updates.lengthWords)) : bytes32(0);
        if (found != expected || (!batched && count != 0)) revert WrongUpdates(expected, found);
    }

    /// @dev Everybody selected is judged, absence is what the ledger saw, and only accepted updates are paid.
    function _checkWords(
        uint256 task_,
        uint32 round_,
        uint256[] calldata verdictWords,
        uint256[] calldata shareWords,
        uint8 flags
    ) private view returns (Seen memory seen) {
        if (verdictWords.length != shareWords.length) revert LengthMismatch();
        (seen.task, seen.round, seen.batched) = (task_, round_, flags & BATCHED != 0);
        (seen.scored, seen.bidding) = (flags & SCORED != 0, flags & BIDDING != 0);
        seen.word = type(uint256).max;
        uint256 least = 0;
        for (uint256 i = 0; i < verdictWords.length; ++i) {
            uint256 slot = verdictWords[i] >> 64;
            if (slot < least || slot > type(uint32).max / LANES) revert SlotsNotAscending();
            uint256 verdicts = verdictWords[i] & type(uint64).max;
            if (slot / SLOTS_PER_WORD != seen.word) _look(seen, slot / SLOTS_PER_WORD);
            // Slots are below 2^29.
            unchecked {
                least = slot + 1;
                // The usual case, and the reason that a thousand participants are cheap: all eight were accepted.
                if (verdicts == Lanes.ALL && (seen.present >> ((slot % SLOTS_PER_WORD) * LANES)) & 0xff == 0xff) {
                    _add(seen, LANES, LANES, shareWords[i]);
                    continue;
                }
            }
            _checkSlot(seen, slot, verdicts, shareWords[i]);
        }
    }

    function _look(Seen memory seen, uint256 word) private view {
        seen.word = word;
        seen.selected = _selectedWord(seen.task, seen.round, word);
        seen.revealed = _revealed[seen.task][_place(seen.round, word)].value;
        // Who may have been accepted.
        seen.present = seen.batched ? seen.selected : seen.selected & seen.revealed;
        if (seen.bidding) seen.present = 0;
        if (!seen.scored) return;
        // A word that this round does not select may have a list of an earlier one.
        if (seen.batched) seen.revealed = _listed[seen.task][word] & seen.selected;
        seen.outvoted = _outvoted[seen.task][_place(seen.round, word)];
        seen.present = seen.selected & seen.revealed & ~seen.outvoted;
    }

    function _checkSlot(Seen memory seen, uint256 slot, uint256 verdicts, uint256 shares) private view {
        if (verdicts == 0) revert WrongVerdict(uint32(slot * LANES), 0);
        uint256 shift = (slot % SLOTS_PER_WORD) * LANES;
        uint256 selected = Lanes.spread((seen.selected >> shift) & 0xff);
        (uint256 accepted, uint256 present) = (verdicts, verdicts);
        // Else, as nearly always, all that were selected were accepted.
        if (verdicts != selected || verdicts != Lanes.spread((seen.present >> shift) & 0xff)) {
            accepted = Lanes.equal(verdicts, Verdicts.ACCEPTED);
            present = accepted | Lanes.atLeastSixteen(verdicts) | Lanes.equal(verdicts, Verdicts.HEARD);
            _requireTrue(_contradiction(seen, slot, verdicts, selected, present), slot, verdicts);
        }
        if (shares & ~Lanes.widen(accepted) != 0) {
            uint256 unpaid = Lanes.occupied(shares) & ~accepted;
            revert PayWithoutAcceptance(uint32(slot * LANES + Lanes.first(unpaid)));
        }
        _add(seen, Lanes.count(selected), Lanes.count(present), shares);
    }

    /// @dev Names the first wrong lane, if there is one.
    function _requireTrue(uint256 wrong, uint256 slot, uint256 verdicts) private pure {
        if (wrong == 0) return;
        uint256 lane = Lanes.first(wrong);
        revert WrongVerdict(uint32(slot * LANES + lane), (verdicts >> (LANES * lane)) & 0xff);
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
    function _contradiction(Seen memory seen, uint256 slot, uint256 verdicts, uint256 selected, uint256 present)
        private
        view
        returns (uint256 wrong)
    {
        uint256 revealed = Lanes.spread((seen.revealed >> ((slot % SLOTS_PER_WORD) * LANES)) & 0xff);
        uint256 missed = Lanes.equal(verdicts, Verdicts.MISSED);
        uint256 late = Lanes.equal(verdicts, Verdicts.LATE);
        seen.late |= late;
        // Exactly who was selected has a verdict, and a known one.
        wrong = (Lanes.equal(verdicts, 0) ^ Lanes.ALL ^ selected) | ((present | missed | late) ^ selected);
        // Who was listed for the scorers is present, and nobody else.
        wrong |= seen.batched && !seen.scored ? revealed & ~present : revealed ^ present;
        // Bids are heard, and nothing else is.
        wrong |= Lanes.equal(verdicts, seen.bidding ? Verdicts.ACCEPTED : Verdicts.HEARD);
        uint256 outvoted = Lanes.spread((seen.outvoted >> ((slot % SLOTS_PER_WORD) * LANES)) & 0xff);
        // The scorers' judgement is theirs alone; of a round without them nobody is outvoted.
        wrong |= Lanes.equal(verdicts, Verdicts.ACCEPTED) & outvoted;
        wrong |= Lanes.equal(verdicts, Verdicts.OUTVOTED) & ~outvoted;
        if ((missed | late) == 0 || wrong != 0) return wrong;
        uint256 committed = 0;
        for (uint256 lane = 0; lane < LANES; ++lane) {
            if (((missed | late) >> (LANES * lane)) & 1 == 0) continue;
            if (_pledged(seen.task, seen.round, uint32(slot * LANES + lane))) committed |= 1 << (LANES * lane);
        }
        wrong = missed & committed;
        if (!seen.batched) wrong |= late & ~committed;
    }

    /// @dev The words were checked when they were proposed, and their hash since.
    function _applyWords(Settling memory s, uint256[] calldata verdictWords, uint256[] calldata shareWords) private {
        mapping(uint256 slot => Word) storage evidences = _evidence[s.publisher];
        mapping(uint256 slot => Word) storage credits = _credits[s.task];
        for (uint256 i = 0; i < verdictWords.length; ++i) {
            uint256 word = verdictWords[i];
            uint256 slot = word >> 64;
            word &= type(uint64).max;
            if (slot / SLOTS_PER_WORD != s.word) {
                _noteJudged(s);
                s.word = slot / SLOTS_PER_WORD;
            }
            // A byte, moved by less than 256 bits.
            unchecked {
                uint256 judged = 0xff;
                if (word != Lanes.ALL) {
                    judged = Lanes.gather(word) & ~Lanes.gather(Lanes.equal(word, Verdicts.HEARD));
                    // Bids alone: nobody was judged, and nobody is paid.
                    if (judged == 0) continue;
                }
                s.judged |= judged << ((slot % SLOTS_PER_WORD) * LANES);
            }
            Word storage evidence = evidences[slot];
            uint256 before = evidence.value;
            evidence.value = word == Lanes.ALL ? Evidence.afterAcceptance(before) : _judged(s, before, slot, word);
            uint256 shares = shareWords[i];
            if (shares == 0) continue;
            // INVARIANT: all units of a task together fit 32 bits, so no lane of its credits overflows.
            unchecked {
                credits[slot].value += shares;
                s.units += Lanes.sum(shares);
            }
        }
        _noteJudged(s);
    }

    /// @dev Of the 256 participants of a word, whom this settlement has judged so far.
    function _noteJudged(Settling memory s) private {
        if (s.judged == 0) return;
        _judgedToday(s.publisher, s.word).value |= s.judged;
        s.judged = 0;
    }

    function _judged(Settling memory s, uint256 before, uint256 slot, uint256 verdicts) private returns (uint256 word) {
        uint256 accepted = Lanes.equal(verdicts, Verdicts.ACCEPTED);
        uint256 lanes = Lanes.widen(accepted);
        word = (before & ~lanes) | (Evidence.afterAcceptance(before) & lanes);
        // An accepted byte is its own flag, so this leaves the others.
        uint256 others = verdicts ^ accepted;
        for (uint32 id = uint32(slot * LANES); others != 0; ++id) {
            uint256 verdict = others & 0xff;
            others >>= LANES;
            if (verdict == 0 || verdict == Verdicts.HEARD) continue;
            uint256 shift = LANE_BITS * (id % LANES);
            uint256 next = Evidence.afterVerdict((before >> shift) & type(uint32).max, verdict);
            word = (word & ~(uint256(type(uint32).max) << shift)) | (next << shift);
            if (s.penalty != 0) _punish(s, id, verdict, next);
        }
    }

    /// @dev By the task's schedule; `lane` is the evidence after the verdict.
    function _punish(Settling memory s, uint32 id, uint256 verdict, uint256 lane) private {
        TaskParams storage p = _tasks[s.task].params;
        (uint256 amount, Offence offence) = (0, Offence.NeverRevealed);
        if (verdict == Verdicts.LATE) {
            // It may have been called late falsely: it was absent, and that is all.
            if (_excused(s, id)) return;
            amount = Offences.part(s.penalty, p.neverRevealedShare);
        } else if (Verdicts.isGarbage(verdict)) {
            (amount, offence) = (Offences.part(s.penalty, p.garbageShare), Offence.Garbage);
        } else if (Verdicts.isStatistical(verdict)) {
            // slither-disable-next-line unused-return -- the negative count alone is asked for
            (, uint256 negative,) = Evidence.unpack(lane);
            amount = Offences.repeatedRefusal(s.penalty, p.statisticalShare, p.freeRefusals, negative);
            offence = Offence.RepeatedRefusal;
        }
        if (amount == 0 || _spares(s)) return;
        s.burned += _slash(id, amount, s.task, s.round, offence);
    }

    /// @dev Whether too few verifiers have served the task since the round was opened, so that nobody is punished: a lie could
    /// not be judged, or by a liar's friends. Looked at once in a call.
    function _spares(Settling memory s) private view returns (bool) {
        if (s.looked) return s.spared;
        uint256 opened = _openedAt(_tasks[s.task], _rounds[s.task][s.round]);
        s.looked = true;
        s.spared = _countServing(s.task, opened, block.number + 1) < _leastPool;
        return s.spared;
    }

    /// @dev Called late, and revealed on chain since.
    function _excused(Settling memory s, uint32 id) private view returns (bool) {
        return (_revealed[s.task][_place(s.round, id / 256)].value >> (id % 256)) & 1 != 0;
    }

    function _countVoid(Task storage t) private {
        if (t.consecutiveVoids < type(uint16).max) ++t.consecutiveVoids;
    }

    function _openRound(uint256 task_, uint32 round_) private view returns (Round storage r) {
        r = _rounds[task_][round_];
        if (r.status != RoundStatus.Open) revert RoundNotOpen(task_, round_);
    }
}
