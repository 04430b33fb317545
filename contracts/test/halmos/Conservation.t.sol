// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Evidence, Verdicts} from "../../src/Evidence.sol";
import {CurrencyLibrary} from "../../src/Currency.sol";
import {Lanes} from "../../src/Lanes.sol";
import {LedgerCourt} from "../../src/LedgerCourt.sol";
import {LedgerJuries} from "../../src/LedgerJuries.sol";
import {Offences} from "../../src/Offences.sol";
import {vm} from "../Vm.sol";

/// @notice What `make prove` proves for every input, not for samples of them: each `check_` function holds whatever its
/// arguments are.
contract LanesProof {
    uint256 private constant LANE = type(uint32).max;

    /// @dev In the order in which the ledger adds: solvers cannot reorder sums.
    function check_sum_isThatOfTheLanes(uint256 lanes) public pure {
        uint256[4] memory pairs;
        for (uint256 i = 0; i < 4; ++i) {
            pairs[i] = ((lanes >> (64 * i)) & LANE) + ((lanes >> (64 * i + 32)) & LANE);
        }
        assert(Lanes.sum(lanes) == (pairs[0] + pairs[2]) + (pairs[1] + pairs[3]));
    }

    /// @dev Credits of a slot are added as one word: no lane carries into its neighbour as long as its own sum fits.
    function check_addition_staysInItsLane(uint256 credits, uint256 shares, uint256 lane) public pure {
        lane %= 8;
        for (uint256 i = 0; i < 8; ++i) {
            vm.assume(((credits >> (32 * i)) & LANE) + ((shares >> (32 * i)) & LANE) <= LANE);
        }
        uint256 sum;
        unchecked {
            sum = credits + shares;
        }
        assert((sum >> (32 * lane)) & LANE == ((credits >> (32 * lane)) & LANE) + ((shares >> (32 * lane)) & LANE));
    }

    function check_spread_isEachBit(uint8 bits, uint8 lane) public pure {
        lane %= 8;
        assert((Lanes.spread(bits) >> (8 * lane)) & 0xff == (bits >> lane) & 1);
        assert(Lanes.spread(bits) >> 64 == 0);
    }

    function check_equal_isThatOfEachByte(uint64 bytes_, uint8 value, uint8 lane) public pure {
        lane %= 8;
        uint256 byte_ = (uint256(bytes_) >> (8 * lane)) & 0xff;
        assert((Lanes.equal(bytes_, value) >> (8 * lane)) & 0xff == (byte_ == value ? 1 : 0));
    }

    function check_widen_isEachFlag(uint8 bits, uint8 lane) public pure {
        lane %= 8;
        uint256 widened = (Lanes.widen(Lanes.spread(bits)) >> (32 * uint256(lane))) & LANE;
        assert(widened == ((bits >> lane) & 1 == 1 ? LANE : 0));
    }

    function check_atLeastSixteen_isThatOfEachByte(uint64 bytes_, uint8 lane) public pure {
        lane %= 8;
        uint256 byte_ = (uint256(bytes_) >> (8 * lane)) & 0xff;
        assert((Lanes.atLeastSixteen(bytes_) >> (8 * lane)) & 0xff == (byte_ >= 16 ? 1 : 0));
    }

    function check_count_isThatOfTheFlags(uint8 bits) public pure {
        uint256 set;
        for (uint256 i = 0; i < 8; ++i) {
            set += (bits >> i) & 1;
        }
        assert(Lanes.count(Lanes.spread(bits)) == set);
    }

    /// @dev With `check_popcount_ofNothing` this is the number of set bits, by induction. It takes most of the time.
    function check_popcount_isOneMoreThanWithoutTheLowestBit(uint256 word) public pure {
        vm.assume(word != 0);
        assert(Lanes.popcount(word) == Lanes.popcount(word & (word - 1)) + 1);
    }

    function check_popcount_ofNothing() public pure {
        assert(Lanes.popcount(0) == 0);
    }
}

