// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Eight participants at once
/// @notice A slot's eight verdicts are the bytes of a 64-bit word, its eight shares the 32-bit lanes of a word. A flag is
/// a byte that is 0 or 1. Nothing here can carry from one lane into the next.
library Lanes {
    /// @notice All eight flags set.
    uint256 internal constant ALL = 0x0101010101010101;
    uint256 private constant LOW_BITS = 0x7f7f7f7f7f7f7f7f;
    uint256 private constant DIAGONAL = 0x8040201008040201;
    uint256 private constant TRANSPOSED = 0x0102040810204080;
    /// @dev A one in each half, quarter and eighth of a word.
    uint256 private constant HALVES = (1 << 128) | 1;
    uint256 private constant QUARTERS = HALVES * ((1 << 64) | 1);
    uint256 private constant EIGHTHS = QUARTERS * ((1 << 32) | 1);
    uint256 private constant EVEN = 0x00000000ffffffff00000000ffffffff00000000ffffffff00000000ffffffff;

    /// @notice Flags of the set bits of a byte: bit i becomes byte i.
    function spread(uint256 bits) internal pure returns (uint256) {
        unchecked {
            return _raised((bits * ALL) & DIAGONAL);
        }
    }

    /// @notice Which bytes are not zero, as bits of a byte: byte i becomes bit i.
    function gather(uint256 bytes_) internal pure returns (uint256) {
        unchecked {
            uint256 flags = (((bytes_ & LOW_BITS) + LOW_BITS) | bytes_) >> 7 & ALL;
            // No two of the 64 products fall on the same bit, and the bits from 56 on are those of equal places.
            return (flags * TRANSPOSED) >> 56 & 0xff;
        }
    }

    /// @notice Flags of the bytes that equal `value`.
    function equal(uint256 bytes_, uint256 value) internal pure returns (uint256) {
        unchecked {
            uint256 difference = bytes_ ^ (ALL * value);
            return ((((difference & LOW_BITS) + LOW_BITS) | difference) >> 7 & ALL) ^ ALL;
        }
    }

    /// @notice Flags of the bytes of 16 and above.
    function atLeastSixteen(uint256 bytes_) internal pure returns (uint256) {
        return _raised((bytes_ >> 4) & 0x0f0f0f0f0f0f0f0f);
    }

    /// @notice How many flags are set.
    function count(uint256 flags) internal pure returns (uint256) {
        unchecked {
            return (flags * ALL) >> 56 & 0xff;
        }
    }

    /// @notice Place of the first set flag; 8 if there is none.
    function first(uint256 flags) internal pure returns (uint256 place) {
        while (place < 8 && (flags >> (8 * place)) & 1 == 0) ++place;
    }

    /// @notice The 32-bit lanes of the set flags, all their bits set.
    function widen(uint256 flags) internal pure returns (uint256 lanes) {
        // Four and four bytes, then two and two, then one and one move apart; each byte becomes its lane's lowest.
        lanes = (flags | (flags << 96)) & (HALVES * type(uint32).max);
        lanes = (lanes | (lanes << 48)) & (QUARTERS * type(uint16).max);
        lanes = (lanes | (lanes << 24)) & (EIGHTHS * type(uint8).max);
        unchecked {
            lanes *= type(uint32).max;
        }
    }

    /// @notice Flags of the 32-bit lanes that are not zero.
    function occupied(uint256 lanes) internal pure returns (uint256 flags) {
        for (uint256 place = 0; place < 8; ++place) {
            if ((lanes >> (32 * place)) & type(uint32).max != 0) flags |= 1 << (8 * place);
        }
    }

    /// @notice Sum of the eight 32-bit lanes.
    function sum(uint256 lanes) internal pure returns (uint256) {
        unchecked {
            uint256 pairs = (lanes & EVEN) + ((lanes >> 32) & EVEN);
            uint256 fours = pairs + (pairs >> 128);
            return (fours & type(uint64).max) + ((fours >> 64) & type(uint64).max);
        }
    }

    /// @notice How many bits of a word are set.
    function popcount(uint256 word) internal pure returns (uint256) {
        unchecked {
            word -= (word >> 1) & (type(uint256).max / 3);
            word = (word & (type(uint256).max / 5)) + ((word >> 2) & (type(uint256).max / 5));
            word = (word + (word >> 4)) & (type(uint256).max / 17);
            // 32 bytes of at most 8 each: 256 does not fit the topmost byte.
            word = (word & (type(uint256).max / 257)) + ((word >> 8) & (type(uint256).max / 257));
            // slither-disable-next-line divide-before-multiply -- constants, and they divide evenly
            return (word * (type(uint256).max / 65_535)) >> 240;
        }
    }

    /// @dev Flags of the bytes that are not zero; no byte may be above 0x80.
    function _raised(uint256 bytes_) private pure returns (uint256) {
        unchecked {
            return (bytes_ + LOW_BITS) >> 7 & ALL;
        }
    }
}
