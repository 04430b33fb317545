// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Lanes} from "../src/Lanes.sol";
import {Scores} from "../src/Scores.sol";
import {Fixture} from "./Fixture.sol";

/// @notice Sixteen scores at once are what a loop over each of them finds.
contract ScoresTest is Fixture {
    uint256 private constant MOST = 32_766;

    function testFuzz_isValid(uint256 seed, uint256 updates, uint256 length, uint256 place, uint256 lane) public pure {
        (length, updates) = (bound(length, 0, 4), bound(updates, 0, 60));
        uint256[] memory words = _words(seed, length, 3);
        for (uint256 i = 0; i < length && seed % 4 != 0; ++i) {
            uint256 rest = updates > 16 * i ? updates - 16 * i : 0;
            if (rest < 16) words[i] &= (1 << (16 * rest)) - 1;
        }
        if (length != 0 && seed % 3 == 0) words[place % length] ^= (lane & 0xffff) << (16 * ((lane >> 16) % 16));
        bool expected = length == (updates + 15) / 16;
        for (uint256 i = 0; i < 16 * length; ++i) {
            uint256 score = (words[i / 16] >> (16 * (i % 16))) & 0xffff;
            if (score > MOST || (score != 0 && i >= updates)) expected = false;
        }
        eq(Scores.isValid(words, updates) ? 1 : 0, expected ? 1 : 0, "valid");
    }

    function test_isValid_atTheLimits() public pure {
        for (uint256 i = 0; i < 16; ++i) {
            eq(_isValid(MOST << (16 * i), 16), 1, "the greatest score");
            eq(_isValid((MOST + 1) << (16 * i), 16), 0, "what stands for none");
            eq(_isValid(1 << (16 * i + 15), 16), 0, "the sixteenth bit");
            if (i != 0) eq(_isValid(1 << (16 * i), i), 0, "after the last");
            eq(_isValid(1 << (16 * i), i + 1), 1, "the last");
        }
        eq(_isValid(0, 17), 0, "too few words");
        eq(_isValid(0, 0), 0, "too many");
    }

    function _isValid(uint256 word, uint256 updates) private pure returns (uint256) {
        uint256[] memory words = new uint256[](1);
        words[0] = word;
        return Scores.isValid(words, updates) ? 1 : 0;
    }

    function testFuzz_column(uint256 seed, uint256 count, uint256 place) public pure {
        (count, place) = (bound(count, 0, 15), bound(place, 0, 4));
        uint256[][] memory rows = new uint256[][](count);
        for (uint256 j = 0; j < count; ++j) {
            rows[j] = _words(uint256(keccak256(abi.encode(seed, j))), 5, 3);
        }
        uint256[] memory found = new uint256[](count);
        Scores.column(rows, place, found);
        for (uint256 j = 0; j < count; ++j) {
            eq(found[j], rows[j][place], "word");
        }
    }

    function testFuzz_given_andEverywhere(uint256 seed, uint256 value) public pure {
        uint256 word = _scores(seed, 2);
        value = bound(value, 0, MOST);
        (uint256 full, uint256 same) = (0, 0);
        for (uint256 i = 0; i < 16; ++i) {
            if ((word >> (16 * i)) & 0xffff != 0) full |= 0x7fff << (16 * i);
            same |= value << (16 * i);
        }
        eq(Scores.given(word), full, "given");
        eq(Scores.everywhere(value), same, "everywhere");
    }

    /// @dev Of up to fifteen words, in each of which every second score is missing or hardly any is.
    function testFuzz_medians(uint256 seed, uint256 count, uint256 all, uint256 gaps) public pure {
        (count, gaps) = (bound(count, 0, 15), bound(gaps, 2, 30));
        all = bound(all, count < 3 ? 3 : count, 15);
        uint256[] memory words = _words(seed, count, gaps);
        (uint256 expected, uint256 barred) = (0, 0);
        for (uint256 i = 0; i < 16; ++i) {
            uint256[] memory lane = _column(words, i);
            uint256 few = uint256(keccak256(abi.encode(seed, "barred", i))) % (all - lane.length + 1);
            barred |= few << (16 * i);
            bool known = lane.length > (all - few) / 2 && lane.length > 1;
            if (known) expected |= lane[(lane.length - 1) / 2] << (16 * i);
        }
        eq(Scores.medians(words, barred, all), expected, "medians");
    }

    function test_medians_ofFewAndEqual() public pure {
        uint256[] memory words = new uint256[](3);
        (words[0], words[1], words[2]) = (5 | (9 << 16) | (4 << 32), 5 | (2 << 16), 5 | (7 << 16) | (1 << 32));
        uint256 equal = 5 | (7 << 16) | (1 << 32);
        eq(Scores.medians(words, 0, 3), equal, "equal, of three, the lower of two");
        (words[0], words[1], words[2]) = (5 | (9 << 16) | (4 << 32), 5 | (2 << 16), 5 | (7 << 16) | (1 << 32));
        eq(Scores.medians(words, 0, 4), 5 | (7 << 16), "two of four are too few");
        (words[0], words[1], words[2]) = (5 | (9 << 16) | (4 << 32), 5 | (2 << 16), 5 | (7 << 16) | (1 << 32));
        eq(Scores.medians(words, 1 << 32, 4), equal, "two of three that may are not");
        words = new uint256[](3);
        words[0] = 5 | (6 << 16);
        eq(Scores.medians(words, 2 | (3 << 16), 3), 0, "nobody decides alone");
        eq(Scores.medians(new uint256[](0), Scores.everywhere(3), 3), 0, "of nothing");
    }

    function testFuzz_median(uint256 seed, uint256 count, uint256 gaps) public pure {
        uint256[] memory words = _words(seed, bound(count, 1, 8), bound(gaps, 2, 30));
        words[0] |= 1;
        uint256[] memory all = _all(words);
        eq(Scores.median(words, all.length), all[(all.length - 1) / 2], "median");
    }

    function testFuzz_distances(uint256 seed, uint256 from, uint256 gaps) public pure {
        from = bound(from, 1, MOST);
        uint256[] memory words = _words(seed, 3, bound(gaps, 2, 30));
        uint256[] memory found = Scores.distances(words, from);
        eq(found.length, 3, "as many");
        for (uint256 j = 0; j < 3; ++j) {
            for (uint256 i = 0; i < 16; ++i) {
                uint256 lane = (words[j] >> (16 * i)) & 0xffff;
                uint256 apart = lane == 0 ? 0 : 1 + (lane > from ? lane - from : from - lane);
                eq((found[j] >> (16 * i)) & 0xffff, apart, "distance");
            }
        }
    }

    function test_distances_atTheLimits() public pure {
        uint256[] memory words = new uint256[](1);
        words[0] = 1 | (MOST << 16);
        eq(Scores.distances(words, MOST)[0], MOST | (1 << 16), "the greatest distance and none");
        eq(Scores.distances(words, 1)[0], 1 | (MOST << 16), "the other way round");
    }

    function testFuzz_above(uint256 seed, uint256 limit, bool near) public pure {
        uint256 word = _scores(seed, 4);
        limit = near ? (word & 0x7fff) : bound(limit, 0, MOST);
        uint256 expected = 0;
        for (uint256 i = 0; i < 16; ++i) {
            if ((word >> (16 * i)) & 0xffff > limit) expected |= 1 << (16 * i);
        }
        eq(Scores.above(word, limit), expected, "above");
        eq(Scores.count(expected), _count(expected), "count");
    }

    /// @dev Also of as many words as 1,024 updates have.
    function testFuzz_compare(uint256 seed, uint256 most, uint256 gaps, bool many) public pure {
        (most, gaps) = (bound(most, 0, MOST), bound(gaps, 2, 30));
        uint256[] memory words = _words(seed, many ? 64 : 2, gaps);
        uint256[] memory others = _words(~seed, words.length, gaps);
        (uint256 both, uint256 far) = (0, 0);
        for (uint256 j = 0; j < words.length; ++j) {
            for (uint256 i = 0; i < 16; ++i) {
                (uint256 a, uint256 b) = ((words[j] >> (16 * i)) & 0xffff, (others[j] >> (16 * i)) & 0xffff);
                if (a == 0 || b == 0) continue;
                ++both;
                if ((a > b ? a - b : b - a) > most) ++far;
            }
        }
        (uint256 foundBoth, uint256 foundFar) = Scores.compare(words, others, most);
        eq(foundBoth, both, "both");
        eq(foundFar, far, "far");
    }

    function test_compare_everyLaneOfThemAll() public pure {
        uint256[] memory words = new uint256[](64);
        uint256[] memory others = new uint256[](64);
        for (uint256 j = 0; j < 64; ++j) {
            (words[j], others[j]) = (Scores.everywhere(MOST), Scores.everywhere(1));
        }
        (uint256 both, uint256 far) = Scores.compare(words, others, MOST - 2);
        eq(both, 1024, "both");
        eq(far, 1024, "far");
        (, far) = Scores.compare(words, others, MOST - 1);
        eq(far, 0, "no farther than that");
    }

    function testFuzz_gather_isTheOtherWayOfSpread(uint8 bits, uint64 bytes_) public pure {
        eq(Lanes.gather(Lanes.spread(bits)), bits, "bits");
        uint256 expected = 0;
        for (uint256 i = 0; i < 8; ++i) {
            if ((bytes_ >> (8 * i)) & 0xff != 0) expected |= 1 << i;
        }
        eq(Lanes.gather(bytes_), expected, "bytes");
    }

    /// @dev Scores of which about one of `gaps` is missing, and some are at a limit.
    function _scores(uint256 seed, uint256 gaps) private pure returns (uint256 word) {
        for (uint256 i = 0; i < 16; ++i) {
            uint256 chance = uint256(keccak256(abi.encode(seed, i)));
            uint256 score = 1 + (chance >> 64) % MOST;
            if ((chance >> 32) % 8 == 0) score = (chance >> 40) % 2 == 0 ? 1 : MOST;
            if ((chance >> 32) % 8 == 1) score = EQUAL;
            if (chance % gaps != 0) word |= score << (16 * i);
        }
    }

    uint256 private constant EQUAL = 16_384;

    function _words(uint256 seed, uint256 count, uint256 gaps) private pure returns (uint256[] memory words) {
        words = new uint256[](count);
        for (uint256 j = 0; j < count; ++j) {
            words[j] = _scores(uint256(keccak256(abi.encode(seed, "word", j))), gaps);
        }
    }

    /// @dev The scores of a lane, the least one first.
    function _column(uint256[] memory words, uint256 lane) private pure returns (uint256[] memory) {
        uint256[] memory one = new uint256[](words.length);
        for (uint256 j = 0; j < words.length; ++j) {
            one[j] = (words[j] >> (16 * lane)) & 0xffff;
        }
        return _sorted(one);
    }

    function _all(uint256[] memory words) private pure returns (uint256[] memory) {
        uint256[] memory lanes = new uint256[](16 * words.length);
        for (uint256 i = 0; i < lanes.length; ++i) {
            lanes[i] = (words[i / 16] >> (16 * (i % 16))) & 0xffff;
        }
        return _sorted(lanes);
    }

    /// @dev Without zeros.
    function _sorted(uint256[] memory values) private pure returns (uint256[] memory found) {
        found = new uint256[](values.length);
        uint256 count = 0;
        for (uint256 i = 0; i < values.length; ++i) {
            if (values[i] == 0) continue;
            uint256 place = count++;
            for (; place > 0 && found[place - 1] > values[i]; --place) {
                found[place] = found[place - 1];
            }
            found[place] = values[i];
        }
        assembly ("memory-safe") {
            mstore(found, count)
        }
    }

    function _count(uint256 flags) private pure returns (uint256 count) {
        for (; flags != 0; flags &= flags - 1) {
            ++count;
        }
    }
}
