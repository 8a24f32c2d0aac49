"""`python -m oracle --n 300 --seed 1`: random requests; every figure must equal the truth.

Requests go out in batches, all of a batch at once. After each the page's gain is compared; where
it differs, the batch's requests are sent again one by one to find the one that makes it differ.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from demo.stack import INSTRUMENTED, coaching_stack
from oracle.drive import send
from oracle.expect import calls_of, difference, expected, found
from oracle.plan import orders
from oracle.spans import Traces
from otel_coach.testing import Page

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from demo.otlp import Receiver
    from oracle.plan import Order

_BATCH = 80
_PATIENCE = 12.0


@dataclass
class Oracle:
    """The service under test, and what it is compared with."""

    url: str
    provider: Any
    receiver: Receiver

    def compare(self, batch: list[Order]) -> list[str]:
        """Send `batch` at once; the differences that remain when all has come to rest."""
        self.provider.reset()
        httpx.delete(f"{self.url}/witness")
        before, exported = found(self._page()), len(self.receiver.requests)
        traces = Traces()
        received = asyncio.run(send(self.url, batch, traces, self._asked))
        deadline = time.monotonic() + _PATIENCE
        while True:
            ledger = self.provider.ledger
            if all(entry.outcome != "open" for entry in ledger):
                calls = calls_of(batch, ledger, httpx.get(f"{self.url}/witness").json())
                lines = difference(before, found(self._page()), expected(calls, received))
                lines += traces.differences(calls, self.receiver.spans_since(exported))
                if not lines:
                    return received.surprises
                httpx.post(f"{self.url}/collect")
                if time.monotonic() > deadline:
                    return lines
            elif time.monotonic() > deadline + _PATIENCE:
                return ["the provider still has a request open"]
            time.sleep(0.3)

    def _asked(self, order: Order) -> int:
        return sum(entry.user == str(order.number) for entry in self.provider.ledger)

    def _page(self) -> Page:
        return Page(httpx.get(f"{self.url}/metrics", timeout=30).text)


@contextmanager
def oracle(database_url: str | None = "") -> Generator[Oracle]:
    """Start the service under test."""
    # Bound, so that no other program takes it, but deaf: who connects is refused.
    deaf = socket.socket()
    deaf.bind(("127.0.0.1", 0))
    environment = {
        "ORACLE_CLOSED_URL": f"http://127.0.0.1:{deaf.getsockname()[1]}/v1",
        "OTEL_COACH_DEPENDENCIES": "",
        "PYTHONPATH": str(Path(__file__).parent.parent),
    }
    command = (*INSTRUMENTED[:2], "oracle.app:app")
    with (
        deaf,
        coaching_stack(
            command=command,
            environment=environment,
            cwd=Path(__file__).parent.parent,
            database_url=database_url,
        ) as stack,
    ):
        yield Oracle(stack.url, stack.provider, stack.receiver)


def run(
    oracle: Oracle, plan: list[Order], say: Callable[[str], None] = lambda _: None
) -> list[str]:
    """All differences, each with the request that makes it, where one alone does."""
    findings: list[str] = []
    started = time.monotonic()

    def find(lines: list[str]) -> None:
        for line in lines:
            say(line)
        findings.extend(lines)

    for begin in range(0, len(plan), _BATCH):
        batch = plan[begin : begin + _BATCH]
        if lines := oracle.compare(batch):
            find([f"requests {begin} to {begin + len(batch) - 1}: {line}" for line in lines])
            for order in batch:
                find([f"{order} alone: {line}" for line in oracle.compare([order])])
        rate = (begin + len(batch)) / (time.monotonic() - started)
        say(
            f"{begin + len(batch)} of {len(plan)} requests, {rate:.0f}/s, "
            f"{len(findings)} differences"
        )
    return findings


def main() -> int:
    """Exit code 0 if there is no difference."""
    parser = argparse.ArgumentParser(prog="python -m oracle", description=__doc__)
    parser.add_argument("--n", type=int, default=300, help="how many requests")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the plan")
    parser.add_argument("--cells", default="*", help="route/way/ending, with wildcards")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of requests to send again")
    arguments = parser.parse_args()
    plan = orders(arguments.seed, arguments.n, arguments.cells)
    if arguments.only is not None:
        plan = [order for order in plan if order.number in arguments.only]
    print(f"seed {arguments.seed}, {len(plan)} requests")
    with oracle() as running:
        findings = run(running, plan, say=lambda line: print(line, flush=True))
    print(f"seed {arguments.seed}: {len(findings)} differences in {len(plan)} requests")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
