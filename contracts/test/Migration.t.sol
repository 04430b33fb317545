// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {FedLedger} from "../src/FedLedger.sol";
import {IFedLedger} from "../src/IFedLedger.sol";
import {LedgerAccounts} from "../src/LedgerAccounts.sol";
import {LedgerCourt} from "../src/LedgerCourt.sol";
import {LedgerOpinions} from "../src/LedgerOpinions.sol";
import {CourtFixture} from "./CourtFixture.sol";
import {vm} from "./Vm.sol";

/// @notice Version 2 of the ledger, as far as this test speaks to it.
interface ILedgerV2 {
    struct Params {
        IFedLedger.ContentRef spec;
        IFedLedger.ContentRef model;
        address aggregator;
        address token;
        uint32 rounds;
        uint16 quorum;
        uint16 minParticipants;
        uint16 maxParticipants;
        uint32 enrolPeriod;
        uint32 commitPeriod;
        uint32 revealPeriod;
        uint32 proposePeriod;
        uint32 challengeWindow;
        uint8 maxUnfinal;
        uint8 maxStaleness;
        uint8 randomness;
        bool batched;
        uint32 gracePeriod;
        uint96 minStake;
        uint32 minReputation;
        uint96 bond;
        uint96 creditUnit;
        uint32 unitsPerRound;
    }

    function register(address signer, address payout) external payable returns (uint32 id);
    function postTask(Params calldata p) external payable returns (uint256 id);
    function enrol(uint256 task) external;
    function openRound(uint256 task, uint32[] calldata wordIndices, uint256[] calldata words) external;
    function commitUpdate(uint256 task, uint32 round, bytes32 commitment) external;
    function revealUpdate(
        uint256 task,
        uint32 round,
        IFedLedger.ContentRef calldata update,
        bytes32 salt,
        bytes32[] calldata proof
    ) external;
    function proposeRound(
        uint256 task,
        uint32 round,
        IFedLedger.Proposal calldata proposal,
        uint256[] calldata verdictWords,
        uint256[] calldata shareWords,
        IFedLedger.Updates calldata updates
    ) external payable;
    function settleRound(
        uint256 task,
        uint32 round,
        IFedLedger.Proposal calldata proposal,
        uint256[] calldata verdictWords,
        uint256[] calldata shareWords
    ) external;
    function commitmentOf(
        uint256 task,
        uint32 round,
        address sender,
        bytes32 base,
        IFedLedger.ContentRef calldata update,
        bytes32 salt
    ) external view returns (bytes32);
    function evidence(address publisher, uint32 id) external view returns (uint256, uint256, uint256);
    function protocolVersion() external view returns (uint256);
}

