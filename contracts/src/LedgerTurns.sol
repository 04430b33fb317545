// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Head, Heads} from "./Heads.sol";
import {LedgerState} from "./LedgerState.sol";

/// @title Whose turn it is in a round, and until when
/// @notice A round's phases follow from block time; what its aggregators miss costs them their deposits.
abstract contract LedgerTurns is LedgerState {
    using Heads for Round;

    /// @dev The sender's seat, if it may act on what is due since then: the active one always, each of the others one
    /// propose period after the one before it. Who takes over from the silent ones gets half of what they forfeit.
    function _actingSeat(Task storage t, uint256 task_, uint256 due, bool forfeits) internal returns (uint8) {
        uint256 count = t.seats;
        uint256 active = t.active;
        for (uint256 turn = 0; turn < count; ++turn) {
            uint256 place = (active + turn) % count;
            Seat storage seat = _seats[task_][place];
            if (seat.holder != msg.sender) continue;
            if (turn != 0) {
                uint256 from = due + turn * t.params.proposePeriod;
                if (block.timestamp < from) revert NotYourTurn(from);
                t.active = uint8(place);
                emit TurnTaken(task_, place, msg.sender);
                if (forfeits) {
                    uint256 lost = _forfeit(task_, active, turn, count);
                    _credit(_stakes(), msg.sender, lost / 2);
                    _burn(lost - lost / 2);
                }
            }
            uint96 bond = t.params.bond;
            if (seat.deposit < bond) {
                _debit(_stakes(), msg.sender, bond - seat.deposit);
                seat.deposit = bond;
                emit SeatTaken(task_, place, msg.sender, bond);
            }
            return uint8(place);
        }
        revert NotAggregator(msg.sender);
    }

    function _forfeit(uint256 task_, uint256 first, uint256 turns, uint256 count) internal returns (uint256 lost) {
        for (uint256 turn = 0; turn < turns; ++turn) {
            lost += _takeDeposit(task_, (first + turn) % count, type(uint96).max);
        }
    }

    function _commitsOpen(Head head) internal view returns (bool) {
        return head.commitsClosedAt() == 0 && block.timestamp < head.commitDeadline();
    }

    /// @dev Until when the root of a batched round may be posted: every seat has its turn.
    function _closingUntil(Task storage t, Head head) internal view returns (uint256) {
        return head.commitDeadline() + uint256(t.seats) * t.params.proposePeriod;
    }

    /// @dev Whether who was left out of the root may still commit.
    function _admitting(Head head) internal view returns (bool) {
        return block.timestamp < head.commitsClosedAt();
    }

    /// @dev When reveals begin. A batched round without a root has none.
    function _commitsEnd(Task storage t, Head head) internal view returns (uint256) {
        uint256 closedAt = head.commitsClosedAt();
        if (closedAt != 0) return closedAt;
        return head.has(BATCHED) ? _closingUntil(t, head) : head.commitDeadline();
    }

    function _revealsEnd(Task storage t, Head head) internal view returns (uint256) {
        return _commitsEnd(t, head) + (head.committed() == 0 ? 0 : head.revealPeriod());
    }

    function _revealsOpen(Task storage t, Head head) internal view returns (bool) {
        uint256 from = _commitsEnd(t, head);
        return block.timestamp >= from && block.timestamp < from + (head.committed() == 0 ? 0 : head.revealPeriod());
    }

    function _overdue(Task storage t, uint256 task_, uint32 round_, Head head) internal view returns (bool) {
        if (block.timestamp < _commitsEnd(t, head)) return false;
        if (head.committed() < t.params.quorum) return true;
        return block.timestamp >= _proposalDue(t, task_, round_, head) + uint256(t.seats) * t.params.proposePeriod;
    }

    /// @dev Since when a proposal is due: the end of the reveals, or of the scorers' if they were called.
    function _proposalDue(Task storage t, uint256 task_, uint32 round_, Head head) internal view returns (uint256) {
        if (head.has(SCORED)) {
            Scoring storage s = _scorings[task_];
            if (s.round == round_) return uint256(s.calledAt) + 2 * t.params.scorePeriod;
        }
        return _revealsEnd(t, head);
    }
}
