// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Currency, CurrencyLibrary} from "../src/Currency.sol";
import {FedLedger} from "../src/FedLedger.sol";
import {IFedLedger} from "../src/IFedLedger.sol";
import {LedgerAccounts} from "../src/LedgerAccounts.sol";
import {LedgerCourt} from "../src/LedgerCourt.sol";
import {LedgerJuries} from "../src/LedgerJuries.sol";
import {LedgerOpinions} from "../src/LedgerOpinions.sol";
import {vm} from "./Vm.sol";

/// @notice A payout address that takes no money.
contract Refuser {
    receive() external payable {
        revert("no");
    }
}

/// @notice A payout address that asks for its credit and its balance again while it is paid.
contract Greedy {
    LedgerAccounts private immutable _ledger;
    uint256 public attempts;
    uint256 public successes;

    constructor(LedgerAccounts ledger) {
        _ledger = ledger;
    }

    function deposit() external payable {
        _ledger.deposit{value: msg.value}(CurrencyLibrary.COIN, msg.value);
    }

    function withdraw() external {
        _ledger.withdraw(CurrencyLibrary.COIN, address(this));
    }

    receive() external payable {
        for (uint256 task = 1; task <= _ledger.taskCount(); ++task) {
            for (uint32 id = 0; id < 4; ++id) {
                _try(abi.encodeCall(LedgerAccounts.withdrawCredit, (task, id)));
            }
        }
        _try(abi.encodeCall(LedgerAccounts.withdraw, (CurrencyLibrary.COIN, address(this))));
        _try(abi.encodeCall(LedgerAccounts.deposit, (CurrencyLibrary.COIN, 0)));
    }

    function _try(bytes memory data) private {
        ++attempts;
        (bool done,) = address(_ledger).call(data);
        if (done) ++successes;
    }
}

