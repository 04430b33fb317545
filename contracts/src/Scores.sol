// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Sixteen scores at once
/// @notice A score is the lower 15 bits of one of a word's sixteen lanes: 1 to 32,766, less is better, and 0 is none. All
/// lanes of a word are compared, sorted and counted together.
/// @dev Nothing can carry from one lane into the next: the sixteenth bit of a lane takes what is borrowed.
library Scores {
    /// @notice Scores of a word.
    uint256 internal constant LANES = 16;
    uint256 internal constant LANE_BITS = 16;
    /// @notice The greatest score.
    uint256 internal constant MOST = 32_766;
    /// @dev A one in each lane, and the bits above its fifteen.
    uint256 private constant ONES = type(uint256).max / 0xffff;
    uint256 private constant HIGH = ONES << 15;
    /// @dev Greater than any score.
    uint256 private constant NONE = 0x7fff;

    /// @notice The same number in all lanes.
    function everywhere(uint256 value) internal pure returns (uint256) {
        unchecked {
            return ONES * value;
        }
    }

    /// @notice The lanes, all their 15 bits set, that hold a score.
    function given(uint256 word) internal pure returns (uint256) {
        return ~_full(_zero(word)) & (everywhere(NONE));
    }

    /// @notice Whether no lane is above the greatest score, and all lanes from `count` on are empty.
    function isValid(uint256 word, uint256 count) internal pure returns (bool) {
        if (word & HIGH != 0 || _zero(word ^ everywhere(NONE)) != 0) return false;
        return count >= LANES || word >> (LANE_BITS * count) == 0;
    }

    /// @notice The lower median of each lane over some words, where more than `half` of them have a score there; else 0.
    /// @dev Changes the words.
    function medians(uint256[] memory words, uint256 half) internal pure returns (uint256 found) {
        uint256 count = words.length;
        uint256 counts = 0;
        unchecked {
            for (uint256 i = 0; i < count; ++i) {
                uint256 none = _full(_zero(words[i]));
                counts += (none >> 14 & ONES) ^ ONES;
                words[i] |= none;
            }
            uint256 last = count == 0 ? 0 : (count - 1) / 2 + 1;
            for (uint256 i = 0; i < last; ++i) {
                uint256 least = words[i];
                for (uint256 j = i + 1; j < count; ++j) {
                    uint256 other = words[j];
                    uint256 different = (least ^ other) & _full(((least | HIGH) - other) & HIGH);
                    least ^= different;
                    words[j] = other ^ different;
                }
                words[i] = least;
            }
            for (uint256 valid = half + 1; valid <= count; ++valid) {
                found |= words[(valid - 1) / 2] & _full(_zero(counts ^ everywhere(valid)));
            }
        }
    }

    /// @notice The lower median of all scores in some words, of which there are `count`, at least one.
    function median(uint256[] memory words, uint256 count) internal pure returns (uint256 low) {
        uint256 high = MOST;
        uint256 rank = (count + 1) / 2;
        // The least number that `rank` scores do not exceed.
        while (low < high) {
            uint256 middle = (low + high) / 2;
            if (_upTo(words, middle) >= rank) high = middle;
            else low = middle + 1;
        }
    }

    /// @notice How far each score is from a number, plus one, so that a score at no distance is one of 1.
    function distances(uint256[] memory words, uint256 from) internal pure returns (uint256[] memory found) {
        found = new uint256[](words.length);
        for (uint256 i = 0; i < words.length; ++i) {
            found[i] = (_apart(words[i], everywhere(from)) + ONES) & given(words[i]);
        }
    }

    /// @notice Flags, the lowest bits of lanes, of the scores above a number.
    function above(uint256 word, uint256 limit) internal pure returns (uint256) {
        unchecked {
            return ((((everywhere(limit) | HIGH) - word) & HIGH) ^ HIGH) >> 15;
        }
    }

    /// @notice How many lanes have a score in both of as many words, and how many of these are farther apart than a number.
    /// @dev Counts of lanes fit these for fewer than 2^12 words.
    function compare(uint256[] memory words, uint256[] memory others, uint256 most)
        internal
        pure
        returns (uint256 both, uint256 far)
    {
        uint256 limits = everywhere(most) | HIGH;
        for (uint256 i = 0; i < others.length; ++i) {
            (uint256 word, uint256 other) = (words[i], others[i]);
            unchecked {
                uint256 lanes = given(word) & given(other);
                both += lanes >> 14 & ONES;
                far += (((limits - (_apart(word, other) & lanes)) & HIGH) ^ HIGH) >> 15;
            }
        }
        (both, far) = (count(both), count(far));
    }

    /// @notice How many flags are set.
    function count(uint256 flags) internal pure returns (uint256) {
        unchecked {
            return (flags * ONES) >> 240;
        }
    }

    function _apart(uint256 word, uint256 other) private pure returns (uint256) {
        unchecked {
            uint256 swapped = (word ^ other) & _full(((word | HIGH) - other) & HIGH);
            return (other ^ swapped) - (word ^ swapped);
        }
    }

    /// @dev Scores of at most a number.
    function _upTo(uint256[] memory words, uint256 limit) private pure returns (uint256 found) {
        unchecked {
            for (uint256 i = 0; i < words.length; ++i) {
                uint256 word = words[i];
                found += count((((everywhere(limit) | HIGH) - word) & HIGH & ~_zero(word)) >> 15);
            }
        }
    }

    /// @dev The highest bits of the lanes whose 15 others are zero.
    function _zero(uint256 word) private pure returns (uint256) {
        unchecked {
            return (HIGH - word) & HIGH;
        }
    }

    /// @dev Of lanes whose highest bit is set, the 15 others.
    function _full(uint256 high) private pure returns (uint256) {
        unchecked {
            return high - (high >> 15);
        }
    }
}
