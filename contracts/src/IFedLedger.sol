// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Currency} from "./Currency.sol";

/// @title Types, events and errors of the ledger
/// @notice Every change of state emits, so the whole state can be rebuilt from logs.
interface IFedLedger {
    /// @notice Content by its 32-byte sha2-256 digest and length, from which its CID follows.
    struct ContentRef {
        bytes32 digest;
        uint64 length;
    }

    /// @notice What a deployment is made with, the same in all its parts. Stakes, bonds and penalties are in
    /// `stakeCurrency`. `guardian` may pause new tasks and nothing else; zero: nobody may. `predecessor` is the ledger
    /// from which publishers may take over reputations; zero: none.
    /// A juror's seat is worth `jurorPenalty`. The first jury has `jurySize` seats, each of up to `appeals` further ones
    /// twice as many and one. Juries are called, and penalties taken, only where at least `leastPool` verifiers serve the
    /// task, which they may from `verifierAge` seconds after they enlisted on. No penalty is above `mostPenalty`, and a task
    /// that has one needs a challenge window of at least `leastWindow` seconds and `leastWindowBlocks` blocks.
    struct Settings {
        Currency stakeCurrency;
        uint96 minStake;
        uint96 minVerifierStake;
        uint96 jurorPenalty;
        uint96 mostPenalty;
        uint40 exitDelay;
        uint32 disputePeriod;
        uint32 verifierAge;
        uint32 leastWindow;
        uint16 leastWindowBlocks;
        uint16 leastPool;
        uint8 jurySize;
        uint8 appeals;
        address guardian;
        address predecessor;
    }

    /// @notice A registered account. While it is about to leave, `exitAt` is set and its stake is `unbonding`: it backs
    /// nothing new, and pays for offences all the same.
    struct Participant {
        address signer;
        uint96 stake;
        address owner;
        uint96 unbonding;
        address payout;
        uint40 registeredAt;
        uint40 exitAt;
        uint16 locks;
    }

    /// @notice What a publisher posts. Periods in seconds, money in the smallest unit of its currency, reputation in
    /// parts per million. `bond` is what every seat of an aggregator holds and a challenger risks, `penalty` what a
    /// participant pays for an offence. In a `batched` task the aggregator posts one root of all commitments, and who was
    /// left out may commit on chain for `gracePeriod` seconds more. An update may be relative to the model that its round
    /// starts from, or to one of the `maxStaleness` models before it. `garbageShare`, `neverRevealedShare` and
    /// `statisticalShare` are parts per million of the penalty: what an update of the wrong form costs, what a commitment
    /// that is not opened, and what each statistical refusal that the evidence remembers beyond `freeRefusals`. `seal` is
    /// the hash of the key that opens the validation set; zero: there is none. The publisher has `sealPeriod` from the end
    /// of the task to open it, or loses `sealDeposit`, which is in the currency of stakes. Where `openEnrolment` is set,
    /// participants may enrol and leave until the task ends, which acts from the next opened round on. `checkRate` parts per
    /// million of the accepted updates are checked, by one of `auditorCount` accounts; `auditors` is the hash of the list of
    /// them. Each step of a check takes `checkPeriod`, and one that fails costs `checkPenalty`. `recommenders` is the hash of
    /// a list of publishers whose opinions of who enrols count, too, by `recommenderTrust` parts per million. Of a task with
    /// `scorers` so many are drawn each round, among its verifiers if `verifiersScore`, else among who was selected. They
    /// commit to their scores for `scorePeriod` and reveal them for as long again; an update does not count whose score is
    /// above the round's median by more than `scoreSpread` quarters of the spread and by more than `scoreFloor`. Where
    /// `biddingEvery` is not zero, the first round and each that comes so many after the last one that was heard asks everybody
    /// for bids alone: it changes no model, pays nobody, and is none of the task's rounds. Where pay is pooled (`poolsPay`),
    /// a round may pay what earlier ones have left of theirs.
    struct TaskParams {
        ContentRef spec;
        ContentRef model;
        address aggregator;
        uint96 minStake;
        Currency token;
        uint96 creditUnit;
        uint96 bond;
        uint96 penalty;
        uint32 minReputation;
        uint32 rounds;
        uint32 commitPeriod;
        uint32 revealPeriod;
        uint32 gracePeriod;
        uint32 proposePeriod;
        uint32 challengeWindow;
        uint32 unitsPerRound;
        uint16 quorum;
        uint16 maxParticipants;
        uint8 maxUnfinal;
        uint8 maxStaleness;
        uint8 randomness;
        bool batched;
        uint32 enrolPeriod;
        uint16 minParticipants;
        uint24 garbageShare;
        uint24 neverRevealedShare;
        uint24 statisticalShare;
        uint8 freeRefusals;
        uint96 sealDeposit;
        uint32 sealPeriod;
        bytes32 seal;
        bool openEnrolment;
        uint24 checkRate;
        uint32 checkPeriod;
        uint96 checkPenalty;
        uint8 auditorCount;
        uint8 scorers;
        bool verifiersScore;
        uint32 scorePeriod;
        uint8 scoreSpread;
        uint16 scoreFloor;
        uint8 biddingEvery;
        bool poolsPay;
        bytes32 auditors;
        bytes32 recommenders;
        uint24 recommenderTrust;
    }

