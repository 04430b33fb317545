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

    /// @notice Whether words hold scores of so many updates, sixteen a word: none above the greatest, none of no update.
    function isValid(uint256[] memory words, uint256 updates) internal pure returns (bool) {
        if (words.length != (updates + LANES - 1) / LANES) return false;
        if (updates == 0) return true;
        (uint256 all, uint256 nones) = (0, 0);
        (uint256 high, uint256 none) = (HIGH, ONES * NONE);
        assembly ("memory-safe") {
            let end := add(words, mul(32, add(mload(words), 1)))
            for { let at := add(words, 32) } lt(at, end) { at := add(at, 32) } {
                let word := mload(at)
                all := or(all, word)
                nones := or(nones, sub(high, xor(word, none)))
            }
        }
        // Where a sixteenth bit is set the second does not say anything.
        if (all & HIGH != 0 || nones & HIGH != 0) return false;
        uint256 rest = updates % LANES;
        return rest == 0 || words[words.length - 1] >> (LANE_BITS * rest) == 0;
    }

    /// @notice A word of each row; `into` has as many places as there are rows.
    function column(uint256[][] memory rows, uint256 place, uint256[] memory into) internal pure {
        assembly ("memory-safe") {
            let end := add(rows, mul(32, add(mload(rows), 1)))
            let to := add(into, 32)
            let at := mul(32, add(place, 1))
            for { let row := add(rows, 32) } lt(row, end) { row := add(row, 32) } {
                mstore(to, mload(add(mload(row), at)))
                to := add(to, 32)
            }
        }
    }

    /// @notice The lower median of each lane over some words, where more than one of them, and more than half of those that
    /// may, have a score there; else 0.
    /// @dev Changes the words: the lower half of each lane is sorted, and what is missing is greater than any score.
    /// @param barred Of each lane, how many may not, of fewer than 2^13 in `all`.
    function medians(uint256[] memory words, uint256 barred, uint256 all) internal pure returns (uint256 found) {
        (uint256 high, uint256 ones) = (HIGH, ONES);
        uint256 counts = 0;
        assembly ("memory-safe") {
            let end := add(words, mul(32, add(mload(words), 1)))
            for { let at := add(words, 32) } lt(at, end) { at := add(at, 32) } {
                let word := mload(at)
                let flags := and(sub(high, word), high)
                counts := add(counts, sub(ones, shr(15, flags)))
                mstore(at, or(word, sub(flags, shr(15, flags))))
            }
        }
        _sortLower(words);
        assembly ("memory-safe") {
            let rows := mload(words)
            for { let valid := 2 } iszero(gt(valid, rows)) { valid := add(valid, 1) } {
                let flags := and(sub(high, xor(counts, mul(ones, valid))), high)
                let median_ := mload(add(words, mul(32, add(shr(1, sub(valid, 1)), 1))))
                found := or(found, and(median_, sub(flags, shr(15, flags))))
            }
            // Twice as many as there are, and those that may not, are more than all.
            let most := and(sub(or(add(shl(1, counts), barred), high), mul(ones, add(all, 1))), high)
            found := and(found, sub(most, shr(15, most)))
        }
    }

    /// @dev Sorts the lanes as far as their lower medians.
    function _sortLower(uint256[] memory words) private pure {
        uint256 high = HIGH;
        assembly ("memory-safe") {
            let end := add(words, mul(32, add(mload(words), 1)))
            let last := add(words, mul(32, shr(1, add(mload(words), 1))))
            for { let at := add(words, 32) } iszero(gt(at, last)) { at := add(at, 32) } {
                let least := mload(at)
                for { let next := add(at, 32) } lt(next, end) { next := add(next, 32) } {
                    let other := mload(next)
                    // The lanes that are not below the other's change places with them.
                    let flags := and(sub(or(least, high), other), high)
                    let different := and(xor(least, other), sub(flags, shr(15, flags)))
                    least := xor(least, different)
                    mstore(next, xor(other, different))
                }
                mstore(at, least)
            }
        }
    }

    /// @notice The lower median of all scores in some words, of which there are `number`, at least one.
    function median(uint256[] memory words, uint256 number) internal pure returns (uint256 low) {
        uint256 last = MOST;
        // Empty lanes are not above anything either.
        uint256 rank = (number + 1) / 2 + LANES * words.length - number;
        (uint256 high, uint256 ones) = (HIGH, ONES);
        // The least number that `rank` lanes do not exceed.
        assembly ("memory-safe") {
            let end := add(words, mul(32, add(mload(words), 1)))
            for {} lt(low, last) {} {
                let middle := shr(1, add(low, last))
                let limits := or(mul(ones, middle), high)
                let lanes := 0
                for { let at := add(words, 32) } lt(at, end) { at := add(at, 32) } {
                    lanes := add(lanes, shr(15, and(sub(limits, mload(at)), high)))
                }
                switch lt(shr(240, mul(lanes, ones)), rank)
                case 0 { last := middle }
                default { low := add(middle, 1) }
            }
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
        uint256 high = HIGH;
        assembly ("memory-safe") {
            let length := mul(32, add(mload(others), 1))
            for { let at := 32 } lt(at, length) { at := add(at, 32) } {
                let word := mload(add(words, at))
                let other := mload(add(others, at))
                let flags := and(not(or(sub(high, word), sub(high, other))), high)
                both := add(both, shr(15, flags))
                let lanes := sub(flags, shr(15, flags))
                // The greater one less the other.
                let swap := and(sub(or(word, high), other), high)
                swap := and(xor(word, other), sub(swap, shr(15, swap)))
                let apart := and(sub(xor(other, swap), xor(word, swap)), lanes)
                far := add(far, shr(15, and(not(sub(limits, apart)), high)))
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
