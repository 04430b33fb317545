"""What happens in a schedule: updates arrive or are lost, and the server takes a step."""

from __future__ import annotations

from dataclasses import dataclass

from fedledger.protocol.schedules.devices import LossReason


@dataclass(frozen=True)
class Arrival:
    """An update that came in.

    Parameters
    ----------
    address
        The participant.
    base_round
        Server steps that had been made when it was sent off: it trained on the model after so many rounds.
    dispatched_us, arrived_us
        When it began and when its update was there.
    download_us, compute_us, upload_us
        What it did in that time; they sum to it.
    energy_uj
        What it spent.
    """

    address: str
    base_round: int
    dispatched_us: int
    download_us: int
    compute_us: int
    upload_us: int
    arrived_us: int
    energy_uj: int

    def lost(self, reason: LossReason) -> Loss:
        """Return the loss that this is if the update does not count."""
        parts = self.download_us, self.compute_us, self.upload_us
        when = self.dispatched_us, *parts, self.arrived_us
        return Loss(self.address, self.base_round, *when, self.energy_uj, reason)


@dataclass(frozen=True)
class Loss:
    """Work of a participant that came to nothing: as :class:`Arrival`, until it was ``lost_us``, and why."""

    address: str
    base_round: int
    dispatched_us: int
    download_us: int
    compute_us: int
    upload_us: int
    lost_us: int
    energy_uj: int
    reason: LossReason


@dataclass(frozen=True)
class ServerStep:
    """A server step.

    Parameters
    ----------
    index
        Its number from 1: the round.
    time_us
        When it is made.
    arrivals
        The updates it is made of, in the order in which they came in.
    losses
        What came to nothing since the step before, in order.
    """

    index: int
    time_us: int
    arrivals: tuple[Arrival, ...]
    losses: tuple[Loss, ...] = ()

    def staleness(self, arrival: Arrival) -> int:
        """Return how many steps were made while the update was in the making."""
        return self.index - 1 - arrival.base_round
