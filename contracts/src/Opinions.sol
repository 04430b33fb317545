// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Evidence} from "./Evidence.sol";

/// @notice A subjective-logic opinion in parts per million; its three parts sum to one million.
struct Opinion {
    uint256 belief;
    uint256 disbelief;
    uint256 uncertainty;
}

/// @title What several publishers' opinions of a participant make together
/// @notice Multi-weight subjective logic (Kang et al. 2019): opinions of recommenders are averaged by how often each has met
/// the participant, discounted by the trust in them, and fused with one's own. Belief rounds down, doubt up.
library Opinions {
    /// @notice The opinion that follows from a lane of evidence.
    function from(uint256 lane) internal pure returns (Opinion memory found) {
        // slither-disable-next-line unused-return -- the reputation follows from the rest
        (found.belief, found.disbelief, found.uncertainty,) = Evidence.opinion(lane);
    }

    /// @notice The mean of the opinions that follow from recommenders' evidence, by how much each has.
    function recommended(uint256[] memory lanes) internal pure returns (Opinion memory) {
        (uint256 total, uint256 beliefs, uint256 disbeliefs) = (0, 0, 0);
        for (uint256 i = 0; i < lanes.length; ++i) {
            // slither-disable-next-line unused-return -- rounds without an update are no interaction
            (uint256 positive, uint256 negative,) = Evidence.unpack(lanes[i]);
            Opinion memory one = from(lanes[i]);
            total += positive + negative;
            beliefs += (positive + negative) * one.belief;
            disbeliefs += (positive + negative) * one.disbelief;
        }
        if (total == 0) return Opinion(0, 0, Evidence.PPM);
        (uint256 belief, uint256 disbelief) = (beliefs / total, disbeliefs / total);
        return Opinion(belief, disbelief, Evidence.PPM - belief - disbelief);
    }

    /// @notice An opinion as much as its source is trusted, in parts per million (Josang 2001).
    function discounted(Opinion memory told, uint256 trust) internal pure returns (Opinion memory) {
        uint256 belief = (told.belief * trust) / Evidence.PPM;
        uint256 disbelief = (told.disbelief * trust + Evidence.PPM - 1) / Evidence.PPM;
        if (disbelief > Evidence.PPM - belief) disbelief = Evidence.PPM - belief;
        return Opinion(belief, disbelief, Evidence.PPM - belief - disbelief);
    }

    /// @notice What two independent opinions make together: cumulative fusion.
    function fused(Opinion memory own, Opinion memory other) internal pure returns (Opinion memory) {
        (uint256 u, uint256 v) = (own.uncertainty, other.uncertainty);
        if (u == 0 && v == 0) {
            uint256 mean = (own.belief + other.belief) / 2;
            return Opinion(mean, Evidence.PPM - mean, 0);
        }
        uint256 k = (u + v) * Evidence.PPM - u * v;
        uint256 belief = ((own.belief * v + other.belief * u) * Evidence.PPM) / k;
        uint256 uncertainty = (u * v * Evidence.PPM + k - 1) / k;
        if (uncertainty > Evidence.PPM - belief) uncertainty = Evidence.PPM - belief;
        return Opinion(belief, Evidence.PPM - belief - uncertainty, uncertainty);
    }

    /// @notice The trust that an opinion comes to, in parts per million: belief and half of what is uncertain.
    function reputation(Opinion memory held) internal pure returns (uint256) {
        return held.belief + held.uncertainty / 2;
    }
}
