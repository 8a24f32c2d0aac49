"""Content negotiation (RFC 9110, section 12.5) for the formats and codings of the page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_ZERO: Final = re.compile(r"0(\.0*)?")
_OPENMETRICS: Final = "application/openmetrics-text"
_KNOWN_VERSIONS: Final = frozenset({None, "0.0.1", "1.0.0"})
_UTF8: Final = "allow-utf-8"


def accepted(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields each name that `header` accepts, with its parameters; `q=0` means "not accepted".

    All are in lower case.
    """
    for item in header.lower().split(","):
        name, *rest = (part.strip() for part in item.split(";"))
        parameters = {key: value for key, _, value in (part.partition("=") for part in rest)}
        if not _ZERO.fullmatch(parameters.get("q", "1")):
            yield name, parameters


def format_of(header: str) -> str:
    """Returns the page's media type for the Accept `header`; "" stands for the text format 0.0.4.

    OpenMetrics is preferred. A scraper that asks for UTF-8 names (Prometheus 3) gets names with
    dots unchanged. Others get underscores, also those that ask for `dots` or `values`, which few
    scrapers are configured to do.
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
    """Whether the Accept-Encoding `header` accepts gzip."""
    return any(coding == "gzip" for coding, _ in accepted(header))
