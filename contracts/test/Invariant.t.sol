// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {FedLedger} from "../src/FedLedger.sol";
import {IFedLedger} from "../src/IFedLedger.sol";
import {Fixture, Greedy, Refuser} from "./Fixture.sol";
import {vm} from "./Vm.sol";

/// @notice Acts for everybody, in any order: six participants (one payout refuses money, one asks for more while it is
/// paid), a publisher, an aggregator and an outsider that pushes whatever it may.
contract Handler is Fixture {
    uint256 public constant PARTICIPANTS = 6;
    uint256 public constant TASKS = 3;

    /// @notice Units that settled rounds gave each participant.
    mapping(uint256 task => mapping(uint256 participant => uint256)) public earned;
    /// @notice Bonds of rounds that are proposed and not settled, in wei.
    uint256 public bonds;
    uint256 public settled;
    uint256 public voided;
    mapping(uint256 task => mapping(uint32 round => Outcome)) private _outcomes;
    uint256 private _signers;

    constructor() {
        setUpLedger();
        register(PARTICIPANTS);
        address refuser = address(new Refuser());
        vm.prank(owner(0));
        ledger.setPayout(refuser);
        address greedy = address(new Greedy(ledger));
        vm.prank(owner(1));
        ledger.setPayout(greedy);
        _signers = PARTICIPANTS;
        postTask(type(uint256).max);
    }

    function theLedger() external view returns (FedLedger) {
        return ledger;
    }

    function accounts() public pure returns (address[] memory all) {
        all = new address[](PARTICIPANTS + 3);
        for (uint256 i = 0; i < PARTICIPANTS; ++i) {
            all[i] = owner(i);
        }
        (all[PARTICIPANTS], all[PARTICIPANTS + 1], all[PARTICIPANTS + 2]) = (PUBLISHER, AGGREGATOR, OUTSIDER);
    }

    function postTask(uint256 seed) public {
        if (ledger.taskCount() == TASKS) return;
        IFedLedger.TaskParams memory p = defaults(uint16(PARTICIPANTS));
        p.maxUnfinal = uint8(bound(seed, 1, 3));
        p.randomness = uint8(seed % 2);
        p.challengeWindow = uint32(seed % 6);
        uint256 task = post(p);
        // Most enrol; who is leaving cannot.
        for (uint256 i = 0; i < PARTICIPANTS; ++i) {
            if ((seed >> i) % 4 != 0) _as(owner(i), abi.encodeCall(ledger.enrol, (task)));
        }
    }

    function enrolOne(uint256 task, uint256 who) external {
        _as(owner(who % PARTICIPANTS), abi.encodeCall(ledger.enrol, (_task(task))));
    }

    function openRound(uint256 task, uint256 mask) public {
        task = _task(task);
        uint256 enrolled = ledger.enrolledWord(task, 0);
        (uint32[] memory indices, uint256[] memory words) = selection(0, mask % 3 == 0 ? mask & enrolled : enrolled);
        _as(AGGREGATOR, abi.encodeCall(ledger.openRound, (task, indices, words)));
    }

    function commitSome(uint256 task, uint256 mask) public {
        task = _task(task);
        uint32 round = ledger.task(task).currentRound;
        for (uint32 i = 0; i < PARTICIPANTS; ++i) {
            if ((mask >> (2 * i)) % 4 != 0) _commit(task, round, i, i);
        }
    }

    /// @notice One participant commits to what another one committed to.
    function copyCommitment(uint256 task, uint256 who, uint256 victim) external {
        task = _task(task);
        _commit(task, ledger.task(task).currentRound, uint32(who % PARTICIPANTS), uint32(victim % PARTICIPANTS));
    }

    function revealSome(uint256 task, uint256 mask) public {
        task = _task(task);
        uint32 round = ledger.task(task).currentRound;
        for (uint32 i = 0; i < PARTICIPANTS; ++i) {
            bytes memory data = abi.encodeCall(ledger.revealUpdate, (task, round, update(i), SALT, NO_PROOF));
            if ((mask >> (2 * i)) % 4 != 0) _as(ledger.participant(i).signer, data);
        }
    }

    function propose(uint256 task, uint256 seed) public {
        task = _task(task);
        IFedLedger.Task memory t = ledger.task(task);
        uint32 round = t.currentRound;
        uint256 selected = ledger.selectedWord(task, round, 0);
        uint256 committed = ledger.committedWord(task, round, 0);
        uint256 revealed = ledger.revealedWord(task, round, 0);
        uint256[] memory verdicts = new uint256[](PARTICIPANTS);
        uint256[] memory shares = new uint256[](PARTICIPANTS);
        for (uint256 i = 0; i < PARTICIPANTS; ++i) {
            uint256 bit = 1 << i;
            if (selected & bit == 0) continue;
            bool good = (seed >> i) % 4 != 0;
            verdicts[i] = committed & bit == 0 ? 2 : revealed & bit == 0 ? 3 : good ? 1 : 16;
            // Sometimes more than the round's budget, or pay for a refused update: the ledger must say no.
            if (verdicts[i] == 1 || seed % 16 == 0) shares[i] = uint256(keccak256(abi.encode(seed, i))) % 180;
        }
        Outcome memory o = outcome(verdicts, shares);
        o.proposal.stop = seed % 32 == 1;
        bytes memory data =
            abi.encodeCall(ledger.proposeRound, (task, round, o.proposal, o.verdictWords, o.shareWords, NO_UPDATES));
        vm.prank(AGGREGATOR);
        (bool done,) = address(ledger).call{value: seed % 3 == 0 ? t.params.bond : 0}(data);
        if (!done) return;
        bonds += t.params.bond;
        _outcomes[task][round] = o;
    }

    /// @notice The outsider pushes on whatever is due: settle, else void, else finish.
    function push(uint256 task) public returns (bool) {
        task = _task(task);
        IFedLedger.Task memory t = ledger.task(task);
        uint32 round = t.finalizedRound + 1;
        Outcome memory o = _outcomes[task][round];
        bytes memory data = abi.encodeCall(ledger.settleRound, (task, round, o.proposal, o.verdictWords, o.shareWords));
        if (_as(OUTSIDER, data)) {
            ++settled;
            bonds -= t.params.bond;
            for (uint256 i = 0; i < PARTICIPANTS; ++i) {
                earned[task][i] += (o.shareWords[0] >> (32 * i)) & type(uint32).max;
            }
            return true;
        }
        if (_as(OUTSIDER, abi.encodeCall(ledger.voidRound, (task, round)))) {
            ++voided;
            return true;
        }
        return _as(OUTSIDER, abi.encodeCall(ledger.finishTask, (task)));
    }

    /// @notice Everybody does as the protocol asks, so that deep states are reached.
    function wholeRound(uint256 task, uint256 seed) external {
        task = _task(task);
        if (ledger.phase(task) == IFedLedger.Phase.Enrolling) pass(100);
        openRound(task, 1);
        commitSome(task, type(uint256).max ^ (seed & 0xf));
        _skip(task, IFedLedger.Phase.Committing);
        revealSome(task, type(uint256).max ^ (seed & 0xf0));
        _skip(task, IFedLedger.Phase.Revealing);
        propose(task, seed >> 8);
    }

    function finish(uint256 task, uint256 who) external {
        address[] memory all = accounts();
        _as(all[who % all.length], abi.encodeCall(ledger.finishTask, (_task(task))));
    }

    function withdrawCredit(uint256 task, uint256 who) public {
        _as(OUTSIDER, abi.encodeCall(ledger.withdrawCredit, (_task(task), uint32(who % PARTICIPANTS))));
    }

    function withdraw(uint256 who) external {
        address[] memory all = accounts();
        address account = all[who % all.length];
        _as(account, abi.encodeCall(ledger.withdraw, (account)));
    }

    function deposit(uint256 who, uint256 amount) external {
        address[] memory all = accounts();
        vm.prank(all[who % all.length]);
        ledger.deposit{value: amount % 2 ether}();
    }

    function comeOrGo(uint256 who, uint256 deed) external {
        address account = owner(who % PARTICIPANTS);
        if (deed % 5 == 0) _as(account, abi.encodeCall(ledger.requestExit, ()));
        else if (deed % 5 == 1) _as(account, abi.encodeCall(ledger.completeExit, ()));
        else if (deed % 5 == 2) _as(account, abi.encodeCall(ledger.cancelExit, ()));
        else if (deed % 5 == 3) _as(account, abi.encodeCall(ledger.rotateSigner, (signer(_signers++))));
        else _return(who % PARTICIPANTS);
    }

    function wait_(uint256 duration) external {
        pass(bound(duration, 1, 40));
    }

    /// @notice The payout address of participant `i`, which only it uses.
    function paid(uint256 i) external view returns (uint256) {
        return ledger.participant(uint32(i)).payout.balance;
    }

    function _return(uint256 who) private {
        IFedLedger.Participant memory p = ledger.participant(uint32(who));
        vm.deal(owner(who), owner(who).balance + STAKE);
        vm.prank(owner(who));
        (bool done,) =
            address(ledger).call{value: STAKE}(abi.encodeCall(ledger.register, (signer(_signers++), p.payout)));
        done;
    }

    function _commit(uint256 task, uint32 round, uint32 who, uint32 original) private {
        bytes32 base = ledger.baseModel(task, round);
        address author = ledger.participant(original).signer;
        bytes32 value = ledger.commitmentOf(task, round, author, base, update(original), SALT);
        _as(ledger.participant(who).signer, abi.encodeCall(ledger.commitUpdate, (task, round, value)));
    }

    function _skip(uint256 task, IFedLedger.Phase phase) private {
        if (ledger.phase(task) == phase) pass(10);
    }

    function _task(uint256 task) private view returns (uint256) {
        return bound(task, 1, ledger.taskCount());
    }

    function _as(address sender, bytes memory data) private returns (bool done) {
        vm.prank(sender);
        (done,) = address(ledger).call(data);
    }
}

