"""Programs of a task with scorers: whatever one of them leaves out, the others and the ledger go on."""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from fedledger.aggregator.mailbox.http_server import MAX_SCORES_BYTES, serving
from fedledger.aggregator.mailbox.mailbox import Mailbox
from fedledger.contracts.ledger.actor import Action
from fedledger.contracts.ledger.check_times import KNOWN_BLOCKS
from fedledger.contracts.ledger.records import Phase
from fedledger.node.participant import Participant
from fedledger.node.scoring import ScoredRound
from fedledger.platform.experiment.accounts import participant_role
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.records.commitment_batch import SignedCommitment
from fedledger.protocol.records.mailbox import MailboxRefusedError
from fedledger.protocol.records.scores import Scored as ScoredWords
from fedledger.protocol.records.scores import pack_scores, score_commitment
from fedledger.protocol.records.signatures import scores_message, sign
from fedledger.storage.base import Readable
from support.scored import Scored, owed_by, post_scored, scoring_of

BOTH = pytest.mark.parametrize("batched", [False, True], ids=["direct", "batched"])


class Mailboxes:
    """The mailboxes of all aggregators, in this process."""

    def __init__(self, boxes: Sequence[Mailbox]) -> None:
        self.boxes = boxes

    def commit(self, index: int, signed: SignedCommitment) -> None:
        for box in self.boxes:
            box.commit(index, signed)

    def commitment(self, index: int, participant: int) -> SignedCommitment | None:
        return self.boxes[0].commitment(index, participant)

    def proof(self, index: int, participant: int) -> list[bytes] | None:
        return self.boxes[0].proof(index, participant)

    def reveal(self, index: int, participant: int, update: ContentRef, salt: bytes, staleness: int = 0) -> bool:
        for box in self.boxes:
            box.reveal(index, participant, update, salt, staleness)
        return True

    def commit_scores(self, index: int, signed: SignedCommitment) -> None:
        for box in self.boxes:
            box.commit_scores(index, signed)

    def reveal_scores(self, index: int, participant: int, salt: bytes, words: Sequence[int]) -> bool:
        for box in self.boxes:
            box.reveal_scores(index, participant, salt, words)
        return True


class Deaf(Mailboxes):
    """Mailboxes that take nothing of scorers."""

    def commit_scores(self, index: int, signed: SignedCommitment) -> None:
        raise MailboxRefusedError("Nothing is taken.")

    def reveal_scores(self, index: int, participant: int, salt: bytes, words: Sequence[int]) -> bool:
        raise MailboxRefusedError("Nothing is taken.")