contract EvidenceProof {
    /// @dev Eight lanes at once are judged as each of them alone.
    function check_afterAcceptance_isThatOfEachLane(uint256 lanes, uint256 lane) public pure {
        lane = 32 * (lane % 8);
        uint256 before = (lanes >> lane) & type(uint32).max;
        uint256 next = (Evidence.afterAcceptance(lanes) >> lane) & type(uint32).max;
        assert(next == Evidence.afterVerdict(before, Verdicts.ACCEPTED));
    }

    function check_afterVerdict_fitsItsLane(uint32 lane, uint8 verdict) public pure {
        vm.assume(verdict != 0);
        assert(Evidence.afterVerdict(lane, verdict) <= type(uint32).max);
    }

    /// @dev A bid is no evidence, whatever is known of who made it.
    function check_afterVerdict_heard_changesNothing(uint32 lane) public pure {
        assert(Evidence.afterVerdict(lane, Verdicts.HEARD) == lane);
    }
}

contract OffencesProof {
    /// @dev No share costs more than all. That lesser ones round up, solvers cannot tell: they would have to divide by a
    /// million. `Penalties.t.sol` and the mirror in Python try it.
    function check_part_all_isAll(uint96 penalty, uint256 share) public pure {
        vm.assume(share >= Evidence.PPM);
        assert(Offences.part(penalty, share) == penalty && Offences.equivocation(penalty) == penalty);
    }

    /// @dev Whatever is remembered of a participant, none of the free refusals costs anything.
    function check_repeatedRefusal_freeOnesAreFree(uint96 penalty, uint24 share, uint8 free, uint32 lane) public pure {
        (, uint256 negative,) = Evidence.unpack(lane);
        vm.assume(negative < Evidence.UNIT * (uint256(free) + 1));
        assert(Offences.repeatedRefusal(penalty, share, free, negative) == 0);
    }
}

/// @notice A seal's deposit goes to the publisher or to nobody, whole and once; see `MoneyProof` on how storage is filled.
contract SealProof is LedgerCourt {
    address private constant PUBLISHER = address(0xB);

    constructor() LedgerCourt(_settings(), address(0)) {}

    function check_openSeal_returnsTheDeposit(uint256 task_, uint96 deposit, bytes32 key, bool forfeited) public {
        this.fill(task_, deposit, key, forfeited);
        this.openSeal(task_, key);
        assert(this.free(PUBLISHER) == deposit);
        assert(_seals[task_].deposit == 0 && _seals[task_].opened);
    }

    function check_openSeal_takesNoOtherKey(uint256 task_, uint96 deposit, bytes32 key, bytes32 other) public {
        vm.assume(key != other);
        this.fill(task_, deposit, key, false);
        (bool done,) = address(this).call(abi.encodeCall(this.openSeal, (task_, other)));
        assert(!done && this.free(PUBLISHER) == 0 && _seals[task_].deposit == deposit);
    }

    function check_forfeitSeal_returnsNothing(uint256 task_, uint96 deposit, bytes32 key) public {
        this.fill(task_, deposit, key, false);
        this.forfeitSeal(task_);
        assert(this.free(PUBLISHER) == 0);
        assert(_seals[task_].deposit == 0 && _seals[task_].forfeited);
    }

    function free(address account) external view returns (uint256) {
        return _balances[CurrencyLibrary.COIN][account];
    }

    /// @dev A finished task whose seal's period is over.
    function fill(uint256 task_, uint96 deposit, bytes32 key, bool forfeited) external {
        Task storage t = _tasks[task_];
        (t.publisher, t.finished, t.params.seal) = (PUBLISHER, true, keccak256(abi.encode(key)));
        _seals[task_] = Seal(deposit, false, forfeited);
    }

    function _settings() private pure returns (Settings memory s) {
        (s.minStake, s.disputePeriod, s.jurySize, s.leastPool) = (1, 1, 3, 3);
    }
}

