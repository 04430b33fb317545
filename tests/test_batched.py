"""Batched rounds: signed commitments, one root, and what happens when somebody does not play along."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from types import SimpleNamespace

import pytest
import requests
from eth_abi import abi
from eth_account.signers.local import LocalAccount
from hypothesis import given
from hypothesis import strategies as st

from fedledger.aggregator.duties import commitments
from fedledger.aggregator.mailbox.http_server import MAX_BODY_BYTES, RateLimit, serving
from fedledger.aggregator.mailbox.mailbox import Mailbox
from fedledger.aggregator.round import batches
from fedledger.contracts.abi import Log, functions
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.development import free_port
from fedledger.contracts.chain.records import Receipt
from fedledger.contracts.ledger.access import place_of
from fedledger.contracts.ledger.actor import WAITED, Situation, Step
from fedledger.contracts.ledger.calls import decode_batch_proposal
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.records import Phase, Proposal
from fedledger.ledger_tools.audit.audit import audit_run
from fedledger.node.mailbox_client import HttpMailboxClient
from fedledger.node.participant import Participant
from fedledger.platform.experiment.accounts import experiment_account, participant_role
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.encoding.merkle import verify
from fedledger.protocol.records.commitment_batch import Batch, Opening, SignedCommitment, leaf
from fedledger.protocol.records.mailbox import MailboxRefusedError
from fedledger.protocol.records.settlement import pack_lengths, unpack_lengths
from fedledger.protocol.records.signatures import Place, commitment, commitment_message, recover, sign
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage.addresses import DEVELOPMENT, Networks
from fedledger.storage.local import LocalStore
from support.examples import examples
from support.small import Small, run_small

ELSEWHERE = "0x" + "ab" * 20
NEARBY = Networks.read(DEVELOPMENT)
BATCHED = "[ledger]\nbatched = true\nchallenge_window = 100\n"


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return run_small(tmp_path_factory.mktemp("direct"), Chain(), rounds=2)


@pytest.fixture(scope="module")
def batched(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return run_small(tmp_path_factory.mktemp("batched"), Chain(), rounds=2, extra=BATCHED)


def test_both_ways_to_commit_end_in_one_model_and_one_pay(direct: Small, batched: Small) -> None:
    assert batched.summary["final_model"] == direct.summary["final_model"]
    assert batched.summary["participants"] == direct.summary["participants"]


def test_an_honest_batched_history_is_reproduced(batched: Small) -> None:
    result = audit_run(batched.folder)
    assert result.reproduced and result.measured and result.rounds == 2
    assert not batched.run.task.rounds[1].commits, "nobody needed a transaction of its own"


def test_an_omitted_signer_forces_itself_in(tmp_path: Path, direct: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """An aggregator that leaves somebody out of the root has to judge and pay it all the same."""
    seal = Mailbox.seal

    def omitting(self: Mailbox, index: int) -> Batch:
        batch = seal(self, index)
        return Batch(batch.commitments[1:]) if index == 1 else batch

    committed = Mailbox.committed
    monkeypatch.setattr(Mailbox, "seal", omitting)
    monkeypatch.setattr(Mailbox, "committed", lambda self, index: committed(self, index) - {0})
    monkeypatch.setattr(Mailbox, "proof", lambda self, index, who: self.seal(index).proof(who))
    small = run_small(tmp_path, Chain(), rounds=2, extra=BATCHED)
    first = small.run.task.rounds[1]
    assert (first.count, len(first.commits)) == (3, 1)
    assert small.summary["final_model"] == direct.summary["final_model"]
    assert small.summary["participants"] == direct.summary["participants"]
    assert audit_run(small.folder).reproduced


def test_who_cannot_reach_the_aggregator_reveals_on_chain(
    tmp_path: Path, direct: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deaf(self: Mailbox, index: int, participant: int, *opening: object) -> None:
        raise MailboxRefusedError("nobody is at home")

    monkeypatch.setattr(Mailbox, "reveal", deaf)
    small = run_small(tmp_path, Chain(), rounds=2, extra=BATCHED)
    assert len(small.run.task.rounds[1].reveals) == 4
    assert small.summary["final_model"] == direct.summary["final_model"]
    assert audit_run(small.folder).reproduced


def test_who_is_called_late_shows_that_it_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openings = Mailbox.openings

    def forgetful(self: Mailbox, index: int) -> dict[int, Opening]:
        return {who: opening for who, opening in openings(self, index).items() if who != 2}

    monkeypatch.setattr(Mailbox, "openings", forgetful)
    small = run_small(tmp_path, Chain(), rounds=1, extra=BATCHED)
    first = small.run.task.rounds[1]
    assert first.verdicts[2] is Verdict.LATE
    assert set(first.excuses) == {2}, "revealed on chain in the window"
    assert audit_run(small.folder).reproduced


def test_a_node_that_never_reveals_is_late_and_the_round_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    act = Participant.act

    def griefing(self: Participant, seen: Situation) -> Step:
        silent = self is people[0] and seen.phase in (Phase.REVEALING, Phase.CHALLENGING)
        return WAITED if silent else act(self, seen)

    people: list[Participant] = []
    init = Participant.__init__

    def remember(self: Participant, *arguments: object, **options: object) -> None:
        init(self, *arguments, **options)  # type: ignore[arg-type]
        people.append(self)

    monkeypatch.setattr(Participant, "__init__", remember)
    monkeypatch.setattr(Participant, "act", griefing)
    small = run_small(tmp_path, Chain(), rounds=2, extra=BATCHED)
    late = [verdict for r in small.run.task.settled for verdict in r.verdicts.values() if verdict is Verdict.LATE]
    assert len(late) == 2
    assert audit_run(small.folder).reproduced


@pytest.mark.parametrize(
    ("lie", "field"),
    [
        (lambda batch: replace(batch, commitments=batch.commitments[1:]), "root of commitments"),
        (lambda batch: replace(batch, salts={**batch.salts, 1: bytes(32)}), "commitment of 0x"),
        (
            lambda batch: replace(
                batch, commitments=(replace(batch.commitments[0], signature=b"\1" * 65), *batch.commitments[1:])
            ),
            "signature of 0x",
        ),
    ],
    ids=["omitted", "salt", "signature"],
)
def test_a_batch_that_does_not_follow_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: object, field: str
) -> None:
    encode = Batch.encode
    monkeypatch.setattr(Batch, "encode", lambda self: encode(lie(self) if self.salts else self))  # type: ignore[operator]
    small = run_small(tmp_path, Chain(), rounds=1, extra=BATCHED)
    monkeypatch.undo()
    divergence = audit_run(small.folder).first_divergence
    assert divergence is not None and divergence.round == 1 and divergence.field.startswith(field)


def test_an_update_that_nobody_committed_to_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The aggregator puts one participant's update in another one's place."""

    def swapped(current: object, batch: Batch, updates: dict[int, ContentRef], place: Place) -> object:
        done = batches.complete(current, batch, updates, place)  # type: ignore[arg-type]
        done.reveals[0] = replace(done.reveals[0], update=done.reveals[1].update)
        return done

    monkeypatch.setattr(commitments, "complete", swapped)
    small = run_small(tmp_path, Chain(), rounds=1, extra=BATCHED)
    divergence = audit_run(small.folder).first_divergence
    assert divergence is not None and divergence.field.startswith("commitment of 0x")


