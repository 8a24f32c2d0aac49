"""What a request accepts (RFC 9110, section 12.5), as far as the page has a choice."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_REFUSED: Final = re.compile(r"0(\.0*)?")


def accepted(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    """What the list in `header` names and does not refuse by `q=0`, with parameters; lower case."""
    for one in header.lower().split(","):
        name, *rest = (part.strip() for part in one.split(";"))
        parameters = {key: value for key, _, value in (part.partition("=") for part in rest)}
        if not _REFUSED.fullmatch(parameters.get("q", "1")):
            yield name, parameters
