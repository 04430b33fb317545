// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {LedgerState} from "./LedgerState.sol";

/// @title What all disputes share
/// @notice How they are opened and closed, and whom an aggregator's deposit goes to.
abstract contract LedgerDisputes is LedgerState {
    /// @dev Who proves a fault that anybody could see gets one part in so many of the deposit.
    uint256 internal constant PROVER_SHARE = 8;
    uint256 private constant MAX_DISPUTES = 200;

    function _challengeable(uint256 task_, uint32 round_) internal view returns (Task storage t, Round storage r) {
        t = _existing(task_);
        r = _rounds[task_][round_];
        bool open = r.status == RoundStatus.Proposed && _windowOpen(t, task_, round_, r.proposedAt);
        if (!open) revert NotChallengeable(task_, round_);
    }

    function _openRecord(uint256 dispute) internal view returns (Dispute storage d) {
        if (dispute >= _disputes.length) revert UnknownDispute(dispute);
        d = _disputes[dispute];
        if (d.status != DisputeStatus.Open) revert DisputeIsClosed(dispute);
    }

    function _ongoing(uint256 dispute, DisputeKind kind) internal view returns (Dispute storage d) {
        d = _openRecord(dispute);
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
    ) internal returns (uint256 dispute) {
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
        _hold(task_, r.seat, dispute);
    }

    function _close(Dispute storage d, uint256 dispute, DisputeStatus status) internal {
        d.status = status;
        --_rounds[d.task][d.round].disputes;
        // What waited for this can be done only now.
        _tasks[d.task].lastFinalAt = uint32(block.timestamp);
        emit DisputeClosed(dispute, status);
    }

    /// @dev Keeps a seat's deposit for the disputes about it: whatever else the seat loses meanwhile is not taken from it.
    function _hold(uint256 task_, uint256 place, uint256 dispute) private {
        Held storage h = _held[task_][place];
        ++h.disputes;
        if (h.first == 0) h.first = uint64(dispute) + 1;
        Seat storage seat = _seats[task_][place];
        if (h.amount != 0 || seat.deposit == 0) return;
        (h.amount, seat.deposit) = (seat.deposit, 0);
        emit DepositHeld(task_, place, h.amount);
    }

    /// @dev Once a dispute is closed and paid: what is left of the deposit goes back with the last one.
    function _letGo(Dispute storage d, uint256 dispute) internal {
        (uint256 task_, uint256 place) = (d.task, d.accused);
        Held storage h = _held[task_][place];
        uint256 amount = h.amount;
        if (h.first == dispute + 1) {
            h.first = _oldest(task_, place, 0);
            if (h.condemned && h.first == 0) {
                (h.amount, h.condemned) = (0, false);
                _lose(task_, place, amount);
                _burn(amount);
                amount = 0;
            }
        }
        if (--h.disputes != 0) return;
        (h.amount, h.first) = (0, 0);
        if (amount == 0) return;
        emit DepositReturned(task_, place, amount);
        Task storage t = _tasks[task_];
        Seat storage seat = _seats[task_][place];
        if (t.finished || seat.deposit + amount > t.params.bond) _credit(_stakes(), seat.holder, amount);
        else seat.deposit += uint96(amount);
    }

    /// @dev The oldest open challenge of a seat's proposals of rounds `from` and later, plus one; zero: none. Demands, whose
    /// challengers get little, have a claim only if they are first.
    function _oldest(uint256 task_, uint256 place, uint32 from) private view returns (uint64 first) {
        Task storage t = _tasks[task_];
        for (uint32 number = t.finalizedRound + 1; number <= t.currentRound; ++number) {
            if (number < from || !_contested(task_, number, place)) continue;
            uint64 challenged = uint64(_challenged[task_][number]);
            if (first == 0 || challenged < first) first = challenged;
        }
    }

    /// @dev Whether a seat's proposal stands and is being judged.
    function _contested(uint256 task_, uint32 round_, uint256 place) private view returns (bool) {
        uint256 challenged = _challenged[task_][round_];
        if (challenged == 0 || _rounds[task_][round_].status != RoundStatus.Proposed) return false;
        Dispute storage d = _disputes[challenged - 1];
        return d.status == DisputeStatus.Open && d.accused == place;
    }

    /// @dev Whether what is held of a seat is for another dispute: the first one or any older challenge, of an earlier round.
    function _claimed(uint256 task_, uint32 round_, uint256 place, uint256 dispute) private view returns (bool) {
        uint256 known = _held[task_][place].first;
        if (known != 0) {
            uint32 first = _disputes[known - 1].round;
            if (first < round_ && _rounds[task_][first].status != RoundStatus.Voided) return true;
        }
        for (uint32 number = _tasks[task_].finalizedRound + 1; number < round_; ++number) {
            if (_contested(task_, number, place) && _challenged[task_][number] <= dispute) return true;
        }
        return false;
    }

    /// @dev What a seat loses for a false proposal, to the given dispute or, with the number of all of them, to nobody's. If an
    /// earlier round's has a claim on what is held, it loses what it has deposited since; without that nothing now, but what
    /// is held is lost whatever comes of that dispute.
    function _forfeitFor(uint256 task_, uint32 round_, uint256 place, uint256 dispute)
        internal
        returns (uint256 taken)
    {
        Held storage h = _held[task_][place];
        bool claimed = _claimed(task_, round_, place, dispute);
        if (!claimed) {
            (taken, h.amount, h.condemned) = (h.amount, 0, false);
            _lose(task_, place, taken);
        }
        if (taken == 0) taken = _takeDeposit(task_, place, type(uint96).max);
        if (taken == 0 && claimed && h.amount != 0) h.condemned = true;
    }

    /// @dev A proposal is proved false by what anybody could see: the prover gets little. The rest is for the challenger and
    /// the jurors of the same proposal, who would have found out what else is false, or of the oldest challenge that falls
    /// with it; without them it is burned. The round falls with all that built on it.
    function _overturn(Task storage t, uint256 task_, uint32 round_, uint256 place, address prover, uint256 dispute)
        internal
    {
        uint256 taken = _forfeitFor(task_, round_, place, dispute);
        uint256 reward = taken / PROVER_SHARE;
        _credit(_stakes(), prover, reward);
        uint256 challenged =
            _contested(task_, round_, place) ? _challenged[task_][round_] : _oldest(task_, place, round_);
        if (challenged == 0) _burn(taken - reward);
        else _disputes[challenged - 1].won = uint96(taken - reward);
        _void(t, task_, round_, true);
    }

    /// @dev Whether a participant is a verifier with enough stake.
    function _isServing(uint32 id) internal view returns (bool) {
        Verifier storage v = _verifierOf[id];
        return v.since != 0 && v.leftBlock == 0 && _participants[id].stake >= _minVerifierStake;
    }

    /// @dev Whether a verifier with enough stake has its place in a task's pool, and has had it since it became one.
    function _isPlaced(uint256 task_, uint32 id) internal view returns (bool) {
        Place storage place = _places[task_][id];
        return place.leftBlock == 0 && _isServing(id) && place.sinceBlock >= _verifierOf[id].sinceBlock;
    }

    /// @dev Takes a verifier out of a pool; the last one takes its place.
    function _remove(uint256 task_, uint32 id) internal {
        // slither-disable-next-line incorrect-equality -- zero marks absence, it is no amount
        if (_places[task_][id].leftBlock == 0) emit ServiceEnded(task_, id);
        uint32[] storage all = _pools[task_];
        uint32 place = _places[task_][id].placePlusOne;
        uint32 last = all[all.length - 1];
        all[place - 1] = last;
        _places[task_][last].placePlusOne = place;
        all.pop();
        delete _places[task_][id];
    }

    function _lose(uint256 task_, uint256 place, uint256 amount) private {
        if (amount != 0) emit SeatCharged(task_, place, _seats[task_][place].holder, amount);
    }
}