class Round:
    """An open round of a batched task, its mailbox, and the signers' keys."""

    def __init__(self, folder: Path) -> None:
        small = run_small(folder, Chain(), rounds=1, extra=BATCHED)
        # The round is over: what the history knows of it is set back to where commitments are taken.
        self.history, self.ledger = small.run.history, small.run.ledger
        self.current = replace(
            small.run.task.rounds[1], proposal=None, root=None, commits={}, reveals={}, settled_in=None
        )
        small.run.task.rounds[1] = self.current
        self.folder = folder / "fresh"
        self.mailbox = self.again()
        self.place = place_of(self.ledger, 1)
        seed, chain = small.experiment.config.seed, self.ledger.chain
        accounts = [experiment_account(seed, participant_role(i), chain) for i in range(4)]
        self.keys = {self.history.ids[account.address]: bytes(account.key) for account in accounts}

    def again(self) -> Mailbox:
        return Mailbox(self.ledger, self.history, 1, self.folder)

    def signed(self, participant: int, digest: bytes, signer: int | None = None, index: int = 1) -> SignedCommitment:
        message = commitment_message(self.place, index, participant, digest)
        key = self.keys[participant if signer is None else signer]
        return SignedCommitment(participant, digest, sign(message, key))


@pytest.fixture
def open_round(tmp_path: Path) -> Round:
    return Round(tmp_path)


