"""What a request accepts (RFC 9110, section 12.5), as far as the page has a choice."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_REFUSED: Final = re.compile(r"0(\.0*)?")
_OPENMETRICS: Final = "application/openmetrics-text"
_KNOWN_VERSIONS: Final = frozenset({None, "0.0.1", "1.0.0"})
_UTF8: Final = "allow-utf-8"


def accepted(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    """What the list in `header` names and does not refuse by `q=0`, with parameters; lower case."""
    for one in header.lower().split(","):
        name, *rest = (part.strip() for part in one.split(";"))
        parameters = {key: value for key, _, value in (part.partition("=") for part in rest)}
        if not _REFUSED.fullmatch(parameters.get("q", "1")):
            yield name, parameters


def format_of(header: str) -> str:
    """What of `header` the page can be, as a media type; "" for the text format 0.0.4.

    OpenMetrics goes first. Names in UTF-8 keep their dots for a scraper that asks for them
    (Prometheus 3); other ways to escape are those of nobody, and would change valid names.
    """
    asked = [*accepted(header)]
    versions = {
        parameters.get("version"): parameters
        for name, parameters in asked
        if name == _OPENMETRICS and parameters.get("version") in _KNOWN_VERSIONS
    }
    if versions:
        utf8 = any(parameters.get("escaping") == _UTF8 for parameters in versions.values())
        return f"{_OPENMETRICS}; version=1.0.0" + (f"; escaping={_UTF8}" if utf8 else "")
    if any(
        name == "text/plain"
        and parameters.get("version") == "1.0.0"
        and parameters.get("escaping") == _UTF8
        for name, parameters in asked
    ):
        return f"text/plain; version=1.0.0; escaping={_UTF8}"
    return ""


def accepts_gzip(header: str) -> bool:
    """Whether the `Accept-Encoding` in `header` names gzip."""
    return any(coding == "gzip" for coding, _ in accepted(header))
