"""What must not change: answers, byte for byte."""

import socket

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from tests.support.applications import HTTP, streaming_app
from tests.support.serving import serving

# What must not change


def raw(client, request):
    """The bytes of a response, but for its date."""
    with socket.create_connection((client.base_url.host, client.base_url.port)) as connection:
        connection.sendall(request)
        answer = b""
        while block := connection.recv(65536):
            answer += block
    return b"\r\n".join(line for line in answer.split(b"\r\n") if not line.startswith(b"date:"))


REQUESTS = [
    f"{line} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode()
    for line in ("GET /plain", "GET /stream/4", "GET /none", "POST /plain", "GET /background")
]


def test_the_applications_answers_are_byte_for_byte_those_of_the_bare_one():
    from otel_coach.testing import measuring

    app = streaming_app()
    with serving(app) as client:
        bare = [raw(client, request) for request in REQUESTS]
    app = streaming_app()
    with measuring() as measured, serving(app) as client:
        assert [raw(client, request) for request in REQUESTS] == bare
        assert measured.page().sum(HTTP) == len(REQUESTS)
    with serving(app) as client:  # the same application, uninstrumented
        assert [raw(client, request) for request in REQUESTS] == bare


def test_fastapis_openapi_and_html_pages_are_untouched(measured):
    app = FastAPI()

    @app.get("/page", response_class=HTMLResponse)
    def page():
        return "<p>hi</p>"

    with serving(app) as client:
        assert client.get("/page").text == "<p>hi</p>"
        assert set(client.get("/openapi.json").json()["paths"]) == {"/page"}
