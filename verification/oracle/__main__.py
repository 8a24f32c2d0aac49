"""Sends random requests and compares every metric and span with the truth.

The requests of a batch are sent concurrently. After each batch, the increase of each metric on the
page is compared; if one differs, the requests are sent again one by one to find the cause.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from otel_coach.testing import Page
from tests.support.paths import ROOT
from tests.support.stack import INSTRUMENTED, coaching_stack
from verification.oracle.drive import send
from verification.oracle.endings import PACE
from verification.oracle.expect import calls_of, difference, expected, found
from verification.oracle.plan import orders
from verification.oracle.spans import Traces
from verification.oracle.ways import IN_THREADS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from tests.support.otlp import Receiver
    from verification.oracle.plan import Order
    from verification.oracle.received import Received

_MAX_FOR_NOBODY = 40
"""Chunks of a stream that are sent before the service has noticed that its user has left: some, on
a machine that is busy with twenty other requests at once; a stream has eighty in all."""
_MAX_ALONE = 3
"""Requests of a batch that are shown to differ alone: each such attempt waits to the end."""
_BATCH = 80
_TIMEOUT = 12.0


@dataclass
class Oracle:
    """The service under test, and the sources of the truth."""

    url: str
    provider: Any
    receiver: Receiver
    stops: bool = False
    """Whether the work of a user who leaves is stopped."""
    sent_for_nobody: list[int] = field(default_factory=list[int])
    """Chunks that the provider sent after the user had left, for each stream that was left."""

    def compare(self, batch: list[Order]) -> list[str]:
        """Sends `batch` concurrently; returns the differences that remain after all has ended."""
        self.provider.reset()
        httpx.delete(f"{self.url}/witness")
        before, exported = found(self._page()), len(self.receiver.requests)
        traces = Traces()
        received = asyncio.run(send(self.url, batch, traces, self._asked))
        deadline = time.monotonic() + _TIMEOUT
        while True:
            ledger = self.provider.ledger
            if all(entry.outcome != "open" for entry in ledger):
                heard = httpx.get(f"{self.url}/witness").json()
                calls = calls_of(batch, ledger, heard, stops=self.stops)
                answers = httpx.get(f"{self.url}/witness/answers").json()
                now = received.with_answers(answers) if self.stops else received
                lines = difference(before, found(self._page()), expected(calls, now))
                spans = self.receiver.spans_since(exported)
                lines += traces.differences(calls, spans, stops=self.stops)
                if not lines:
                    return received.surprises + self._not_stopped(batch, received, heard)
                httpx.post(f"{self.url}/collect")
                if time.monotonic() > deadline:
                    return lines
            elif time.monotonic() > deadline + _TIMEOUT:
                return ["the provider still has a request open"]
            time.sleep(0.3)

    def _asked(self, order: Order) -> int:
        kind = "embeddings" if order.way.embeds else "chat"
        return sum(
            entry.user == str(order.number) and entry.kind == kind for entry in self.provider.ledger
        )

    def _not_stopped(
        self, batch: list[Order], received: Received, heard: list[dict[str, Any]]
    ) -> list[str]:
        """Returns a line for each call that went on though its user had left.

        `heard` is the witness's record: whether the service has read an answer to its end.
        """
        lines: list[str] = []
        for order in batch if self.stops else ():
            left = received.left.get(order.number)
            if left is None:
                continue
            own = [request for request in heard if request["user"] == str(order.number)]
            if _can_be_stopped(order) and own and all(request["read_to_end"] for request in own):
                lines.append(f"{order}: its calls were read to their end")
            if order.ending.name == "leaves_mid_stream":
                lines += self._sent_too_much(order, left)
        return lines

    def _sent_too_much(self, order: Order, left: float) -> Iterator[str]:
        for entry in self.provider.ledger:
            if entry.user == str(order.number) and entry.kind == "chat" and entry.stream:
                sent = round(max(0.0, (entry.ended or left) - left) / PACE)
                self.sent_for_nobody.append(sent)
                if sent > _MAX_FOR_NOBODY:
                    yield f"{order}: {sent} chunks were sent after its user had left"

    def _page(self) -> Page:
        return Page(httpx.get(f"{self.url}/metrics", timeout=30).text)


def _can_be_stopped(order: Order) -> bool:
    """Returns whether what the order calls does not go on to its end when its user has left."""
    way, ending = order.way.name, order.ending.name
    if way in IN_THREADS or order.way.embeds:  # an embedding is short
        return False
    if way == "turn_task" and ending == "leaves_before_first_chunk":
        return False  # a task of the handler's that has sent nothing is the handler's to cancel
    return ending != "leaves_after_last_chunk"


@contextmanager
def oracle(database_url: str | None = "", *, stops: bool = False) -> Generator[Oracle]:
    """Starts the service under test; yields an `Oracle` for it.

    `stops` says whether the work of users who leave is stopped.
    """
    # Bound, so that no other program takes the port, but not listening: connections are refused.
    closed_port = socket.socket()
    closed_port.bind(("127.0.0.1", 0))
    environment = {
        "ORACLE_CLOSED_URL": f"http://127.0.0.1:{closed_port.getsockname()[1]}/v1",
        "OTEL_COACH_DEPENDENCIES": "",
        "PYTHONPATH": str(ROOT),
        **({"OTEL_COACH_STOP_ABANDONED": "true", "OTEL_COACH_STOP_AFTER": "0"} if stops else {}),
    }
    command = (*INSTRUMENTED[:2], "verification.oracle.app:app")
    with (
        closed_port,
        coaching_stack(
            command=command,
            environment=environment,
            cwd=ROOT,
            database_url=database_url,
        ) as stack,
    ):
        yield Oracle(stack.url, stack.provider, stack.receiver, stops)


def run(
    oracle: Oracle, plan: list[Order], say: Callable[[str], None] = lambda _: None
) -> list[str]:
    """Sends `plan` in batches; returns the differences, if possible each with its request."""
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
            alone = 0
            for order in batch:
                if alone < _MAX_ALONE and (own := oracle.compare([order])):
                    alone += 1
                    find([f"{order} alone: {line}" for line in own])
        rate = (begin + len(batch)) / (time.monotonic() - started)
        say(
            f"{begin + len(batch)} of {len(plan)} requests, {rate:.0f}/s, "
            f"{len(findings)} differences"
        )
    return findings


def main() -> int:
    """Returns the exit code: 0, or 1 if there is a difference."""
    parser = argparse.ArgumentParser(prog="python -m verification.oracle", description=__doc__)
    parser.add_argument("--n", type=int, default=300, help="how many requests")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="seed of the plan")
    parser.add_argument("--cells", default="*", help="route/way/ending, with wildcards")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of requests to send again")
    parser.add_argument("--stop", action="store_true", help="stop the work of users who leave")
    arguments = parser.parse_args()
    plan = orders(arguments.seed, arguments.n, arguments.cells)
    if arguments.only is not None:
        plan = [order for order in plan if order.number in arguments.only]
    print(f"seed {arguments.seed}, {len(plan)} requests")
    with oracle(stops=arguments.stop) as running:
        findings = run(running, plan, say=lambda line: print(line, flush=True))
        if after := sorted(running.sent_for_nobody):
            median = after[len(after) // 2]
            print(
                f"{len(after)} streams were left; the provider sent {median} chunks after that "
                f"(median), {after[-1]} at most, of 80"
            )
    print(f"seed {arguments.seed}: {len(findings)} differences in {len(plan)} requests")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