/// @notice The ledger's own code on a storage that the proofs fill.
/// @dev Halmos takes a slot that the compiler computed for another one than the same slot computed at run time. So nothing
/// here reaches into a mapping by a constant: keys come as arguments, through `this` where they are always the same.
contract MoneyProof is LedgerJuries {
    address private constant CHALLENGER = address(0xC);
    address private constant PROPOSER = address(0xA);
    address private constant APPELLANT = address(0xD);
    uint256 private constant TASK = 1;
    uint96 private constant SEAT = 3;
    bytes32 private constant FOUND = keccak256("transcript");

    constructor() LedgerJuries(_settings()) {}

    function check_slash_takesWhatThereIs(uint32 id, uint96 stake, uint96 unbonding, uint256 amount) public {
        Participant storage p = _participants[id];
        (p.stake, p.unbonding) = (stake, unbonding);
        uint256 all = uint256(stake) + unbonding;
        uint256 taken = _slash(id, amount, TASK, 1, Offence.Garbage);
        assert(taken == (amount < all ? amount : all));
        assert(uint256(p.stake) + p.unbonding + taken == all);
        assert(p.stake == 0 || p.unbonding == unbonding);
    }

    function check_takeDeposit_takesWhatThereIs(uint256 task_, uint256 place, uint96 deposit, uint256 amount) public {
        _seats[task_][place].deposit = deposit;
        uint256 taken = _takeDeposit(task_, place, amount);
        assert(taken == (amount < deposit ? amount : deposit));
        assert(_seats[task_][place].deposit + taken == deposit);
    }

    function check_transfer_keepsTheSum(address from, address to, uint128 a, uint128 b, uint128 amount) public {
        vm.assume(from != to && amount <= a);
        (_balances[CurrencyLibrary.COIN][from], _balances[CurrencyLibrary.COIN][to]) = (a, b);
        _debit(CurrencyLibrary.COIN, from, amount);
        _credit(CurrencyLibrary.COIN, to, amount);
        assert(free(from) + free(to) == uint256(a) + b);
    }

    /// @dev The seat loses its whole deposit: half to the challenger, what they are due to the jurors, the rest to nobody.
    function check_closeDispute_overturned_dividesTheDeposit(uint96 bond, uint96 deposit) public {
        _close(bond, deposit, Finding.Invalid);
        assert(this.depositOf(TASK) == 0 && this.heldOf(TASK, 0).amount == 0 && this.free(PROPOSER) == 0);
        assert(this.free(CHALLENGER) == uint256(bond) + deposit / 2);
        _checkJurors(deposit);
    }

    /// @dev The challenger loses its bond, in the same parts; the seat has its deposit back.
    function check_closeDispute_upheld_dividesTheBond(uint96 bond, uint96 deposit) public {
        _close(bond, deposit, Finding.Valid);
        assert(this.depositOf(TASK) == deposit && this.heldOf(TASK, 0).amount == 0 && this.free(CHALLENGER) == 0);
        assert(this.free(PROPOSER) == bond / 2);
        _checkJurors(bond);
    }

    /// @dev Without a finding everybody has everything back; with one that it cannot be judged, the challenger pays a seat.
    function check_closeDispute_open_returnsBonds(uint96 bond, uint96 deposit, bool unable) public {
        _close(bond, deposit, unable ? Finding.Unable : Finding.None);
        assert(this.depositOf(TASK) == deposit && this.free(PROPOSER) == 0 && _jurorsHave() == 0);
        uint256 fee = unable ? (bond < SEAT ? bond : SEAT) : 0;
        assert(this.free(CHALLENGER) == bond - fee);
    }

    /// @dev A demand that nobody answered costs the seat its deposit; of that an eighth is the challenger's.
    function check_closeDispute_unanswered_dividesTheDeposit(uint96 bond, uint96 deposit) public {
        _fill(bond, deposit, Finding.None);
        this.demand(0);
        this.closeDispute(0);
        assert(this.depositOf(TASK) == 0 && this.free(PROPOSER) == 0 && _jurorsHave() == 0);
        assert(this.free(CHALLENGER) == uint256(bond) + deposit / 8);
    }

    /// @dev Of a round that fell for another reason everybody has its bond back; challenger and jurors share what they won.
    function check_closeDispute_moot_returnsBonds(uint96 bond, uint96 deposit, uint96 appealBond, uint96 won) public {
        _fill(bond, deposit, Finding.Valid);
        this.appealed(0, appealBond, won);
        this.closeDispute(0);
        assert(this.depositOf(TASK) == deposit && this.free(PROPOSER) == 0);
        assert(this.free(CHALLENGER) == uint256(bond) + won / 2 && this.free(APPELLANT) == appealBond);
        assert(this.undrawn(TASK) == 0);
        _checkJurors(won);
    }

    /// @dev A level's jurors are compared by what the last jury found, hashed once for each level between.
    function check_expected_isHashedOnceForEachLevel(uint256 dispute, bytes32 found) public {
        _juries[dispute][2].transcript = found;
        bytes32 once = keccak256(abi.encode(found));
        assert(_expected(dispute, 2, 2) == found && _expected(dispute, 2, 1) == once);
        assert(_expected(dispute, 2, 0) == keccak256(abi.encode(once)));
    }

    function free(address account) public view returns (uint256) {
        return _balances[CurrencyLibrary.COIN][account];
    }

    function undrawn(uint256 task_) external view returns (uint256) {
        return _undrawn[task_];
    }

    function depositOf(uint256 task_) external view returns (uint256) {
        return _seats[task_][0].deposit;
    }

    /// @dev A dispute whose only jury of three was silent but for two, who said `finding`; none: they differed.
    function fill(uint256 dispute, uint256 task_, uint32 round_, uint96 bond, uint96 deposit, Finding finding)
        external
    {
        Task storage t = _tasks[task_];
        (t.publisher, t.params.maxUnfinal, t.currentRound) = (address(0xB), 1, round_);
        t.params.bond = deposit;
        _seats[task_][0].holder = PROPOSER;
        _held[task_][0] = Held(deposit, 1, uint64(dispute) + 1, false);
        (_rounds[task_][round_].status, _rounds[task_][round_].disputes) = (RoundStatus.Proposed, 1);
        _disputes.push();
        Dispute storage d = _disputes[dispute];
        (d.task, d.round, d.challenger, d.bond) = (task_, round_, CHALLENGER, bond);
        d.unable = finding == Finding.Unable ? 1 : 0;
        Jury storage jury = _juries[dispute][0];
        bytes32 transcript = finding == Finding.Valid || finding == Finding.Invalid ? FOUND : bytes32(0);
        (jury.decided, jury.finding, jury.transcript) = (true, finding, transcript);
        for (uint32 i = 0; i < 3; ++i) {
            (_participants[i].owner, _participants[i].locks) = (address(uint160(0x100 + i)), 1);
            jury.members.push(i);
            if (i == 2) continue;
            Finding said = finding == Finding.None ? (i == 0 ? Finding.Valid : Finding.Invalid) : finding;
            _votes[dispute][0][i] = Vote(FOUND, transcript, said);
        }
    }

    function demand(uint256 dispute) external {
        _disputes[dispute].kind = DisputeKind.Commitment;
    }

    /// @dev The first jury's finding was appealed against, a second one called, and then the round fell.
    function appealed(uint256 dispute, uint96 bond, uint96 won) external {
        Dispute storage d = _disputes[dispute];
        (_juries[dispute][0].appellant, _juries[dispute][0].appealBond) = (APPELLANT, bond);
        (d.level, d.won, _undrawn[d.task]) = (1, won, 1);
        _rounds[d.task][d.round].status = RoundStatus.Voided;
    }

    function _close(uint96 bond, uint96 deposit, Finding finding) private {
        _fill(bond, deposit, finding);
        this.closeDispute(0);
    }

    function _fill(uint96 bond, uint96 deposit, Finding finding) private {
        vm.assume(bond != 0 && bond <= type(uint96).max / 8 && deposit <= type(uint96).max / 8);
        this.fill(0, TASK, 1, bond, deposit, finding);
    }

    /// @dev Two equal parts of a quarter, or a seat's worth each, but of half of it at most: with the winner's half no more
    /// than the pot is paid.
    function _checkJurors(uint256 pot) private view {
        uint256 paid = _jurorsHave();
        uint256 due = 2 * SEAT > pot / 4 ? 2 * SEAT : pot / 4;
        if (due > pot / 2) due = pot / 2;
        assert(paid <= due && paid + 2 > due && pot / 2 + paid <= pot);
    }

    function _jurorsHave() private view returns (uint256) {
        return this.free(address(0x100)) + this.free(address(0x101)) + this.free(address(0x102));
    }

    function _settings() private pure returns (Settings memory s) {
        (s.minStake, s.minVerifierStake, s.jurorPenalty, s.disputePeriod) = (1, SEAT, SEAT, 10);
        (s.jurySize, s.leastPool) = (3, 3);
    }
}