    /// @notice A task as the ledger holds it. `latestRound` made the model that the next round starts from; 0: none yet.
    /// `seats` aggregators are named, and `active` is the one whose turn it is. `finishedAt` is when it was finished.
    /// `refilled` is one more than the round after which enough participants were enrolled again; zero: never. `lastBidding` is
    /// the last round that asked for bids.
    struct Task {
        address publisher;
        uint32 enrolDeadline;
        uint16 enrolled;
        uint8 seats;
        uint8 active;
        uint32 refilled;
        TaskParams params;
        uint32 currentRound;
        uint32 finalizedRound;
        uint32 latestRound;
        uint32 lastFinalAt;
        uint32 spentUnits;
        uint16 settledRounds;
        uint16 consecutiveVoids;
        bool finished;
        bool stopSettled;
        uint32 finishedAt;
        uint32 lastBidding;
    }

    /// @notice One of a task's aggregators: the first is active at the start, the others stand by. `deposit` is what it can
    /// lose: the task's bond once it has acted or declared itself ready, nothing before.
    struct Seat {
        address holder;
        uint96 deposit;
    }

    /// @notice What has become of a task's seal, and what of its deposit is held. A seal that was forfeited can still be
    /// opened.
    struct Seal {
        uint96 deposit;
        bool opened;
        bool forfeited;
    }

    /// @notice What has become of a round.
    enum RoundStatus {
        None,
        Open,
        Proposed,
        Settled,
        Voided
    }

    /// @notice A round as the ledger holds it; all but the digest share one storage slot. `baseRound` made the model that
    /// the round starts from; 0: the task's first model. `commitsClosedAt` is when reveals begin, zero as long as nobody
    /// closed the commitments early. `seat` proposed it, `disputes` about it are open, and `settledWords` of its verdict
    /// words have been applied. `flags`: see `Flags`.
    struct Round {
        uint32 revealPeriod;
        uint32 commitDeadline;
        uint32 commitsClosedAt;
        uint32 proposedAt;
        uint32 baseRound;
        uint16 selected;
        uint16 committed;
        uint16 settledWords;
        RoundStatus status;
        uint8 seat;
        uint8 disputes;
        uint8 flags;
        bytes32 modelDigest;
    }

    /// @notice Phase of a task; it follows from block time and from what was posted.
    enum Phase {
        Enrolling,
        Idle,
        Committing,
        Revealing,
        Proposing,
        Challenging,
        Settleable,
        Overdue,
        Finished,
        Closing,
        Admitting,
        Disputed,
        Scoring
    }

    /// @notice What a participant can be punished for.
    enum Offence {
        Equivocation,
        Garbage,
        NeverRevealed,
        Silence,
        Minority,
        RepeatedRefusal,
        CannotJudge,
        FailedCheck
    }

    /// @notice What a dispute is about: a whole proposal, which a jury replays; or one participant's commitment in a
    /// batched round, which the aggregator must show.
    enum DisputeKind {
        Replay,
        Commitment
    }

    /// @notice How a dispute stands or ended. `Moot`: the round was voided for another reason. `Undecided`: no jury agreed.
    /// `Unjudged`: juries said that they cannot judge the round.
    enum DisputeStatus {
        Open,
        Upheld,
        Overturned,
        Undecided,
        Moot,
        Unjudged
    }

    /// @notice What a juror says of a proposal, or a jury: that it follows, that it does not, or that this cannot be judged.
    enum Finding {
        None,
        Valid,
        Invalid,
        Unable
    }

