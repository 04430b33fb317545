// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {Fixture, Greedy, Refuser} from "./Fixture.sol";
import {Vm, vm} from "./Vm.sol";

/// @notice Acts for everybody, in any order: six participants (one payout refuses money, one asks for more while it is
/// paid), a publisher, an aggregator and an outsider that pushes whatever it may.
contract Handler is Fixture {
    uint256 public constant PARTICIPANTS = 6;
    uint256 public constant TASKS = 3;

    /// @notice Units that settled rounds gave each participant.
    mapping(uint256 task => mapping(uint256 participant => uint256)) public earned;
    /// @notice What nobody gets, in wei, by the events.
    uint256 public burned;
    uint256 public settled;
    uint256 public voided;
    bytes32 private constant KEY = keccak256("key");
    mapping(uint256 task => mapping(uint32 round => Outcome)) private _outcomes;
    uint256 private _signers;

    constructor() {
        setUpLedger();
        register(PARTICIPANTS);
        address refuser = address(new Refuser());
        vm.prank(owner(0));
        accounts.setPayout(refuser);
        address greedy = address(new Greedy(accounts));
        vm.prank(owner(1));
        accounts.setPayout(greedy);
        _signers = PARTICIPANTS;
        postTask(type(uint256).max);
    }

    function theLedger() external view returns (address) {
        return address(ledger);
    }

    function everybody() public pure returns (address[] memory all) {
        all = new address[](PARTICIPANTS + 3);
        for (uint256 i = 0; i < PARTICIPANTS; ++i) {
            all[i] = owner(i);
        }
        (all[PARTICIPANTS], all[PARTICIPANTS + 1], all[PARTICIPANTS + 2]) = (PUBLISHER, AGGREGATOR, OUTSIDER);
    }

    function postTask(uint256 seed) public {
        if (accounts.taskCount() == TASKS) return;
        IFedLedger.TaskParams memory p = defaults(uint16(PARTICIPANTS));
        p.maxUnfinal = uint8(bound(seed, 1, 3));
        p.randomness = uint8(seed % 2);
        p.openEnrolment = (seed >> 8) % 2 != 0;
        p.challengeWindow = uint32(seed % 6);
        // A window of one to four seconds is too short for a penalty.
        if (p.challengeWindow == 5) (p.penalty, p.minStake) = (STAKE / 3, STAKE);
        if (seed % 4 != 0) {
            (p.seal, p.sealPeriod) = (keccak256(abi.encode(KEY)), 20);
            p.sealDeposit = uint96(bound(seed, 0, 2 ether));
        }
        uint256 task = post(p);
        // Most enrol; who is leaving cannot.
        for (uint256 i = 0; i < PARTICIPANTS; ++i) {
            if ((seed >> i) % 4 != 0) _as(owner(i), abi.encodeCall(opinions.enrol, (task)));
        }
    }

    function enrolOne(uint256 task, uint256 who) external {
        _as(owner(who % PARTICIPANTS), abi.encodeCall(opinions.enrol, (_task(task))));
    }

    function leaveOne(uint256 task, uint256 who) external {
        uint32 id = uint32(who % PARTICIPANTS);
        _as(owner((who >> 8) % 4 == 0 ? id + 1 : id), abi.encodeCall(opinions.leaveTask, (_task(task), id)));
    }

    function openRound(uint256 task, uint256 mask) public {
        task = _task(task);
        uint256 enrolled = accounts.enrolledWord(task, 0);
        (uint32[] memory indices, uint256[] memory words) = selection(0, mask % 3 == 0 ? mask & enrolled : enrolled);
        _as(AGGREGATOR, abi.encodeCall(ledger.openRound, (task, accounts.task(task).currentRound + 1, indices, words)));
    }

    function commitSome(uint256 task, uint256 mask) public {
        task = _task(task);
        uint32 round = accounts.task(task).currentRound;
        for (uint32 i = 0; i < PARTICIPANTS; ++i) {
            if ((mask >> (2 * i)) % 4 != 0) _commit(task, round, i, i);
        }
    }

    /// @notice One participant commits to what another one committed to.
    function copyCommitment(uint256 task, uint256 who, uint256 victim) external {
        task = _task(task);
        _commit(task, accounts.task(task).currentRound, uint32(who % PARTICIPANTS), uint32(victim % PARTICIPANTS));
    }

    function revealSome(uint256 task, uint256 mask) public {
        task = _task(task);
        uint32 round = accounts.task(task).currentRound;
        for (uint32 i = 0; i < PARTICIPANTS; ++i) {
            bytes memory data = abi.encodeCall(ledger.revealUpdate, (task, round, update(i), SALT, NO_PROOF));
            if ((mask >> (2 * i)) % 4 != 0) _as(accounts.participant(i).signer, data);
        }
    }

    function propose(uint256 task, uint256 seed) public {
        task = _task(task);
        uint32 round = accounts.task(task).currentRound;
        uint256 selected = accounts.selectedWord(task, round, 0);
        uint256 revealed = accounts.revealedWord(task, round, 0);
        uint256[] memory verdicts = new uint256[](PARTICIPANTS);
        uint256[] memory shares = new uint256[](PARTICIPANTS);
        for (uint256 i = 0; i < PARTICIPANTS; ++i) {
            uint256 bit = 1 << i;
            if (selected & bit == 0) continue;
            bool good = (seed >> i) % 4 != 0;
            bool committed = accounts.hasCommitted(task, round, uint32(i));
            verdicts[i] = !committed ? 2 : revealed & bit == 0 ? 3 : good ? 1 : i < 2 ? 16 : 33;
            // Sometimes more than the round's budget, or pay for a refused update: the ledger must say no.
            if (verdicts[i] == 1 || seed % 16 == 0) shares[i] = uint256(keccak256(abi.encode(seed, i))) % 180;
        }
        Outcome memory o = outcome(verdicts, shares);
        o.proposal.stop = seed % 32 == 1;
        bytes memory data =
            abi.encodeCall(ledger.proposeRound, (task, round, o.proposal, o.verdictWords, o.shareWords, NO_UPDATES));
        if (!_as(AGGREGATOR, data)) return;
        _outcomes[task][round] = o;
    }

    /// @notice The outsider pushes on whatever is due: settle, else void, else finish.
    function push(uint256 task) public returns (bool) {
        task = _task(task);
        uint32 round = accounts.task(task).finalizedRound + 1;
        Outcome memory o = _outcomes[task][round];
        bytes memory data =
            abi.encodeCall(ledger.settleRound, (task, round, o.proposal, o.verdictWords, o.shareWords, ALL));
        if (_as(OUTSIDER, data)) {
            ++settled;
            for (uint256 i = 0; i < PARTICIPANTS; ++i) {
                earned[task][i] += (o.shareWords[0] >> (32 * i)) & type(uint32).max;
            }
            return true;
        }
        if (_as(OUTSIDER, abi.encodeCall(ledger.voidRound, (task, round)))) {
            ++voided;
            return true;
        }
        return _as(OUTSIDER, abi.encodeCall(accounts.finishTask, (task)));
    }

    /// @notice Everybody does as the protocol asks, so that deep states are reached.
    function wholeRound(uint256 task, uint256 seed) external {
        task = _task(task);
        if (ledger.phase(task) == IFedLedger.Phase.Enrolling) pass(100);
        takeSeat(task);
        openRound(task, 1);
        commitSome(task, type(uint256).max ^ (seed & 0xf));
        _skip(task, IFedLedger.Phase.Committing);
        revealSome(task, type(uint256).max ^ (seed & 0xf0));
        _skip(task, IFedLedger.Phase.Revealing);
        propose(task, seed >> 8);
    }

    function finish(uint256 task, uint256 who) external {
        address[] memory all = everybody();
        _as(all[who % all.length], abi.encodeCall(accounts.finishTask, (_task(task))));
    }

    /// @notice Somebody opens a task's seal, perhaps with another key.
    function openSeal(uint256 task, uint256 who, uint256 key) public {
        address[] memory all = everybody();
        bytes32 tried = key % 4 == 0 ? bytes32(key) : KEY;
        _as(all[who % all.length], abi.encodeCall(court.openSeal, (_task(task), tried)));
    }

    function forfeitSeal(uint256 task) public {
        _as(OUTSIDER, abi.encodeCall(court.forfeitSeal, (_task(task))));
    }

    function withdrawCredit(uint256 task, uint256 who) public {
        _as(OUTSIDER, abi.encodeCall(accounts.withdrawCredit, (_task(task), uint32(who % PARTICIPANTS))));
    }

    function withdraw(uint256 who) external {
        address[] memory all = everybody();
        address account = all[who % all.length];
        _as(account, abi.encodeCall(accounts.withdraw, (COIN, account)));
    }

    function deposit(uint256 who, uint256 amount) external {
        address[] memory all = everybody();
        vm.prank(all[who % all.length]);
        accounts.deposit{value: amount % 2 ether}(COIN, amount % 2 ether);
    }

    /// @notice The aggregator deposits its bond again after it has lost it.
    function takeSeat(uint256 task) public {
        task = _task(task);
        if (accounts.task(task).finished) return;
        takeSeat(task, AGGREGATOR);
    }

    function comeOrGo(uint256 who, uint256 deed) external {
        address account = owner(who % PARTICIPANTS);
        if (deed % 5 == 0) _as(account, abi.encodeCall(accounts.requestExit, ()));
        else if (deed % 5 == 1) _as(account, abi.encodeCall(accounts.completeExit, ()));
        else if (deed % 5 == 2) _as(account, abi.encodeCall(accounts.cancelExit, ()));
        else if (deed % 5 == 3) _as(account, abi.encodeCall(accounts.rotateSigner, (_fresh(account))));
        else _return(who % PARTICIPANTS);
    }

    function wait_(uint256 duration) external {
        pass(bound(duration, 1, 40));
    }

    /// @notice The payout address of participant `i`, which only it uses.
    function paid(uint256 i) external view returns (uint256) {
        return accounts.participant(uint32(i)).payout.balance;
    }

    /// @dev A signer that nobody had before.
    function _fresh(address account) private returns (address next) {
        next = signer(_signers++);
        agree(next, account);
    }

    function _return(uint256 who) private {
        IFedLedger.Participant memory p = accounts.participant(uint32(who));
        vm.deal(owner(who), owner(who).balance + STAKE);
        bytes memory data = abi.encodeCall(accounts.register, (_fresh(owner(who)), p.payout, STAKE));
        vm.prank(owner(who));
        (bool done,) = address(ledger).call{value: STAKE}(data);
        done;
    }

    function _commit(uint256 task, uint32 round, uint32 who, uint32 original) private {
        bytes32 base = accounts.baseModel(task, round);
        address author = accounts.participant(original).signer;
        bytes32 value = ledger.commitmentOf(task, round, author, base, update(original), SALT);
        _as(accounts.participant(who).signer, abi.encodeCall(ledger.commitUpdate, (task, round, value)));
    }

    function _skip(uint256 task, IFedLedger.Phase phase) private {
        if (ledger.phase(task) == phase) pass(10);
    }

    function _task(uint256 task) private view returns (uint256) {
        return bound(task, 1, accounts.taskCount());
    }

    function _as(address sender, bytes memory data) private returns (bool done) {
        vm.recordLogs();
        vm.prank(sender);
        (done,) = address(ledger).call(data);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] == IFedLedger.Burned.selector) burned += abi.decode(logs[i].data, (uint256));
        }
    }
}

