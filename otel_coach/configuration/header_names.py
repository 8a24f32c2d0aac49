"""Names of HTTP headers."""

from __future__ import annotations

from typing import Final

from otel_coach.configuration.kinds import Names

HEADER_NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
"""A token of RFC 9110, section 5.6.2."""


class HeaderNames(Names[frozenset[str]]):
    """A collection of headers' names, which becomes a frozenset of them in lower case."""

    def __init__(self) -> None:
        super().__init__("a header's name", frozenset, HEADER_NAME)

    def check(self, value: object) -> frozenset[str]:
        """Accepts a collection of str, but not a str itself."""
        return frozenset(map(str.lower, super().check(value)))