    /// @notice A dispute about a proposed round. `subject` is the participant whose commitment is demanded. `bond` is what
    /// the challenger risks, `accused` the seat that proposed. `level` counts appeals, of which `appeals` says who made them;
    /// `unable` counts the juries that could not judge. `won` is what the challenger and its jurors share when another
    /// one has proved before them that the proposal is false.
    struct Dispute {
        uint256 task;
        uint32 round;
        uint32 subject;
        DisputeKind kind;
        DisputeStatus status;
        uint8 level;
        uint8 accused;
        uint40 deadline;
        uint8 unable;
        uint96 won;
        address challenger;
        uint96 bond;
    }

    /// @notice A jury. It is drawn after block `drawBlock` from the first `pool` of the task's verifiers. It commits until
    /// `commitsUntil` and reveals until `revealsUntil`; sooner if all have. `finding` and `transcript` are what more than
    /// half of the votes say, if more than half of the jury voted; `None`: there is no such. An appellant who holds the
    /// opposite made the next level.
    struct Jury {
        uint64 drawBlock;
        uint40 drawUntil;
        uint40 commitsUntil;
        uint40 revealsUntil;
        uint32 pool;
        uint8 committed;
        uint8 revealed;
        bool decided;
        Finding finding;
        bytes32 transcript;
        address appellant;
        uint96 appealBond;
        uint32[] members;
    }

    /// @notice A juror's vote: first its commitment, then what it found.
    struct Vote {
        bytes32 commitment;
        bytes32 transcript;
        Finding finding;
    }

    /// @notice A verifier: the time and the block since when it is one, and the time and the block in which it left; zero:
    /// never.
    struct Verifier {
        uint40 since;
        uint64 sinceBlock;
        uint40 left;
        uint64 leftBlock;
    }

    /// @notice A verifier's place among those of a task, since when it has it, and the block in which it gave it up while a
    /// jury was to be drawn; zero: it has not.
    struct Place {
        uint32 placePlusOne;
        uint40 since;
        uint64 sinceBlock;
        uint64 leftBlock;
    }

    /// @notice A seat's deposit while disputes about its proposals are open. It answers first to the dispute that was opened
    /// first, of which this is the id plus one. `condemned`: the seat has lost it, whatever comes of that dispute.
    struct Held {
        uint96 amount;
        uint32 disputes;
        uint64 first;
        bool condemned;
    }

    /// @notice A round's outcome. `updates`: in a batched task the hash of the `Updates` that were sent with it, else
    /// zero. `stop`: by the spec's stopping rule the task ends with this round.
    struct Proposal {
        ContentRef model;
        ContentRef state;
        ContentRef report;
        bytes32 updates;
        bool stop;
    }

    /// @notice What has become of a check. `Failed` says its auditor, who may be appealed against; then `Cleared` or
    /// `Confirmed` says the second one. `Ended`: it failed for good.
    enum CheckState {
        None,
        Summoned,
        Answered,
        Passed,
        Failed,
        Ended,
        Appealed,
        Cleared,
        Confirmed
    }

    /// @notice What an auditor found in a round's checks, and the transcripts of those that passed, in their order.
    struct Findings {
        uint32 round;
        uint32[] passed;
        uint32[] failed;
        bytes32[] transcripts;
    }

    /// @notice A proposal as it was posted.
    struct Posted {
        Proposal proposal;
        uint256[] verdictWords;
        uint256[] shareWords;
    }

    /// @notice How a round is scored. Scorers are called at `calledAt` in block `drawBlock`, whose hash draws them: `drawn`
    /// of them, bits of whom have committed themselves, are on the aggregator's list, have revealed themselves, or have
    /// failed before (`stained`). Where verifiers score, they are those of the task's first `pool` places; else that is
    /// zero. `present` updates are scored; in a batched round their hash is `updates`. `list` is the hash of the listed
    /// commitments.
    struct Scoring {
        uint32 round;
        uint40 calledAt;
        uint64 drawBlock;
        uint16 present;
        uint16 committed;
        uint16 listed;
        uint16 revealed;
        uint16 stained;
        uint8 drawn;
        bool isDrawn;
        bool tallied;
        uint8 pool;
        bytes32 updates;
        bytes32 list;
        uint32[15] scorers;
    }

    /// @notice What a scorer, by its place among the drawn, says of the updates, by ascending participant: 16 a word.
    struct Scored {
        uint8 place;
        bytes32 salt;
        uint256[] words;
    }

    /// @notice The updates of a batched round, of all participants that are judged by one, by ascending id: digests, and
    /// lengths in bytes, eight 32-bit lanes a word.
    struct Updates {
        bytes32[] digests;
        uint256[] lengthWords;
    }