/// @notice Reputations that come over from the version before.
contract MigrationTest is CourtFixture {
    ILedgerV2 private _before;

    function setUp() public {
        setUpLedger();
        _before = ILedgerV2(_deployBefore());
        _roundBefore();
        IFedLedger.Settings memory s = settings();
        s.predecessor = address(_before);
        use(deploy(s));
        // In another order than before: the owner is what counts.
        for (uint256 i = 4; i > 0; --i) {
            vm.deal(owner(i - 1), STAKE);
            agree(signer(i - 1), owner(i - 1));
            vm.prank(owner(i - 1));
            accounts.register{value: STAKE}(signer(i - 1), payout(i - 1), STAKE);
        }
    }

    function test_adopt_takesTheRecordOfTheSameOwner() public {
        eq(_before.protocolVersion(), 2, "version");
        vm.expectEmit(address(ledger));
        emit IFedLedger.EvidenceAdopted(PUBLISHER, 3, 0, 240);
        _adopt(PUBLISHER, 3);
        _adopt(PUBLISHER, 2);
        _adopt(PUBLISHER, 1);
        for (uint32 i = 0; i < 3; ++i) {
            (uint256 positive, uint256 negative, uint256 missed) = _before.evidence(PUBLISHER, i);
            (uint256 p, uint256 n, uint256 m) = opinions.evidence(PUBLISHER, 3 - i);
            eq(p, positive, "positive");
            eq(n, negative, "negative");
            eq(m, missed, "missed");
        }
        eq(opinions.evidenceWord(PUBLISHER, 0), (240 << 96) | (240 << 76) | (15 << 56), "word");
        eq(opinions.reputation(PUBLISHER, 3) > 500_000 ? 1 : 0, 1, "reputation");
    }

    function test_adopt_severalAtOnce() public {
        uint32[] memory ids = new uint32[](3);
        (ids[0], ids[1], ids[2]) = (1, 2, 3);
        vm.prank(PUBLISHER);
        accounts.adoptEvidence(ids);
        eq(opinions.evidenceWord(PUBLISHER, 0), (240 << 96) | (240 << 76) | (15 << 56), "word");
    }

    function test_adopt_twice_isRefused() public {
        _adopt(PUBLISHER, 3);
        uint32[] memory ids = new uint32[](1);
        ids[0] = 3;
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.EvidenceKnown.selector, PUBLISHER, 3));
        accounts.adoptEvidence(ids);
    }

    function test_adopt_overOwnEvidence_isRefused() public {
        IFedLedger.TaskParams memory p = defaults(4);
        uint256 task = post(p);
        enrol(task, 4);
        proposeNext(task, 1, 1);
        pass(5);
        settle(task, 1, accepted(4, 1));
        uint32[] memory ids = new uint32[](1);
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.EvidenceKnown.selector, PUBLISHER, 0));
        accounts.adoptEvidence(ids);
    }

    /// @dev Each publisher takes over what it knew itself.
    function test_adopt_byAnotherPublisher_findsNothing() public {
        _adopt(OUTSIDER, 3);
        eq(opinions.evidenceWord(OUTSIDER, 0), 0, "evidence");
        eq(opinions.evidenceWord(PUBLISHER, 0), 0, "another's evidence");
    }

    function test_adopt_unknownHereOrBefore_isRefused() public {
        uint32[] memory ids = new uint32[](1);
        ids[0] = 9;
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.UnknownParticipant.selector, 9));
        accounts.adoptEvidence(ids);
        ids[0] = 0;
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.NotRegistered.selector, owner(3)));
        accounts.adoptEvidence(ids);
    }

    function test_adopt_withoutPredecessor_isRefused() public {
        use(deploy(settings()));
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.NoPredecessor.selector));
        accounts.adoptEvidence(new uint32[](1));
    }

    /// @dev This version answers the next one's questions, too.
    function test_adopt_fromThisVersion_works() public {
        _adopt(PUBLISHER, 3);
        IFedLedger.Settings memory s = settings();
        s.predecessor = address(ledger);
        use(deploy(s));
        vm.deal(owner(0), STAKE);
        agree(signer(0), owner(0));
        vm.prank(owner(0));
        accounts.register{value: STAKE}(signer(0), payout(0), STAKE);
        _adopt(PUBLISHER, 0);
        eq(opinions.evidenceWord(PUBLISHER, 0), 240, "evidence");
    }

    function _adopt(address publisher, uint32 id) private {
        uint32[] memory ids = new uint32[](1);
        ids[0] = id;
        vm.prank(publisher);
        accounts.adoptEvidence(ids);
    }

    function _deployBefore() private returns (address) {
        string memory artifact = vm.readFile("contracts/fedledger/contracts/artifacts/v2/FedLedger.json");
        return create(vm.parseJsonBytes(artifact, ".bytecode"), abi.encode(STAKE, EXIT_DELAY));
    }

    /// @dev Three of the four register before; 0 is accepted, 1 refused, 2 missing.
    function _roundBefore() private {
        ILedgerV2.Params memory p = _params();
        uint256 value = uint256(p.rounds) * p.unitsPerRound * p.creditUnit;
        vm.prank(PUBLISHER);
        uint256 task = _before.postTask{value: value}(p);
        for (uint256 i = 0; i < 3; ++i) {
            vm.deal(owner(i), STAKE);
            vm.prank(owner(i));
            _before.register{value: STAKE}(signer(i), payout(i));
            vm.prank(signer(i));
            _before.enrol(task);
        }
        (uint32[] memory indices, uint256[] memory words) = selection(0, 7);
        vm.prank(AGGREGATOR);
        _before.openRound(task, indices, words);
        for (uint256 i = 0; i < 2; ++i) {
            bytes32 value_ = _before.commitmentOf(task, 1, signer(i), MODEL, update(i), SALT);
            vm.prank(signer(i));
            _before.commitUpdate(task, 1, value_);
        }
        pass(10);
        for (uint256 i = 0; i < 2; ++i) {
            vm.prank(signer(i));
            _before.revealUpdate(task, 1, update(i), SALT, NO_PROOF);
        }
        Outcome memory o = outcome(verdicts(1, 16, 2, 0), new uint256[](4));
        vm.prank(AGGREGATOR);
        _before.proposeRound{value: BOND}(task, 1, o.proposal, o.verdictWords, o.shareWords, NO_UPDATES);
        pass(5);
        _before.settleRound(task, 1, o.proposal, o.verdictWords, o.shareWords);
    }

    function _params() private pure returns (ILedgerV2.Params memory p) {
        (p.spec, p.model) = (IFedLedger.ContentRef(keccak256("spec"), 100), IFedLedger.ContentRef(MODEL, 1000));
        (p.aggregator, p.creditUnit, p.bond, p.rounds) = (AGGREGATOR, 1 gwei, BOND, 3);
        (p.commitPeriod, p.revealPeriod, p.proposePeriod, p.challengeWindow) = (10, 10, 10, 5);
        (p.unitsPerRound, p.quorum, p.maxParticipants, p.maxUnfinal) = (1000, 2, 3, 1);
        (p.enrolPeriod, p.minParticipants) = (100, 2);
    }
}

