"""The application's own /metrics page, and which of its families are shown beside otel-coach's.

The application decides which clients may read its page, so it is asked first. An answer in a
Prometheus format is kept verbatim, except for families that otel-coach's page already has.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from otel_coach.core.record import record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet

_FORMATS: Final = frozenset({"text/plain", "application/openmetrics-text"})
_METADATA: Final = re.compile(r'# (?:HELP|TYPE|UNIT) ("(?:[^"\\]|\\.)*"|[^\s"]+)(?: .*)?')
_NAME: Final = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
_LABELS: Final = rf"(?:[^{{}}\"]|{_QUOTED})*"
_NUMBER: Final = (
    r"[-+]?(?:[0-9][0-9a-fA-FxXpP_.eE+-]*|\.[0-9][0-9eE+-]*|[iI]nf(?:inity)?|[nN]a[nN])"
)
_SAMPLE: Final = re.compile(
    rf"(?:({_NAME})\s*(?:\{{{_LABELS}\}})?|\{{\s*({_QUOTED}){_LABELS}\}})"
    rf"\s*{_NUMBER}(?:\s+{_NUMBER})?(?:\s+#\s*\{{{_LABELS}\}}\s*{_NUMBER}(?:\s+{_NUMBER})?)?\s*"
)
"""A name and labels, or labels with a quoted UTF-8 name first; a value; timestamp and exemplar."""
_SUFFIXES: Final = re.compile(r"_(?:total|created|bucket|count|sum|gcount|gsum|info)")
_INVALID_IN_NAME: Final = re.compile(r"[^a-zA-Z0-9_:]")


class NotPrometheusError(ValueError):
    """The answer is not in a Prometheus text format."""


@dataclass
class FamilyLines:
    """The lines of one family."""

    names: set[str] = field(default_factory=set[str])
    """The names of the family and of its samples."""
    lines: list[str] = field(default_factory=list[str])

    def has(self, sample_name: str) -> bool:
        """Whether a following sample of that name belongs to this family."""
        return any(
            sample_name == name
            or (sample_name.startswith(name) and _SUFFIXES.fullmatch(sample_name, len(name)))
            for name in self.names
        )


def may_be_prometheus(content_type: str) -> bool:
    """Whether an answer with this content type may be in a Prometheus text format."""
    return content_type.partition(";")[0].strip().lower() in _FORMATS


@record
class ApplicationPage:
    """The application's answer, split into families.

    Raises:
        NotPrometheusError: the answer is not in a Prometheus text format.
    """

    content_type: str
    body: bytes
    blocks: list[FamilyLines] = field(init=False)

    def __post_init__(self) -> None:
        try:
            text = self.body.decode()
        except UnicodeDecodeError as error:
            message = f"byte {error.start} is not UTF-8"
            raise NotPrometheusError(message) from error
        object.__setattr__(self, "blocks", [*_blocks(text)])

    def without(self, taken: AbstractSet[str]) -> tuple[bytes, list[str]]:
        """Returns the families with no name in `taken`, and the names of those left out.

        Left-out families whose name ends in `_created` are not named.
        """
        if "escaping=allow-utf-8" not in self.content_type:
            taken = {_INVALID_IN_NAME.sub("_", name) for name in taken}
        kept: list[str] = []
        left_out: list[str] = []
        for block in self.blocks:
            if taken.isdisjoint(block.names):
                kept += block.lines
            else:
                left_out.append(min(block.names, key=len))
        # In the text format, a counter's `_created` sample is a family of its own.
        left_out = [name for name in left_out if not name.endswith("_created")]
        return "".join(f"{line}\n" for line in kept).encode(), left_out


def _blocks(text: str) -> Iterator[FamilyLines]:
    block = FamilyLines()
    for line in text.split("\n"):
        found = _METADATA.fullmatch(line.rstrip("\r"))
        if found is not None:
            name = _unquoted(found[1])
            if name not in block.names:
                yield block
                block = FamilyLines({name})
        elif line.startswith("#") or not line.strip():
            if line.strip() in {"# EOF", ""}:
                continue
        else:
            name = _sample_name(line)
            if not block.has(name):
                yield block
                block = FamilyLines()
            block.names.add(name)
        block.lines.append(line.rstrip("\r"))
    yield block


def _sample_name(line: str) -> str:
    found = _SAMPLE.fullmatch(line)
    if found is None:
        message = "a line is neither a comment nor a sample"
        raise NotPrometheusError(message)
    return found[1] or _unquoted(found[2])


def _unquoted(name: str) -> str:
    return name.strip('"').replace('\\"', '"').replace("\\\\", "\\")
