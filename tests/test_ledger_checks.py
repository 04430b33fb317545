"""Committed data and spot checks through the client: Python's draws, hashes and messages are the ledger's."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from eth_account.signers.local import LocalAccount

from fedledger.contracts.abi import RevertedError
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.records import load_account
from fedledger.contracts.ledger.check_history import Answer, acting
from fedledger.contracts.ledger.checks import RoundFindings, auditors_hash, findings_hash
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.records import CheckState, Offence, Proposal, Settings, TaskParams
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.platform.bench.synthetic_task import SyntheticTask
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.encoding.keccak import keccak
from fedledger.protocol.records.signatures import data_message, sign
from fedledger.protocol.records.spot_checks import drawn, second_auditor

PEOPLE, AUDITORS = 8, 3
STAKE, PENALTY, PERIOD, WINDOW = 1000, 701, 100, 30
SALT, TRANSCRIPT = keccak(b"salt"), keccak(b"transcript")
ANSWER = Answer(ContentRef(keccak(b"box"), 1234), keccak(b"opening"), keccak(TRANSCRIPT))
TERMS = TaskParams(
    spec=ContentRef.of(b"spec"),
    model=ContentRef.of(b"model"),
    aggregator="",
    rounds=3,
    quorum=1,
    min_participants=1,
    max_participants=PEOPLE,
    enrol_period=100,
    commit_period=60,
    reveal_period=60,
    propose_period=60,
    challenge_window=WINDOW,
    max_unfinal=2,
    randomness=0,
    min_stake=STAKE,
    min_reputation=0,
    bond=1,
    credit_unit=1,
    units_per_round=1_000_000,
    check_period=PERIOD,
    check_penalty=PENALTY,
    auditor_count=AUDITORS,
)


def account(role: str) -> LocalAccount:
    return load_account(keccak(f"checks|{role}".encode()))


@dataclass
class Checked:
    """A task with checks, and what its auditors have still to commit to."""

    synthetic: SyntheticTask
    history: History
    auditors: list[LocalAccount]
    stranger: LocalAccount
    proposals: dict[int, Proposal] = field(default_factory=dict)

    @classmethod
    def begin(cls, rate: int) -> Checked:
        chain = Chain()
        publisher, aggregator, stranger = map(account, ("publisher", "aggregator", "stranger"))
        people = [account(f"participant {i}") for i in range(PEOPLE)]
        auditors = [account(f"auditor {place}") for place in range(AUDITORS)]
        for each in (publisher, aggregator, stranger, *people, *auditors):
            chain.fund(each.address, 10**18)
        ledger, _ = Ledger.deploy(chain, publisher, Settings(STAKE, 2000, dispute_period=60))
        ledger.register_all(people, STAKE)
        addresses = [each.address for each in auditors]
        hashed = {"check_rate": rate, "auditors": auditors_hash(addresses), "aggregator": aggregator.address}
        task = ledger.post_task(publisher, replace(TERMS, **hashed))
        ledger.enrol_all(people, task)
        ledger.take_seat(aggregator, task)
        history = History(ledger)
        ids = history.update().ids
        named = {ids[each.address]: each for each in people}
        return cls(SyntheticTask(ledger, task, aggregator, named), history, auditors, stranger)

    @property
    def ledger(self) -> Ledger:
        return self.synthetic.ledger

    @property
    def number(self) -> int:
        return self.synthetic.task

    @property
    def task(self) -> TaskHistory:
        return self.history.update().task(self.number)

    @property
    def addresses(self) -> list[str]:
        return [each.address for each in self.auditors]

    def play(self, index: int) -> None:
        """Make a round in which all updates are accepted, and propose it."""
        s, ids = self.synthetic, sorted(self.synthetic.accounts)
        self.ledger.open_round(s.aggregator, self.number, index)
        base = self.proposals[index - 1].model.digest if index > 1 else TERMS.model.digest
        for i in ids:
            self.ledger.commit_update(s.accounts[i], self.number, index, s.commitment(index, i, base))
        for i in ids:
            self.ledger.reveal_update(s.accounts[i], self.number, index, s.update(index, i), s.salt(index, i))
        self.proposals[index] = s.proposal(index, ids, batched=False)
        self.ledger.propose_round(s.aggregator, self.number, index, self.proposals[index])
        self.ledger.chain.advance(1)

    def settle(self, index: int) -> None:
        self.ledger.chain.advance(WINDOW)
        self.ledger.settle_round(self.stranger, self.number, index, self.proposals[index])

    def summon(self, index: int, *ids: int) -> None:
        self.ledger.summon(self.stranger, self.number, index, ids, self.proposals[index])

    def post(self, place: int, *found: RoundFindings) -> None:
        """Commit to findings and reveal them."""
        auditor, value = self.auditors[place], findings_hash(self.number, place, found, SALT)
        self.ledger.post_findings(auditor, self.number, self.addresses, [], bytes(32), value)
        assert self.ledger.findings_committed(self.number, place) == value == self.task.findings[place]
        self.ledger.post_findings(auditor, self.number, self.addresses, found, SALT)
        assert self.ledger.findings_committed(self.number, place) == bytes(32)
        assert place not in self.task.findings

    def agree(self) -> None:
        """Compare what the logs tell of checks with the ledger's views."""
        publisher = self.task.publisher
        for index in self.task.rounds:
            for i in self.synthetic.accounts:
                check = self.task.rounds[index].checks.get(i)
                expected = (check.state, check.auditor) if check else (CheckState.NONE, 0)
                assert self.ledger.check(self.number, index, i) == expected
        for i in self.synthetic.accounts:
            assert self.history.evidence(publisher, i) == self.ledger.evidence(publisher, i)


