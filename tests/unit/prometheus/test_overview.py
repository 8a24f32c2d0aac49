"""The overview's figures, against figures worked out by hand."""

import math

import pytest

from otel_coach.prometheus.overview import SECTIONS, How, definitions
from otel_coach.prometheus.readings import Interval, Reading, rows

SECTION = {section.title: section for section in SECTIONS}
HTTP = "http_server_request_duration_seconds"


def bucket(endpoint, status, counts):
    labels = f'endpoint="{endpoint}",method="GET",status="{status}"'
    lines = [
        f'{HTTP}_bucket{{{labels},le="{bound}"}} {count}'
        for bound, count in zip(("0.1", "0.2", "0.4", "+Inf"), counts, strict=True)
    ]
    return [*lines, f"{HTTP}_count{{{labels}}} {counts[-1]}", f"{HTTP}_sum{{{labels}}} 1"]


def page(*samples):
    kinds = {
        HTTP: "histogram",
        "agent_llm_requests_total": "counter",
        "agent_llm_cost_usd_total": "counter",
        "app_ai_streams_active": "gauge",
    }
    return "\n".join([*(f"# TYPE {name} {kind}" for name, kind in kinds.items()), *samples, ""])


def figures(section, now, before=None):
    return figures_of(section, Interval(now, before))


def figures_of(section, *services):
    titles = [column.title for column in SECTION[section].columns]
    return {
        key: dict(zip(titles, values, strict=True))
        for key, values in rows(SECTION[section], services)
    }


def test_totals_rates_and_statuses_by_endpoint():
    before = Reading(page(*bucket("/a", 200, (1, 2, 2, 2))), at=100)
    now = Reading(
        page(*bucket("/a", 200, (1, 2, 22, 22)), *bucket("/a", 404, (0, 0, 0, 5))), at=110
    )
    found = figures("HTTP requests", now, before)
    assert found[("/a",)] | {"p50": 0, "p95": 0} == {
        "all": 27,
        "/s": 2.5,
        "4xx": 5,
        "5xx": 0,
        "401, 403": 0,
        "429": 0,
        "p50": 0,
        "p95": 0,
    }


def test_quantiles_are_those_of_the_time_that_is_looked_at():
    before = Reading(page(*bucket("/a", 200, (50, 50, 50, 50))), at=0)
    now = Reading(page(*bucket("/a", 200, (50, 60, 70, 70))), at=10)
    since_start = figures("HTTP requests", now)[("/a",)]
    assert since_start["p50"] == pytest.approx(0.1 * 35 / 50)
    assert since_start["p95"] == pytest.approx(0.2 + 0.2 * (66.5 - 60) / 10)
    lately = figures("HTTP requests", now, before)[("/a",)]
    assert lately["p50"] == pytest.approx(0.2)  # 10 of 20 took between 0.1 and 0.2 s
    assert lately["p95"] == pytest.approx(0.2 + 0.2 * 9 / 10)


def test_beyond_the_last_bound_a_quantile_is_that_bound():
    now = Reading(page(*bucket("/a", 200, (0, 0, 0, 9))), at=0)
    assert figures("HTTP requests", now)[("/a",)]["p50"] == 0.4


def test_without_observations_lately_a_quantile_is_that_since_the_start_and_without_any_none():
    now = Reading(page(*bucket("/a", 200, (0, 4, 4, 4)), *bucket("/b", 200, (0, 0, 0, 0))), at=0)
    later = Reading(now.text, at=1)
    found = figures("HTTP requests", later, now)
    assert found[("/a",)]["p50"] == pytest.approx(0.15)
    assert ("/b",) not in found  # nothing but zeros


def test_after_a_restart_a_counter_began_at_zero():
    before = Reading(page(*bucket("/a", 200, (9, 9, 9, 9))), at=0)
    now = Reading(page(*bucket("/a", 200, (3, 3, 3, 3))), at=1)
    assert figures("HTTP requests", now, before)[("/a",)]["/s"] == 3


def test_costs_are_per_hour_and_per_call_and_unknown_ones_are_no_zero():
    def models(calls, cost):
        labels = 'model="m",mode="invoke",status="ok",error_type=""'
        other = labels.replace('"m"', '"free"')
        return page(
            f"agent_llm_requests_total{{{labels}}} {calls}",
            f"agent_llm_requests_total{{{other}}} 1",
            f'agent_llm_cost_usd_total{{model="m"}} {cost}',
        )

    now = Reading(models(8, 0.4), at=30)
    found = figures("Models", now, Reading(models(4, 0.1), at=0))
    assert found[("m",)]["USD/h"] == pytest.approx(36)
    assert found[("m",)]["USD/call"] == pytest.approx(0.05)
    assert math.isnan(found[("free",)]["USD"])
    assert math.isnan(found[("free",)]["USD/call"])
    assert found[("free",)]["error"] == 0
    assert [*found] == [("m",), ("free",)]  # the one with more calls first


