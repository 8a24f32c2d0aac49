"""Checks otel-coach beside a vendor's distro, which must keep its place and its export.

One distro is made here; it is found once before otel-coach and once after it. The other is Azure
Monitor's, which exports to a double of its ingestion service.
"""

from __future__ import annotations

import gzip
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final

from verification.installs.environments import serve_and_ask

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from verification.installs.environments import Environment

AZURE: Final = "azure-monitor-opentelemetry"
_PLACE: Final = "a vendor's distro keeps its place"
_VENDOR: Final = """
from opentelemetry import trace
from opentelemetry.instrumentation.distro import BaseDistro
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult


class Exporter(SpanExporter):
    def export(self, spans):
        for span in spans:
            print("vendor exports", span.name, flush=True)
        return SpanExportResult.SUCCESS


class Distro(BaseDistro):
    def _configure(self, **_):
        pass


class Configurator:
    def configure(self, **_):
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(Exporter()))
        trace.set_tracer_provider(provider)
"""
_ENTRY_POINTS: Final = """
[opentelemetry_distro]
vendor = vendor:Distro
[opentelemetry_configurator]
vendor = vendor:Configurator
"""
_EXPORTED: Final = "vendor exports GET /hello/{name}"


def made_here(environment: Environment) -> Iterator[str]:
    """Yields the problems beside a vendor's distro that is made here."""
    folder = environment.folder / "vendor"
    information = folder / "vendor-1.dist-info"
    information.mkdir(parents=True)
    (folder / "vendor.py").write_text(_VENDOR)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: vendor\nVersion: 1\n")
    (information / "entry_points.txt").write_text(_ENTRY_POINTS)
    (packages,) = environment.folder.glob("lib/python*/site-packages")
    yield from _of(environment, "found first", {"PYTHONPATH": str(folder)})
    path_file = packages / "vendor.pth"  # folders in a .pth file come after site-packages
    path_file.write_text(f"{folder}\n")
    yield from _of(environment, "found last", {})
    disabled = {"OTEL_COACH_DISABLED": "true"}
    problems, log = serve_and_ask(environment, disabled, measured=False)
    yield from problems
    if _EXPORTED not in log or "otel-coach" in log:
        yield f"disabled, it does not export as without otel-coach:\n{log}"
    chosen = {"OTEL_PYTHON_DISTRO": "otel_coach", "OTEL_PYTHON_CONFIGURATOR": "otel_coach"}
    problems, log = serve_and_ask(environment, chosen)
    yield from problems
    if _EXPORTED in log or _PLACE in log:
        yield f"it has the place that the user gave to otel-coach:\n{log}"
    path_file.unlink()


def _of(environment: Environment, where: str, variables: dict[str, str]) -> Iterator[str]:
    problems, log = serve_and_ask(environment, variables)
    yield from problems
    if log.count(_PLACE) != 1:
        yield f"{where}: not one line says that the vendor keeps its place:\n{log}"
    if _EXPORTED not in log:
        yield f"{where}: the vendor does not export the request:\n{log}"


def azure(environment: Environment) -> Iterator[str]:
    """Yields the problems beside Azure Monitor's distro."""
    environment.installs("--quiet", AZURE)
    for variables, measured in (({}, True), ({"OTEL_COACH_DISABLED": "true"}, False)):
        with _ingestion() as (url, received):
            connection = f"InstrumentationKey={_KEY};IngestionEndpoint={url}/"
            more = {
                "APPLICATIONINSIGHTS_CONNECTION_STRING": connection,
                "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL": "true",
                # Milliseconds. A server that is stopped by a signal does not flush the vendor's.
                "OTEL_BSP_SCHEDULE_DELAY": "100",
                **variables,
            }
            problems, log = serve_and_ask(environment, more, measured=measured, stays=_STAYS)
        yield from problems
        requests = [
            item["data"]["baseData"]["name"]
            for body in received
            for line in body.decode().splitlines()
            for item in _items(line)
            if item["data"]["baseType"] == "RequestData"
        ]
        if requests.count("GET /hello/{name}") != 1:
            yield f"with {variables} Azure got the requests {requests}:\n{log}"


_STAYS: Final = 3.0
"""Seconds in which Azure's exporter sends its spans."""
_KEY: Final = "00000000-0000-0000-0000-000000000001"


def _items(line: str) -> list[dict[str, dict[str, dict[str, str]]]]:
    found = json.loads(line)
    return found if isinstance(found, list) else [found]


@contextmanager
def _ingestion() -> Generator[tuple[str, list[bytes]]]:
    """Serves a double of the ingestion service; yields its URL and the bodies that it receives."""
    received: list[bytes] = []
    answer = json.dumps({"itemsReceived": 1, "itemsAccepted": 1, "errors": []}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            is_gzip = self.headers.get("Content-Encoding") == "gzip"
            received.append(gzip.decompress(body) if is_gzip else body)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Logs nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", received
        finally:
            server.shutdown()
