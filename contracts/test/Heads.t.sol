// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Head, Heads} from "../src/Heads.sol";
import {IFedLedger} from "../src/IFedLedger.sol";
import {Fixture} from "./Fixture.sol";

contract HeadsTest is Fixture {
    using Heads for IFedLedger.Round;

    IFedLedger.Round private _round;

    function testFuzz_head_readsWhatTheCompilerWrote(uint32[5] memory times, uint16[3] memory counts, uint8 flags)
        public
    {
        (_round.revealPeriod, _round.commitDeadline, _round.commitsClosedAt) = (times[0], times[1], times[2]);
        (_round.proposedAt, _round.baseRound) = (times[3], times[4]);
        (_round.selected, _round.committed, _round.settledWords) = (counts[0], counts[1], counts[2]);
        (_round.status, _round.seat, _round.disputes) = (IFedLedger.RoundStatus.Settled, ~flags, ~flags);
        (_round.flags, _round.modelDigest) = (flags, MODEL);
        Head head = _round.head();
        eq(head.revealPeriod(), times[0], "reveal period");
        eq(head.commitDeadline(), times[1], "commit deadline");
        eq(head.commitsClosedAt(), times[2], "commits closed at");
        eq(head.proposedAt(), times[3], "proposed at");
        eq(head.baseRound(), times[4], "base round");
        eq(head.selected(), counts[0], "selected");
        eq(head.committed(), counts[1], "committed");
        eq(head.stands(IFedLedger.RoundStatus.Settled) ? 1 : 0, 1, "status");
        eq(head.stands(IFedLedger.RoundStatus.Voided) ? 1 : 0, 0, "another status");
        for (uint256 i = 0; i < 8; ++i) {
            eq(head.has(1 << i) ? 1 : 0, (flags >> i) & 1, "flag");
        }
        eq(head.hasOf(7, 5) ? 1 : 0, flags & 7 == 5 ? 1 : 0, "flags");
    }

    function testFuzz_countCommitted_addsOneAndTouchesNothingElse(uint32 time, uint16 count, uint8 flags) public {
        count /= 2;
        (_round.proposedAt, _round.selected, _round.committed, _round.settledWords) = (time, ~count, count, ~count);
        (_round.status, _round.flags) = (IFedLedger.RoundStatus.Open, flags);
        _round.countCommitted(_round.head());
        eq(_round.committed, count + 1, "committed");
        eq(_round.proposedAt, time, "proposed at");
        eq(_round.selected, uint16(~count), "selected");
        eq(_round.settledWords, uint16(~count), "settled words");
        eq(_round.flags, flags, "flags");
        eq(uint8(_round.status), uint8(IFedLedger.RoundStatus.Open), "status");
    }
}
