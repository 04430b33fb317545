// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @notice The cheat codes of Foundry's virtual machine that the tests use.
interface Vm {
    struct Gas {
        uint64 gasLimit;
        uint64 gasTotalUsed;
        uint64 gasMemoryUsed;
        int64 gasRefunded;
        uint64 gasRemaining;
    }

    struct Log {
        bytes32[] topics;
        bytes data;
        address emitter;
    }

    function warp(uint256 timestamp) external;
    /// @dev The optimiser takes `block.timestamp` for constant within a call, so tests that warp must ask.
    function getBlockTimestamp() external view returns (uint256);
    function roll(uint256 number) external;
    function setBlockhash(uint256 number, bytes32 hash) external;
    function getBlockNumber() external view returns (uint256);
    function addr(uint256 key) external pure returns (address);
    function sign(uint256 key, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
    function prank(address sender) external;
    function prank(address sender, address origin) external;
    function deal(address account, uint256 balance) external;
    function load(address target, bytes32 slot) external view returns (bytes32);
    function store(address target, bytes32 slot, bytes32 value) external;
    function readFile(string calldata path) external view returns (string memory);
    function envOr(string calldata name, uint256 otherwise) external view returns (uint256);
    function envOr(string calldata name, string calldata otherwise) external view returns (string memory);
    function parseJsonBytes(string calldata json, string calldata key) external pure returns (bytes memory);
    function getCode(string calldata artifact) external view returns (bytes memory);
    /// @dev 2 is `forge coverage`.
    function isContext(uint8 context) external view returns (bool);
    function recordLogs() external;
    function getRecordedLogs() external returns (Log[] memory);
    function chainId(uint256 id) external;
    function snapshotState() external returns (uint256);
    function revertToState(uint256 state) external returns (bool);
    /// @dev Forgets which slots are warm, as between transactions.
    function cool(address target) external;
    function snapshotGasLastCall(string calldata group, string calldata name) external returns (uint256);
    /// @notice What the last call used, without what a transaction costs besides.
    function lastCallGas() external view returns (Gas memory);
    function snapshotValue(string calldata group, string calldata name, uint256 value) external;
    /// @dev Of all that is emitted until the next call ends, this address's next event must be the one given.
    function expectEmit(address emitter) external;
    function expectRevert(bytes calldata data) external;
    /// @dev What does not hold is not looked into.
    function assume(bool condition) external pure;
}

Vm constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
