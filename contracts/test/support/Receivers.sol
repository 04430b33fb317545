// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {FedLedger} from "../../src/FedLedger.sol";

/// @notice Refuses whatever it is sent.
contract Refuser {
    function register(FedLedger ledger, address signer, address payout, uint256 stake) external returns (uint32) {
        return ledger.register{value: stake}(signer, payout);
    }

    function withdraw(FedLedger ledger) external {
        ledger.withdraw(address(this));
    }

    receive() external payable {
        revert("refused");
    }
}

/// @notice Asks to be paid again while it is being paid.
contract Reenterer {
    FedLedger private immutable _ledger;
    uint256 private immutable _task;
    uint32 private immutable _participant;
    uint256 public attempts;
    uint256 public successes;

    constructor(FedLedger ledger, uint256 task, uint32 participant) {
        _ledger = ledger;
        _task = task;
        _participant = participant;
    }

    function deposit() external payable {
        _ledger.deposit{value: msg.value}();
    }

    function withdraw() external {
        _ledger.withdraw(address(this));
    }

    receive() external payable {
        _try(abi.encodeCall(FedLedger.withdrawCredit, (_task, _participant)));
        _try(abi.encodeWithSignature("withdraw(address)", address(this)));
    }

    function _try(bytes memory call) private {
        ++attempts;
        (bool succeeded,) = address(_ledger).call(call);
        if (succeeded) ++successes;
    }
}
