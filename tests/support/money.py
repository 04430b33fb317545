"""Who gains and loses what by attacks on the ledger: short histories on the shipped contracts, all money counted.

Run PYTHONPATH=tests python -m support.money [--format table|json] [--document docs/threat-model.md].

Each attack is one of the histories of :mod:`support.court_scripts`, which plays the real contracts beside a model of
them and compares all money with the chain's. What each role owned when the task had been posted and what it owns once
all disputes are closed is told to the unit: purse, free balance, stake, deposits and bonds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedledger.platform.bench.tables import between_marks, markdown_table
from support.court_scripts import SCRIPTS, Court
from support.ledger_machine import AGGREGATORS, STRANGER
from support.ledger_model import Rounds

COMMAND = "make money"
ROLES = ("aggregator", "objectors", "jurors", "others")
"""The accused aggregator; who challenges, appeals, demands, proves or reports; who sat on a jury; all others."""
ATTACKS = {
    "denied": "A false proposal is challenged",
    "agreed": "A true proposal is challenged without cause",
    "rightful_appeal": "Two of three jurors let a lie pass; an appeal mends it, a juror of seven cannot judge",
    "vain_appeals": "A true proposal is challenged; a first jury is wrong, one appeal right, a second one wrong",
    "not_able": "A first jury cannot judge, and of the second one juror alone",
    "two_unable_juries": "Two juries cannot judge the round",
    "half_of_the_votes": "Two jurors contradict each other, the third one is silent, and there is no appeal",
    "left_after": "The pool leaves once the jury is called; two are drawn and silent",
    "nothing_at_all": "No jury says anything",
    "twice_in_the_root": "Two commitments of one participant in a root are proved",
    "shared_gain": "A planted fault is proved by a friend while a jury judges a challenge of the same proposal",
    "gain_of_the_oldest": "A planted fault of an earlier round is proved by a friend; later rounds are challenged",
    "condemned_and_burned": "A planted fault is proved while an earlier round is challenged without cause",
    "second_deposit": "The same, and the aggregator has deposited again",
    "answered_demand": "A commitment is demanded, and shown",
    "unanswered_demand": "A commitment is demanded, and cannot be shown",
    "signed_twice": "Two commitments signed for one round are reported, and again",
    "signed_by_other_keys": "The same, also with keys that were replaced before and named after",
    "nobody_to_judge": "An update of the wrong form where too few verifiers serve the task",
    "judged_to_the_last": "The same where enough do",
    "late_by_word_alone": "A participant that was called late reveals in the window",
}
"""The histories that are attacks of the threat model, by name."""


@dataclass(frozen=True)
class Moved:
    """What an attack has moved.

    Parameters
    ----------
    attack
        What happens.
    before, after
        What each role owns, in the smallest unit.
    burned
        What nobody has any more.
    bond, seat
        The task's bond and a juror's penalty, in the same unit.
    """

    attack: str
    before: dict[str, int]
    after: dict[str, int]
    burned: int
    bond: int
    seat: int

    @property
    def gains(self) -> dict[str, int]:
        """What each role has gained."""
        return {role: self.after[role] - self.before[role] for role in ROLES}


class Counted(Court):
    """A court that counts what everybody owned when its history began."""

    owned: dict[str, int] | None = None
    lost = 0

    def start(self, *given: Any, **terms: Any) -> None:
        super().start(*given, **terms)
        self.owned, self.lost = wealth(self.model), self.model.burned


def wealth(model: Rounds) -> dict[str, int]:
    """Return what each account owns: its purse and what the ledger holds for it."""
    owned = dict(model.wallets)

    def add(account: str | None, amount: int) -> None:
        if account is not None and amount:
            owned[account] = owned.get(account, 0) + amount

    for account, amount in model.balances.items():
        add(account, amount)
    for p in model.participants:
        add(p.owner, p.stake + p.unbonding)
    for t in model.tasks:
        for seat in t.seats:
            add(seat.holder, seat.deposit + seat.held)
    for d in model.disputes:
        if d.is_open:
            add(d.challenger, d.bond)
            for jury in d.juries:
                add(jury.appellant, jury.appeal_bond)
    return owned


def played(name: str) -> Moved:
    """Play a history and count."""
    court = Counted()
    SCRIPTS[name](court)
    model = court.model
    if court.owned is None:
        raise ValueError(f"{name} has not begun")
    court.every_wei_has_one_owner()
    if any(dispute.is_open for dispute in model.disputes):
        raise ValueError(f"{name} leaves a dispute open")
    sat = {model.participants[i].owner for d in model.disputes for jury in d.juries for i in jury.members}
    objecting = {STRANGER, *(d.challenger for d in model.disputes)}
    objecting |= {jury.appellant for d in model.disputes for jury in d.juries if jury.appeal_bond}
    after = wealth(model)

    def role(account: str) -> str:
        if account in AGGREGATORS:
            return "aggregator"
        return "objectors" if account in objecting else "jurors" if account in sat else "others"

    sums = [dict.fromkeys(ROLES, 0), dict.fromkeys(ROLES, 0)]
    for total, owned in zip(sums, (court.owned, after), strict=True):
        for account, amount in owned.items():
            total[role(account)] += amount
    task = next(t for t in model.tasks if t.rounds)
    seat = model.terms.juror_penalty
    return Moved(ATTACKS[name], *sums, model.burned - court.lost, task.params.bond, seat)


def cells(moved: Sequence[Moved]) -> list[dict[str, str]]:
    """Return the rows of a table."""
    return [
        {
            "attack": each.attack,
            **{role: f"{gain:+,}" if (gain := each.gains[role]) else "0" for role in ROLES},
            "burned": f"{each.burned:,}",
            "bond": f"{each.bond:,}",
            "seat": f"{each.seat:,}",
        }
        for each in moved
    ]


def main() -> int:
    """Play all attacks, and print or write what they move."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--format", choices=("table", "json"), default="table")
    parser.add_argument("--document", type=Path, help="document whose table is to be written anew")
    options = parser.parse_args()
    moved = [played(name) for name in ATTACKS]
    if options.format == "json":
        print(json.dumps([vars(each) | {"gains": each.gains} for each in moved], indent=1))
    else:
        print(markdown_table(cells(moved)))
    if options.document is not None:
        text = options.document.read_text(encoding="utf-8")
        options.document.write_text(between_marks(text, COMMAND, markdown_table(cells(moved))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
