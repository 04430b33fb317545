// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {LedgerState} from "./LedgerState.sol";

/// @title What is signed for this ledger and posted by anybody
abstract contract LedgerSignatures is LedgerState {
    bytes32 internal constant DOMAIN =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");

    /// @dev Who signed an EIP-712 message of this ledger.
    function _signerOf(bytes32 message, bytes calldata signature) internal view returns (address) {
        return _signerIn(_domain(), message, signature);
    }

    /// @dev Who signed one of several messages; their domain is hashed once.
    function _signerIn(bytes32 domain, bytes32 message, bytes calldata signature) internal pure returns (address) {
        return ECDSA.recover(keccak256(bytes.concat("\x19\x01", domain, message)), signature);
    }

    function _domain() internal view returns (bytes32) {
        return keccak256(abi.encode(DOMAIN, keccak256("fedledger"), keccak256("5"), block.chainid, address(this)));
    }
}
