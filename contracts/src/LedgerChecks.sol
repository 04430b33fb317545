// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Evidence, Verdicts} from "./Evidence.sol";
import {LedgerDisputes} from "./LedgerDisputes.sol";
import {LedgerSignatures} from "./LedgerSignatures.sol";

/// @title Committed data and spot checks
/// @notice Participants commit to their data. Of the updates that a proposal accepts some are drawn, from a block that nobody
/// knew before: who made one shows what it follows from to an auditor, whom the task names, and loses by a failed check.
/// @dev What becomes of a check is one byte of a participant and round: the auditor's place, above its state. All its
/// deadlines follow from the time of the proposal, so no other record is kept. A task that does not exist has no round that
/// stands, and no auditors.
abstract contract LedgerChecks is LedgerDisputes, LedgerSignatures {
    /// @notice An appeal costs one part in so many of a check's penalty, as a bond.
    uint256 public constant APPEAL_SHARE = 4;
    bytes32 private constant DATA = keccak256("Data(uint256 task,uint32 round,uint32 participant,uint256 word)");
    uint256 private constant CHECKS_PER_WORD = 32;

    /// @notice Commits the sender's participant to the data that it trains on from the next round that is opened.
    /// @param word Root of a tree of its examples (224 bits), and their number (32 bits).
    function commitData(uint256 task_, uint256 word) external {
        _open(task_);
        _commitData(task_, _idOfSender(), word);
    }

    /// @notice The same for participants that signed it (EIP-712, with their present keys) for the task's next round; anyone
    /// may send it.
    function commitDataOf(uint256 task_, uint32[] calldata ids, uint256[] calldata words, bytes[] calldata signatures)
        external
    {
        uint32 next = _open(task_).currentRound + 1;
        if (ids.length != words.length || ids.length != signatures.length) revert LengthMismatch();
        for (uint256 i = 0; i < ids.length; ++i) {
            bytes32 message = keccak256(abi.encode(DATA, task_, next, ids[i], words[i]));
            address signer = _signerOf(message, signatures[i]);
            if (_idOfSigner(signer) != ids[i]) revert WrongSignature(signer);
            _commitData(task_, ids[i], words[i]);
        }
    }

    /// @notice Names participants whose updates of a proposed round are checked: that were accepted, and drawn. Anyone may,
    /// from the next block on, for one check period, as long as the chain knows the hash of the proposal's block and no
    /// other proposal took its place: at least for the challenge window.
    function summon(uint256 task_, uint32 round_, uint32[] calldata ids, Posted calldata posted) external {
        Task storage t = _tasks[task_];
        _requireStage(t, task_, round_, 1);
        _requireProposal(t, task_, round_, posted.proposal, posted.verdictWords, posted.shareWords);
        bytes32 seed = _seed(t, task_, round_);
        (uint256 rate, uint256 count) = (t.params.checkRate, t.params.auditorCount);
        for (uint256 i = 0; i < ids.length; ++i) {
            uint256 value = uint256(keccak256(abi.encode(seed, task_, round_, ids[i])));
            // slither-disable-next-line weak-prng -- of a block that nobody knew when the update was committed to
            if (value % Evidence.PPM >= rate) revert NotDrawn(ids[i]);
            if (_verdict(posted.verdictWords, ids[i]) != Verdicts.ACCEPTED) revert NotDrawn(ids[i]);
            _move(task_, round_, ids[i], CheckState.None, CheckState.Summoned);
            // slither-disable-next-line weak-prng -- as above
            _assign(task_, round_, ids[i], (value >> 128) % count);
        }
        emit Summoned(task_, round_, seed, ids);
    }

    /// @notice Answers the summons of the sender's participant.
    /// @param box Content: what the update follows from, encrypted for the auditor.
    /// @param opening Digest of what is in the box.
    /// @param claim Hash of the transcript that who makes the update again finds.
    function answerCheck(uint256 task_, uint32 round_, ContentRef calldata box, bytes32 opening, bytes32 claim)
        external
    {
        uint32 id = _idOfSender();
        _requireStage(_tasks[task_], task_, round_, 2);
        _move(task_, round_, id, CheckState.Summoned, CheckState.Answered);
        emit CheckAnswered(task_, round_, id, box, opening, claim);
    }

    /// @notice Reveals what the sender, an auditor, found in checks, and commits to what it found in others. A check that it
    /// says nothing about in time is passed.
    /// @param auditors All auditors of the task.
    /// @param place The sender's place among them.
    /// @param found What the sender committed to before, by the hash of it with task, place and salt; none: only commit.
    /// @param next What to commit to; zero: nothing.
    function postFindings(
        uint256 task_,
        address[] calldata auditors,
        uint256 place,
        Findings[] calldata found,
        bytes32 salt,
        bytes32 next
    ) external {
        Task storage t = _tasks[task_];
        _requireAuditors(t, auditors);
        if (place >= auditors.length || auditors[place] != msg.sender) revert NotAuditor(msg.sender);
        if (found.length != 0) {
            bytes32 computed = keccak256(abi.encode(task_, place, found, salt));
            bytes32 expected = _findings[task_][place];
            if (computed != expected) revert WrongFindings(expected, computed);
            for (uint256 i = 0; i < found.length; ++i) {
                _reveal(t, task_, place, found[i]);
            }
            emit FindingsRevealed(task_, place, found, salt);
        }
        _findings[task_][place] = next;
        if (next != bytes32(0)) emit FindingsCommitted(task_, place, next);
    }

    /// @notice Appeals against a failed check of the participant that the sender owns, to the next auditor of the task's. The
    /// bond, a part of the penalty, is taken from the free balance and any value sent.
    function appealCheck(uint256 task_, uint32 round_, ContentRef calldata box, bytes32 opening, bytes32 claim)
        external
        payable
    {
        Task storage t = _tasks[task_];
        uint32 id = _idOfSender();
        // The bond goes back to the owner.
        if (_participants[id].owner != msg.sender) revert NotRegistered(msg.sender);
        _requireStage(t, task_, round_, 4);
        _move(task_, round_, id, CheckState.Failed, CheckState.Appealed);
        _takeValue();
        uint256 bond = appealBond(t.params.checkPenalty);
        _debit(_stakes(), msg.sender, bond);
        (, uint256 place) = _checkOf(task_, round_, id);
        _assign(task_, round_, id, (place + 1) % t.params.auditorCount);
        emit CheckAppealed(task_, round_, id, box, opening, claim);
    }

    /// @notice Ends checks whose last deadline is over, or that a second auditor decided. Of a round that is not final yet
    /// none can be ended, and of one that was voided nobody fails. Anyone may.
    function endChecks(uint256 task_, uint32 round_, uint32[] calldata ids, address[] calldata auditors) external {
        Task storage t = _tasks[task_];
        _requireAuditors(t, auditors);
        RoundStatus status = _rounds[task_][round_].status;
        if (status != RoundStatus.Settled && status != RoundStatus.Voided) revert NotInTime(0, 0);
        for (uint256 i = 0; i < ids.length; ++i) {
            (CheckState state, uint256 place) = _checkOf(task_, round_, ids[i]);
            bool failed = _isFailed(t, task_, round_, ids[i], state);
            bool stands = failed && status == RoundStatus.Settled;
            _move(task_, round_, ids[i], state, stands ? CheckState.Ended : CheckState.Passed);
            if (state >= CheckState.Appealed) _payAppeal(t, ids[i], stands ? auditors[place] : address(0));
            if (stands) _fail(t, task_, round_, ids[i]);
            if (stands) _noteJudged(t.publisher, ids[i]);
            emit CheckEnded(task_, round_, ids[i], stands);
        }
    }

    /// @notice What has become of the check of a participant's update, and the place of the auditor it is for.
    function checkOf(uint256 task_, uint32 round_, uint32 id)
        external
        view
        returns (CheckState state, uint256 auditor)
    {
        return _checkOf(task_, round_, id);
    }

    /// @notice What an auditor of a task has committed to and not revealed.
    function findingsOf(uint256 task_, uint256 place) external view returns (bytes32) {
        return _findings[task_][place];
    }

    /// @notice What an appeal against a check with this penalty costs as a bond.
    function appealBond(uint256 penalty) public pure returns (uint256) {
        return (penalty + APPEAL_SHARE - 1) / APPEAL_SHARE;
    }

    /// @dev The hash of the block of a round's proposal, which draws its checks.
    function _seed(Task storage t, uint256 task_, uint32 round_) private view returns (bytes32 seed) {
        uint256 known = _proposedIn[task_][round_ % t.params.maxUnfinal];
        // INVARIANT: a round is drawn from one block alone, also if a later one in its place was proposed alike.
        if (known >> 64 == round_) seed = blockhash(uint64(known));
        if (seed == bytes32(0)) revert DrawUnknown(task_, round_);
    }

    /// @dev A participant's verdict by the words of a proposal, whose slots ascend; zero: it has none.
    function _verdict(uint256[] calldata verdictWords, uint32 id) internal pure returns (uint256) {
        (uint256 low, uint256 high) = (0, verdictWords.length);
        while (low < high) {
            uint256 middle = (low + high) / 2;
            if (verdictWords[middle] >> 64 < id / LANES) low = middle + 1;
            else high = middle;
        }
        bool none = low == verdictWords.length || verdictWords[low] >> 64 != id / LANES;
        return none ? 0 : (verdictWords[low] >> (LANES * (id % LANES))) & 0xff;
    }

    function _commitData(uint256 task_, uint32 id, uint256 word) private {
        if (uint32(word) == 0) revert InvalidParameter("word");
        // slither-disable-next-line weak-prng -- a bit's place, not chance
        if ((_enrolled[task_][id / 256] >> (id % 256)) & 1 == 0) revert NotInTask(task_, id);
        emit DataCommitted(task_, id, word);
    }

    function _reveal(Task storage t, uint256 task_, uint256 place, Findings calldata found) private {
        if (found.transcripts.length != found.passed.length) revert LengthMismatch();
        for (uint256 i = 0; i < found.passed.length; ++i) {
            _decide(t, task_, found.round, found.passed[i], place, CheckState.Passed, CheckState.Cleared);
        }
        for (uint256 i = 0; i < found.failed.length; ++i) {
            _decide(t, task_, found.round, found.failed[i], place, CheckState.Failed, CheckState.Confirmed);
        }
    }

    /// @dev The first auditor's word, or the second one's.
    function _decide(
        Task storage t,
        uint256 task_,
        uint32 round_,
        uint32 id,
        uint256 place,
        CheckState first,
        CheckState second
    ) private {
        (CheckState state, uint256 assigned) = _checkOf(task_, round_, id);
        if (assigned != place) revert NotAuditor(msg.sender);
        bool appealed = state == CheckState.Appealed;
        _requireStage(t, task_, round_, appealed ? 5 : 3);
        _move(task_, round_, id, appealed ? state : CheckState.Answered, appealed ? second : first);
    }

    /// @dev Whether a check that can be ended is failed; an appeal that no auditor decided succeeds.
    function _isFailed(Task storage t, uint256 task_, uint32 round_, uint32 id, CheckState state)
        private
        view
        returns (bool)
    {
        if (state == CheckState.Confirmed || state == CheckState.Cleared) return state == CheckState.Confirmed;
        if (state == CheckState.Summoned) _requireOver(t, task_, round_, 2);
        else if (state == CheckState.Failed) _requireOver(t, task_, round_, 4);
        else if (state == CheckState.Appealed) _requireOver(t, task_, round_, 5);
        else revert WrongCheck(id, state);
        return state != CheckState.Appealed;
    }

    /// @dev The bond goes back, or half of it to the auditor that confirmed the failure.
    function _payAppeal(Task storage t, uint32 id, address auditor) private {
        uint256 bond = appealBond(t.params.checkPenalty);
        if (auditor == address(0)) return _credit(_stakes(), _participants[id].owner, bond);
        _credit(_stakes(), auditor, bond / 2);
        _burn(bond - bond / 2);
    }

    /// @dev What was counted for the participant with this publisher counts no more, and the failure against it.
    function _fail(Task storage t, uint256 task_, uint32 round_, uint32 id) private {
        _burn(_slash(id, t.params.checkPenalty, task_, round_, Offence.FailedCheck));
        Word storage place = _evidence[t.publisher][id / LANES];
        // slither-disable-next-line weak-prng -- a lane's place, not chance
        uint256 shift = LANE_BITS * (id % LANES);
        uint256 lane = (place.value >> shift) & type(uint32).max;
        place.value = (place.value & ~(uint256(type(uint32).max) << shift)) | (Evidence.afterFailedCheck(lane) << shift);
    }

    function _noteJudged(address publisher, uint32 id) private {
        // slither-disable-next-line weak-prng -- a bit's place, not chance
        _judgedToday(publisher, id / 256).value |= 1 << (id % 256);
    }

    function _requireAuditors(Task storage t, address[] calldata auditors) private view {
        if (keccak256(abi.encode(auditors)) != t.params.auditors) revert NotAuditor(msg.sender);
    }

    /// @dev A round stands, and fewer than so many check periods have passed since it was proposed.
    function _requireStage(Task storage t, uint256 task_, uint32 round_, uint256 periods) private view {
        Round storage r = _rounds[task_][round_];
        if (r.status != RoundStatus.Proposed && r.status != RoundStatus.Settled) revert NotProposed(task_, round_);
        uint256 until = _after(t, r, periods);
        if (block.timestamp >= until) revert NotInTime(0, until);
    }

    function _requireOver(Task storage t, uint256 task_, uint32 round_, uint256 periods) private view {
        uint256 from = _after(t, _rounds[task_][round_], periods);
        if (_rounds[task_][round_].status == RoundStatus.Settled && block.timestamp < from) {
            revert NotInTime(from, type(uint256).max);
        }
    }

    function _after(Task storage t, Round storage r, uint256 periods) private view returns (uint256) {
        return uint256(r.proposedAt) + periods * t.params.checkPeriod;
    }

    function _checkOf(uint256 task_, uint32 round_, uint32 id) private view returns (CheckState, uint256 auditor) {
        (Word storage word, uint256 shift) = _byteOf(task_, round_, id);
        uint256 value = (word.value >> shift) & 0xff;
        return (CheckState(value & 0xf), value >> 4);
    }

    function _move(uint256 task_, uint32 round_, uint32 id, CheckState from, CheckState to) private {
        (Word storage word, uint256 shift) = _byteOf(task_, round_, id);
        CheckState state = CheckState((word.value >> shift) & 0xf);
        if (state != from) revert WrongCheck(id, state);
        word.value ^= (uint256(from) ^ uint256(to)) << shift;
    }

    function _assign(uint256 task_, uint32 round_, uint32 id, uint256 auditor) private {
        (Word storage word, uint256 shift) = _byteOf(task_, round_, id);
        word.value = (word.value & ~(uint256(0xf0) << shift)) | (auditor << (shift + 4));
    }

    function _byteOf(uint256 task_, uint32 round_, uint32 id) private view returns (Word storage word, uint256 shift) {
        // slither-disable-next-line weak-prng -- a byte's place, not chance
        return (_checks[task_][_place(round_, id / CHECKS_PER_WORD)], 8 * (id % CHECKS_PER_WORD));
    }
}
