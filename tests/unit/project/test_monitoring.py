"""What is in deploy/ and docs/runbooks.md, held against docs/metrics.md and each other.

What the alerts do is shown by `promtool test rules deploy/prometheus/rules_test.yml`.
"""

import json
import re
from itertools import product

import pytest
import yaml

from otel_coach.metrics.catalogue import AI_TIME_TO_FIRST_CHUNK, LLM_COST
from tests.support.paths import ROOT
from tools.monitoring import __main__ as command
from tools.monitoring import expressions
from tools.monitoring.promql import Reader

RUNBOOKS = (ROOT / "docs/runbooks.md").read_text("utf-8")
DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboards/otel-coach.json").read_text("utf-8"))
RULES = [
    rule
    for group in yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
RULES_TEST = yaml.safe_load((ROOT / "deploy/prometheus/rules_test.yml").read_text("utf-8"))["tests"]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
PANEL_EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
RULE_EXPRESSIONS = [rule["expr"] for rule in RULES]
RUNBOOK_EXPRESSIONS = re.findall(r"```promql\n(.+?)```", RUNBOOKS, re.DOTALL)
SERIES_IN_TESTS = [series["series"] for test in RULES_TEST for series in test["input_series"]]


def documented_series():
    """Each name that a page of ours can show, with its labels, as docs/metrics.md has them."""
    found = {"up": set()}
    page = (ROOT / "docs/metrics.md").read_text("utf-8")
    for name, kind, labels in re.findall(r"(?m)^\| `(\w+)` \| (\w+).*? \| (.*?) \|", page):
        parts = ("_bucket", "_count", "_sum") if kind == "histogram" else ("",)
        for part in parts:
            found[name + part] = set(labels.split(", "))
            if part == "_bucket":
                found[name + part].add("le")
    return found


DOCUMENTED = documented_series()


def bare(expr):
    """The expression without what is in quotes."""
    return re.sub(r'"[^"]*"', '""', expr)


def selectors(expr):
    """Name and matchers of each series that the expression selects."""
    text = re.sub(r"\[[^]]*\]|\b(by|on|group_left)\s*\([^)]*\)|\boffset \w+", " ", bare(expr))
    for word, next_to_it in re.findall(r"(?<![\w:.])([a-zA-Z_:][\w:]*)\s*(\(|\{[^}]*\})?", text):
        if next_to_it != "(" and word not in {"and", "or", "unless", "bool"}:
            yield word, re.findall(r"(\w+)\s*[=!]", next_to_it)


@pytest.mark.parametrize("what", ["dashboards", "rules"])
def test_the_tracked_files_are_what_the_catalogue_makes(what):
    assert command.FILES[what]
    for path, text in command.FILES[what].items():
        assert path.read_text("utf-8") == text()


@pytest.mark.parametrize("what", ["dashboards", "rules"])
def test_a_file_that_differs_fails_the_check_and_is_told_the_cure(
    what, tmp_path, monkeypatch, capsys
):
    text, *_ = command.FILES[what].values()
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setitem(command.FILES, what, {tmp_path / "file": text})

    def run(action):
        monkeypatch.setattr("sys.argv", ["monitoring", what, action])
        return command.main()

    assert [run("--check"), run("--write"), run("--check")] == [1, 0, 0]
    (tmp_path / "file").write_text(text() + " ")
    assert run("--check") == 1
    assert capsys.readouterr().err.count("make dashboards rules") == 2


def test_every_metric_is_on_a_panel():
    shown = {name for expr in PANEL_EXPRESSIONS for name, _ in selectors(expr)}
    metrics = {re.sub("_(bucket|count|sum)$", "", name) for name in DOCUMENTED} - {"up"}
    assert len(metrics) == 33
    assert metrics == {re.sub("_(bucket|count|sum)$", "", name) for name in shown}


@pytest.mark.parametrize(
    "expr", [*PANEL_EXPRESSIONS, *RULE_EXPRESSIONS, *RUNBOOK_EXPRESSIONS, *SERIES_IN_TESTS]
)
def test_every_series_and_label_exists(expr):
    known = {**DOCUMENTED, **{rule["record"]: set() for rule in RULES if "record" in rule}}
    found = list(selectors(expr))
    assert found
    for name, labels in found:
        assert name in known
        assert set(labels) <= known[name] | {"job", "instance"}
    grouped = re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expr)
    anywhere = set().union(*(DOCUMENTED.get(name, ()) for name, _ in found)) | {"job", "instance"}
    assert {label for labels in grouped for label in labels.split(", ")} <= anywhere


@pytest.mark.parametrize("expr", [*PANEL_EXPRESSIONS, *RULE_EXPRESSIONS, *RUNBOOK_EXPRESSIONS])
def test_jobs_are_chosen_and_never_added_up(expr):
    text = bare(expr)
    operators = r"(?<![\w:])(?:sum|count|min|max|avg|group|topk|bottomk|quantile|stddev)(?![\w:])"
    for operator in re.finditer(operators, text):
        assert re.match(r" by \(job[,)]", text[operator.end() :])
    assert "without" not in text
    assert "ignoring" not in text
    for labels in re.findall(r"\bon\s*\(([^)]*)\)", text):
        assert labels.split(", ")[0] == "job"
    if expr in PANEL_EXPRESSIONS:
        assert len(list(selectors(expr))) == expr.count('{job=~"$job"')


