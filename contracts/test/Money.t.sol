// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {LedgerCourt} from "../src/LedgerCourt.sol";
import {CourtFixture} from "./CourtFixture.sol";
import {Vm, vm} from "./Vm.sol";

/// @notice Acts for everybody, in any order, right or wrong: four that train, nine that verify, three aggregators, a
/// challenger, an appellant and an outsider. It keeps the books that the events tell.
contract MoneyHandler is CourtFixture {
    uint256 public constant VERIFIERS = 9;
    uint256 public constant TASKS = 3;
    uint96 private constant PENALTY = 0.1 ether + 1;
    uint96 private constant CHECK_PENALTY = 0.15 ether + 2;

    uint256 public burnt;
    uint256 public settled;
    uint256 public overturned;
    uint256 public upheld;
    uint256 public undecided;
    uint256 public unjudged;
    uint256 public moot;
    uint256 public slashed;
    uint256 public failedChecks;
    uint256 public clearedChecks;
    mapping(address account => uint256) public booked;
    mapping(uint32 participant => uint256) public staked;
    mapping(uint32 participant => uint256) public slashedOf;
    mapping(address account => uint256) public paidIn;
    mapping(address account => uint256) public takenOut;
    mapping(uint256 task => mapping(uint256 place => uint256)) public deposited;
    mapping(uint256 task => mapping(uint256 place => uint256)) public held;
    mapping(uint256 task => mapping(uint32 round => Outcome)) internal _outcomes;
    uint256 private _signers;

    constructor() {
        setUpCourt(VERIFIERS);
        for (uint256 task = 0; task < TASKS; ++task) {
            _postTask(task);
        }
        _book(vm.getRecordedLogs());
        _signers = WORKERS + VERIFIERS;
    }

    function theLedger() external view returns (address) {
        return address(ledger);
    }

    /// @notice Somebody opens the next round, for all or for some.
    function openRound(uint256 task, uint256 seat, uint256 mask) public {
        task = _task(task);
        (uint32[] memory indices, uint256[] memory words) = selection(0, mask & accounts.enrolledWord(task, 0));
        if (mask % 2 == 0) (indices, words) = (new uint32[](0), new uint256[](0));
        _as(_seat(seat), abi.encodeCall(ledger.openRound, (task, accounts.task(task).currentRound + 1, indices, words)));
    }

    function commitSome(uint256 task, uint256 mask) public {
        task = _task(task);
        uint32 round = accounts.task(task).currentRound;
        for (uint32 i = 0; i < WORKERS; ++i) {
            if ((mask >> (2 * i)) & 3 == 0) continue;
            _as(_signer(i), abi.encodeCall(ledger.commitUpdate, (task, round, _commitment(task, round, i))));
        }
    }

    /// @notice The root is of the first two participants, whatever the count says, or sometimes of one of them twice.
    function closeCommits(uint256 task, uint256 seat, uint256 count) public {
        task = _task(task);
        uint32 round = accounts.task(task).currentRound;
        (bytes32 root,,) = _pair(task, round);
        if (count % 8 > 5) root = _node(_leaf(0, keccak256("one")), _leaf(0, keccak256("other")));
        bytes memory data = abi.encodeCall(ledger.closeCommits, (task, round, root, uint16(2 + count % 3), BATCH));
        _as(_seat(seat), data);
    }

    function revealSome(uint256 task, uint256 mask) public {
        task = _task(task);
        uint32 round = accounts.task(task).currentRound;
        (, bytes32[] memory of0, bytes32[] memory of1) = _pair(task, round);
        for (uint32 i = 0; i < WORKERS; ++i) {
            if ((mask >> (2 * i)) & 3 == 0) continue;
            bytes32[] memory proof = i == 0 ? of0 : i == 1 ? of1 : NO_PROOF;
            _as(_signer(i), abi.encodeCall(ledger.revealUpdate, (task, round, update(i), SALT, proof)));
        }
    }

    function propose(uint256 task, uint256 seat, uint256 seed) public {
        task = _task(task);
        uint32 round = accounts.task(task).currentRound;
        Outcome memory o = _judge(task, round, seed);
        IFedLedger.Updates memory u;
        if (accounts.task(task).params.batched) {
            u = updatesOf(_present(o));
            bind(o, u);
        }
        bytes memory data =
            abi.encodeCall(ledger.proposeRound, (task, round, o.proposal, o.verdictWords, o.shareWords, u));
        if (_as(_seat(seat), data)) _outcomes[task][round] = o;
    }

    function settle(uint256 task, uint256 limit) public returns (bool done) {
        task = _task(task);
        uint32 round = accounts.task(task).finalizedRound + 1;
        Outcome memory o = _outcomes[task][round];
        bytes memory data =
            abi.encodeCall(ledger.settleRound, (task, round, o.proposal, o.verdictWords, o.shareWords, limit % 3));
        done = _as(OUTSIDER, data);
        if (accounts.round(task, round).status == IFedLedger.RoundStatus.Settled) ++settled;
    }

    function voidRound(uint256 task) public returns (bool) {
        task = _task(task);
        return _as(OUTSIDER, abi.encodeCall(ledger.voidRound, (task, accounts.task(task).currentRound)));
    }

    function finish(uint256 task, uint256 who) public returns (bool) {
        address by = who % 3 == 0 ? PUBLISHER : who % 3 == 1 ? AGGREGATOR : OUTSIDER;
        return _as(by, abi.encodeCall(accounts.finishTask, (_task(task))));
    }

    function takeSeat(uint256 task, uint256 seat) public {
        _pay(_seat(seat), BOND, abi.encodeCall(accounts.takeSeat, (_task(task))));
    }

    function challengeRound(uint256 task, uint256 back) public {
        task = _task(task);
        uint32 round = _recent(task, back);
        _pay(_challengerOf(task, round), BOND, abi.encodeCall(juries.challengeRound, (task, round)));
    }

    function demand(uint256 task, uint256 back, uint256 who) public {
        task = _task(task);
        uint32 round = _recent(task, back);
        bytes memory data = abi.encodeCall(
            court.demandCommitment, (task, round, uint32(who % WORKERS), posted(_outcomes[task][round]))
        );
        _pay(_challengerOf(task, 0), BOND, data);
    }

    function show(uint256 dispute) public {
        if (juries.disputeCount() == 0) return;
        dispute = dispute % juries.disputeCount();
        IFedLedger.Dispute memory d = juries.disputeRecord(dispute);
        if (d.kind != IFedLedger.DisputeKind.Commitment) return;
        (, bytes32[] memory of0, bytes32[] memory of1) = _pair(d.task, d.round);
        LedgerCourt.Claim memory claim =
            signedAs(d.task, d.round, d.subject, _commitment(d.task, d.round, d.subject), d.subject == 0 ? of0 : of1);
        _as(AGGREGATOR, abi.encodeCall(court.showCommitment, (dispute, claim)));
    }

    function refute(uint256 task, uint256 back, uint256 who) public {
        task = _task(task);
        uint32 round = _recent(task, back);
        LedgerCourt.Claim memory claim;
        claim.commitment = _commitment(task, round, uint32(who % 2));
        (, bytes32[] memory of0, bytes32[] memory of1) = _pair(task, round);
        claim.proof = who % 2 == 0 ? of0 : of1;
        IFedLedger.Posted memory said = posted(_outcomes[task][round]);
        _as(CHALLENGER, abi.encodeCall(court.refuteMissed, (task, round, uint32(who % 2), claim, said)));
    }

    function refuteDuplicate(uint256 task, uint256 back, uint256 by) public {
        task = _task(task);
        LedgerCourt.Claim memory a;
        LedgerCourt.Claim memory b;
        (a.commitment, b.commitment) = (keccak256("one"), keccak256("other"));
        (a.proof, b.proof) = (new bytes32[](1), new bytes32[](1));
        (a.proof[0], b.proof[0]) = (_leaf(0, b.commitment), _leaf(0, a.commitment));
        _as(_seat(by), abi.encodeCall(court.refuteDuplicate, (task, _recent(task, back), 0, a, b)));
    }

    function equivocate(uint256 task, uint256 who, uint32 round) public virtual {
        uint32 id = uint32(who % (WORKERS + VERIFIERS));
        LedgerCourt.Claim memory a = signedAs(_task(task), round % 4, id, keccak256("one"), NO_PROOF);
        LedgerCourt.Claim memory b = signedAs(_task(task), round % 4, id, keccak256("other"), NO_PROOF);
        _as(OUTSIDER, abi.encodeCall(court.reportEquivocation, (_task(task), round % 4, id, a, b)));
    }

    function drawJury(uint256 dispute) public {
        if (juries.disputeCount() == 0) return;
        vm.roll(vm.getBlockNumber() + 1);
        _as(OUTSIDER, abi.encodeCall(juries.drawJury, (dispute % juries.disputeCount())));
    }

    function commitVotes(uint256 dispute, uint256 seed) public {
        if (juries.disputeCount() == 0) return;
        dispute = dispute % juries.disputeCount();
        uint8 l = level(dispute);
        uint32[] memory members = juries.juryOf(dispute, l).members;
        for (uint256 i = 0; i < members.length; ++i) {
            (IFedLedger.Finding finding, bytes32 transcript) = _finding(dispute, members[i], seed);
            bytes32 sealed_ = juries.voteOf(dispute, l, members[i], finding, transcript, SALT);
            if ((seed >> (8 * i)) % 8 != 0) {
                _as(owner(members[i]), abi.encodeCall(juries.commitVote, (dispute, sealed_)));
            }
        }
    }

    function revealVotes(uint256 dispute, uint256 seed) public {
        if (juries.disputeCount() == 0) return;
        dispute = dispute % juries.disputeCount();
        uint32[] memory members = juries.juryOf(dispute, level(dispute)).members;
        for (uint256 i = 0; i < members.length; ++i) {
            (IFedLedger.Finding finding, bytes32 transcript) = _finding(dispute, members[i], seed);
            _as(owner(members[i]), abi.encodeCall(juries.revealVote, (dispute, finding, transcript, SALT)));
        }
    }

    function decide(uint256 dispute) public returns (bool) {
        if (juries.disputeCount() == 0) return false;
        return _as(OUTSIDER, abi.encodeCall(juries.decide, (dispute % juries.disputeCount())));
    }

    function appealTo(uint256 dispute) public {
        if (juries.disputeCount() == 0) return;
        dispute = dispute % juries.disputeCount();
        _pay(APPELLANT, uint256(BOND) << (level(dispute) + 1), abi.encodeCall(juries.appeal, (dispute)));
    }

    function closeDispute(uint256 dispute) public returns (bool done) {
        if (juries.disputeCount() == 0) return false;
        dispute = dispute % juries.disputeCount();
        done = _as(OUTSIDER, abi.encodeCall(juries.closeDispute, (dispute)));
        if (!done) return false;
        IFedLedger.DisputeStatus status = juries.disputeRecord(dispute).status;
        if (status == IFedLedger.DisputeStatus.Overturned) ++overturned;
        else if (status == IFedLedger.DisputeStatus.Upheld) ++upheld;
        else if (status == IFedLedger.DisputeStatus.Undecided) ++undecided;
        else if (status == IFedLedger.DisputeStatus.Unjudged) ++unjudged;
        else ++moot;
    }

    function comeOrGo(uint256 who, uint256 deed) public {
        uint256 i = who % (WORKERS + VERIFIERS);
        if (deed % 6 == 0) _as(owner(i), abi.encodeCall(accounts.requestExit, ()));
        else if (deed % 6 == 1) _as(owner(i), abi.encodeCall(accounts.completeExit, ()));
        else if (deed % 6 == 2) _as(owner(i), abi.encodeCall(accounts.cancelExit, ()));
        else if (deed % 6 == 3) _as(owner(i), abi.encodeCall(court.retire, ()));
        else if (deed % 6 == 4) _as(owner(i), abi.encodeCall(court.enlist, ()));
        else _comeBack(i, deed);
    }

    /// @notice Verifiers say that they serve a task, and say so no more; anybody takes out who serves no more.
    function serveOrNot(uint256 task, uint256 who, uint256 deed) public {
        task = _task(task);
        uint256 i = who % (WORKERS + VERIFIERS);
        uint32[] memory ids = new uint32[](1);
        ids[0] = uint32(i);
        if (deed % 4 == 0) _as(owner(i), abi.encodeCall(court.quit, (task)));
        else if (deed % 4 == 1) _as(OUTSIDER, abi.encodeCall(court.strike, (task, ids)));
        else _as(owner(i), abi.encodeCall(court.serve, (task)));
    }

    function withdraw(uint256 who) public {
        address[7] memory all = [PUBLISHER, AGGREGATOR, OUTSIDER, CHALLENGER, APPELLANT, STANDBY, RESERVE];
        address account = who % 2 == 0 ? all[who / 2 % 7] : owner(who / 2 % (WORKERS + VERIFIERS));
        if (who % 32 == 30) account = auditor(who / 32 % AUDITORS);
        _as(account, abi.encodeCall(accounts.withdraw, (COIN, account)));
    }

    function withdrawCredit(uint256 task, uint256 who) public {
        _as(OUTSIDER, abi.encodeCall(accounts.withdrawCredit, (_task(task), uint32(who % WORKERS))));
    }

    /// @notice The next step of the check of an update, whatever that is, or its end.
    function checkUpdate(uint256 task, uint256 back, uint256 who, uint256 seed) public {
        task = _task(task);
        (uint32 round, uint32 id) = (_recent(task, back), uint32(who % WORKERS));
        (IFedLedger.CheckState state, uint256 place) = court.checkOf(task, round, id);
        IFedLedger.ContentRef memory box = update(id);
        if (state == IFedLedger.CheckState.None) {
            IFedLedger.Posted memory said = posted(_outcomes[task][round]);
            _as(OUTSIDER, abi.encodeCall(court.summon, (task, round, _one(id), said)));
        } else if (seed % 8 == 0) {
            endCheck(task - 1, round, id);
        } else if (state == IFedLedger.CheckState.Summoned) {
            _as(_signer(id), abi.encodeCall(court.answerCheck, (task, round, box, SALT, SALT)));
        } else if (state == IFedLedger.CheckState.Answered || state == IFedLedger.CheckState.Appealed) {
            _find(task, round, id, place, seed % 3 == 0);
        } else if (state == IFedLedger.CheckState.Failed) {
            uint256 bond = court.appealBond(CHECK_PENALTY);
            _pay(owner(id), bond, abi.encodeCall(court.appealCheck, (task, round, box, SALT, SALT)));
        } else {
            endCheck(task - 1, round, id);
        }
    }

    function endCheck(uint256 task, uint32 round, uint32 id) public {
        task = _task(task);
        (IFedLedger.CheckState before,) = court.checkOf(task, round, id);
        if (!_as(OUTSIDER, abi.encodeCall(court.endChecks, (task, round, _one(id), _auditors())))) return;
        (IFedLedger.CheckState state,) = court.checkOf(task, round, id);
        if (state == IFedLedger.CheckState.Ended) ++failedChecks;
        else if (before == IFedLedger.CheckState.Cleared) ++clearedChecks;
    }

    function wait_(uint256 duration) public {
        nextBlock();
        pass(bound(duration, 1, 25));
    }

    /// @notice Everybody does as the protocol asks, so that deep states are reached.
    function wholeRound(uint256 task, uint256 seed) public {
        if (ledger.phase(_task(task)) == IFedLedger.Phase.Enrolling) pass(100);
        takeSeat(task, 0);
        openRound(task, 0, 0);
        if (accounts.task(_task(task)).params.batched) {
            pass(10);
            closeCommits(task, 0, 0);
            commitSome(task, 0xf0);
            pass(GRACE);
            revealSome(task, seed);
        } else {
            commitSome(task, 0xff);
            revealSome(task, seed | 0xf);
        }
        pass(10);
        propose(task, 0, seed >> 8);
    }

    /// @notice Checks of a round's updates, as far as they go without waiting.
    function wholeChecks(uint256 task, uint256 seed) public {
        nextBlock();
        for (uint256 k = 0; k < 5 * WORKERS; ++k) {
            checkUpdate(task, 0, k, uint256(keccak256(abi.encode(seed, k))));
        }
    }

    /// @notice A dispute from the challenge to the last word.
    function wholeDispute(uint256 task, uint256 seed) public {
        challengeRound(task, 0);
        if (juries.disputeCount() == 0) return;
        uint256 dispute = juries.disputeCount() - 1;
        for (uint256 l = 0; l < 3; ++l) {
            drawJury(dispute);
            commitVotes(dispute, seed >> l);
            pass(DISPUTE);
            revealVotes(dispute, seed >> l);
            pass(DISPUTE);
            decide(dispute);
            if ((seed >> l) & 1 != 0) appealTo(dispute);
        }
        pass(DISPUTE);
        closeDispute(dispute);
    }

    /// @notice The outsider pushes on whatever is due, and says whether anything was.
    function push(uint256 task) external returns (bool done) {
        for (uint256 dispute = 0; dispute < juries.disputeCount(); ++dispute) {
            if (juries.disputeRecord(dispute).status != IFedLedger.DisputeStatus.Open) continue;
            if (closeDispute(dispute) || decide(dispute)) done = true;
        }
        if (settle(task, 2) || voidRound(task) || finish(task, 2)) done = true;
    }

    /// @notice Every wei has one owner, or none for ever.
    function checkMoney() external view {
        conservedBut(burnt);
    }

    function _postTask(uint256 seed) private {
        IFedLedger.TaskParams memory p = seed % 2 == 0 ? defaults(uint16(WORKERS)) : batched(uint16(WORKERS));
        (p.maxUnfinal, p.challengeWindow, p.penalty, p.minStake) = (uint8(1 + seed % 3), 20, PENALTY, STAKE);
        (p.checkRate, p.checkPeriod, p.checkPenalty) = (1_000_000, 5, CHECK_PENALTY);
        (p.auditorCount, p.auditors) = (uint8(AUDITORS), keccak256(abi.encode(_auditors())));
        address[] memory standbys = new address[](2);
        (standbys[0], standbys[1]) = (STANDBY, RESERVE);
        enrol(post(p, standbys), WORKERS);
    }

    function _find(uint256 task, uint32 round, uint32 id, uint256 place, bool passes) private {
        IFedLedger.Findings[] memory found = new IFedLedger.Findings[](1);
        found[0].round = round;
        if (passes) (found[0].passed, found[0].transcripts) = (_one(id), new bytes32[](1));
        else found[0].failed = _one(id);
        address[] memory all = _auditors();
        IFedLedger.Findings[] memory none = new IFedLedger.Findings[](0);
        bytes32 value = keccak256(abi.encode(task, place, found, SALT));
        _as(auditor(place), abi.encodeCall(court.postFindings, (task, all, place, none, 0, value)));
        _as(auditor(place), abi.encodeCall(court.postFindings, (task, all, place, found, SALT, 0)));
    }

    function _auditors() private pure returns (address[] memory all) {
        all = new address[](AUDITORS);
        for (uint256 place = 0; place < AUDITORS; ++place) {
            all[place] = auditor(place);
        }
    }

    function _one(uint32 id) private pure returns (uint32[] memory ids) {
        ids = new uint32[](1);
        ids[0] = id;
    }

    /// @dev What the ledger saw, and by chance what it did not see.
    function _judge(uint256 task, uint32 round, uint256 seed) private view returns (Outcome memory) {
        (uint256[] memory judged, uint256[] memory shares) = (new uint256[](WORKERS), new uint256[](WORKERS));
        for (uint32 i = 0; i < WORKERS; ++i) {
            uint256 bit = 1 << i;
            if (accounts.selectedWord(task, round, 0) & bit == 0) continue;
            bool revealed = accounts.revealedWord(task, round, 0) & bit != 0;
            uint256 way = (seed >> (8 * i)) % 8;
            if (revealed || (accounts.task(task).params.batched && way > 2)) judged[i] = way == 3 ? 16 : 1;
            else judged[i] = accounts.hasCommitted(task, round, i) || way == 1 ? 3 : 2;
            if (judged[i] == 1) shares[i] = (seed >> 64) % 200;
        }
        Outcome memory o = outcome(judged, shares);
        if (_present(o) >= accounts.task(task).params.quorum) return o;
        o = outcome(judged, new uint256[](WORKERS));
        o.proposal.model.digest = accounts.baseModel(task, round);
        return o;
    }

    function _present(Outcome memory o) private pure returns (uint256 count) {
        for (uint256 i = 0; i < WORKERS; ++i) {
            uint256 verdict = (o.verdictWords[0] >> (8 * i)) & 0xff;
            if (verdict == 1 || verdict >= 16) ++count;
        }
    }

    function _finding(uint256 dispute, uint32 juror, uint256 seed)
        internal
        view
        virtual
        returns (IFedLedger.Finding, bytes32)
    {
        uint256 way = uint256(keccak256(abi.encode(dispute, juror, seed))) % 16;
        if (way < (seed % 4 == 0 ? 12 : 2)) return (IFedLedger.Finding.Unable, 0);
        return (valid(way > 5), atLevel(way == 2 || way == 15 ? OTHER : TRANSCRIPT, level(dispute)));
    }

    /// @dev Who disputes a round; none: makes demands.
    function _challengerOf(uint256, uint32) internal view virtual returns (address) {
        return CHALLENGER;
    }

    function _leaf(uint32 i, bytes32 commitment_) private pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(i, commitment_))));
    }

    function _node(bytes32 a, bytes32 b) private pure returns (bytes32) {
        return a < b ? keccak256(bytes.concat(a, b)) : keccak256(bytes.concat(b, a));
    }

    /// @dev A signer that nobody had before.
    function _fresh(uint256 i) private returns (address next) {
        next = vm.addr(key(_signers++));
        agree(next, owner(i));
    }

    function _comeBack(uint256 i, uint256 deed) private {
        if (deed % 4 == 0) {
            _as(owner(i), abi.encodeCall(accounts.rotateSigner, (_fresh(i))));
        } else if (accounts.participant(uint32(i)).registeredAt == 0) {
            bytes memory data = abi.encodeCall(accounts.register, (_fresh(i), payout(i), STAKE));
            _pay(owner(i), STAKE, data);
        } else {
            _pay(owner(i), 0.5 ether, abi.encodeCall(accounts.addStake, (0.5 ether)));
        }
    }

    function _commitment(uint256 task, uint32 round, uint32 i) private view returns (bytes32) {
        return ledger.commitmentOf(task, round, _signer(i), accounts.baseModel(task, round), update(i), SALT);
    }

    function _pair(uint256 task, uint32 round)
        private
        view
        returns (bytes32 root, bytes32[] memory of0, bytes32[] memory of1)
    {
        (bytes32 a, bytes32 b) = (_leaf(0, _commitment(task, round, 0)), _leaf(1, _commitment(task, round, 1)));
        root = _node(a, b);
        (of0, of1) = (new bytes32[](1), new bytes32[](1));
        (of0[0], of1[0]) = (b, a);
    }

    function _signer(uint32 i) private view returns (address) {
        return accounts.participant(i).signer;
    }

    function _recent(uint256 task, uint256 back) private view returns (uint32) {
        uint32 current = accounts.task(task).currentRound;
        return current - uint32(back % 3 < current ? back % 3 : 0);
    }

    function _seat(uint256 seat) private pure returns (address) {
        return seat % 4 == 1 ? STANDBY : seat % 4 == 2 ? RESERVE : AGGREGATOR;
    }

    function _task(uint256 task) private pure returns (uint256) {
        return 1 + task % TASKS;
    }

    function _pay(address sender, uint256 value, bytes memory data) internal {
        vm.deal(sender, sender.balance + value);
        if (_call(sender, value, data)) paidIn[sender] += value;
    }

    function _as(address sender, bytes memory data) internal returns (bool) {
        return _call(sender, 0, data);
    }

    /// @dev A call that is refused leaves nothing in the books, whatever it emitted before.
    function _call(address sender, uint256 value, bytes memory data) private returns (bool done) {
        vm.recordLogs();
        vm.prank(sender, sender);
        (done,) = address(ledger).call{value: value}(data);
        if (done) _book(vm.getRecordedLogs());
    }

    function _book(Vm.Log[] memory logs) private {
        for (uint256 i = 0; i < logs.length; ++i) {
            bytes32 kind = logs[i].topics[0];
            if (kind == IFedLedger.Burned.selector) burnt += abi.decode(logs[i].data, (uint256));
            else if (kind == IFedLedger.TaskFinished.selector) _bookFinish(uint256(logs[i].topics[1]));
            else if (logs[i].topics.length > 1) _bookAccount(kind, logs[i]);
        }
    }

    function _bookAccount(bytes32 kind, Vm.Log memory log) private {
        address account = address(uint160(uint256(log.topics[1])));
        uint32 id = uint32(uint256(log.topics[1]));
        if (kind == IFedLedger.Deposited.selector || kind == IFedLedger.BalanceCredited.selector) {
            booked[account] += abi.decode(log.data, (uint256));
        } else if (kind == IFedLedger.BalanceDebited.selector) {
            booked[account] -= abi.decode(log.data, (uint256));
        } else if (kind == IFedLedger.Withdrawn.selector) {
            (, uint256 amount) = abi.decode(log.data, (address, uint256));
            booked[account] -= amount;
            takenOut[account] += amount;
        } else if (kind == IFedLedger.StakeAdded.selector) {
            (uint256 amount,) = abi.decode(log.data, (uint256, uint256));
            staked[id] += amount;
        } else if (kind == IFedLedger.ExitCompleted.selector) {
            staked[id] -= abi.decode(log.data, (uint256));
        } else if (kind == IFedLedger.Slashed.selector) {
            (,, uint256 amount) = abi.decode(log.data, (uint32, uint8, uint256));
            staked[id] -= amount;
            slashedOf[id] += amount;
            if (amount != 0) ++slashed;
        } else {
            _bookSeat(kind, uint256(log.topics[1]), log.data);
        }
    }

    function _bookSeat(bytes32 kind, uint256 task, bytes memory data) private {
        if (kind == IFedLedger.SeatTaken.selector) {
            (uint256 place,, uint256 deposit) = abi.decode(data, (uint256, address, uint256));
            deposited[task][place] = deposit;
        } else if (kind == IFedLedger.SeatCharged.selector) {
            (uint256 place,, uint256 amount) = abi.decode(data, (uint256, address, uint256));
            // The event does not tell of which part; what is held is lost at once.
            if (held[task][place] > juries.heldOf(task, place).amount) held[task][place] -= amount;
            else deposited[task][place] -= amount;
        } else if (kind == IFedLedger.DepositHeld.selector) {
            (uint256 place, uint256 amount) = abi.decode(data, (uint256, uint256));
            deposited[task][place] -= amount;
            held[task][place] += amount;
        } else if (kind == IFedLedger.DepositReturned.selector) {
            (uint256 place, uint256 amount) = abi.decode(data, (uint256, uint256));
            held[task][place] -= amount;
            // To the seat, unless it holds another one or the task is over: then to the holder.
            if (accounts.seats(task)[place].deposit > deposited[task][place]) deposited[task][place] += amount;
        }
    }

    function _bookFinish(uint256 task) private {
        for (uint256 place = 0; place < 3; ++place) {
            deposited[task][place] = 0;
        }
    }
}

