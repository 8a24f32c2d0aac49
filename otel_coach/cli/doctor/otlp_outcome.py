"""What came of an export, by either protocol."""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple


class ExportFailure(Enum):
    """Why an export failed."""

    UNREACHABLE = auto()
    PROXY = auto()
    """No connection came about through a proxy of the environment."""
    PROTOCOL = auto()
    """The server speaks another protocol."""
    NO_TLS = auto()
    """TLS was tried, and the server speaks none."""
    TLS = auto()
    """The server speaks TLS only."""
    CERTIFICATE = auto()
    CREDENTIALS = auto()
    REFUSED = auto()


class Outcome(NamedTuple):
    """The result of one export."""

    failure: ExportFailure | None
    """None if it was accepted."""
    reason: str
