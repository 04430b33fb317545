// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {CourtFixture} from "./CourtFixture.sol";
import {vm} from "./Vm.sol";

/// @notice What checks cost all together: summons, answers and findings.
contract ChecksGasTest is CourtFixture {
    uint256 private constant TEN = 10;
    uint256 private constant ONE_LIMIT = 190_000;
    uint256 private constant TEN_LIMIT = 70_000;
    uint256 private constant SPARSE_LIMIT = 105_000;
    uint256 private constant UNCHECKED_LIMIT = 100;
    uint256 private constant CALLDATA_LIMIT = 3_000;
    bytes32 private constant DATA = keccak256("Data(uint256 task,uint32 round,uint32 participant,uint256 word)");
    bytes32 private constant DOMAIN =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    uint256 private _task;
    uint256 private _bytes;

    function setUp() public {
        setUpLedger();
        vm.roll(1000);
    }

    function test_gas_check() public {
        _proposed(100, false, true);
        uint256 gas = _check(_of(1, 1));
        vm.snapshotValue("FedLedger", "one check, all its transactions", gas);
        vm.snapshotValue("FedLedger", "one check, bytes of calldata", _bytes);
        if (gas > ONE_LIMIT) revert Differs("gas of a check", gas, ONE_LIMIT);
        if (_bytes > CALLDATA_LIMIT) revert Differs("calldata of a check", _bytes, CALLDATA_LIMIT);
    }

    function test_gas_tenChecks_ofNeighbours() public {
        _proposed(100, false, true);
        uint256 gas = _check(_of(TEN, 1)) / TEN;
        vm.snapshotValue("FedLedger", "ten checks of neighbours, each", gas);
        if (gas > TEN_LIMIT) revert Differs("gas of one of ten checks", gas, TEN_LIMIT);
    }

    function test_gas_tenChecks_among1000() public {
        _proposed(1000, true, true);
        uint256 gas = _check(_of(TEN, 90)) / TEN;
        vm.snapshotValue("FedLedger", "ten checks among 1000, each", gas);
        if (gas > SPARSE_LIMIT) revert Differs("gas of one of ten checks among 1000", gas, SPARSE_LIMIT);
    }

    /// @dev What a proposal costs more in a task with checks.
    function test_gas_uncheckedRound() public {
        for (uint256 k = 0; k < 2; ++k) {
            uint256 state = vm.snapshotState();
            uint256 without = _proposed(100, k == 1, false);
            vm.revertToState(state);
            uint256 gas = (_proposed(100, k == 1, true) - without) / 100;
            vm.revertToState(state);
            string memory what = k == 1 ? "batched" : "direct";
            vm.snapshotValue("FedLedger", string.concat("unchecked in a ", what, " round of 100, a participant"), gas);
            if (gas > UNCHECKED_LIMIT) {
                revert Differs("gas of a participant that is not checked", gas, UNCHECKED_LIMIT);
            }
        }
    }

    function test_gas_commitData() public {
        _task = _posted(100, false, true);
        uint256 gas = transact(signer(7), abi.encodeCall(court.commitData, (_task, _word(7))));
        vm.snapshotValue("FedLedger", "commitData, whole transaction", gas);
        (uint32[] memory ids, uint256[] memory words, bytes[] memory signatures) =
            (new uint32[](100), new uint256[](100), new bytes[](100));
        for (uint32 i = 0; i < 100; ++i) {
            (ids[i], words[i]) = (i, _word(i));
            signatures[i] = _signature(i);
        }
        gas = transact(OUTSIDER, abi.encodeCall(court.commitDataOf, (_task, ids, words, signatures))) / 100;
        vm.snapshotValue("FedLedger", "commitDataOf a hundred, each", gas);
    }

    function _posted(uint256 count, bool batched_, bool checks) private returns (uint256 task) {
        register(count);
        IFedLedger.TaskParams memory p = batched_ ? batched(uint16(count)) : defaults(uint16(count));
        (p.unitsPerRound, p.minStake) = (1_000_000, STAKE);
        if (checks) {
            (p.checkRate, p.checkPeriod, p.checkPenalty) = (1_000_000, 10, STAKE);
            (p.auditorCount, p.auditors) = (2, keccak256(abi.encode(_auditors())));
        }
        task = post(p);
        enrol(task, count);
    }

    /// @dev The second round, so that what the ledger keeps of one has been written before.
    function _proposed(uint256 count, bool batched_, bool checks) private returns (uint256 gas) {
        _task = _posted(count, batched_, checks);
        for (uint32 round = 1; round < 3; ++round) {
            openAll(_task);
            if (batched_) close(_task, round, keccak256("root"), uint16(count));
            else commitAndReveal(_task, round, count);
            Outcome memory o = everybody(count, 500);
            IFedLedger.Updates memory u = batched_ ? updatesOf(count) : NO_UPDATES;
            if (batched_) bind(o, u);
            gas = transact(
                AGGREGATOR,
                abi.encodeCall(ledger.proposeRound, (_task, round, o.proposal, o.verdictWords, o.shareWords, u))
            );
            nextBlock();
            if (round == 2) break;
            pass(5);
            settle(_task, round, o);
        }
    }

    /// @dev From the summons to the findings, with which the auditor commits to its next ones.
    function _check(uint32[] memory ids) private returns (uint256 gas) {
        bool batched_ = accounts.task(_task).params.batched;
        Outcome memory o = everybody(accounts.task(_task).enrolled, 500);
        if (batched_) bind(o, updatesOf(accounts.task(_task).enrolled));
        gas = _send(OUTSIDER, abi.encodeCall(court.summon, (_task, 2, ids, posted(o))));
        IFedLedger.ContentRef memory box = IFedLedger.ContentRef(keccak256("box"), 1_234_567);
        for (uint256 i = 0; i < ids.length; ++i) {
            bytes memory answer = abi.encodeCall(court.answerCheck, (_task, 2, box, keccak256("opening"), OTHER));
            gas += _send(signer(ids[i]), answer);
        }
        IFedLedger.Findings[] memory all = new IFedLedger.Findings[](1);
        (all[0].round, all[0].passed, all[0].transcripts) = (2, ids, new bytes32[](ids.length));
        for (uint256 i = 0; i < ids.length; ++i) {
            all[0].transcripts[i] = keccak256(abi.encode(i));
        }
        bytes32 value = keccak256(abi.encode(_task, 0, all, SALT));
        IFedLedger.Findings[] memory none = new IFedLedger.Findings[](0);
        bytes memory first = abi.encodeCall(court.postFindings, (_task, _auditors(), 0, none, 0, value));
        vm.snapshotValue("FedLedger", "postFindings, the first commitment", transact(auditor(0), first));
        gas += _send(auditor(0), abi.encodeCall(court.postFindings, (_task, _auditors(), 0, all, SALT, value)));
    }

    function _send(address sender, bytes memory data) private returns (uint256) {
        _bytes += data.length;
        return transact(sender, data);
    }

    /// @dev So many participants for the first auditor, as far apart as is said or farther.
    function _of(uint256 count, uint256 apart) private view returns (uint32[] memory ids) {
        ids = new uint32[](count);
        bytes32 seed = blockhash(vm.getBlockNumber() - 1);
        uint32 id = 0;
        for (uint256 k = 0; k < count; ++k) {
            while ((uint256(keccak256(abi.encode(seed, _task, 2, id))) >> 128) % 2 != 0) ++id;
            ids[k] = id;
            id += uint32(apart);
        }
    }

    function _auditors() private pure returns (address[] memory all) {
        all = new address[](2);
        (all[0], all[1]) = (auditor(0), auditor(1));
    }

    function _word(uint32 id) private pure returns (uint256) {
        return (uint256(keccak256(abi.encode(id))) << 32) | 60_000;
    }

    function _signature(uint32 id) private view returns (bytes memory) {
        bytes32 domain =
            keccak256(abi.encode(DOMAIN, keccak256("fedledger"), keccak256("5"), block.chainid, address(ledger)));
        bytes32 message = keccak256(abi.encode(DATA, _task, 1, id, _word(id)));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key(id), keccak256(bytes.concat("\x19\x01", domain, message)));
        return abi.encodePacked(r, s, v);
    }
}
