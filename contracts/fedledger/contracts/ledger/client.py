"""The ledger as typed methods and frozen dataclasses, on whatever chain it is deployed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from eth_account.signers.local import LocalAccount

from fedledger.contracts.abi import (
    checksum_address,
    creation_code,
    functions,
)
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.records import Receipt, Transaction
from fedledger.contracts.compile import PARTS, Artifact, parts
from fedledger.contracts.ledger.accounts import AccountMethods
from fedledger.contracts.ledger.checks import CheckMethods
from fedledger.contracts.ledger.court import CourtMethods
from fedledger.contracts.ledger.records import (
    Settings,
)
from fedledger.contracts.ledger.rounds import RoundMethods
from fedledger.contracts.ledger.scores import ScoreMethods
from fedledger.contracts.ledger.tasks import TaskMethods
from fedledger.protocol.errors import ChainError

DEPLOYMENT_GAS = 12_000_000
"""Gas that the deployment of a part of the ledger may take; an account has to hold its price before it is sent."""


class Ledger(AccountMethods, TaskMethods, RoundMethods, ScoreMethods, CourtMethods, CheckMethods):
    """The deployed ``FedLedger`` contract; see :class:`LedgerContract`."""

    @classmethod
    def deploy(cls, chain: Chain, account: LocalAccount, settings: Settings) -> tuple[Ledger, Receipt]:
        """Deploy the ledger's parts, the last one first, and return it with the receipt of the first part."""
        address, first = "", 0
        for part in reversed(parts()):
            data = creation_code(part, settings.as_argument(), *([address] if address else []))
            receipt = chain.send(Transaction(account, None, data, gas=DEPLOYMENT_GAS), f"the deployment of {part.name}")
            address = checksum_address(chain.receipt(receipt.hash)["contractAddress"])
            first = first or receipt.block
        return cls(chain, address, first), receipt

    def version(self) -> int | None:
        """Return which version's code, in all its parts, is at the ledger's address; None if it is no known one's."""
        known = (version for version in reversed(PARTS) if self._is_deployed(self.address, parts(version), version))
        return next(known, None)

    def _is_deployed(self, address: str, expected: Sequence[Artifact], version: int) -> bool:
        code = self.chain.code(address)
        if not expected[0].deploys(code):
            return False
        if len(expected) == 1:
            return True
        settings = self._settings_of(address, version)
        return settings is not None and any(
            self._is_deployed(following, expected[1:], version) and self._settings_of(following, version) == settings
            for following in expected[0].addresses_in(code)
        )

    def _settings_of(self, address: str, version: int) -> Any:
        """Return what a part says that it was made with; None if it is no answer, as a part's code may not give."""
        function = functions(version)["settings"]
        answer = self.chain.call(address, function.encode(()))
        with suppress(ChainError):
            return function.decode(answer)
        return None
