"""Strangers on a ledger: they post tasks of their own, play the rounds of these as they like, and call what they like.

Whatever they do costs only themselves.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import numpy as np

from fedledger.aggregator.round.inputs import proposal_of, round_input
from fedledger.aggregator.round.outcome import round_outcome
from fedledger.contracts.abi import functions
from fedledger.contracts.chain.records import Transaction
from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.records import DisputeStatus, Proposal
from fedledger.ledger_tools.audit.audit import AuditResult, audit_chain
from fedledger.node.participant import Participant
from fedledger.platform.experiment.accounts import AGGREGATOR, PUBLISHER
from fedledger.protocol.encoding import canonical, tensors
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ChainError, FedledgerError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.records.ref import Ref
from fedledger.protocol.records.settlement import pack_words
from fedledger.protocol.records.signatures import commitment
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.verdicts import Verdict
from support.hostile import as_json, mutated, mutated_bytes
from support.world import BOND, JUROR_PENALTY, World, settled

LASTING = 50_000
"""Seconds for which a stranger's proposals may be challenged: as long as anybody plays."""
STAKED = 50 * JUROR_PENALTY
"""What a stranger's aggregator deposits."""
DUST = 100
NOTHING = ContentRef.of(b"x")
SALT = bytes(32)


@dataclass
class Stranger:
    """Somebody with a task of its own, who is its publisher and its aggregator, and with a participant.

    ``world`` has been deployed. ``tasks`` are those that were posted.
    """

    world: World
    tasks: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        world = self.world
        self.account, self.worker = world.purse("stranger"), world.purse("stranger's participant")
        worker = self.worker.address
        world.ledger.register(self.worker, worker, worker, world.ledger.settings().min_stake)

    # -- tasks -------------------------------------------------------------------------------------------------

    def post(self, spec: TaskSpec | bytes, model: ContentRef | None = None, **terms: Any) -> int:
        """Post a task with a spec, good or not, enrol in it and take its seat."""
        world = self.world
        content = spec if isinstance(spec, bytes) else written(spec.model_dump())
        if model is None:
            model = world.experiment.spec.initial_model.ref if isinstance(spec, bytes) else spec.initial_model.ref
        given = {
            "spec": world.store.put(content),
            "model": model,
            "aggregator": self.account.address,
            "quorum": 1,
            "min_participants": 1,
            "max_participants": 1,
            "challenge_window": LASTING,
            "units_per_round": 1,
            "credit_unit": 1,
            "bond": STAKED,
            "batched": False,
        }
        task = world.ledger.post_task(self.account, replace(world.params, **given | terms))
        world.ledger.enrol(self.worker, task)
        world.ledger.take_seat(self.account, task)
        self.tasks.append(task)
        return task

    @property
    def number(self) -> int:
        """The participant's id."""
        return self.world.history.update().ids[self.worker.address]

    def fabricate(self, task: int, update: ContentRef = NOTHING, proposal: Proposal | None = None) -> None:
        """Play a round without any work: reveal what is no update, and propose what does not follow."""
        world, worker = self.world, self.number
        world.ledger.open_round(self.account, task, 1, [worker])
        base = world.history.update().task(task).rounds[1].base.digest
        place = world.chain.chain_id, world.ledger.address, task
        bound = commitment(place, 1, self.worker.address, base, update, SALT)
        world.ledger.commit_update(self.worker, task, 1, bound)
        world.ledger.reveal_update(self.worker, task, 1, update, SALT, ())
        world.ledger.propose_round(self.account, task, 1, proposal or nothing_proposed(worker))

    def work(self, task: int, spec: TaskSpec) -> Proposal:
        """Play a round as its participant should; return what an honest aggregator would propose, its content stored.

        The participant trains what the world's first participant would.
        """
        world = self.world
        world.ledger.open_round(self.account, task, 1, [self.number])
        access = TaskAccess(world.ledger, world.history, self.worker, world.store, task, spec)
        node = Participant(access, world.folder / f"stranger{task}", world.experiment.trainer(0))
        while not world.history.update().task(task).rounds[1].reveals:
            node.step()
        known = world.history.task(task)
        outcome = round_outcome(round_input(world.store, spec, known, known.rounds[1]), world.experiment.measurer())
        for content in (outcome.model, outcome.state, outcome.report):
            world.store.put(content.data)
        return proposal_of(outcome)

    # -- anything else -----------------------------------------------------------------------------------------

    def call(self, name: str, *arguments: Any) -> bool:
        """Call a function of the ledger with arguments that it may refuse; return whether it took them."""
        try:
            data = functions()[name].encode(arguments)
        except Exception:
            # What cannot be written as the ledger's arguments is sent as bytes instead.
            data = functions()[name].selector + b"\xff" * 64
        return self.send(data)

    def send(self, data: bytes) -> bool:
        """Send the ledger any bytes; return whether it took them."""
        try:
            self.world.chain.send(Transaction(self.account, self.world.ledger.address, data, 0), "anything")
        except ChainError:
            return False
        return True


