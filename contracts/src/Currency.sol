// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @notice What budgets, bonds and stakes are paid in. The zero address is the chain's own coin.
type Currency is address;

using CurrencyLibrary for Currency global;

/// @title Transfers of one currency
/// @notice The only place that moves money out, so that tokens can be added without touching the ledger.
library CurrencyLibrary {
    /// @notice The currency is not supported by this version.
    error UnsupportedCurrency(Currency currency);
    /// @notice The receiver did not take the money.
    error TransferFailed(address to, uint256 amount);

    /// @notice Reverts unless this version can hold and pay the currency.
    function requireSupported(Currency currency) internal pure {
        if (Currency.unwrap(currency) != address(0)) revert UnsupportedCurrency(currency);
    }

    /// @notice Sends `amount` to `to`.
    function transfer(Currency currency, address to, uint256 amount) internal {
        requireSupported(currency);
        (bool sent,) = to.call{value: amount}("");
        if (!sent) revert TransferFailed(to, amount);
    }
}
