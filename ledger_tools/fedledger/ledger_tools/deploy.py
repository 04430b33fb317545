"""Deploy the ledger, and write a record by which anyone can check later what was deployed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from eth_account.signers.local import LocalAccount
from pydantic import TypeAdapter

from fedledger.contracts.abi import checksum_address
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.compile import VERSION, parts
from fedledger.contracts.ledger.client import DEPLOYMENT_GAS, Ledger
from fedledger.contracts.ledger.records import Settings
from fedledger.protocol.encoding.keccak import keccak
from fedledger.protocol.errors import ChainError, ConfigError
from fedledger.protocol.units import in_gwei
from fedledger.storage.foreign_files import read_json, shaped

RECORD_VERSION = 2
GAS_PER_BYTE, GAS_PER_PART = 216, 200_000
"""Gas to store a byte of code and to send it, and what each part costs besides, at most."""


@dataclass(frozen=True, kw_only=True)
class Deployment(Settings):
    """A deployment's record, with what the ledger was deployed with; it is written as JSON.

    ``ledger_version`` is that of the ledger's code, 0 in records of earlier releases. ``genesis`` has the balances, in
    wei and before the first block, of a development chain's own accounts: such a chain forgets old states, and an
    export needs these.
    """

    version: int
    chain_id: int
    chain: str
    address: str
    block: int
    transaction: str
    code_hash: str
    compiler: str
    genesis: dict[str, str] = field(default_factory=dict)
    ledger_version: int = 0

    def write(self, path: Path) -> None:
        """Write the record."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Deployment:
        """Read a record.

        Raises
        ------
        ConfigError
            If the file is no record of this version.
        """
        try:
            record = shaped(_RECORD, vars(cls(**read_json(path))))
            checksum_address(record.address)
        except FileNotFoundError as error:
            raise ConfigError(
                f"There is no deployment record at {path}.",
                "Give the file that `fedledger deploy` wrote with --deployment.",
            ) from error
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"{path} is not a deployment record: {error}.", "Write one with `fedledger deploy`."
            ) from error
        if not 1 <= record.version <= RECORD_VERSION:
            raise ConfigError(f"{path} has version {record.version}; this release reads {RECORD_VERSION} and earlier.")
        return record

    def open(self, chain: Chain, reading: bool = False) -> Ledger:
        """Return the ledger of this record; one of an earlier release may only be read.

        Raises
        ------
        ChainError
            If the chain is another one, or the code there is not what was deployed.
        ConfigError
            If the ledger is of an earlier version and not only to be read.
        """
        if chain.chain_id != self.chain_id:
            raise ChainError(
                f"The chain at {chain.where} has id {chain.chain_id}, but the deployment is on chain {self.chain_id}.",
                "Give the URL of the right chain, or deploy on this one.",
            )
        found = "0x" + keccak(chain.code(self.address)).hex()
        if found != self.code_hash:
            raise ChainError(
                f"The code at {self.address} has hash {found}, but the record says {self.code_hash}.",
                "If the chain was started anew, deploy again.",
            )
        if self.ledger_version != VERSION and not reading:
            raise ConfigError(
                f"The ledger at {self.address} is of an earlier version; this release works with version {VERSION}.",
                "Deploy a new one; the old one can still be audited, and shown with `fedledger history`.",
            )
        return Ledger(chain, self.address, self.block)


_RECORD = TypeAdapter(Deployment)


def require_funds(chain: Chain, address: str) -> None:
    """Raise ChainError if an account cannot pay for a deployment at today's price of gas."""
    gas = DEPLOYMENT_GAS + sum(GAS_PER_PART + GAS_PER_BYTE * (len(part.bytecode) // 2) for part in parts())
    needed, held = gas * chain.sender.price(), chain.balance(address)
    if held < needed:
        raise ChainError(
            f"{address} has {in_gwei(held)}, and to deploy takes up to {in_gwei(needed)} at today's price of gas.",
            f"Send it {in_gwei(needed - held)} or more.",
        )


def deploy(chain: Chain, account: LocalAccount, settings: Settings) -> tuple[Ledger, Deployment]:
    """Deploy the ledger.

    Raises
    ------
    ChainError
        If the account cannot pay for it.
    """
    require_funds(chain, account.address)
    ledger, receipt = Ledger.deploy(chain, account, settings)
    record = Deployment(
        version=RECORD_VERSION,
        chain_id=chain.chain_id,
        chain=chain.capabilities.client,
        address=ledger.address,
        block=ledger.first_block,
        transaction="0x" + receipt.hash.hex(),
        code_hash="0x" + keccak(chain.code(ledger.address)).hex(),
        compiler=parts()[0].compiler,
        genesis={address: str(wei) for address, wei in chain.genesis().items()},
        ledger_version=VERSION,
        **asdict(settings),
    )
    return ledger, record