def nothing_proposed(worker: int) -> Proposal:
    """Return a proposal of nothing that anybody can read, which calls the participant's update accepted."""
    verdicts, shares = pack_words({worker: Verdict.ACCEPTED}, {})
    return Proposal(NOTHING, NOTHING, NOTHING, False, tuple(verdicts), tuple(shares))


def audited(world: World, task: int) -> AuditResult | FedledgerError:
    """Audit a stranger's task: a result, or one of fedledger's errors; nothing else is caught."""
    try:
        return audit_chain(world.ledger, world.store, task)
    except FedledgerError as error:
        return error


# -- money --------------------------------------------------------------------------------------------------------


def money_of_others(world: World) -> dict[str, int]:
    """Return who gained or lost, but for strangers, and for what the task pays for work."""
    gains = {role: gain for role, gain in world.gains().items() if not role.startswith("stranger")}
    for role, units in world.credits().items():
        gains[role] = gains.get(role, 0) - units
        gains[PUBLISHER] = gains.get(PUBLISHER, 0) + units
    return {role: gain for role, gain in gains.items() if gain}


def check_lie_overturned(world: World, stranger: Stranger) -> None:
    """Assert that the liar's first round was overturned beside a stranger's tasks, and that all else went on."""
    (dispute,) = [d for d in world.history.disputes if d.task == world.number]
    assert dispute.status is DisputeStatus.OVERTURNED and dispute.round == 1
    assert settled(world.task) == [2, 3] and world.audit().reproduced
    check_caught(world, stranger)


def check_caught(world: World, stranger: Stranger | None = None) -> None:
    """Assert that a liar lost its bond, three quarters of it to verifiers, and that nobody lost anything else.

    Verifiers may have earned more by what a stranger lost.
    """
    gains = money_of_others(world)
    assert gains.pop(AGGREGATOR) == -BOND
    assert all(role.startswith("verifier") and gain > 0 for role, gain in gains.items()), gains
    at_stake = 0 if stranger is None else len(stranger.tasks) * STAKED
    # What a jury cannot share evenly is burned.
    assert 0 <= sum(gains.values()) - BOND // 2 - BOND // 4 + DUST <= DUST + at_stake


# -- mutants ------------------------------------------------------------------------------------------------------


def hostile_spec(world: World, rng: Random) -> TaskSpec | bytes:
    """Return a spec with something wrong in it: a field, its model, or what it refers to."""
    spec, how = world.experiment.spec, rng.randrange(5)
    if how == 0:
        return mutated_bytes(spec.encode(), rng)
    if how == 1:
        return spec.model_copy(update={"validation": _stored(world, hostile_validation(world, rng))})
    if how == 2:
        return spec.model_copy(update={"initial_model": _stored(world, hostile_model(world, rng))})
    if how == 3:
        return spec.model_copy(update={"model": hostile_architecture(rng)})
    return written(mutated(json.loads(spec.encode()), rng))


def written(document: Any) -> bytes:
    """Return a document's canonical bytes, or where it has none, JSON."""
    with suppress(Exception):
        return canonical.encode(document)
    return as_json(document)


def _stored(world: World, data: bytes) -> Ref:
    return Ref.of(world.store.put(data))


WIDE: tuple[Any, ...] = (2**40, 2**20, 200_000, 1, 0, -1, "x", None, 1.5, [], 10**30, True)


def hostile_architecture(rng: Random) -> Method:
    """Return a model that is not the initial model's."""
    params: dict[str, Any] = {"inputs": 64, "hidden": [16], "classes": 10}
    for _ in range(rng.choice((1, 2))):
        key = rng.choice(sorted(params))
        params[key] = [rng.choice(WIDE)] if key == "hidden" else rng.choice(WIDE)
    name = rng.choice(("mlp@1", "mlp@1", "mlp@1", "lenet@1", "logistic_regression@1", "nothing@1"))
    return Method(method=name, params=params)


