"""Names of metrics on the page, for every kind and unit: those of OpenTelemetry's exporter."""

from inspect import signature

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, Metric, Sum
from prometheus_client import REGISTRY, generate_latest

from otel_coach.sdk import page_names
from otel_coach.sdk.page_names import page_name_of

UNITS = ("", "1", "s", "ms", "By", "%", "{item}", "connections", "By/s", "KiBy/{thing}", "Cel")
NAMES = ("app.{}.sent", "app.{}_total", "app__{}", "app._{}", "App.{}.Sent", "app.{}.bytes")
METHODS = {"counter": "add", "up_down_counter": "add", "histogram": "record"}
OBSERVABLE = ("observable_counter", "observable_gauge")


@pytest.fixture
def stock():
    """A meter of the SDK with OpenTelemetry's reader alone."""
    before = {*REGISTRY._collector_to_names}
    options = {"scope_info_enabled": False}
    known = signature(PrometheusMetricReader).parameters
    reader = PrometheusMetricReader(**{key: options[key] for key in options.keys() & known.keys()})
    (made,) = {*REGISTRY._collector_to_names} - before
    provider = MeterProvider([reader], shutdown_on_exit=False)
    yield provider.get_meter("app"), lambda: generate_latest(_Only(made)).decode()
    provider.shutdown()


class _Only:
    """A registry with one collector."""

    def __init__(self, collector):
        self.collect = collector.collect


def made(meter, kind, name, unit):
    """Creates the instrument; returns a function that counts once under a status."""
    if kind in OBSERVABLE:
        seen = {}

        def callback(_options):
            return [Observation(count, {"status": one}) for one, count in seen.items()]

        getattr(meter, f"create_{kind}")(name, [callback], unit)
        return lambda status: seen.update({status: seen.get(status, 0) + 1})
    count = getattr(getattr(meter, f"create_{kind}")(name, unit), METHODS[kind])
    return lambda status: count(len(status), {"status": status})


def lines_of(text):
    return sorted(line for line in text.splitlines() if line.lower().startswith("app"))


@pytest.mark.parametrize("kind", [*METHODS, *OBSERVABLE])
@pytest.mark.parametrize("name", NAMES)
def test_every_scrape_has_the_series_that_the_stock_exporter_has(measured, stock, kind, name):
    meter, stock_page = stock
    ours = measured.installation.providers.meter_provider.get_meter("app")
    for number, unit in enumerate(UNITS):
        both = [made(one, kind, name.format(number), unit) for one in (ours, meter)]
        for status in ("ok", "error"):
            for count in both:
                count(status)
    lines = lines_of(stock_page())
    assert len(lines) >= 2 * len(UNITS)
    assert lines_of(measured.page().text) == lines
    for count in both:  # of the last unit only
        count("ok")
    for _ in range(2):
        assert lines_of(measured.page().text) == lines_of(stock_page())


def test_the_names_of_many_instruments_are_asked_for_once(monkeypatch):
    asked = []
    monkeypatch.setattr(
        page_names._Translator, "family_of", lambda _self, metric: asked.append(metric.name) or "x"
    )
    for _ in range(2):
        for number in range(600):
            page_name_of(
                Metric(
                    f"asked.once.{number}",
                    "",
                    "1",
                    Sum([], AggregationTemporality.CUMULATIVE, is_monotonic=True),
                )
            )
    assert len(asked) == 600


def test_instruments_of_one_name_and_two_units_are_not_added_up(measured):
    provider = measured.installation.providers.meter_provider
    provider.get_meter("one").create_counter("app.sent", "By").add(2)
    provider.get_meter("two").create_counter("app.sent", "{item}").add(100)
    page = measured.page()
    assert (page.sum("app_sent_bytes_total"), page.sum("app_sent_total")) == (2, 100)
