// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Verdict codes
/// @notice 1 accepted, 2 never committed, 3 committed but not revealed, 4 heard in a bidding round, 16 and above refused for a
/// reason: up to 24 for its form, from 32 on because statistics of the round speak against it.
library Verdicts {
    uint256 internal constant ACCEPTED = 1;
    uint256 internal constant MISSED = 2;
    uint256 internal constant LATE = 3;
    /// @dev A bid: present, and neither evidence nor paid.
    uint256 internal constant HEARD = 4;
    uint256 internal constant FIRST_REFUSAL = 16;
    uint256 internal constant LAST_GARBAGE = 24;
    uint256 internal constant FIRST_STATISTICAL = 32;
    /// @dev By the scorers, whose median the contract takes.
    uint256 internal constant OUTVOTED = 38;

    /// @notice Whether an update was refused for its form, which its sender can check before it sends it.
    function isGarbage(uint256 verdict) internal pure returns (bool) {
        return verdict >= FIRST_REFUSAL && verdict <= LAST_GARBAGE;
    }

    /// @notice Whether an update was refused by a statistical judgement, which may err about an honest one.
    function isStatistical(uint256 verdict) internal pure returns (bool) {
        return verdict >= FIRST_STATISTICAL;
    }
}

/// @title Evidence and the opinion that follows from it
/// @notice Thirty-two bits a participant: positive (12), negative (12), missed (8), from the low end, decayed by 1/16 a
/// round. The opinion is multi-weight subjective logic (Kang et al. 2019). Credit rounds down, punishment up.
library Evidence {
    uint256 internal constant PPM = 1_000_000;
    uint256 internal constant UNIT = 240;
    uint256 internal constant MISSED_UNIT = 15;
    uint256 internal constant PRIOR = 480;
    uint256 internal constant POSITIVE_WEIGHT = 4;
    uint256 internal constant NEGATIVE_WEIGHT = 6;
    uint256 internal constant MAX_COUNT = 4095;
    uint256 internal constant MAX_MISSED = 255;
    /// @dev A one in each of the eight lanes, and their low twelve bits.
    uint256 private constant ALL = 0x0000000100000001000000010000000100000001000000010000000100000001;
    uint256 private constant POSITIVES = ALL * 0xfff;

    /// @notice Splits a lane into its three counts.
    function unpack(uint256 lane) internal pure returns (uint256 positive, uint256 negative, uint256 missed) {
        positive = lane & 0xfff;
        negative = (lane >> 12) & 0xfff;
        missed = (lane >> 24) & 0xff;
    }

    /// @notice Returns a lane after one more round with a verdict; the verdict is not zero.
    function afterVerdict(uint256 lane, uint256 verdict) internal pure returns (uint256) {
        if (verdict == Verdicts.HEARD) return lane;
        (uint256 positive, uint256 negative, uint256 missed) = unpack(lane);
        // Counts have at most 12 bits, so none of this can overflow or go below zero.
        unchecked {
            positive -= (positive + 15) / 16;
            if (verdict == Verdicts.MISSED || verdict == Verdicts.LATE) {
                // Negative evidence stays: staying away must not launder it.
                missed = _min(MAX_MISSED, missed - missed / 16 + MISSED_UNIT);
            } else {
                negative -= negative / 16;
                missed -= missed / 16;
                if (verdict == Verdicts.ACCEPTED) positive = _min(MAX_COUNT, positive + UNIT);
                else negative = _min(MAX_COUNT, negative + UNIT);
            }
        }
        return positive | (negative << 12) | (missed << 24);
    }

    /// @notice Returns eight lanes after one more round in which all of them were accepted.
    /// @dev The same as `afterVerdict` in every lane: positive evidence settles at 16 units and cannot exceed its bits.
    function afterAcceptance(uint256 lanes) internal pure returns (uint256) {
        unchecked {
            uint256 positive = lanes & POSITIVES;
            positive = positive + ALL * UNIT - (((positive + ALL * 15) >> 4) & (ALL * 0x1ff));
            uint256 negative = (lanes >> 12) & POSITIVES;
            negative -= (negative >> 4) & (ALL * 0xff);
            uint256 missed = (lanes >> 24) & (ALL * 0xff);
            missed -= (missed >> 4) & (ALL * 0xf);
            return positive | (negative << 12) | (missed << 24);
        }
    }

    /// @notice Returns a lane after a failed check: what was counted for the participant was not earned.
    function afterFailedCheck(uint256 lane) internal pure returns (uint256) {
        (, uint256 negative, uint256 missed) = unpack(lane);
        return (_min(MAX_COUNT, negative + UNIT) << 12) | (missed << 24);
    }

    /// @notice Returns the opinion in parts per million; the first three sum to one million.
    function opinion(uint256 lane)
        internal
        pure
        returns (uint256 belief, uint256 disbelief, uint256 uncertainty, uint256 reputation)
    {
        (uint256 positive, uint256 negative, uint256 missed) = unpack(lane);
        uint256 unknown = PRIOR + 16 * missed;
        uint256 total = positive + negative + unknown;
        uncertainty = (unknown * PPM + total - 1) / total;
        uint256 good = POSITIVE_WEIGHT * positive;
        uint256 bad = NEGATIVE_WEIGHT * negative;
        if (good + bad != 0) belief = ((PPM - uncertainty) * good) / (good + bad);
        disbelief = PPM - belief - uncertainty;
        reputation = belief + uncertainty / 2;
    }

    function _min(uint256 a, uint256 b) private pure returns (uint256) {
        return a < b ? a : b;
    }
}
