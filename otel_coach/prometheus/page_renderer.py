"""The page: the families of all workers, or those of this process if it serves alone."""

from __future__ import annotations

import logging
import os
import threading
from bisect import bisect_right
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final

from prometheus_client.exposition import choose_encoder

from otel_coach.core.forks import in_each_child
from otel_coach.core.guard import belongs_to_host
from otel_coach.core.page_comments import ALONE, BUDGETS, HIDDEN, STALE
from otel_coach.metrics.catalogue import CATALOGUE
from otel_coach.prometheus.all_workers import AllWorkers
from otel_coach.prometheus.encoding import EOF, Encoded
from otel_coach.prometheus.negotiation import format_of
from otel_coach.workers.log_once import LogOnce

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from otel_coach.prometheus.all_workers import ReadMetrics
    from otel_coach.prometheus.application_page import ApplicationPage
    from otel_coach.prometheus.local_metrics import LocalMetrics
    from otel_coach.prometheus.table import Table

_logger = logging.getLogger("otel_coach")

_IDLE: Final = 120.0
"""Seconds without a scrape after which a worker frees what it keeps for the next one."""

_ABOUT_ITSELF: Final = "otel_coach_"
_OTHERS: Final = len(CATALOGUE)
"""The position of all families that the catalogue does not have."""
_POSITIONS: Final = {
    name: position + (_OTHERS + 1) * name.startswith(_ABOUT_ITSELF)
    for position, name in enumerate(
        metric.prometheus_name.removesuffix("_total") for metric in CATALOGUE
    )
}
"""Where each of otel-coach's families is: in the catalogue's order, those about itself last."""


def _position(table: Table) -> int:
    return _POSITIONS.get(table.metadata.name, _OTHERS)


class PageRenderer:
    """The page that Prometheus scrapes.

    Args:
        local: the metrics of this process.
        budgets: those that differ from their defaults.
    """

    def __init__(self, local: LocalMetrics, budgets: Mapping[str, int] | None = None) -> None:
        self._local = local
        self._bad = set[str]()
        """Names of families that cannot be written; each is logged once."""
        self._budgets = " ".join(f"{name}={size}" for name, size in (budgets or {}).items())
        self._families = local.families
        self._all_workers: AllWorkers | None = None
        self._rendering = threading.Lock()
        self._encoded: dict[str, Encoded] = {}
        """The encoded families by content type."""
        self._rendered_at = 0.0
        self._is_one_of_many = False
        self.cannot_read = LogOnce()
        """Decides when to log that there is no page because metrics cannot be read."""
        in_each_child(self._forked)

    def _forked(self) -> None:
        # A thread that only the parent has may have held the lock, with its work half done.
        self._rendering = threading.Lock()
        self._forget()

    def show_all(self, read_metrics: ReadMetrics) -> None:
        """Makes the page show the metrics of all workers from now on."""
        self._all_workers = AllWorkers(read_metrics)
        self._local.keep_increments()

    def show_one_of_many(self) -> None:
        """Makes the page say that it shows one worker only (not in OpenMetrics, see `render`)."""
        self._is_one_of_many = True

    def render(self, accept: str, own: ApplicationPage | None = None) -> tuple[bytes, str]:
        """Returns the page in the format that `accept` asks for, and its content type.

        Families that only the application's `own` page has are added at the end, verbatim. If there
        are any, the page has the format of the application's page.

        Raises:
            OSError: the metrics of a worker cannot be read; without them, counters would drop.
        """
        with self._rendering:
            self._rendered_at = monotonic()
            tables, stale = self._tables()
            merged = [table.metadata for table in tables]
            others = [*self._families.completing(merged)]
            rest = b"" if own is None else self._families.beside(own, [*merged, *others])
            encode, content_type = choose_encoder(
                format_of(own.content_type if own is not None and rest else accept)
            )
            encoded = self._encoded.setdefault(content_type, Encoded(encode))
            tables = sorted(tables, key=_position)
            after = bisect_right(tables, _OTHERS, key=_position)
            counted = [(table.metadata.name, partial(encoded.table, table)) for table in tables]
            completed = [(family.name, partial(encoded.family, family)) for family in others]
            parts = [*self._written((*counted[:after], *completed, *counted[after:]))]
        parts.append(rest)
        if "openmetrics" in content_type:
            parts.append(EOF)  # OpenMetrics has no free comments
        else:
            comments = [STALE % worker.partition("-")[0] for worker in stale]
            comments.extend(HIDDEN % name for name in sorted(self._families.hidden))
            if self._budgets:
                comments.append(BUDGETS % self._budgets)
            if self._is_one_of_many:
                comments.append(ALONE % os.getpid())
            parts.append("".join(comments).encode())
        return b"".join(parts), content_type

    def _written(self, families: Iterable[tuple[str, Callable[[], bytes]]]) -> Iterator[bytes]:
        """Yields the lines of each family, given by its name and what encodes it.

        A bad one of the application's does not cost the page: a label may have a text without an
        encoding, such as half of a surrogate pair.
        """
        for name, encode in families:
            try:
                yield encode()
            except Exception as error:
                if belongs_to_host(error):
                    raise
                if name not in self._bad:
                    self._bad.add(name)
                    _logger.warning(
                        "otel-coach: the family %s has a sample that cannot be written (%s); it is "
                        "not on the page",
                        name,
                        type(error).__name__,
                    )

    def forget_if_idle(self) -> None:
        """Frees what is kept for the next scrape, if there has been none for a while."""
        is_idle = self._rendered_at and monotonic() - self._rendered_at > _IDLE
        if is_idle and self._rendering.acquire(blocking=False):
            try:
                self._rendered_at = 0.0
                self._forget()
            finally:
                self._rendering.release()

    def _forget(self) -> None:
        self._encoded.clear()
        if self._all_workers is not None:
            self._all_workers.forget()

    def _tables(self) -> tuple[Sequence[Table], Iterable[str]]:
        if self._all_workers is None:
            return self._local.tables(), ()
        tables, stale = self._all_workers.tables()
        return [*tables], stale
