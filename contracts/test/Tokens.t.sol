// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";
import {Currency, CurrencyLibrary} from "../src/Currency.sol";
import {IFedLedger} from "../src/IFedLedger.sol";
import {LedgerAccounts} from "../src/LedgerAccounts.sol";
import {Refuser} from "./Fixture.sol";
import {CourtFixture} from "./CourtFixture.sol";
import {vm} from "./Vm.sol";

/// @notice A token as most are, with hooks for what some do besides.
contract Token {
    mapping(address account => uint256) public balanceOf;
    mapping(address account => mapping(address spender => uint256)) public allowance;

    function mint(address account, uint256 amount) external {
        balanceOf[account] += amount;
    }

    function approve(address spender, uint256 amount) external returns (bool) {
        allowance[msg.sender][spender] = amount;
        return true;
    }

    function transfer(address to, uint256 amount) public virtual returns (bool) {
        _move(msg.sender, to, amount);
        return true;
    }

    function transferFrom(address from, address to, uint256 amount) public virtual returns (bool) {
        allowance[from][msg.sender] -= amount;
        _move(from, to, amount);
        return true;
    }

    function _move(address from, address to, uint256 amount) internal virtual {
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
    }
}

/// @notice Returns nothing, as the oldest tokens do.
contract SilentToken {
    mapping(address account => uint256) public balanceOf;

    function mint(address account, uint256 amount) external {
        balanceOf[account] += amount;
    }

    function transfer(address to, uint256 amount) external {
        _move(msg.sender, to, amount);
    }

    function transferFrom(address from, address to, uint256 amount) external {
        _move(from, to, amount);
    }

    function _move(address from, address to, uint256 amount) private {
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
    }
}

/// @notice Keeps one part in a hundred of what is moved.
contract FeeToken is Token {
    function _move(address from, address to, uint256 amount) internal override {
        balanceOf[from] -= amount;
        balanceOf[to] += amount - amount / 100;
    }
}

/// @notice Says that it failed, and moves nothing.
contract FalseToken is Token {
    function transfer(address, uint256) public pure override returns (bool) {
        return false;
    }
}

/// @notice Calls its receiver's and its sender's hooks: here, it asks the ledger for more while it is moved.
contract HookToken is Token {
    LedgerAccounts private immutable _ledger;
    uint256 public attempts;
    uint256 public successes;

    constructor(LedgerAccounts ledger) {
        _ledger = ledger;
    }

    function _move(address from, address to, uint256 amount) internal override {
        Currency self = Currency.wrap(address(this));
        _try(abi.encodeCall(LedgerAccounts.deposit, (self, 0)));
        _try(abi.encodeCall(LedgerAccounts.withdraw, (self, address(this))));
        _try(abi.encodeCall(LedgerAccounts.withdrawCredit, (1, 0)));
        super._move(from, to, amount);
    }

    function _try(bytes memory data) private {
        ++attempts;
        (bool done, bytes memory reason) = address(_ledger).call(data);
        if (done || bytes4(reason) != ReentrancyGuard.ReentrancyGuardReentrantCall.selector) ++successes;
    }
}

