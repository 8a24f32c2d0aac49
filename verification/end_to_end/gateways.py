"""Checks tail sampling by two gateway Collectors, of which one is killed."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from itertools import cycle, islice
from typing import TYPE_CHECKING, Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Status, StatusCode, format_trace_id, set_span_in_context

from examples.coaching.demo.checks import at_rest
from verification.end_to_end.backends import (
    COLLECTOR_CONFIG,
    ROOT,
    Ports,
    Programs,
    address,
    start_collector,
    start_jaeger,
    url,
)
from verification.end_to_end.jaeger import Jaeger

if TYPE_CHECKING:
    from tests.support.programs import Program
    from verification.end_to_end.jaeger import Trace
    from verification.end_to_end.report import Report

_AGENT: Final = ROOT / "deploy" / "collector-agent.yaml"
_GATEWAY: Final = ROOT / "deploy" / "collector-gateway.yaml"
_SERVICE: Final = "sampled"
_TRACES: Final = 200
"""The number of traces that each part of the check sends."""
_SPANS: Final = 2
"""The number of spans in each trace."""
_DECISION: Final = 3
"""Seconds after which a gateway decides whether to keep a trace."""
_SETTLED: Final = 45.0
_SECOND: Final = 1_000_000_000

ERROR, ABORTED, SLOW, EXPENSIVE, PLAIN = "error", "aborted", "slow", "expensive", "plain"
_KINDS: Final = (ERROR, ABORTED, SLOW, EXPENSIVE, PLAIN)


class Sender:
    """A service that sends traces of each kind."""

    def __init__(self, otlp: str) -> None:
        self._provider = TracerProvider(resource=Resource({"service.name": _SERVICE}))
        exporter = OTLPSpanExporter(endpoint=f"{otlp}/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(_SERVICE)

    def send(self, count: int) -> dict[str, str]:
        """Sends `count` traces; returns their kinds by trace id.

        Children are exported before their parents, as a real service does.
        """
        kinds: dict[str, str] = {}
        roots = [(kind, self._tracer.start_span("root")) for kind in islice(cycle(_KINDS), count)]
        for kind, root in roots:
            kinds[format_trace_id(root.get_span_context().trace_id)] = kind
            child = self._tracer.start_span("chat", context=set_span_in_context(root))
            if kind == EXPENSIVE:
                child.set_attribute("gen_ai.usage.output_tokens", 5000)
            child.end()
        self._provider.force_flush()
        for kind, root in roots:
            if kind == ERROR:
                root.set_status(Status(StatusCode.ERROR))
            if kind == ABORTED:
                root.set_attribute("otel_coach.outcome", "aborted")
            root.end(end_time=time.time_ns() + (15 * _SECOND if kind == SLOW else 0))
        self._provider.force_flush()
        return kinds

    def stop(self) -> None:
        """Exports the remaining spans."""
        self._provider.shutdown()


class Tier:
    """An agent, two gateways behind it, and Jaeger behind them."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._agent_ports = Ports.free()
        self._gateway_ports = [
            replace(Ports.free(), jaeger_otlp=self._agent_ports.jaeger_otlp) for _ in range(2)
        ]
        start_jaeger(programs, self._agent_ports)
        self.jaeger = Jaeger(url(self._agent_ports.jaeger), _SERVICE)
        self.gateways = [self._start_gateway(ports) for ports in self._gateway_ports]
        self.agent = self._start_agent()
        self.sender = Sender(url(self._agent_ports.otlp_http))

    def restart_agent(self) -> None:
        """Starts the agent again, with the same persistent queue."""
        self.agent = self._start_agent()

    def restart_gateway(self, place: int) -> None:
        """Starts a gateway again, at the same address."""
        self.gateways[place] = self._start_gateway(self._gateway_ports[place])

    def _start_agent(self) -> Program:
        addresses = ", ".join(address(ports.otlp_grpc) for ports in self._gateway_ports)
        return start_collector(
            self._programs,
            self._agent_ports,
            f"--config={COLLECTOR_CONFIG}",
            f"--config={_AGENT}",
            GATEWAYS=f"[{addresses}]",
            SERVICE_TARGET=address(self._agent_ports.service),
        )

    def _start_gateway(self, ports: Ports) -> Program:
        wait = f"{_DECISION}s"
        config = f"--config={_GATEWAY}"
        return start_collector(self._programs, ports, config, DECISION_WAIT=wait)


def check(report: Report, tier: Tier) -> None:
    """Checks which traces are kept, and which are lost when a gateway and an agent are killed."""
    report.chapter("Tail sampling by two gateways behind an agent")
    kinds = tier.sender.send(_TRACES)
    _judge(report, tier.jaeger, kinds)
    kept = _kept(tier.jaeger, kinds)
    plain = sum(kinds[trace_id] == PLAIN for trace_id in kept)
    of_all = _TRACES // len(_KINDS)
    report.note("plain traces kept, of which a tenth should be", f"{plain} of {of_all}")
    report.holds("and no more than a third", plain < of_all / 3)

    report.chapter("One gateway killed with traces that it has not judged")
    kinds = tier.sender.send(_TRACES)
    time.sleep(1)  # the gateways have received the traces, and have not decided yet
    tier.gateways[1].stop(signal.SIGKILL)
    wanted = {trace_id for trace_id, kind in kinds.items() if kind != PLAIN}
    time.sleep(_DECISION + 2)
    lost = wanted - set(_kept(tier.jaeger, kinds))
    report.note("traces lost with the gateway's memory", f"{len(lost)} of {len(wanted)}")

    report.chapter("Traces sent while it is down, the agent killed too, then both back")
    kinds = tier.sender.send(_TRACES)
    time.sleep(1)
    tier.agent.stop(signal.SIGKILL)
    tier.restart_agent()
    tier.restart_gateway(1)
    _judge(report, tier.jaeger, kinds)


def _judge(report: Report, jaeger: Jaeger, kinds: dict[str, str]) -> None:
    wanted = {trace_id for trace_id, kind in kinds.items() if kind != PLAIN}

    def missing() -> set[str]:
        kept = _kept(jaeger, kinds)
        return wanted - {trace_id for trace_id, trace in kept.items() if len(trace.spans) == _SPANS}

    left = at_rest(missing, lambda found: not found, _SETTLED)
    for kind in _KINDS[:-1]:
        of_kind = {trace_id for trace_id in wanted if kinds[trace_id] == kind}
        report.equal(f"{kind} traces kept whole", len(of_kind), len(of_kind - left))


def _kept(jaeger: Jaeger, kinds: dict[str, str]) -> dict[str, Trace]:
    return {trace.trace_id: trace for trace in jaeger.traces() if trace.trace_id in kinds}