contract InvariantTest is Fixture {
    Handler private _handler;
    uint256 private _participants;

    function setUp() public {
        _handler = new Handler();
        use(_handler.theLedger());
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

    /// @dev Every wei has one owner: a stake, a free balance, a deposit, a task's escrow or an unpaid credit.
    function _checkMoney() private view {
        eq(
            address(ledger).balance,
            _stakes() + _free() + _deposits() + _handler.burned() + _escrows() + _credits(),
            "balance"
        );
    }

    /// @dev What a participant was paid and is owed is what its settled rounds gave it, once.
    function _checkPay() private view {
        for (uint256 i = 0; i < _participants; ++i) {
            uint256 units;
            uint256 owed;
            for (uint256 task = 1; task <= accounts.taskCount(); ++task) {
                units += _handler.earned(task, i);
                owed += accounts.creditOf(task, uint32(i));
            }
            eq(_handler.paid(i) + owed * 1 gwei, units * 1 gwei, "pay");
        }
    }

    function _checkRounds() private view {
        for (uint256 task = 1; task <= accounts.taskCount(); ++task) {
            IFedLedger.Task memory t = accounts.task(task);
            _atMost(t.settledRounds, t.params.rounds, "settled rounds");
            _atMost(t.spentUnits, uint256(t.settledRounds) * t.params.unitsPerRound, "spent units");
            _atMost(t.currentRound - t.finalizedRound, t.params.maxUnfinal, "unfinal rounds");
            for (uint32 r = 1; r <= t.currentRound; ++r) {
                IFedLedger.Round memory round = accounts.round(task, r);
                _atMost(round.committed, round.selected, "committed");
                bool open_ = uint8(round.status) < uint8(IFedLedger.RoundStatus.Settled);
                bool settled = round.status == IFedLedger.RoundStatus.Settled;
                eq((r <= t.finalizedRound ? open_ : settled) ? 1 : 0, 0, "final");
            }
        }
    }

    /// @dev From wherever the run ended, an outsider and the clock alone end every task, and everybody is paid but who
    /// refuses it.
    function afterInvariant() public {
        for (uint256 task = 1; task <= accounts.taskCount(); ++task) {
            for (uint256 step = 0; ledger.phase(task) != IFedLedger.Phase.Finished; ++step) {
                _atMost(step, 8, "steps to the end");
                pass(201);
                _handler.push(task - 1);
            }
            // Whoever has the key may open what is left, unless it is too late.
            if (task % 2 == 0) _handler.openSeal(task - 1, 0, 1);
            pass(20);
            _handler.forfeitSeal(task - 1);
            for (uint32 i = 0; i < _participants; ++i) {
                _handler.withdrawCredit(task - 1, i);
                if (i != 0) eq(accounts.creditOf(task, i), 0, "credit left");
            }
        }
        eq(_deposits(), 0, "deposits");
        address[] memory all = _handler.everybody();
        for (uint256 i = 0; i < all.length; ++i) {
            vm.prank(all[i]);
            (bool done,) = address(ledger).call(abi.encodeCall(accounts.withdraw, (COIN, all[i])));
            eq(free(all[i]), 0, done ? "balance left" : "nothing to withdraw");
        }
        eq(
            address(ledger).balance,
            _stakes() + _handler.burned() + _credits(),
            "only stakes, what was burned and refused pay are left"
        );
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
            IFedLedger.Participant memory p = accounts.participant(i);
            sum += uint256(p.stake) + p.unbonding;
        }
    }

    function _deposits() private view returns (uint256 sum) {
        for (uint256 task = 1; task <= accounts.taskCount(); ++task) {
            sum += accounts.seats(task)[0].deposit + court.sealOf(task).deposit;
        }
    }

    function _free() private view returns (uint256 sum) {
        address[] memory all = _handler.everybody();
        for (uint256 i = 0; i < all.length; ++i) {
            sum += free(all[i]);
        }
        for (uint32 i = 0; i < _participants; ++i) {
            sum += free(accounts.participant(i).payout);
        }
    }

    function _escrows() private view returns (uint256 sum) {
        for (uint256 task = 1; task <= accounts.taskCount(); ++task) {
            IFedLedger.Task memory t = accounts.task(task);
            if (!t.finished) sum += budget(t.params) - uint256(t.spentUnits) * t.params.creditUnit;
        }
    }

    function _credits() private view returns (uint256 sum) {
        for (uint256 task = 1; task <= accounts.taskCount(); ++task) {
            for (uint32 i = 0; i < _participants; ++i) {
                sum += accounts.creditOf(task, i) * accounts.task(task).params.creditUnit;
            }
        }
    }

    function _atMost(uint256 value, uint256 limit, string memory what) private pure {
        if (value > limit) revert Differs(what, value, limit);
    }
}