contract InvariantTest is Fixture {
    Handler private _handler;
    uint256 private _participants;

    function setUp() public {
        _handler = new Handler();
        ledger = _handler.theLedger();
        _participants = _handler.PARTICIPANTS();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    /// @dev One invariant, so that one campaign checks it all.
    function invariant_ledger_isSolventFairAndOrdered() public view {
        _checkMoney();
        _checkPay();
        _checkRounds();
    }

    /// @dev Every wei has one owner: a stake, a free balance, a bond, a task's escrow or an unpaid credit.
    function _checkMoney() private view {
        eq(address(ledger).balance, _stakes() + _free() + _handler.bonds() + _escrows() + _credits(), "balance");
    }

    /// @dev What a participant was paid and is owed is what its settled rounds gave it, once.
    function _checkPay() private view {
        for (uint256 i = 0; i < _participants; ++i) {
            uint256 units;
            uint256 owed;
            for (uint256 task = 1; task <= ledger.taskCount(); ++task) {
                units += _handler.earned(task, i);
                owed += ledger.creditOf(task, uint32(i));
            }
            eq(_handler.paid(i) + owed * 1 gwei, units * 1 gwei, "pay");
        }
    }

    function _checkRounds() private view {
        for (uint256 task = 1; task <= ledger.taskCount(); ++task) {
            IFedLedger.Task memory t = ledger.task(task);
            _atMost(t.settledRounds, t.params.rounds, "settled rounds");
            _atMost(t.spentUnits, uint256(t.settledRounds) * t.params.unitsPerRound, "spent units");
            _atMost(t.currentRound - t.finalizedRound, t.params.maxUnfinal, "unfinal rounds");
            for (uint32 r = 1; r <= t.currentRound; ++r) {
                IFedLedger.Round memory round = ledger.round(task, r);
                _atMost(round.revealed, round.committed, "revealed");
                _atMost(round.committed, round.selected, "committed");
                eq(uint8(round.status) > 2 ? 1 : 0, r <= t.finalizedRound ? 1 : 0, "final");
            }
        }
    }

    /// @dev From wherever the run ended, an outsider and the clock alone end every task, and everybody is paid but who
    /// refuses it.
    function afterInvariant() public {
        for (uint256 task = 1; task <= ledger.taskCount(); ++task) {
            for (uint256 step = 0; ledger.phase(task) != IFedLedger.Phase.Finished; ++step) {
                _atMost(step, 8, "steps to the end");
                pass(201);
                _handler.push(task - 1);
            }
            for (uint32 i = 0; i < _participants; ++i) {
                _handler.withdrawCredit(task - 1, i);
                if (i != 0) eq(ledger.creditOf(task, i), 0, "credit left");
            }
        }
        eq(_handler.bonds(), 0, "bonds");
        address[] memory all = _handler.accounts();
        for (uint256 i = 0; i < all.length; ++i) {
            vm.prank(all[i]);
            (bool done,) = address(ledger).call(abi.encodeCall(ledger.withdraw, (all[i])));
            eq(ledger.balanceOf(all[i]), 0, done ? "balance left" : "nothing to withdraw");
        }
        eq(address(ledger).balance, _stakes() + _credits(), "only stakes and refused pay are left");
    }

    /// @dev The handler reaches settlements; without them the invariants would say little.
    function test_handler_reachesSettlementAndPay() public {
        for (uint256 i = 0; i < 3; ++i) {
            _handler.wholeRound(0, 63 << 8);
            pass(5);
            _handler.push(0);
        }
        eq(_handler.settled(), 3, "settled");
        _handler.withdrawCredit(0, 3);
        eq(_handler.paid(3) > 0 ? 1 : 0, 1, "paid");
    }

    function _stakes() private view returns (uint256 sum) {
        for (uint32 i = 0; i < _participants; ++i) {
            sum += ledger.participant(i).stake;
        }
    }

    function _free() private view returns (uint256 sum) {
        address[] memory all = _handler.accounts();
        for (uint256 i = 0; i < all.length; ++i) {
            sum += ledger.balanceOf(all[i]);
        }
        for (uint32 i = 0; i < _participants; ++i) {
            sum += ledger.balanceOf(ledger.participant(i).payout);
        }
    }

    function _escrows() private view returns (uint256 sum) {
        for (uint256 task = 1; task <= ledger.taskCount(); ++task) {
            IFedLedger.Task memory t = ledger.task(task);
            if (!t.finished) sum += budget(t.params) - uint256(t.spentUnits) * t.params.creditUnit;
        }
    }

    function _credits() private view returns (uint256 sum) {
        for (uint256 task = 1; task <= ledger.taskCount(); ++task) {
            for (uint32 i = 0; i < _participants; ++i) {
                sum += ledger.creditOf(task, i) * ledger.task(task).params.creditUnit;
            }
        }
    }

    function _atMost(uint256 value, uint256 limit, string memory what) private pure {
        if (value > limit) revert Differs(what, value, limit);
    }
}
