// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {LedgerDisputes} from "./LedgerDisputes.sol";
import {LedgerState} from "./LedgerState.sol";

/// @title Juries
/// @notice What only a replay of a round can tell, juries of staked verifiers decide: drawn at random among those who said
/// that they can judge the task, they commit to what they found before they reveal it, and there may be appeals.
/// @dev The last of the ledger's parts.
contract LedgerJuries is LedgerDisputes {
    /// @dev Fewest votes that decide anything.
    uint256 private constant LEAST_VOTES = 2;
    /// @dev Juries that cannot judge a round before it is voided.
    uint256 private constant MOST_UNABLE = 2;

    constructor(Settings memory s) LedgerState(s) {}

    /// @notice Challenges a proposal: juries replay the round, of verifiers who served the task when the round was opened.
    /// A proposal can be challenged once.
    /// @dev The bond is taken from the free balance and any value sent.
    function challengeRound(uint256 task_, uint32 round_) external payable returns (uint256 dispute) {
        (Task storage t, Round storage r) = _challengeable(task_, round_);
        if (_challenged[task_][round_] != 0) revert AlreadyChallenged(task_, round_);
        uint256 serving = _countServing(task_, _openedAt(t, r), block.number);
        if (serving < _leastPool) revert TooFewVerifiers(serving, _leastPool);
        dispute = _openDispute(t, r, task_, round_, 0, DisputeKind.Replay);
        _challenged[task_][round_] = dispute + 1;
        _call(task_, dispute, 0);
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
            (jury.drawBlock, jury.pool) = (uint64(block.number) + 1, uint32(_pools[d.task].length));
            emit JuryCalled(dispute, d.level, jury.drawBlock);
            return;
        }
        --_undrawn[d.task];
        _draw(d, dispute, jury, keccak256(abi.encode(seed, dispute, d.level)));
        jury.commitsUntil = uint40(block.timestamp) + _disputePeriod;
        jury.revealsUntil = jury.commitsUntil + _disputePeriod;
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
    /// @param finding Whether the proposal followed from the round, with its measurements within the tolerance, or that
    /// this cannot be judged.
    /// @param transcript Digest of the replay, with values that the proposal does not tell, hashed once for each level that
    /// there could be above this one. So no later jury can take it over, and the contract can compare. Zero if it cannot be
    /// judged.
    function revealVote(uint256 dispute, Finding finding, bytes32 transcript, bytes32 salt) external {
        Dispute storage d = _ongoing(dispute, DisputeKind.Replay);
        Jury storage jury = _juries[dispute][d.level];
        bool begun = jury.committed == jury.members.length || block.timestamp >= jury.commitsUntil;
        if (!begun || block.timestamp >= jury.revealsUntil) revert NotInTime(jury.commitsUntil, jury.revealsUntil);
        uint32 id = _requireJuror(jury, dispute);
        Vote storage vote = _votes[dispute][d.level][id];
        if (finding == Finding.None || (finding == Finding.Unable && transcript != bytes32(0))) revert NoFinding();
        bytes32 found = voteOf(dispute, d.level, id, finding, transcript, salt);
        if (vote.commitment != found) revert WrongVote(vote.commitment, found);
        if (vote.finding != Finding.None) revert AlreadyVoted(id);
        (vote.finding, vote.transcript) = (finding, transcript);
        ++jury.revealed;
        emit VoteRevealed(dispute, d.level, id, finding, transcript, salt);
    }

    /// @notice Counts the votes of a jury that is done. It finds what more than half of the votes say, if more than half of
    /// the jury voted. If that is nothing, or that it cannot judge, the next jury is called.
    function decide(uint256 dispute) external {
        Dispute storage d = _ongoing(dispute, DisputeKind.Replay);
        Jury storage jury = _juries[dispute][d.level];
        if (jury.decided) revert NotInTime(0, jury.revealsUntil);
        uint256 until = jury.commitsUntil == 0 ? jury.drawUntil : jury.revealsUntil;
        bool done = jury.members.length != 0 && jury.revealed == jury.members.length;
        if (!done && block.timestamp < until) revert NotInTime(until, type(uint256).max);
        jury.decided = true;
        if (jury.commitsUntil == 0) --_undrawn[d.task];
        (jury.finding, jury.transcript) = _majority(dispute, d.level, jury);
        emit JuryDecided(dispute, d.level, jury.finding, jury.transcript);
        if (jury.finding == Finding.Unable) ++d.unable;
        bool higher = _higherJury(d, jury);
        bool open = jury.finding == Finding.None || jury.finding == Finding.Unable;
        if (open && higher && d.unable < MOST_UNABLE) _call(d.task, dispute, ++d.level);
        else d.deadline = uint40(block.timestamp) + (higher && !open ? _disputePeriod : 0);
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
        _call(d.task, dispute, ++d.level);
    }

    /// @notice Closes a dispute whose last deadline is over, or whose round was voided for another reason.
    function closeDispute(uint256 dispute) external {
        Dispute storage d = _openRecord(dispute);
        Task storage t = _tasks[d.task];
        if (_rounds[d.task][d.round].status == RoundStatus.Voided) {
            _closeMoot(d, dispute);
        } else if (block.timestamp < d.deadline) {
            revert NotInTime(d.deadline, type(uint256).max);
        } else if (d.kind == DisputeKind.Commitment) {
            _close(d, dispute, DisputeStatus.Overturned);
            _credit(_stakes(), d.challenger, d.bond);
            _overturn(t, d.task, d.round, d.accused, d.challenger, dispute);
        } else {
            if (!_juries[dispute][d.level].decided) revert NotInTime(d.deadline, type(uint256).max);
            _closeReplay(t, d, dispute);
        }
        _letGo(d, dispute);
    }

    /// @notice What a juror commits to.
    function voteOf(uint256 dispute, uint8 level, uint32 juror, Finding finding, bytes32 transcript, bytes32 salt)
        public
        view
        returns (bytes32)
    {
        return keccak256(abi.encode(block.chainid, address(this), dispute, level, juror, finding, transcript, salt));
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

    /// @notice What is held of a seat's deposit for disputes.
    function heldOf(uint256 task_, uint256 place) external view returns (Held memory) {
        return _held[task_][place];
    }

    /// @dev The round fell for another reason: everybody has its bond back, and no vote counts. If it fell because somebody
    /// proved a fault of it, challenger and jurors share what they have won by that.
    function _closeMoot(Dispute storage d, uint256 dispute) private {
        _close(d, dispute, DisputeStatus.Moot);
        _credit(_stakes(), d.challenger, d.bond);
        if (d.kind == DisputeKind.Commitment) return;
        Jury storage called = _juries[dispute][d.level];
        if (called.commitsUntil == 0 && !called.decided) --_undrawn[d.task];
        for (uint256 level = 0; level <= d.level; ++level) {
            Jury storage jury = _juries[dispute][level];
            _credit(_stakes(), jury.appellant, jury.appealBond);
        }
        uint256 won = d.won;
        d.won = 0;
        _share(d, dispute, d.challenger, Finding.None, won);
    }

    function _closeReplay(Task storage t, Dispute storage d, uint256 dispute) private {
        Jury storage last = _juries[dispute][d.level];
        bool valid = last.finding == Finding.Valid;
        if (!valid && last.finding != Finding.Invalid) {
            return _closeOpen(t, d, dispute, d.unable != 0);
        }
        uint256 pot = _returnAppeals(dispute, d.level, last.finding);
        if (valid) {
            _close(d, dispute, DisputeStatus.Upheld);
            pot += d.bond;
        } else {
            _close(d, dispute, DisputeStatus.Overturned);
            _credit(_stakes(), d.challenger, d.bond);
            pot += _forfeitFor(d.task, d.round, d.accused, dispute);
        }
        _share(d, dispute, valid ? _seats[d.task][d.accused].holder : d.challenger, last.finding, pot);
        if (!valid) _void(t, d.task, d.round, true);
    }

    /// @dev Nobody knows who is right: the round is made again, and only who was silent pays. If nobody can judge it, the
    /// challenger pays a seat's worth for each jury besides.
    function _closeOpen(Task storage t, Dispute storage d, uint256 dispute, bool unable) private {
        _close(d, dispute, unable ? DisputeStatus.Unjudged : DisputeStatus.Undecided);
        uint256 fee = unable ? (uint256(d.level) + 1) * _jurorPenalty : 0;
        if (fee > d.bond) fee = d.bond;
        _credit(_stakes(), d.challenger, d.bond - fee);
        _burn(fee);
        _returnAppeals(dispute, d.level, Finding.None);
        _reward(d, dispute, unable ? Finding.Unable : Finding.None, 0);
        _void(t, d.task, d.round, true);
    }

    /// @dev Returns what appellants lose who held what the last jury did not find; the others have their bonds back.
    function _returnAppeals(uint256 dispute, uint256 levels, Finding found) private returns (uint256 lost) {
        for (uint256 level = 0; level < levels; ++level) {
            Jury storage jury = _juries[dispute][level];
            if (found != Finding.None && jury.finding == found) lost += jury.appealBond;
            else _credit(_stakes(), jury.appellant, jury.appealBond);
        }
    }

    /// @dev Divides what the losers had at stake: the winner has half, the jurors who were right what `_reward` says, and the
    /// rest is burned.
    function _share(Dispute storage d, uint256 dispute, address winner, Finding found, uint256 pot) private {
        _credit(_stakes(), winner, pot / 2);
        _burn(pot - pot / 2 - _reward(d, dispute, found, pot));
    }

    /// @dev Lets all jurors go. Those of all levels who found what the last jury found share a quarter of `pot`, or have a
    /// seat's worth each, if half of `pot` is enough for that; the others pay.
    function _reward(Dispute storage d, uint256 dispute, Finding found, uint256 pot) private returns (uint256 paid) {
        uint256 right = 0;
        for (uint256 level = 0; level <= d.level; ++level) {
            uint32[] storage members = _juries[dispute][level].members;
            bytes32 expected = _expected(dispute, d.level, level);
            for (uint256 i = 0; i < members.length; ++i) {
                --_participants[members[i]].locks;
                if (_isRight(d, _votes[dispute][level][members[i]], found, expected)) ++right;
                else _fine(d, dispute, level, members[i], found);
            }
        }
        if (right == 0 || pot == 0) return 0;
        uint256 reward = right * _jurorPenalty;
        if (reward < pot / 4) reward = pot / 4;
        if (reward > pot / 2) reward = pot / 2;
        uint256 share = reward / right;
        for (uint256 level = 0; level <= d.level; ++level) {
            uint32[] storage members = _juries[dispute][level].members;
            bytes32 expected = _expected(dispute, d.level, level);
            for (uint256 i = 0; i < members.length; ++i) {
                if (!_isRight(d, _votes[dispute][level][members[i]], found, expected)) continue;
                _credit(_stakes(), _participants[members[i]].owner, share);
            }
        }
        // slither-disable-next-line divide-before-multiply -- what does not divide is not paid
        return share * right;
    }

    /// @dev The transcript that a juror of a level has if it found what the last jury found.
    function _expected(uint256 dispute, uint256 last, uint256 level) internal view returns (bytes32 transcript) {
        transcript = _juries[dispute][last].transcript;
        for (uint256 step = level; step < last; ++step) {
            transcript = keccak256(abi.encode(transcript));
        }
    }

    /// @dev Where the round fell for another reason, who has committed has done its work.
    function _isRight(Dispute storage d, Vote storage vote, Finding found, bytes32 expected)
        private
        view
        returns (bool)
    {
        if (d.status == DisputeStatus.Moot) return vote.commitment != bytes32(0);
        if (vote.finding != found || found == Finding.None) return false;
        // slither-disable-next-line incorrect-equality -- hashes, no amounts
        return found == Finding.Unable || vote.transcript == expected;
    }

    /// @dev Only a finding that the last jury does not share costs anything, and silence, but where nobody could speak.
    function _fine(Dispute storage d, uint256 dispute, uint256 level, uint32 juror, Finding found) private {
        Finding said = _votes[dispute][level][juror].finding;
        Offence offence = Offence.Minority;
        if (said == Finding.None) {
            if (d.status == DisputeStatus.Moot) return;
            offence = Offence.Silence;
        } else if (found != Finding.Valid && found != Finding.Invalid) {
            return;
        } else if (said == Finding.Unable) {
            // slither-disable-next-line incorrect-equality -- a finding, no amount
            if (_juries[dispute][level].finding == Finding.Unable) return;
            offence = Offence.CannotJudge;
        }
        _burn(_slash(juror, _jurorPenalty, d.task, d.round, offence));
    }

    function _call(uint256 task_, uint256 dispute, uint8 level) private {
        Jury storage jury = _juries[dispute][level];
        jury.drawBlock = uint64(block.number);
        jury.drawUntil = uint40(block.timestamp) + _disputePeriod;
        jury.pool = uint32(_pools[task_].length);
        ++_undrawn[task_];
        emit JuryCalled(dispute, level, jury.drawBlock);
    }

    function _higherJury(Dispute storage d, Jury storage jury) private view returns (bool) {
        return d.level < _appeals && jury.pool > jury.members.length;
    }

    /// @dev Draws without replacement, looking at no more than `MAX_LOOKS` places: the first steps of a shuffle of all of
    /// them, of which only the exchanged ones are kept. Who has left or lost its stake is taken out of the pool.
    function _draw(Dispute storage d, uint256 dispute, Jury storage jury, bytes32 seed) private {
        uint256 looks = jury.pool < MAX_LOOKS ? jury.pool : MAX_LOOKS;
        uint256 seats = ((uint256(_jurySize) + 1) << d.level) - 1;
        uint256[] memory places = new uint256[](looks);
        uint256[] memory values = new uint256[](looks);
        uint32[] memory gone = new uint32[](looks);
        uint256 found = 0;
        for (uint256 k = 0; k < looks && jury.members.length < seats; ++k) {
            uint256 value = _exchange(places, values, k, seed, jury.pool);
            if (value >= _pools[d.task].length) continue;
            uint32 id = _pools[d.task][value];
            if (_mayJudge(d, dispute, jury, id)) _swear(jury, id);
            else if (!_isPlaced(d.task, id)) gone[found++] = id;
        }
        if (_undrawn[d.task] != 0) return;
        for (uint256 i = 0; i < found; ++i) {
            _remove(d.task, gone[i]);
        }
    }

    /// @dev Who has served the task since the round was opened, had not left when the jury was called, has not been silent on
    /// an earlier one, and is no party.
    function _mayJudge(Dispute storage d, uint256 dispute, Jury storage jury, uint32 id) private view returns (bool) {
        uint256 opened = _openedAt(_tasks[d.task], _rounds[d.task][d.round]);
        if (!_servedAt(d.task, id, opened, jury.drawBlock)) return false;
        if (_belongs(id, d.challenger) || _belongs(id, _seats[d.task][d.accused].holder)) return false;
        for (uint256 level = 0; level < d.level; ++level) {
            uint32[] storage members = _juries[dispute][level].members;
            for (uint256 i = 0; i < members.length; ++i) {
                if (members[i] == id && _votes[dispute][level][id].finding == Finding.None) return false;
            }
        }
        return true;
    }

    function _swear(Jury storage jury, uint32 id) private {
        jury.members.push(id);
        ++_participants[id].locks;
    }

    /// @dev The next step of the shuffle: what lies at a place that `seed` names, which step `k` takes.
    function _exchange(uint256[] memory places, uint256[] memory values, uint256 k, bytes32 seed, uint256 size)
        private
        pure
        returns (uint256 value)
    {
        // slither-disable-next-line weak-prng -- of a block that nobody knew when the jury was called
        uint256 place = k + uint256(keccak256(abi.encode(seed, k))) % (size - k);
        value = _at(places, values, k, place);
        (places[k], values[k]) = (place, _at(places, values, k, k));
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

    /// @dev What more than half of the votes say, if more than half of the jury voted.
    function _majority(uint256 dispute, uint8 level, Jury storage jury)
        private
        view
        returns (Finding finding, bytes32 transcript)
    {
        uint32[] memory members = jury.members;
        uint256 cast = jury.revealed;
        if (cast < LEAST_VOTES || 2 * cast <= members.length) return (Finding.None, bytes32(0));
        for (uint256 i = 0; i < members.length; ++i) {
            Vote storage vote = _votes[dispute][level][members[i]];
            if (vote.finding == Finding.None) continue;
            uint256 agreeing = 0;
            for (uint256 k = 0; k < members.length; ++k) {
                Vote storage other = _votes[dispute][level][members[k]];
                // slither-disable-next-line incorrect-equality -- hashes, no amounts
                if (other.finding == vote.finding && other.transcript == vote.transcript) ++agreeing;
            }
            if (2 * agreeing > cast) return (vote.finding, vote.transcript);
        }
        return (Finding.None, bytes32(0));
    }

    function _requireJuror(Jury storage jury, uint256 dispute) private view returns (uint32 id) {
        id = _idOfSender();
        for (uint256 i = 0; i < jury.members.length; ++i) {
            if (jury.members[i] == id) return id;
        }
        revert NotJuror(dispute, id);
    }
}
