"""A page of the application's own that is compressed though nobody asked for that."""

import gzip

from fastapi import FastAPI, Response
from fastapi.testclient import TestClient


def test_it_is_left_unchanged_and_the_log_says_why(measured, caplog):
    app = FastAPI()
    content = gzip.compress(b"up 1\n")

    @app.get("/metrics")
    def metrics():
        headers = {"content-encoding": "gzip"}
        return Response(content, media_type="text/plain; version=0.0.4", headers=headers)

    assert TestClient(app).get("/metrics").text == "up 1\n"
    assert "(its content-encoding is gzip, although none was asked for)" in caplog.text
