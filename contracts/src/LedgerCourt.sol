// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {LedgerState} from "./LedgerState.sol";
import {Offences} from "./Offences.sol";
import {Verdicts} from "./Evidence.sol";

/// @title Disputes about proposed rounds
/// @notice What the ledger can see for itself, it decides at once. Whether an aggregator holds a commitment that it claims,
/// the aggregator shows or loses. What only a replay of the round can tell, juries of staked verifiers decide: drawn at
/// random, they commit to what they found before they reveal it, and there are at most two appeals.
/// @dev The last of the ledger's parts.
contract LedgerCourt is LedgerState {
    /// @notice Most appeals after the first jury.
    uint256 public constant MAX_LEVEL = 2;
    /// @notice Fewest verifiers without which nobody can challenge a proposal.
    uint256 public constant LEAST_POOL = 3;
    uint256 private constant MAX_DISPUTES = 200;
    uint256 private constant MAX_LOOKS = 64;
    bytes32 private constant DOMAIN =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant COMMITMENT =
        keccak256("Commitment(uint256 task,uint32 round,uint32 participant,bytes32 commitment)");

    /// @notice A proposal as it was posted.
    struct Posted {
        Proposal proposal;
        uint256[] verdictWords;
        uint256[] shareWords;
    }

    /// @notice A commitment that a participant signed (EIP-712) or, with no signature, sent to a batched round; or one that
    /// is in a root.
    struct Claim {
        bytes32 commitment;
        bytes signature;
        bytes32[] proof;
    }

    constructor(Settings memory s) LedgerState(s) {}

    /// @notice Puts the sender's participant among the verifiers from which juries are drawn.
    function enlist() external {
        uint32 id = _idOfSender();
        uint32 place = _verifierOf[id].placePlusOne;
        if (place != 0 && _verifierOf[id].since != LEFT) revert AlreadyServing(id);
        uint96 stake = _participants[id].stake;
        if (stake < _minVerifierStake) revert StakeTooSmall(stake, _minVerifierStake);
        if (place == 0) _verifiers.push(id);
        _verifierOf[id] = Verifier(place == 0 ? uint32(_verifiers.length) : place, uint64(block.number));
        emit VerifierEnlisted(id);
    }

    /// @notice Takes the sender's participant out again; on juries that were drawn it still serves.
    function retire() external {
        uint32 id = _idOfSender();
        if (_verifierOf[id].placePlusOne == 0 || _verifierOf[id].since == LEFT) revert NotServing(id);
        _strike(id);
    }

    /// @notice Punishes a participant that signed two commitments for one round, or signed one and sent another. The
    /// reporter gets half of the penalty.
    function reportEquivocation(uint256 task_, uint32 round_, uint32 id, Claim calldata a, Claim calldata b) external {
        Task storage t = _existing(task_);
        if (a.commitment == b.commitment) revert NotRefuted();
        _requireMade(task_, round_, id, a);
        _requireMade(task_, round_, id, b);
        _punishOnce(keccak256(abi.encode(Offence.Equivocation, task_, round_, id)));
        uint256 penalty = Offences.equivocation(t.params.penalty);
        uint256 taken = _slash(id, penalty, task_, round_, Offence.Equivocation);
        emit Equivocated(task_, round_, id, msg.sender);
        _credit(_stakes(), msg.sender, taken / 2);
        _burn(taken - taken / 2);
    }

    /// @notice Refutes a proposal that says a participant never committed, although its commitment is in the root.
    function refuteMissed(uint256 task_, uint32 round_, uint32 id, Claim calldata claim, Posted calldata posted)
        external
    {
        (Task storage t, Round storage r) = _challengeable(task_, round_);
        _requireProposal(t, task_, round_, posted.proposal, posted.verdictWords, posted.shareWords);
        bytes32 root = _roots[task_][round_ % t.params.maxUnfinal];
        bool listed = r.flags & BATCHED != 0 && _inRoot(root, id, claim.commitment, claim.proof);
        if (!listed || _verdict(posted.verdictWords, id) != Verdicts.MISSED) revert NotRefuted();
        _refute(t, r, task_, round_, id);
    }

    /// @notice Refutes a round whose root holds two commitments of one participant.
    function refuteDuplicate(uint256 task_, uint32 round_, uint32 id, Claim calldata a, Claim calldata b) external {
        (Task storage t, Round storage r) = _challengeable(task_, round_);
        bytes32 root = _roots[task_][round_ % t.params.maxUnfinal];
        bool listed = r.flags & BATCHED != 0 && _inRoot(root, id, a.commitment, a.proof)
            && _inRoot(root, id, b.commitment, b.proof);
        if (!listed || a.commitment == b.commitment) revert NotRefuted();
        _refute(t, r, task_, round_, id);
    }

    /// @notice Demands that the aggregator shows the commitment that a participant is said to have signed.
    /// @dev Of a participant that is judged by an update and did not commit on chain, or of anybody if the root's count says
    /// that nobody is missing. The bond is taken from the free balance and any value sent.
    function demandCommitment(uint256 task_, uint32 round_, uint32 id, Posted calldata posted)
        external
        payable
        returns (uint256 dispute)
    {
        (Task storage t, Round storage r) = _challengeable(task_, round_);
        if (r.flags & BATCHED == 0) revert NotBatched(task_);
        if (!_isSelected(task_, round_, id)) revert NotSelected(id);
        if (r.flags & COMPLETE == 0) {
            _requireProposal(t, task_, round_, posted.proposal, posted.verdictWords, posted.shareWords);
            // INVARIANT: nothing is demanded that the aggregator need not have.
            if (_forced[task_][round_][id] != bytes32(0)) revert NotRefuted();
            if (_verdict(posted.verdictWords, id) == Verdicts.MISSED) revert NotRefuted();
        }
        dispute = _openDispute(t, r, task_, round_, id, DisputeKind.Commitment);
        _disputes[dispute].deadline = uint40(block.timestamp) + _disputePeriod;
    }

    /// @notice Answers a demand: the commitment, its way to the root, and the participant's signature. Anyone may.
    function showCommitment(uint256 dispute, Claim calldata claim) external {
        Dispute storage d = _ongoing(dispute, DisputeKind.Commitment);
        Task storage t = _tasks[d.task];
        _requireSigned(d.task, d.round, d.subject, claim);
        bytes32 root = _roots[d.task][d.round % t.params.maxUnfinal];
        if (!_inRoot(root, d.subject, claim.commitment, claim.proof)) revert NotRefuted();
        emit CommitmentShown(dispute, claim.commitment, claim.signature);
        _credit(_stakes(), _seats[d.task][d.accused].holder, d.bond / 2);
        _burn(d.bond - d.bond / 2);
        _close(d, dispute, DisputeStatus.Upheld);
    }

    /// @notice Challenges a proposal: juries of verifiers replay the round. A proposal can be challenged once.
    /// @dev The bond is taken from the free balance and any value sent.
    function challengeRound(uint256 task_, uint32 round_) external payable returns (uint256 dispute) {
        (Task storage t, Round storage r) = _challengeable(task_, round_);
        if (_challenged[task_][round_]) revert AlreadyChallenged(task_, round_);
        if (_verifiers.length < LEAST_POOL) revert TooFewVerifiers(_verifiers.length, LEAST_POOL);
        _challenged[task_][round_] = true;
        dispute = _openDispute(t, r, task_, round_, 0, DisputeKind.Replay);
        _call(dispute, 0);
    }

    /// @notice Draws the jury that was called, from a block that nobody knew when it was called. Anyone may.
    function drawJury(uint256 dispute) external {
        Dispute storage d = _ongoing(dispute, DisputeKind.Replay);
        Jury storage jury = _juries[dispute][d.level];
        if (jury.commitsUntil != 0) revert NotInTime(0, jury.drawUntil);
        if (block.number <= jury.drawBlock || block.timestamp >= jury.drawUntil) {
            revert NotInTime(jury.drawBlock + 1, jury.drawUntil);
        }
        bytes32 seed = blockhash(jury.drawBlock);
        if (seed == bytes32(0)) {
            // The chain has forgotten that block, so another one decides.
            (jury.drawBlock, jury.pool) = (uint64(block.number) + 1, uint32(_verifiers.length));
            emit JuryCalled(dispute, d.level, jury.drawBlock);
            return;
        }
        --_undrawn;
        jury.commitsUntil = uint40(block.timestamp) + _disputePeriod;
        jury.revealsUntil = jury.commitsUntil + _disputePeriod;
        _draw(d, jury, keccak256(abi.encode(seed, dispute, d.level)));
        emit JuryDrawn(dispute, d.level, jury.members);
    }

    /// @notice Commits the sender's participant, a juror, to what it found; see `voteOf`.
    function commitVote(uint256 dispute, bytes32 commitment) external {
        Dispute storage d = _ongoing(dispute, DisputeKind.Replay);
        Jury storage jury = _juries[dispute][d.level];
        if (block.timestamp >= jury.commitsUntil) revert NotInTime(0, jury.commitsUntil);
        uint32 id = _requireJuror(jury, dispute);
        Vote storage vote = _votes[dispute][d.level][id];
        if (commitment == bytes32(0)) revert EmptyCommitment();
        if (vote.commitment != bytes32(0)) revert AlreadyVoted(id);
        vote.commitment = commitment;
        ++jury.committed;
        emit VoteCommitted(dispute, d.level, id, commitment);
    }

    /// @notice Reveals the vote that the sender's participant committed to.
    /// @param valid Whether the proposal followed from the round, with its measurements within the tolerance.
    /// @param transcript Digest of the replay, with values that the proposal does not tell.
    function revealVote(uint256 dispute, bool valid, bytes32 transcript, bytes32 salt) external {
        Dispute storage d = _ongoing(dispute, DisputeKind.Replay);
        Jury storage jury = _juries[dispute][d.level];
        bool begun = jury.committed == jury.members.length || block.timestamp >= jury.commitsUntil;
        if (!begun || block.timestamp >= jury.revealsUntil) revert NotInTime(jury.commitsUntil, jury.revealsUntil);
        uint32 id = _requireJuror(jury, dispute);
        Vote storage vote = _votes[dispute][d.level][id];
        bytes32 found = voteOf(dispute, d.level, id, valid, transcript, salt);
        if (vote.commitment != found) revert WrongVote(vote.commitment, found);
        if (vote.outcome != bytes32(0)) revert AlreadyVoted(id);
        vote.outcome = keccak256(abi.encode(valid, transcript));
        vote.valid = valid;
        ++jury.revealed;
        emit VoteRevealed(dispute, d.level, id, valid, transcript, salt);
    }

    /// @notice Counts the votes of a jury that is done. Without an outcome of more than half of it, the next jury is called.
    function decide(uint256 dispute) external {
        Dispute storage d = _ongoing(dispute, DisputeKind.Replay);
        Jury storage jury = _juries[dispute][d.level];
        if (jury.decided) revert NotInTime(0, jury.revealsUntil);
        uint256 until = jury.commitsUntil == 0 ? jury.drawUntil : jury.revealsUntil;
        bool done = jury.members.length != 0 && jury.revealed == jury.members.length;
        if (!done && block.timestamp < until) revert NotInTime(until, type(uint256).max);
        jury.decided = true;
        if (jury.commitsUntil == 0) --_undrawn;
        (jury.outcome, jury.valid) = _majority(dispute, d.level, jury);
        emit JuryDecided(dispute, d.level, jury.valid, jury.outcome);
        if (jury.outcome == bytes32(0) && _higherJury(d, jury)) _call(dispute, ++d.level);
        else d.deadline = uint40(block.timestamp) + (_higherJury(d, jury) ? _disputePeriod : 0);
    }

    /// @notice Appeals against what a jury found, with twice the bond of the level before. Anyone may.
    function appeal(uint256 dispute) external payable {
        Dispute storage d = _ongoing(dispute, DisputeKind.Replay);
        Jury storage jury = _juries[dispute][d.level];
        if (!jury.decided) revert NotInTime(0, 0);
        if (!_higherJury(d, jury)) revert NoHigherJury();
        if (block.timestamp >= d.deadline) revert NotInTime(0, d.deadline);
        uint96 bond = uint96(uint256(d.bond) << (d.level + 1));
        _takeValue();
        _debit(_stakes(), msg.sender, bond);
        (jury.appellant, jury.appealBond) = (msg.sender, bond);
        emit Appealed(dispute, d.level, msg.sender, bond);
        _call(dispute, ++d.level);
    }

    /// @notice Closes a dispute whose last deadline is over, or whose round was voided for another reason.
    function closeDispute(uint256 dispute) external {
        Dispute storage d = _record(dispute);
        Task storage t = _tasks[d.task];
        if (_rounds[d.task][d.round].status == RoundStatus.Voided) return _closeMoot(d, dispute);
        if (block.timestamp < d.deadline) revert NotInTime(d.deadline, type(uint256).max);
        if (d.kind == DisputeKind.Commitment) {
            _close(d, dispute, DisputeStatus.Overturned);
            _credit(_stakes(), d.challenger, d.bond);
            _overturn(t, d.task, d.round, d.accused, d.challenger);
        } else {
            if (!_juries[dispute][d.level].decided) revert NotInTime(d.deadline, type(uint256).max);
            _closeReplay(t, d, dispute);
        }
    }

    /// @notice What a juror commits to.
    function voteOf(uint256 dispute, uint8 level, uint32 juror, bool valid, bytes32 transcript, bytes32 salt)
        public
        view
        returns (bytes32)
    {
        return keccak256(abi.encode(block.chainid, address(this), dispute, level, juror, valid, transcript, salt));
    }

    /// @notice A dispute's record; ids start at 0.
    function disputeRecord(uint256 id) external view returns (Dispute memory) {
        if (id >= _disputes.length) revert UnknownDispute(id);
        return _disputes[id];
    }

    /// @notice How many disputes there ever were.
    function disputeCount() external view returns (uint256) {
        return _disputes.length;
    }

    /// @notice The jury of a dispute's level.
    function juryOf(uint256 id, uint8 level) external view returns (Jury memory) {
        return _juries[id][level];
    }

    /// @notice A juror's vote.
    function voteBy(uint256 id, uint8 level, uint32 juror) external view returns (Vote memory) {
        return _votes[id][level][juror];
    }

    /// @notice How many verifiers there are.
    function verifierCount() external view returns (uint256) {
        return _verifiers.length;
    }

    /// @notice Whether a participant may be drawn for a jury now.
    function isServing(uint32 id) public view returns (bool) {
        Verifier storage v = _verifierOf[id];
        return v.placePlusOne != 0 && v.since != LEFT && _participants[id].stake >= _minVerifierStake;
    }

    function _challengeable(uint256 task_, uint32 round_) private view returns (Task storage t, Round storage r) {
        t = _existing(task_);
        r = _rounds[task_][round_];
        bool open =
            r.status == RoundStatus.Proposed && block.timestamp < uint256(r.proposedAt) + t.params.challengeWindow;
        if (!open) revert NotChallengeable(task_, round_);
    }

    function _record(uint256 dispute) private view returns (Dispute storage d) {
        if (dispute >= _disputes.length) revert UnknownDispute(dispute);
        d = _disputes[dispute];
        if (d.status != DisputeStatus.Open) revert DisputeIsClosed(dispute);
    }

    function _ongoing(uint256 dispute, DisputeKind kind) private view returns (Dispute storage d) {
        d = _record(dispute);
        if (d.kind != kind) revert WrongKind(dispute);
        if (_rounds[d.task][d.round].status != RoundStatus.Proposed) revert NotProposed(d.task, d.round);
    }

    function _openDispute(
        Task storage t,
        Round storage r,
        uint256 task_,
        uint32 round_,
        uint32 subject,
        DisputeKind kind
    ) private returns (uint256 dispute) {
        // INVARIANT: a round can be replayed however many commitments were demanded.
        if (r.disputes >= MAX_DISPUTES && kind == DisputeKind.Commitment) revert TooManyDisputes();
        ++r.disputes;
        uint96 bond = t.params.bond;
        _takeValue();
        _debit(_stakes(), msg.sender, bond);
        dispute = _disputes.length;
        _disputes.push();
        Dispute storage d = _disputes[dispute];
        (d.task, d.round, d.subject, d.kind) = (task_, round_, subject, kind);
        (d.accused, d.challenger, d.bond) = (r.seat, msg.sender, bond);
        emit Challenged(task_, round_, dispute, kind, subject, msg.sender, bond);
    }

    function _close(Dispute storage d, uint256 dispute, DisputeStatus status) private {
        d.status = status;
        --_rounds[d.task][d.round].disputes;
        // What waited for this can be done only now.
        _tasks[d.task].lastFinalAt = uint32(block.timestamp);
        emit DisputeClosed(dispute, status);
    }

    /// @dev The round fell for another reason: everybody has its bond back, and no vote counts.
    function _closeMoot(Dispute storage d, uint256 dispute) private {
        _close(d, dispute, DisputeStatus.Moot);
        _credit(_stakes(), d.challenger, d.bond);
        if (d.kind == DisputeKind.Commitment) return;
        Jury storage called = _juries[dispute][d.level];
        if (called.commitsUntil == 0 && !called.decided) --_undrawn;
        for (uint256 level = 0; level <= d.level; ++level) {
            Jury storage jury = _juries[dispute][level];
            _credit(_stakes(), jury.appellant, jury.appealBond);
            for (uint256 i = 0; i < jury.members.length; ++i) {
                --_participants[jury.members[i]].locks;
            }
        }
    }

    function _closeReplay(Task storage t, Dispute storage d, uint256 dispute) private {
        Jury storage last = _juries[dispute][d.level];
        address proposer = _seats[d.task][d.accused].holder;
        if (last.outcome == bytes32(0)) {
            // Nobody knows who is right: the round is made again, and asking was not for free.
            _close(d, dispute, DisputeStatus.Undecided);
            _credit(_stakes(), d.challenger, d.bond - d.bond / 4);
            _burn(d.bond / 4);
            _returnAppeals(dispute, d.level, last, true);
            _rewardJurors(d, dispute, last, 0);
            _void(t, d.task, d.round, true);
            return;
        }
        uint256 pot = _returnAppeals(dispute, d.level, last, false);
        if (last.valid) {
            _close(d, dispute, DisputeStatus.Upheld);
            pot += d.bond;
        } else {
            _close(d, dispute, DisputeStatus.Overturned);
            _credit(_stakes(), d.challenger, d.bond);
            pot += _takeDeposit(d.task, d.accused, type(uint96).max);
        }
        _credit(_stakes(), last.valid ? proposer : d.challenger, pot / 2);
        uint256 paid = _rewardJurors(d, dispute, last, pot / 4);
        _burn(pot - pot / 2 - paid);
        if (!last.valid) _void(t, d.task, d.round, true);
    }

    /// @dev Returns what appellants lose who held what the last jury did not find; the others have their bonds back.
    function _returnAppeals(uint256 dispute, uint256 levels, Jury storage last, bool undecided)
        private
        returns (uint256 lost)
    {
        for (uint256 level = 0; level < levels; ++level) {
            Jury storage jury = _juries[dispute][level];
            if (!undecided && jury.valid == last.valid) lost += jury.appealBond;
            else _credit(_stakes(), jury.appellant, jury.appealBond);
        }
    }

    /// @dev Jurors of all levels who found what the last jury found share `reward`; the others, and the silent, pay.
    function _rewardJurors(Dispute storage d, uint256 dispute, Jury storage last, uint256 reward)
        private
        returns (uint256 paid)
    {
        uint256 agreeing = 0;
        for (uint256 level = 0; level <= d.level; ++level) {
            uint32[] storage members = _juries[dispute][level].members;
            for (uint256 i = 0; i < members.length; ++i) {
                --_participants[members[i]].locks;
                bytes32 outcome = _votes[dispute][level][members[i]].outcome;
                // slither-disable-next-line incorrect-equality -- hashes, no amounts
                if (outcome != bytes32(0) && outcome == last.outcome) ++agreeing;
                else if (outcome == bytes32(0)) _fine(d, members[i], Offence.Silence);
                else if (last.outcome != bytes32(0)) _fine(d, members[i], Offence.Minority);
            }
        }
        if (agreeing == 0) return 0;
        uint256 share = reward / agreeing;
        for (uint256 level = 0; level <= d.level; ++level) {
            uint32[] storage members = _juries[dispute][level].members;
            for (uint256 i = 0; i < members.length; ++i) {
                if (_votes[dispute][level][members[i]].outcome != last.outcome) continue;
                _credit(_stakes(), _participants[members[i]].owner, share);
            }
        }
        // slither-disable-next-line divide-before-multiply -- what does not divide is not paid
        return share * agreeing;
    }

    function _fine(Dispute storage d, uint32 juror, Offence offence) private {
        _burn(_slash(juror, _jurorPenalty, d.task, d.round, offence));
    }

    function _refute(Task storage t, Round storage r, uint256 task_, uint32 round_, uint32 id) private {
        emit ProposalRefuted(task_, round_, id, msg.sender);
        _overturn(t, task_, round_, r.seat, msg.sender);
    }

    /// @dev The aggregator loses its deposit, half of it to the winner, and the round falls with all that built on it.
    function _overturn(Task storage t, uint256 task_, uint32 round_, uint256 seat, address winner) private {
        uint256 taken = _takeDeposit(task_, seat, type(uint96).max);
        _credit(_stakes(), winner, taken / 2);
        _burn(taken - taken / 2);
        _void(t, task_, round_, true);
    }

    function _call(uint256 dispute, uint8 level) private {
        Jury storage jury = _juries[dispute][level];
        jury.drawBlock = uint64(block.number);
        jury.drawUntil = uint40(block.timestamp) + _disputePeriod;
        jury.pool = uint32(_verifiers.length);
        ++_undrawn;
        emit JuryCalled(dispute, level, jury.drawBlock);
    }

    function _higherJury(Dispute storage d, Jury storage jury) private view returns (bool) {
        return d.level < MAX_LEVEL && jury.pool > jury.members.length;
    }

    /// @dev Draws without replacement, looking at no more than `MAX_LOOKS` places: the first steps of a shuffle of all of
    /// them, of which only the exchanged ones are kept. Who has lost its stake is struck off.
    function _draw(Dispute storage d, Jury storage jury, bytes32 seed) private {
        uint256 pool = jury.pool;
        uint256 looks = pool < MAX_LOOKS ? pool : MAX_LOOKS;
        uint256 size = d.level == 0 ? 3 : (d.level == 1 ? 7 : 15);
        uint256[] memory places = new uint256[](looks);
        uint256[] memory values = new uint256[](looks);
        uint32[] memory poor = new uint32[](looks);
        uint256 found = 0;
        for (uint256 k = 0; k < looks && jury.members.length < size; ++k) {
            // slither-disable-next-line weak-prng -- of a block that nobody knew when the jury was called
            uint256 place = k + uint256(keccak256(abi.encode(seed, k))) % (pool - k);
            uint256 value = _at(places, values, k, place);
            (places[k], values[k]) = (place, _at(places, values, k, k));
            if (value >= _verifiers.length) continue;
            uint32 id = _verifiers[value];
            if (!isServing(id)) poor[found++] = id;
            else if (_mayJudge(d, jury, id)) _swear(jury, id);
        }
        for (uint256 i = 0; i < found; ++i) {
            _strike(poor[i]);
        }
    }

    /// @dev Who came to its place when the block of the draw could be known is not drawn, and no party to the dispute.
    function _mayJudge(Dispute storage d, Jury storage jury, uint32 id) private view returns (bool) {
        if (_verifierOf[id].since >= jury.drawBlock) return false;
        return !_belongs(id, d.challenger) && !_belongs(id, _seats[d.task][d.accused].holder);
    }

    function _swear(Jury storage jury, uint32 id) private {
        jury.members.push(id);
        ++_participants[id].locks;
    }

    /// @dev What lies at a place after `count` exchanges.
    function _at(uint256[] memory places, uint256[] memory values, uint256 count, uint256 place)
        private
        pure
        returns (uint256)
    {
        for (uint256 k = count; k > 0; --k) {
            if (places[k - 1] == place) return values[k - 1];
        }
        return place;
    }

    function _belongs(uint32 id, address account) private view returns (bool) {
        return _participants[id].owner == account || _participants[id].signer == account;
    }

    function _majority(uint256 dispute, uint8 level, Jury storage jury)
        private
        view
        returns (bytes32 outcome, bool valid)
    {
        uint32[] memory members = jury.members;
        for (uint256 i = 0; i < members.length; ++i) {
            Vote storage vote = _votes[dispute][level][members[i]];
            if (vote.outcome == bytes32(0)) continue;
            uint256 agreeing = 0;
            for (uint256 k = 0; k < members.length; ++k) {
                // slither-disable-next-line incorrect-equality -- hashes, no amounts
                if (_votes[dispute][level][members[k]].outcome == vote.outcome) ++agreeing;
            }
            if (2 * agreeing > members.length) return (vote.outcome, vote.valid);
        }
    }

    function _requireJuror(Jury storage jury, uint256 dispute) private view returns (uint32 id) {
        id = _idOfSender();
        for (uint256 i = 0; i < jury.members.length; ++i) {
            if (jury.members[i] == id) return id;
        }
        revert NotJuror(dispute, id);
    }

    function _requireMade(uint256 task_, uint32 round_, uint32 id, Claim calldata claim) private view {
        if (claim.signature.length != 0) return _requireSigned(task_, round_, id, claim);
        bytes32 sent = _forced[task_][round_][id];
        if (sent == bytes32(0) || sent != claim.commitment) revert NotCommitted(id);
    }

    function _requireSigned(uint256 task_, uint32 round_, uint32 id, Claim calldata claim) private view {
        bytes32 domain =
            keccak256(abi.encode(DOMAIN, keccak256("fedledger"), keccak256("5"), block.chainid, address(this)));
        bytes32 message = keccak256(abi.encode(COMMITMENT, task_, round_, id, claim.commitment));
        address signer = ECDSA.recover(keccak256(bytes.concat("\x19\x01", domain, message)), claim.signature);
        if (_bySigner[signer] != uint256(id) + 1) revert WrongSignature(signer);
    }

    function _punishOnce(bytes32 offence) private {
        if (_punished[offence]) revert AlreadyPunished(offence);
        _punished[offence] = true;
    }

    function _verdict(uint256[] calldata verdictWords, uint32 id) private pure returns (uint256) {
        for (uint256 i = 0; i < verdictWords.length; ++i) {
            if (verdictWords[i] >> 64 == id / LANES) return (verdictWords[i] >> (LANES * (id % LANES))) & 0xff;
        }
        return 0;
    }
}
