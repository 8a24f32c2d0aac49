"""For tests of services that use otel-coach: measure in this process, and read what was measured.

with measuring() as measured:
    client.post("/v1/coaching/chat", json={"message": "hi"})
assert measured.page().sum("agent_llm_requests_total", status="ok") == 1
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from otel_coach.installation import INSTRUMENTORS, Installation
from otel_coach.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan


class Page:
    """A metrics page in Prometheus' text format, read with its own parser."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.types: dict[str, str] = {}
        """Of the families, by name."""
        self._samples: dict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
        for family in text_string_to_metric_families(text):
            if family.name in self.types:
                message = f"the family {family.name} is on the page twice"
                raise ValueError(message)
            self.types[family.name] = family.type
            for sample in family.samples:
                self._samples[sample.name].append((sample.labels, sample.value))

    def samples(self, name: str, **labels: str) -> list[tuple[dict[str, str], float]]:
        """Labels and values of the samples called `name` that carry `labels`."""
        return [
            (found, value)
            for found, value in self._samples.get(name, ())
            if labels.items() <= found.items()
        ]

    def sum(self, name: str, **labels: str) -> float:
        """Their sum; 0 where there is none."""
        return sum(value for _, value in self.samples(name, **labels))

    @property
    def names(self) -> set[str]:
        """Of all samples."""
        return set(self._samples)

    @property
    def labels(self) -> set[str]:
        """The label names of all samples."""
        rows = (labels for samples in self._samples.values() for labels, _ in samples)
        return {label for labels in rows for label in labels}


class Measured:
    """What was measured so far."""

    def __init__(self, installation: Installation, exporter: InMemorySpanExporter) -> None:
        self.installation = installation
        self._exporter = exporter

    def page(self) -> Page:
        """The metrics page as Prometheus would read it now."""
        return Page(self.installation.page.render("")[0].decode())

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """The spans that have ended, as an exporter gets them."""
        self.installation.providers.recorder.settle_all()
        return self._exporter.get_finished_spans()

    def forget_spans(self) -> None:
        """Begin anew with `spans`."""
        self.installation.providers.recorder.settle_all()
        self._exporter.clear()


@contextmanager
def measuring(settings: Settings | None = None) -> Generator[Measured]:
    """Measure this process with every instrumentor of ours, with `settings`; undo it after.

    The environment is not read, unless by the `settings` handed over.
    """
    exporter = InMemorySpanExporter()
    # A test's figures are its own, also where tests run in forked processes.
    alone = replace(settings or Settings(), shares_figures=False)
    installation = Installation(alone, span_processors=[SimpleSpanProcessor(exporter)])
    try:
        for name in INSTRUMENTORS:
            installation.instrument(name)
        installation.instrument_psycopg()
        yield Measured(installation, exporter)
    finally:
        installation.uninstrument()
