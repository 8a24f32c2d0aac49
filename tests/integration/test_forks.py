"""A process that was forked has measured nothing yet: its parent's totals are not its own."""

import os
import subprocess
import sys
import time

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource

from otel_coach.sdk import forked_meters
from otel_coach.sdk.providers import Providers
from otel_coach.settings import Settings
from tests.support.environment import without_settings
from tests.support.otlp import Receiver
from tests.support.programs import ALONE
from tests.support.stack import bin_path

PROGRAM = """
import os, sys, time
from langchain_core.language_models import FakeListChatModel
from opentelemetry import metrics
model = FakeListChatModel(responses=["hi", "there"])
jobs = metrics.get_meter("app").create_counter("jobs.done")
for _ in range({parents}):
    model.invoke("x")
    jobs.add(1)
open_run = model.stream("x") if {open_run} else None
if open_run:
    next(open_run)
time.sleep({before_fork})
for child in {childs}:
    if os.fork() == 0:
        for _ in range(child):
            model.invoke("x")
            jobs.add(1)
        time.sleep({childs_life})
        sys.exit(0)
for _ in {childs}:
    os.wait()
"""


def resources(receiver):
    """Each resource's metrics that were pushed, with its instance id and the sender's port."""
    for (path, body), port in zip(receiver.requests, receiver.connections, strict=True):
        if path == "/v1/metrics":
            for of in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                who = {pair.key: pair.value.string_value for pair in of.resource.attributes}
                yield of, who["service.instance.id"], port


def by_instance(receiver, name):
    """The last total that each process pushed, the largest first."""
    last = {}
    for of, instance, _port in resources(receiver):
        for scope in of.scope_metrics:
            for metric in scope.metrics:
                if metric.name == name:
                    points = metric.sum.data_points or metric.histogram.data_points
                    last[instance] = sum(
                        point.as_double + point.as_int if metric.HasField("sum") else point.count
                        for point in points
                    )
    return sorted(last.values(), reverse=True)


def run(receiver, before_fork=0.6, childs_life=0.0, **numbers):
    environment = {
        **without_settings(),
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        # With system_metrics, whose callbacks take longer than such an interval on a busy machine,
        # the SDK would give up.
        **ALONE,
    }
    command = [bin_path("opentelemetry-instrument"), sys.executable, "-c"]
    program = PROGRAM.format(before_fork=before_fork, childs_life=childs_life, **numbers)
    subprocess.run([*command, program], env=environment, check=True, timeout=60)


@pytest.mark.parametrize("open_run", [False, True], ids=["", "with a stream open"])
@pytest.mark.parametrize(
    ("parents", "childs"),
    [(10, [0, 3]), (0, [3])],
    ids=["a helper, and one that measures too", "a master and its worker"],
)
def test_each_process_pushes_what_it_measured_itself(parents, childs, open_run):
    with Receiver() as receiver:
        run(receiver, childs_life=1.0, parents=parents, childs=childs, open_run=open_run)
        spans = receiver.spans
    # The stream that the parent left open ends with the parent, once.
    pushed = sorted(filter(None, (parents + open_run, *childs)), reverse=True)
    assert by_instance(receiver, "agent.llm.requests") == pushed
    assert by_instance(receiver, "agent.llm.latency") == pushed
    assert by_instance(receiver, "jobs.done") == sorted(filter(None, (parents, *childs)))[::-1]
    assert sum(span.name.startswith("chat ") for span in spans) == sum(pushed)
    senders = {}
    for _metrics, instance, port in resources(receiver):
        senders.setdefault(port, set()).add(instance)
    assert all(len(instances) == 1 for instances in senders.values()), senders


def test_a_child_that_was_forked_during_a_push_pushes_too():
    pushes = []

    def slow_at_first(path, _body):
        if path == "/v1/metrics":
            pushes.append(path)
            time.sleep(3 if len(pushes) == 1 else 0)
        return 200

    with Receiver(slow_at_first) as receiver:
        run(receiver, before_fork=1.0, parents=10, childs=[3], open_run=False)
    assert by_instance(receiver, "agent.llm.requests") == [10, 3]


def test_the_process_detectors_command_line_does_not_come_back_after_a_fork():
    program = """
import os
from otel_coach.sdk.providers import Providers
from otel_coach.settings import Settings
providers = Providers(Settings(trace_exporters=("console",)))
if os.fork() == 0:
    parts = providers.meter_provider._sdk_config.resource, providers.tracer_provider.resource
    found = [key for part in parts for key in part.attributes if key.startswith("process.command")]
    print(found, flush=True)
    os._exit(0)
os.wait()
"""
    found = subprocess.run(
        [sys.executable, "-c", program, "--api-key=secret"],
        env={**os.environ, "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "process"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("measured", [False, True])
def test_where_the_sdk_has_changed_a_child_of_one_that_measured_pushes_nothing(
    measured, monkeypatch
):
    monkeypatch.setattr(forked_meters, "_empty", lambda provider: provider._no_such_part)
    providers = Providers(Settings())
    try:
        if measured:
            providers.serves = True
        if (child := os.fork()) == 0:
            providers.serves = True  # it begins to serve
            os._exit(providers.is_idle)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == measured
    finally:
        providers.shutdown()


def test_each_generation_has_an_id_of_its_own_where_the_sdk_gives_none(monkeypatch):
    resource = Resource({"service.instance.id": "one"})
    provider = MeterProvider([], resource, shutdown_on_exit=False)  # never forked: its id stays
    reset = forked_meters.MeterReset(provider)
    found = []
    for pid in (7, 8):  # a child, and its child
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        assert reset.reset()
        found.append(provider._sdk_config.resource.attributes["service.instance.id"])
    assert found == ["one-7", "one-7-8"]
