"""Applications of many routes, and callers of them."""

from otel_coach.metrics.catalogue import (
    CATALOGUE,
)
from otel_coach.metrics.series_bound import max_lines
from otel_coach.settings import Settings

COUNT = "http_server_request_duration_seconds_count"
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH"]


def settings(**environ):
    return Settings.from_env({f"OTEL_COACH_{name}": value for name, value in environ.items()})


def assert_within_the_worst_case(page, found):
    for metric in CATALOGUE:
        rows = [name for name in page.names if name.startswith(metric.prometheus_name)]
        lines = sum(len(page.samples(name)) for name in rows)
        assert lines <= max_lines(metric, found.budgets), metric.prometheus_name
