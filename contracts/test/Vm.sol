// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @notice The cheat codes of Foundry's virtual machine that the tests use.
interface Vm {
    function warp(uint256 timestamp) external;
    /// @dev The optimiser takes `block.timestamp` for constant within a call, so tests that warp must ask.
    function getBlockTimestamp() external view returns (uint256);
    function prank(address sender) external;
    function deal(address account, uint256 balance) external;
    /// @dev Unlike `new`, does not compile the contract once more into each test.
    function deployCode(string calldata artifact, bytes calldata arguments) external returns (address);
    function expectRevert(bytes calldata data) external;
}

Vm constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