    event Deposited(address indexed account, Currency indexed currency, uint256 amount);
    event Withdrawn(address indexed account, Currency indexed currency, address to, uint256 amount);
    event BalanceCredited(address indexed account, Currency indexed currency, uint256 amount);
    event BalanceDebited(address indexed account, Currency indexed currency, uint256 amount);
    /// @dev In the currency of stakes.
    event Burned(uint256 amount);
    event Slashed(uint32 indexed participant, uint256 indexed task, uint32 round, Offence offence, uint256 amount);

    event ParticipantRegistered(uint32 indexed participant, address indexed owner, address signer, address payout);
    event StakeAdded(uint32 indexed participant, uint256 amount, uint256 stake);
    event SignerRotated(uint32 indexed participant, address signer);
    event SigningAgreed(address indexed signer, address indexed owner);
    event PayoutSet(uint32 indexed participant, address payout);
    event ExitRequested(uint32 indexed participant, uint40 exitAt);
    event ExitCancelled(uint32 indexed participant);
    event ExitCompleted(uint32 indexed participant, uint256 stake);

    /// @dev With the ledger's version, as this event may look the same in the next one.
    event TaskPosted(
        uint256 indexed task,
        address indexed publisher,
        TaskParams params,
        address[] standbys,
        uint40 enrolDeadline,
        uint8 version
    );
    event SeatTaken(uint256 indexed task, uint256 seat, address holder, uint256 deposit);
    event SeatCharged(uint256 indexed task, uint256 seat, address holder, uint256 amount);
    event TurnTaken(uint256 indexed task, uint256 seat, address holder);
    event Paused(bool paused);
    event EvidenceAdopted(address indexed publisher, uint32 indexed participant, uint32 from, uint32 lane);
    event EndpointAnnounced(address indexed account, string url);
    event Enrolled(uint256 indexed task, uint32 indexed participant);
    event TaskLeft(uint256 indexed task, uint32 indexed participant);
    event TaskFinished(uint256 indexed task, uint256 refund);
    event SealOpened(uint256 indexed task, bytes32 key);
    event SealForfeited(uint256 indexed task, uint256 amount);

    event RoundOpened(
        uint256 indexed task, uint32 indexed round, bytes32 baseModel, uint32[] wordIndices, uint256[] words
    );
    event UpdateCommitted(
        uint256 indexed task, uint32 indexed round, uint32 indexed participant, address sender, bytes32 commitment
    );
    event CommitsClosed(uint256 indexed task, uint32 indexed round);
    event CommitsRooted(uint256 indexed task, uint32 indexed round, bytes32 root, uint16 count, ContentRef batch);
    event UpdateRevealed(
        uint256 indexed task,
        uint32 indexed round,
        uint32 indexed participant,
        bytes32 digest,
        uint64 length,
        bytes32 salt
    );
    /// @dev Instead of `UpdateRevealed`, of an update that is relative to the model `base`, `staleness` steps back.
    event StaleUpdateRevealed(
        uint256 indexed task,
        uint32 indexed round,
        uint32 indexed participant,
        bytes32 digest,
        uint64 length,
        bytes32 salt,
        uint8 staleness,
        bytes32 base
    );
    event BeaconAdvanced(uint256 indexed task, uint32 indexed round, bytes32 beacon);
    event RoundProposed(
        uint256 indexed task,
        uint32 indexed round,
        address indexed aggregator,
        Proposal proposal,
        uint256[] verdictWords,
        uint256[] shareWords,
        bytes32 baseModel
    );
    /// @dev Words and updates are in the data of the transaction, which nobody but the aggregator itself may send.
    event BatchProposed(
        uint256 indexed task, uint32 indexed round, address indexed aggregator, Proposal proposal, bytes32 baseModel
    );
    /// @dev The first `words` verdict words have been applied.
    event SettlementAdvanced(uint256 indexed task, uint32 indexed round, uint256 words);
    event RoundSettled(uint256 indexed task, uint32 indexed round, uint256 spentUnits);
    event RoundVoided(uint256 indexed task, uint32 indexed round);
    event CreditWithdrawn(uint256 indexed task, uint32 indexed participant, address payout, uint256 amount);

