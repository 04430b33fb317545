// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title What offences cost a participant
/// @notice Parts of the task's penalty. Punishment rounds up.
library Offences {
    /// @notice Two commitments signed for one round.
    function equivocation(uint256 penalty) internal pure returns (uint256) {
        return penalty;
    }

    /// @notice An update was revealed that its form refuses.
    function garbage(uint256 penalty) internal pure returns (uint256) {
        return (penalty + 1) / 2;
    }

    /// @notice Committed, and nothing was revealed.
    function neverRevealed(uint256 penalty) internal pure returns (uint256) {
        return (penalty + 3) / 4;
    }
}
