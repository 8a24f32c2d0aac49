"""Users that note what was answered, and a scraper that notes each counter that falls."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import httpx
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text

from tests.support.promtool import complaints

if TYPE_CHECKING:
    from collections.abc import Generator

_REQUESTS: Final = {
    "/ask/anna": ("/ask/{name}", 200),
    "/stream": ("/stream", 200),
    "/refuse": ("/refuse", 401),
    "/broken": ("/broken", 500),
    "/no/such/page": ("unmatched", 404),
}
LEFT: Final = "/tokens"
"""A stream that goes on for seconds."""
PROMTOOL: Final = shutil.which("promtool")
_TIMEOUT: Final = 5.0
_BETWEEN_SCRAPES: Final = 0.1
_MAX_SCRAPE: Final = 2.0
_OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0"
Series = tuple[str, tuple[tuple[str, str], ...]]


class Users:
    """Several users, each in a thread of its own, with a new connection for each request."""

    def __init__(self, url: str, count: int = 3, *, leave: bool = False) -> None:
        self._url = url
        self._count = count
        self._leave = leave
        """Whether they also ask for a stream, and leave it after its first part."""
        self.left = 0
        """The streams that they left."""
        self._noting = threading.Lock()
        self._leaving = threading.Event()
        self.answered: Counter[tuple[str, int]] = Counter()
        """Complete answers by endpoint and status."""
        self.broken: Counter[str] = Counter()
        """By endpoint, the requests without a complete answer; the server may have counted them."""
        self.by_worker: dict[int | None, list[float]] = defaultdict(list)
        """The times of each worker's answers, by pid; None for answers that name no worker."""

    @contextmanager
    def asking(self) -> Generator[None]:
        """Lets the users send requests all the time, until the block ends."""
        threads = [threading.Thread(target=self._ask) for _ in range(self._count)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._leaving.set()
            for thread in threads:
                thread.join()

    def answers(self) -> int:
        """Returns the number of complete answers."""
        with self._noting:
            return self.answered.total()

    def answered_by(self, worker: int, since: float) -> int:
        """Returns how many answers since then (time.monotonic) may have come from that worker."""
        with self._noting:
            return sum(at >= since for pid in (worker, None) for at in self.by_worker[pid])

    def _ask(self) -> None:
        while not self._leaving.is_set():
            for path, (endpoint, status) in _REQUESTS.items():
                try:
                    answer = httpx.get(self._url + path, timeout=_TIMEOUT)
                except httpx.HTTPError:
                    with self._noting:
                        self.broken[endpoint] += 1
                    continue
                with self._noting:
                    self.answered[endpoint, answer.status_code] += 1
                    if answer.status_code != status:
                        self.broken[endpoint] += 1
                    self._note_worker(answer)
            if self._leave:
                self._leave_a_stream()

    def _leave_a_stream(self) -> None:
        try:
            with httpx.stream("GET", self._url + LEFT, timeout=_TIMEOUT) as answer:
                is_begun = bool(next(answer.iter_raw(), b""))
        except httpx.HTTPError:
            is_begun = False
        with self._noting:
            self.left += is_begun
            self.broken[LEFT] += not is_begun
            if is_begun:
                self._note_worker(answer)

    def _note_worker(self, answer: httpx.Response) -> None:
        worker = answer.headers.get("x-worker")
        self.by_worker[int(worker) if worker else None].append(time.monotonic())


class Scraper:
    """Reads the page ten times a second, in either format, and compares it with the last one."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/metrics"
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._scrape)
        self.last: dict[Series, float] = {}
        self.fallen: list[str] = []
        """One line for each counter that fell."""
        self.scrapes = self.unanswered = 0

    @contextmanager
    def reading(self) -> Generator[None]:
        """Lets the scraper read all the time, until the block ends."""
        self._thread.start()
        try:
            yield
        finally:
            self._leaving.set()
            self._thread.join()

    def read(self) -> dict[Series, float]:
        """Scrapes once; returns the counters' values by sample name and labels.

        Compares them with the last scrape's values, and notes those that fell.

        Raises:
            httpx.HTTPError: There was no answer, or an error.
        """
        in_text = self.scrapes % 2 == 0
        headers = {} if in_text else {"accept": _OPENMETRICS}
        answer = httpx.get(self._url, headers=headers, timeout=_MAX_SCRAPE)
        answer.raise_for_status()
        self.scrapes += 1
        values: dict[Series, float] = {}
        for family in (text if in_text else openmetrics)(answer.text):
            if family.type in {"counter", "histogram"}:
                for sample in family.samples:
                    if not sample.name.endswith("_created"):
                        values[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
        for series, value in self.last.items():
            if values.get(series, -1.0) < value:
                self.fallen.append(f"{series}: {value!r} then {values.get(series)!r}")
        self.last = values
        return values

    def complaints(self) -> list[str]:
        """Returns what promtool says about the page; nothing if promtool is not installed."""
        if PROMTOOL is None:
            return []
        return complaints(PROMTOOL, httpx.get(self._url, timeout=_MAX_SCRAPE).text)

    def _scrape(self) -> None:
        while not self._leaving.wait(_BETWEEN_SCRAPES):
            try:
                self.read()
            except httpx.HTTPError:
                self.unanswered += 1  # the connection went to a worker that is stopped or ending