    event VerifierEnlisted(uint32 indexed participant);
    event VerifierRetired(uint32 indexed participant);
    event ServiceBegun(uint256 indexed task, uint32 indexed participant);
    event ServiceEnded(uint256 indexed task, uint32 indexed participant);
    event DepositHeld(uint256 indexed task, uint256 seat, uint256 amount);
    event DepositReturned(uint256 indexed task, uint256 seat, uint256 amount);
    event Equivocated(uint256 indexed task, uint32 indexed round, uint32 indexed participant, address reporter);
    event ProposalRefuted(uint256 indexed task, uint32 indexed round, uint32 participant, address reporter);
    event Challenged(
        uint256 indexed task,
        uint32 indexed round,
        uint256 indexed dispute,
        DisputeKind kind,
        uint32 subject,
        address challenger,
        uint256 bond
    );
    event JuryCalled(uint256 indexed dispute, uint8 level, uint64 drawBlock);
    event JuryDrawn(uint256 indexed dispute, uint8 level, uint32[] members);
    event VoteCommitted(uint256 indexed dispute, uint8 level, uint32 indexed juror, bytes32 commitment);
    event VoteRevealed(
        uint256 indexed dispute, uint8 level, uint32 indexed juror, Finding finding, bytes32 transcript, bytes32 salt
    );
    event JuryDecided(uint256 indexed dispute, uint8 level, Finding finding, bytes32 transcript);
    event Appealed(uint256 indexed dispute, uint8 level, address appellant, uint256 bond);
    /// @dev `word`: the root of the participant's examples, and in its last 32 bits their number.
    event DataCommitted(uint256 indexed task, uint32 indexed participant, uint256 word);
    event Summoned(uint256 indexed task, uint32 indexed round, bytes32 seed, uint32[] participants);
    event CheckAnswered(
        uint256 indexed task,
        uint32 indexed round,
        uint32 indexed participant,
        ContentRef box,
        bytes32 opening,
        bytes32 claim
    );
    event CheckAppealed(
        uint256 indexed task,
        uint32 indexed round,
        uint32 indexed participant,
        ContentRef box,
        bytes32 opening,
        bytes32 claim
    );
    event FindingsCommitted(uint256 indexed task, uint256 auditor, bytes32 commitment);
    event FindingsRevealed(uint256 indexed task, uint256 auditor, Findings[] found, bytes32 salt);
    event CheckEnded(uint256 indexed task, uint32 indexed round, uint32 indexed participant, bool failed);
    /// @dev Updates of a batched round are in the data of the transaction, which nobody but the aggregator itself may send.
    event ScorersCalled(
        uint256 indexed task, uint32 indexed round, uint256 present, uint32[] wordIndices, uint256[] words
    );
    event ScorersDrawn(uint256 indexed task, uint32 indexed round, bytes32 seed, uint32[] participants);
    event ScoresCommitted(uint256 indexed task, uint32 indexed round, uint256 places, bytes32[] commitments);
    event ScoreRevealed(uint256 indexed task, uint32 indexed round, uint32 indexed participant, Scored scored);
    /// @dev `limit`: scores above it exclude; 0: none does. `silent` and `far` are bits of scorers.
    event ScoresTallied(
        uint256 indexed task,
        uint32 indexed round,
        Scored[] scores,
        uint256 limit,
        uint32[] outvoted,
        uint256 silent,
        uint256 far
    );
    event CommitmentShown(uint256 indexed dispute, bytes32 commitment, bytes signature);
    event DisputeClosed(uint256 indexed dispute, DisputeStatus status);

    error NothingToWithdraw(address account);
    error NotRegistered(address account);
    error UnknownParticipant(uint32 participant);
    error AlreadyRegistered(address owner);
    error SignerTaken(address signer);
    error ZeroAddress();
    error StakeTooSmall(uint256 stake, uint256 least);
    error NotExiting(uint32 participant);
    error AlreadyExiting(uint32 participant);
    error ExitNotDue(uint40 exitAt);
    error NotActive(uint32 participant);
    error StakeLocked(uint32 participant, uint256 locks);
    error NotGuardian(address sender);
    error NewTasksPaused();
    error NoPredecessor();
    error EvidenceKnown(address publisher, uint32 participant);

