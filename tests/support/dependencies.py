"""What a dependency says, and what is shown of it."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer


def port(server):
    return server.getsockname()[1]


def say(text):
    def answer(connection):
        if connection.recv(64):
            connection.sendall(text)

    return answer


def up(measured, name="db"):
    ((labels, value),) = measured.page().samples("dependency_up")
    assert labels == {"dependency_name": name}
    return value


@contextmanager
def http_server(status=200):
    """Answers each GET with `status` and notes its Authorization."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.headers.get("Authorization"))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server.server_port, seen
    finally:
        server.shutdown()
        server.server_close()