@pytest.mark.parametrize("rate", [300_000, 1_000_000])
def test_who_is_drawn_and_by_whom_is_the_same_everywhere(rate: int) -> None:
    checked = Checked.begin(rate)
    checked.play(1)
    proposed = checked.task.rounds[1].proposed_at
    assert proposed is not None
    seed = bytes(checked.ledger.chain.block(proposed.block)["hash"])
    for i in checked.synthetic.accounts:
        place = drawn(seed, checked.number, 1, i, rate, AUDITORS)
        if place is None:
            with pytest.raises(RevertedError, match="NotDrawn"):
                checked.summon(1, i)
            assert checked.ledger.check(checked.number, 1, i) == (CheckState.NONE, 0)
        else:
            checked.summon(1, i)
            assert checked.ledger.check(checked.number, 1, i) == (CheckState.SUMMONED, place)
            assert checked.task.rounds[1].check_seed == seed
    checked.agree()


def test_checks_go_every_way_and_the_history_follows() -> None:
    """Of two rounds: passed, failed, not answered, not judged, and appeals that are granted, refused, not judged."""
    checked = Checked.begin(1_000_000)
    ledger, number = checked.ledger, checked.number
    passed, failed, silent, unjudged, granted, refused, forgotten, unchecked = sorted(checked.synthetic.accounts)
    answering = [passed, failed, unjudged, granted, refused, forgotten]
    for index in (1, 2):
        checked.play(index)
        checked.summon(index, *answering, silent)
    for index in (1, 2):
        for i in answering:
            ledger.answer_check(checked.synthetic.accounts[i], number, index, ANSWER)
    checked.agree()
    places = {(c.round, c.participant): c.auditor for c in checked.task.checks}
    for place in range(AUDITORS):
        rounds = [(r, [i for i in answering if i != unjudged and places[r, i] == place]) for r in (1, 2)]
        found = [
            RoundFindings(r, tuple(i for i in ids if i == passed), tuple(i for i in ids if i != passed), transcripts)
            for r, ids in rounds
            if ids
            for transcripts in [(TRANSCRIPT,) * (passed in ids)]
        ]
        if found:
            checked.post(place, *found)
    checked.agree()
    assert checked.task.rounds[1].checks[passed].transcript == TRANSCRIPT
    for i in (granted, refused, forgotten):
        ledger.appeal_check(checked.synthetic.accounts[i], number, 1, ANSWER)
        assert checked.task.rounds[1].checks[i].auditor == second_auditor(places[1, i], AUDITORS)
        assert checked.task.rounds[1].checks[i].answers == [ANSWER, ANSWER]
    for i, transcripts in ((granted, (TRANSCRIPT,)), (refused, ())):
        found_ids = ((i,), ()) if transcripts else ((), (i,))
        checked.post(checked.task.rounds[1].checks[i].auditor, RoundFindings(1, *found_ids, transcripts))
    checked.agree()
    assert ledger.check(number, 1, unchecked) == (CheckState.NONE, 0)
    with pytest.raises(RevertedError, match="NotInTime"):
        ledger.end_checks(checked.stranger, number, 1, [silent], checked.addresses)
    for index in (1, 2):
        checked.settle(index)
    ledger.chain.advance(5 * PERIOD)
    ending = [failed, silent, granted, refused, forgotten]
    ledger.end_checks(checked.stranger, number, 1, ending, checked.addresses)
    ledger.end_checks(checked.stranger, number, 2, [i for i in ending if i != granted], checked.addresses)
    checked.agree()
    states = {i: ledger.check(number, 1, i)[0] for i in (*ending, unjudged, passed)}
    ended = {i for i, state in states.items() if state is CheckState.ENDED}
    assert ended == {failed, silent, refused}
    assert states[unjudged] is CheckState.ANSWERED and states[passed] is CheckState.PASSED
    # Twice is more than there was.
    assert ledger.participant(failed).stake == max(0, STAKE - 2 * PENALTY)
    assert ledger.participant(forgotten).stake == STAKE - PENALTY
    assert ledger.participant(granted).stake == STAKE
    costs = [s.amount for s in checked.task.slashes if s.offence is Offence.FAILED_CHECK]
    assert sum(costs) == sum(STAKE - ledger.participant(i).stake for i in checked.synthetic.accounts)
    assert all(ledger.evidence(checked.task.publisher, i).positive == 0 for i in (failed, silent, refused, forgotten))
    assert ledger.evidence(checked.task.publisher, granted).positive > 0


