"""Spans, points and log records that get lost, and receivers that refuse them."""

import itertools
import threading
from concurrent import futures
from contextlib import contextmanager

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from prometheus_client import generate_latest

from otel_coach.sdk.providers import Providers
from otel_coach.testing import Page
from tests.support.otlp import Receiver

KINDS = ("spans_queue_full", "spans_export", "metrics_export", "logs_export")


def spans_of(body):
    request = ExportTraceServiceRequest.FromString(body)
    return [
        span.name for of in request.resource_spans for by in of.scope_spans for span in by.spans
    ]


class GrpcReceiver(Receiver):
    """The same by gRPC."""

    def __enter__(self):
        receiver = self

        class Traces(TraceServiceServicer):
            def Export(self, request, context):  # noqa: N802 - gRPC's name
                body = request.SerializeToString()
                status = receiver.answers("/v1/traces", body)
                taken = receiver.requests if status == 200 else receiver.refused
                taken.append(("/v1/traces", body))
                if status != 200:
                    context.abort(grpc.StatusCode.INVALID_ARGUMENT, "refused")
                return ExportTraceServiceResponse()

        self._threads = futures.ThreadPoolExecutor(4)
        self._grpc = grpc.server(self._threads)
        add_TraceServiceServicer_to_server(Traces(), self._grpc)
        port = self._grpc.add_insecure_port("127.0.0.1:0")
        self._grpc.start()
        self.endpoint = f"http://127.0.0.1:{port}"
        return self

    def __exit__(self, *_):
        self._grpc.stop(0).wait()
        self._server.server_close()


RECEIVERS = {"http/protobuf": Receiver, "grpc": GrpcReceiver}


@contextmanager
def providers(settings, endpoint, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    made = Providers(settings)
    try:
        yield made
    finally:
        made.shutdown(0.5)


def lost(of):
    """What is on the page, by kind."""
    of.recorder.flush_all()
    page = Page(generate_latest(of.registry).decode())
    return {kind: page.sum("otel_coach_lost_total", error_type=kind) for kind in KINDS}


def make_spans(of, count, *, threads=4):
    """`count` spans, by several threads at once."""
    tracer = of.tracer_provider.get_tracer("app")
    numbers = itertools.count()

    def make():
        for _ in range(count // threads):
            tracer.start_span(f"span {next(numbers)}").end()

    making = [threading.Thread(target=make) for _ in range(threads)]
    for thread in making:
        thread.start()
    for thread in making:
        thread.join()
