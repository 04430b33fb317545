"""Random histories of the ledger beside the model's: scorers, and what they say of updates."""

from __future__ import annotations

from typing import Any

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from hypothesis import strategies as st
from hypothesis.stateful import rule

from fedledger.contracts.ledger.records import Phase, RoundStatus
from fedledger.protocol.records.scores import pack_scores
from fedledger.protocol.records.signatures import scores_message, sign
from support.ledger_check_rules import ChecksMachine
from support.ledger_machine import (
    EVERYBODY,
    KEYS,
    OWNERS,
    PARTICIPANTS,
    RECOMMENDERS,
    SCORING_PLANS,
    STRANGER,
    TASKS,
    chosen,
    masks,
    participants,
    seldom,
    senders,
    step,
    tasks,
    turns,
    update,
    whole_rounds,
)
from support.ledger_records import AllShown, Round, Scoring, Shown, Updates

LONG = 300  # blocks after which the chain has forgotten one
WORST = 32_766
places = st.integers(0, 5)
flaws = st.sampled_from([None, None, None, "words", "salt", "count", "place", "too much", "list", "indices"])


class ScoresMachine(ChecksMachine):
    """The same, and updates that are scored."""

    # Step by step.

    @step(task=tasks, told=masks, turn=turns, wrong=st.sampled_from([None] * 5 + ["indices", "more", "other", "words"]))
    def call_scorers(self, task: int, told: int, turn: int, wrong: str | None = None) -> None:
        """Call the scorers of a round to the updates that are there; or with something wrong about that."""
        number = self.number(task)
        if (r := self.round(task, number)) is None:
            return
        t = self.model.tasks[task - 1]
        there = set(r.salts) | (set(chosen(self.committed(task, number), told)) if t.params.batched else set())
        if wrong == "other":
            there ^= {min(r.selected)}
        indices = {"indices": (0, 1)}.get(wrong or "", (0,))
        words = (sum(1 << i for i in there),) * (len(indices) if t.params.batched ^ (wrong == "words") else 0)
        refs = tuple(update(i, number) for i in sorted(there)) if t.params.batched else ()
        updates = Updates(refs, wrong == "more")
        active, hasty = t.active, self.model.reveals_run(t, r)
        if self.do("callScorers", self.aggregator(t, turn), task, number, indices, words, updates):
            self.reach(f"callScorers {'batched' if t.params.batched else 'direct'}{' early' if hasty else ''}")
            if t.scoring is not None and t.scoring.tallied:
                self.reach("callScorers below quorum")
            if t.active != active:
                self.reach("callScorers by a standby")

    @step(task=tasks, sender=senders, blocks=st.sampled_from([0, 1, 1, 1, 1, LONG]), other=seldom)
    def draw_scorers(self, task: int, sender: str, blocks: int, other: bool) -> None:
        self.wait(0, blocks)
        if self.do("drawScorers", sender, task, self.number(task), (0, 1) if other else (0,)):
            scoring = self.model.tasks[task - 1].scoring
            if scoring is not None:
                self.reach("drawScorers" if scoring.scorers else "drawScorers finds nobody")
                if scoring.stained:
                    self.reach("drawScorers finds who had failed")

    @step(task=tasks, who=participants, place=places, empty=seldom)
    def commit_score(self, task: int, who: int, place: int, empty: bool) -> None:
        shown = self.shown(task, place, None)
        digest = bytes(32) if empty else self.score_digest(task, shown)
        self.do("commitScore", OWNERS[who], task, self.number(task), (0,), digest)

    @step(task=tasks, mask=masks, turn=turns, wrong=st.sampled_from([None] * 4 + ["signer", "count", "place"]))
    def list_scores(self, task: int, mask: int, turn: int, wrong: str | None) -> None:
        """Post what scorers signed; of one by another's key, with too few signatures, or of a place that is none."""
        number, scoring = self.number(task), self.scoring(task)
        scorers = [] if scoring is None else self.would_score(task)
        named = chosen(range(len(scorers)), mask)
        digests = [self.score_digest(task, self.shown(task, place, None)) for place in named]
        where = self.model.chain_id, to_checksum_address(self.model.address), task
        signatures = []
        for k, (place, digest) in enumerate(zip(named, digests, strict=True)):
            signer = self.signer(scorers[place] if wrong != "signer" or k else (scorers[place] + 1) % PARTICIPANTS)
            message = scores_message(where, number, scorers[place], digest)
            signatures.append(sign(message, KEYS.get(signer, keccak(text=signer))))
        bits = sum(1 << place for place in named) | (1 << 14 if wrong == "place" else 0)
        t = self.task(task)
        sender = self.aggregator(t, turn) if t else STRANGER
        given = tuple(digests), tuple(signatures[: len(signatures) - (wrong == "count")])
        self.do("listScores", sender, task, number, (0,), bits, *given)

    @step(task=tasks, place=places, flaw=flaws)
    def reveal_score(self, task: int, place: int, flaw: str | None) -> None:
        scoring = self.scoring(task)
        listed = () if scoring is None or place not in scoring.listed else tuple(scoring.listed.values())
        if flaw == "list":
            listed = (*listed, bytes(32))
        self.do("revealScore", STRANGER, task, self.number(task), self.shown(task, place, flaw), listed)

    @step(task=tasks, mask=masks, turn=turns, flaw=flaws, other=seldom)
    def tally_scores(self, task: int, mask: int, turn: int, flaw: str | None = None, other: bool = False) -> None:
        """Tally what those in the mask have revealed, of those who committed; with something wrong about the first."""
        t, scoring = self.task(task), self.scoring(task)
        if t is None or scoring is None:
            return
        shown = [self.shown(task, place, None) for place in chosen(sorted(scoring.committed), mask)]
        unopened = tuple(scoring.listed[p] for p in sorted(scoring.listed) if not mask >> p & 1)
        if flaw and shown:
            shown[0] = self.shown(task, shown[0].place, flaw)
        if flaw == "list":
            unopened = (*unopened, bytes(32))
        recommenders = RECOMMENDERS[t.params.recommenders] if not other else (STRANGER,)
        indices, active = (0, 1) if flaw == "indices" else (0,), t.active
        given = indices, AllShown(tuple(shown)), unopened, recommenders
        if self.do("tallyScores", self.aggregator(t, turn), task, scoring.number, *given):
            r = t.rounds[scoring.number - 1]
            self.reach("tallyScores excludes" if r.outvoted else "tallyScores excludes nobody")
            if len(shown) < len(scoring.scorers):
                self.reach("tallyScores of the silent")
            if t.active != active:
                self.reach("tallyScores by a standby")

    @step(sender=senders, task=st.integers(0, TASKS), other=seldom)
    def enrol_recommended(self, sender: str, task: int, other: bool) -> None:
        t = self.task(task)
        known = () if t is None else RECOMMENDERS[t.params.recommenders]
        self.do("enrolRecommended", sender, task, (*known, *((STRANGER,) if other else ())))

    # A whole scoring.

    def score(self, task: int, told: int, plan: dict[str, Any]) -> None:
        """Take a round through its scoring, as far as it goes: some are silent, some far from the others."""
        t = self.task(task)
        if t is None or not t.params.scorers or not t.of(RoundStatus.OPEN):
            return
        self.plans[task] = plan
        turns_ = plan["turns"]
        self.stand_in(t, turns_[0])
        self.call_scorers(task, told, turns_[0])
        scoring = self.scoring(task)
        if scoring is None or scoring.number != len(t.rounds) or scoring.tallied:
            return
        self.draw_scorers(task, STRANGER, plan["blocks"], False)
        if plan["listed"]:
            self.list_scores(task, plan["listed"], 0, plan["wrong"])
        self.commit_own(task, plan["committing"])
        scoring = self.scoring(task)
        if scoring is None:
            return
        if plan["early"]:
            self.tally_scores(task, EVERYBODY, 0)
        else:
            self.wait(max(0, scoring.called + t.params.score_period - self.model.now))
        for place in chosen(sorted(scoring.committed), plan["on_chain"]):
            self.reveal_score(task, place, plan["flaw"])
            self.reveal_score(task, place, None)
        # Who is revealed on chain must be in the tally.
        self.tally_scores(task, plan["revealing"], 0, plan["flaw"])
        if scoring.tallied:
            return
        self.wait(max(0, scoring.called + 2 * t.params.score_period - self.model.now))
        self.stand_in(t, turns_[1])
        self.tally_scores(task, plan["revealing"] | plan["on_chain"], turns_[1])
        if plan["lapse"]:
            self.skip(t, Phase.SCORING, Phase.PROPOSING)

    def commit_own(self, task: int, mask: int) -> None:
        """Let scorers commit themselves."""
        scorers = self.would_score(task)
        for place in chosen(range(len(scorers)), mask):
            digest = self.score_digest(task, self.shown(task, place, None))
            self.do("commitScore", self.signer(scorers[place]), task, self.number(task), (0,), digest)

    @rule(task=tasks, story=whole_rounds, plan=SCORING_PLANS)
    def scored_round(self, task: int, story: dict[str, Any], plan: dict[str, Any]) -> None:
        """Take a task through a round that nothing but its scoring keeps from being proposed."""
        calm = {"meanwhile": [], "wrong": None, "slandered": None, "lapse": False, "early": False, "silent": 0}
        self.whole_round(task, story | calm | {"mask": EVERYBODY, "scoring": plan})

    # What the rules share.

    def scoring(self, task: int) -> Scoring | None:
        t = self.task(task)
        return None if t is None else t.scoring

    def would_score(self, task: int) -> list[int]:
        """Return the scorers that are drawn, or would be now."""
        t, scoring = self.task(task), self.scoring(task)
        if t is None or scoring is None:
            return []
        r: Round = t.rounds[scoring.number - 1]
        return self.model.drawn_by(t, r, scoring)[1]

    def shown(self, task: int, place: int, flaw: str | None) -> Shown:
        """Return what a scorer reveals, with a flaw; each of a round says the same every time."""
        t, scoring = self.task(task), self.scoring(task)
        plan = self.plans.get(task, {"bad": 0, "wild": 0, "missing": 0})
        number = 0 if t is None else len(t.rounds)
        count = 0 if scoring is None else len(scoring.present)
        scores = [self.score_of(plan, place, k) for k in range(count + (flaw == "count"))]
        salt = keccak(b"salt of scores %d %d %d" % (task, number, place))
        words = pack_scores(scores)
        if flaw == "words" and words:
            words = (words[0] ^ 1, *words[1:])
        if flaw == "too much" and words:
            words = (words[0] | 0x7FFF, *words[1:])
        if flaw == "salt":
            salt = bytes(32)
        return Shown(13 if flaw == "place" else place, salt, words)

    @staticmethod
    def score_of(plan: dict[str, Any], place: int, k: int) -> int:
        if plan["missing"] >> (place + k) % PARTICIPANTS & 1:
            return 0
        if plan["wild"] >> place & 1:
            return WORST if k % 2 else 1
        return (25_000 if plan["bad"] >> k & 1 else 16_000) + (7 * k + 13 * place) % 40

    def score_digest(self, task: int, shown: Shown) -> bytes:
        scorers = self.would_score(task)
        i = scorers[shown.place] if shown.place < len(scorers) else 0
        scoring = self.scoring(task)
        return self.model.score_commitment(task, 0 if scoring is None else scoring.number, i, shown)
