"""Measures this process for one test, and reads the results."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_coach.settings import Settings, effective
from otel_coach.setup.installation import INSTRUMENTORS, Installation, installed
from otel_coach.testing.metrics_page import Page
from otel_coach.testing.span_trees import tree

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan


class _LastPage:
    """The page at the end of the measurement; empty before it."""

    text = ""

    def keep(self, installation: Installation) -> None:
        with suppress(OSError):  # the application has shut the providers down
            self.text = _page_of(installation)


def _page_of(installation: Installation) -> str:
    return installation.page.render("")[0].decode()


class Measured:
    """What has been measured so far."""

    def __init__(
        self, installation: Installation, exporter: InMemorySpanExporter, last: _LastPage
    ) -> None:
        self.installation = installation
        self._exporter = exporter
        self._last = last

    def page(self) -> Page:
        """Returns the metrics page as Prometheus reads it; after the measurement, the last one."""
        return Page(self._last.text or _page_of(self.installation))

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """The spans that have ended, as an exporter receives them."""
        self.installation.providers.recorder.flush_all()
        return self._exporter.get_finished_spans()

    def span_tree(self, *attributes: str) -> str:
        """Returns the spans that have ended as a tree, one line for each, in order of their start.

        A line has the span's name, its kind unless that is internal, its status unless that is
        unset, and those of the `attributes` that it has.
        """
        return tree(self.spans, attributes)

    def __repr__(self) -> str:
        count = len(self.spans)
        return f"<Measured: {count} spans, {self.page()!r}>"

    def forget_spans(self) -> None:
        """Clears `spans`."""
        self.installation.providers.recorder.flush_all()
        self._exporter.clear()


_measuring: list[Measured] = []
"""The measurement that is active: at most one."""


def _start_postponed() -> None:
    """Starts what `otel_coach.instrument` was called for within the measurement."""
    if (installation := installed()) is not None:
        installation.start_postponed()


@contextmanager
def measuring(settings: Settings | None = None) -> Generator[Measured]:
    """Measures this process with all of otel-coach's instrumentors; undoes that on exit.

    Settings are not taken from the environment; pass `Settings.from_env()` to measure with those
    there. The SDK reads its own variables (limits of spans, resource). If `otel_coach.instrument`
    was called before, its instrumentors are suspended meanwhile.

    Raises:
        RuntimeError: `measuring` is active in this process already.
    """
    if _measuring:
        message = (
            "measuring() is active in this process already (the fixture `measured` is one, too): "
            "use that one, or leave it first"
        )
        raise RuntimeError(message)
    exporter = InMemorySpanExporter()
    # Measure this test only, even if tests run in forked processes, which look like workers.
    alone = replace(effective(settings or Settings(), {}), shares_figures=False, quiet=True)
    with ExitStack() as undo:
        undo.callback(_start_postponed)
        if (other := installed()) is not None:
            undo.enter_context(other.suspended())
        installation = Installation(alone, span_processors=[SimpleSpanProcessor(exporter)])
        undo.callback(installation.uninstrument)
        for name in INSTRUMENTORS:
            installation.instrument(name)
        installation.contrib.load_psycopg()
        installation.contrib.load_fastapi(None)
        last = _LastPage()
        measured = Measured(installation, exporter, last)
        _measuring.append(measured)
        undo.callback(_measuring.clear)
        undo.callback(last.keep, installation)
        yield measured
