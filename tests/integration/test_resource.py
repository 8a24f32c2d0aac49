"""Who measures: detected once, since a detector may ask a cloud's metadata server."""

import json
import subprocess
import sys

import pytest

from tests.support.environment import without_settings
from tests.support.otlp import Receiver

PROGRAM = """
import json, sys, opentelemetry.sdk.resources as resources
ran = []
detect = resources.OTELResourceDetector.detect
def counted(self):
    ran.append(1)
    return detect(self)
resources.OTELResourceDetector.detect = counted
import otel_coach
otel_coach.instrument()
at_the_start = len(ran)
from opentelemetry import trace
for number in range(200):
    trace.get_tracer("app").start_span(f"span {number}").end()
trace.get_tracer_provider().force_flush()
from otel_coach.setup.installation import _installed
if "logs" in sys.argv:
    assert _installed.providers._own_logger_provider is not None
print(json.dumps([at_the_start, len(ran)]))
"""


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("logs", [False, True], ids=["", "with logs"])
def test_detectors_run_once_at_the_start_and_never_for_a_span(protocol, logs):
    with Receiver() as receiver:
        found = subprocess.run(
            [sys.executable, "-c", PROGRAM, *(["logs"] if logs else [])],
            env={
                **without_settings(),
                "OTEL_METRICS_EXPORTER": "prometheus,otlp",
                "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
                "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
                "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
                "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "EVENT_ONLY" if logs else "",
            },
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    assert json.loads(found.stdout) == [1, 1]
