"""The page's families: ours, the application's, and no label but the allowed ones."""

from dataclasses import replace

import pytest
from prometheus_client import REGISTRY, Counter, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from otel_coach.metrics.labels import ALLOWED_LABELS
from otel_coach.settings import Settings, effective
from otel_coach.testing import Page, measuring


def test_a_family_of_our_name_is_shown_once_and_named_once(measured, default_registry, caplog):
    theirs = default_registry(Counter, "auth_failures", "Theirs", ["reason"])
    theirs.labels("x").inc()
    from otel_coach.metrics.catalogue import AUTH_FAILURES

    # Also before ours has a series: a family that changes hands looks as if it fell.
    assert measured.page().samples("auth_failures_total") == []
    measured.installation.providers.recorder.record(
        AUTH_FAILURES, 1, ("/a", "GET", "401", "rejected")
    )
    page = measured.page()  # Page refuses a family that is there twice
    assert "# otel-coach: another family that uses the name auth_failures is not shown" in page.text
    assert [set(labels) for labels, _ in page.samples("auth_failures_total")] == [
        {"endpoint", "method", "status", "error_type"}
    ]
    assert caplog.text.count("the application's family auth_failures is not on the page") == 1


def test_no_label_but_the_allowed_ones_no_scope_and_no_target_info(measured):
    meter = measured.installation.providers.meter_provider.get_meter("shop", "1.0")
    meter.create_counter("shop.visits").add(1, {"user_id": "u", "endpoint": "/x"})
    page = measured.page()
    assert page.samples("shop_visits_total") == [({"endpoint": "/x"}, 1)]
    ours = Page(generate_latest(measured.installation.providers.registry).decode())
    assert ours.labels <= ALLOWED_LABELS | {"le"}
    assert "target_info" not in page.names


def test_target_info_if_asked_for():
    with measuring(Settings(target_info=True)) as measured:
        assert "target_info" in measured.page().names


TOKEN = "a-token-of-the-operators"


def test_the_token_is_in_no_settings_that_are_printed():
    assert TOKEN not in repr(Settings.from_env({"OTEL_COACH_METRICS_TOKEN": TOKEN}))


def test_a_collector_that_raises_takes_no_page_away(measured, default_registry, caplog):

    class Broken(Collector):
        def __init__(self):
            REGISTRY.register(self)

        def collect(self):
            yield GaugeMetricFamily("redis_queue", "Jobs", 3)
            raise RuntimeError("postgres://u:hunter2@h")

        def describe(self):
            return []

    default_registry(Broken)
    page = measured.page()
    assert page.samples("otel_coach_errors_total")
    assert page.samples("redis_queue") == [({}, 3)]
    assert "raised RuntimeError in" in caplog.text
    assert "the families that it had not returned by then are not on the page" in caplog.text
    assert "hunter2" not in caplog.text


def test_shared_files_that_cannot_be_read_are_no_page_instead_of_counters_that_fell(monkeypatch):
    from prometheus_client.multiprocess import MultiProcessCollector

    from otel_coach.prometheus.http.http_response import answer

    def too_many_open_files(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(
        MultiProcessCollector, "__init__", lambda self, registry, _: registry.register(self)
    )
    monkeypatch.setattr(MultiProcessCollector, "collect", too_many_open_files)
    shared = replace(effective(Settings(), {}), prometheus_multiprocess="/a/folder")
    with measuring(shared) as measured:
        found = answer(measured.installation.page, "")
    assert found.status == 503
    assert b"Too many open files" in found.body


@pytest.mark.parametrize("bad", [{"value": None}, {"label": 7}], ids=str)
def test_a_collector_with_a_bad_sample_takes_no_page_away(measured, default_registry, caplog, bad):
    class Sql(Collector):
        def collect(self):
            for name in ("bad_rows", "good_rows"):
                is_bad = name == "bad_rows"
                family = GaugeMetricFamily(name, "help")
                value = bad.get("value", 1.0) if is_bad else 1.0
                label = bad.get("label", "t") if is_bad else "t"
                family.samples = [Sample(name, {"table": label}, value)]
                yield family

    collector = Sql()
    REGISTRY.register(collector)
    try:
        for _ in range(2):
            page = measured.page()
            assert page.sum("good_rows") == 1
            assert "bad_rows" not in page.names
            assert page.sum("otel_coach_errors_total") == 0
    finally:
        REGISTRY.unregister(collector)
    assert caplog.text.count("the family bad_rows") == 1


def test_a_gauge_that_takes_too_long_is_said_and_is_no_shut_down(measured, monkeypatch):
    class MetricsTimeoutError(Exception):
        """As the SDK's, whose limit is 10 s."""

    def collect():
        raise MetricsTimeoutError

    with monkeypatch.context() as patch:
        patch.setattr(measured.installation.providers.registry, "collect", collect)
        with pytest.raises(OSError, match=r"MetricsTimeoutError in .*takes too long"):
            measured.installation.page.render("")


def test_a_label_that_cannot_be_encoded_costs_its_family_only(measured, default_registry, caplog):
    theirs = default_registry(Counter, "mine", "Theirs", ["q"])
    theirs.labels("\ud800").inc()
    for _ in range(2):
        page = measured.page()
        assert "otel_coach_errors_total" in page.names
        assert "mine_total" not in page.names
    assert caplog.text.count("the family mine has a sample that cannot be written") == 1
