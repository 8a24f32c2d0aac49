"""What Prometheus says: its query API, asked over HTTP."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Mapping


class QueryError(RuntimeError):
    """Prometheus refused a query; the message is its own."""


class Prometheus:
    """A running Prometheus."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=20)

    def query(self, expression: str) -> list[tuple[Mapping[str, str], float]]:
        """Labels and values of what `expression` finds now.

        Raises:
            QueryError: it is no expression.
        """
        found = self._get("query", query=expression)
        if found["resultType"] == "scalar":
            return [({}, float(found["result"][1]))]
        return [(one["metric"], float(one["value"][1])) for one in found["result"]]

    def range(
        self, expression: str, start: float, end: float, step: float
    ) -> list[tuple[Mapping[str, str], list[tuple[float, float]]]]:
        """Labels and (time, value) of each series from `start` to `end`, in seconds."""
        found = self._get("query_range", query=expression, start=start, end=end, step=step)
        return [
            (one["metric"], [(at, float(value)) for at, value in one["values"]])
            for one in found["result"]
        ]

    def exemplars(self, expression: str) -> list[Mapping[str, Any]]:
        """The exemplars of the last ten minutes, each with its labels, value and series."""
        now = time.time()
        found = self._get("query_exemplars", query=expression, start=now - 600, end=now)
        return [
            {**exemplar, "series": series["seriesLabels"]}
            for series in found
            for exemplar in series["exemplars"]
        ]

    def alerts(self) -> list[Mapping[str, Any]]:
        """The alerts that are pending or fire."""
        return self._get("alerts")["alerts"]

    def is_firing(self, alert: str) -> bool:
        """Whether it fires for any series."""
        return any(
            one["labels"]["alertname"] == alert and one["state"] == "firing"
            for one in self.alerts()
        )

    def rules(self) -> list[Mapping[str, Any]]:
        """All rules, with their health and last error."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def unreachable(self) -> list[str]:
        """A line for each target that cannot be scraped: which, where, and why."""
        return [
            f"{one['labels']['job']} at {one['scrapeUrl']} cannot be scraped: {one['lastError']}; "
            "see deploy/prometheus/prometheus.yml and its targets"
            for one in self._get("targets")["activeTargets"]
            if one["health"] != "up"
        ]

    def _get(self, what: str, **parameters: Any) -> Any:
        answer = self._client.get(f"/api/v1/{what}", params=parameters).json()
        if answer["status"] != "success":
            raise QueryError(answer["error"])
        return answer["data"]


class Job:
    """The figures of one job in Prometheus; `sum` is that of `otel_coach.testing.Page`."""

    def __init__(self, prometheus: Prometheus, name: str) -> None:
        self._prometheus = prometheus
        self._name = name

    def sum(self, name: str, **labels: str) -> float:
        """The sum of the samples called `name` that carry `labels`; 0 where there is none."""
        wanted = {"job": self._name, **labels}
        selector = ",".join(f'{key}="{value}"' for key, value in wanted.items())
        return sum(value for _, value in self._prometheus.query(f"sum({name}{{{selector}}})"))