def test_data_is_committed_to_by_its_owner_or_by_signatures_for_the_next_round() -> None:
    checked = Checked.begin(1_000_000)
    ledger, number, people = checked.ledger, checked.number, checked.synthetic.accounts
    first, *others = sorted(people)
    words = {i: int.from_bytes(keccak(bytes([i])), "big") | 1 for i in people}
    ledger.commit_data(people[first], number, words[first])

    def signed(index: int) -> list[tuple[int, int, bytes]]:
        place = checked.synthetic.place
        messages = {i: data_message(place, index, i, words[i] ^ 2) for i in others}
        return [(i, words[i] ^ 2, sign(message, bytes(people[i].key))) for i, message in messages.items()]

    ledger.commit_data_of(checked.stranger, number, signed(1))
    with pytest.raises(RevertedError, match=r"NotRegistered|WrongSignature"):
        ledger.commit_data_of(checked.stranger, number, signed(2))
    checked.play(1)
    with pytest.raises(RevertedError, match=r"NotRegistered|WrongSignature"):
        ledger.commit_data_of(checked.stranger, number, signed(1))
    ledger.commit_data(people[first], number, words[first] ^ 4)
    data = checked.task.data
    assert [(word.posted, word.word) for word in data[first]] == [(1, words[first]), (2, words[first] ^ 4)]
    assert all([(word.posted, word.word) for word in data[i]] == [(1, words[i] ^ 2)] for i in others)
    # A new root waits for its turn.
    assert [acting(data[first], index, 2) for index in (1, 2, 3)] == [0, 0, 1]
