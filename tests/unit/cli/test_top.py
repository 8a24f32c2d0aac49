"""`otel-coach top`: how figures and tables are shown."""

import asyncio
import io
import itertools
import math
import re
import sys
import threading
from dataclasses import replace

import pytest
from rich.console import Console

from examples.coaching.demo.report import figures_tables
from otel_coach.cli import main, top
from otel_coach.cli.top.live import Live
from otel_coach.cli.top.tables import figure_text, tables
from otel_coach.metrics.catalogue import HTTP_REQUEST_DURATION, LLM_COST, LLM_REQUESTS
from otel_coach.prometheus.overview import Column, How
from otel_coach.prometheus.readings import Interval, Reading
from tests.support.doctor import OK, hostile
from tests.support.whole_pages import Drawn

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
    return printed_of([Interval(reading, before)], width, **options)


def printed_of(services, width, **options):
    console = Console(file=io.StringIO(), width=width)
    for table in tables(services, width, **options):
        console.print(table)
    return console.file.getvalue()


def titles(text):
    """The titles of all columns, without the mark of the sorted one."""
    lines = text.splitlines()
    heads = [before for before, line in itertools.pairwise(lines) if "──" in line]
    found = [title for head in heads for title in re.split(r"\s{2,}", head.strip())]
    return [title.rstrip("▼▲") for title in found]


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
    assert figure_text(Column("x", metric, how), value) == text
    assert len(text) <= 8


@pytest.mark.parametrize("width", [40, 60, 80, 132])
def test_no_line_is_wider_than_the_terminal_and_no_figure_or_name_is_cut(width):
    text = printed(width, Reading(page(ROUTES), at=0))
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    row = next(line for line in text.splitlines() if line.lstrip().startswith("/v1/a/"))
    assert row.split()[1] == "20.0k"
    names = "".join(re.findall(r"^ (\S+)", text, re.MULTILINE))
    assert LONG in names


@pytest.mark.parametrize("width", [30, 40, 60, 80])
def test_a_narrow_terminal_has_every_column_that_a_wide_one_has(width):
    now, before = Reading(page(ROUTES), at=10), Reading(page({"/a": (1, 200)}), at=0)
    wide, narrow = printed(400, now, before), printed(width, now, before)
    assert "continued" not in wide
    assert [one for one in titles(narrow) if one != "endpoint"] == [
        one for one in titles(wide) if one != "endpoint"
    ]
    assert max(map(len, narrow.splitlines())) <= width


def test_in_80_columns_a_short_route_has_all_figures():
    text = printed(80, Reading(page({"/a": (3, 404)}), at=0))
    assert "/a           3    3    0  50 ms  95 ms         0    0" in text


def test_rates_are_shown_once_there_are_two_readings():
    before, now = Reading(page({"/a": (3, 200)}), at=0), Reading(page({"/a": (8, 200)}), at=10)
    assert "/s" not in printed(132, now)
    assert "0.50" in printed(132, now, before)


def test_tables_are_sorted_by_the_column_that_is_asked_for():
    reading = Reading(page(ROUTES), at=0)

    def order(sort):
        lines = [line.split() for line in printed(132, reading, sort=sort).splitlines()]
        return [line[0] for line in lines if line and line[0] in ROUTES]

    assert order(0) == order(7) == [LONG, "/b", "/a"]
    assert order(2)[0] == "/b"  # 5xx


@pytest.mark.parametrize(("sort", "title"), [(0, "all"), (1, "4xx"), (4, "p95"), (6, "429")])
def test_the_column_by_which_a_table_is_sorted_is_marked(sort, title):
    text = printed(132, Reading(page(ROUTES), at=0), sort=sort)
    assert re.findall(r"(\S+)▼", text) == [title]


def test_dependencies_that_are_down_come_first():
    values = {"a": 1, "b": 0, "c": 1}
    text = "\n".join(
        ["# TYPE dependency_up gauge"]
        + [f'dependency_up{{dependency_name="{name}"}} {value}' for name, value in values.items()]
    )
    lines = printed(80, Reading(f"{text}\n", at=0)).splitlines()
    assert [
        line.split()[:2] for line in lines if line.split()[:1] and line.split()[0] in values
    ] == [
        ["b", "0"],
        ["a", "1"],
        ["c", "1"],
    ]
    assert "up▲" in "".join(lines)