contract MoneyTest is CourtFixture {
    MoneyHandler private _handler;

    function setUp() public {
        _handler = new MoneyHandler();
        use(_handler.theLedger());
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    /// forge-config: default.invariant.fail-on-revert = true
    /// @dev One invariant, so that one campaign checks it all.
    function invariant_money_isConservedAndToldByTheEvents() public view {
        _handler.checkMoney();
        _checkBooks();
        _checkSeats();
        _checkDisputes();
    }

    /// @dev Whoever reads the events alone knows every balance and every stake.
    function _checkBooks() private view {
        address[7] memory all = [PUBLISHER, AGGREGATOR, OUTSIDER, CHALLENGER, APPELLANT, STANDBY, RESERVE];
        for (uint256 i = 0; i < all.length; ++i) {
            eq(free(all[i]), _handler.booked(all[i]), "balance");
        }
        for (uint256 i = 0; i < AUDITORS; ++i) {
            eq(free(auditor(i)), _handler.booked(auditor(i)), "auditor's balance");
        }
        for (uint32 i = 0; i < accounts.participantCount(); ++i) {
            eq(free(owner(i)), _handler.booked(owner(i)), "owner's balance");
            eq(stakeOf(i), _handler.staked(i), "stake");
        }
    }

    function _checkSeats() private view {
        for (uint256 task = 1; task <= accounts.taskCount(); ++task) {
            IFedLedger.Seat[] memory seats = accounts.seats(task);
            for (uint256 place = 0; place < seats.length; ++place) {
                eq(seats[place].deposit, _handler.deposited(task, place), "deposit");
                eq(juries.heldOf(task, place).amount, _handler.held(task, place), "held");
                eq(seats[place].deposit > BOND ? 1 : 0, 0, "no more than the bond");
            }
            IFedLedger.Task memory t = accounts.task(task);
            eq(t.currentRound - t.finalizedRound > t.params.maxUnfinal ? 1 : 0, 0, "unfinal rounds");
            eq(t.spentUnits > uint256(t.settledRounds + 1) * t.params.unitsPerRound ? 1 : 0, 0, "spent units");
        }
    }

    /// @dev A round counts the disputes that are open, and a juror is locked by those it sits on.
    function _checkDisputes() private view {
        uint256 count = juries.disputeCount();
        uint256[] memory locks = new uint256[](accounts.participantCount());
        uint256 open_ = 0;
        for (uint256 id = 0; id < count; ++id) {
            IFedLedger.Dispute memory d = juries.disputeRecord(id);
            if (d.status != IFedLedger.DisputeStatus.Open) continue;
            ++open_;
            for (uint8 l = 0; l <= d.level; ++l) {
                uint32[] memory members = juries.juryOf(id, l).members;
                for (uint256 i = 0; i < members.length; ++i) {
                    ++locks[members[i]];
                }
            }
        }
        for (uint32 i = 0; i < locks.length; ++i) {
            eq(accounts.participant(i).locks, locks[i], "locks");
        }
        eq(_openDisputes(), open_, "disputes");
    }

    function _openDisputes() private view returns (uint256 sum) {
        for (uint256 task = 1; task <= accounts.taskCount(); ++task) {
            uint32 rounds = accounts.task(task).currentRound;
            for (uint32 round = 1; round <= rounds; ++round) {
                sum += accounts.round(task, round).disputes;
            }
        }
    }

    /// @dev From wherever the run ended, an outsider and the clock alone end every dispute and every task, and everybody
    /// leaves with what is its own.
    function afterInvariant() public {
        for (uint256 task = 0; task < _handler.TASKS(); ++task) {
            for (uint256 step = 0; ledger.phase(task + 1) != IFedLedger.Phase.Finished; ++step) {
                eq(step > 40 ? 1 : 0, 0, "steps to the end");
                pass(61);
                _handler.push(task);
            }
            for (uint256 i = 0; i < WORKERS; ++i) {
                _handler.withdrawCredit(task, i);
            }
        }
        for (uint256 step = 0; _openDisputes() != 0; ++step) {
            eq(step > 12 ? 1 : 0, 0, "steps to the last dispute");
            pass(61);
            _handler.push(0);
        }
        _endChecks();
        for (uint256 i = 0; i < accounts.participantCount(); ++i) {
            _handler.comeOrGo(i, 0);
        }
        pass(EXIT_DELAY);
        for (uint256 i = 0; i < accounts.participantCount(); ++i) {
            _handler.comeOrGo(i, 1);
            _handler.withdraw(2 * i + 1);
        }
        for (uint256 i = 0; i < 7; ++i) {
            _handler.withdraw(2 * i);
        }
        for (uint256 i = 0; i < AUDITORS; ++i) {
            _handler.withdraw(32 * i + 30);
        }
        _handler.checkMoney();
        eq(address(ledger).balance, _handler.burnt(), "only what was burned is left");
    }

    function _endChecks() private {
        for (uint256 task = 1; task <= accounts.taskCount(); ++task) {
            for (uint32 round = 1; round <= accounts.task(task).currentRound; ++round) {
                for (uint32 i = 0; i < WORKERS; ++i) {
                    _handler.endCheck(task - 1, round, i);
                }
            }
        }
    }

    /// @dev The handler reaches all kinds of ends; without them the invariant would say little.
    function test_handler_reachesEveryEnd() public {
        for (uint256 i = 0; i < 40; ++i) {
            uint256 seed = uint256(keccak256(abi.encode(i)));
            _handler.wholeRound(i, seed | 0xff);
            _handler.wholeChecks(i, seed);
            if (i % 3 == 1) _handler.demand(i, 0, seed % 2);
            if (i % 2 == 0) _handler.wholeDispute(i, seed >> 100);
            _handler.show(seed);
            pass(25);
            for (uint256 step = 0; step < 4; ++step) {
                _handler.push(i);
            }
            _handler.wholeChecks(i, seed >> 7);
            _handler.comeOrGo(4 + i, 5 + 6 * (i % 2));
            _handler.serveOrNot(i, 4 + i, i);
            invariant_money_isConservedAndToldByTheEvents();
        }
        eq(_handler.settled() > 0 ? 1 : 0, 1, "settled");
        eq(_handler.overturned() > 0 ? 1 : 0, 1, "overturned");
        eq(_handler.upheld() > 0 ? 1 : 0, 1, "upheld");
        eq(_handler.undecided() > 0 ? 1 : 0, 1, "undecided");
        eq(_handler.unjudged() > 0 ? 1 : 0, 1, "unjudged");
        eq(_handler.slashed() > 0 ? 1 : 0, 1, "slashed");
        eq(_handler.failedChecks() > 0 ? 1 : 0, 1, "failed checks");
        eq(_handler.clearedChecks() > 0 ? 1 : 0, 1, "cleared checks");
        afterInvariant();
    }
}
