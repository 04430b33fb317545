// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Head, Heads} from "./Heads.sol";
import {LedgerState} from "./LedgerState.sol";

/// @title How a commitment is opened
/// @notice What reveals share: those relative to a round's own base, in the first part, and those relative to an earlier
/// one, which are in the second, so that the first kind does not pay for the other.
abstract contract LedgerReveals is LedgerState {
    using Heads for Round;

    /// @dev The hash of `abi.encode(block.chainid, address(this), task_, round_, sender, base, update, salt)`.
    function _commitment(
        uint256 task_,
        uint32 round_,
        address sender,
        bytes32 base,
        ContentRef calldata update,
        bytes32 salt
    ) internal view returns (bytes32 found) {
        (bytes32 digest, uint64 length) = (update.digest, update.length);
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, chainid())
            mstore(add(free, 0x20), address())
            mstore(add(free, 0x40), task_)
            mstore(add(free, 0x60), round_)
            mstore(add(free, 0x80), sender)
            mstore(add(free, 0xa0), base)
            mstore(add(free, 0xc0), digest)
            mstore(add(free, 0xe0), length)
            mstore(add(free, 0x100), salt)
            found := keccak256(free, 0x120)
        }
    }

    /// @dev The participant that committed by this commitment: on chain, or in the root.
    function _committer(Head head, uint256 task_, uint32 round_, bytes32 commitment, bytes32[] calldata proof)
        internal
        view
        returns (uint32 id)
    {
        uint256 pledge = _pledges[task_][msg.sender].value;
        // A pledge of this round ends in an id plus one, which is not zero.
        unchecked {
            if (pledge >> 32 == (uint256(commitment) >> 64 << 32) | round_) return uint32(pledge) - 1;
        }
        uint256 known = uint32(_bySigner[msg.sender]);
        // slither-disable-next-line incorrect-equality -- zero marks absence, it is no amount
        if (known == 0) revert NotRegistered(msg.sender);
        id = uint32(known - 1);
        if (head.has(BATCHED)) {
            if (_forced[task_][round_][id] == commitment) return id;
            if (!_isSelected(task_, round_, id)) revert NotSelected(id);
            bytes32 root = _roots[task_][round_ % _tasks[task_].params.maxUnfinal];
            if (_inRoot(root, id, commitment, proof)) return id;
        }
        if (uint32(pledge >> 32) == round_) revert WrongReveal(bytes32(pledge >> 64 << 64), commitment);
        revert NotCommitted(id);
    }

    function _requireRevealable(Head head, uint256 task_, uint32 round_) internal view {
        if (head.stands(RoundStatus.Open)) {
            uint256 from = head.commitsClosedAt();
            if (block.timestamp < from) revert StillAdmitting(from);
            // slither-disable-next-line incorrect-equality -- zero marks absence, it is no amount
            if (from == 0) {
                from = head.commitDeadline();
                if (head.has(BATCHED) || block.timestamp < from) revert CommitsAreOpen();
            }
            // Two 32-bit numbers.
            unchecked {
                if (block.timestamp >= from + head.revealPeriod()) revert RevealsAreClosed();
            }
        } else {
            if (!head.stands(RoundStatus.Proposed) || !head.has(BATCHED)) revert RoundNotOpen(task_, round_);
            if (!_windowOpen(_tasks[task_], task_, round_, head.proposedAt())) revert RevealsAreClosed();
        }
    }

    function _base(Head head, uint256 task_) internal view returns (bytes32) {
        uint32 base = head.baseRound();
        // slither-disable-next-line incorrect-equality -- zero marks absence, it is no amount
        return base == 0 ? _tasks[task_].params.model.digest : _rounds[task_][base].modelDigest;
    }

    function _markRevealed(uint256 task_, uint32 round_, uint32 id) internal {
        Word storage place = _revealed[task_][_place(round_, id / 256)];
        // slither-disable-next-line weak-prng -- a bit's place, not chance
        uint256 bit = 1 << (id % 256);
        uint256 revealed = place.value;
        if (revealed & bit != 0) revert AlreadyRevealed(id);
        place.value = revealed | bit;
    }
}
