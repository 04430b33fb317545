// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "./IFedLedger.sol";

/// @notice The storage slot that all fields of a round but its digest share, as it was read.
type Head is uint256;

using Heads for Head global;

/// @title A round's fields out of one read
/// @notice Each access to a packed field costs a read of its slot; what every commitment and reveal asks is read once.
/// A test compares these places with the compiler's.
library Heads {
    uint256 private constant ONE_COMMITTED = 1 << 176;

    /// @notice Reads a round's head.
    function head(IFedLedger.Round storage r) internal view returns (Head value) {
        assembly ("memory-safe") {
            value := sload(r.slot)
        }
    }

    /// @notice Counts one more commitment; there are fewer than 2^16.
    function countCommitted(IFedLedger.Round storage r, Head value) internal {
        assembly ("memory-safe") {
            sstore(r.slot, add(value, ONE_COMMITTED))
        }
    }

    function revealPeriod(Head value) internal pure returns (uint256) {
        return uint32(Head.unwrap(value));
    }

    function commitDeadline(Head value) internal pure returns (uint256) {
        return uint32(Head.unwrap(value) >> 32);
    }

    function commitsClosedAt(Head value) internal pure returns (uint256) {
        return uint32(Head.unwrap(value) >> 64);
    }

    function proposedAt(Head value) internal pure returns (uint256) {
        return uint32(Head.unwrap(value) >> 96);
    }

    function baseRound(Head value) internal pure returns (uint32) {
        return uint32(Head.unwrap(value) >> 128);
    }

    function selected(Head value) internal pure returns (uint256) {
        return uint16(Head.unwrap(value) >> 160);
    }

    function committed(Head value) internal pure returns (uint256) {
        return uint16(Head.unwrap(value) >> 176);
    }

    function stands(Head value, IFedLedger.RoundStatus status) internal pure returns (bool) {
        return uint8(Head.unwrap(value) >> 208) == uint256(status);
    }

    /// @notice Whether of all these flags exactly those are set.
    function hasOf(Head value, uint256 all, uint256 those) internal pure returns (bool) {
        return Head.unwrap(value) & (all << 232) == those << 232;
    }

    /// @notice Whether a flag is set.
    function has(Head value, uint256 flag) internal pure returns (bool) {
        return Head.unwrap(value) & (flag << 232) != 0;
    }
}
