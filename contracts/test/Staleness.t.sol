// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {CourtFixture} from "./CourtFixture.sol";
import {vm} from "./Vm.sol";

/// @notice Updates that are relative to an earlier model than the one that their round starts from.
contract StalenessTest is CourtFixture {
    uint32 private constant WINDOW = 30;
    uint8 private constant MOST = 3;
    uint256 private constant FARTHEST_LIMIT = 200_000;

    uint256 private _task;

    function setUp() public {
        setUpCourt(3);
        _task = _post(MOST, 0);
    }

    function test_revealStale_opensWhatIsRelativeToTheModelSoManyStepsBack() public {
        _finish(1);
        _finish(2);
        _finish(3);
        open(_task, 15);
        bytes32[4] memory bases = [_model(3), _model(2), _model(1), MODEL];
        for (uint8 s = 0; s < 4; ++s) {
            eq(accounts.staleBase(_task, 4, s), bases[s], "base");
            _commit(4, s, bases[s]);
        }
        for (uint8 s = 0; s < 4; ++s) {
            vm.expectEmit(address(ledger));
            IFedLedger.ContentRef memory u = update(s);
            emit IFedLedger.StaleUpdateRevealed(_task, 4, s, u.digest, u.length, SALT, s, bases[s]);
            _reveal(4, s, s);
        }
        eq(accounts.revealedWord(_task, 4, 0), 15, "revealed");
        propose(_task, 4, _outcome(4));
        pass(WINDOW);
        settle(_task, 4, _outcome(4));
        eq(accounts.creditOf(_task, 3), 101 + 102 + 103 + 104, "a stale update is paid like any other");
    }

    function test_revealStale_beyondTheTasksBound_isRefused() public {
        for (uint32 round = 1; round <= 4; ++round) {
            _finish(round);
        }
        open(_task, 15);
        for (uint256 i = 0; i < 4; ++i) {
            _commit(5, i, MODEL);
        }
        refused(signer(0), abi.encodeWithSelector(IFedLedger.TooStale.selector, 4, MOST));
        accounts.revealStaleUpdate(_task, 5, 4, update(0), SALT, NO_PROOF);
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.TooStale.selector, 4, MOST));
        accounts.staleBase(_task, 5, 4);
    }

    /// @dev Nothing comes before the first model.
    function test_revealStale_beyondTheFirstModel_isRefused() public {
        open(_task, 15);
        for (uint256 i = 0; i < 4; ++i) {
            _commit(1, i, MODEL);
        }
        refused(signer(0), abi.encodeWithSelector(IFedLedger.TooStale.selector, 1, 0));
        accounts.revealStaleUpdate(_task, 1, 1, update(0), SALT, NO_PROOF);
        for (uint8 i = 0; i < 4; ++i) {
            _reveal(1, i, 0);
        }
        propose(_task, 1, _outcome(1));
        open(_task, 15);
        for (uint256 i = 0; i < 4; ++i) {
            _commit(2, i, MODEL);
        }
        refused(signer(0), abi.encodeWithSelector(IFedLedger.TooStale.selector, 2, 1));
        accounts.revealStaleUpdate(_task, 2, 2, update(0), SALT, NO_PROOF);
        _reveal(2, 0, 1);
    }

    function test_revealStale_whereNoneMayBe_isRefused() public {
        _task = _post(0, 0);
        _finish(1);
        open(_task, 15);
        for (uint256 i = 0; i < 4; ++i) {
            _commit(2, i, MODEL);
        }
        refused(signer(0), abi.encodeWithSelector(IFedLedger.TooStale.selector, 1, 0));
        accounts.revealStaleUpdate(_task, 2, 1, update(0), SALT, NO_PROOF);
    }

    /// @dev The commitment says what the update is relative to, and it is opened by that or not at all.
    function test_revealStale_ofAnotherBase_isRefused() public {
        _finish(1);
        _finish(2);
        open(_task, 15);
        for (uint256 i = 0; i < 4; ++i) {
            _commit(3, i, _model(1));
        }
        bytes32 made = ledger.commitmentOf(_task, 3, signer(0), _model(1), update(0), SALT);
        bytes32[3] memory bases = [_model(2), _model(1), MODEL];
        for (uint8 s = 0; s < 3; s += 2) {
            bytes32 found = ledger.commitmentOf(_task, 3, signer(0), bases[s], update(0), SALT);
            refused(signer(0), abi.encodeWithSelector(IFedLedger.WrongReveal.selector, kept(made), found));
            accounts.revealStaleUpdate(_task, 3, s, update(0), SALT, NO_PROOF);
        }
        bytes32 fresh = ledger.commitmentOf(_task, 3, signer(0), _model(2), update(0), SALT);
        refused(signer(0), abi.encodeWithSelector(IFedLedger.WrongReveal.selector, kept(made), fresh));
        ledger.revealUpdate(_task, 3, update(0), SALT, NO_PROOF);
        _reveal(3, 0, 1);
        refused(signer(0), abi.encodeWithSelector(IFedLedger.AlreadyRevealed.selector, 0));
        accounts.revealStaleUpdate(_task, 3, 1, update(0), SALT, NO_PROOF);
    }

    function test_revealStale_outOfItsPhase_isRefused() public {
        _finish(1);
        open(_task, 15);
        _commit(2, 0, MODEL);
        refused(signer(0), abi.encodeWithSelector(IFedLedger.CommitsAreOpen.selector));
        accounts.revealStaleUpdate(_task, 2, 1, update(0), SALT, NO_PROOF);
        pass(20);
        refused(signer(0), abi.encodeWithSelector(IFedLedger.RevealsAreClosed.selector));
        accounts.revealStaleUpdate(_task, 2, 1, update(0), SALT, NO_PROOF);
        refused(signer(0), abi.encodeWithSelector(IFedLedger.RoundNotOpen.selector, _task, 9));
        accounts.revealStaleUpdate(_task, 9, 1, update(0), SALT, NO_PROOF);
    }

    /// @dev Steps lead past rounds that fell: what they made is no base of anything.
    function test_staleBase_ofRoundsThatFell_isOnNobodysWay() public {
        _next(1);
        _next(2);
        _next(3);
        eq(accounts.staleBase(_task, 3, 1), _model(1), "before");
        uint256 dispute = challenge(_task, 2);
        decided(dispute, false);
        juries.closeDispute(dispute);
        pass(WINDOW);
        settle(_task, 1, _outcome(1));
        takeSeat(_task, AGGREGATOR);
        open(_task, 15);
        eq(accounts.staleBase(_task, 4, 0), _model(1), "the round before those that fell");
        eq(accounts.staleBase(_task, 4, 1), MODEL, "first model");
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.TooStale.selector, 2, 1));
        accounts.staleBase(_task, 4, 2);
        for (uint256 i = 0; i < 4; ++i) {
            _commit(4, i, i == 0 ? _model(2) : MODEL);
        }
        bytes32 made = ledger.commitmentOf(_task, 4, signer(0), _model(2), update(0), SALT);
        bytes32 found = ledger.commitmentOf(_task, 4, signer(0), MODEL, update(0), SALT);
        refused(signer(0), abi.encodeWithSelector(IFedLedger.WrongReveal.selector, kept(made), found));
        accounts.revealStaleUpdate(_task, 4, 1, update(0), SALT, NO_PROOF);
        _reveal(4, 1, 1);
    }

    function test_staleBase_ofARoundVoidedForSilence_isOnNobodysWay() public {
        _finish(1);
        open(_task, 15);
        pass(10);
        vm.prank(OUTSIDER);
        ledger.voidRound(_task, 2);
        _next(3);
        open(_task, 15);
        eq(accounts.staleBase(_task, 4, 0), _model(3), "third");
        eq(accounts.staleBase(_task, 4, 1), _model(1), "first");
        eq(accounts.staleBase(_task, 4, 2), MODEL, "first model");
    }

    /// @dev A round below quorum is proposed with the model that it started from, which is a step like any other.
    function test_staleBase_ofARoundBelowQuorum_isAStep() public {
        _next(1);
        open(_task, 15);
        commit(_task, 2, 0);
        commit(_task, 2, 1);
        pass(10);
        reveal(_task, 2, 0);
        pass(10);
        Outcome memory o = outcome(verdicts(1, 3, 2, 2), new uint256[](4));
        o.proposal.model.digest = _model(1);
        propose(_task, 2, o);
        open(_task, 15);
        eq(accounts.staleBase(_task, 3, 0), _model(1), "as it was");
        eq(accounts.staleBase(_task, 3, 1), _model(1), "the same");
        eq(accounts.staleBase(_task, 3, 2), MODEL, "first model");
    }

    function test_revealStale_withABeacon_addsItsSalt() public {
        _task = _post(MOST, 1);
        _finish(1);
        bytes32 before = accounts.beacon(_task);
        open(_task, 15);
        bytes32 salts = 0;
        for (uint32 i = 0; i < 4; ++i) {
            _commit(2, i, MODEL);
            salts ^= keccak256(abi.encode(i, SALT));
        }
        for (uint8 i = 0; i < 4; ++i) {
            _reveal(2, i, 1);
        }
        propose(_task, 2, _outcome(2));
        pass(WINDOW);
        settle(_task, 2, _outcome(2));
        eq(accounts.beacon(_task), keccak256(abi.encode(before, salts)), "beacon");
    }

    /// @dev In a batched round by proof, as a forced reveal or as an excuse in the challenge window.
    function test_revealStale_byProof_alsoAfterTheProposal() public {
        _task = _postBatched();
        openAll(_task);
        _closeStale(1, MODEL);
        proposeBatch(_task, 1, accepted(4, 1), updatesOf(4));
        openAll(_task);
        (bytes32[] memory of0, bytes32[] memory of1) = _closeStale(2, MODEL);
        refused(signer(0), abi.encodeWithSelector(IFedLedger.NotCommitted.selector, 0));
        ledger.revealUpdate(_task, 2, update(0), SALT, of0);
        refused(signer(0), abi.encodeWithSelector(IFedLedger.TooStale.selector, 2, 1));
        accounts.revealStaleUpdate(_task, 2, 2, update(0), SALT, of0);
        vm.prank(signer(0));
        accounts.revealStaleUpdate(_task, 2, 1, update(0), SALT, of0);
        pass(10);
        proposeBatch(_task, 2, outcome(verdicts(1, 3, 1, 1), new uint256[](4)), updatesOf(3));
        refused(signer(1), abi.encodeWithSelector(IFedLedger.NotCommitted.selector, 1));
        accounts.revealStaleUpdate(_task, 2, 0, update(1), SALT, of1);
        vm.prank(signer(1));
        accounts.revealStaleUpdate(_task, 2, 1, update(1), SALT, of1);
        eq(accounts.revealedWord(_task, 2, 0), 3, "recorded");
    }

    function test_postTask_withTheMostStaleness_isTaken() public {
        uint256 most = accounts.MAX_STALENESS();
        eq(accounts.task(_post(uint8(most), 0)).params.maxStaleness, most, "staleness");
    }

    /// @dev Some rounds are voided for silence, some fall to a challenge; the way back is that of those which stand.
    function testFuzz_revealStale_followsTheRoundsThatStand(uint256 seed, uint8 staleness, uint8 most) public {
        (most, staleness) = (uint8(bound(most, 0, 6)), uint8(bound(staleness, 0, 8)));
        _task = _post(most, 0);
        bytes32[] memory stands = new bytes32[](9);
        uint256 count = 1;
        stands[0] = MODEL;
        uint32 round = 1;
        for (; round <= 8; ++round) {
            uint256 fate = (seed >> (8 * round)) % 4;
            if (fate == 0) {
                open(_task, 15);
                pass(10);
                vm.prank(OUTSIDER);
                ledger.voidRound(_task, round);
            } else if (fate == 1) {
                _next(round);
                uint256 dispute = challenge(_task, round);
                decided(dispute, false);
                juries.closeDispute(dispute);
                takeSeat(_task, AGGREGATOR);
            } else {
                _finish(round);
                stands[count++] = _model(round);
            }
        }
        open(_task, 15);
        bool found = staleness <= most && staleness < count;
        bytes32 base = staleness < count ? stands[count - 1 - staleness] : MODEL;
        for (uint256 i = 0; i < 4; ++i) {
            _commit(round, i, base);
        }
        if (!found) {
            uint256 limit = staleness > most ? most : count - 1;
            vm.expectRevert(abi.encodeWithSelector(IFedLedger.TooStale.selector, staleness, limit));
        }
        _reveal(round, 0, staleness);
        eq(accounts.revealedWord(_task, round, 0), found ? 1 : 0, "revealed");
    }

    /// @dev What a sender pays for the farthest base is its own affair, and bounded.
    function test_gas_revealStale() public {
        uint8 most = uint8(accounts.MAX_STALENESS());
        IFedLedger.TaskParams memory p = defaults(4);
        (p.maxStaleness, p.rounds, p.challengeWindow) = (most, uint32(most) + 2, 0);
        _task = post(p);
        enrol(_task, 4);
        for (uint32 round = 1; round <= most; ++round) {
            _next(round);
            settle(_task, round, _outcome(round));
        }
        open(_task, 15);
        for (uint256 i = 0; i < 4; ++i) {
            _commit(uint32(most) + 1, i, i < 2 ? _model(most - 1) : MODEL);
        }
        _reveal(uint32(most) + 1, 0, 1);
        cool();
        _reveal(uint32(most) + 1, 1, 1);
        vm.snapshotGasLastCall("FedLedger", "revealStaleUpdate, 1 step");
        cool();
        _reveal(uint32(most) + 1, 2, most);
        uint256 gas = vm.snapshotGasLastCall("FedLedger", "revealStaleUpdate, 64 steps");
        if (gas > FARTHEST_LIMIT) revert Differs("gas of the farthest base", gas, FARTHEST_LIMIT);
    }

    function _post(uint8 most, uint8 randomness) private returns (uint256 task) {
        IFedLedger.TaskParams memory p = defaults(4);
        (p.maxUnfinal, p.challengeWindow, p.rounds) = (3, WINDOW, 12);
        (p.maxStaleness, p.randomness) = (most, randomness);
        task = post(p);
        enrol(task, 4);
    }

    function _postBatched() private returns (uint256 task) {
        IFedLedger.TaskParams memory p = batched(4);
        (p.maxUnfinal, p.challengeWindow, p.rounds, p.maxStaleness) = (3, WINDOW, 12, MOST);
        task = post(p);
        enrol(task, 4);
    }

    /// @dev A root of four of which two are known, all relative to the same model.
    function _closeStale(uint32 round, bytes32 base) private returns (bytes32[] memory of0, bytes32[] memory of1) {
        (bytes32 a, bytes32 b, bytes32 c) = (_leaf(round, 0, base), _leaf(round, 1, base), keccak256("the other two"));
        bytes32 pair_ = _parent(a, b);
        (of0, of1) = (new bytes32[](2), new bytes32[](2));
        (of0[0], of0[1], of1[0], of1[1]) = (b, c, a, c);
        close(_task, round, _parent(pair_, c), 4);
    }

    function _leaf(uint32 round, uint256 i, bytes32 base) private view returns (bytes32) {
        bytes32 value = ledger.commitmentOf(_task, round, signer(i), base, update(i), SALT);
        return keccak256(bytes.concat(keccak256(abi.encode(uint32(i), value))));
    }

    function _parent(bytes32 a, bytes32 b) private pure returns (bytes32) {
        return a < b ? keccak256(bytes.concat(a, b)) : keccak256(bytes.concat(b, a));
    }

    function _outcome(uint32 round) private pure returns (Outcome memory) {
        return accepted(4, 100 + round);
    }

    function _model(uint32 round) private pure returns (bytes32) {
        return _outcome(round).proposal.model.digest;
    }

    function _next(uint32 round) private {
        open(_task, 15);
        commitAndReveal(_task, round, 4);
        propose(_task, round, _outcome(round));
    }

    function _finish(uint32 round) private {
        _next(round);
        pass(WINDOW);
        settle(_task, round, _outcome(round));
    }

    function _commit(uint32 round, uint256 i, bytes32 base) private {
        bytes32 value = ledger.commitmentOf(_task, round, signer(i), base, update(i), SALT);
        vm.prank(signer(i));
        ledger.commitUpdate(_task, round, value);
    }

    function _reveal(uint32 round, uint256 i, uint8 staleness) private {
        vm.prank(signer(i));
        accounts.revealStaleUpdate(_task, round, staleness, update(i), SALT, NO_PROOF);
    }
}
