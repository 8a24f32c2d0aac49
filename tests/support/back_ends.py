"""OTLP back ends that a test plants, and what the doctor says about them."""

import ssl
import threading
from concurrent import futures
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tests.support.doctor import diagnosis
from tests.support.paths import PEM

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"


def back_end(endpoint, **environ):
    return diagnosis(**{ENDPOINT: endpoint, "OTEL_SERVICE_NAME": "coach", **environ})


def only(found, name):
    assert found.keys() == {name}, found
    (text,) = found[name]
    return text


class Export(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes what has no token, or the right one."""

    def __init__(self):
        self.calls = []
        self.refuses = False

    def Export(self, request, context):  # noqa: N802 - gRPC's name
        self.calls.append((request, dict(context.invocation_metadata())))
        if self.refuses:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")
        return trace_service_pb2.ExportTraceServiceResponse()


@contextmanager
def grpc_receiver(service=None):
    """A gRPC server, with the service for traces or with none; yields its port."""
    server = grpc.server(futures.ThreadPoolExecutor(2))
    if service is not None:
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()


@contextmanager
def https(status, body=b"", content_type="application/x-protobuf", *, tls=True):
    """A server that answers each POST with that; yields its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(status)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(PEM)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
