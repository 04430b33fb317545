"""The vocabulary by which text becomes tokens: a canonical list of texts, each of which is the token of its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from fedledger.protocol.encoding import canonical
from fedledger.protocol.errors import ConfigError

MAX_BYTES = 4 * 1024 * 1024
MAX_TOKENS = 2**18
MAX_LENGTH = 64
"""Characters of a token."""


@dataclass(frozen=True)
class Vocabulary:
    """Texts that are tokens.

    Parameters
    ----------
    texts
        Each token's text, in the order of their numbers; all are different.
    unknown
        The token of a character with which none begins; None if there is none.
    """

    texts: tuple[str, ...]
    unknown: int | None = None

    @classmethod
    def of(cls, document: object, unknown: int | None = None) -> Vocabulary:
        """Return the vocabulary that a list is.

        Raises
        ------
        ConfigError
            If it is none, or there is no token ``unknown``.
        """
        if not isinstance(document, list) or not 0 < len(document) <= MAX_TOKENS:
            raise ConfigError(f"A vocabulary is a list of 1 to {MAX_TOKENS:,} texts.", "Correct the list.")
        for place, text in enumerate(document):
            if not isinstance(text, str) or not 0 < len(text) <= MAX_LENGTH:
                raise ConfigError(f"Token {place} is no text of 1 to {MAX_LENGTH} characters.", "Correct the list.")
        if len(set(document)) < len(document):
            raise ConfigError("Two tokens of the vocabulary have the same text.", "Give each one once.")
        if unknown is not None and unknown >= len(document):
            raise ConfigError(f"The vocabulary has no token {unknown}.", f"Give one of 0 to {len(document) - 1}.")
        return cls(tuple(document), unknown)

    @classmethod
    def decode(cls, data: bytes, unknown: int | None = None) -> Vocabulary:
        """Read a vocabulary from its canonical bytes.

        Raises
        ------
        ConfigError
            If they are none.
        """
        try:
            document = canonical.decode(data, MAX_BYTES)
        except ValueError as error:
            raise ConfigError(f"The task's vocabulary cannot be read: {error}.") from error
        return cls.of(document, unknown)

    def encode(self) -> bytes:
        """Return the canonical bytes, without what ``unknown`` is."""
        return canonical.encode(list(self.texts))

    def tokens(self, text: str) -> tuple[list[int], list[str]]:
        """Return a text's tokens, at each place the longest one that fits, and the characters that have none.

        A character with which no token begins becomes ``unknown``, or is left out where there is no such token.
        """
        unknown = self.unknown
        found: list[int] = []
        strange: list[str] = []
        place = 0
        while place < len(text):
            number = self._longest(self._starts, text, place)
            if number is not None:
                found.append(number)
                place += len(self.texts[number])
                continue
            strange.append(text[place])
            if unknown is not None:
                found.append(unknown)
            place += 1
        return found, strange

    def _longest(self, starts: Mapping[str, int | None], text: str, place: int) -> int | None:
        """Return the longest token with which a text goes on at a place, if there is one.

        The lengths of tokens that begin alike are searched by halves, so that many lengths take few steps: seven for
        the 64 that there may be.
        """
        lengths = self._lengths.get(text[place], ())
        best = None
        low, high = 0, len(lengths)
        while low < high:
            middle = (low + high) // 2
            start = text[place : place + lengths[middle]]
            if start in starts:
                best = starts[start]
                low = middle + 1
            else:
                high = middle
        return best

    @cached_property
    def _starts(self) -> dict[str, int | None]:
        """The starts of tokens that lead a search by halves to them, with the longest token that each begins with."""
        starts: dict[str, int | None] = {}
        # All shorter tokens are there when a start is looked up among them.
        for number in sorted(range(len(self.texts)), key=lambda number: len(self.texts[number])):
            text = self.texts[number]
            lengths = self._lengths[text[0]]
            own = lengths.index(len(text))
            low, high = 0, len(lengths)
            while (middle := (low + high) // 2) != own:
                if middle > own:
                    high = middle
                    continue
                start = text[: lengths[middle]]
                if start not in starts:
                    starts[start] = self._longest(starts, start, 0)
                low = middle + 1
            starts[text] = number
        return starts

    @cached_property
    def _lengths(self) -> dict[str, Sequence[int]]:
        """How long the tokens are that begin with a character, the shortest first."""
        lengths: dict[str, set[int]] = {}
        for text in self.texts:
            lengths.setdefault(text[0], set()).add(len(text))
        return {first: sorted(found) for first, found in lengths.items()}