def test_calls_of_embedding_models_are_shown():
    text = page(
        'agent_embedding_requests_total{model="e",status="ok",error_type=""} 4',
        'agent_embedding_requests_total{model="e",status="error",error_type="x"} 1',
        'agent_llm_tokens_total{model="e",mode="embedding"} 900',
        'agent_llm_cost_usd_total{model="e"} 0.5',
    )
    row = figures("Models", Reading(text, at=0))[("e",)]
    assert (row["calls"], row["embeddings"], row["USD"]) == (0, 5, 0.5)
    row = figures("Embeddings", Reading(text, at=0))[("e",)]
    assert (row["calls"], row["error"]) == (5, 1)


def test_the_cost_of_an_ai_request_is_that_of_all_calls_by_all_ai_requests():
    text = page(
        'app_ai_request_duration_seconds_count{endpoint="/a",status="ok"} 3',
        'app_ai_request_duration_seconds_count{endpoint="/b",status="error"} 1',
        'agent_llm_cost_usd_total{model="m"} 0.5',
        'agent_llm_cost_usd_total{model="n"} 0.1',
    )
    found = figures("Service", Reading(text, at=0))[()]
    assert found["USD/AI request"] == pytest.approx(0.15)
    assert math.isnan(figures("Service", Reading("", at=0))[()]["USD/AI request"])


def test_several_services_are_added_up():
    one = Interval(Reading(page('app_ai_streams_active{endpoint="/a"} 2'), at=0))
    assert figures_of("Service", one, one)[()]["streams open"] == 4


def up(value):
    return Interval(Reading(page(f'dependency_up{{dependency_name="db"}} {value}'), at=0))


def test_a_dependency_of_several_services_is_up_where_all_of_them_say_so():
    assert figures_of("Dependencies", up(1), up(1))[("db",)]["up"] == 1
    assert figures_of("Dependencies", up(1), up(0))[("db",)]["up"] == 0
    assert figures_of("Dependencies", up(0))[("db",)]["up"] == 0


def test_each_service_is_compared_with_its_own_page_over_its_own_time():
    steady = Interval(
        Reading(page(*bucket("/a", 200, (0, 0, 120, 120))), at=10),
        Reading(page(*bucket("/a", 200, (0, 0, 100, 100))), at=0),
    )
    restarted = Interval(
        Reading(page(*bucket("/a", 200, (4, 4, 4, 4))), at=10),
        Reading(page(*bucket("/a", 200, (500, 500, 500, 500))), at=8),
    )
    new = Interval(Reading(page(*bucket("/a", 200, (900, 900, 900, 900))), at=10))
    found = figures_of("HTTP requests", steady, restarted, new)[("/a",)]
    assert found["all"] == 120 + 4 + 900
    assert found["/s"] == pytest.approx(20 / 10 + 4 / 2)  # of the new one no rate is known
    # Of the 24 requests that are new, 4 took up to 0.1 s and 20 between 0.2 and 0.4 s.
    assert found["p50"] == pytest.approx(0.2 + 0.2 * (12 - 4) / 20)


def test_a_service_that_has_measured_nothing_has_one_row_and_no_tables():
    now = Reading("", at=0)
    assert [section.title for section in SECTIONS if rows(section, [Interval(now)])] == ["Service"]


def test_what_is_no_page_is_an_error():
    with pytest.raises(ValueError):  # noqa: PT011 - of the parser
        Reading('# TYPE a counter\na{b="c" 1', at=0)


def test_each_column_is_of_a_family_with_the_labels_that_it_needs():
    for section in SECTIONS:
        for column in section.columns:
            assert {*column.where} <= {*column.metric.labels}
        assert any({*section.by} <= {*column.metric.labels} for column in section.columns)


def test_the_definitions_for_the_browser_are_those_of_the_sections():
    assert [one["title"] for one in definitions()] == [*SECTION]
    http = next(one for one in definitions() if one["title"] == "HTTP requests")
    assert http["by"] == ("endpoint",)
    assert http["columns"][2] == {
        "title": "4xx",
        "name": HTTP,
        "counted": f"{HTTP}_count",
        "how": "total",
        "where": {"status": ("4*",)},
        "per": None,
        "usd": False,
        "bad": "",
    }
    assert {how.value for how in How} == {
        column["how"] for one in definitions() for column in one["columns"]
    }
