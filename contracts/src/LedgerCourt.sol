// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {LedgerChecks} from "./LedgerChecks.sol";
import {LedgerState} from "./LedgerState.sol";
import {Offences} from "./Offences.sol";
import {Verdicts} from "./Evidence.sol";

/// @title Verifiers, and disputes that need no jury
/// @notice What the ledger can see for itself, it decides at once. Whether an aggregator holds a commitment that it claims,
/// the aggregator shows or loses. Verifiers say here which tasks they can judge; juries are drawn among them.
/// @dev The third of the ledger's parts.
contract LedgerCourt is LedgerChecks {
    bytes32 private constant COMMITMENT =
        keccak256("Commitment(uint256 task,uint32 round,uint32 participant,bytes32 commitment)");

    /// @notice The part that knows the calls that this one does not. Whoever trusts a ledger looks at its code, too.
    address public immutable nextPart;

    /// @notice A commitment that a participant signed (EIP-712) or, with no signature, sent to a batched round; or one that
    /// is in a root.
    struct Claim {
        bytes32 commitment;
        bytes signature;
        bytes32[] proof;
    }

    /// @param next See `nextPart`.
    constructor(Settings memory s, address next) LedgerState(s) {
        nextPart = next;
    }

    /// @dev All other functions of the ledger are those of the next part.
    fallback() external payable {
        _handOn(nextPart);
    }

    /// @notice Makes the sender's participant a verifier, which may serve tasks from now on.
    function enlist() external {
        uint32 id = _idOfSender();
        Verifier storage v = _verifierOf[id];
        if (v.since != 0) {
            if (v.leftBlock == 0) revert AlreadyServing(id);
            // Who left when a jury had been called cannot escape it by coming back.
            uint256 from = uint256(v.left) + _disputePeriod;
            if (block.timestamp < from) revert TooEarlyToEnlist(from);
        }
        uint96 stake = _participants[id].stake;
        if (stake < _minVerifierStake) revert StakeTooSmall(stake, _minVerifierStake);
        _verifierOf[id] = Verifier(uint40(block.timestamp), uint64(block.number), 0, 0);
        ++_verifierCount;
        emit VerifierEnlisted(id);
    }

    /// @notice Ends the sender's service in all tasks; on juries that were called it may be drawn, and serves.
    function retire() external {
        uint32 id = _idOfSender();
        if (_verifierOf[id].since == 0 || _verifierOf[id].leftBlock != 0) revert NotServing(id);
        _retire(id);
    }

    /// @notice Says that the sender's participant, a verifier, can judge a task: its code knows the methods, and its machine
    /// has the memory and the time. Juries of the task are drawn among those that said so.
    function serve(uint256 task_) external {
        Task storage t = _open(task_);
        if (t.params.challengeWindow == 0) revert InvalidParameter("challengeWindow");
        uint32 id = _idOfSender();
        if (!_isServing(id)) revert NotServing(id);
        // INVARIANT: no pool is full of verifiers that are too young to be drawn.
        uint256 from = uint256(_verifierOf[id].since) + _verifierAge;
        if (block.timestamp < from) revert TooEarlyToServe(from);
        if (_places[task_][id].placePlusOne != 0) revert AlreadyServing(id);
        _pools[task_].push(id);
        _places[task_][id] = Place(uint32(_pools[task_].length), uint40(block.timestamp), uint64(block.number), 0);
        emit ServiceBegun(task_, id);
    }

    /// @notice Takes that back; on juries that were called the sender's participant may be drawn, and serves.
    function quit(uint256 task_) external {
        uint32 id = _idOfSender();
        Place storage place = _places[task_][id];
        if (place.placePlusOne == 0 || place.leftBlock != 0) revert NotServing(id);
        if (_undrawn[task_] == 0) return _remove(task_, id);
        place.leftBlock = uint64(block.number);
        emit ServiceEnded(task_, id);
    }

    /// @notice Takes verifiers out of a task's pool that serve it no more: they left, if only for a while, or lost their
    /// stake. Anyone may. Whoever serves it, or has no place in it, is passed over: else one of them could keep all others
    /// in.
    function strike(uint256 task_, uint32[] calldata ids) external {
        // Whose draw is known must find all others where they were.
        if (_undrawn[task_] != 0) revert JuryNotDrawn(task_);
        uint256 size = _pools[task_].length;
        for (uint256 i = 0; i < ids.length; ++i) {
            // slither-disable-next-line incorrect-equality -- zero marks absence, it is no amount
            if (_places[task_][ids[i]].placePlusOne == 0 || _isPlaced(task_, ids[i])) continue;
            _remove(task_, ids[i]);
        }
        if (_pools[task_].length == size) revert NobodyStruck(task_);
    }

    /// @notice Punishes a participant that signed two commitments for a round that selected it, with keys that were its
    /// signers then, or signed one and sent another. The penalty is burned; the reporter gets an eighth of it besides.
    function reportEquivocation(uint256 task_, uint32 round_, uint32 id, Claim calldata a, Claim calldata b) external {
        Task storage t = _existing(task_);
        if (a.commitment == b.commitment) revert NotRefuted();
        if (_rounds[task_][round_].status == RoundStatus.None) revert RoundNotOpen(task_, round_);
        if (!_isSelected(task_, round_, id)) revert NotSelected(id);
        _requireMade(t, task_, round_, id, a);
        _requireMade(t, task_, round_, id, b);
        _punishOnce(keccak256(abi.encode(Offence.Equivocation, task_, round_, id)));
        uint256 penalty = Offences.equivocation(t.params.penalty);
        // Who reports itself, or has a friend report it, loses the whole penalty, too.
        uint256 taken = _slash(id, penalty + penalty / PROVER_SHARE, task_, round_, Offence.Equivocation);
        emit Equivocated(task_, round_, id, msg.sender);
        uint256 burned = taken < penalty ? taken : penalty;
        _credit(_stakes(), msg.sender, taken - burned);
        _burn(burned);
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
        _letGo(d, dispute);
    }

    /// @notice Opens a task's seal for everybody, and returns its deposit to the publisher. Anyone who has the key may do so
    /// once the task is finished, before that the publisher alone.
    function openSeal(uint256 task_, bytes32 key) external {
        Task storage t = _sealed(task_);
        if (!t.finished && msg.sender != t.publisher) revert TaskNotFinished(task_);
        bytes32 found = keccak256(abi.encode(key));
        if (found != t.params.seal) revert WrongKey(t.params.seal, found);
        Seal storage s = _seals[task_];
        uint256 held = s.deposit;
        (s.deposit, s.opened) = (0, true);
        emit SealOpened(task_, key);
        _credit(_stakes(), t.publisher, held);
    }

    /// @notice Burns the deposit of a seal that was not opened within its period from the end of the task; anyone may call.
    function forfeitSeal(uint256 task_) external {
        Task storage t = _sealed(task_);
        if (!t.finished) revert TaskNotFinished(task_);
        uint256 until = uint256(t.finishedAt) + t.params.sealPeriod;
        if (block.timestamp < until) revert SealPeriodOpen(until);
        Seal storage s = _seals[task_];
        if (s.forfeited) revert SealAlreadyForfeited(task_);
        uint256 held = s.deposit;
        (s.deposit, s.forfeited) = (0, true);
        emit SealForfeited(task_, held);
        _burn(held);
    }

    /// @notice What has become of a task's seal.
    function sealOf(uint256 task_) external view returns (Seal memory) {
        return _seals[task_];
    }

    /// @notice How many verifiers there are.
    function verifierCount() external view returns (uint256) {
        return _verifierCount;
    }

    /// @notice A verifier's record.
    function verifier(uint32 id) external view returns (Verifier memory) {
        return _verifierOf[id];
    }

    /// @notice The verifiers of a task, by their places `from` and up, at most `count`; some may serve it no more.
    function pool(uint256 task_, uint256 from, uint256 count) external view returns (uint32[] memory ids) {
        uint32[] storage all = _pools[task_];
        uint256 end = all.length < from + count ? all.length : from + count;
        ids = new uint32[](end > from ? end - from : 0);
        for (uint256 i = 0; i < ids.length; ++i) {
            ids[i] = all[from + i];
        }
    }

    /// @notice Who may be struck of a task's places `from` and up, at most `count` of them.
    function lapsed(uint256 task_, uint256 from, uint256 count) external view returns (uint32[] memory ids) {
        uint32[] storage all = _pools[task_];
        uint256 end = all.length < from + count ? all.length : from + count;
        ids = new uint32[](end > from ? end - from : 0);
        uint256 found = 0;
        for (uint256 place = from; place < end; ++place) {
            if (!_isPlaced(task_, all[place])) ids[found++] = all[place];
        }
        assembly ("memory-safe") {
            mstore(ids, found)
        }
    }

    /// @notice Whether enough verifiers served a task when a round of it was opened, and serve it still, for a jury to be
    /// called; of a round that was not opened, such as 0, whether enough serve it now.
    function hasJudges(uint256 task_, uint32 round_) external view returns (bool) {
        Round storage r = _rounds[task_][round_];
        uint256 time = r.status == RoundStatus.None ? block.timestamp : _openedAt(_tasks[task_], r);
        return _countServing(task_, time, block.number + 1) >= _leastPool;
    }

    /// @notice Whether a participant is a verifier with enough stake.
    function isServing(uint32 id) external view returns (bool) {
        return _isServing(id);
    }

    /// @dev A task whose seal nobody has opened.
    function _sealed(uint256 task_) private view returns (Task storage t) {
        t = _existing(task_);
        if (t.params.seal == bytes32(0)) revert NotSealed(task_);
        if (_seals[task_].opened) revert SealAlreadyOpen(task_);
    }

    function _refute(Task storage t, Round storage r, uint256 task_, uint32 round_, uint32 id) private {
        emit ProposalRefuted(task_, round_, id, msg.sender);
        _overturn(t, task_, round_, r.seat, msg.sender, _disputes.length);
    }

    function _requireMade(Task storage t, uint256 task_, uint32 round_, uint32 id, Claim calldata claim) private view {
        if (claim.signature.length != 0) {
            address signer = _requireSigned(task_, round_, id, claim);
            return _requireSignerOf(t, _rounds[task_][round_], signer);
        }
        bytes32 sent = _forced[task_][round_][id];
        if (sent == bytes32(0) || sent != claim.commitment) revert NotCommitted(id);
    }

    /// @dev A key that was replaced before the round was opened, or named after its commitments were closed, says nothing of
    /// it.
    function _requireSignerOf(Task storage t, Round storage r, address signer) private view {
        uint256 known = _bySigner[signer];
        uint256 opened = _openedAt(t, r);
        uint256 closed = r.commitsClosedAt > r.commitDeadline ? r.commitsClosedAt : r.commitDeadline;
        (uint256 since, uint256 until) = (uint40(known >> 32), uint40(known >> 72));
        if (since > closed || (until != 0 && until <= opened)) revert WrongSignature(signer);
    }

    function _requireSigned(uint256 task_, uint32 round_, uint32 id, Claim calldata claim)
        private
        view
        returns (address signer)
    {
        bytes32 message = keccak256(abi.encode(COMMITMENT, task_, round_, id, claim.commitment));
        signer = _signerOf(message, claim.signature);
        if (uint32(_bySigner[signer]) != uint256(id) + 1) revert WrongSignature(signer);
    }

    function _punishOnce(bytes32 offence) private {
        if (_punished[offence]) revert AlreadyPunished(offence);
        _punished[offence] = true;
    }
}