/// @notice A ledger with accounts, and a round's steps as one call each. Participant i has owner, signer and payout
/// addresses of its own. `ledger`, `accounts`, `opinions`, `court` and `juries` are five sides of one address.
abstract contract Fixture {
    struct Outcome {
        IFedLedger.Proposal proposal;
        uint256[] verdictWords;
        uint256[] shareWords;
    }

    uint96 internal constant STAKE = 1 ether;
    uint96 internal constant VERIFIER_STAKE = 2 ether;
    uint96 internal constant JUROR_PENALTY = 0.02 ether;
    uint96 internal constant MOST_PENALTY = 2 ether;
    uint40 internal constant EXIT_DELAY = 300;
    uint32 internal constant DISPUTE = 10;
    uint32 internal constant AGE = 20;
    uint16 internal constant POOL = 3;
    Currency internal constant COIN = CurrencyLibrary.COIN;
    address internal constant PUBLISHER = address(0xA11CE);
    address internal constant AGGREGATOR = address(0xA99);
    address internal constant OUTSIDER = address(0xBAD);
    address internal constant GUARDIAN = address(0x60A);
    bytes32 internal constant SALT = keccak256("salt");
    bytes32 internal constant MODEL = keccak256("model");
    uint256 internal constant START = 1_000_000;
    /// @dev As many verdict words as there are.
    uint256 internal constant ALL = type(uint256).max;
    uint8 private constant COVERAGE = 2;

    bytes32[] internal NO_PROOF;
    address[] internal NO_STANDBYS;
    IFedLedger.Updates internal NO_UPDATES;
    IFedLedger.ContentRef internal BATCH = IFedLedger.ContentRef(keccak256("batch"), 50_000);

    FedLedger internal ledger;
    LedgerAccounts internal accounts;
    LedgerOpinions internal opinions;
    LedgerCourt internal court;
    LedgerJuries internal juries;
    address[4] private _parts;

    function owner(uint256 i) internal pure returns (address) {
        return address(uint160(0x10000 + i));
    }

    function signer(uint256 i) internal pure virtual returns (address) {
        return address(uint160(0x20000 + i));
    }

    function payout(uint256 i) internal pure returns (address) {
        return address(uint160(0x30000 + i));
    }

    function setUpLedger() internal {
        vm.warp(START);
        use(deploy(settings()));
        // Which of its rules is wrong, in a ledger that was compiled with wrong ones.
        uint256 mutant = vm.envOr("LEDGER_MUTANT", uint256(0));
        if (mutant != 0) vm.store(address(ledger), bytes32(uint256(1 << 255)), bytes32(mutant));
        vm.deal(PUBLISHER, 1000 ether);
        vm.deal(AGGREGATOR, 1000 ether);
        vm.deal(OUTSIDER, 1000 ether);
    }

    function settings() internal pure returns (IFedLedger.Settings memory s) {
        s.stakeCurrency = COIN;
        s.minStake = STAKE;
        s.minVerifierStake = VERIFIER_STAKE;
        s.jurorPenalty = JUROR_PENALTY;
        s.exitDelay = EXIT_DELAY;
        s.mostPenalty = MOST_PENALTY;
        s.disputePeriod = DISPUTE;
        s.verifierAge = AGE;
        s.leastWindow = 5;
        s.leastPool = POOL;
        s.jurySize = 3;
        s.appeals = 2;
        s.guardian = GUARDIAN;
    }

    function deploy(IFedLedger.Settings memory s) internal returns (address) {
        address last = create(code("LedgerJuries"), abi.encode(s));
        address fourth = create(code("LedgerCourt"), abi.encode(s, last));
        address third = create(code("LedgerOpinions"), abi.encode(s, fourth));
        address second = create(code("LedgerAccounts"), abi.encode(s, third));
        _parts = [second, third, fourth, last];
        return create(code("FedLedger"), abi.encode(s, second));
    }

    /// @notice Forgets which of the ledger's slots and parts are warm, as between transactions.
    function cool() internal {
        vm.cool(address(ledger));
        for (uint256 i = 0; i < _parts.length; ++i) {
            vm.cool(_parts[i]);
        }
    }

    /// @notice Sends a transaction from cold storage; what it costs as a chain counts: 21,000, 16 a calldata byte or 4 if it is
    /// zero, and execution.
    function transact(address sender, bytes memory data) internal returns (uint256 gas) {
        cool();
        vm.prank(sender, sender);
        (bool done,) = address(ledger).call(data);
        if (!done) revert Differs("call", 0, 0);
        gas = vm.lastCallGas().gasTotalUsed;
        gas += 21_000;
        for (uint256 i = 0; i < data.length; ++i) {
            gas += data[i] == 0 ? 4 : 16;
        }
    }

    function use(address deployed) internal {
        ledger = FedLedger(payable(deployed));
        accounts = LedgerAccounts(payable(deployed));
        opinions = LedgerOpinions(payable(deployed));
        court = LedgerCourt(payable(deployed));
        juries = LedgerJuries(deployed);
    }

    /// @dev The code that is shipped, not what this run compiled; another test compares it with the sources. Coverage is
    /// measured on code that was compiled for it.
    function code(string memory name) internal view returns (bytes memory) {
        if (vm.isContext(COVERAGE)) return vm.getCode(string.concat(name, ".sol:", name));
        string memory folder = vm.envOr("LEDGER_ARTIFACTS", string("contracts/fedledger/contracts/artifacts"));
        return vm.parseJsonBytes(vm.readFile(string.concat(folder, "/", name, ".json")), ".bytecode");
    }

    function create(bytes memory bytecode, bytes memory arguments) internal returns (address deployed) {
        bytecode = bytes.concat(bytecode, arguments);
        assembly ("memory-safe") {
            deployed := create(0, add(bytecode, 32), mload(bytecode))
        }
    }

    function register(uint256 count) internal {
        registerFrom(0, count);
    }

    function agree(address signer_, address owner_) internal {
        vm.prank(signer_);
        accounts.agreeToSign(owner_);
    }

    function registerFrom(uint256 first, uint256 count) internal {
        for (uint256 i = first; i < first + count; ++i) {
            vm.deal(owner(i), 10 ether);
            agree(signer(i), owner(i));
            vm.prank(owner(i));
            accounts.register{value: STAKE}(signer(i), payout(i), STAKE);
        }
    }

    /// @notice Makes participant `i` a verifier that has been one for long enough.
    function enlist(uint256 i) internal {
        vm.prank(owner(i));
        accounts.addStake{value: VERIFIER_STAKE - STAKE}(VERIFIER_STAKE - STAKE);
        vm.prank(owner(i));
        court.enlist();
    }

    function serve(uint256 task, uint256 i) internal {
        vm.prank(owner(i));
        court.serve(task);
    }

    function defaults(uint16 participants) internal pure returns (IFedLedger.TaskParams memory p) {
        p.spec = IFedLedger.ContentRef(keccak256("spec"), 100);
        p.model = IFedLedger.ContentRef(MODEL, 1000);
        p.aggregator = AGGREGATOR;
        p.token = Currency.wrap(address(0));
        p.rounds = 3;
        p.quorum = 2;
        p.minParticipants = 2;
        p.maxParticipants = participants;
        p.enrolPeriod = 100;
        p.commitPeriod = 10;
        p.revealPeriod = 10;
        p.proposePeriod = 10;
        p.challengeWindow = 5;
        p.maxUnfinal = 1;
        p.bond = 1 ether;
        p.creditUnit = 1 gwei;
        p.unitsPerRound = 1000;
        (p.garbageShare, p.neverRevealedShare, p.statisticalShare, p.freeRefusals) = (500_000, 250_000, 62_500, 2);
    }

    function budget(IFedLedger.TaskParams memory p) internal pure returns (uint256) {
        return uint256(p.rounds) * p.unitsPerRound * p.creditUnit;
    }

    /// @notice Posts a task whose aggregator has taken its seat.
    function post(IFedLedger.TaskParams memory p) internal returns (uint256 task) {
        return post(p, NO_STANDBYS);
    }

    function post(IFedLedger.TaskParams memory p, address[] memory standbys) internal virtual returns (uint256 task) {
        uint256 value = budget(p) + p.sealDeposit;
        vm.deal(PUBLISHER, PUBLISHER.balance + value);
        vm.prank(PUBLISHER);
        task = accounts.postTask{value: value}(p, standbys);
        takeSeat(task, AGGREGATOR);
    }

    function takeSeat(uint256 task, address holder) internal {
        uint256 bond = accounts.task(task).params.bond;
        vm.deal(holder, holder.balance + bond);
        vm.prank(holder);
        accounts.takeSeat{value: bond}(task);
    }

    function enrol(uint256 task, uint256 count) internal {
        for (uint256 i = 0; i < count; ++i) {
            vm.prank(signer(i));
            opinions.enrol(task);
        }
    }

    function open(uint256 task, uint256 mask) internal {
        openBy(AGGREGATOR, task, mask);
    }

    function openBy(address aggregator, uint256 task, uint256 mask) internal {
        (uint32[] memory indices, uint256[] memory words) = selection(0, mask);
        uint32 next = accounts.task(task).currentRound + 1;
        vm.prank(aggregator);
        ledger.openRound(task, next, indices, words);
    }

    function selection(uint32 index, uint256 mask)
        internal
        pure
        returns (uint32[] memory indices, uint256[] memory words)
    {
        indices = new uint32[](1);
        words = new uint256[](1);
        indices[0] = index;
        words[0] = mask;
    }

    function update(uint256 i) internal pure returns (IFedLedger.ContentRef memory) {
        return IFedLedger.ContentRef(keccak256(abi.encode("update", i)), uint64(100 + i));
    }

    function commitment(uint256 task, uint32 round, uint256 i) internal view returns (bytes32) {
        bytes32 base = accounts.baseModel(task, round);
        return ledger.commitmentOf(task, round, signer(i), base, update(i), SALT);
    }

    /// @notice What the ledger keeps of a commitment.
    function kept(bytes32 value) internal pure returns (bytes32) {
        return value >> 64 << 64;
    }

    function commit(uint256 task, uint32 round, uint256 i) internal {
        bytes32 value = commitment(task, round, i);
        vm.prank(signer(i));
        ledger.commitUpdate(task, round, value);
    }

    function reveal(uint256 task, uint32 round, uint256 i) internal {
        vm.prank(signer(i));
        ledger.revealUpdate(task, round, update(i), SALT, NO_PROOF);
    }

    function commitAndReveal(uint256 task, uint32 round, uint256 count) internal {
        for (uint256 i = 0; i < count; ++i) {
            commit(task, round, i);
        }
        for (uint256 i = 0; i < count; ++i) {
            reveal(task, round, i);
        }
    }

    /// @notice One slot: verdicts and shares of participants 0 to 7.
    function outcome(uint256[] memory verdicts, uint256[] memory shares) internal pure returns (Outcome memory o) {
        o.verdictWords = new uint256[](1);
        o.shareWords = new uint256[](1);
        for (uint256 i = 0; i < verdicts.length; ++i) {
            o.verdictWords[0] |= verdicts[i] << (8 * i);
            o.shareWords[0] |= shares[i] << (32 * i);
        }
        o.proposal.model = IFedLedger.ContentRef(keccak256(abi.encode(verdicts, shares)), 1000);
    }

    /// @notice The first `count` participants accepted, `share` units each.
    function accepted(uint256 count, uint256 share) internal pure returns (Outcome memory) {
        uint256[] memory verdicts = new uint256[](count);
        uint256[] memory shares = new uint256[](count);
        for (uint256 i = 0; i < count; ++i) {
            (verdicts[i], shares[i]) = (1, share);
        }
        return outcome(verdicts, shares);
    }

    /// @notice So many participants accepted, with shares as they come: three bytes or less, of at least so many units.
    function everybody(uint256 count, uint256 share) internal pure returns (Outcome memory o) {
        uint256 slots = (count + 7) / 8;
        (o.verdictWords, o.shareWords) = (new uint256[](slots), new uint256[](slots));
        for (uint256 i = 0; i < count; ++i) {
            o.verdictWords[i / 8] |= ((i / 8) << 64) * (i % 8 == 0 ? 1 : 0) | (1 << (8 * (i % 8)));
            o.shareWords[i / 8] |= (share + i % 500) << (32 * (i % 8));
        }
        o.proposal.model = IFedLedger.ContentRef(keccak256(abi.encode(count)), 20_000);
        o.proposal.state = IFedLedger.ContentRef(keccak256("state"), 40_000);
        o.proposal.report = IFedLedger.ContentRef(keccak256("report"), 300_000);
    }

    function propose(uint256 task, uint32 round, Outcome memory o) internal {
        proposeBy(AGGREGATOR, task, round, o);
    }

    function proposeBy(address aggregator, uint256 task, uint32 round, Outcome memory o) internal {
        vm.prank(aggregator);
        ledger.proposeRound(task, round, o.proposal, o.verdictWords, o.shareWords, NO_UPDATES);
    }

    function settle(uint256 task, uint32 round, Outcome memory o) internal {
        settle(task, round, o, ALL);
    }

    function settle(uint256 task, uint32 round, Outcome memory o, uint256 limit) internal {
        vm.prank(OUTSIDER);
        ledger.settleRound(task, round, o.proposal, o.verdictWords, o.shareWords, limit);
    }

    /// @notice An account's free balance in the chain's own coin.
    function free(address account) internal view returns (uint256) {
        return accounts.balanceOf(COIN, account);
    }

    function pass(uint256 duration) internal virtual {
        vm.warp(vm.getBlockTimestamp() + duration);
    }

    /// @notice Expects the next call to revert with exactly this error; the sender makes it.
    function refused(address sender, bytes memory reason) internal {
        vm.expectRevert(reason);
        vm.prank(sender);
    }

    function eq(uint256 found, uint256 expected, string memory what) internal pure {
        if (found != expected) revert Differs(what, found, expected);
    }

    function eq(bytes32 found, bytes32 expected, string memory what) internal pure {
        eq(uint256(found), uint256(expected), what);
    }

    function bound(uint256 value, uint256 low, uint256 high) internal pure returns (uint256) {
        return low + value % (high - low + 1);
    }

    error Differs(string what, uint256 found, uint256 expected);
}