def hostile_validation(world: World, rng: Random) -> bytes:
    """Return a validation set with something wrong in it."""
    examples = rng.choice((0, 1, 4, 4, 4, 300))
    width = rng.choice((64, 64, 64, 3, 0, 2**12))
    inputs: Any = np.full((examples, width), rng.choice((0.0, 0.5, np.nan, np.inf, 1e38)), np.float32)
    labels: Any = np.full(examples, rng.choice((0, 9, 10, -1, 2**31, 2**62)), np.int64)
    how = rng.randrange(8)
    if how == 0:
        labels = labels[: examples // 2]
    elif how == 1:
        inputs = inputs.astype(rng.choice((np.int64, np.uint8, np.int32)))
    elif how == 2:
        labels = labels.astype(np.float32)
    elif how == 3:
        inputs = inputs.reshape(examples, width, 1, 1)
    elif how == 4:
        labels = labels.reshape(examples, 1)
    named = {"inputs": inputs, "labels": labels}
    if how == 5:
        named.pop(rng.choice(("inputs", "labels")))
    with suppress(Exception):
        data = tensors.encode(named)
        return mutated_bytes(data, rng) if how == 6 else data
    return mutated_bytes(b"", rng)


def hostile_model(world: World, rng: Random) -> bytes:
    """Return a file that an initial or a new model may be: other numbers, other shapes, other names, other bytes."""
    honest = world.store.get(world.experiment.spec.initial_model.ref)
    if rng.random() < 0.2:
        return mutated_bytes(honest, rng)
    named: dict[str, Any] = {name: np.array(values) for name, values in tensors.decode(honest).items()}
    for _ in range(rng.choice((1, 2))):
        name = rng.choice(sorted(named))
        values = named[name]
        how = rng.randrange(7) if values.size else 6
        if how < 3:
            odd = rng.choice((np.nan, np.inf, -np.inf, 1e30, -1e38, -0.0)) if values.dtype == np.float32 else 127
            values.reshape(-1)[rng.randrange(values.size) :] = odd
        elif how == 3:
            named[name] = values.reshape(-1)[: rng.randrange(values.size)]
        elif how == 4:
            named[f"{name}{rng.choice(('.', ' ', '2'))}"] = named.pop(name)
        elif how == 5 and len(named) > 1:
            del named[name]
        else:
            named[name] = values.astype(rng.choice((np.int64, np.int32, np.uint8)))
    with suppress(Exception):
        return tensors.encode(named)
    return mutated_bytes(honest, rng)


def hostile_proposal(world: World, honest: Proposal, rng: Random) -> Proposal:
    """Return a proposal in which something is wrong: content, a reference, or a word."""
    how = rng.randrange(7)
    if how == 0:
        return replace(honest, report=world.store.put(written(mutated(_document(world, honest.report), rng))))
    if how == 1:
        return replace(honest, state=world.store.put(_hostile_state(world, honest.state, rng)))
    if how == 2:
        return replace(honest, model=world.store.put(hostile_model(world, rng)))
    if how == 3:
        name = rng.choice(("model", "state", "report"))
        ref: ContentRef = getattr(honest, name)
        other = rng.choice((ContentRef(ref.digest, ref.length + 1), ContentRef(ref.digest, 2**40), NOTHING))
        return replace(honest, **{name: other})
    if how == 4:
        words = tuple(word ^ (1 << rng.randrange(240)) for word in honest.verdict_words)
        return replace(honest, verdict_words=words)
    if how == 5:
        return replace(honest, share_words=tuple(word ^ (1 << rng.randrange(200)) for word in honest.share_words))
    name = rng.choice(("state", "report", "model"))
    content = mutated_bytes(world.store.get(getattr(honest, name)), rng)
    return replace(honest, **{name: world.store.put(content)})


def _document(world: World, ref: ContentRef) -> Any:
    return canonical.decode(world.store.get(ref))


def _hostile_state(world: World, ref: ContentRef, rng: Random) -> bytes:
    data = world.store.get(ref)
    try:
        named: dict[str, Any] = {name: np.array(values) for name, values in tensors.decode(data).items()}
    except ValueError:
        return mutated_bytes(data, rng)
    name = rng.choice(sorted(named))
    values = named[name]
    if values.size and rng.random() < 0.5:
        values.reshape(-1)[rng.randrange(values.size)] = rng.choice((0, 127))
    else:
        named[name] = values.reshape(-1)[: values.size // 2]
    return tensors.encode(named)


ODD_WORDS = (0, 1, 2, 3, 7, 255, 2**16 - 1, 2**32 - 1, 2**48 - 1, 2**64 - 1, 2**128, 2**255, 2**256 - 1)
ODD_TEXTS = ("", "x" * 3_000, "http://127.0.0.1:1/?x=", "\x1b[31m\u202e", "javascript:1", "http://" + "a" * 500, "\0")


def odd_argument(kind: str, rng: Random, world: World) -> Any:
    """Return a value that the ledger may be given where it wants one of some type."""
    if kind.startswith("(") and kind.endswith(")"):
        return tuple(odd_argument(part, rng, world) for part in _parts(kind[1:-1]))
    if kind.endswith("[]"):
        return [odd_argument(kind[:-2], rng, world) for _ in range(rng.choice((0, 1, 2)))]
    if kind == "address":
        return rng.choice([account.address for account in world.accounts.values()] + ["0x" + "00" * 20])
    if kind.startswith("uint"):
        return rng.choice([word for word in ODD_WORDS if not word >> int(kind[4:])])
    if kind == "bool":
        return rng.random() < 0.5
    if kind == "string":
        return rng.choice(ODD_TEXTS)
    if kind == "bytes":
        return rng.randbytes(rng.choice((0, 1, 64, 65, 500)))
    return rng.choice((bytes(32), b"\xff" * 32, rng.randbytes(32)))


def _parts(text: str) -> list[str]:
    """Split the types of a tuple at its own commas."""
    parts, depth, begin = [], 0, 0
    for place, character in enumerate(f"{text},"):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and not depth:
            parts.append(text[begin:place])
            begin = place + 1
    return parts
