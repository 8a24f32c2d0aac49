"""Start everything, send one round of requests, and show what was measured."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from typing import TYPE_CHECKING

import httpx
from rich.console import Console

from examples.coaching.demo.checks import MAX_REST, at_rest, missing_at_rest
from examples.coaching.demo.commands import commands
from examples.coaching.demo.report import figures_tables, trace_tree
from otel_coach.testing import Page
from tests.support.programs import ProgramError, free_port, is_free
from tests.support.stack import coaching_stack
from tests.support.users import CHAT, Users, one_round

if TYPE_CHECKING:
    from rich.tree import Tree

    from tests.support.stack import Stack

console = Console(highlight=False, soft_wrap=True)
if not console.is_terminal:
    console = Console(highlight=False, soft_wrap=True, width=80)
_PORT = 8000
_LEGACY_LIMIT = "8/minute"


def main() -> int:
    """Returns the exit code: 0 if the page is complete and right, 1 if not, 2 if nothing ran."""
    parser = argparse.ArgumentParser(prog="python -m examples.coaching.demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="exit after the round, for CI")
    parser.add_argument("--port", type=int, help=f"of the service (default {_PORT})")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # A shell that starts this program in the background makes it ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    port = arguments.port or (free_port() if arguments.once else _PORT)
    if not is_free(port):
        console.print(f"port {port} is taken; choose another one: make run PORT=8010")
        return 2
    try:
        return _run(port, once=arguments.once)
    except ProgramError as error:
        console.print(str(error), style="red", markup=False)
        return 2
    except KeyboardInterrupt:
        return 0


def _run(port: int, *, once: bool) -> int:
    started = time.monotonic()

    def say(what: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:5.1f} s[/dim]  {what}")

    say("starting PostgreSQL, the provider and: opentelemetry-instrument uvicorn app:app")
    environment = {"COACH_CHAT_LEGACY_LIMIT": _LEGACY_LIMIT}
    with coaching_stack(port=port, environment=environment) as stack:
        users = Users(stack)
        one_round(users, stack, say)
        users.close()
        wrong = missing_at_rest(lambda: _page(stack), users.notes, stack.provider)
        for table in figures_tables(httpx.get(f"{stack.url}/metrics").text):
            console.print(table)
        # The trace is exported some time after the response.
        trace = at_rest(lambda: _a_chat_with_a_tool(stack), lambda found: found is not None)
        if trace is not None:
            console.print("one trace:", trace)
        else:
            wrong.append(f"no trace of a chat with a tool came within {MAX_REST} s")
        for line in wrong:
            console.print(f"wrong: {line}", style="red", markup=False)
        if not wrong:
            console.print("every figure equals the provider's ledger and the users' own notes")
        console.print(f"service   {stack.url}\nmetrics   {stack.url}/metrics")
        console.print(f"ledger    {stack.provider.url}/ledger")
        if not once:
            for what, command in commands(stack):
                console.print(f"\n[dim]# {what}[/dim]")
                console.print(command, markup=False)
            console.print("\nserving until Ctrl-C")
            try:
                stack.program.process.wait()
            except KeyboardInterrupt:
                console.print("\nstopping the service, the provider and PostgreSQL; goodbye")
                raise
    return 1 if wrong else 0


def _page(stack: Stack) -> Page:
    return Page(httpx.get(f"{stack.url}/metrics").text)


def _a_chat_with_a_tool(stack: Stack) -> Tree | None:
    spans = stack.receiver.spans
    tools = {span.trace_id for span in spans if span.name.startswith("execute_tool")}
    roots = (s for s in spans if s.name == f"POST {CHAT}" and s.trace_id in tools)
    root = next(roots, None)
    return None if root is None else trace_tree(spans, root)


if __name__ == "__main__":
    sys.exit(main())
