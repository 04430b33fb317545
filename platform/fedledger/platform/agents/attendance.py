"""Which of those whom a round asks come to it, and what they make of its pay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from fedledger.platform.agents.agent import NEW, Agent, Experience


class Attendance:
    """The agents of one task, with what they have seen of it.

    Parameters
    ----------
    agents
        By number; none: everybody always comes.
    experiences
        What they have seen, by number; it is kept up to date.

    Attributes
    ----------
    is_elsewhere
        Tells whether an agent has left for another task: no round asks it until it is back.
    """

    def __init__(self, agents: Sequence[Agent], experiences: dict[int, Experience] | None = None) -> None:
        self.agents = agents
        self.experiences: dict[int, Experience] = {} if experiences is None else experiences
        self.is_elsewhere: Callable[[int], bool] = lambda number: False

    def experience(self, number: int) -> Experience:
        """Return what an agent has seen."""
        return self.experiences.get(number, NEW)

    def enrolled(self, participants: int) -> list[int]:
        """Return who is here, of so many participants."""
        return [number for number in range(participants) if not self.is_elsewhere(number)]

    def staying_away(self, index: int, asked: Iterable[int], prices: Mapping[int, int]) -> frozenset[int]:
        """Return who stays away of those whom a round asks, by what each was promised, in units; 0: nothing."""
        if not self.agents:
            return frozenset()
        return frozenset(number for number in asked if not self._comes(number, index, prices.get(number, 0)))

    def learn(self, index: int, asked: Iterable[int], away: frozenset[int], shares: Mapping[int, int] | None) -> None:
        """Take what a round paid, in units by number; None: it was voided, so who came did so for nothing."""
        if not self.agents:
            return
        for number in asked:
            agent, known = self.agents[number], self.experience(number)
            if number in away:
                if agent.is_there(index):
                    self.experiences[number] = known._replace(away=known.away + 1)
            elif shares is not None:
                self.experiences[number] = known.worked(shares.get(number, 0), agent.cost(index))

    def _comes(self, number: int, index: int, price: int) -> bool:
        return self.agents[number].comes(index, price, self.experience(number))
