"""`otel-coach top`: how figures and tables are shown."""

import io
import math
import sys

import pytest
from rich.console import Console

from otel_coach.cli import main
from otel_coach.cli.top.tables import shown, tables
from otel_coach.metrics.catalogue import HTTP_REQUEST_DURATION, LLM_COST, LLM_REQUESTS
from otel_coach.prometheus.overview import Column, How, Reading

HTTP = "http_server_request_duration_seconds"
LONG = "/v1/a/route/with/a/very/long/template/that/no/terminal/can/show/in/one/line/{id}"


def page(routes):
    lines = [f"# TYPE {HTTP} histogram", "# TYPE otel_coach_errors counter"]
    for route, (count, status) in routes.items():
        labels = f'endpoint="{route}",method="GET",status="{status}"'
        lines += [
            f'{HTTP}_bucket{{{labels},le="0.1"}} {count}',
            f'{HTTP}_bucket{{{labels},le="+Inf"}} {count}',
            f"{HTTP}_count{{{labels}}} {count}",
            f"{HTTP}_sum{{{labels}}} {count * 0.05}",
        ]
    return "\n".join([*lines, ""])


ROUTES = {"/a": (3, 200), LONG: (20_000, 200), "/b": (7, 500)}


def printed(width, reading, before=None, **options):
    console = Console(file=io.StringIO(), width=width)
    for table in tables(reading, before, width, **options):
        console.print(table)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("how", "metric", "value", "text"),
    [
        (How.TOTAL, LLM_REQUESTS, 0, "0"),
        (How.TOTAL, LLM_REQUESTS, 9999, "9999"),
        (How.TOTAL, LLM_REQUESTS, 12_345, "12.3k"),
        (How.TOTAL, LLM_REQUESTS, 2_500_000, "2.5M"),
        (How.RATE, LLM_REQUESTS, 0.123, "0.12"),
        (How.RATE, LLM_REQUESTS, 12_345, "12.3k"),
        (How.MEDIAN, HTTP_REQUEST_DURATION, 0.0421, "42 ms"),
        (How.P95, HTTP_REQUEST_DURATION, 1.25, "1.2 s"),
        (How.P95, HTTP_REQUEST_DURATION, 3600, "3600 s"),
        (How.TOTAL, LLM_COST, 0, "0.00"),
        (How.TOTAL, LLM_COST, 0.000046, "0.000046"),
        (How.TOTAL, LLM_COST, 0.25, "0.2500"),
        (How.HOURLY, LLM_COST, 12.345, "12.35"),
        (How.TOTAL, LLM_COST, 54_321, "54.3k"),
        (How.MEDIAN, HTTP_REQUEST_DURATION, math.nan, "-"),
    ],
)
def test_a_figure_is_short_and_has_its_unit(how, metric, value, text):
    assert shown(Column("x", metric, how), value) == text
    assert len(text) <= 8


@pytest.mark.parametrize("width", [40, 60, 80, 132])
def test_no_line_is_wider_than_the_terminal_and_no_figure_is_cut(width):
    text = printed(width, Reading([page(ROUTES)], at=0))
    assert max(map(len, text.splitlines())) <= width
    row = next(line for line in text.splitlines() if line.lstrip().startswith("/v1/a/"))
    assert row.split()[0].endswith("…") or LONG in row
    assert row.split()[1] == "20.0k"
    assert "…" not in "".join(row.split()[1:])


def test_in_80_columns_a_short_route_has_all_figures():
    text = printed(80, Reading([page({"/a": (3, 404)})], at=0))
    assert "/a          3    3    0  50 ms  95 ms         0    0" in text


def test_rates_are_shown_once_there_are_two_readings():
    before, now = Reading([page({"/a": (3, 200)})], at=0), Reading([page({"/a": (8, 200)})], at=10)
    assert "/s" not in printed(132, now)
    assert "0.50" in printed(132, now, before)


def test_tables_are_sorted_by_the_column_that_is_asked_for():
    reading = Reading([page(ROUTES)], at=0)

    def order(sort):
        lines = [line.split() for line in printed(132, reading, sort=sort).splitlines()]
        return [line[0] for line in lines if line and line[0] in ROUTES]

    assert order(0) == [LONG, "/b", "/a"]
    assert order(3)[0] == "/b"  # 5xx


def test_of_many_rows_the_first_are_shown_and_how_many_there_are():
    routes = {f"/route{number}": (number, 200) for number in range(1, 31)}
    text = printed(100, Reading([page(routes)], at=0), limit=5)
    assert "endpoint (of 30)" in text
    assert "/route30 " in text
    assert "/route25 " not in text


def test_control_characters_of_a_label_reach_no_terminal():
    text = printed(100, Reading([page({"/a\x1b[2J": (1, 200)})], at=0))
    assert "\x1b[2J" not in text.replace("\x1b[0m", "")
    assert r"/a\x1b[2J" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["ftp://x/metrics"],
            "URL takes http://host:port/metrics or https://..., and nothing else",
        ),
        (["http://127.0.0.1:1/metrics"], "http://127.0.0.1:1/metrics"),
    ],
)
def test_a_page_that_cannot_be_read_is_one_line_with_its_cure(capsys, monkeypatch, arguments, said):
    monkeypatch.setattr(sys, "argv", ["otel-coach", "top", "--once", *arguments])
    assert main() == 1
    error = capsys.readouterr().err
    assert said in error
    assert "Cure: " in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "soon"])
def test_a_wrong_interval_is_said(capsys, monkeypatch, seconds):
    monkeypatch.setattr(sys, "argv", ["otel-coach", "top", f"--every={seconds}", "http://x/"])
    with pytest.raises(SystemExit):
        main()
    assert "at least 0.5 seconds" in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(capsys, monkeypatch):
    for module in ("textual.app", "otel_coach.cli.top.live"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delattr("otel_coach.cli.top.live", raising=False)
    monkeypatch.setattr(sys, "argv", ["otel-coach", "top", "http://127.0.0.1:1/metrics"])
    assert main() == 2
    assert "pip install 'otel-coach[cli]'" in capsys.readouterr().err