def test_panels_tell_what_to_conclude_and_fit_the_grid():
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken = set()
    for panel in PANELS:
        assert len(panel["description"]) > 40
        assert panel["fieldConfig"]["defaults"]["unit"]
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        assert columns[-1] < 24
        cells = set(product(columns, range(place["y"], place["y"] + place["h"])))
        assert not cells & taken
        taken |= cells


def test_durations_are_in_seconds_and_lead_to_their_traces():
    for panel in PANELS:
        first = panel["targets"][0]["expr"]
        assert (panel["fieldConfig"]["defaults"]["unit"] == "s") == ("_quantile(" in first)
        # Probes run outside of requests: they have no trace.
        has_traces = "_quantile(" in first and "dependency_" not in first
        assert [target["exemplar"] for target in panel["targets"]].count(True) == has_traces


def test_a_point_on_a_graph_opens_the_provisioned_jaeger():
    path = ROOT / "deploy/grafana/provisioning/datasources/otel-coach.yml"
    metrics, traces = yaml.safe_load(path.read_text("utf-8"))["datasources"]
    assert (metrics["url"], traces["url"]) == ("http://prometheus:9090", "http://jaeger:16686")
    assert (metrics["type"], traces["type"]) == ("prometheus", "jaeger")
    assert metrics["jsonData"]["exemplarTraceIdDestinations"] == [
        {"name": "trace_id", "datasourceUid": traces["uid"]}
    ]


def test_the_dashboard_asks_for_nothing_but_its_own_variables():
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert list(variables) == ["datasource", "traces", "job", "endpoint", "model"]
    assert variables["datasource"]["query"] == "prometheus"
    assert variables["traces"]["query"] == "jaeger"
    # Two jobs may be one service, seen twice.
    assert not variables["job"]["multi"]
    assert not variables["job"]["includeAll"]
    for name in ("job", "endpoint", "model"):
        query = variables[name]["query"]["query"]
        series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", query).groups()
        ((metric, _),) = selectors(series)
        assert label == name
        assert label in DOCUMENTED[metric] | {"job"}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD)))
    assert used <= {*variables, "__rate_interval", "__range", "__from", "__to", "__all"}


@pytest.mark.parametrize("rule", [rule for rule in RULES if "record" in rule])
def test_a_record_says_its_window(rule):
    level, _, operations = rule["record"].split(":")
    assert level == "job"
    window = re.search(r"\d+[mhd]$", operations)
    assert set(re.findall(r"\[(\w+)\]", rule["expr"])) == ({window[0]} if window else set())


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_tells_whom_it_concerns_and_what_to_do(alert):
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert "{{ $labels.job }}" in alert["annotations"]["summary"]
    assert alert["annotations"]["description"]
    assert {"for", "keep_firing_for"} <= set(alert)
    page, anchor = alert["annotations"]["runbook_url"].split("#")
    assert page == "https://github.com/otel-coach/otel-coach/blob/main/docs/runbooks.md"
    assert f"\n## {alert['alert']}\n" in RUNBOOKS
    assert anchor == alert["alert"].lower()  # as GitHub makes anchors of headings


def test_each_runbook_is_an_alerts_and_points_at_panels_that_exist():
    sections = re.split(r"^## ", RUNBOOKS, flags=re.MULTILINE)[1:]
    assert [text.split("\n")[0] for text in sections] == list(
        dict.fromkeys(alert["alert"] for alert in ALERTS)
    )
    places, row = set(), None
    for panel in DASHBOARD["panels"]:
        row = panel["title"] if panel["type"] == "row" else row
        places.add(f"{row} / {panel['title']}")
    for text in sections:
        assert "Cure:" in text
        assert "```promql" in text
        panels = set(re.findall(r"\*\*(.+?)\*\*", text))
        assert panels <= places
        # Of a job that is missing there is nothing to show.
        assert bool(panels) != text.startswith("OtelCoachTargetMissing")


def cases(alert, window):
    """For each promise of rules_test.yml about the alert: whether it says that it fires."""
    for test in RULES_TEST:
        for case in test.get("alert_rule_test", ()):
            if case["alertname"] == alert:
                fired = case.get("exp_alerts", ())
                yield any(one["exp_labels"].get("long") == window for one in fired)
        for case in test.get("promql_expr_test", ()):
            asked = re.search(r'alertname=~?"([^"]+)"', case["expr"])
            if asked and alert in asked[1].split("|"):
                asked_window = re.search(r'long="(\w+)"', case["expr"])
                if not asked_window or asked_window[1] == window:
                    yield bool(case.get("exp_samples"))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_each_alert_is_shown_to_fire_and_not_to_fire(alert):
    assert set(cases(alert["alert"], alert["labels"].get("long"))) == {True, False}


def test_expressions_are_those_of_the_files_ready_to_be_asked():
    found = [expr for _, expr in expressions()]
    assert len(found) == len(PANEL_EXPRESSIONS) + len(RULE_EXPRESSIONS)
    assert set(RULE_EXPRESSIONS) <= set(found)
    assert not [expr for expr in found if "$" in expr]
    places = [place for place, _ in expressions()]
    assert len(set(places)) == len(places)


def test_what_the_catalogue_does_not_have_cannot_be_asked_for():
    with pytest.raises(ValueError, match="no bucket 4"):
        Reader().within(AI_TIME_TO_FIRST_CHUNK, 4.0, "5m")
    with pytest.raises(ValueError, match="no label endpoint"):
        Reader().rate(LLM_COST, "5m", by=("endpoint",))
