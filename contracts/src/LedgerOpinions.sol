// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Evidence} from "./Evidence.sol";
import {LedgerScores} from "./LedgerScores.sol";
import {LedgerState} from "./LedgerState.sol";
import {Opinion, Opinions} from "./Opinions.sol";

/// @title Opinions of participants, what they admit to, and scores
/// @dev The third of the ledger's parts.
contract LedgerOpinions is LedgerScores {
    using Opinions for Opinion;

    /// @notice Most days for which the age of a reputation is known.
    uint256 public constant MAX_AGE = 90;
    /// @notice Most recommenders whose opinions are asked for together.
    uint256 public constant MAX_RECOMMENDERS = 8;

    /// @notice The part that knows the calls that this one does not. Whoever trusts a ledger looks at its code, too.
    address public immutable nextPart;

    /// @param next See `nextPart`.
    constructor(Settings memory s, address next) LedgerState(s) {
        nextPart = next;
    }

    /// @dev All other functions of the ledger are those of the next part.
    fallback() external payable {
        _handOn(nextPart);
    }

    /// @notice Enrols the sender's participant (as owner or signer) in a task: until its first round, or as long as it has too
    /// few; in a task of open enrolment always.
    function enrol(uint256 task_) external {
        Task storage t = _open(task_);
        uint256 least = t.params.minReputation;
        // Recommendations are not asked of anybody where no reputation is.
        if (least != 0 && t.params.recommenders != bytes32(0)) revert WrongList(t.params.recommenders, 0);
        uint32 id = _idOfSender();
        _enrol(t, task_, id, least == 0 ? 0 : reputation(t.publisher, id));
    }

    /// @notice Enrols in a task whose recommenders' opinions count, too; see `enrol`.
    /// @param recommenders All of the task's.
    function enrolRecommended(uint256 task_, address[] calldata recommenders) external {
        Task storage t = _open(task_);
        _requireRecommenders(t, recommenders);
        uint32 id = _idOfSender();
        _enrol(t, task_, id, _opinionWith(t.publisher, recommenders, t.params.recommenderTrust, id).reputation());
    }

    /// @notice Takes a participant out of a task of open enrolment: the sender's own (as owner or signer), or one that has
    /// less stake than the task asks for. Rounds that are open keep it. It may enrol again once
    /// another one has been opened, or too few are left.
    function leaveTask(uint256 task_, uint32 id) external {
        Task storage t = _open(task_);
        // slither-disable-next-line weak-prng -- a bit's place, not chance
        (uint256 word, uint256 bit) = (id / 256, 1 << (id % 256));
        // slither-disable-next-line incorrect-equality -- zero marks absence, it is no amount
        if (_enrolled[task_][word] & bit == 0) revert NotInTask(task_, id);
        // INVARIANT: rounds of other tasks may ask everybody who is enrolled, without a list of their own.
        if (!t.params.openEnrolment) revert EnrolmentClosed(task_);
        uint96 stake = _participants[id].stake;
        if (stake >= _minStake && stake >= t.params.minStake && _idOfSender() != id) revert StillEntitled(id);
        _enrolled[task_][word] &= ~bit;
        --t.enrolled;
        // Who comes and goes can keep a round from being opened no more than twice.
        _returns[task_][id] = t.currentRound + 1;
        emit TaskLeft(task_, id);
    }

    /// @notice A participant's reputation with a publisher, in parts per million, and the days since what it follows from
    /// last changed: 0 if that was today, counted from the epoch; the greatest number if it was never or before `MAX_AGE`
    /// days. What was taken over from a predecessor has no age.
    function reputationOf(address publisher, uint32 id) external view returns (uint256 reputation_, uint256 age) {
        reputation_ = reputation(publisher, id);
        uint256 today = block.timestamp / 1 days;
        for (age = 0; age <= MAX_AGE && age <= today; ++age) {
            // slither-disable-next-line weak-prng -- a bit's place, not chance
            if ((_judgedOn[publisher][((today - age) << 32) | (id / 256)].value >> (id % 256)) & 1 != 0) {
                return (reputation_, age);
            }
        }
        age = type(uint256).max;
    }

    /// @notice What a publisher thinks of a participant if it listens to recommenders, in parts per million.
    /// @param recommenders At most `MAX_RECOMMENDERS` other publishers.
    /// @param trust How much their opinions count, in parts per million.
    function opinionWith(address publisher, address[] calldata recommenders, uint256 trust, uint32 id)
        external
        view
        returns (uint256 belief, uint256 disbelief, uint256 uncertainty, uint256 reputation_)
    {
        if (trust > Evidence.PPM) revert InvalidParameter("trust");
        Opinion memory held = _opinionWith(publisher, recommenders, trust, id);
        return (held.belief, held.disbelief, held.uncertainty, held.reputation());
    }

    /// @notice Evidence of the participants `8 · slot` and up with a publisher, 32 bits each.
    function evidenceWord(address publisher, uint256 slot) external view returns (uint256) {
        return _evidence[publisher][slot].value;
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

    function _enrol(Task storage t, uint256 task_, uint32 id, uint256 held) private {
        uint256 least = t.params.minParticipants;
        bool closed = t.currentRound != 0 || (block.timestamp >= t.enrolDeadline && t.enrolled >= least);
        if (closed && !t.params.openEnrolment) revert EnrolmentClosed(task_);
        if (t.enrolled == t.params.maxParticipants) revert TaskFull(task_);
        uint32 from = _returns[task_][id];
        if (from > t.currentRound && t.enrolled >= least) revert TooEarlyToReturn(id, from);
        uint96 stake = _participant(id).stake;
        if (stake < _minStake) revert NotActive(id);
        if (stake < t.params.minStake) revert StakeTooSmall(stake, t.params.minStake);
        if (held < t.params.minReputation) revert ReputationTooLow(held, t.params.minReputation);
        // slither-disable-next-line weak-prng -- a bit's place, not chance
        (uint256 word, uint256 bit) = (id / 256, 1 << (id % 256));
        if (_enrolled[task_][word] & bit != 0) revert AlreadyEnrolled(task_, id);
        _enrolled[task_][word] |= bit;
        ++t.enrolled;
        emit Enrolled(task_, id);
        if (t.enrolled != least || block.timestamp < t.enrolDeadline || t.refilled > t.currentRound) return;
        // Nobody is late with what too few participants kept it from; once a round, or this could go on for ever.
        t.refilled = t.currentRound + 1;
        (t.enrolDeadline, t.lastFinalAt) = (uint32(block.timestamp), uint32(block.timestamp));
    }

    function _opinionWith(address publisher, address[] calldata recommenders, uint256 trust, uint32 id)
        private
        view
        returns (Opinion memory)
    {
        if (recommenders.length > MAX_RECOMMENDERS) revert InvalidParameter("recommenders");
        uint256[] memory lanes = new uint256[](recommenders.length);
        for (uint256 i = 0; i < lanes.length; ++i) {
            if (recommenders[i] == publisher) revert InvalidParameter("recommenders");
            for (uint256 j = 0; j < i; ++j) {
                // Nobody is heard twice.
                if (recommenders[i] == recommenders[j]) revert InvalidParameter("recommenders");
            }
            lanes[i] = _lane(recommenders[i], id);
        }
        return Opinions.from(_lane(publisher, id)).fused(Opinions.recommended(lanes).discounted(trust));
    }
}
