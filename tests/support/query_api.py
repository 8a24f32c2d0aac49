"""Prometheus' query API over HTTP: answers range selectors from samples, as Prometheus 3 does."""

import json
import re
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

_QUERY = re.compile(r'\{__name__=~"([^"]*)"(?:,([a-z]+)="([^"]*)")?\}\[(\d+)ms\]')


@contextmanager
def query_api(series, *, status=200, body=None):
    """Serves `series`, pairs of labels and of (time, value) samples; yields URL and paths asked.

    A range selector finds the samples after the beginning of its range up to its end. `body`
    replaces each answer.
    """
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, dict(self.headers)))
            content = json.dumps(answer(self.path)).encode() if body is None else body
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    def answer(path):
        parts = urlsplit(path)
        given = parse_qs(parts.query)
        assert parts.path == "/prom/api/v1/query"
        names, label, value, width = _QUERY.fullmatch(given["query"][0]).groups()
        end = float(given["time"][0])
        begin = end - int(width) / 1000
        found = [
            {"metric": labels, "values": [[at, str(n)] for at, n in samples if begin < at <= end]}
            for labels, samples in series
            if re.fullmatch(names, labels["__name__"]) and (not label or labels[label] == value)
        ]
        result = [one for one in found if one["values"]]
        return {"status": "success", "data": {"resultType": "matrix", "result": result}}

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/prom", asked
        finally:
            server.shutdown()
