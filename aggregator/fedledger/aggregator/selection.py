"""Selection: which of the enrolled participants a round asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fedledger.protocol.errors import ConfigError
from fedledger.protocol.parameters import whole
from fedledger.protocol.registry import Registry
from fedledger.protocol.streams import Stream


class Selection(Protocol):
    """Chooses participants; a frozen dataclass of its parameters."""

    def __call__(self, addresses: Sequence[str], stream: Stream) -> list[str]:
        """Return the chosen ones of ``addresses``, which come sorted."""
        ...


SELECTIONS: Registry[Callable[..., Selection]] = Registry("selection", "fedledger.selections")


@SELECTIONS.register("all@1")
@dataclass(frozen=True)
class All:
    """Ask everybody."""

    def __call__(self, addresses: Sequence[str], stream: Stream) -> list[str]:
        return list(addresses)


@SELECTIONS.register("uniform@1")
@dataclass(frozen=True)
class Uniform:
    """Ask a uniform random sample.

    Parameters
    ----------
    count
        Size of the sample.
    """

    count: int

    def __post_init__(self) -> None:
        whole("count", self.count)

    def __call__(self, addresses: Sequence[str], stream: Stream) -> list[str]:
        if self.count > len(addresses):
            raise ConfigError(
                f"The selection asks for {self.count} participants of {len(addresses)}.",
                "Lower the count, or enrol more participants.",
            )
        return sorted(stream.sample(addresses, self.count))
