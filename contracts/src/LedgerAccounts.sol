// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Currency} from "./Currency.sol";
import {Evidence} from "./Evidence.sol";
import {Head, Heads} from "./Heads.sol";
import {LedgerReveals} from "./LedgerReveals.sol";
import {LedgerState} from "./LedgerState.sol";
import {Scores} from "./Scores.sol";

/// @notice What every version of the ledger answers, so that the next one can take reputations over.
interface IPredecessor {
    function idOfOwner(address owner) external view returns (uint32);
    function evidence(address publisher, uint32 id)
        external
        view
        returns (uint256 positive, uint256 negative, uint256 missed);
}

/// @title Free balances, participants and tasks, and reveals of stale updates
/// @notice Money is pulled, never pushed: whatever the ledger returns to anybody lands in a free balance.
/// @dev The second of the ledger's parts.
contract LedgerAccounts is LedgerReveals {
    using Heads for Round;

    /// @notice Most participants of a task.
    uint256 public constant MAX_PARTICIPANTS = 4096;
    /// @notice Most participants that a round selects.
    uint256 public constant MAX_SELECTED = MOST_SELECTED;
    uint256 public constant MAX_SEATS = 4;
    uint256 public constant MAX_UNFINAL = 8;
    uint256 public constant MAX_ROUNDS = 65_535;
    /// @notice Most steps back to the model that an update may be relative to. To find the farthest costs its sender what
    /// two direct rounds do, and an update so stale counts an eighth by 1 / sqrt(1 + staleness), so nobody needs more.
    uint256 public constant MAX_STALENESS = 64;
    uint256 public constant MAX_PERIOD = 365 days;
    /// @notice Deadlines of a dispute that follow each other on each level: draw, commit, reveal and appeal.
    uint256 public constant DISPUTE_PERIODS = 4;
    /// @notice Check periods from a proposal until its checks can be ended, and one to do so.
    uint256 public constant CHECK_PERIODS = 6;
    /// @notice Most auditors of a task.
    uint256 public constant MAX_AUDITORS = 16;
    /// @notice Rounds in a row below quorum after which the publisher may end a task.
    uint256 public constant VOIDS_TO_FINISH = 3;
    uint256 private constant MAX_QUORUM = 1024;
    uint256 private constant LEAST_SCORERS = 3;
    uint256 private constant MAX_SCORERS = 15;
    /// @dev `scoreSpread` counts quarters of the spread.
    uint256 private constant WHOLE_SPREAD = 4;

    /// @notice The part that knows the calls that this one does not. Whoever trusts a ledger looks at its code, too.
    address public immutable nextPart;

    /// @param next See `nextPart`.
    constructor(Settings memory s, address next) LedgerState(s) {
        nextPart = next;
    }

    /// @dev All other functions of the ledger are those of the next part.
    fallback() external payable {
        _handOn(nextPart);
    }

    /// @notice Adds to the sender's free balance: the value sent, or tokens that it has approved.
    function deposit(Currency currency, uint256 amount) external payable nonReentrant {
        currency.collect(amount);
        _balances[currency][msg.sender] += amount;
        emit Deposited(msg.sender, currency, amount);
    }

    /// @notice Sends the sender's whole free balance of a currency to `to`.
    function withdraw(Currency currency, address to) external nonReentrant {
        if (to == address(0)) revert ZeroAddress();
        uint256 amount = _balances[currency][msg.sender];
        if (amount == 0) revert NothingToWithdraw(msg.sender);
        _balances[currency][msg.sender] = 0;
        emit Withdrawn(msg.sender, currency, to, amount);
        currency.transfer(to, amount);
    }

    /// @notice Registers the sender as a participant, or brings it back under its old id.
    /// @param signer Address that commits and reveals: the sender, or one that agreed to sign for it. It serves one
    /// participant for ever.
    /// @param payout Address that credits are paid to.
    /// @param stake Taken from the free balance, to which any value sent is added first.
    /// @return id The participant's id, never reused.
    function register(address signer, address payout, uint96 stake) external payable returns (uint32 id) {
        if (signer == address(0) || payout == address(0)) revert ZeroAddress();
        if (stake < _minStake) revert StakeTooSmall(stake, _minStake);
        uint256 known = _byOwner[msg.sender];
        // slither-disable-next-line incorrect-equality -- zero marks absence, it is no amount
        if (known == 0) {
            id = _participantCount++;
            _byOwner[msg.sender] = uint256(id) + 1;
        } else {
            id = uint32(known - 1);
            if (_participants[id].registeredAt != 0) revert AlreadyRegistered(msg.sender);
        }
        Participant storage p = _participants[id];
        p.owner = msg.sender;
        p.payout = payout;
        p.registeredAt = uint40(block.timestamp);
        _setSigner(id, p, signer);
        emit ParticipantRegistered(id, msg.sender, signer, payout);
        _addStake(id, p, stake);
    }

    /// @notice Adds to the stake of the sender's participant, from the free balance and any value sent.
    function addStake(uint96 amount) external payable {
        (uint32 id, Participant storage p) = _own();
        if (p.exitAt != 0) revert AlreadyExiting(id);
        _addStake(id, p, amount);
    }

    /// @notice Agrees to sign for the participant of an owner, who may name the sender from now on; the last word counts.
    function agreeToSign(address owner) external {
        _agreed[msg.sender] = owner;
        emit SigningAgreed(msg.sender, owner);
    }

    /// @notice Replaces the signer of the sender's participant by the sender, or one that agreed to sign for it.
    function rotateSigner(address signer) external {
        if (signer == address(0)) revert ZeroAddress();
        (uint32 id, Participant storage p) = _own();
        _setSigner(id, p, signer);
        emit SignerRotated(id, signer);
    }

    /// @notice Replaces the payout address of the sender's participant.
    function setPayout(address payout) external {
        if (payout == address(0)) revert ZeroAddress();
        (uint32 id, Participant storage p) = _own();
        p.payout = payout;
        emit PayoutSet(id, payout);
    }

    /// @notice Announces that the sender's participant leaves. Its stake backs nothing new from now on, and pays for what
    /// comes to light within the exit delay. It is no verifier any more; on juries that were drawn it still serves.
    function requestExit() external {
        (uint32 id, Participant storage p) = _own();
        if (p.exitAt != 0) revert AlreadyExiting(id);
        p.exitAt = uint40(block.timestamp) + _exitDelay;
        (p.unbonding, p.stake) = (p.stake, 0);
        emit ExitRequested(id, p.exitAt);
        _retire(id);
    }

    /// @notice Takes the announcement back.
    function cancelExit() external {
        (uint32 id, Participant storage p) = _own();
        if (p.exitAt == 0) revert NotExiting(id);
        p.exitAt = 0;
        (p.stake, p.unbonding) = (p.unbonding, 0);
        emit ExitCancelled(id);
    }

    /// @notice Returns the stake to the sender's free balance once the delay is over and no dispute names it.
    function completeExit() external {
        (uint32 id, Participant storage p) = _own();
        if (p.exitAt == 0) revert NotExiting(id);
        if (block.timestamp < p.exitAt) revert ExitNotDue(p.exitAt);
        if (p.locks != 0) revert StakeLocked(id, p.locks);
        uint256 stake = p.unbonding;
        p.unbonding = 0;
        p.exitAt = 0;
        p.registeredAt = 0;
        emit ExitCompleted(id, stake);
        _credit(_stakes(), msg.sender, stake);
    }

    /// @notice Says where the sender can be reached off the chain: an aggregator's mailbox. The last word counts.
    function announce(string calldata url) external {
        emit EndpointAnnounced(msg.sender, url);
    }

    /// @notice Stops new tasks, or admits them again. Nothing else can be stopped.
    function setPaused(bool paused_) external {
        if (msg.sender != _guardian) revert NotGuardian(msg.sender);
        _paused = paused_;
        emit Paused(paused_);
    }

    /// @notice Posts a task with its whole budget in escrow, and the deposit of its seal if it has one, from the free balance
    /// and any value sent.
    /// @param standbys Aggregators that take over, in this order, when the one before misses a deadline. Name only who will
    /// serve: each one's turn takes a propose period.
    function postTask(TaskParams calldata p, address[] calldata standbys) external payable returns (uint256 id) {
        if (_paused) revert NewTasksPaused();
        _checkParams(p);
        _checkDeadlines(p, standbys.length + 1);
        _takeValue();
        _debit(p.token, msg.sender, uint256(p.rounds) * p.unitsPerRound * p.creditUnit);
        _debit(_stakes(), msg.sender, p.sealDeposit);
        id = ++_taskCount;
        if (p.sealDeposit != 0) _seals[id].deposit = p.sealDeposit;
        Task storage t = _tasks[id];
        t.publisher = msg.sender;
        t.params = p;
        t.enrolDeadline = uint32(block.timestamp) + p.enrolPeriod;
        t.lastFinalAt = uint32(block.timestamp);
        t.seats = uint8(standbys.length + 1);
        _name(id, 0, p.aggregator);
        for (uint256 i = 0; i < standbys.length; ++i) {
            _name(id, i + 1, standbys[i]);
        }
        emit TaskPosted(id, msg.sender, p, standbys, t.enrolDeadline, uint8(protocolVersion));
    }

    /// @notice Deposits the bond of the sender's seat in a task. A standby does so to be ready; what it has deposited is
    /// returned when the task is finished.
    function takeSeat(uint256 task_) external payable {
        Task storage t = _open(task_);
        _takeValue();
        for (uint256 place = 0; place < t.seats; ++place) {
            Seat storage seat = _seats[task_][place];
            if (seat.holder != msg.sender) continue;
            uint96 bond = t.params.bond;
            if (seat.deposit < bond) {
                _debit(_stakes(), msg.sender, bond - seat.deposit);
                seat.deposit = bond;
            }
            emit SeatTaken(task_, place, msg.sender, bond);
            return;
        }
        revert NotAggregator(msg.sender);
    }

    /// @notice Reveals an update that is relative to an earlier model than the one that the round starts from; see
    /// `revealUpdate`.
    /// @param staleness How many steps back that model is, at most the task's `maxStaleness`. One step leads from the model
    /// that a round starts from to the one that the round which made it had started from; the task's first model is the
    /// last.
    function revealStaleUpdate(
        uint256 task_,
        uint32 round_,
        uint8 staleness,
        ContentRef calldata update,
        bytes32 salt,
        bytes32[] calldata proof
    ) external {
        Round storage r = _rounds[task_][round_];
        _requireRevealable(r.head(), task_, round_);
        bytes32 base = _staleBase(_tasks[task_], task_, r, staleness);
        // INVARIANT: the commitment names its sender and its base, so neither can be another one.
        uint32 id =
            _revealBy(_commitment(task_, round_, msg.sender, base, update, salt), r.head(), task_, round_, salt, proof);
        emit StaleUpdateRevealed(task_, round_, id, update.digest, update.length, salt, staleness, base);
    }

    /// @notice Ends a task; what it did not spend and the deposits of its seats return to free balances.
    /// @dev Anyone may end a task that is complete, was stopped by its rule, or lies idle; publisher and aggregator also
    /// one that cannot gather a quorum. Earned credits stay.
    function finishTask(uint256 task_) external {
        Task storage t = _open(task_);
        // INVARIANT: no round is in flight, so nothing that was earned can be refunded, and no seat answers for anything.
        if (t.currentRound != t.finalizedRound || !_finishable(t)) revert TaskNotFinishable(task_);
        (t.finished, t.finishedAt) = (true, uint32(block.timestamp));
        uint256 units = uint256(t.params.rounds) * t.params.unitsPerRound - t.spentUnits;
        uint256 refund = units * t.params.creditUnit;
        emit TaskFinished(task_, refund);
        _credit(t.params.token, t.publisher, refund);
        for (uint256 place = 0; place < t.seats; ++place) {
            Seat storage seat = _seats[task_][place];
            uint256 held = seat.deposit;
            seat.deposit = 0;
            _credit(_stakes(), seat.holder, held);
        }
    }

    /// @notice Pays a participant's credit in a task to its payout address; anyone may call.
    function withdrawCredit(uint256 task_, uint32 id) external nonReentrant {
        uint256 slot = id / LANES;
        uint256 shift = LANE_BITS * (id % LANES);
        uint256 word = _credits[task_][slot].value;
        uint256 units = (word >> shift) & type(uint32).max;
        if (units == 0) revert NoCredit(task_, id);
        word &= ~(uint256(type(uint32).max) << shift);
        _credits[task_][slot].value = word;
        TaskParams storage p = _tasks[task_].params;
        uint256 amount = units * p.creditUnit;
        address payout = _participant(id).payout;
        emit CreditWithdrawn(task_, id, payout, amount);
        p.token.transfer(payout, amount);
    }

    /// @notice Takes over what this deployment's predecessor knows of participants in the sender's tasks.
    /// @dev Only into records that are empty, and only from the participant with the same owner.
    function adoptEvidence(uint32[] calldata ids) external {
        if (_predecessor == address(0)) revert NoPredecessor();
        for (uint256 i = 0; i < ids.length; ++i) {
            uint32 id = ids[i];
            if (_lane(msg.sender, id) != 0) revert EvidenceKnown(msg.sender, id);
            // slither-disable-next-line calls-loop -- the predecessor was fixed at deployment
            uint32 from = IPredecessor(_predecessor).idOfOwner(_participant(id).owner);
            // slither-disable-next-line calls-loop
            (uint256 positive, uint256 negative, uint256 missed) = IPredecessor(_predecessor).evidence(msg.sender, from);
            uint256 lane = positive | (negative << 12) | (missed << 24);
            _evidence[msg.sender][id / LANES].value |= (lane & type(uint32).max) << (LANE_BITS * (id % LANES));
            emit EvidenceAdopted(msg.sender, id, from, uint32(lane));
        }
    }

    /// @notice How many seats juries have on all levels together; a task with a challenge window needs a bond of twice as
    /// many juror's penalties.
    function seatsOnAllLevels() public view returns (uint256) {
        uint256 levels = uint256(_appeals) + 1;
        return (uint256(_jurySize) + 1) * ((1 << levels) - 1) - levels;
    }

    /// @notice A participant's record.
    function participant(uint32 id) external view returns (Participant memory) {
        return _participant(id);
    }

    /// @notice How many participants were ever registered.
    function participantCount() external view returns (uint256) {
        return _participantCount;
    }

    /// @notice The id of the participant that `owner` owns.
    function idOfOwner(address owner) external view returns (uint32) {
        uint256 known = _byOwner[owner];
        // slither-disable-next-line incorrect-equality -- zero marks absence, it is no amount
        if (known == 0) revert NotRegistered(owner);
        return uint32(known - 1);
    }

    /// @notice The id of the participant whose present signer this is.
    function idOfSigner(address signer) external view returns (uint32) {
        return _idOfSigner(signer);
    }

    /// @notice What an account may withdraw.
    function balanceOf(Currency currency, address account) external view returns (uint256) {
        return _balances[currency][account];
    }

    /// @notice Whether new tasks are refused.
    function paused() external view returns (bool) {
        return _paused;
    }

    /// @notice How many tasks were ever posted; their ids start at 1.
    function taskCount() external view returns (uint256) {
        return _taskCount;
    }

    /// @notice A task's record.
    function task(uint256 id) external view returns (Task memory) {
        return _existing(id);
    }

    /// @notice A task's aggregator and its standbys, with what each has deposited.
    function seats(uint256 task_) external view returns (Seat[] memory found) {
        found = new Seat[](_existing(task_).seats);
        for (uint256 place = 0; place < found.length; ++place) {
            found[place] = _seats[task_][place];
        }
    }

    /// @notice A round's record.
    function round(uint256 task_, uint32 round_) external view returns (Round memory) {
        return _rounds[task_][round_];
    }

    /// @notice The model that a round starts from.
    function baseModel(uint256 task_, uint32 round_) external view returns (bytes32) {
        return _baseModel(_existing(task_), task_, _rounds[task_][round_]);
    }

    /// @notice The model that an update of some staleness is relative to; see `revealStaleUpdate`.
    function staleBase(uint256 task_, uint32 round_, uint8 staleness) external view returns (bytes32) {
        return _staleBase(_existing(task_), task_, _rounds[task_][round_], staleness);
    }

    /// @notice The root of a batched round's commitments; zero before it is posted and some rounds later.
    function commitsRoot(uint256 task_, uint32 round_) external view returns (bytes32) {
        Task storage t = _tasks[task_];
        bool known =
            _rounds[task_][round_].commitsClosedAt != 0 && t.currentRound < uint256(round_) + t.params.maxUnfinal;
        return known ? _roots[task_][round_ % t.params.maxUnfinal] : bytes32(0);
    }

    /// @notice The task's randomness beacon: zero until a round with `randomness = beacon` settles.
    function beacon(uint256 task_) external view returns (bytes32) {
        return _beacons[task_];
    }

    /// @notice Bits of the enrolled participants `256 · word` and up.
    function enrolledWord(uint256 task_, uint256 word) external view returns (uint256) {
        return _enrolled[task_][word];
    }

    /// @notice Bits of the participants selected for a round.
    function selectedWord(uint256 task_, uint32 round_, uint256 word) external view returns (uint256) {
        return _selectedWord(task_, round_, word);
    }

    /// @notice Bits of the participants that revealed on chain in a round.
    function revealedWord(uint256 task_, uint32 round_, uint256 word) external view returns (uint256) {
        return _revealed[task_][_place(round_, word)].value;
    }

    /// @notice Whether a participant committed on chain in a round; of a direct one known until its next commitment in the
    /// task.
    function hasCommitted(uint256 task_, uint32 round_, uint32 id) external view returns (bool) {
        return _pledged(task_, round_, id) || _forced[task_][round_][id] != bytes32(0);
    }

    /// @notice Credits of the participants `8 · slot` and up in a task, 32 bits each.
    function creditWord(uint256 task_, uint256 slot) external view returns (uint256) {
        return _credits[task_][slot].value;
    }

    /// @notice A participant's credit in a task, in units.
    function creditOf(uint256 task_, uint32 id) external view returns (uint256) {
        return (_credits[task_][id / LANES].value >> (LANE_BITS * (id % LANES))) & type(uint32).max;
    }

    /// @dev Marks who opens this commitment as revealed.
    function _revealBy(
        bytes32 commitment,
        Head head,
        uint256 task_,
        uint32 round_,
        bytes32 salt,
        bytes32[] calldata proof
    ) private returns (uint32 id) {
        id = _committer(head, task_, round_, commitment, proof);
        _markRevealed(task_, round_, id);
        if (head.has(BEACON)) _salts[task_][round_] ^= keccak256(abi.encode(id, salt));
    }

    function _checkParams(TaskParams calldata p) private view {
        if (p.spec.digest == bytes32(0)) revert InvalidParameter("spec");
        if (p.model.digest == bytes32(0)) revert InvalidParameter("model");
        if (p.rounds == 0 || p.rounds > MAX_ROUNDS) revert InvalidParameter("rounds");
        if (p.quorum == 0 || p.quorum > MAX_QUORUM) revert InvalidParameter("quorum");
        if (p.minParticipants < p.quorum) revert InvalidParameter("minParticipants");
        if (p.maxParticipants < p.minParticipants || p.maxParticipants > MAX_PARTICIPANTS) {
            revert InvalidParameter("maxParticipants");
        }
        if (p.maxUnfinal == 0 || p.maxUnfinal > MAX_UNFINAL) revert InvalidParameter("maxUnfinal");
        // INVARIANT: what earlier rounds have left is known when a round is proposed that may pay it.
        if (p.poolsPay && p.maxUnfinal != 1) revert InvalidParameter("poolsPay");
        // INVARIANT: rounds that use up none of the task's rounds have ones between them that do.
        if (p.biddingEvery == 1) revert InvalidParameter("biddingEvery");
        // INVARIANT: a round can ask everybody who is enrolled, however many come.
        if (p.biddingEvery != 0 && p.maxParticipants > MOST_SELECTED) revert InvalidParameter("maxParticipants");
        if (p.maxStaleness > MAX_STALENESS) revert InvalidParameter("maxStaleness");
        // A beacon is made of salts that are revealed on chain, which a batched task leaves out.
        if (p.randomness > (p.batched ? 0 : RANDOMNESS_BEACON)) revert InvalidParameter("randomness");
        if (p.minReputation > Evidence.PPM) revert InvalidParameter("minReputation");
        if (p.creditUnit == 0) revert InvalidParameter("creditUnit");
        // INVARIANT: a task's units fit 32 bits, so no credit lane can overflow into its neighbour.
        if (p.unitsPerRound == 0 || uint256(p.rounds) * p.unitsPerRound > type(uint32).max) {
            revert InvalidParameter("unitsPerRound");
        }
        _checkStakes(p);
    }

    function _checkStakes(TaskParams calldata p) private view {
        // Without a window nobody could object to a false verdict.
        if (p.penalty > (p.challengeWindow == 0 ? 0 : p.minStake)) revert InvalidParameter("penalty");
        // INVARIANT: whoever could lose a stake has had time to object, and loses no more than this in a round.
        if (p.penalty > _mostPenalty) revert InvalidParameter("penalty");
        if (p.penalty != 0 && p.challengeWindow < _leastWindow) revert InvalidParameter("challengeWindow");
        if (p.garbageShare > Evidence.PPM) revert InvalidParameter("garbageShare");
        if (p.neverRevealedShare > Evidence.PPM) revert InvalidParameter("neverRevealedShare");
        if (p.statisticalShare > Evidence.PPM) revert InvalidParameter("statisticalShare");
        // INVARIANT: one statistical verdict, which may err, never costs a stake.
        if (p.statisticalShare != 0 && p.freeRefusals == 0) revert InvalidParameter("freeRefusals");
        if (p.sealDeposit != 0 && p.seal == bytes32(0)) revert InvalidParameter("sealDeposit");
        if ((p.seal == bytes32(0)) != (p.sealPeriod == 0) || p.sealPeriod > MAX_PERIOD) {
            revert InvalidParameter("sealPeriod");
        }
        if (p.bond > type(uint96).max / 8) revert InvalidParameter("bond");
        _checkChecks(p);
        _checkScorers(p);
        if (p.challengeWindow == 0) return;
        // INVARIANT: half of a bond pays every seat that can be called, on every level, and objecting costs something.
        if (p.bond == 0 || p.bond < 2 * seatsOnAllLevels() * _jurorPenalty) revert InvalidParameter("bond");
    }

    function _checkChecks(TaskParams calldata p) private view {
        bool none = p.checkRate == 0;
        if (p.checkRate > Evidence.PPM) revert InvalidParameter("checkRate");
        if (none != (p.checkPeriod == 0) || p.checkPeriod > MAX_PERIOD) revert InvalidParameter("checkPeriod");
        // INVARIANT: a check can be appealed against, so there is a second auditor; a place has four bits.
        bool auditors = p.auditorCount >= 2 && p.auditorCount <= MAX_AUDITORS && p.auditors != bytes32(0);
        if (none ? p.auditorCount != 0 || p.auditors != bytes32(0) : !auditors) revert InvalidParameter("auditors");
        if (none != (p.checkPenalty == 0) || p.checkPenalty > p.minStake) revert InvalidParameter("checkPenalty");
        if (p.checkPenalty > _mostPenalty) revert InvalidParameter("checkPenalty");
        if (!none && p.challengeWindow < (_leastWindow == 0 ? 1 : _leastWindow)) {
            revert InvalidParameter("challengeWindow");
        }
    }

    function _checkScorers(TaskParams calldata p) private pure {
        if ((p.recommenders == bytes32(0)) != (p.recommenderTrust == 0) || p.recommenderTrust > Evidence.PPM) {
            revert InvalidParameter("recommenderTrust");
        }
        bool none = p.scorers == 0;
        // INVARIANT: less than a third of the scorers can never make up a median.
        if (!none && (p.scorers < LEAST_SCORERS || p.scorers > MAX_SCORERS)) revert InvalidParameter("scorers");
        if (none && p.verifiersScore) revert InvalidParameter("verifiersScore");
        if (none != (p.scorePeriod == 0) || p.scorePeriod > MAX_PERIOD) revert InvalidParameter("scorePeriod");
        if (none ? p.scoreSpread != 0 : p.scoreSpread < WHOLE_SPREAD) revert InvalidParameter("scoreSpread");
        if (none != (p.scoreFloor == 0) || p.scoreFloor > Scores.MOST) revert InvalidParameter("scoreFloor");
    }

    function _checkDeadlines(TaskParams calldata p, uint256 seats_) private view {
        if (seats_ > MAX_SEATS) revert InvalidParameter("standbys");
        if (p.enrolPeriod == 0 || p.enrolPeriod > MAX_PERIOD) revert InvalidParameter("enrolPeriod");
        if (p.commitPeriod == 0 || p.commitPeriod > MAX_PERIOD) revert InvalidParameter("commitPeriod");
        if (p.revealPeriod == 0 || p.revealPeriod > MAX_PERIOD) revert InvalidParameter("revealPeriod");
        if (p.proposePeriod == 0 || p.proposePeriod > MAX_PERIOD) revert InvalidParameter("proposePeriod");
        if (p.gracePeriod > MAX_PERIOD) revert InvalidParameter("gracePeriod");
        if (p.challengeWindow > MAX_PERIOD) revert InvalidParameter("challengeWindow");
        if (p.challengeWindow == 0) return;
        // INVARIANT: who does wrong in a round cannot have its stake back before it is found out.
        uint256 turns = (p.scorers == 0 ? 2 : 3) * seats_ * p.proposePeriod;
        uint256 round_ = uint256(p.commitPeriod) + p.gracePeriod + p.revealPeriod + 2 * uint256(p.scorePeriod) + turns;
        uint256 dispute = DISPUTE_PERIODS * (uint256(_appeals) + 1) * _disputePeriod;
        uint256 least = round_ + uint256(p.maxUnfinal) * p.challengeWindow + dispute + CHECK_PERIODS * p.checkPeriod;
        if (least > _exitDelay) revert ExitDelayTooShort(_exitDelay, least);
    }

    function _name(uint256 task_, uint256 place, address holder) private {
        if (holder == address(0)) revert ZeroAddress();
        for (uint256 other = 0; other < place; ++other) {
            if (_seats[task_][other].holder == holder) revert InvalidParameter("standbys");
        }
        _seats[task_][place].holder = holder;
    }

    function _finishable(Task storage t) private view returns (bool) {
        if (t.stopSettled || t.settledRounds == t.params.rounds) return true;
        uint256 idleSince = t.currentRound == 0 ? t.enrolDeadline : t.lastFinalAt;
        // Not before each of the seats has had its turn.
        if (block.timestamp > idleSince + t.params.enrolPeriod + uint256(t.seats) * t.params.proposePeriod) {
            return true;
        }
        if (msg.sender != t.publisher) return false;
        if (t.consecutiveVoids >= VOIDS_TO_FINISH) return true;
        return t.currentRound == 0 && block.timestamp >= t.enrolDeadline && t.enrolled < t.params.minParticipants;
    }

    function _addStake(uint32 id, Participant storage p, uint96 amount) private {
        _takeValue();
        _debit(_stakes(), msg.sender, amount);
        p.stake += amount;
        emit StakeAdded(id, amount, p.stake);
    }

    function _own() private view returns (uint32 id, Participant storage p) {
        uint256 known = _byOwner[msg.sender];
        // slither-disable-next-line incorrect-equality -- zero marks absence, it is no amount
        if (known == 0 || _participants[uint32(known - 1)].registeredAt == 0) revert NotRegistered(msg.sender);
        (id, p) = (uint32(known - 1), _participants[uint32(known - 1)]);
    }

    function _setSigner(uint32 id, Participant storage p, address signer) private {
        uint256 known = uint32(_bySigner[signer]);
        // INVARIANT: a signer serves one participant for ever, so a message has one author also later.
        if (known != 0 && known != uint256(id) + 1) revert SignerTaken(signer);
        bool agreed = known != 0 || signer == msg.sender || _agreed[signer] == msg.sender;
        if (!agreed) revert SignerUnwilling(signer);
        if (p.signer == signer) return;
        // What a key signs afterwards is not held against the participant.
        if (p.signer != address(0)) _bySigner[p.signer] |= block.timestamp << 72;
        // INVARIANT: nobody is rid of what it signed by naming another key and then the old one again.
        // slither-disable-next-line incorrect-equality -- zero marks absence, it is no amount
        uint256 since = known == 0 ? block.timestamp : uint40(_bySigner[signer] >> 32);
        _bySigner[signer] = (since << 32) | (uint256(id) + 1);
        p.signer = signer;
    }
}