def test_of_many_rows_the_first_are_shown_and_how_many_there_are():
    routes = {f"/route{number}": (number, 200) for number in range(1, 31)}
    text = printed(100, Reading(page(routes), at=0), limit=5)
    assert "HTTP requests (5 of 30 rows)" in text
    assert "/route30 " in text
    assert "/route25 " not in text


def test_control_characters_of_a_label_reach_no_terminal():
    text = printed(100, Reading(page({"/a\x1b[2J": (1, 200)}), at=0))
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


def pages_of(monkeypatch, **by_host):
    """`top` gets these pages instead of asking for them; what is a string is a problem."""
    monkeypatch.setattr(top, "read_one", lambda url: by_host[url.split("/")[2]])


def of_host(page_text):
    return Reading(page_text, at=0)


def test_of_several_services_one_that_cannot_be_read_is_named_and_the_others_are_shown(
    capsys, monkeypatch
):
    pages_of(monkeypatch, a=of_host(page({"/a": (3, 200)})), b="http://b/ is gone. Cure: start it")
    monkeypatch.setattr(sys, "argv", ["otel-coach", "top", "http://a/", "http://b/", "http://a/"])
    assert main() == 1
    out, error = capsys.readouterr()
    assert next(line.split()[1] for line in out.splitlines() if line.startswith(" /a ")) == "3"
    assert error == "http://b/ is gone. Cure: start it (its figures are left out)\n"


def test_the_pages_are_printed_in_an_encoding_without_lines_and_arrows(monkeypatch):
    written = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    pages_of(monkeypatch, a=of_host(page({"/ä": (3, 200)})))
    monkeypatch.setattr(sys, "argv", ["otel-coach", "top", "--once", "http://a/"])
    monkeypatch.setattr(sys, "stdout", written)
    assert main() == 0
    written.flush()
    text = written.buffer.getvalue().decode("ascii")
    assert "allv" in text
    assert r"/\xe4" in text


class Screen:
    """`otel-coach top` without a terminal: what it shows, line by line."""

    def __init__(self, live, pilot):
        self.live, self.pilot = live, pilot

    def lines(self):
        console = Console(file=io.StringIO(), width=200, color_system=None)
        figures = self.live.query_one("VerticalScroll > Static")
        console.print(figures.content if hasattr(figures, "content") else figures.renderable)
        return console.file.getvalue()


def shown_live(first, then):
    async def run():
        live = Live(first, math.inf)
        async with live.run_test(headless=True, size=(200, 60)) as pilot:
            return await then(Screen(live, pilot))

    return asyncio.run(run())


def test_live_a_service_that_hangs_delays_no_other(monkeypatch):
    one, let, asked = of_host(page({"/a": (3, 200)})), threading.Event(), []

    def read(url):
        asked.append(url)
        if url == "http://b/":
            let.wait(60)
        return one

    async def then(screen):
        for _ in range(3):
            before = len(asked)
            screen.live._begin()
            while len(asked) == before or "http://a/" in screen.live._being_read:
                await screen.pilot.pause(0.01)
        let.set()

    monkeypatch.setattr(top, "read_one", read)
    shown_live({"http://a/": one, "http://b/": one}, then)
    assert asked.count("http://a/") == 3
    assert asked.count("http://b/") == 1


