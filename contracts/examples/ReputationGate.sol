// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @notice What a contract asks a ledger to know a caller's reputation.
interface IReputations {
    /// @notice The participant of an owner; reverts if it has none.
    function idOfOwner(address owner) external view returns (uint32);

    /// @notice Its reputation with a publisher in parts per million, and the days since what it follows from last changed.
    function reputationOf(address publisher, uint32 participant) external view returns (uint256 reputation, uint256 age);
}

/// @title An example of a contract that admits callers by the reputation they have earned in federated training
/// @notice Admits who owns a participant that has at least `least` parts per million of reputation with `publisher`, from
/// work of the last `oldest` days.
/// @dev What who copies this should know:
/// - A reputation is a publisher's alone. Whoever posts a task has one, and can give anybody as much as it likes in tasks
///   of its own. So it is only worth what the publisher is trusted with, and that publisher is fixed here: a caller must
///   never choose it.
/// - Reputation is not stake. It cannot be bought, nor taken away as a punishment, and nothing is lost with it here. A
///   contract that has something at risk asks for a deposit besides.
/// - A newcomer starts at 500,000, half of everything, which says that nothing is known; `least` must be above that. One
///   who fails can come back under another address as a newcomer, and only a bar above the newcomers' keeps it out.
/// - An age counts calendar days (UTC), and is the greatest number for who was not judged in the last 90. A reputation
///   without an age limit is for ever, as it changes by work alone.
/// - The call reads up to 91 slots: about 200,000 gas where no day of them has a record.
/// - A participant is known by its owner, an address that never changes; its signing key does, and is not asked for.
contract ReputationGate {
    /// @dev What a newcomer has.
    uint256 private constant NEWCOMER = 500_000;
    uint256 private constant PPM = 1_000_000;
    uint256 private constant MAX_AGE = 90;

    IReputations public immutable ledger;
    address public immutable publisher;
    uint256 public immutable least;
    uint256 public immutable oldest;

    event Entered(address indexed account, uint256 reputation, uint256 age);

    error BadTerms();
    error ReputationTooLow(uint256 reputation, uint256 least);
    error ReputationTooOld(uint256 age, uint256 oldest);

    /// @param least_ Parts per million, above the newcomers' half.
    /// @param oldest_ Days, at most as many as the ledger looks back.
    constructor(IReputations ledger_, address publisher_, uint256 least_, uint256 oldest_) {
        if (least_ <= NEWCOMER || least_ > PPM || oldest_ > MAX_AGE) revert BadTerms();
        (ledger, publisher, least, oldest) = (ledger_, publisher_, least_, oldest_);
    }

    /// @dev Reverts with the ledger's own error for an account that owns no participant.
    modifier admitted() {
        (uint256 reputation, uint256 age) = check(msg.sender);
        emit Entered(msg.sender, reputation, age);
        _;
    }

    /// @notice Something that is only for the reputable.
    function enter() external admitted {}

    /// @notice Reverts unless an account would be admitted now; else its reputation and how old that is.
    function check(address account) public view returns (uint256 reputation, uint256 age) {
        (reputation, age) = ledger.reputationOf(publisher, ledger.idOfOwner(account));
        if (reputation < least) revert ReputationTooLow(reputation, least);
        if (age > oldest) revert ReputationTooOld(age, oldest);
    }
}
