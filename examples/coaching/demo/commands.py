"""Commands to paste while the reference service runs: to chat, to leave, to be refused, to look."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Final

from tests.support.stack import bin_path
from tests.support.users import CHAT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.stack import Stack

_MESSAGE: Final = '{"message": "[tool:recent_activities] How was my week?"}'
"""The local provider answers this with a call of that tool first."""
_SLOW: Final = '{"message": "[pace:0.2] [tokens:80] How was my week?"}'
"""The local provider answers this with 80 tokens, one each 0.2 s."""


def commands(stack: Stack) -> Iterator[tuple[str, str]]:
    """Yields what a command does, and the command; `$TOKEN` is set by the first one."""
    url = f"{stack.url}{CHAT}"
    body = ("-H", "Content-Type: application/json", "-d")
    authorized = '-H "Authorization: Bearer $TOKEN"'
    yield "a token of the user anna", f"TOKEN={stack.token()}"
    yield "chat", f"curl -N {authorized} {shlex.join([*body, _MESSAGE, url])}"
    yield "leave in the middle", f"curl -N -m 2 {authorized} {shlex.join([*body, _SLOW, url])}"
    yield "be refused", f"curl -i {shlex.join([*body, _MESSAGE, url])}"
    yield "watch the figures move", f"# open {stack.url}/metrics in a browser"
    otel_coach = os.path.relpath(bin_path("otel-coach"))
    yield "the same in a terminal", f"{otel_coach} top {stack.url}/metrics"
