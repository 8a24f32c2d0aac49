"""What a process loses at its end, or has lost when it is forked, is counted."""

import os
import subprocess
import sys
import threading
from contextlib import nullcontext

import pytest

from otel_coach.settings import Settings
from tests.support.environment import without_settings
from tests.support.losses import lost, make_spans, providers
from tests.support.otlp import Receiver
from tests.support.stack import bin_path
from tests.support.sums import sums

SPANS = Settings(trace_exporters=("otlp",), span_queue=600)
SCRIPT = """
from langchain_core.language_models import FakeListChatModel
for _ in range(10):
    FakeListChatModel(responses=["hi"]).invoke("x")
"""


@pytest.mark.parametrize("without_threads", [False, True])
def test_what_a_script_loses_at_its_end_is_in_its_last_push(without_threads, tmp_path):
    gate = threading.Event()
    emulation = """
import atexit, threading
def refuse(*_, **__):
    raise RuntimeError("can't create new thread at interpreter shutdown")
def shut_down():
    threading._start_new_thread = refuse
atexit.register(shut_down)
"""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT + (emulation if without_threads else ""))
    with Receiver(lambda *_: gate.wait(30) and 200) as hanging, Receiver() as receiver:
        environment = {
            **without_settings(),
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{hanging.endpoint}/v1/traces",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{receiver.endpoint}/v1/metrics",
            "OTEL_METRICS_EXPORTER": "otlp",
        }
        command = [bin_path("opentelemetry-instrument"), sys.executable, script]
        subprocess.run(command, env=environment, check=True, timeout=60)
        last = sums(receiver)
        gate.set()
    assert last["agent.llm.requests", "ok"] == 10
    assert last["otel_coach.lost", None] == 10


def test_a_forked_child_has_all_places_of_its_queue(monkeypatch):
    gate = threading.Event()
    with (
        Receiver(lambda *_: gate.wait(30) and 200) as receiver,
        providers(SPANS, receiver.endpoint, monkeypatch) as of,
        nullcontext(os.pipe()) as (reading, writing),
    ):
        make_spans(of, 4000)
        assert lost(of)["spans_queue_full"]
        if (child := os.fork()) == 0:
            losing = 1
            try:
                make_spans(of, 600, threads=1)
                losing = of.recorder.measurements - of._initial_measurements
            finally:
                os.write(writing, f"{losing}".encode())
                os._exit(0)
        os.waitpid(child, 0)
        gate.set()
        assert os.read(reading, 100) == b"0"  # nothing was recorded as lost
