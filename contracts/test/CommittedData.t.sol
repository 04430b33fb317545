// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {CourtFixture} from "./CourtFixture.sol";
import {vm} from "./Vm.sol";

/// @notice Commitments to data: the sender's own, and those that participants signed.
contract CommittedDataTest is CourtFixture {
    bytes32 private constant DATA = keccak256("Data(uint256 task,uint32 round,uint32 participant,uint256 word)");
    bytes32 private constant DOMAIN =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    uint256 private constant WORD = (uint256(keccak256("root")) << 32) | 60_000;
    uint256 private _task;

    function setUp() public {
        setUpCourt(1);
        _task = post(defaults(uint16(WORKERS)));
        enrol(_task, WORKERS);
    }

    function test_commitData_byOwnerOrSigner_isSaid() public {
        address[2] memory senders = [owner(1), signer(1)];
        for (uint256 k = 0; k < 2; ++k) {
            vm.expectEmit(address(ledger));
            emit IFedLedger.DataCommitted(_task, 1, WORD + k);
            vm.prank(senders[k]);
            court.commitData(_task, WORD + k);
        }
    }

    function test_commitData_ofWhoIsNotInTheTask_isRefused() public {
        refused(signer(4), abi.encodeWithSelector(IFedLedger.NotInTask.selector, _task, 4));
        court.commitData(_task, WORD);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotRegistered.selector, OUTSIDER));
        court.commitData(_task, WORD);
        refused(signer(0), abi.encodeWithSelector(IFedLedger.UnknownTask.selector, 9));
        court.commitData(9, WORD);
    }

    function testFuzz_commitData_toNoExamples_isRefused(uint256 word) public {
        refused(signer(0), abi.encodeWithSelector(IFedLedger.InvalidParameter.selector, bytes32("word")));
        court.commitData(_task, word << 32);
    }

    function test_commitData_inATaskThatIsFinished_isRefused() public {
        pass(300);
        accounts.finishTask(_task);
        bytes memory reason = abi.encodeWithSelector(IFedLedger.TaskAlreadyFinished.selector, _task);
        refused(signer(0), reason);
        court.commitData(_task, WORD);
        refused(signer(0), reason);
        court.commitDataOf(_task, new uint32[](0), new uint256[](0), new bytes[](0));
    }

    /// @dev Whoever sends them, and whatever round is to be opened next.
    function test_commitDataOf_signedForTheNextRound_isSaid() public {
        for (uint32 next = 1; next < 3; ++next) {
            (uint32[] memory ids, uint256[] memory words, bytes[] memory signatures) = _all(next);
            for (uint32 i = 0; i < WORKERS; ++i) {
                vm.expectEmit(address(ledger));
                emit IFedLedger.DataCommitted(_task, i, words[i]);
            }
            vm.prank(OUTSIDER);
            court.commitDataOf(_task, ids, words, signatures);
            if (next == 1) open(_task, 15);
        }
    }

    function test_commitDataOf_signedForAnotherRoundTaskLedgerOrChain_isRefused() public {
        bytes memory fine = _signature(0, _digest(_task, 1, 0, WORD));
        _send(0, WORD, fine);
        vm.chainId(block.chainid + 1);
        _sendRefused(0, WORD, fine, _digest(_task, 1, 0, WORD));
        vm.chainId(block.chainid);
        uint256 other = post(defaults(uint16(WORKERS)));
        enrol(other, WORKERS);
        (uint256 first, bytes32 digest_) = (_task, _digest(other, 1, 0, WORD));
        _task = other;
        _sendRefused(0, WORD, fine, digest_);
        _task = first;
        open(_task, 15);
        _sendRefused(0, WORD, fine, _digest(_task, 2, 0, WORD));
        _task = 1;
        fine = _signature(0, _digest(_task, 2, 0, WORD));
        _send(0, WORD, fine);
        use(deploy(settings()));
        vm.deal(owner(0), 10 ether);
        register(WORKERS);
        _task = post(defaults(uint16(WORKERS)));
        enrol(_task, WORKERS);
        open(_task, 15);
        _sendRefused(0, WORD, fine, _digest(_task, 2, 0, WORD));
    }

    function test_commitDataOf_signedByAnother_isRefused() public {
        bytes memory signature = _signature(1, _digest(_task, 1, 0, WORD));
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.WrongSignature.selector, signer(1)));
        _send(0, WORD, signature);
        // Signed for oneself, and sent for another.
        signature = _signature(1, _digest(_task, 1, 1, WORD));
        _sendRefused(0, WORD, signature, _digest(_task, 1, 0, WORD));
    }

    /// @dev What a key signed that is no signer's any more, nobody is bound by.
    function test_commitDataOf_signedByAnOldKey_isRefused() public {
        bytes memory signature = _signature(0, _digest(_task, 1, 0, WORD));
        vm.prank(owner(0));
        accounts.rotateSigner(owner(0));
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.NotRegistered.selector, signer(0)));
        _send(0, WORD, signature);
    }

    /// @dev One that is wrong spoils all.
    function test_commitDataOf_ofWhoIsNotInTheTask_isRefused() public {
        (uint32[] memory ids, uint256[] memory words, bytes[] memory signatures) = _all(1);
        ids[3] = 4;
        signatures[3] = _signature(4, _digest(_task, 1, 4, words[3]));
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.NotInTask.selector, _task, 4));
        court.commitDataOf(_task, ids, words, signatures);
    }

    function test_commitDataOf_columnsOfDifferentLengths_isRefused() public {
        (uint32[] memory ids, uint256[] memory words, bytes[] memory signatures) = _all(1);
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.LengthMismatch.selector));
        court.commitDataOf(_task, ids, new uint256[](3), signatures);
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.LengthMismatch.selector));
        court.commitDataOf(_task, ids, words, new bytes[](5));
    }

    function _all(uint32 next)
        private
        view
        returns (uint32[] memory ids, uint256[] memory words, bytes[] memory signatures)
    {
        (ids, words, signatures) = (new uint32[](WORKERS), new uint256[](WORKERS), new bytes[](WORKERS));
        for (uint32 i = 0; i < WORKERS; ++i) {
            (ids[i], words[i]) = (i, WORD + i);
            signatures[i] = _signature(i, _digest(_task, next, i, words[i]));
        }
    }

    function _send(uint32 id, uint256 word, bytes memory signature) private {
        (uint32[] memory ids, uint256[] memory words, bytes[] memory signatures) =
            (new uint32[](1), new uint256[](1), new bytes[](1));
        (ids[0], words[0], signatures[0]) = (id, word, signature);
        court.commitDataOf(_task, ids, words, signatures);
    }

    /// @dev The ledger takes the signature for one of another message, and so of somebody whom nobody knows.
    function _sendRefused(uint32 id, uint256 word, bytes memory signature, bytes32 asked) private {
        (bytes32 r, bytes32 s, uint8 v) = (0, 0, uint8(signature[64]));
        assembly ("memory-safe") {
            r := mload(add(signature, 32))
            s := mload(add(signature, 64))
        }
        address taken = ecrecover(asked, v, r, s);
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.NotRegistered.selector, taken));
        _send(id, word, signature);
    }

    function _signature(uint256 i, bytes32 hash) private pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key(i), hash);
        return abi.encodePacked(r, s, v);
    }

    function _digest(uint256 task, uint32 round, uint32 id, uint256 word) private view returns (bytes32) {
        bytes32 domain =
            keccak256(abi.encode(DOMAIN, keccak256("fedledger"), keccak256("5"), block.chainid, address(ledger)));
        return keccak256(bytes.concat("\x19\x01", domain, keccak256(abi.encode(DATA, task, round, id, word))));
    }
}
