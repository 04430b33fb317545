"""The vocabulary by which text becomes tokens: a canonical list of texts, each of which is the token of its place."""

from __future__ import annotations

from collections.abc import Sequence
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
        numbers, lengths, unknown = self._numbers, self._lengths, self.unknown
        found: list[int] = []
        strange: list[str] = []
        place = 0
        while place < len(text):
            for length in lengths.get(text[place], ()):
                number = numbers.get(text[place : place + length])
                if number is not None:
                    found.append(number)
                    place += length
                    break
            else:
                strange.append(text[place])
                if unknown is not None:
                    found.append(unknown)
                place += 1
        return found, strange

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {text: number for number, text in enumerate(self.texts)}

    @cached_property
    def _lengths(self) -> dict[str, Sequence[int]]:
        """How long the tokens are that begin with a character, the longest first."""
        lengths: dict[str, set[int]] = {}
        for text in self.texts:
            lengths.setdefault(text[0], set()).add(len(text))
        return {first: sorted(found, reverse=True) for first, found in lengths.items()}