/// @notice What a deployment is, and what nobody can do to it.
contract DeploymentTest is CourtFixture {
    function setUp() public {
        setUpCourt(0);
    }

    function test_settings_areThoseOfEveryPart() public {
        bytes32 expected = keccak256(abi.encode(settings()));
        eq(keccak256(abi.encode(ledger.settings())), expected, "rounds");
        address last = create(code("LedgerJuries"), abi.encode(settings()));
        use(last);
        eq(keccak256(abi.encode(juries.settings())), expected, "juries");
        use(create(code("LedgerCourt"), abi.encode(settings(), last)));
        eq(keccak256(abi.encode(court.settings())), expected, "court");
        use(create(code("LedgerOpinions"), abi.encode(settings(), last)));
        eq(keccak256(abi.encode(opinions.settings())), expected, "opinions");
        use(create(code("LedgerAccounts"), abi.encode(settings(), last)));
        eq(keccak256(abi.encode(accounts.settings())), expected, "accounts");
        eq(ledger.protocolVersion(), 5, "version");
    }

    /// @dev From the ledger's address on, each part names the next: so all code behind a ledger can be looked at.
    function test_nextPart_leadsFromPartToPart() public {
        address last = create(code("LedgerJuries"), abi.encode(settings()));
        address fourth = create(code("LedgerCourt"), abi.encode(settings(), last));
        address third = create(code("LedgerOpinions"), abi.encode(settings(), fourth));
        address second = create(code("LedgerAccounts"), abi.encode(settings(), third));
        address first = create(code("FedLedger"), abi.encode(settings(), second));
        eq(uint160(FedLedger(payable(first)).nextPart()), uint160(second), "second");
        eq(uint160(LedgerAccounts(payable(second)).nextPart()), uint160(third), "third");
        eq(uint160(LedgerOpinions(payable(third)).nextPart()), uint160(fourth), "fourth");
        eq(uint160(LedgerCourt(payable(fourth)).nextPart()), uint160(last), "fifth");
    }

    function test_pause_byTheGuardian_refusesNewTasksAndNothingElse() public {
        IFedLedger.TaskParams memory p = defaults(4);
        uint256 task = post(p);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotGuardian.selector, OUTSIDER));
        accounts.setPaused(true);
        vm.expectEmit(address(ledger));
        emit IFedLedger.Paused(true);
        vm.prank(GUARDIAN);
        accounts.setPaused(true);
        eq(accounts.paused() ? 1 : 0, 1, "paused");
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.NewTasksPaused.selector));
        accounts.postTask{value: budget(p)}(p, NO_STANDBYS);
        enrol(task, 4);
        proposeNext(task, 1, 10);
        pass(5);
        settle(task, 1, accepted(4, 10));
        accounts.withdrawCredit(task, 0);
        vm.prank(GUARDIAN);
        accounts.setPaused(false);
        post(p);
        conserved();
    }

    function test_pause_withoutGuardian_isNobodysRight() public {
        IFedLedger.Settings memory s = settings();
        s.guardian = address(0);
        use(deploy(s));
        refused(GUARDIAN, abi.encodeWithSelector(IFedLedger.NotGuardian.selector, GUARDIAN));
        accounts.setPaused(true);
    }

    /// @dev What no part knows is refused, with and without value.
    function testFuzz_unknownCalls_areRefused(bytes4 selector, uint96 value) public {
        uint256 held = address(ledger).balance;
        vm.deal(address(this), value);
        (bool done, bytes memory answer) = address(ledger).call{value: value}(abi.encodePacked(selector, SALT));
        if (done) eq(answer.length > 0 ? 1 : 0, 1, "a view");
        eq(address(ledger).balance, held + (done ? value : 0), "value");
    }

    /// @dev A view that is reached through the parts changes nothing and may be asked statically.
    function test_views_ofEveryPart_mayBeAskedStatically() public view {
        bytes[4] memory calls = [
            abi.encodeCall(ledger.protocolVersion, ()),
            abi.encodeCall(accounts.taskCount, ()),
            abi.encodeCall(court.verifierCount, ()),
            abi.encodeCall(juries.disputeCount, ())
        ];
        for (uint256 i = 0; i < calls.length; ++i) {
            (bool done, bytes memory answer) = address(ledger).staticcall(calls[i]);
            eq(done && answer.length == 32 ? 1 : 0, 1, "answer");
        }
    }

    /// @dev A part that is called at its own address works on its own storage, where there is nothing.
    function test_part_calledDirectly_doesNotTouchTheLedger() public {
        address part = create(code("LedgerAccounts"), abi.encode(settings(), address(court)));
        vm.deal(OUTSIDER, STAKE);
        vm.prank(OUTSIDER);
        (bool done,) = part.call{value: STAKE}(abi.encodeCall(accounts.register, (OUTSIDER, payout(7), STAKE)));
        eq(done ? 1 : 0, 1, "done");
        eq(accounts.participantCount(), WORKERS, "count");
        conserved();
    }
}
