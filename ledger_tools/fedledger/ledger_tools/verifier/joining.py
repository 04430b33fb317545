"""How a verifier begins its service: it registers, adds to its stake and enlists."""

from __future__ import annotations

import logging

from fedledger.contracts.ledger.actor import WAITED, Action, Step
from fedledger.contracts.ledger.history import History
from fedledger.ledger_tools.verifier.context import Context
from fedledger.protocol.errors import ChainError, ConfigError
from fedledger.protocol.units import in_gwei, shown_time

log = logging.getLogger(__name__)


class Joining:
    """The duty to register, stake and enlist, as far as that is not done when the program starts."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._joined: int | None = None

    def __call__(self, history: History) -> Step | None:
        """Do what is missing, one transaction a step."""
        access, participant = self.context.access, self.context.access.participant
        enlisted = participant is not None and participant in history.verifiers
        serving = participant is not None and enlisted and access.ledger.is_serving(participant)
        if serving:
            self._joined = history.folds
        if self._joined == history.folds:
            # Who was retired since votes where it was drawn before.
            if enlisted and not serving and self.context.once("serving"):
                log.warning("%s is not drawn any more: its stake is below the least", access.address)
            return None
        return self._join(participant)

    def _join(self, participant: int | None) -> Step:
        access, stake, least = self.context.access, self._stake(), self._least()
        record = None if participant is None else access.ledger.participant(participant)
        if record is None or not record.registered_at:
            self._require(stake, "its stake")
            access.ledger.register(access.account, access.address, access.address, stake)
            return Step(Action.REGISTERED, detail=f"with a stake of {in_gwei(stake)}")
        if record.exit_at:
            raise ConfigError(f"{access.address} is leaving the ledger.", "Use another account, or wait.")
        if record.stake < least:
            self._require(stake - record.stake, "its stake")
            access.ledger.add_stake(access.account, stake - record.stake)
            return Step(Action.STAKED, detail=f"to {in_gwei(stake)}")
        again = access.ledger.may_enlist_from(record.id)
        if access.ledger.chain.now() < again:
            if self.context.once("enlist"):
                log.warning("%s left as a verifier, and may enlist again from %s on", access.address, shown_time(again))
            return WAITED
        access.ledger.enlist(access.account)
        return Step(Action.ENLISTED)

    def _least(self) -> int:
        settings = self.context.settings
        return max(settings.min_stake, settings.min_verifier_stake)

    def _stake(self) -> int:
        least, wanted = self._least(), self.context.service.stake
        stake = least + self.context.settings.juror_penalty if wanted is None else wanted
        if stake < least:
            raise ConfigError(
                f"A verifier's stake of {in_gwei(stake)} is below the least, {in_gwei(least)}.",
                "Give a higher --stake-gwei.",
            )
        return stake

    def _require(self, amount: int, what: str) -> None:
        if not self.context.can_pay(amount, spare=0):
            address = self.context.access.address
            raise ChainError(f"{address} lacks {in_gwei(amount)} for {what}.", "Send it some, or deposit tokens.")