    error UnknownTask(uint256 task);
    error InvalidParameter(bytes32 name);
    error ExitDelayTooShort(uint256 exitDelay, uint256 least);
    error EnrolmentClosed(uint256 task);
    error EnrolmentOpen(uint256 task);
    error AlreadyEnrolled(uint256 task, uint32 participant);
    error TaskFull(uint256 task);
    error NotInTask(uint256 task, uint32 participant);
    error TooEarlyToReturn(uint32 participant, uint32 round);
    error StillEntitled(uint32 participant);
    error EnrolmentChanged(uint256 task);
    error ReputationTooLow(uint256 reputation, uint256 least);
    error TaskAlreadyFinished(uint256 task);
    error TaskNotFinishable(uint256 task);
    error TaskNotFinished(uint256 task);
    error NotSealed(uint256 task);
    error WrongKey(bytes32 expected, bytes32 found);
    error SealAlreadyOpen(uint256 task);
    error SealAlreadyForfeited(uint256 task);
    error SealPeriodOpen(uint256 until);

    error InvalidSetting(bytes32 name);
    error NotAggregator(address sender);
    error NotYourTurn(uint256 from);
    error TooFewParticipants(uint256 participants, uint256 least);
    error SignerUnwilling(address signer);
    error TooManySelected(uint256 selected);
    error NotEnrolled(uint256 word);
    error WordsNotAscending();
    error RoundsExhausted(uint256 task);
    error PreviousRoundOpen(uint256 task, uint32 round);
    error TooManyUnfinal(uint256 task);
    error WrongRound(uint32 round, uint32 current);
    error RoundNotOpen(uint256 task, uint32 round);
    error NotSelected(uint32 participant);
    error EmptyCommitment();
    error AlreadyCommitted(uint32 participant);
    error CommitsAreClosed();
    error CommitsAreOpen();
    error NotBatched(uint256 task);
    error NotAdmitting();
    error StillAdmitting(uint256 until);
    error NotClosing();
    error WrongCount(uint256 count, uint256 limit);
    error WrongUpdates(bytes32 expected, bytes32 found);
    error ThroughContract(address sender);
    error AlreadyRevealed(uint32 participant);
    error NotCommitted(uint32 participant);
    error WrongReveal(bytes32 expected, bytes32 found);
    error TooStale(uint256 staleness, uint256 most);
    error RevealsAreClosed();
    error RevealsAreOpen();
    error ProposalOverdue();
    error BelowQuorum(uint256 revealed, uint256 quorum);
    error InsufficientBalance(address account, uint256 balance, uint256 amount);
    error LengthMismatch();
    error SlotsNotAscending();
    error WrongVerdict(uint32 participant, uint256 verdict);
    error PayWithoutAcceptance(uint32 participant);
    error NotEverybodyJudged(uint256 judged, uint256 selected);
    error PayOverBudget(uint256 units, uint256 limit);
    error NotProposed(uint256 task, uint32 round);
    error WindowOpen(uint256 until);
    error WrongProposal(bytes32 expected, bytes32 found);
    error NotOverdue(uint256 task, uint32 round);
    error NoCredit(uint256 task, uint32 participant);

    error NotChallengeable(uint256 task, uint32 round);
    error AlreadyChallenged(uint256 task, uint32 round);
    error TooFewVerifiers(uint256 verifiers, uint256 least);
    error DisputesOpen(uint256 disputes);
    error TooManyDisputes();
    error UnknownDispute(uint256 dispute);
    error DisputeIsClosed(uint256 dispute);
    error WrongKind(uint256 dispute);
    error AlreadyServing(uint32 participant);
    error NotServing(uint32 participant);
    error NobodyStruck(uint256 task);
    error TooEarlyToEnlist(uint256 from);
    error TooEarlyToServe(uint256 from);
    error JuryNotDrawn(uint256 task);
    error NoFinding();
    error NotJuror(uint256 dispute, uint32 participant);
    error AlreadyVoted(uint32 participant);
    error NotInTime(uint256 from, uint256 until);
    error WrongVote(bytes32 expected, bytes32 found);
    error NotRefuted();
    error AlreadyPunished(bytes32 offence);
    error WrongSignature(address recovered);
    error NoHigherJury();

    error DrawUnknown(uint256 task, uint32 round);
    error NotDrawn(uint32 participant);
    error NotAuditor(address sender);
    error WrongCheck(uint32 participant, CheckState state);
    error WrongFindings(bytes32 expected, bytes32 found);

    error NotScored(uint256 task);
    error AlreadyCalled(uint256 task, uint32 round);
    error NotCalled(uint256 task, uint32 round);
    error NotTallied(uint256 task, uint32 round);
    error AlreadyTallied(uint256 task, uint32 round);
    error NotScorer(uint32 participant);
    error WrongList(bytes32 expected, bytes32 found);
    error WrongScores(uint256 place);
    error MissingScores(uint256 places);
}