def test_the_mailbox_takes_what_is_signed_once_and_survives_a_restart(open_round: Round) -> None:
    mailbox = open_round.mailbox
    one = open_round.signed(0, b"a" * 32)
    mailbox.commit(1, one)
    mailbox.commit(1, one)
    for wrong, reason in (
        (open_round.signed(1, b"a" * 32, signer=0), "is not signed by"),
        (open_round.signed(1, b"a" * 32, index=2), "is not signed by"),
        (replace(one, participant=1), "is not signed by"),
        (open_round.signed(0, b"b" * 32), "signed two commitments"),
        (open_round.signed(0, b"c" * 32), "signed two commitments"),
    ):
        with pytest.raises(MailboxRefusedError, match=reason):
            mailbox.commit(1, wrong)
    with pytest.raises(MailboxRefusedError, match="not selected"):
        mailbox.commit(1, replace(one, participant=9))
    with pytest.raises(MailboxRefusedError, match="not open"):
        mailbox.commit(2, one)
    (messages,) = open_round.folder.glob("*.jsonl")
    assert messages.read_text().count("equivocation") == 1, "one is proof enough"
    with messages.open("a") as file:
        file.write('{"kind": "commi')
    after = open_round.again()
    assert after.committed(1) == {0}
    sealed = after.seal(1)
    with pytest.raises(MailboxRefusedError, match="are closed"):
        after.commit(1, open_round.signed(1, b"c" * 32))
    assert open_round.again().seal(1) == sealed == Batch((one,))
    with pytest.raises(MailboxRefusedError, match="opens no commitment"):
        after.reveal(1, 0, ContentRef(b"u" * 32, 5), b"s" * 32)


@pytest.fixture
def served(open_round: Round) -> Iterator[tuple[Round, str]]:
    port = free_port()
    with serving(open_round.mailbox, "127.0.0.1", port):
        yield open_round, f"http://127.0.0.1:{port}"


def test_a_node_speaks_to_the_mailbox_over_http(served: tuple[Round, str]) -> None:
    open_round, url = served
    post = HttpMailboxClient(open_round.history, 1, NEARBY)
    with pytest.raises(MailboxRefusedError, match="has not announced"):
        post.commit(1, open_round.signed(0, b"a" * 32))
    open_round.history.endpoints[open_round.history.task(1).params.aggregator] = url
    for participant in (0, 1, 2):
        post.commit(1, open_round.signed(participant, b"a" * 32))
    with pytest.raises(MailboxRefusedError, match="signed two commitments"):
        post.commit(1, open_round.signed(0, b"b" * 32))
    assert post.proof(1, 0) is None
    root = open_round.mailbox.seal(1).root
    proof = post.proof(1, 2)
    assert proof is not None and verify(root, leaf(2, b"a" * 32), proof)
    assert post.proof(1, 3) is None
    with pytest.raises(MailboxRefusedError, match="opens no commitment"):
        post.reveal(1, 0, ContentRef(b"u" * 32, 5), b"s" * 32)


