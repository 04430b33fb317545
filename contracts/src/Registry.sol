// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";
import {Currency} from "./Currency.sol";
import {IFedLedger} from "./IFedLedger.sol";

/// @title Free balances and staked participants
/// @notice Money is pulled, never pushed: whatever the ledger returns to anybody lands in a free balance.
abstract contract Registry is IFedLedger, ReentrancyGuard {
    Currency private constant COIN = Currency.wrap(address(0));

    /// @notice Least stake of an active participant, in wei.
    uint96 public immutable minRegistrationStake;
    /// @notice Seconds between the request to leave and the return of the stake.
    uint40 public immutable exitDelay;

    mapping(address account => uint256) private _balances;
    Participant[] private _participants;
    mapping(address owner => uint256 idPlusOne) private _byOwner;
    mapping(address signer => uint256 idPlusOne) private _bySigner;

    constructor(uint96 minStake, uint40 delay) {
        minRegistrationStake = minStake;
        exitDelay = delay;
    }

    /// @notice Adds to the sender's free balance.
    function deposit() external payable {
        _balances[msg.sender] += msg.value;
        emit Deposited(msg.sender, msg.value);
    }

    /// @notice Sends the sender's whole free balance to `to`.
    function withdraw(address to) external nonReentrant {
        if (to == address(0)) revert ZeroAddress();
        uint256 amount = _balances[msg.sender];
        if (amount == 0) revert NothingToWithdraw(msg.sender);
        _balances[msg.sender] = 0;
        emit Withdrawn(msg.sender, to, amount);
        COIN.transfer(to, amount);
    }

    /// @notice Registers the sender as a participant, or brings it back under its old id.
    /// @param signer Address that commits and reveals; serves one participant at a time.
    /// @param payout Address that credits are paid to.
    /// @return id The participant's id, never reused.
    function register(address signer, address payout) external payable returns (uint32 id) {
        if (signer == address(0) || payout == address(0)) revert ZeroAddress();
        uint256 known = _byOwner[msg.sender];
        // slither-disable-next-line incorrect-equality -- zero marks absence, it is no amount
        if (known == 0) {
            id = uint32(_participants.length);
            _participants.push();
            _byOwner[msg.sender] = uint256(id) + 1;
        } else {
            id = uint32(known - 1);
            if (_participants[id].registeredAt != 0) revert AlreadyRegistered(msg.sender);
        }
        if (msg.value < minRegistrationStake) revert StakeTooSmall(msg.value, minRegistrationStake);
        Participant storage p = _participants[id];
        p.owner = msg.sender;
        p.payout = payout;
        p.stake = _toUint96(msg.value);
        p.registeredAt = uint40(block.timestamp);
        _setSigner(id, p, signer);
        emit ParticipantRegistered(id, msg.sender, signer, payout);
        emit StakeAdded(id, msg.value, msg.value);
    }

    /// @notice Adds to the stake of the sender's participant.
    function addStake() external payable {
        (uint32 id, Participant storage p) = _own();
        p.stake = _toUint96(p.stake + msg.value);
        emit StakeAdded(id, msg.value, p.stake);
    }

    /// @notice Replaces the signer of the sender's participant.
    function rotateSigner(address signer) external {
        if (signer == address(0)) revert ZeroAddress();
        (uint32 id, Participant storage p) = _own();
        delete _bySigner[p.signer];
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

    /// @notice Announces that the sender's participant leaves; its stake stays for `exitDelay` seconds.
    function requestExit() external {
        (uint32 id, Participant storage p) = _own();
        if (p.exitAt != 0) revert AlreadyExiting(id);
        p.exitAt = uint40(block.timestamp) + exitDelay;
        emit ExitRequested(id, p.exitAt);
    }

    /// @notice Takes the announcement back.
    function cancelExit() external {
        (uint32 id, Participant storage p) = _own();
        if (p.exitAt == 0) revert NotExiting(id);
        p.exitAt = 0;
        emit ExitCancelled(id);
    }

    /// @notice Returns the stake to the sender's free balance once the delay is over.
    function completeExit() external {
        (uint32 id, Participant storage p) = _own();
        if (p.exitAt == 0) revert NotExiting(id);
        if (block.timestamp < p.exitAt) revert ExitNotDue(p.exitAt);
        uint256 stake = p.stake;
        delete _bySigner[p.signer];
        p.stake = 0;
        p.exitAt = 0;
        p.registeredAt = 0;
        emit ExitCompleted(id, stake);
        _credit(msg.sender, stake);
    }

    /// @notice A participant's record.
    function participant(uint32 id) public view returns (Participant memory) {
        return _participant(id);
    }

    /// @notice How many participants were ever registered.
    function participantCount() public view returns (uint256) {
        return _participants.length;
    }

    /// @notice The id of the participant that `owner` owns.
    function idOfOwner(address owner) public view returns (uint32) {
        return _idOf(_byOwner[owner], owner);
    }

    /// @notice The id of the participant that `signer` signs for.
    function idOfSigner(address signer) public view returns (uint32) {
        return _idOf(_bySigner[signer], signer);
    }

    /// @notice Whether a participant is staked and not about to leave.
    function isActive(uint32 id) public view returns (bool) {
        Participant storage p = _participant(id);
        return p.registeredAt != 0 && p.exitAt == 0 && p.stake >= minRegistrationStake;
    }

    /// @notice What an account may withdraw, in wei.
    function balanceOf(address account) external view returns (uint256) {
        return _balances[account];
    }

    function _credit(address account, uint256 amount) internal {
        if (amount == 0) return;
        _balances[account] += amount;
        emit BalanceCredited(account, amount);
    }

    /// @dev Takes `amount` of the free balance of `account`, which must hold it.
    function _debit(address account, uint256 amount) internal {
        uint256 balance = _balances[account];
        if (balance < amount) revert InsufficientBond(balance, amount);
        _balances[account] = balance - amount;
        emit BalanceDebited(account, amount);
    }

    function _participant(uint32 id) internal view returns (Participant storage) {
        if (id >= _participants.length) revert UnknownParticipant(id);
        return _participants[id];
    }

    function _requireActive(uint32 id) internal view {
        if (!isActive(id)) revert NotActive(id);
    }

    /// @dev The owner comes first: anybody may name a signer, but only an owner registers itself.
    function _idOfSender() internal view returns (uint32) {
        uint256 owned = _byOwner[msg.sender];
        // slither-disable-next-line incorrect-equality -- zero marks absence, it is no amount
        return owned == 0 ? idOfSigner(msg.sender) : uint32(owned - 1);
    }

    function _own() private view returns (uint32 id, Participant storage p) {
        id = idOfOwner(msg.sender);
        p = _participants[id];
        if (p.registeredAt == 0) revert NotRegistered(msg.sender);
    }

    function _setSigner(uint32 id, Participant storage p, address signer) private {
        // INVARIANT: a signer serves one participant, so a message has one author.
        if (_bySigner[signer] != 0) revert SignerTaken(signer);
        _bySigner[signer] = uint256(id) + 1;
        p.signer = signer;
    }

    function _idOf(uint256 idPlusOne, address account) private pure returns (uint32) {
        // slither-disable-next-line incorrect-equality -- zero marks absence, it is no amount
        if (idPlusOne == 0) revert NotRegistered(account);
        return uint32(idPlusOne - 1);
    }

    function _toUint96(uint256 value) private pure returns (uint96) {
        if (value > type(uint96).max) revert InvalidParameter("stake");
        return uint96(value);
    }
}
