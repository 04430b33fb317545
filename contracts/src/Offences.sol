// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Evidence} from "./Evidence.sol";

/// @title What offences cost a participant
/// @notice Shares of the task's penalty, in parts per million. Punishment rounds up.
library Offences {
    /// @notice Two commitments signed for one round.
    function equivocation(uint256 penalty) internal pure returns (uint256) {
        return penalty;
    }

    /// @notice A share of the penalty, but no more than all of it.
    function part(uint256 penalty, uint256 share) internal pure returns (uint256) {
        if (share >= Evidence.PPM) return penalty;
        return (penalty * share + Evidence.PPM - 1) / Evidence.PPM;
    }

    /// @notice An update was refused by statistics: a share for each refusal that the publisher's negative evidence still
    /// remembers, after this one, beyond those that are free.
    function repeatedRefusal(uint256 penalty, uint256 share, uint256 free, uint256 negative)
        internal
        pure
        returns (uint256)
    {
        uint256 refusals = negative / Evidence.UNIT;
        return refusals <= free ? 0 : part(penalty, share * (refusals - free));
    }
}
