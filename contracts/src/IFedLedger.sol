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

    /// @notice A registered account. `exitAt` is zero unless it is about to leave.
    struct Participant {
        address owner;
        address signer;
        address payout;
        uint96 stake;
        uint40 registeredAt;
        uint40 exitAt;
    }

    /// @notice What a publisher posts. Periods in seconds, money in wei, reputation in parts per million. In a
    /// `batched` task the aggregator posts one root of all commitments, and who was left out may commit on chain for
    /// `gracePeriod` seconds more.
    struct TaskParams {
        ContentRef spec;
        ContentRef model;
        address aggregator;
        Currency token;
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

    /// @notice A task as the ledger holds it. `latestRound` made the model that the next round starts from; 0: none yet.
    struct Task {
        address publisher;
        TaskParams params;
        uint32 enrolDeadline;
        uint16 enrolled;
        uint32 currentRound;
        uint32 finalizedRound;
        uint16 settledRounds;
        uint32 spentUnits;
        uint16 consecutiveVoids;
        bool finished;
        bool stopSettled;
        uint32 lastFinalAt;
        uint32 latestRound;
    }

    /// @notice What has become of a round.
    enum RoundStatus {
        None,
        Open,
        Proposed,
        Settled,
        Voided
    }

    /// @notice A round as the ledger holds it; all but the digests share one storage slot. `baseRound` made the model that
    /// the round starts from; 0: the task's first model. `commitsClosedAt` is when
    /// reveals begin; `revealed` counts what was revealed on chain; `everybody` who is
    /// enrolled is selected.
    struct Round {
        uint32 openedAt;
        uint32 openedBlock;
        uint32 commitsClosedAt;
        uint32 revealsClosedAt;
        uint32 proposedAt;
        uint16 selected;
        uint16 committed;
        uint16 revealed;
        RoundStatus status;
        uint32 baseRound;
        bool everybody;
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
        Admitting
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

    /// @notice The updates of a batched round, of all participants that are judged by one, by ascending id: digests, and
    /// lengths in bytes, eight 32-bit lanes a word.
    struct Updates {
        bytes32[] digests;
        uint256[] lengthWords;
    }

    event Deposited(address indexed account, uint256 amount);
    event Withdrawn(address indexed account, address to, uint256 amount);
    event BalanceCredited(address indexed account, uint256 amount);
    event BalanceDebited(address indexed account, uint256 amount);

    event ParticipantRegistered(uint32 indexed participant, address indexed owner, address signer, address payout);
    event StakeAdded(uint32 indexed participant, uint256 amount, uint256 stake);
    event SignerRotated(uint32 indexed participant, address signer);
    event PayoutSet(uint32 indexed participant, address payout);
    event ExitRequested(uint32 indexed participant, uint40 exitAt);
    event ExitCancelled(uint32 indexed participant);
    event ExitCompleted(uint32 indexed participant, uint256 stake);

    event TaskPosted(uint256 indexed task, address indexed publisher, TaskParams params, uint40 enrolDeadline);
    event EndpointAnnounced(address indexed account, string url);
    event Enrolled(uint256 indexed task, uint32 indexed participant);
    event TaskFinished(uint256 indexed task, uint256 refund);

    event RoundOpened(
        uint256 indexed task, uint32 indexed round, bytes32 baseModel, uint32[] wordIndices, uint256[] words
    );
    event UpdateCommitted(
        uint256 indexed task, uint32 indexed round, uint32 indexed participant, address sender, bytes32 commitment
    );
    event CommitsClosed(uint256 indexed task, uint32 indexed round);
    event CommitsRooted(uint256 indexed task, uint32 indexed round, bytes32 root, uint16 count);
    event UpdateRevealed(
        uint256 indexed task,
        uint32 indexed round,
        uint32 indexed participant,
        bytes32 digest,
        uint64 length,
        bytes32 salt
    );
    event RevealsClosed(uint256 indexed task, uint32 indexed round);
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
    event RoundSettled(uint256 indexed task, uint32 indexed round, uint256 spentUnits);
    event RoundVoided(uint256 indexed task, uint32 indexed round);
    event CreditWithdrawn(uint256 indexed task, uint32 indexed participant, address payout, uint256 amount);

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

    error UnknownTask(uint256 task);
    error InvalidParameter(bytes32 name);
    error UnsupportedStaleness(uint8 maxStaleness);
    error WrongBudget(uint256 expected, uint256 sent);
    error EnrolmentClosed(uint256 task);
    error EnrolmentOpen(uint256 task);
    error AlreadyEnrolled(uint256 task, uint32 participant);
    error TaskFull(uint256 task);
    error ReputationTooLow(uint256 reputation, uint256 least);
    error TaskAlreadyFinished(uint256 task);
    error TaskNotFinishable(uint256 task);

    error NotAggregator(address sender);
    error TooFewParticipants(uint256 participants, uint256 least);
    error TooManySelected(uint256 selected);
    error TooManySlots(uint256 slots);
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
    error RevealsAreClosed();
    error RevealsAreOpen();
    error ProposalOverdue();
    error BelowQuorum(uint256 revealed, uint256 quorum);
    error InsufficientBond(uint256 balance, uint256 bond);
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
}
