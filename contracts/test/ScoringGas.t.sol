// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {ScoringFixture} from "./ScoringFixture.sol";
import {vm} from "./Vm.sol";

/// @notice What scoring costs: ten scorers of a hundred updates.
contract ScoringGasTest is ScoringFixture {
    uint256 private constant UPDATES = 100;
    uint8 private constant SCORERS = 10;
    /// @dev The last one is warm in every way.
    uint32 private constant ROUNDS = 2;
    uint256 private constant SCORE_LIMIT = 640;
    uint256 private constant CALL_LIMIT = 2_000;
    uint256 private constant DIRECT_LIMIT = 160_000;
    uint256 private _gas;

    function setUp() public {
        setUpLedger();
        vm.roll(1000);
        register(UPDATES);
    }

    /// @dev Scorers sign; the aggregator posts their commitments, which draws, and then what they revealed to it.
    function test_gas_scores_batched() public {
        begin(scoredBatch(uint16(UPDATES), SCORERS), UPDATES);
        (uint256 first, uint256 calling_, uint256 warm) = (0, 0, 0);
        for (uint32 round = 1; round <= ROUNDS; ++round) {
            openFor(UPDATES);
            close(_task, round, keccak256("root"), uint16(UPDATES));
            calling_ = transact(AGGREGATOR, calling()) / UPDATES;
            nextBlock();
            sayEven();
            bytes memory listing_ = _listing();
            warm = transact(AGGREGATOR, listing_);
            vm.snapshotValue("FedLedger", "scores of a hundred: ten commitments, listed", warm);
            uint256 tally_ = transact(AGGREGATOR, tallying(everyPlace()));
            vm.snapshotValue("FedLedger", "scores of a hundred: tally of ten", tally_);
            warm = (warm + tally_) / (UPDATES * SCORERS);
            if (round == 1) first = warm;
            _settle();
        }
        vm.snapshotValue("FedLedger", "one score of a batched round, first", first);
        vm.snapshotValue("FedLedger", "one score of a batched round", warm);
        vm.snapshotValue("FedLedger", "calling scorers of a batched round, an update", calling_);
        if (warm > SCORE_LIMIT) revert Differs("gas of a score", first, warm);
        if (calling_ > CALL_LIMIT) revert Differs("gas of a called update", calling_, CALL_LIMIT);
    }

    /// @dev Each scorer sends a commitment of its own, and what it reveals.
    function test_gas_scorer_direct() public {
        begin(scored(uint16(UPDATES), SCORERS), UPDATES);
        uint256 warm = 0;
        for (uint32 round = 1; round <= ROUNDS; ++round) {
            openFor(UPDATES);
            commitAndReveal(_task, round, UPDATES);
            vm.snapshotValue("FedLedger", "calling scorers of a direct round", transact(AGGREGATOR, calling()));
            nextBlock();
            sayEven();
            uint256 draw_ = transact(OUTSIDER, abi.encodeCall(opinions.drawScorers, (_task, round, _indices)));
            vm.snapshotValue("FedLedger", "drawScorers, ten of a hundred", draw_);
            warm = 0;
            for (uint256 place = 0; place < SCORERS; ++place) {
                warm += _commitAlone(place);
            }
            for (uint256 place = 0; place < SCORERS; ++place) {
                warm += _revealAlone(place);
            }
            warm = (warm + draw_ + transact(AGGREGATOR, tallying(everyPlace()))) / SCORERS;
            _settle();
        }
        vm.snapshotValue("FedLedger", "a scorer of a direct round, all its transactions and its part of others", warm);
        if (warm > DIRECT_LIMIT) revert Differs("gas of a scorer", warm, DIRECT_LIMIT);
    }

    /// @dev What the list will say is only known once the draw is: it is looked at, and undone.
    function _listing() private returns (bytes memory data) {
        uint256 state = vm.snapshotState();
        drawn();
        data = listing(everyPlace());
        vm.revertToState(state);
    }

    function _commitAlone(uint256 place) private returns (uint256) {
        bytes memory data = abi.encodeCall(opinions.commitScore, (_task, _round, _indices, scoreHash(place)));
        return transact(signer(scorer(place)), data);
    }

    function _revealAlone(uint256 place) private returns (uint256) {
        bytes32[] memory none = new bytes32[](0);
        return
            transact(signer(scorer(place)), abi.encodeCall(opinions.revealScore, (_task, _round, scored(place), none)));
    }

    function _settle() private {
        Outcome memory o = outcomeOf(UPDATES);
        for (uint256 i = 0; i < o.shareWords.length; ++i) {
            o.shareWords[i] = 0;
        }
        proposeScored(o);
        pass(5);
        settle(_task, _round, o);
    }
}
