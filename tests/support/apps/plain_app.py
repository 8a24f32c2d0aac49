"""The small application without its model, whose import takes longer than all the rest."""

import os

from fastapi import FastAPI

app = FastAPI()


@app.get("/health")
async def health():
    return "ok"


match os.environ.get("SMALL_APP"):
    case "own page":
        from prometheus_client import make_asgi_app

        app.mount("/metrics", make_asgi_app())
