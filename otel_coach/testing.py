"""Helpers for tests of services that use otel-coach: measure this process and read the results.

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

from otel_coach.settings import Settings, effective
from otel_coach.setup.installation import INSTRUMENTORS, Installation

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan


class Page:
    """A metrics page in Prometheus' text format, read with its own parser."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.types: dict[str, str] = {}
        """The type of each family, by the family's name."""
        self._samples: dict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
        for family in text_string_to_metric_families(text):
            if family.name in self.types:
                message = f"the family {family.name} is on the page twice"
                raise ValueError(message)
            self.types[family.name] = family.type
            for sample in family.samples:
                self._samples[sample.name].append((sample.labels, sample.value))

    def samples(self, name: str, **labels: str) -> list[tuple[dict[str, str], float]]:
        """Returns the labels and value of each sample called `name` that has `labels`."""
        return [
            (found, value)
            for found, value in self._samples.get(name, ())
            if labels.items() <= found.items()
        ]

    def sum(self, name: str, **labels: str) -> float:
        """Returns the sum of the samples called `name` that have `labels`; 0 if there are none."""
        return sum(value for _, value in self.samples(name, **labels))

    @property
    def names(self) -> set[str]:
        """The names of all samples."""
        return set(self._samples)

    @property
    def labels(self) -> set[str]:
        """The label names of all samples."""
        rows = (labels for samples in self._samples.values() for labels, _ in samples)
        return {label for labels in rows for label in labels}


class Measured:
    """What has been measured so far."""

    def __init__(self, installation: Installation, exporter: InMemorySpanExporter) -> None:
        self.installation = installation
        self._exporter = exporter

    def page(self) -> Page:
        """Returns the metrics page as Prometheus would read it now."""
        return Page(self.installation.page.render("")[0].decode())

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """The spans that have ended, as an exporter receives them."""
        self.installation.providers.recorder.flush_all()
        return self._exporter.get_finished_spans()

    def forget_spans(self) -> None:
        """Clears `spans`."""
        self.installation.providers.recorder.flush_all()
        self._exporter.clear()


@contextmanager
def measuring(settings: Settings | None = None) -> Generator[Measured]:
    """Measures this process with all of otel-coach's instrumentors; undoes that on exit.

    The environment is not read; pass `Settings.from_env()` to measure with its settings.
    """
    exporter = InMemorySpanExporter()
    # Measure this test only, even if tests run in forked processes, which look like workers.
    alone = replace(effective(settings or Settings(), {}), shares_figures=False)
    installation = Installation(alone, span_processors=[SimpleSpanProcessor(exporter)])
    try:
        for name in INSTRUMENTORS:
            installation.instrument(name)
        installation.contrib.load_psycopg()
        yield Measured(installation, exporter)
    finally:
        installation.uninstrument()