contract TokensTest is CourtFixture {
    Token private _token;
    Currency private _currency;

    function setUp() public {
        setUpCourt(0);
        _token = new Token();
        _currency = Currency.wrap(address(_token));
        _token.mint(PUBLISHER, 1000 ether);
    }

    function test_deposit_takesWhatWasApproved() public {
        vm.prank(PUBLISHER);
        (bool done,) = address(ledger).call(abi.encodeCall(accounts.deposit, (_currency, 5)));
        eq(done ? 1 : 0, 0, "not approved");
        _approve(PUBLISHER, 5);
        vm.expectEmit(address(ledger));
        emit IFedLedger.Deposited(PUBLISHER, _currency, 5);
        vm.prank(PUBLISHER);
        accounts.deposit(_currency, 5);
        eq(accounts.balanceOf(_currency, PUBLISHER), 5, "balance");
        eq(free(PUBLISHER), 0, "another currency");
        eq(_token.balanceOf(address(ledger)), 5, "held");
    }

    function test_deposit_valueThatIsNotTheAmount_isRefused() public {
        refused(PUBLISHER, abi.encodeWithSelector(CurrencyLibrary.WrongValue.selector, 0, 1));
        accounts.deposit{value: 1}(_currency, 1);
        refused(PUBLISHER, abi.encodeWithSelector(CurrencyLibrary.WrongValue.selector, 2, 1));
        accounts.deposit{value: 1}(COIN, 2);
    }

    function test_withdraw_sendsTheWholeBalanceOfOneCurrency() public {
        _deposit(7);
        vm.prank(PUBLISHER);
        accounts.deposit{value: 3}(COIN, 3);
        vm.expectEmit(address(ledger));
        emit IFedLedger.Withdrawn(PUBLISHER, _currency, payout(1), 7);
        vm.prank(PUBLISHER);
        accounts.withdraw(_currency, payout(1));
        eq(_token.balanceOf(payout(1)), 7, "tokens");
        eq(free(PUBLISHER), 3, "coins stay");
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.NothingToWithdraw.selector, PUBLISHER));
        accounts.withdraw(_currency, payout(1));
    }

    /// @dev A whole task in tokens: escrow, pay and refund in them, bonds and stakes in the chain's coin.
    function test_task_paidInTokens_conservesBoth() public {
        uint256 task = _task(400);
        for (uint32 i = 0; i < 4; ++i) {
            accounts.withdrawCredit(task, i);
            eq(_token.balanceOf(payout(i)), 100 gwei, "pay");
        }
        pass(101);
        accounts.finishTask(task);
        eq(accounts.balanceOf(_currency, PUBLISHER), 2600 gwei, "refund");
        eq(free(AGGREGATOR), BOND, "bond");
        vm.prank(PUBLISHER);
        accounts.withdraw(_currency, PUBLISHER);
        eq(_token.balanceOf(PUBLISHER), 1000 ether - 400 gwei, "publisher");
        eq(_token.balanceOf(address(ledger)), 0, "nothing is left");
    }

    function test_postTask_tokenWithoutItsBudget_isRefused() public {
        _deposit(10);
        IFedLedger.TaskParams memory p = defaults(4);
        p.token = _currency;
        bytes memory reason = abi.encodeWithSelector(IFedLedger.InsufficientBalance.selector, PUBLISHER, 10, budget(p));
        refused(PUBLISHER, reason);
        accounts.postTask{value: budget(p)}(p, NO_STANDBYS);
    }

    function test_silentToken_works() public {
        SilentToken token = new SilentToken();
        Currency currency = Currency.wrap(address(token));
        token.mint(PUBLISHER, 9);
        vm.prank(PUBLISHER);
        accounts.deposit(currency, 9);
        vm.prank(PUBLISHER);
        accounts.withdraw(currency, OUTSIDER);
        eq(token.balanceOf(OUTSIDER), 9, "received");
    }

    function test_feeToken_isRefused() public {
        FeeToken token = new FeeToken();
        token.mint(PUBLISHER, 1000);
        vm.prank(PUBLISHER);
        token.approve(address(ledger), 1000);
        refused(PUBLISHER, abi.encodeWithSelector(CurrencyLibrary.FeeOnTransfer.selector, 1000, 990));
        accounts.deposit(Currency.wrap(address(token)), 1000);
    }

    function test_falseToken_cannotBeWithdrawnSilently() public {
        FalseToken token = new FalseToken();
        token.mint(PUBLISHER, 5);
        vm.prank(PUBLISHER);
        token.approve(address(ledger), 5);
        vm.prank(PUBLISHER);
        accounts.deposit(Currency.wrap(address(token)), 5);
        refused(PUBLISHER, abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(token)));
        accounts.withdraw(Currency.wrap(address(token)), PUBLISHER);
        eq(accounts.balanceOf(Currency.wrap(address(token)), PUBLISHER), 5, "balance");
    }

    function test_tokenWithoutCode_isRefused() public {
        vm.prank(PUBLISHER);
        (bool done,) = address(ledger).call(abi.encodeCall(accounts.deposit, (Currency.wrap(address(0xdead)), 5)));
        eq(done ? 1 : 0, 0, "done");
    }

    function test_hookToken_reentering_getsNothing() public {
        HookToken token = new HookToken(accounts);
        token.mint(PUBLISHER, 5);
        vm.prank(PUBLISHER);
        token.approve(address(ledger), 5);
        vm.prank(PUBLISHER);
        accounts.deposit(Currency.wrap(address(token)), 5);
        vm.prank(PUBLISHER);
        accounts.withdraw(Currency.wrap(address(token)), PUBLISHER);
        eq(token.attempts(), 6, "attempts");
        eq(token.successes(), 0, "all by the guard");
        eq(token.balanceOf(PUBLISHER), 5, "back");
    }

    /// @dev What one token does wrong touches no other currency.
    function test_tokenThatTakesItsMoneyBack_harmsOnlyItself() public {
        _deposit(100);
        vm.prank(OUTSIDER);
        accounts.deposit{value: 5}(COIN, 5);
        vm.prank(address(ledger));
        _token.transfer(address(this), 100);
        vm.prank(PUBLISHER);
        (bool done,) = address(ledger).call(abi.encodeCall(accounts.withdraw, (_currency, PUBLISHER)));
        eq(done ? 1 : 0, 0, "done");
        vm.prank(OUTSIDER);
        accounts.withdraw(COIN, payout(0));
        eq(payout(0).balance, 5, "coins");
    }

    function test_withdrawCredit_toAReceiverThatReverts_waitsForAnother() public {
        IFedLedger.TaskParams memory p = defaults(4);
        uint256 task = post(p);
        enrol(task, 4);
        address refuser = address(new Refuser());
        vm.prank(owner(0));
        accounts.setPayout(refuser);
        proposeNext(task, 1, 100);
        pass(5);
        settle(task, 1, accepted(4, 100));
        vm.expectRevert(abi.encodeWithSelector(CurrencyLibrary.TransferFailed.selector, refuser, 100 gwei));
        accounts.withdrawCredit(task, 0);
        eq(accounts.creditOf(task, 0), 100, "credit");
        conserved();
    }

    /// @dev A ledger whose stakes are tokens, with a task in the chain's coin.
    function test_stakesInTokens_bondsPenaltiesAndDisputesAreInThem() public {
        _useTokenStakes();
        vm.prank(owner(0));
        accounts.register(signer(0), payout(0), STAKE);
        refused(owner(1), abi.encodeWithSelector(IFedLedger.InsufficientBalance.selector, owner(1), 0, STAKE));
        accounts.register{value: STAKE}(signer(1), payout(1), STAKE);
        IFedLedger.TaskParams memory p = defaults(4);
        vm.prank(PUBLISHER);
        uint256 task = accounts.postTask{value: budget(p)}(p, NO_STANDBYS);
        _fund(AGGREGATOR, BOND);
        vm.prank(AGGREGATOR);
        accounts.takeSeat{value: 6}(task);
        eq(accounts.balanceOf(_currency, AGGREGATOR), 0, "tokens");
        eq(free(AGGREGATOR), 6, "value is in the chain's coin");
        vm.prank(owner(0));
        accounts.requestExit();
        pass(EXIT_DELAY);
        vm.prank(owner(0));
        accounts.completeExit();
        eq(accounts.balanceOf(_currency, owner(0)), STAKE, "stake");
        accounts.finishTask(task);
        eq(accounts.balanceOf(_currency, AGGREGATOR), BOND, "bond");
        eq(free(PUBLISHER), budget(p), "refund");
    }

    function _useTokenStakes() private {
        IFedLedger.Settings memory s = settings();
        s.stakeCurrency = _currency;
        use(deploy(s));
        _fund(owner(0), STAKE);
    }

    function _fund(address account, uint256 amount) private {
        _token.mint(account, amount);
        vm.prank(account);
        _token.approve(address(ledger), amount);
        vm.prank(account);
        accounts.deposit(_currency, amount);
    }

    function _approve(address account, uint256 amount) private {
        vm.prank(account);
        _token.approve(address(ledger), amount);
    }

    function _deposit(uint256 amount) private {
        _approve(PUBLISHER, amount);
        vm.prank(PUBLISHER);
        accounts.deposit(_currency, amount);
    }

    /// @dev A task in tokens whose first round has paid `units`.
    function _task(uint256 units) private returns (uint256 task) {
        IFedLedger.TaskParams memory p = defaults(4);
        p.token = _currency;
        _deposit(budget(p));
        vm.prank(PUBLISHER);
        task = accounts.postTask(p, NO_STANDBYS);
        takeSeat(task, AGGREGATOR);
        enrol(task, 4);
        proposeNext(task, 1, units / 4);
        pass(5);
        settle(task, 1, accepted(4, units / 4));
    }
}
