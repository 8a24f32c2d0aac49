"""A client of Prometheus' query API."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Mapping


class QueryError(RuntimeError):
    """Prometheus rejected a query; the message is Prometheus'."""


class Prometheus:
    """A running Prometheus."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=20)

    def query(self, expression: str) -> list[tuple[Mapping[str, str], float]]:
        """Returns the labels and the value of each series that `expression` finds now.

        Raises:
            QueryError: The expression is not valid.
        """
        found = self._get("query", query=expression)
        if found["resultType"] == "scalar":
            return [({}, float(found["result"][1]))]
        return [(series["metric"], float(series["value"][1])) for series in found["result"]]

    def range(
        self, expression: str, start: float, end: float, step: float
    ) -> list[tuple[Mapping[str, str], list[tuple[float, float]]]]:
        """Returns each series' labels and (time, value) pairs; times are in seconds."""
        found = self._get("query_range", query=expression, start=start, end=end, step=step)
        return [
            (series["metric"], [(at, float(value)) for at, value in series["values"]])
            for series in found["result"]
        ]

    def exemplars(self, expression: str) -> list[Mapping[str, Any]]:
        """Returns the exemplars of the last ten minutes, each with its labels, value and series."""
        now = time.time()
        found = self._get("query_exemplars", query=expression, start=now - 600, end=now)
        return [
            {**exemplar, "series": series["seriesLabels"]}
            for series in found
            for exemplar in series["exemplars"]
        ]

    def alerts(self) -> list[Mapping[str, Any]]:
        """Returns the alerts that are pending or firing."""
        return self._get("alerts")["alerts"]

    def is_firing(self, alert: str) -> bool:
        """Whether the alert is firing for any series."""
        return any(
            active["labels"]["alertname"] == alert and active["state"] == "firing"
            for active in self.alerts()
        )

    def rules(self) -> list[Mapping[str, Any]]:
        """Returns all rules, with their health and last error."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def unreachable(self) -> list[str]:
        """Returns one line for each target that cannot be scraped: which, where, and why."""
        return [
            f"{target['labels']['job']} at {target['scrapeUrl']} cannot be scraped: "
            f"{target['lastError']}; see deploy/prometheus/prometheus.yml and its targets"
            for target in self._get("targets")["activeTargets"]
            if target["health"] != "up"
        ]

    def _get(self, what: str, **parameters: Any) -> Any:
        answer = self._client.get(f"/api/v1/{what}", params=parameters).json()
        if answer["status"] != "success":
            raise QueryError(answer["error"])
        return answer["data"]


class Job:
    """The metrics of one job in Prometheus; `sum` is as in `otel_coach.testing.Page`."""

    def __init__(self, prometheus: Prometheus, name: str) -> None:
        self._prometheus = prometheus
        self._name = name

    def sum(self, name: str, **labels: str) -> float:
        """Returns the sum of the samples called `name` that have `labels`; 0 if there are none."""
        wanted = {"job": self._name, **labels}
        selector = ",".join(f'{key}="{value}"' for key, value in wanted.items())
        return sum(value for _, value in self._prometheus.query(f"sum({name}{{{selector}}})"))