def test_what_an_aggregator_that_was_away_lacks_is_sent_to_it_again(served: tuple[Round, str]) -> None:
    open_round, url = served
    history, ledger = open_round.history, open_round.ledger
    update, salt, base = ContentRef(b"u" * 32, 5), b"s" * 32, open_round.current.base.digest
    opened = commitment(open_round.place, 1, history.owners[0], base, update, salt)
    open_round.mailbox.commit(1, open_round.signed(0, opened))
    standby = Mailbox(ledger, history, 1, open_round.folder.parent / "standby")
    standby.commit(1, open_round.signed(0, opened))
    task, port = history.task(1), free_port()
    task.seats = (*task.seats, ELSEWHERE)
    history.endpoints |= {task.seats[0]: f"http://127.0.0.1:{port}", ELSEWHERE: url}
    post = HttpMailboxClient(history, 1, NEARBY)
    assert not post.reveal(1, 0, update, salt), "the active one is away"
    assert open_round.mailbox.openings(1) == {0: Opening(update, salt)}
    with serving(standby, "127.0.0.1", port):
        assert post.reveal(1, 0, update, salt)
    assert standby.openings(1) == {0: Opening(update, salt)}
    assert post.reveal(1, 0, update, salt), "all have it, so nobody is asked"


def test_a_standby_that_missed_the_commitments_takes_what_opens_those_of_the_root(open_round: Round) -> None:
    """Else a takeover would find nobody's update, and the round would end empty."""
    history, current, folder = open_round.history, open_round.current, open_round.folder.parent
    update, salt = ContentRef(b"u" * 32, 5), b"s" * 32
    opened = commitment(open_round.place, 1, history.owners[0], current.base.digest, update, salt)
    open_round.mailbox.commit(1, open_round.signed(0, opened))
    batch, store = open_round.mailbox.seal(1), LocalStore(folder / "store")
    current.root, current.count, current.batch = batch.root, 1, ContentRef.of(batch.encode())

    def standby(name: str, content: LocalStore | None) -> Mailbox:
        return Mailbox(open_round.ledger, history, 1, folder / name, content)

    for lacking in (standby("without", None), standby("too early", store)):
        with pytest.raises(MailboxRefusedError, match="opens no commitment"):
            lacking.reveal(1, 0, update, salt)
    store.put(batch.encode())
    away = standby("away", store)
    with pytest.raises(MailboxRefusedError, match="opens no commitment"):
        away.reveal(1, 0, update, b"t" * 32)
    away.reveal(1, 0, update, salt)
    assert away.openings(1) == {0: Opening(update, salt)}
    other = Batch((open_round.signed(0, b"x" * 32),))
    current.batch = store.put(other.encode())
    with pytest.raises(MailboxRefusedError, match="opens no commitment"):
        standby("lied to", store).reveal(1, 0, update, salt)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Encoding: gzip\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[[[",
        b"nonsense\r\n\r\n",
        b"",
    ],
)
def test_an_answer_that_makes_no_sense_is_a_refusal(open_round: Round, answer: bytes) -> None:
    class Broken(BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65_536)
            self.request.sendall(answer)

    with ThreadingTCPServer(("127.0.0.1", 0), Broken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        seat = open_round.history.task(1).params.aggregator
        open_round.history.endpoints[seat] = f"http://127.0.0.1:{server.server_address[1]}"
        with pytest.raises(MailboxRefusedError, match="does not answer"):
            HttpMailboxClient(open_round.history, 1, NEARBY).commit(1, open_round.signed(0, b"a" * 32))
        server.shutdown()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{", 422),
        (b"[]", 422),
        (b'{"participant": 0}', 422),
        (b'{"participant": "0", "commitment": "00", "signature": ""}', 422),
        (json.dumps({"participant": 0, "commitment": "a" * 64, "signature": "b" * 130, "more": 1}).encode(), 422),
        (json.dumps({"participant": -1, "commitment": "a" * 64, "signature": "b" * 130}).encode(), 422),
        (json.dumps({"participant": 0, "commitment": "a" * 64, "signature": "b" * 130}).encode(), 409),
        (b"x" * (MAX_BODY_BYTES + 1), 413),
    ],
)
def test_the_service_refuses_what_is_malformed(served: tuple[Round, str], body: bytes, status: int) -> None:
    headers = {"Content-Type": "application/json"}
    answer = requests.post(f"{served[1]}/v1/rounds/1/commitments", data=body, headers=headers, timeout=10)
    assert answer.status_code == status
    assert not served[0].mailbox.committed(1)


def test_a_message_of_unknown_length_is_refused(served: tuple[Round, str]) -> None:
    answer = requests.post(f"{served[1]}/v1/rounds/1/commitments", data=iter([b"{}"]), timeout=10)
    assert answer.status_code == 413


def test_a_client_that_asks_too_often_has_to_wait() -> None:
    now = [0.0]
    limit = RateLimit(rate=2, burst=3, clock=lambda: now[0])
    assert [limit.wait("a") for _ in range(3)] == [0, 0, 0]
    assert limit.wait("a") == pytest.approx(0.5)
    assert limit.wait("b") == 0
    now[0] = 0.5
    assert limit.wait("a") == 0
    assert limit.wait("a") > 0


ids = st.lists(st.integers(0, 2**32 - 1), unique=True, max_size=20).map(sorted)


@examples(50)
@given(ids, st.randoms(use_true_random=False))
def test_a_batch_is_its_bytes_and_proves_each_commitment(participants: list[int], draw: object) -> None:
    rows = tuple(SignedCommitment(i, draw.randbytes(32), draw.randbytes(65)) for i in participants)  # type: ignore[attr-defined]
    batch = Batch(rows, {i: draw.randbytes(32) for i in participants[::2]})  # type: ignore[attr-defined]
    again = Batch.decode(batch.encode())
    assert again == batch and again.root == batch.root
    for row in rows:
        assert verify(batch.root, row.leaf, batch.proof(row.participant) or [])
    assert batch.proof(2**32) is None


@pytest.mark.parametrize(
    "document",
    [
        {"version": 2, "commitments": [], "salts": {}},
        {"version": 1, "commitments": []},
        {"version": 1, "commitments": [{"participant": 1, "commitment": "00", "signature": "00"}], "salts": {}},
        {"version": 1, "commitments": [{"participant": True}], "salts": {}},
        {"version": 1, "commitments": {}, "salts": {"x": "00"}},
        {"version": 1, "commitments": [], "salts": []},
    ],
)
def test_what_is_no_batch_is_refused(document: dict[str, object]) -> None:
    from fedledger.protocol.encoding import canonical

    with pytest.raises(ValueError, match=r"."):
        Batch.decode(canonical.encode(document))


@given(st.lists(st.integers(0, 2**32 - 1), max_size=40))
def test_lengths_come_back(lengths: list[int]) -> None:
    updates = [ContentRef(bytes(32), length) for length in lengths]
    assert unpack_lengths(pack_lengths(updates), len(updates)) == lengths


def test_a_commitments_signature_is_bound_to_all_it_names() -> None:
    key = b"\7" * 32
    place = (31337, "0x0000000000000000000000000000000000000001", 1)
    signature = sign(commitment_message(place, 1, 0, b"c" * 32), key)
    signer = recover(commitment_message(place, 1, 0, b"c" * 32), signature)
    others = [
        ((1, *place[1:]), 1, 0, b"c" * 32),
        ((place[0], "0x0000000000000000000000000000000000000002", 1), 1, 0, b"c" * 32),
        ((*place[:2], 2), 1, 0, b"c" * 32),
        (place, 2, 0, b"c" * 32),
        (place, 1, 1, b"c" * 32),
        (place, 1, 0, b"d" * 32),
    ]
    assert all(recover(commitment_message(*other), signature) != signer for other in others)
    with pytest.raises(ValueError, match="32"):
        commitment_message(place, 1, 0, b"short")
    with pytest.raises(ValueError, match="checksummed"):
        commitment_message((place[0], "0xab", 1), 1, 0, b"c" * 32)


def test_a_proposal_among_several_calls_is_read() -> None:
    propose, several = functions()["proposeRound"], functions()["multicall"]
    ref = (b"m" * 32, 5)

    def proposing(index: int) -> bytes:
        return propose.encode((1, index, (ref, ref, ref, bytes(32), False), [1 << 64], [index], ([b"u" * 32], [7])))

    inner = several.encode([[proposing(2), functions()["announce"].encode(("x",))]])
    data = several.encode([[proposing(1), inner, proposing(3)]])
    proposal = SimpleNamespace(
        **{name: SimpleNamespace(digest=b"m" * 32, length=5) for name in ("model", "state", "report")}
    )
    proposal.stop, proposal.updates = False, bytes(32)
    for index in (1, 2, 3):
        log = Log("BatchProposed", {"task": 1, "round": index, "proposal": proposal}, 1, bytes(32), 0, input=data)
        read = decode_batch_proposal(log)
        assert (read.share_words, read.updates) == ((index,), (ContentRef(b"u" * 32, 7),))
    assert not decode_batch_proposal(replace(log, input=b"else")).is_readable


def _cut(data: bytes) -> bytes:
    return data[:-28]


def _soiled(data: bytes) -> bytes:
    return data[:-1] + b"\1"


@pytest.mark.parametrize("change", [_cut, _soiled])
def test_what_the_ledger_reads_programs_read_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[bytes], bytes]
) -> None:
    """Solidity asks for no padding of the calls in a `multicall`, and not for zeros in it."""

    def odd(self: Ledger, account: LocalAccount, task: int, index: int, proposal: Proposal) -> Receipt:
        sent = [update.digest for update in proposal.updates], pack_lengths(proposal.updates)
        call = functions()["proposeRound"].encode((task, index, *proposal.as_arguments(), sent))
        data = functions()["multicall"].encode([[call]])
        assert data.endswith(bytes(28))
        return self._transact(account, "multicall", change(data))

    monkeypatch.setattr(Ledger, "propose_round", odd)
    monkeypatch.setattr(Ledger, "send_calls", lambda *_: None)
    assert audit_run(run_small(tmp_path, Chain(), rounds=1, extra=BATCHED).folder).reproduced


