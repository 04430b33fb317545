"""Random histories of the ledger beside the model's: money, participants, tasks and rounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from eth_account import Account
from eth_utils.crypto import keccak
from hypothesis import currently_in_test_context, event
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fedledger.contracts.abi import RevertedError
from fedledger.contracts.compile import Artifact
from fedledger.contracts.ledger.checks import auditors_hash
from fedledger.contracts.ledger.records import Phase, RoundStatus, Settings
from fedledger.contracts.ledger.scores import recommenders_hash
from fedledger.protocol.encoding.merkle import MerkleTree
from fedledger.protocol.records.commitment_batch import EMPTY_ROOT, leaf
from fedledger.protocol.records.reputation import LANES, Evidence
from fedledger.protocol.records.settlement import apportion
from fedledger.protocol.records.verdicts import Verdict
from support.evm import FUNDS, Evm, log
from support.ledger_court import Model
from support.ledger_records import (
    COIN,
    NOBODY,
    YEAR,
    ZERO,
    Call,
    Calls,
    Outcome,
    Params,
    Ref,
    Refused,
    Round,
    Task,
    Updates,
    least_bond,
)
from support.ledger_views import views

OFFENCES = (
    *("Equivocation", "Garbage", "NeverRevealed", "Silence", "Minority"),
    *("RepeatedRefusal", "CannotJudge", "FailedCheck"),
)

SHARES = "garbage_share", "never_revealed_share", "statistical_share", "free_refusals"
STAKE, VERIFIER_STAKE, JUROR_PENALTY = 1000, 2000, 101
EXIT_DELAY, DISPUTE_PERIOD = 370, 4
PARTICIPANTS = 9  # two slots, the second with one participant
EVERYBODY = 2**PARTICIPANTS - 1
TASKS = 3
ALL_WORDS = 2**256 - 1
STEPS: list[tuple[str, dict[str, Any]]] = []
Deed = TypeVar("Deed", bound=Callable[..., None])


def address(kind: int, i: int) -> str:
    return f"0x{kind:x}{i:039x}"


OWNERS = [address(1, i) for i in range(PARTICIPANTS + 1)]
KEYS = {
    Account.from_key(key).address.lower(): key for key in (keccak(b"signer %d" % i) for i in range(PARTICIPANTS + 3))
}
SIGNERS = list(KEYS)
PAYOUTS = [address(3, i) for i in range(3)]
PUBLISHERS = [address(4, i) for i in range(2)]
AGGREGATORS = [address(5, i) for i in range(3)]
REFUSER = address(6, 0)
GUARDIAN = address(7, 0)
STRANGER = OWNERS[-1]
INSPECTORS = [address(8, i) for i in range(3)]
NO_AUDITORS: tuple[str, ...] = ()
AUDITORS = {
    auditors_hash(accounts): accounts
    for accounts in (
        tuple(INSPECTORS),
        tuple(INSPECTORS[:2]),
        (PUBLISHERS[0], OWNERS[1], *INSPECTORS[1:]),
    )
}
"""Who checks updates, by the hash of the list; some are parties of the task."""
LISTS_OF_RECOMMENDERS: tuple[tuple[str, ...], ...] = (
    (),
    (PUBLISHERS[1],),
    (OWNERS[1], PUBLISHERS[1]),
    (OWNERS[1],) * 2,
)
RECOMMENDERS = {recommenders_hash(each): each for each in LISTS_OF_RECOMMENDERS}
"""Whose opinions of participants count, too, by the hash of the list; one owns a participant, and one list is none."""
SENDERS = [*OWNERS, *SIGNERS, *PUBLISHERS, *AGGREGATORS, GUARDIAN, *INSPECTORS]
KEYS_OF_SEALS = {"key": keccak(b"key"), "other key": keccak(b"other key")}
SEAL = keccak(KEYS_OF_SEALS["key"])
REVERT = bytes.fromhex("5f5ffd")
RUNNING = (Phase.COMMITTING, Phase.CLOSING, Phase.ADMITTING, Phase.REVEALING, Phase.PROPOSING, Phase.SCORING)
# Whom the scorers have not excluded nobody can call outvoted.
REFUSALS = [verdict for verdict in Verdict if verdict.refused and verdict is not Verdict.OUTVOTED]

TERMS = Settings(STAKE, EXIT_DELAY, VERIFIER_STAKE, JUROR_PENALTY, DISPUTE_PERIOD, COIN, GUARDIAN, verifier_age=3)
SMALLEST_BOND = least_bond(TERMS)
# What ledgers are deployed with: none of them asks for a higher bond.
LEDGERS = [
    TERMS,
    replace(TERMS, verifier_age=0),
    replace(TERMS, least_pool=5, least_window=20, least_window_blocks=3),
    replace(TERMS, jury_size=5, least_pool=5, appeals=1, least_window_blocks=9, most_penalty=STAKE - 1),
    replace(TERMS, jury_size=3, least_pool=3, appeals=0, verifier_age=30, juror_penalty=841),
    replace(TERMS, jury_size=3, least_pool=6, appeals=1, juror_penalty=0, least_window=30),
    replace(TERMS, jury_size=7, least_pool=7, appeals=0, juror_penalty=360),
]

# Most transactions are what their senders ought to send, or no history would get far.
seldom = st.integers(0, 11).map(lambda n: n == 11)
tasks = st.sampled_from([1, 1, 1, 2, 2, 3])
participants = st.integers(0, PARTICIPANTS)
senders = st.integers(0, len(SENDERS) - 1).map(lambda n: SENDERS[n])
receivers = st.sampled_from([*OWNERS[:2], *PAYOUTS, REFUSER, "ledger", NOBODY])
# One number costs less to draw than a list of them.
scores = st.integers(0, 10**PARTICIPANTS - 1).map(lambda n: digits(n, range(10), PARTICIPANTS))
seals = st.sampled_from([*KEYS_OF_SEALS, "at once", "early", "forfeit"])
seal_senders = st.sampled_from(["publisher", "publisher", STRANGER, AGGREGATORS[0]])
ALIKE = [None] * len(REFUSALS) + REFUSALS
refusal_lists = st.integers(0, len(ALIKE) ** PARTICIPANTS - 1).map(lambda n: digits(n, ALIKE, PARTICIPANTS))
masks = st.integers(0, EVERYBODY) | st.just(EVERYBODY)
amounts = st.sampled_from([0, 1, STAKE - 1, STAKE, 2 * STAKE])
agreements = st.sampled_from([0, 0, 0, 0, 0, 0, 1, None])
turns = st.sampled_from([0, 0, 0, 0, 0, 0, 1, 1, 2, 9])
limits = st.sampled_from([ALL_WORDS, ALL_WORDS, 2, 1, 1, 0])
SCHEDULES = [
    dict(zip(SHARES, shares, strict=True))
    for shares in (
        *((500_000, 250_000, 62_500, 1), (500_000, 250_000, 62_500, 2), (1_000_000, 1_000_000, 1_000_000, 1)),
        *((1, 1, 1, 1), (333_333, 666_667, 333_333, 1), (1_000_000, 1, 999_999, 255), (0, 0, 0, 0)),
    )
]
given_params = st.builds(
    Params,
    spec=st.just((keccak(b"spec"), 1)),
    model=st.just((keccak(b"model"), 1)),
    aggregator=st.sampled_from([*AGGREGATORS[:2], PUBLISHERS[0]]),
    rounds=st.sampled_from([1, 4, 9]),
    quorum=st.integers(1, 3),
    min_participants=st.integers(3, 5),
    max_participants=st.integers(5, PARTICIPANTS),
    enrol_period=st.integers(20, 40),
    challenge_window=st.sampled_from([0, 30, 30, 30, 30]),
    max_unfinal=st.sampled_from([1, 3, 3]),
    max_staleness=st.sampled_from([0, 1, 2, 64]),
    randomness=st.integers(0, 1),
    batched=st.booleans(),
    open_enrolment=st.booleans(),
    grace_period=st.sampled_from([0, 6, 6]),
    min_stake=st.sampled_from([0, STAKE, STAKE, 2 * STAKE]),
    min_reputation=st.sampled_from([0, 0, 500_000, 500_001]),
    bond=st.sampled_from([0, SMALLEST_BOND + 3, 7 * STAKE]),
    penalty=st.sampled_from([0, STAKE - 1, STAKE]),
    credit_unit=st.sampled_from([1, 10**9]),
    units_per_round=st.sampled_from([1000, (2**32 - 1) // 9]),
    seal=st.sampled_from([ZERO, SEAL, SEAL, SEAL]),
    seal_deposit=st.sampled_from([0, 1, STAKE]),
    seal_period=st.sampled_from([1, 60, 300]),
    check_rate=st.sampled_from([0, 400_000, 1_000_000, 1_000_000]),
    check_period=st.sampled_from([2, 6, 15]),
    check_penalty=st.sampled_from([1, 401, STAKE]),
    auditors=st.sampled_from(sorted(AUDITORS)),
    recommenders=st.sampled_from(sorted(RECOMMENDERS)),
    recommender_trust=st.sampled_from([1, 500_000, 1_000_000]),
    scorers=st.sampled_from([0, 0, 3, 5]),
    verifiers_score=seldom,
    score_period=st.sampled_from([2, 6]),
    score_spread=st.sampled_from([4, 12]),
    score_floor=st.sampled_from([1, 300]),
    bidding_every=st.sampled_from([0, 0, 0, 2, 3]),
    pools_pay=st.sampled_from([False, False, False, True]),
)


def digits(number: int, alphabet: Sequence[Any], count: int) -> list[Any]:
    """Return a number's digits from the low end, as an alphabet spells them."""
    return [alphabet[number // len(alphabet) ** place % len(alphabet)] for place in range(count)]


NO_CHECKS: dict[str, Any] = {
    **dict.fromkeys(("check_rate", "check_period", "check_penalty", "auditor_count"), 0),
    "auditors": ZERO,
}


NO_SCORES: dict[str, Any] = {
    **dict.fromkeys(("scorers", "score_period", "score_spread", "score_floor"), 0),
    "verifiers_score": False,
}
NOBODY_SCORES: dict[str, Any] = NO_SCORES | {"recommenders": ZERO, "recommender_trust": 0}


def consistent(p: Params) -> Params:
    """Return terms that the ledger takes, like the given ones."""
    penalty = min(p.penalty, p.min_stake) if p.challenge_window else 0
    bond = max(p.bond, SMALLEST_BOND) if p.challenge_window else p.bond
    fine = replace(p, randomness=0 if p.batched else p.randomness, penalty=penalty, bond=bond)
    fine = replace(fine, seal_deposit=0, seal_period=0) if p.seal == ZERO else fine
    fine = replace(fine, recommender_trust=0) if p.recommenders == ZERO else fine
    fine = replace(fine, max_unfinal=1) if p.pools_pay else fine
    fine = fine if p.scorers else replace(fine, **NO_SCORES)
    fine = replace(fine, verifiers_score=fine.verifiers_score and p.challenge_window > 0)
    cost = min(p.check_penalty, p.min_stake)
    if not p.check_rate or not p.challenge_window or not cost:
        return replace(fine, **NO_CHECKS)
    return replace(fine, check_penalty=cost, auditor_count=len(AUDITORS[p.auditors]))


params = st.builds(lambda p, schedule: consistent(replace(p, **schedule)), given_params, st.sampled_from(SCHEDULES))
standbys = st.sampled_from([(), (AGGREGATORS[2],), (AGGREGATORS[2], STRANGER)])
BONDED = {"challenge_window": 20, "bond": SMALLEST_BOND, "penalty": 0}
CHECKED: dict[str, Any] = BONDED | {
    **{"check_rate": 1, "check_period": 2, "check_penalty": STAKE, "min_stake": STAKE},
    **{"auditor_count": 3, "auditors": next(iter(AUDITORS))},
}
SCORED: dict[str, Any] = {"scorers": 3, "score_period": 5, "score_spread": 4, "score_floor": 1}
WRONG_TERMS: list[dict[str, Any]] = [
    *({"spec": (ZERO, 1)}, {"model": (ZERO, 1)}, {"aggregator": NOBODY}, {"token": OWNERS[0]}, {"rounds": 0}),
    *({"rounds": 65_536}, {"quorum": 0}, {"quorum": 1025}, {"min_participants": 0}, {"max_participants": 4}),
    *({"max_participants": 4097}, {"enrol_period": 0}, {"commit_period": 0}, {"reveal_period": 0}),
    *({"propose_period": 0}, {"max_unfinal": 0}, {"max_unfinal": 9}, {"max_staleness": 65}, {"randomness": 2}),
    *({"batched": True, "randomness": 1}, {"enrol_period": YEAR + 1}, {"commit_period": YEAR + 1}),
    *({"reveal_period": YEAR + 1}, {"grace_period": YEAR + 1}, {"propose_period": YEAR + 1}),
    *(BONDED | {"challenge_window": YEAR + 1}, BONDED | {"challenge_window": 300}),
    *(BONDED | {"bond": SMALLEST_BOND - 1}, BONDED | {"bond": 0}, BONDED | {"bond": 2**93}),
    *({"challenge_window": 0, "penalty": 1, "min_stake": 1}, BONDED | {"penalty": 2001}),
    *({"garbage_share": 1_000_001}, {"never_revealed_share": 1_000_001}, {"statistical_share": 1_000_001}),
    *({"statistical_share": 1, "free_refusals": 0}, {"seal": ZERO, "seal_deposit": 1, "seal_period": 0}),
    *({"seal": ZERO, "seal_deposit": 0, "seal_period": 1}, {"seal": SEAL, "seal_period": 0}),
    *(
        {"seal": SEAL, "seal_period": YEAR + 1},
        {"min_reputation": 1_000_001},
        {"credit_unit": 0},
        {"units_per_round": 0},
        {"units_per_round": 2**32 - 1},
    ),
    *(CHECKED | {"check_rate": 1_000_001}, CHECKED | {"check_period": 0}, CHECKED | {"check_period": YEAR + 1}),
    *(CHECKED | {"check_period": 60}, CHECKED | {"check_penalty": 0}, CHECKED | {"check_penalty": 1001}),
    *(CHECKED | {"auditor_count": 1}, CHECKED | {"auditor_count": 17}, CHECKED | {"auditors": ZERO}),
    *(CHECKED | {"check_rate": 0}, CHECKED | {"challenge_window": 0}),
    *(SCORED | {name: value} for name, value in (("scorers", 2), ("scorers", 16), ("score_period", 0))),
    *(SCORED | {name: value} for name, value in (("score_period", YEAR + 1), ("score_spread", 3), ("score_floor", 0))),
    *(SCORED | {"score_floor": 32_767}, NO_SCORES | {"score_period": 1}, NO_SCORES | {"score_spread": 4}),
    *(NO_SCORES | {"score_floor": 1}, NO_SCORES | {"verifiers_score": True}, SCORED | BONDED | {"score_period": 200}),
    *({"recommenders": ZERO, "recommender_trust": 1}, {"recommenders": next(iter(AUDITORS)), "recommender_trust": 0}),
    {"recommenders": next(iter(AUDITORS)), "recommender_trust": 1_000_001},
    *({"bidding_every": 1}, {"bidding_every": 2, "max_participants": 1025}, {"pools_pay": True, "max_unfinal": 2}),
    *(NO_CHECKS | {name: CHECKED[name]} for name in ("check_period", "check_penalty", "auditor_count", "auditors")),
]
flaws = st.integers(0, len(WRONG_TERMS) - 1).map(lambda n: WRONG_TERMS[n])

COMMIT: dict[str, Any] = {
    "who": participants,
    "back": st.integers(0, 1),
    "kind": st.sampled_from(["own", "own", "copied", "none"]),
}
CLOSE: dict[str, Any] = {
    "mask": masks,
    "more": st.sampled_from([0, 0, 0, 0, 1, -1]),
    "turn": turns,
    "kind": st.sampled_from(["own", "own", "own", "own", "copied", "twice", "none"]),
}
REVEAL: dict[str, Any] = {
    "who": participants,
    "back": st.integers(0, 1),
    "author": participants,
    "own": st.booleans(),
    "prover": participants,
    "proven": st.booleans(),
    "older": st.sampled_from([None, None, 0, 0, 1, 2, 65, 255]),
}
PROPOSE_WRONGLY: dict[str, Any] = {
    "who": participants,
    "kind": st.sampled_from(["anybody", "committed", "revealed"]),
    "verdict": st.sampled_from([Verdict.MISSED, Verdict.LATE]) | st.sampled_from(Verdict),
    "extra": st.sampled_from([0, 0, 1, 2**31]),
    "flaw": st.sampled_from([None, None, None, "shares", "slots", "lengths", "updates", "hash", "base"]),
    "left_out": seldom,
    "recounted": st.booleans(),
}
# What others try while a round takes its course, at every stage of it.
attempts = st.one_of(
    *(
        st.tuples(st.just(name), st.fixed_dictionaries(arguments))
        for name, arguments in {
            "commit": COMMIT,
            "close": CLOSE,
            "reveal": REVEAL,
            "propose_wrongly": PROPOSE_WRONGLY,
            "wait_to_the_second": {"early": st.booleans()},
            "settle": {"back": st.integers(0, 2), "altered": st.booleans(), "limit": limits},
            "void": {"back": st.integers(0, 1)},
            "open_for_everybody": {"turn": turns},
        }.items()
    )
)
SCORING_PLANS = st.fixed_dictionaries(
    {
        "bad": st.sampled_from([0, 1, 4, 32, 5]),
        "wild": st.sampled_from([0, 0, 0, 1, 2]),
        "missing": st.sampled_from([0, 0, 0, 4]),
        "blocks": st.sampled_from([1, 1, 1, 1, 1, 300]),
        "listed": st.sampled_from([0, EVERYBODY, EVERYBODY, 5]),
        "wrong": st.sampled_from([None, None, None, "signer"]),
        "committing": st.sampled_from([EVERYBODY, EVERYBODY, EVERYBODY, 3, 6]),
        "on_chain": st.sampled_from([0, 0, 1, EVERYBODY]),
        "revealing": st.sampled_from([EVERYBODY, EVERYBODY, EVERYBODY, 6, 0]),
        "flaw": st.sampled_from([None, None, None, "words", "salt", "count", "too much", "list", "indices"]),
        "early": st.booleans(),
        "turns": st.sampled_from([(0, 0), (0, 0), (0, 0), (1, 0), (0, 1)]),
        "lapse": seldom,
    }
)
whole_rounds = st.fixed_dictionaries(
    {
        "scoring": SCORING_PLANS,
        "mask": masks | masks.map(lambda mask: EVERYBODY ^ mask),
        "silent": masks,
        "alone": masks,
        "given": scores,
        "refusals": st.just([None] * PARTICIPANTS) | refusal_lists,
        "stack": st.booleans(),
        "ready": st.booleans(),
        "hasty": st.booleans(),
        "lapse": seldom,
        "early": st.sampled_from([False, False, False, True]),
        "fewer": st.sampled_from([0, 0, 0, 0, -1]),
        "slandered": st.none() | participants,
        "false": st.none() | participants,
        "leavers": st.just(0) | masks,
        "wrong": st.none() | st.fixed_dictionaries(PROPOSE_WRONGLY),
        "turns": st.sampled_from([(0, 0, 0), (0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 2)]),
        "kind": st.sampled_from(["own", "own", "own", "own", "twice"]),
        "limit": limits,
        "pause": st.sampled_from([0, 0, 11]),
        "meanwhile": st.lists(attempts, max_size=2),
    }
)


def step(**arguments: Any) -> Callable[[Deed], Deed]:
    """Make a method one of the steps that a history is made of, beside its rules."""

    def mark(deed: Deed) -> Deed:
        STEPS.append((deed.__name__, arguments))
        return deed

    return mark


@dataclass(frozen=True)
class Root:
    """A root of commitments, of which a participant may have several."""

    entries: tuple[tuple[int, bytes], ...]

    @cached_property
    def _tree(self) -> MerkleTree:
        return MerkleTree([leaf(*entry) for entry in self.entries])

    @property
    def root(self) -> bytes:
        return self._tree.root if self.entries else EMPTY_ROOT

    @property
    def participants(self) -> set[int]:
        return {i for i, _ in self.entries}

    def of(self, participant: int) -> list[bytes]:
        """Return a participant's commitments."""
        return [digest for i, digest in self.entries if i == participant]

    def proof(self, participant: int, which: int = 0) -> tuple[bytes, ...]:
        places = [place for place, (i, _) in enumerate(self.entries) if i == participant]
        return tuple(self._tree.proof(places[which])) if which < len(places) else ()


class RoundsMachine(RuleBasedStateMachine):
    """Ten owners, two publishers and three aggregators, who do anything at any time.

    The ledger may be made of other ``contracts``, with some words of ``storage`` to begin with.
    """

    reached: ClassVar[Counter[str]] = Counter()
    contracts: Sequence[Artifact] = ()
    storage: Mapping[int, int] = MappingProxyType({})

    def __init__(self) -> None:
        super().__init__()
        self.roots: dict[tuple[int, int], Root] = {}
        self.plans: dict[int, dict[str, Any]] = {}
        self.final: dict[int, int] = {}
        self.closed: set[int] = set()

    def deploy(self, terms: Settings = TERMS) -> None:
        """Begin with an empty ledger, which has a predecessor."""
        before = Evm(0, 0, SENDERS)
        for i in (2, 0, 1):
            before("agreeToSign", OWNERS[i], sender=SIGNERS[i])
            before("register", SIGNERS[i], PAYOUTS[0], 0, sender=OWNERS[i])
        lanes = [Evidence(240, 0, 15), Evidence(0, 480, 0), Evidence()]
        before.put_evidence(PUBLISHERS[0], 0, sum(known.pack() << 32 * i for i, known in enumerate(lanes)))
        terms = replace(terms, predecessor=before.address)
        self.evm = Evm(0, 0, SENDERS, terms, before, self.contracts)
        for slot, word in self.storage.items():
            self.evm.put_word(slot, word)
        self.evm.put_code(REFUSER, REVERT)
        ledger = self.evm.address.lower()
        self.model = Model(ledger, terms, {REFUSER, ledger}, self.evm.now, self.evm.block)
        self.model.past = {
            (publisher, OWNERS[i]): (k, lanes[k].pack() if publisher == PUBLISHERS[0] else 0)
            for publisher in PUBLISHERS
            for k, i in enumerate((2, 0, 1))
        }
        self.model.wallets.update(dict.fromkeys(SENDERS, FUNDS))
        known = {i: Evidence(300 if i % 4 else 0, 300 if i % 4 == 0 else 0) for i in range(0, LANES, 2)}
        self.evm.put_evidence(OWNERS[1], 0, sum(evidence.pack() << 32 * i for i, evidence in known.items()))
        self.model.evidence |= {(OWNERS[1], i): evidence for i, evidence in known.items()}

    def do(self, name: str, sender: str, *arguments: Any, value: int = 0) -> bool:
        """Send a transaction to both; whether they took it, which must be the same."""
        call = Call(name, arguments)
        refused: Refused | None = None
        self.model.log.clear()
        try:
            call.on(self.model, sender, value)
        except Refused as answer:
            refused = answer
        try:
            self.evm(name, *call.encoded, sender=sender, value=value)
        except RevertedError as error:
            assert refused is not None, f"the model takes {name}, the ledger says {error}"
            assert (error.name, error.arguments) in refused.errors, (error, refused)
            self.reach(f"{name}: {error.name}")
            return False
        assert refused is None, f"the ledger takes {name}, the model says {refused}"
        expected = [log(*entry) for entry in self.model.log]
        assert sorted(self.evm.logs()) == sorted(expected), self.model.log
        self.reach(name)
        self.reached.update(entry[0] if entry[0] != "Slashed" else OFFENCES[entry[1][3]] for entry in self.model.log)
        return True

    def reach(self, what: str) -> None:
        self.reached[what] += 1
        if currently_in_test_context():
            event(what)

    # Money and participants.

    @initialize(
        first=params,
        second=params,
        mask=masks,
        helpers=standbys,
        past=st.lists(whole_rounds, max_size=4),
        ledger=st.sampled_from(LEDGERS),
        judges=masks,
    )
    def begin(
        self,
        first: Params,
        second: Params,
        mask: int,
        helpers: tuple[str, ...],
        past: list[dict[str, Any]],
        ledger: Settings = TERMS,
        judges: int = 0,
    ) -> None:
        self.deploy(ledger)
        for i in range(PARTICIPANTS):
            stake = (2 + i % 2) * STAKE
            if i == mask % PARTICIPANTS:
                self.agree(SIGNERS[i], i, 1)
                assert not self.do("register", OWNERS[i], SIGNERS[i], PAYOUTS[i % 3], stake, value=stake)
            self.agree(SIGNERS[i], i)
            assert self.do("register", OWNERS[i], SIGNERS[i], PAYOUTS[i % 3], stake, value=stake)
        for account in (*AGGREGATORS, PUBLISHERS[0], STRANGER):
            assert self.do("deposit", account, COIN, 60 * STAKE, value=60 * STAKE)
        easy = replace(first, min_stake=min(first.min_stake, STAKE), min_reputation=0)
        easy = self.fit(replace(easy, penalty=min(easy.penalty, easy.min_stake)))
        other = self.fit(replace(second, batched=not first.batched))
        for terms, willing in ((easy, EVERYBODY), (other, mask)):
            assert self.do("postTask", PUBLISHERS[0], terms, helpers, value=terms.due)
            self.enrol_many(len(self.model.tasks), willing)
            if terms.challenge_window:
                self.have_judges(len(self.model.tasks), judges)
        if mask & 1:
            assert self.do("adoptEvidence", PUBLISHERS[0], (0,))
        for round_ in past:
            self.whole_round(1, round_)

    @step(
        who=participants,
        signer=st.sampled_from([*SIGNERS, OWNERS[1], NOBODY]),
        payout=receivers,
        stake=amounts,
        value=amounts,
        agreed=agreements,
    )
    def register(self, who: int, signer: str, payout: str, stake: int, value: int, agreed: int | None) -> None:
        self.agree(signer, who, agreed)
        self.do("register", OWNERS[who], signer, self.receiver(payout), stake, value=value)

    @step(who=participants, amount=amounts, value=amounts)
    def add_stake(self, who: int, amount: int, value: int) -> None:
        self.do("addStake", OWNERS[who], amount, value=value)

    @step(who=participants, signer=st.sampled_from([*SIGNERS, OWNERS[2], NOBODY]), agreed=agreements)
    def rotate_signer(self, who: int, signer: str, agreed: int | None) -> None:
        self.agree(signer, who, agreed)
        self.do("rotateSigner", OWNERS[who], signer)

    def agree(self, signer: str, who: int, agreed: int | None = 0) -> None:
        """Let a signer agree to sign for a participant, or so many after it; or not, nor when it is nobody."""
        if agreed is not None and signer != NOBODY:
            self.do("agreeToSign", signer, OWNERS[(who + agreed) % len(OWNERS)])

    @step(task=tasks, who=participants, back=st.booleans(), late=st.booleans(), ahead=st.booleans())
    def commit_by_two_signers(self, task: int, who: int, back: bool, late: bool, ahead: bool) -> None:
        """Commit, rotate the signer, try to commit again, and reveal as both; the next one's, or else one's own.

        The next one may agree only after it has been named.
        """
        number, first = self.number(task), self.signer(who)
        if self.round(task, number) is None or who >= len(self.model.participants):
            return
        following = SIGNERS[PARTICIPANTS + who % 3]
        author = following if ahead else first
        digest = self.model.commitment(task, number, author, update(who, number), salt(who))
        self.do("commitUpdate", first, task, number, digest)
        for agreed in (None, 1, 0) if ahead else (0,):
            self.agree(following, who, agreed)
            self.do("rotateSigner", OWNERS[who], following)
        self.do("commitUpdate", self.signer(who), task, number, self.commitment(task, number, who))
        if late:
            self.skip(self.model.tasks[task - 1], Phase.COMMITTING, Phase.ADMITTING)
        for sender in (self.signer(who), first):
            self.do("revealUpdate", sender, task, number, update(who, number), salt(who), ())
        if back:
            self.do("rotateSigner", OWNERS[who], first)
            self.do("commitUpdate", first, task, number, digest)

    @step(who=participants, payout=receivers)
    def set_payout(self, who: int, payout: str) -> None:
        self.do("setPayout", OWNERS[who], self.receiver(payout))

    @step(task=tasks, mask=masks)
    def have_judges(self, task: int, mask: int) -> None:
        """Let participants become verifiers and, as soon as they may, serve a task; that counts from now on."""
        who = list(chosen(range(len(self.model.participants)), mask))
        for i in who:
            if self.model.participants[i].leaves:
                self.do("cancelExit", OWNERS[i])
            p = self.model.participants[i]
            if p.since and p.stake < VERIFIER_STAKE:
                self.do("addStake", OWNERS[i], STAKE, value=STAKE)
            if not self.model.is_listed(i):
                self.do("enlist", OWNERS[i])
        since = max((self.model.verifiers[i].since for i in who if self.model.is_listed(i)), default=0)
        young = since + self.model.terms.verifier_age - self.model.now
        if young > 0:
            for i in [i for i in who if self.model.is_listed(i) and (task, i) not in self.model.places][-1:]:
                self.do("serve", self.signer(i), task)
            self.wait(young)
        came = False
        for i in who:
            if (task, i) in self.model.places and not self.model.still_serves(task, i):
                self.do("quit", self.signer(i), task)
            if (task, i) not in self.model.places and self.task(task):
                came |= self.do("serve", self.signer(i), task)
        if came:
            self.wait(0)

    def fit(self, p: Params) -> Params:
        """Return terms that this ledger takes, like the given ones."""
        least, most = self.model.terms.least_window, self.model.terms.most_penalty
        wide = p.challenge_window >= least
        penalty, cost = (min(cost, most if wide else 0) for cost in (p.penalty, p.check_penalty))
        return consistent(replace(p, penalty=penalty, check_penalty=cost))

    @step(who=participants, step=st.sampled_from(["requestExit", "requestExit", "cancelExit", "completeExit"]))
    def exit(self, who: int, step: str) -> None:
        self.do(step, OWNERS[who])

    @step(who=participants, back=st.booleans())
    def leave(self, who: int, back: bool) -> None:
        self.do("requestExit", OWNERS[who])
        self.wait(self.model.terms.exit_delay)
        self.do("completeExit", OWNERS[who])
        if back:
            self.agree(SIGNERS[who], who)
            self.do("register", OWNERS[who], SIGNERS[who], PAYOUTS[0], 2 * STAKE, value=STAKE)

    @step(sender=senders, amount=amounts, value=amounts, exact=st.booleans())
    def deposit(self, sender: str, amount: int, value: int, exact: bool) -> None:
        self.do("deposit", sender, COIN, value if exact else amount, value=value)

    @step(sender=st.sampled_from([*PUBLISHERS, *AGGREGATORS, *OWNERS]), to=receivers, token=seldom)
    def withdraw(self, sender: str, to: str, token: bool) -> None:
        self.do("withdraw", sender, PAYOUTS[0] if token else COIN, self.receiver(to))

    @step(seconds=st.sampled_from([1, 4, 5, 10, EXIT_DELAY, 41]))
    def wait(self, seconds: int, blocks: int = 1) -> None:
        self.evm.wait(seconds, blocks)
        self.model.now, self.model.block = self.evm.now, self.evm.block

    @step(task=tasks, early=st.booleans())
    def wait_to_the_second(self, task: int, early: bool) -> None:
        """Let time pass until a task's phase ends, or until a second before."""
        if (t := self.task(task)) is None:
            return
        before, now = self.model.phase(t), self.model.now
        while self.model.phase(t) is before and self.model.now < now + 60:
            self.model.now += 1
        seconds = self.model.now - now - early
        self.wait(max(0, seconds))

    @step(publisher=st.sampled_from(PUBLISHERS), ids=st.lists(participants, max_size=3).map(tuple))
    def adopt(self, publisher: str, ids: tuple[int, ...]) -> None:
        if self.do("adoptEvidence", publisher, ids) and ids:
            self.reach("adoptEvidence of somebody")

    # Tasks.

    @step(sender=st.sampled_from([GUARDIAN, GUARDIAN, STRANGER]), paused=seldom)
    def pause(self, sender: str, paused: bool) -> None:
        self.do("setPaused", sender, paused)

    @step(publisher=st.sampled_from(PUBLISHERS), terms=params, helpers=standbys, mask=masks)
    def post(self, publisher: str, terms: Params, helpers: tuple[str, ...], mask: int) -> None:
        if len(self.model.tasks) < TASKS and self.do("postTask", publisher, terms, helpers, value=terms.due):
            self.enrol_many(len(self.model.tasks), mask)

    @step(
        publisher=st.sampled_from(PUBLISHERS),
        terms=params,
        flaw=flaws,
        helpers=st.sampled_from(
            [(), (), (NOBODY,), (AGGREGATORS[2], AGGREGATORS[2]), AGGREGATORS[:2], [*AGGREGATORS, STRANGER, OWNERS[0]]]
        ).map(tuple),
        more=st.integers(-1, 1),
    )
    def post_wrongly(
        self, publisher: str, terms: Params, flaw: dict[str, Any], helpers: tuple[str, ...], more: int
    ) -> None:
        if len(self.model.tasks) == TASKS and (not flaw or more):
            return
        wrong = replace(terms, **({} if more else flaw))
        self.do("postTask", publisher, wrong, helpers, value=max(0, wrong.due + more))

    @step(sender=senders, task=st.integers(0, TASKS))
    def enrol(self, sender: str, task: int) -> None:
        self.do("enrol", sender, task)

    @step(
        task=st.sampled_from([*range(1, TASKS + 1), 0]),
        mask=masks,
        by=st.sampled_from(["owner", "both", "signer", "other"]),
        back=st.booleans(),
    )
    def leave_task(self, task: int, mask: int, by: str, back: bool) -> None:
        """Leave a task, as owner or signer, or take others out of it, or try both; and perhaps come back at once.

        If it has a number, one that may be left, if there is one, after whoever was not in it has tried to enrol.
        """
        may = [n for n, t in enumerate(self.model.tasks, 1) if t.params.open_enrolment and not t.finished]
        task = may[task % len(may)] if task and may else task
        for i in chosen(range(PARTICIPANTS), mask):
            if task and may and i not in self.model.tasks[task - 1].enrolled:
                self.do("enrol", OWNERS[i], task)
            other, own = OWNERS[(i + 1) % PARTICIPANTS], self.signer(i) if by == "signer" else OWNERS[i]
            senders = {"both": (other, own), "other": (other,)}.get(by, (own,))
            if any(self.do("leaveTask", sender, task, i) for sender in senders) and back:
                self.do("enrol", OWNERS[i], task)

    @step(task=st.integers(0, TASKS), turn=turns, value=st.sampled_from([0, SMALLEST_BOND, 7 * STAKE]))
    def take_seat(self, task: int, turn: int, value: int) -> None:
        t = self.task(task)
        self.do("takeSeat", self.aggregator(t, turn) if t else STRANGER, task, value=value)

    @step(task=tasks, sender=senders, entitled=st.booleans())
    def finish(self, task: int, sender: str, entitled: bool) -> None:
        t = self.task(task)
        self.do("finishTask", t.publisher if t and entitled else sender, task)

    @step(task=tasks, ended=seldom, deeds=st.lists(st.tuples(seals, seal_senders), min_size=2, max_size=4))
    def deal_with_the_seal(self, task: int, ended: bool, deeds: list[tuple[str, str]]) -> None:
        """Open a task's seal or let it be forfeited, perhaps too early, too late, by another key or by a stranger."""
        if (t := self.task(task)) is None:
            return
        if ended and t.counted:
            self.lie_idle(task, True)
        for deed, sender in deeds:
            by = t.publisher if sender == "publisher" else sender
            if deed in KEYS_OF_SEALS:
                self.do("openSeal", by, task, KEYS_OF_SEALS[deed])
                continue
            if t.finished and deed != "at once":
                late = deed == "forfeit"
                self.wait(max(0, t.finished + t.params.seal_period - (not late) - self.model.now))
            self.do("forfeitSeal", by, task)

    @step(task=tasks, who=participants)
    def withdraw_credit(self, task: int, who: int) -> None:
        self.do("withdrawCredit", SENDERS[who], task, who)

    # Rounds, step by step.

    @step(task=tasks, mask=masks, turn=turns, wrong=seldom)
    def open(self, task: int, mask: int, turn: int, wrong: bool) -> None:
        if (t := self.task(task)) is None:
            return
        chosen = mask if wrong else sum(1 << i for i in t.enrolled if mask >> i & 1)
        self.open_round(t, task, self.aggregator(t, turn), (0,), (chosen,))

    @step(task=tasks, turn=turns)
    def open_for_everybody(self, task: int, turn: int) -> None:
        if (t := self.task(task)) is not None:
            self.open_round(t, task, self.aggregator(t, turn), (), ())

    @step(task=tasks, mask=masks, came=st.none() | participants, gone=st.none() | participants)
    def open_unchanged(self, task: int, mask: int, came: int | None, gone: int | None) -> None:
        """Open a round for those who are known, unless somebody has come or gone meanwhile."""
        if (t := self.task(task)) is None:
            return
        known, words = sum(1 << i for i in t.enrolled), (sum(1 << i for i in t.enrolled if mask >> i & 1),)
        if came is not None:
            self.do("enrol", self.signer(came), task)
        if gone is not None:
            self.do("leaveTask", self.signer(gone), task, gone)
        calls = (
            Call("requireEnrolled", (task, (0,), (known,))),
            Call("openRound", (task, len(t.rounds) + 1, (0,), words)),
        )
        self.do("multicall", self.aggregator(t, 0), Calls(calls))

    def open_round(self, t: Task, task: int, sender: str, indices: tuple[int, ...], words: tuple[int, ...]) -> None:
        stacked, active = len(t.rounds) - t.final, t.active
        if self.do("openRound", sender, task, len(t.rounds) + 1, indices, words):
            if stacked:
                self.reach(f"openRound on {stacked} unsettled")
            if t.rounds[-1].bidding and number_of_bids(t) > 1:
                self.reach("openRound for bids again")
            if t.active != active:
                self.reach("openRound by a standby")

    @step(
        task=tasks,
        words=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=2),
        odd=st.booleans(),
        ahead=st.sampled_from([1, 1, 1, 0, 2]),
    )
    def open_wrongly(self, task: int, words: list[tuple[int, int]], odd: bool, ahead: int) -> None:
        if (t := self.task(task)) is None:
            return
        sender = self.aggregator(t, 0)
        indices, values = tuple(k for k, _ in words), tuple(word for _, word in words)
        number = len(t.rounds) + ahead
        self.do("openRound", sender, task, number, indices[: len(indices) - odd], values)
        self.do("openRound", sender, task, number, indices, values + (1,) * odd)

    @step(task=st.integers(0, TASKS), **COMMIT)
    def commit(self, task: int, who: int, back: int, kind: str) -> None:
        number = self.number(task, back)
        author = (who + 1) % PARTICIPANTS if kind == "copied" else who
        known = self.round(task, number) is not None
        digest = self.commitment(task, number, author) if known and kind != "none" else bytes([kind != "none"]) * 32
        self.do("commitUpdate", self.signer(who), task, number, digest)

    @step(task=tasks, **CLOSE)
    def close(self, task: int, mask: int, more: int, turn: int, kind: str) -> None:
        """Post the root of who signed; of commitments that are not the signers', or of none, if it is that kind."""
        number = self.number(task)
        if (r := self.round(task, number)) is None:
            return
        t, signers = self.model.tasks[task - 1], chosen(sorted(r.selected), mask if kind != "none" else 0)
        entries = [(i, self.commitment(task, number, (i + (kind == "copied")) % PARTICIPANTS)) for i in signers]
        entries += [(i, keccak(b"other %d" % i)) for i in signers[:1] if kind == "twice"]
        root, active = Root(tuple(entries)), t.active
        count, batch = max(0, min(len(entries), len(r.selected)) + more), (keccak(b"batch"), 1)
        if self.do("closeCommits", self.aggregator(t, turn), task, number, root.root, count, batch):
            self.roots[task, number] = root
            if t.active != active:
                self.reach("closeCommits by a standby")

    @step(task=tasks, **REVEAL)
    def reveal(
        self, task: int, who: int, back: int, author: int, own: bool, prover: int, proven: bool, older: int | None
    ) -> None:
        """Reveal somebody's update as somebody; as one that is older than it is, or as one that is not stale."""
        number = self.number(task, back)
        proof = self.proof(task, number, who if proven else prover)
        content = update(who if own else author, number)
        steps = () if older is None else (min(255, self.steps(task, number, who) + older),)
        name = "revealUpdate" if older is None else "revealStaleUpdate"
        self.do(name, self.signer(who), task, number, *steps, content, salt(author), proof)

    @step(task=tasks, mask=masks)
    def commit_many(self, task: int, mask: int) -> None:
        number = self.number(task)
        r = self.round(task, number)
        for i in chosen(r.selected if r else (), mask):
            self.do("commitUpdate", self.signer(i), task, number, self.commitment(task, number, i))

    @step(task=tasks, mask=masks, back=st.integers(0, 2))
    def reveal_many(self, task: int, mask: int, back: int) -> None:
        number = self.number(task, back)
        if (r := self.round(task, number)) is None:
            return
        telling = chosen(sorted(self.committed(task, number)), mask)
        t, stale = self.model.tasks[task - 1], next((i for i in telling if self.steps(task, number, i)), None)
        beyond = min(t.params.max_staleness + 1, len(t.way(number)))
        for i in telling:
            proof, steps = self.proof(task, number, i), self.steps(task, number, i)
            # Relative to a base that it is not relative to, and to one that there is not.
            for wrong in (steps - 1, beyond) if i == stale else ():
                self.do("revealStaleUpdate", self.signer(i), task, number, wrong, update(i, number), salt(i), proof)
            name, place = ("revealStaleUpdate", (steps,)) if steps else ("revealUpdate", ())
            if self.do(name, self.signer(i), task, number, *place, update(i, number), salt(i), proof):
                how = "committed on chain" if i in r.commitments else "by proof" if proof else "the only leaf"
                self.reach(f"{name} {how}{' in the window' if r.outcome else ''}")

    @step(
        task=tasks,
        given=scores,
        refusals=refusal_lists,
        told=masks,
        stop=seldom,
        turn=turns,
        false=st.none() | participants,
        early=seldom,
    )
    def propose(
        self,
        task: int,
        given: list[int],
        refusals: list[Verdict | None],
        told: int,
        stop: bool,
        turn: int,
        false: int | None = None,
        early: bool = False,
    ) -> None:
        """Propose what the ledger has to take; in a batched round, some revealed to the aggregator alone.

        It may be false about somebody in a way that only others can show. Who wants to be early says of all whose
        updates are not there that they committed nothing.
        """
        number = self.number(task)
        if (r := self.round(task, number)) is None:
            return
        t = self.model.tasks[task - 1]
        present, known = self.present(task, number, told), self.committed(task, number)
        if t.params.batched and false in r.selected - set(r.commitments) - set(r.salts):
            present ^= {false}
            known -= {false}
        if early:
            known = set(r.commitments)
        outcome = self.bound(t, number, judged(t, r, given, refusals, stop, present, known))
        active, hasty = t.active, self.model.reveals_run(t, r)
        if self.do("proposeRound", self.aggregator(t, turn), task, number, outcome, self.updates(t, number, outcome)):
            kind = "batched" if t.params.batched else "direct"
            self.reach(f"proposeRound {kind}{' below quorum' if r.empty else ' of bids' if r.bidding else ''}")
            if sum(outcome.shares.values()) > t.params.units_per_round:
                self.reach("proposeRound pays what was left")
            if r.bidding and Verdict.HEARD in outcome.verdicts.values():
                self.reach("bids are heard")
            if hasty and len(outcome.delivered) < r.committed:
                self.reach("proposeRound while others may reveal")
            if t.active != active:
                self.reach("proposeRound by a standby")

    @step(task=tasks, **PROPOSE_WRONGLY)
    def propose_wrongly(
        self,
        task: int,
        who: int,
        kind: str,
        verdict: Verdict,
        extra: int,
        flaw: str | None,
        left_out: bool,
        recounted: bool,
    ) -> None:
        """Propose what may be wrong in a verdict, a share, the words or the updates."""
        number = self.number(task)
        if (r := self.round(task, number)) is None:
            return
        t = self.model.tasks[task - 1]
        known = self.committed(task, number)
        if of_kind := {"committed": sorted(r.commitments), "revealed": sorted(r.salts)}.get(kind):
            who = of_kind[who % len(of_kind)]
        right = judged(
            t, r, [1] * PARTICIPANTS, [None] * PARTICIPANTS, False, self.present(task, number, EVERYBODY), known
        )
        share = right.shares.get(who, 0) if verdict is Verdict.ACCEPTED else 0
        verdicts, shares = right.verdicts | {who: verdict}, right.shares | {who: share + extra}
        if left_out:
            verdicts = {i: v for i, v in verdicts.items() if i // LANES != who // LANES}
            shares = {i: share for i, share in shares.items() if i in verdicts}
        wrong = replace(
            right, verdicts=verdicts, shares=shares, flaw=flaw if verdicts and flaw in ("shares", "slots") else None
        )
        if flaw == "base":
            wrong = replace(wrong, model=(t.base_model(number), 1))
        updates = self.updates(t, number, wrong if recounted else right)
        if flaw == "updates":
            updates = Updates((*updates.refs, update(who, number)))
        bound = updates.hash if t.params.batched ^ (flaw == "hash") else ZERO
        updates = replace(updates, more=flaw == "lengths")
        wrong = replace(wrong, updates=bound)
        self.do("proposeRound", self.aggregator(t, 0), task, number, wrong, updates)

    @step(task=tasks, back=st.integers(0, 2), altered=seldom, limit=limits)
    def settle(self, task: int, back: int, altered: bool, limit: int) -> None:
        number = self.number(task, back)
        r = self.round(task, number)
        outcome = r.outcome if r and r.outcome else Outcome((ZERO, 0), {}, {})
        self.do("settleRound", STRANGER, task, number, replace(outcome, stop=outcome.stop ^ altered), limit)

    @step(task=tasks, back=st.integers(0, 1))
    def void(self, task: int, back: int) -> None:
        self.do("voidRound", STRANGER, task, self.number(task, back))

    # Whole stretches, so that histories get far.

    @rule(task=tasks, story=whole_rounds)
    def whole_round(self, task: int, story: dict[str, Any]) -> None:
        """Take a task through its next round as far as its state allows.

        Those in the mask commit, and the silent do not reveal. In a batched round those who are alone do on chain what
        else the aggregator does for them, and it may say that fewer have signed. `turns` says who opens, closes and
        proposes; standbys may be ready, some reveal too early, and a round may lapse for want of a proposal. A stacked
        round is left to be settled by a later one; if it is not, the leavers ask to leave before.
        """
        if (t := self.task(task)) is None or t.finished or t.stopped or t.counted == t.params.rounds:
            return
        mask, silent, alone = story["mask"], story["silent"], story["alone"]
        unsettled = len(t.rounds) - t.final
        is_open = bool(t.of(RoundStatus.OPEN))
        if is_open or unsettled >= t.params.max_unfinal:
            self.skip(t, *RUNNING, Phase.CHALLENGING)
            for _ in range(unsettled if is_open else 1):
                self.push(task)
        if t.lacks_participants:
            self.enrol_many(task, EVERYBODY)
        self.skip(t, Phase.ENROLLING)
        opens, closes, proposes = story["turns"]
        self.stand_in(t, opens)
        self.open(task, EVERYBODY, opens, False)
        for turn in range(1, len(t.seats) if story["ready"] else 0):
            self.take_seat(task, turn, 7 * STAKE)
        self.meanwhile(task, story)
        telling = mask & ~silent if silent != mask else mask
        hasty = alone if story["hasty"] else 0
        if t.params.batched:
            self.skip(t, Phase.COMMITTING)
            self.stand_in(t, closes)
            self.close(task, mask, story["fewer"], closes, story["kind"])
            self.commit_many(task, alone & ~mask)
            self.meanwhile(task, story)
            self.reveal_many(task, hasty, 0)
            self.skip(t, Phase.ADMITTING)
            self.reveal_many(task, alone & ~silent, 0)
        else:
            self.commit_many(task, mask)
            self.meanwhile(task, story)
            self.reveal_many(task, hasty, 0)
            self.skip(t, Phase.COMMITTING)
            self.reveal_many(task, telling, 0)
        self.meanwhile(task, story)
        if story["early"]:
            self.propose(task, story["given"], story["refusals"], telling, False, 0, story["false"], True)
        if story["scoring"]["early"]:
            self.score(task, telling, story["scoring"])
        self.skip(t, Phase.REVEALING)
        self.score(task, telling, story["scoring"])
        self.meanwhile(task, story)
        if story["slandered"] is not None:
            self.propose_wrongly(task, story["slandered"], "revealed", Verdict.LATE, 0, None, False, True)
            self.propose_wrongly(task, story["slandered"], "committed", Verdict.MISSED, 0, None, False, True)
        if story["wrong"]:
            self.propose_wrongly(task, **story["wrong"])
        if story["lapse"]:
            self.skip(t, Phase.PROPOSING)
            self.push(task)
            return
        self.stand_in(t, proposes)
        self.propose(task, story["given"], story["refusals"], telling, False, proposes, story["false"])
        if t.params.batched:
            self.reveal_many(task, alone & silent, 0)
        self.meanwhile(task, story)
        if not story["stack"]:
            self.skip(t, Phase.CHALLENGING)
            self.wait(story["pause"])
            for who in chosen(range(PARTICIPANTS), story["leavers"]):
                self.exit(who, "requestExit")
            self.settle(task, len(t.rounds) - t.final - 1, False, story["limit"])
            self.push(task)
            for who in chosen(range(PARTICIPANTS), story["leavers"]):
                self.exit(who, "cancelExit")

    @rule(task=tasks, stories=st.lists(whole_rounds, min_size=2, max_size=3))
    def stacked_rounds(self, task: int, stories: list[dict[str, Any]]) -> None:
        for story in stories:
            self.whole_round(task, story | {"stack": True})

    def meanwhile(self, task: int, story: dict[str, Any]) -> None:
        for name, arguments in story["meanwhile"]:
            getattr(self, name)(task, **arguments)

    def stand_in(self, t: Task, turn: int) -> None:
        """Let time pass until it is the turn of a standby."""
        if turn:
            self.wait(max(0, self.model.due(t) + turn * t.params.propose_period - self.model.now))

    @step(task=tasks)
    def push(self, task: int) -> None:
        """Do what anyone may do for the first round that is not final."""
        if (call := self.next_push(task)) is not None:
            self.do(call.name, STRANGER, *call.arguments)

    @step(task=tasks, other=tasks, who=participants, broken=seldom)
    def push_together(self, task: int, other: int, who: int, broken: bool) -> None:
        """Push two tasks on and pay somebody in one transaction: all of it, or nothing."""
        calls = [Call("announce", ("https://example.org",))]
        calls += [call for call in (self.next_push(task), self.next_push(other)) if call]
        if (t := self.task(task)) and (t.credits[who] or broken):
            calls.append(Call("withdrawCredit", (task, who)))
        if self.do("multicall", STRANGER, Calls(tuple(calls))) and len(calls) > 1:
            self.reach("multicall with effect")

    @step(task=tasks, turn=turns)
    def go_on_together(self, task: int, turn: int) -> None:
        """Settle a round and open the next as one transaction of the aggregator."""
        if (t := self.task(task)) is not None:
            chosen = ((0,), (sum(1 << i for i in t.enrolled),)) if t.params.open_enrolment else ((), ())
            calls = *filter(None, [self.next_push(task)]), Call("openRound", (task, len(t.rounds) + 1, *chosen))
            self.do("multicall", self.aggregator(t, turn), Calls(calls))

    @step(task=tasks)
    def let_time_run_out(self, task: int) -> None:
        if (t := self.task(task)) is not None:
            self.skip(t, Phase.ENROLLING, *RUNNING, Phase.CHALLENGING)

    @step(task=tasks, late=seldom)
    def lie_idle(self, task: int, late: bool) -> None:
        """Try to end a task in the last second in which it is not idle for too long, or in the next."""
        if (t := self.task(task)) is None:
            return
        self.wait(max(0, self.model.idle_until(t) + late - self.model.now))
        self.do("finishTask", STRANGER, task)

    # What always holds.

    @invariant()
    def every_view_agrees(self) -> None:
        """What is final or closed does not change: it is compared once more, and at the end."""
        for name, arguments, expected in views(self.model, PUBLISHERS, self.final, self.closed):
            found = self.evm.view(name, *arguments)
            assert found == expected, f"{name}{arguments}: the ledger says {found}, the model {expected}"
        self.final = {number: t.final for number, t in enumerate(self.model.tasks, 1)}
        self.closed = {dispute for dispute, d in enumerate(self.model.disputes) if not d.is_open}

    @invariant()
    def every_wei_has_one_owner(self) -> None:
        assert self.evm.balance(self.model.address) == self.model.owed
        for account, held in self.model.wallets.items():
            assert self.evm.balance(account) == held, account

    @invariant()
    def nobody_is_credited_twice(self) -> None:
        for t in self.model.tasks:
            assert t.spent <= (t.counted + 1) * t.params.units_per_round
            assert t.counted <= t.params.rounds
            for i in range(len(self.model.participants)):
                assert t.paid[i] + t.credits[i] == t.earned(i)

    def teardown(self) -> None:
        """From wherever it is, time and a stranger alone end every task, and everybody gets what is due."""
        for number, t in enumerate(self.model.tasks, 1):
            for _ in range(2 * t.params.max_unfinal):
                self.let_time_run_out(number)
                self.wait(t.params.challenge_window, 1 + self.model.terms.least_window_blocks)
                self.let_disputes_run_out(number)
                self.push(number)
            if not t.finished:
                self.wait(max(0, self.model.idle_until(t) + 1 - self.model.now))
                assert self.do("finishTask", STRANGER, number)
            if t.params.seal != ZERO and not t.seal_open and not t.seal_forfeited:
                assert not self.do("openSeal", STRANGER, number, ZERO)
                self.wait(max(0, t.finished + t.params.seal_period - self.model.now))
                assert self.do("forfeitSeal", STRANGER, number)
            self.let_checks_run_out(number)
            for i, units in list(t.credits.items()):
                if units and self.model.participants[i].payout not in self.model.refusing:
                    assert self.do("withdrawCredit", STRANGER, number, i)
        for p in self.model.participants:
            if p.since and not p.leaves:
                assert self.do("requestExit", p.owner)
        self.wait(self.model.terms.exit_delay)
        for p in self.model.participants:
            if p.since:
                assert self.do("completeExit", p.owner)
        for account, amount in list(self.model.balances.items()):
            assert not amount or self.do("withdraw", account, COIN, account)
        self.final, self.closed = {}, set()
        self.every_view_agrees()
        self.every_wei_has_one_owner()
        self.nobody_is_credited_twice()
        refused = sum(t.credits.total() * t.params.credit_unit for t in self.model.tasks)
        assert self.evm.balance(self.model.address) == self.model.burned + refused

    def score(self, task: int, told: int, plan: dict[str, Any]) -> None:
        """Have a round scored; where nothing but rounds are made, nobody does."""

    def let_disputes_run_out(self, task: int) -> None:
        """Let every dispute about a task end; of those that only make rounds there are none."""

    def let_checks_run_out(self, task: int) -> None:
        """Let every check of a task that is finished end; of those that only make rounds there are none."""

    # What the rules share.

    def task(self, task: int) -> Task | None:
        return self.model.tasks[task - 1] if 1 <= task <= len(self.model.tasks) else None

    def number(self, task: int, back: int = 0) -> int:
        """Return the number of a task's current round, or of one before it; at least 1."""
        t = self.task(task)
        return max(1, len(t.rounds) - back) if t else 1

    def round(self, task: int, number: int) -> Round | None:
        t = self.task(task)
        return t.rounds[number - 1] if t and 1 <= number <= len(t.rounds) else None

    def signer(self, who: int) -> str:
        known = who < len(self.model.participants)
        return self.model.participants[who].signer if known else SIGNERS[-1]

    def receiver(self, who: str) -> str:
        return self.model.address if who == "ledger" else who

    def aggregator(self, t: Task, turn: int) -> str:
        """Return the aggregator so many seats after the active one; somebody else if there are not as many."""
        return t.seats[(t.active + turn) % len(t.seats)].holder if turn < len(t.seats) else OWNERS[0]

    def commitment(self, task: int, number: int, who: int) -> bytes:
        steps = self.steps(task, number, who)
        return self.model.commitment(task, number, self.signer(who), update(who, number), salt(who), steps)

    def steps(self, task: int, number: int, who: int) -> int:
        """Return how stale a participant's update of a round is: a third of them are fresh wherever others may be."""
        t = self.task(task)
        return min(who % 3, t.params.max_staleness, len(t.way(number)) - 1) if t else 0

    def committed(self, task: int, number: int) -> set[int]:
        """Return who committed in a round, on chain or under its root."""
        r, root = self.round(task, number), self.roots.get((task, number))
        return set(r.commitments if r else ()) | set(root.participants if root else ())

    def present(self, task: int, number: int, told: int) -> set[int]:
        """Return whose updates there are: revealed on chain or, in a batched round, told to the aggregator."""
        t, r = self.task(task), self.round(task, number)
        batched = t is not None and t.params.batched
        if batched and t is not None and r is not None and (scoring := self.model.scoring_of(t, r)) is not None:
            return set(scoring.present)
        return set(r.salts if r else ()) | set(chosen(self.committed(task, number), told) if batched else ())

    def proof(self, task: int, number: int, who: int) -> tuple[bytes, ...]:
        root = self.roots.get((task, number))
        return root.proof(who) if root else ()

    def bound(self, t: Task, number: int, outcome: Outcome) -> Outcome:
        """Return an outcome that names its updates."""
        return replace(outcome, updates=self.updates(t, number, outcome).hash if t.params.batched else ZERO)

    def updates(self, t: Task, number: int, outcome: Outcome) -> Updates:
        return Updates(tuple(update(i, number) for i in outcome.delivered) if t.params.batched else ())

    def next_push(self, task: int) -> Call | None:
        if (t := self.task(task)) is None or t.final == len(t.rounds):
            return None
        number = t.final + 1
        outcome = t.rounds[number - 1].outcome
        if outcome is None:
            return Call("voidRound", (task, number))
        return Call("settleRound", (task, number, outcome, ALL_WORDS))

    def enrol_many(self, task: int, mask: int) -> None:
        # From the last one on, so that most tasks have participants in both slots.
        for i in reversed(chosen(range(PARTICIPANTS), mask)):
            self.enrol_one((OWNERS if i % 2 else SIGNERS)[i], task)

    def enrol_one(self, sender: str, task: int) -> bool:
        """Enrol a sender's participant, by all recommenders if its reputation counts and the task has some."""
        t = self.task(task)
        recommenders = RECOMMENDERS[t.params.recommenders] if t and t.params.min_reputation else ()
        if not recommenders:
            return self.do("enrol", sender, task)
        return self.do("enrolRecommended", sender, task, recommenders)

    def skip(self, t: Task, *phases: Phase) -> None:
        """Let time pass until a task is in none of these phases, or waits for somebody to enrol."""
        while (phase := self.model.phase(t)) in phases:
            if phase is Phase.ENROLLING and self.model.now >= t.enrol_deadline:
                return
            self.wait(5)


@cache
def update(who: int, number: int) -> Ref:
    return keccak(b"%d %d" % (who, number)), 100 + who


@cache
def salt(who: int) -> bytes:
    return keccak(b"salt %d" % who)


def chosen(ids: Iterable[int], mask: int) -> list[int]:
    return [i for i in ids if mask >> i & 1]


def number_of_bids(t: Task) -> int:
    """Return how many of a task's rounds were for bids."""
    return sum(r.bidding for r in t.rounds)


def judged(
    t: Task,
    r: Round,
    given: list[int],
    refusals: list[Verdict | None],
    stop: bool,
    present: set[int],
    committed: set[int],
) -> Outcome:
    """Return an outcome that a ledger has to take, its pay in proportion to what is given."""
    absences = {i: Verdict.LATE if i in committed else Verdict.MISSED for i in sorted(r.selected)}
    fine = Verdict.HEARD if r.bidding else Verdict.ACCEPTED
    verdicts = absences | {i: refusals[i] or fine for i in present}
    verdicts |= {i: Verdict.OUTVOTED for i in present & r.outvoted if verdicts[i] is Verdict.ACCEPTED}
    accepted = [i for i, verdict in sorted(verdicts.items()) if verdict is Verdict.ACCEPTED]
    if r.bidding or len(present) < t.params.quorum:
        return Outcome((t.base_model(len(t.rounds)), 1), verdicts, dict.fromkeys(accepted, 0), stop)
    # Some rounds leave half of what they may pay, so that later ones have more.
    units = t.payable // (2 if t.params.pools_pay and t.counted % 2 == 0 else 1)
    shares = dict(zip(accepted, apportion(units, [given[i] for i in accepted]), strict=True))
    return Outcome((keccak(b"model %d" % len(t.rounds)), 1), verdicts, shares, stop)


def smooth(story: dict[str, Any]) -> dict[str, Any]:
    """Return a round that is like another, and that nothing keeps from being proposed."""
    crowd = {"mask": story["mask"] | story["alone"], "silent": story["silent"] & story["alone"]}
    calm = {
        "meanwhile": [],
        "wrong": None,
        "slandered": None,
        "turns": (0, 0, 0),
        "fewer": 0,
        "kind": "own",
        "lapse": False,
        "early": False,
    }
    return story | crowd | calm | {"stack": True}
