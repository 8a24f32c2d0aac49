"""Builds the dashboard as JSON for Grafana 10.1 or newer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model

from otel_coach.metrics.catalogue import ERRORS, HTTP_REQUEST_DURATION, LLM_REQUESTS
from otel_coach.metrics.labels import ENDPOINT, MODEL
from tools.monitoring.panel import SERVICE, Look, Panel, Query
from tools.monitoring.promql import JOB
from tools.monitoring.rows import ROWS

if TYPE_CHECKING:
    from grafana_foundation_sdk.cog.builder import Builder

_METRICS: Final = model.DataSourceRef("prometheus", "${datasource}")
_WIDTHS: Final = {Look.FIGURE: 6}
_HEIGHTS: Final = {Look.FIGURE: 4}
_WIDTH, _HEIGHT = 8, 8
_EVERYTHING: Final = ".+"

_PanelBuilder = timeseries.Panel | stat.Panel | statetimeline.Panel


def text() -> str:
    """Returns the content of the tracked dashboard file."""
    return json.dumps(_dashboard().build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _dashboard() -> dashboard.Dashboard:
    board = (
        dashboard.Dashboard("otel-coach")
        .uid("otel-coach")
        .description(
            "Generated from otel_coach/metrics/catalogue.py by `make dashboards`, which overwrites "
            "the file in otel-coach's repository; a copy of `otel-coach dashboard` is yours to "
            "change."
        )
        .tags(["otel-coach", "llm"])
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .annotations([])
        .variables(_variables())
        .link(_link_to_traces())
    )
    number = 0
    for row in ROWS:
        number += 1
        board.with_row(dashboard.Row(row.title).id(number))
        for panel in row.panels:
            number += 1
            board.with_panel(_panel(panel).id(number))
    return board


def _variables() -> list[Builder[model.VariableModel]]:
    return [
        dashboard.DatasourceVariable("datasource").label("Metrics").type("prometheus"),
        dashboard.DatasourceVariable("traces").label("Traces").type("jaeger"),
        # One job at a time: two jobs may show the same service, scraped in two ways.
        _values(JOB, f"label_values({ERRORS.prometheus_name}, {JOB})"),
        _any_of(ENDPOINT, SERVICE.select(HTTP_REQUEST_DURATION, part="_count")),
        _any_of(MODEL, SERVICE.select(LLM_REQUESTS)),
    ]


def _values(label: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(label)
        .label(label.capitalize())
        .datasource(_METRICS)
        .query({"query": query, "refId": label})
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
    )


def _any_of(label: str, series: str) -> dashboard.QueryVariable:
    everything = model.VariableOption(selected=True, text=["All"], value=["$__all"])
    return (
        _values(label, f"label_values({series}, {label})")
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(_EVERYTHING)
        .current(everything)
    )


def _link_to_traces() -> dashboard.DashboardLink:
    """Returns a link to the trace search, which finds traces if `job` is the service's name."""
    pane = {
        "datasource": "${traces}",
        "queries": [{"refId": "A", "queryType": "search", "service": "${job}"}],
        "range": {"from": "${__from}", "to": "${__to}"},
    }
    panes = quote(json.dumps({"traces": pane}, separators=(",", ":")), safe="${}:,")
    return (
        dashboard.DashboardLink("Search traces")
        .type(model.DashboardLinkType.LINK)
        .icon("external link")
        .url(f"/explore?schemaVersion=1&panes={panes}")
        .target_blank(target_blank=True)
    )


def _panel(panel: Panel) -> _PanelBuilder:
    drawn = _drawn(panel)
    drawn.title(panel.title).description(panel.says).unit(panel.unit).datasource(_METRICS)
    drawn.span(_WIDTHS.get(panel.look, _WIDTH)).height(_HEIGHTS.get(panel.look, _HEIGHT))
    for letter, query in zip("ABCDE", panel.queries, strict=False):
        drawn.with_target(_target(query, letter, instant=panel.look is Look.FIGURE))
    return drawn


def _target(query: Query, letter: str, *, instant: bool) -> prometheus.Dataquery:
    target = prometheus.Dataquery().ref_id(letter).expr(query.expr).legend_format(query.legend)
    target.exemplar(query.exemplars)
    return target.instant() if instant else target.range()


def _drawn(panel: Panel) -> _PanelBuilder:
    match panel.look:
        case Look.FIGURE:
            return _figure(panel.objective)
        case Look.STATES:
            return _states()
        case Look.LINES | Look.STACKED:
            lines = timeseries.Panel().min(0).legend(_legend()).tooltip(_tooltip())
            if panel.look is Look.STACKED:
                stacked = common.StackingConfig().mode(options.StackingMode.NORMAL)
                lines.stacking(stacked).fill_opacity(30)
            return lines


def _figure(objective: float | None) -> stat.Panel:
    last = common.ReduceDataOptions().calcs(["lastNotNull"])
    figure = stat.Panel().graph_mode(options.BigValueGraphMode.NONE).reduce_options(last)
    if objective is None:
        return figure.color_scheme(_fixed("text"))
    steps = [model.Threshold(None, "red"), model.Threshold(objective, "green")]
    return figure.thresholds(_absolute(steps)).decimals(2)


def _states() -> statetimeline.Panel:
    steps = [model.Threshold(None, "red"), model.Threshold(1, "green")]
    named = {
        "0": model.ValueMappingResult(text="down", color="red"),
        "1": model.ValueMappingResult(text="up", color="green"),
    }
    return (
        statetimeline.Panel()
        .thresholds(_absolute(steps))
        .mappings([model.ValueMap(named)])
        .show_value(options.VisibilityMode.NEVER)
    )


def _absolute(steps: list[model.Threshold]) -> dashboard.ThresholdsConfig:
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)


def _fixed(color: str) -> dashboard.FieldColor:
    return dashboard.FieldColor().mode(model.FieldColorModeId.FIXED).fixed_color(color)


def _legend() -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .display_mode(options.LegendDisplayMode.LIST)
        .placement(options.LegendPlacement.BOTTOM)
        .show_legend(show_legend=True)
    )


def _tooltip() -> common.VizTooltipOptions:
    return (
        common.VizTooltipOptions()
        .mode(options.TooltipDisplayMode.MULTI)
        .sort(options.SortOrder.DESCENDING)
    )