class Other:
    """A scorer that says something else each time, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, asked: ScoredRound, store: Readable) -> list[int]:
        self.asked += 1
        return [self.asked] * len(asked.owners)


def boxes(world: Scored) -> list[Mailbox]:
    return [box for box in (each.commitments.mailbox for each in world.aggregators) if box is not None]


def use(world: Scored, mailboxes: Mailboxes) -> None:
    for person in world.people:
        person.batched.mailbox = mailboxes
        scoring_of(person).mailbox = mailboxes


def kinds(world: Scored) -> list[Action]:
    return [action for _, step in world.steps for action, _ in step.actions]


@BOTH
def test_a_silent_scorer_is_named_and_the_round_goes_on(batched: bool, tmp_path: Path) -> None:
    world = post_scored(tmp_path, batched=batched)
    world.play_to(Action.SCORERS_DRAWN)
    silent = world.scorers()[1]
    silent.duties = tuple(duty for duty in silent.duties if duty is not scoring_of(silent))
    called_at = world.ledger.scoring(world.number).called_at
    world.play_to(Action.TALLIED)
    scoring = world.scoring
    assert scoring.silent == (silent.access.participant,) and not scoring.outvoted
    assert len(scoring.commitments) == 2 and set(scoring.scores) == {0, 2}
    # As all who committed had revealed, nobody waited for the end of the reveals.
    assert called_at + 600 <= world.ledger.chain.now() < called_at + 1200
    publisher = world.task.publisher
    assert world.ledger.scorer_evidence(publisher, silent.access.participant or 0).negative
    world.play(lambda: world.task.finished)
    assert world.task.rounds[1].proposal is not None
    assert world.ledger.chain.balance(world.ledger.address) == owed_by(world.ledger, world.history, world.number)


@BOTH
def test_scorers_draw_commit_and_reveal_by_themselves_where_the_aggregator_has_died_and_a_standby_goes_on(
    batched: bool, tmp_path: Path
) -> None:
    world = post_scored(tmp_path, batched=batched, standbys=1)
    if batched:
        use(world, Mailboxes(boxes(world)))
    world.play_to(Action.SCORERS_CALLED)
    # It dies in the step after it has called them.
    dead = world.aggregators.pop(0)
    assert world.scoring.seed is None or not batched
    world.play(lambda: world.task.finished)
    round_, scoring = world.task.rounds[1], world.task.rounds[1].scoring
    assert scoring is not None and round_.proposer == world.aggregators[0].access.address != dead.access.address
    assert set(scoring.scores) == {0, 1, 2} == set(scoring.commitments) and not scoring.silent
    assert scoring.revealed.keys() == {0, 1, 2}
    # The silent one's deposit is half the standby's, and half nobody's.
    assert world.ledger.chain.balance(world.ledger.address) == owed_by(world.ledger, world.history, world.number)


def test_a_standby_that_could_not_propose_a_scored_round_does_not_answer_for_it(tmp_path: Path) -> None:
    world = post_scored(tmp_path, batched=True, standbys=1)
    first, standby = boxes(world)
    use(world, Mailboxes([first, standby]))
    # What opens one update reaches the first aggregator alone, which has it scored and then does nothing more.
    world.people[0].batched.mailbox = Mailboxes([first])
    world.play_to(Action.SCORERS_CALLED)
    world.aggregators.pop(0)
    world.play(lambda: world.task.rounds[1].voided)
    lost, kept = world.ledger.seats(world.number)
    assert kept.deposit and not lost.deposit


@BOTH
def test_scorers_draw_before_the_chain_forgets_the_block_that_draws_them(batched: bool, tmp_path: Path) -> None:
    world = post_scored(tmp_path, batched=batched)
    world.play_to(Action.SCORERS_CALLED)
    # The aggregator would rather have nobody drawn, and blocks come fast: the middle of the period is too late.
    idle = world.aggregators.pop(0)
    world.play(lambda: world.scoring.seed is not None, pause=1)
    scoring = world.scoring
    assert scoring.drawn_in is not None and scoring.drawn_in - scoring.called_at.block < KNOWN_BLOCKS
    assert len(scoring.scorers) == 3 and scoring.seed != bytes(32)
    world.aggregators.append(idle)
    world.play_to(Action.TALLIED)
    assert not world.scoring.silent and len(world.scoring.scores) == 3


@BOTH
def test_a_scorer_that_is_killed_reveals_what_it_committed_to(batched: bool, tmp_path: Path) -> None:
    world = post_scored(tmp_path, batched=batched)
    world.play_to(Action.SCORERS_DRAWN)
    victim = world.scorers()[0]
    number = next(n for n, person in enumerate(world.people) if person is victim)
    while not scoring_of(victim).journal.has(1):
        victim.step()
    other = Other()
    world.people[number] = world.person(number, other)
    world.play_to(Action.TALLIED)
    assert other.asked == 0 and not world.scoring.silent and len(world.scoring.scores) == 3


@BOTH
def test_a_scorer_never_commits_a_second_time(batched: bool, tmp_path: Path) -> None:
    world = post_scored(tmp_path, batched=batched)
    world.play_to(Action.SCORERS_DRAWN)
    victim = world.scorers()[0]
    number = next(n for n, person in enumerate(world.people) if person is victim)
    while not scoring_of(victim).journal.has(1):
        victim.step()
    # A copy with another journal finds other scores.
    mailbox = boxes(world)[0] if batched else None
    copy = Participant(
        world.access(world.account(participant_role(number))),
        tmp_path / "copy",
        world.experiment.trainer(number),
        mailbox,
    )
    copy.score_with(Other())
    for _ in range(5):
        copy.step()
    world.play_to(Action.TALLIED)
    committed = world.scoring.commitments[0]
    scored = world.scoring.scores[0]
    participant = victim.access.participant or 0
    place = victim.access.place
    assert committed == score_commitment(place, 1, participant, scored.salt, scored.words)
    assert set(scored.words) != {pack_scores([1] * 5)[0]}


@pytest.mark.parametrize("is_listed", [False, True], ids=["deaf from the start", "deaf after the list"])
def test_scorers_go_to_the_ledger_in_time_where_the_mailbox_takes_nothing(is_listed: bool, tmp_path: Path) -> None:
    world = post_scored(tmp_path, batched=True)
    if is_listed:
        world.play_to(Action.SCORES_LISTED)
    use(world, Deaf(boxes(world)))
    world.play_to(Action.TALLIED)
    scoring = world.scoring
    assert not scoring.silent and scoring.revealed.keys() == {0, 1, 2}
    assert (Action.SCORES_LISTED in kinds(world)) is is_listed
    world.play(lambda: world.task.finished)


def test_who_has_not_signed_in_time_for_the_list_commits_on_chain(tmp_path: Path) -> None:
    world = post_scored(tmp_path, batched=True)
    world.play_to(Action.SCORERS_DRAWN)
    late = world.scorers()[2]
    scoring_of(late).mailbox = Deaf(boxes(world))
    late.batched.mailbox = scoring_of(late).mailbox
    world.play_to(Action.SCORES_LISTED)
    assert set(world.scoring.commitments) == {0, 1}
    world.play_to(Action.TALLIED)
    assert not world.scoring.silent and world.ledger.scoring(world.number).listed == {0, 1}
    assert 2 in world.scoring.revealed


def test_the_mailbox_takes_nothing_but_what_scorers_may_leave(tmp_path: Path) -> None:
    world = post_scored(tmp_path, batched=True)
    world.play_to(Action.SCORERS_DRAWN)
    box, ids = boxes(world)[0], world.scoring.scorers
    person = world.scorers()[0]
    key, place = bytes(person.access.account.key), person.access.place
    words, salt = pack_scores([3, 1, 2, 9, 4]), b"s" * 32
    digest = score_commitment(place, 1, ids[0], salt, words)

    def signed(participant: int, content: bytes, index: int = 1) -> SignedCommitment:
        return SignedCommitment(participant, content, sign(scores_message(place, index, participant, content), key))

    idle = next(i for i in world.current.selected if i not in ids)
    for index, wrong, told in (
        (1, signed(idle, digest), "not drawn"),
        (2, signed(ids[0], digest, 2), "not drawn"),
        (1, signed(ids[1], digest), "not signed"),
        (1, SignedCommitment(ids[0], digest, bytes(65)), "not signed"),
        (1, SignedCommitment(ids[0], b"x" * 32, signed(ids[0], digest).signature), "not signed"),
        (1, signed(ids[0], digest, 2), "not signed"),
        (1, signed(2**32 - 1, digest), "not drawn"),
    ):
        with pytest.raises(MailboxRefusedError, match=told):
            box.commit_scores(index, wrong)
    assert not box.score_commitments(1)
    with pytest.raises(MailboxRefusedError, match="opens no commitment"):
        box.reveal_scores(1, ids[0], salt, words)
    box.commit_scores(1, signed(ids[0], digest))
    box.commit_scores(1, signed(ids[0], digest))
    with pytest.raises(MailboxRefusedError, match="signed two"):
        box.commit_scores(1, signed(ids[0], b"y" * 32))
    for given in ((), (*words, 0), (2**256,), (0x7FFF,), (words[0] | 1 << 16 * 5,), (words[0] + 1,)):
        with pytest.raises(MailboxRefusedError):
            box.reveal_scores(1, ids[0], salt, given)
    with pytest.raises(MailboxRefusedError):
        box.reveal_scores(1, ids[1], salt, words)
    assert box.reveal_scores(1, ids[0], salt, words) and box.reveal_scores(1, ids[0], salt, words)
    # All of it outlasts the program.
    again = Mailbox(world.ledger, world.history, world.number, tmp_path / "mailbox0")
    assert again.score_commitments(1) == {ids[0]: signed(ids[0], digest)}
    assert again.revealed_scores(1) == {ids[0]: (salt, words)}


def test_scores_travel_over_http_and_what_is_too_long_or_malformed_does_not(tmp_path: Path) -> None:
    world = post_scored(tmp_path, batched=True)
    world.play_to(Action.SCORERS_DRAWN)
    box, ids = boxes(world)[0], world.scoring.scorers
    person = world.scorers()[0]
    key, place = bytes(person.access.account.key), person.access.place
    words, salt = pack_scores([3, 1, 2, 9, 4]), b"s" * 32
    digest = score_commitment(place, 1, ids[0], salt, words)
    signature = sign(scores_message(place, 1, ids[0], digest), key)
    commitment = {"participant": ids[0], "commitment": digest.hex(), "signature": signature.hex()}
    reveal = {"participant": ids[0], "salt": salt.hex(), "words": words[0].to_bytes(32, "big").hex()}

    def post(port: int, path: str, body: object, length: int | None = None) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        raw = json.dumps(body).encode()
        connection.request("POST", path, raw, {"Content-Length": str(len(raw) if length is None else length)})
        status = connection.getresponse().status
        connection.close()
        return status

    with serving(box, "127.0.0.1", 0) as port:
        commits, reveals = "/v1/rounds/1/scores/commitments", "/v1/rounds/1/scores/reveals"
        assert post(port, reveals, reveal) == 409
        assert post(port, commits, commitment) == 200
        assert post(port, commits, commitment | {"more": 1}) == 422
        assert post(port, reveals, reveal | {"words": "00" * 32 * 65}) == 422
        assert post(port, reveals, reveal | {"words": reveal["words"][:-2]}) == 422
        assert post(port, reveals, reveal | {"words": reveal["words"].upper().replace("0", "G")}) == 422
        assert post(port, reveals, reveal | {"words": "00" * 32 * 64}) == 409
        assert post(port, reveals, {"participant": 0}, MAX_SCORES_BYTES + 1) == 413
        assert post(port, commits, {"participant": 0}, MAX_SCORES_BYTES) == 413
        assert post(port, "/v1/rounds/1/reveals", {"participant": 0}, MAX_SCORES_BYTES) == 413
        assert post(port, reveals, reveal) == 200
    assert box.revealed_scores(1) == {ids[0]: (salt, words)}


def test_junk_that_a_scorer_reveals_on_chain_is_what_it_is_judged_by(tmp_path: Path) -> None:
    world = post_scored(tmp_path, batched=True, terms="score_floor = 1\nscore_spread = 4\n")
    world.play_to(Action.SCORERS_DRAWN)
    person = world.scorers()[0]
    number = next(n for n, each in enumerate(world.people) if each is person)

    def worst_and_best(asked: ScoredRound, store: Readable) -> list[int]:
        return [32_766 if place % 2 else 1 for place in range(len(asked.owners))]

    world.people[number] = world.person(number, worst_and_best)
    world.play_to(Action.TALLIED)
    assert world.scoring.far and person.access.participant in world.scoring.far
    assert world.ledger.phase(world.number) in (Phase.REVEALING, Phase.PROPOSING, Phase.CHALLENGING, Phase.SETTLEABLE)


def test_an_aggregator_keeps_and_tallies_only_what_opens_what_the_ledger_holds(tmp_path: Path) -> None:
    world = post_scored(tmp_path, batched=True)
    world.play_to(Action.SCORERS_DRAWN)
    person, box = world.scorers()[0], boxes(world)[0]
    # It leaves a commitment in the mailbox and what opens it, and commits to something else on chain before the list.
    key, place, participant = bytes(person.access.account.key), person.access.place, person.access.participant or 0
    words, salt = pack_scores([3, 1, 2, 9, 4]), b"s" * 32
    digest = score_commitment(place, 1, participant, salt, words)
    signature = sign(scores_message(place, 1, participant, digest), key)
    box.commit_scores(1, SignedCommitment(participant, digest, signature))
    box.reveal_scores(1, participant, salt, words)
    person.duties = tuple(duty for duty in person.duties if duty is not scoring_of(person))
    own = score_commitment(place, 1, participant, salt, pack_scores([1] * 5))
    world.ledger.commit_score(person.access.account, world.number, 1, world.current.selected, own)
    world.history.update()
    lines = len(box._path(1, "scores").read_text().splitlines())
    for _ in range(3):
        # What the ledger holds is what counts now, and is kept once.
        assert box.reveal_scores(1, participant, salt, pack_scores([1] * 5))
        with pytest.raises(MailboxRefusedError, match="opens no commitment"):
            box.reveal_scores(1, participant, salt, words)
    assert len(box._path(1, "scores").read_text().splitlines()) == lines + 1
    world.play_to(Action.TALLIED)
    assert not world.scoring.silent and set(world.scoring.scores) == {0, 1, 2}
    assert ScoredWords(0, salt, words) not in world.scoring.scores.values()
