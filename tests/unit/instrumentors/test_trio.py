"""Where the server runs trio."""

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

# Endpoints


def test_streams_on_trio_are_left_alone(measured):
    from starlette.testclient import TestClient

    app = FastAPI()

    @app.get("/stream")
    async def stream():
        async def chunks():
            yield "a"
            yield "b"

        return StreamingResponse(chunks())

    assert TestClient(app, backend="trio").get("/stream").text == "ab"
    assert measured.page().sum("otel_coach_errors_total") == 0
