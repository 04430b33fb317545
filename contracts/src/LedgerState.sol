// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";
import {Currency, CurrencyLibrary} from "./Currency.sol";
import {IFedLedger} from "./IFedLedger.sol";

/// @title The ledger's storage, and what all of its parts do with it
/// @notice The ledger has one address, one storage and five parts of code, as one contract cannot hold all of it:
/// `FedLedger` runs rounds, `LedgerAccounts` keeps money, participants and tasks, `LedgerOpinions` knows what publishers
/// think of participants and takes scores, `LedgerCourt` decides what the ledger can see for itself, `LedgerJuries` has
/// juries decide the rest. Each part hands on what it does not know to the next. No
/// part can be exchanged.
abstract contract LedgerState is IFedLedger, ReentrancyGuard {
    /// @notice Version of the records.
    uint256 public constant protocolVersion = 5;

    uint256 internal constant LANES = 8;
    uint256 internal constant LANE_BITS = 32;
    uint256 internal constant SLOTS_PER_WORD = 32;
    uint256 internal constant MOST_SELECTED = 1024;
    uint8 internal constant RANDOMNESS_BEACON = 1;
    /// @dev Flags of a round: everybody enrolled is selected; commitments are signed and posted as one root; randomness
    /// comes from revealed salts; the root's count says that nobody is missing.
    uint8 internal constant EVERYBODY = 1;
    uint8 internal constant BATCHED = 2;
    uint8 internal constant BEACON = 4;
    uint8 internal constant COMPLETE = 8;
    /// @dev Below quorum: the model stays, nobody is paid, and the round does not count.
    uint8 internal constant EMPTY = 16;
    /// @dev The task asks for more stake than the ledger does.
    uint8 internal constant STAKED = 32;
    /// @dev The contract decides by the scores of some whom updates do not count.
    uint8 internal constant SCORED = 64;
    /// @dev Everybody is asked for bids, and nobody for an update.
    uint8 internal constant BIDDING = 128;
    /// @dev How many places of a pool one call looks at.
    uint256 internal constant MAX_LOOKS = 64;
    uint256 private constant LEAST_JURY = 3;
    uint256 private constant LARGEST_JURY = 15;
    uint256 private constant MOST_APPEALS = 2;

    /// @dev A slot that is read and written: a pointer to it need not be found twice.
    struct Word {
        uint256 value;
    }

    Currency private immutable _stakeCurrency;
    uint96 internal immutable _minStake;
    uint96 internal immutable _minVerifierStake;
    uint96 internal immutable _jurorPenalty;
    uint96 internal immutable _mostPenalty;
    uint40 internal immutable _exitDelay;
    uint32 internal immutable _disputePeriod;
    uint32 internal immutable _verifierAge;
    uint32 internal immutable _leastWindow;
    uint16 internal immutable _leastWindowBlocks;
    uint16 internal immutable _leastPool;
    uint8 internal immutable _jurySize;
    uint8 internal immutable _appeals;
    address internal immutable _guardian;
    address internal immutable _predecessor;

    // slither-disable-start uninitialized-state -- what one part only reads another one writes
    mapping(Currency currency => mapping(address account => uint256)) internal _balances;
    mapping(uint32 id => Participant) internal _participants;
    uint32 internal _participantCount;
    mapping(address owner => uint256 idPlusOne) internal _byOwner;
    /// @dev For ever: whose key signed cannot change afterwards. The id plus one (32 bits), and since when (40) the key has
    /// been the participant's signer, the first time, and until when (40), the last time; zero: it still is.
    mapping(address signer => uint256) internal _bySigner;
    /// @dev For whom an address agreed to sign; without that nobody can name it, and so keep it from others.
    mapping(address signer => address owner) internal _agreed;

    uint256 internal _taskCount;
    bool internal _paused;
    mapping(uint256 task => Task) internal _tasks;
    mapping(uint256 task => mapping(uint256 place => Seat)) internal _seats;
    mapping(uint256 task => mapping(uint256 word => uint256)) internal _enrolled;
    /// @dev The round after which a participant may enrol again; zero: it has not left.
    mapping(uint256 task => mapping(uint32 participant => uint32)) internal _returns;
    mapping(uint256 task => bytes32) internal _beacons;
    mapping(uint256 task => mapping(uint32 round => Round)) internal _rounds;
    /// @dev At `_place(round, word)`.
    mapping(uint256 task => mapping(uint256 place => uint256)) internal _selected;
    mapping(uint256 task => mapping(uint256 place => Word)) internal _revealed;
    mapping(uint256 task => mapping(uint32 round => bytes32)) internal _salts;
    /// @dev A signer's latest commitment on chain: hash (192 bits), round (32), participant plus one (32).
    mapping(uint256 task => mapping(address signer => Word)) internal _pledges;
    /// @dev The only signer of a participant that has a pledge.
    mapping(uint256 task => mapping(uint32 participant => address)) internal _pledgers;
    /// @dev Commitments on chain in batched rounds, where few are and all count until the round is final.
    mapping(uint256 task => mapping(uint32 round => mapping(uint32 participant => bytes32))) internal _forced;
    /// @dev Hashes that a round needs until it is final, at its number modulo `maxUnfinal`: an old slot costs a quarter of
    /// a new one.
    mapping(uint256 task => mapping(uint256 place => bytes32)) internal _roots;
    mapping(uint256 task => mapping(uint256 place => bytes32)) internal _proposals;
    mapping(address publisher => mapping(uint256 slot => Word)) internal _evidence;
    mapping(uint256 task => mapping(uint256 slot => Word)) internal _credits;

    uint256 internal _verifierCount;
    mapping(uint32 participant => Verifier) internal _verifierOf;
    /// @dev Who serves a task, in no order.
    mapping(uint256 task => uint32[]) internal _pools;
    mapping(uint256 task => mapping(uint32 participant => Place)) internal _places;
    /// @dev Juries of a task that were called and are not drawn: until they are, no verifier of it changes its place.
    mapping(uint256 task => uint256) internal _undrawn;
    mapping(bytes32 offence => bool) internal _punished;
    Dispute[] internal _disputes;
    /// @dev The dispute, plus one, by which a proposal was challenged; it is once.
    mapping(uint256 task => mapping(uint32 round => uint256)) internal _challenged;
    mapping(uint256 task => mapping(uint256 place => Held)) internal _held;
    /// @dev Which round was proposed (from bit 64 on), and in which block (64 bits), at its number modulo `maxUnfinal`; of
    /// tasks with penalties or checks alone.
    mapping(uint256 task => mapping(uint256 place => uint256)) internal _proposedIn;
    mapping(uint256 dispute => mapping(uint256 level => Jury)) internal _juries;
    mapping(uint256 dispute => mapping(uint256 level => mapping(uint32 participant => Vote))) internal _votes;
    mapping(uint256 task => Seal) internal _seals;
    /// @dev Checks of 32 participants at `_place(round, word)`, a byte each: state (4 bits), auditor (4).
    mapping(uint256 task => mapping(uint256 place => Word)) internal _checks;
    /// @dev What an auditor committed to, by its place.
    mapping(uint256 task => mapping(uint256 auditor => bytes32)) internal _findings;
    /// @dev Bits of the 256 participants of a word about whom a publisher's evidence changed on a day: at day and word.
    mapping(address publisher => mapping(uint256 place => Word)) internal _judgedOn;
    /// @dev How well participants score for a publisher, eight lanes of evidence a slot; empty unless one has failed.
    mapping(address publisher => mapping(uint256 slot => Word)) internal _scoring;
    /// @dev Bits of the 256 participants of a word who have: a draw looks at one slot for all of them.
    mapping(address publisher => mapping(uint256 word => uint256)) internal _stained;
    /// @dev Of a task's latest round that called scorers.
    mapping(uint256 task => Scoring) internal _scorings;
    /// @dev Whose updates the scorers of a batched round were shown.
    mapping(uint256 task => mapping(uint256 word => uint256)) internal _listed;
    mapping(uint256 task => mapping(uint256 place => bytes32)) internal _scoreCommitments;
    /// @dev Whose updates do not count by the scores, at `_place(round, word)`.
    mapping(uint256 task => mapping(uint256 place => uint256)) internal _outvoted;
    // slither-disable-end uninitialized-state

    constructor(Settings memory s) {
        if (s.jurySize < LEAST_JURY || s.jurySize > LARGEST_JURY || s.jurySize % 2 == 0) {
            revert InvalidSetting("jurySize");
        }
        if (s.appeals > MOST_APPEALS) revert InvalidSetting("appeals");
        if (s.leastPool < s.jurySize || s.leastPool > MAX_LOOKS) revert InvalidSetting("leastPool");
        if (s.disputePeriod == 0) revert InvalidSetting("disputePeriod");
        // Who serves on a jury can pay for it.
        if (s.minVerifierStake < s.jurorPenalty) revert InvalidSetting("minVerifierStake");
        _stakeCurrency = s.stakeCurrency;
        _minStake = s.minStake;
        _minVerifierStake = s.minVerifierStake;
        _jurorPenalty = s.jurorPenalty;
        _mostPenalty = s.mostPenalty;
        _exitDelay = s.exitDelay;
        _disputePeriod = s.disputePeriod;
        _verifierAge = s.verifierAge;
        _leastWindow = s.leastWindow;
        _leastWindowBlocks = s.leastWindowBlocks;
        _leastPool = s.leastPool;
        _jurySize = s.jurySize;
        _appeals = s.appeals;
        _guardian = s.guardian;
        _predecessor = s.predecessor;
    }

    /// @notice What this part was made with.
    function settings() external view returns (Settings memory s) {
        s.stakeCurrency = _stakeCurrency;
        s.minStake = _minStake;
        s.minVerifierStake = _minVerifierStake;
        s.jurorPenalty = _jurorPenalty;
        s.mostPenalty = _mostPenalty;
        s.exitDelay = _exitDelay;
        s.disputePeriod = _disputePeriod;
        s.verifierAge = _verifierAge;
        s.leastWindow = _leastWindow;
        s.leastWindowBlocks = _leastWindowBlocks;
        s.leastPool = _leastPool;
        s.jurySize = _jurySize;
        s.appeals = _appeals;
        s.guardian = _guardian;
        s.predecessor = _predecessor;
    }

    /// @dev Hands a call on to the next part, which works on this storage for the same sender.
    function _handOn(address part) internal {
        assembly ("memory-safe") {
            let data := mload(0x40)
            calldatacopy(data, 0, calldatasize())
            let done := delegatecall(gas(), part, data, calldatasize(), 0, 0)
            returndatacopy(data, 0, returndatasize())
            if done { return(data, returndatasize()) }
            revert(data, returndatasize())
        }
    }

    function _credit(Currency currency, address account, uint256 amount) internal {
        // slither-disable-next-line incorrect-equality -- nothing moves nothing; no state hangs on it
        if (amount == 0) return;
        _balances[currency][account] += amount;
        emit BalanceCredited(account, currency, amount);
    }

    /// @dev Takes `amount` of the free balance of `account`, which must hold it.
    function _debit(Currency currency, address account, uint256 amount) internal {
        if (amount == 0) return;
        uint256 balance = _balances[currency][account];
        if (balance < amount) revert InsufficientBalance(account, balance, amount);
        _balances[currency][account] = balance - amount;
        emit BalanceDebited(account, currency, amount);
    }

    /// @dev The value of the call becomes the sender's, to be spent by it or withdrawn.
    function _takeValue() internal {
        _credit(CurrencyLibrary.COIN, msg.sender, msg.value);
    }

    /// @dev Money that nobody gets: it stays here for ever.
    function _burn(uint256 amount) internal {
        if (amount != 0) emit Burned(amount);
    }

    function _stakes() internal view returns (Currency) {
        return _stakeCurrency;
    }

    /// @dev Takes up to `amount` of a seat's deposit.
    function _takeDeposit(uint256 task_, uint256 place, uint256 amount) internal returns (uint256 taken) {
        Seat storage seat = _seats[task_][place];
        taken = amount < seat.deposit ? amount : seat.deposit;
        if (taken == 0) return 0;
        seat.deposit -= uint96(taken);
        emit SeatCharged(task_, place, seat.holder, taken);
    }

    /// @dev Takes what there is of a stake, also of one that leaves, and never reverts.
    function _slash(uint32 id, uint256 amount, uint256 task_, uint32 round_, Offence offence)
        internal
        returns (uint256 taken)
    {
        Participant storage p = _participants[id];
        uint256 stake = p.stake;
        uint256 fromStake = amount < stake ? amount : stake;
        uint256 unbonding = p.unbonding;
        uint256 rest = amount - fromStake < unbonding ? amount - fromStake : unbonding;
        p.stake = uint96(stake - fromStake);
        p.unbonding = uint96(unbonding - rest);
        taken = fromStake + rest;
        emit Slashed(id, task_, round_, offence, taken);
    }

    function _existing(uint256 task_) internal view returns (Task storage t) {
        t = _tasks[task_];
        if (t.publisher == address(0)) revert UnknownTask(task_);
    }

    function _open(uint256 task_) internal view returns (Task storage t) {
        t = _existing(task_);
        if (t.finished) revert TaskAlreadyFinished(task_);
    }

    function _participant(uint32 id) internal view returns (Participant storage) {
        if (id >= _participantCount) revert UnknownParticipant(id);
        return _participants[id];
    }

    /// @dev The owner comes first: anybody may name a signer, but only an owner registers itself.
    function _idOfSender() internal view returns (uint32) {
        uint256 owned = _byOwner[msg.sender];
        // slither-disable-next-line incorrect-equality -- zero marks absence, it is no amount
        return owned == 0 ? _idOfSigner(msg.sender) : uint32(owned - 1);
    }

    function _idOfSigner(address signer) internal view returns (uint32) {
        uint256 known = uint32(_bySigner[signer]);
        // slither-disable-next-line incorrect-equality -- zero marks absence, it is no amount
        if (known == 0 || _participants[uint32(known - 1)].signer != signer) revert NotRegistered(signer);
        return uint32(known - 1);
    }

    function _lane(address publisher, uint32 id) internal view returns (uint256) {
        // slither-disable-next-line weak-prng -- a lane's place, not chance
        return (_evidence[publisher][id / LANES].value >> (LANE_BITS * (id % LANES))) & type(uint32).max;
    }

    /// @dev Bits of whom a publisher's evidence changed for today.
    function _judgedToday(address publisher, uint256 word) internal view returns (Word storage) {
        return _judgedOn[publisher][((block.timestamp / 1 days) << 32) | word];
    }

    function _isSelected(uint256 task_, uint32 round_, uint32 id) internal view returns (bool) {
        // slither-disable-next-line weak-prng -- a bit's place, not chance
        return (_selectedWord(task_, round_, id / 256) >> (id % 256)) & 1 != 0;
    }

    function _selectedWord(uint256 task_, uint32 round_, uint256 word) internal view returns (uint256) {
        return
            _rounds[task_][round_].flags & EVERYBODY != 0
                ? _enrolled[task_][word]
                : _selected[task_][_place(round_, word)];
    }

    /// @dev A round's word of 256 participants among all of its task; only small words have participants.
    function _place(uint32 round_, uint256 word) internal pure returns (uint256) {
        return (word << 32) | round_;
    }

    /// @dev Whether a participant's latest commitment on chain is of this round.
    function _pledged(uint256 task_, uint32 round_, uint32 id) internal view returns (bool) {
        uint256 pledge = _pledges[task_][_pledgers[task_][id]].value;
        return pledge != 0 && uint32(pledge >> 32) == round_;
    }

    /// @dev Ends a participant's service as a verifier, if it is one. It keeps its places, where later draws leave it out,
    /// also if it comes back: then it has to serve anew.
    function _retire(uint32 id) internal {
        Verifier storage v = _verifierOf[id];
        // slither-disable-next-line incorrect-equality -- zero marks absence, it is no amount
        if (v.since == 0 || v.leftBlock != 0) return;
        (v.left, v.leftBlock) = (uint40(block.timestamp), uint64(block.number));
        --_verifierCount;
        emit VerifierRetired(id);
    }

    /// @dev When a round was opened, which it need not store.
    function _openedAt(Task storage t, Round storage r) internal view returns (uint256) {
        return uint256(r.commitDeadline) - t.params.commitPeriod;
    }

    /// @dev Whether a verifier served a task at this time, and before this block, and had not left it in an earlier one.
    /// Who leaves when a jury has been called may be drawn all the same, and pays if it says nothing.
    function _servedAt(uint256 task_, uint32 id, uint256 time, uint256 block_) internal view returns (bool) {
        Place storage place = _places[task_][id];
        Verifier storage v = _verifierOf[id];
        if (place.since > time || place.sinceBlock >= block_ || place.sinceBlock < v.sinceBlock) return false;
        // slither-disable-next-line incorrect-equality -- zero marks absence, it is no amount
        if (v.since == 0 || v.sinceBlock >= block_) return false;
        if (place.leftBlock != 0 && place.leftBlock < block_) return false;
        if (v.leftBlock != 0 && v.leftBlock < block_) return false;
        Participant storage p = _participants[id];
        return uint256(p.stake) + p.unbonding >= _minVerifierStake;
    }

    /// @dev How many verifiers served a task then, see `_servedAt`, of those in its first places; it stops at the least that
    /// is needed.
    function _countServing(uint256 task_, uint256 time, uint256 block_) internal view returns (uint256 count) {
        uint32[] storage pool = _pools[task_];
        uint256 looks = pool.length < MAX_LOOKS ? pool.length : MAX_LOOKS;
        for (uint256 place = 0; place < looks && count < _leastPool; ++place) {
            if (_servedAt(task_, pool[place], time, block_)) ++count;
        }
    }

    /// @dev Whether a proposal may still be challenged: until its window has passed, where there are penalties also in
    /// blocks.
    function _windowOpen(Task storage t, uint256 task_, uint32 round_, uint256 proposedAt)
        internal
        view
        returns (bool)
    {
        return block.timestamp < proposedAt + t.params.challengeWindow || _waitsForBlocks(t, task_, round_, 1);
    }

    /// @dev Whether so many times the least number of blocks have not yet passed since a proposal, where they count.
    function _waitsForBlocks(Task storage t, uint256 task_, uint32 round_, uint256 times) internal view returns (bool) {
        if (_leastWindowBlocks == 0 || (t.params.penalty == 0 && t.params.checkPenalty == 0)) return false;
        return block.number < uint64(_proposedIn[task_][round_ % t.params.maxUnfinal]) + times * _leastWindowBlocks;
    }

    function _baseModel(Task storage t, uint256 task_, Round storage r) internal view returns (bytes32) {
        return r.baseRound == 0 ? t.params.model.digest : _rounds[task_][r.baseRound].modelDigest;
    }

    /// @dev The model `staleness` steps before the one that a round starts from. One step leads from a model to the one that
    /// the round which made it had started from; nothing is before the task's first model.
    function _staleBase(Task storage t, uint256 task_, Round storage r, uint256 staleness)
        internal
        view
        returns (bytes32)
    {
        uint256 most = t.params.maxStaleness;
        if (staleness > most) revert TooStale(staleness, most);
        uint32 base = r.baseRound;
        // INVARIANT: a round falls with all that were built on it, so none of these was voided unless `r` was, too.
        for (uint256 step = 0; step < staleness; ++step) {
            // slither-disable-next-line incorrect-equality -- zero marks the first model, it is no amount
            if (base == 0) revert TooStale(staleness, step);
            base = _rounds[task_][base].baseRound;
        }
        // slither-disable-next-line incorrect-equality -- as above
        return base == 0 ? t.params.model.digest : _rounds[task_][base].modelDigest;
    }

    /// @dev Voids a round, and with `descendants` all that came after it; nobody's stake or reputation suffers by it.
    function _void(Task storage t, uint256 task_, uint32 round_, bool descendants) internal {
        uint32 last = descendants ? t.currentRound : round_;
        for (uint32 number = round_; number <= last; ++number) {
            Round storage r = _rounds[task_][number];
            if (r.status == RoundStatus.Voided) continue;
            r.status = RoundStatus.Voided;
            emit RoundVoided(task_, number);
        }
        if (descendants) t.latestRound = _rounds[task_][round_].baseRound;
        t.lastFinalAt = uint32(block.timestamp);
        _advance(t, task_);
    }

    /// @dev Counts voided rounds as final as soon as all before them are; at most `maxUnfinal` of them.
    function _advance(Task storage t, uint256 task_) internal {
        uint32 number = t.finalizedRound;
        // slither-disable-next-line incorrect-equality -- a status, no amount
        while (number < t.currentRound && _rounds[task_][number + 1].status == RoundStatus.Voided) {
            ++number;
            _finalize(t, task_, number);
        }
    }

    function _finalize(Task storage t, uint256 task_, uint32 round_) internal {
        t.finalizedRound = round_;
        t.lastFinalAt = uint32(block.timestamp);
        if (_rounds[task_][round_].flags & BEACON != 0) {
            bytes32 next = keccak256(abi.encode(_beacons[task_], _salts[task_][round_]));
            _beacons[task_] = next;
            emit BeaconAdvanced(task_, round_, next);
        }
    }

    /// @dev Leaves are hashed twice, so that an inner node cannot pass for one.
    function _inRoot(bytes32 root, uint32 id, bytes32 commitment, bytes32[] calldata proof)
        internal
        pure
        returns (bool)
    {
        bytes32 leaf = keccak256(bytes.concat(keccak256(abi.encode(id, commitment))));
        return root != bytes32(0) && MerkleProof.verifyCalldata(proof, root, leaf);
    }

    function _requireProposal(
        Task storage t,
        uint256 task_,
        uint32 round_,
        Proposal calldata proposal,
        uint256[] calldata verdictWords,
        uint256[] calldata shareWords
    ) internal view {
        bytes32 found = keccak256(abi.encode(proposal, verdictWords, shareWords));
        bytes32 expected = _proposals[task_][round_ % t.params.maxUnfinal];
        if (found != expected) revert WrongProposal(expected, found);
    }
}