def test_text_that_is_none_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may announce any bytes, and every program reads what was announced."""
    commit, done = Ledger.commit_update, []

    def after(self: Ledger, account: LocalAccount, *arguments: object) -> object:
        if not done:
            data = functions()["announce"].selector + abi.encode(["bytes"], [b"http://\xff"])
            done.append(self._transact(account, "announce", data))
        return commit(self, account, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Ledger, "commit_update", after)
    small = run_small(tmp_path, Chain(), rounds=1)
    assert done and audit_run(small.folder).reproduced
    assert "http://\ufffd" in small.run.history.endpoints.values()


def test_a_store_keeps_the_batch(batched: Small) -> None:
    store = LocalStore(batched.folder / "store")
    for r in batched.run.task.settled:
        assert r.proposal is not None and len(r.proposal.updates) == 4
        assert all(store.get(update) for update in r.proposal.updates)


def test_a_proposal_within_a_multicall_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words and updates are read from the transaction of `BatchProposed`, which may be of several calls."""

    def wrapped(self: Ledger, account: LocalAccount, task: int, index: int, proposal: Proposal) -> Receipt:
        sent = [update.digest for update in proposal.updates], pack_lengths(proposal.updates)
        call = functions()["proposeRound"].encode((task, index, *proposal.as_arguments(), sent))
        return self._send(account, "multicall", [call])

    monkeypatch.setattr(Ledger, "propose_round", wrapped)
    assert audit_run(run_small(tmp_path, Chain(), rounds=1, extra=BATCHED).folder).reproduced