def test_live_a_service_that_stops_is_named_left_out_and_taken_back():
    one, two = of_host(page({"/a": (3, 200)})), of_host(page({"/b": (4, 200)}))

    async def then(screen):
        both = screen.lines()
        screen.live._take({"http://a/": one, "http://b/": "http://b/ is gone. Cure: start it"})
        without = screen.lines()
        screen.live._take({"http://a/": "a is gone. Cure: x", "http://b/": "b is gone. Cure: y"})
        neither = screen.lines()
        screen.live._take({"http://a/": one, "http://b/": two})
        return both, without, neither, screen.lines()

    both, without, neither, again = shown_live({"http://a/": one, "http://b/": two}, then)
    assert (" /a " in both, " /b " in both, "Cure" in both) == (True, True, False)
    assert (" /a " in without, " /b " in without) == (True, False)
    assert "Its figures are left out: http://b/ is gone. Cure: start it" in without
    assert (" /a " in neither, " /b " in neither) == (True, True)
    assert neither.count("The figures are those that were read last: ") == 2
    assert (" /a " in again, " /b " in again, "Cure" in again) == (True, True, False)


def test_live_keys_sort_show_all_rows_and_pause():
    routes = {f"/route{number}": (number, 500 if number == 7 else 200) for number in range(1, 31)}

    async def then(screen):
        seen = [screen.lines()]
        for keys in ("s", "s", "a", "a", "p", "p"):
            await screen.pilot.press(keys)
            seen.append(screen.lines())
        return seen

    first, by_4xx, by_5xx, whole, part, paused, goes_on = shown_live(
        {"http://a/": of_host(page(routes))}, then
    )
    assert [re.findall(r"(\S+)▼", text) for text in (first, by_4xx, by_5xx)] == [
        *(["all"], ["4xx"], ["5xx"])
    ]
    assert first.index("/route30 ") < first.index("/route29 ")
    assert "/route7 " not in first
    assert by_5xx.index("/route7 ") < by_5xx.index("/route30 ")
    assert whole.count("/route") == 30
    assert part.count("/route") == 12
    assert ("paused" in paused, "paused" in goes_on) == (True, False)


def test_live_a_page_that_was_asked_for_before_the_pause_is_not_shown_in_it():
    async def then(screen):
        await screen.pilot.press("p")
        before = screen.lines()
        screen.live._take({"http://a/": of_host(page({"/a": (9, 200)}))})
        return before, screen.lines()

    before, after = shown_live({"http://a/": of_host(page({"/a": (3, 200)}))}, then)
    assert before == after


def test_its_help_has_examples_and_its_keys(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["otel-coach", "top", "--help"])
    with pytest.raises(SystemExit):
        main()
    text = capsys.readouterr().out
    for example in ("top http://", "http://b:8000/metrics", "--once http", "TOKEN=", "ssh -t"):
        assert example in text
    for key in ("s sorts", "a shows all rows", "p pauses", "q quits"):
        assert key in text


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


def test_the_demo_prints_two_short_tables():
    """Only the command itself continues what does not fit into 80 columns."""
    page = Drawn(seed=4).page()
    assert [table.title for table in figures_tables(page)] == ["AI requests", "Models"]


def test_a_token_from_a_file_may_end_with_a_new_line(monkeypatch):
    monkeypatch.setenv("OTEL_COACH_METRICS_TOKEN", "sesame\n")
    with hostile([OK, b"\r\n# TYPE x counter\nx 1\n"]) as (url, asked):
        assert "is not otel-coach's page" in top.read([url])[url]
    assert b"Authorization: Bearer sesame\r\n" in asked[0]


def test_a_page_that_cannot_be_parsed_is_said_with_what_names_the_line():
    page = b"\r\n# TYPE otel_coach_errors counter\notel_coach_errors_total 0\nx{y=1} \x1b[31m\n"
    with hostile([OK, page]) as (url, _):
        told = top.read([url])[url]
    assert "is not in Prometheus' text format (ValueError: " in told
    assert f"Cure: curl -s {url} | promtool check metrics # " in told
    assert "\x1b" not in told


def test_live_keeps_few_readings_however_often_it_reads():
    first = of_host(page({"/a": (3, 200)}))

    async def then(screen):
        for number in range(400):
            screen.live._add({"http://a/": replace(first, at=first.at + number * 0.5)})
        (kept,) = screen.live._readings.values()
        return [one.at for one in kept]

    kept = shown_live({"http://a/": first}, then)
    assert len(kept) < 20
    assert kept[-1] == first.at + 399 * 0.5
    assert 50 <= kept[-1] - kept[0] <= 70
