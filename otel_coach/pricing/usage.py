"""What one LLM call was billed for."""

from __future__ import annotations

from operator import add
from typing import NamedTuple


class Usage(NamedTuple):
    """The tokens of one LLM call, as its provider billed them.

    All fields but the first two are parts of others: `cached`, `cache_write` and `input_audio` of
    `prompt`, `cache_write_1h` of `cache_write`, `reasoning`, `citation`, `output_audio`,
    `output_image` and `output_text` of `completion`. The last one has no price of its own.
    """

    prompt: int
    completion: int
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0
    cache_write_1h: int = 0
    input_audio: int = 0
    output_audio: int = 0
    citation: int = 0
    output_image: int = 0
    output_text: int = 0

    @property
    def has_parts(self) -> bool:
        """Whether any part of the prompt or completion tokens is given that may have a price."""
        return any(self._replace(output_text=0)[2:])

    @property
    def contradicts_itself(self) -> bool:
        """Whether a part is larger than what it is a part of."""
        return (
            max(self.cached + self.cache_write, self.input_audio) > self.prompt
            or max(self.reasoning + self.citation, self.output_audio) > self.completion
            or self.output_image > self.completion
            or self.cache_write_1h > self.cache_write
        )

    def plus(self, other: Usage) -> Usage:
        """Adds up the tokens of two parts of one call."""
        return Usage(*map(add, self, other))
