// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

/// @notice What budgets, bonds and stakes are paid in: a token, or by the zero address the chain's own coin.
type Currency is address;

using CurrencyLibrary for Currency global;
using {same as ==} for Currency global;

function same(Currency a, Currency b) pure returns (bool) {
    return Currency.unwrap(a) == Currency.unwrap(b);
}

/// @title Transfers of one currency
/// @notice The only place that moves money in or out. Tokens that return nothing work; those that take a fee on the way
/// are refused.
library CurrencyLibrary {
    using SafeERC20 for IERC20;

    Currency internal constant COIN = Currency.wrap(address(0));

    /// @notice The receiver did not take the money.
    error TransferFailed(address to, uint256 amount);
    /// @notice The value sent is not the amount, or came with a token.
    error WrongValue(uint256 expected, uint256 sent);
    /// @notice Less of a token arrived than was sent.
    error FeeOnTransfer(uint256 expected, uint256 received);

    /// @notice Takes `amount` from the sender: the value of this call, or tokens that it has approved.
    function collect(Currency currency, uint256 amount) internal {
        uint256 value = currency == COIN ? amount : 0;
        if (msg.value != value) revert WrongValue(value, msg.value);
        if (currency == COIN) return;
        IERC20 token = IERC20(Currency.unwrap(currency));
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = token.balanceOf(address(this)) - before;
        if (received != amount) revert FeeOnTransfer(amount, received);
    }

    /// @notice Sends `amount` to `to`.
    function transfer(Currency currency, address to, uint256 amount) internal {
        if (currency == COIN) {
            (bool sent,) = to.call{value: amount}("");
            if (!sent) revert TransferFailed(to, amount);
        } else {
            IERC20(Currency.unwrap(currency)).safeTransfer(to, amount);
        }
    }
}
