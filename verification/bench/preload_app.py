"""The measured service, with a route that runs the garbage collector."""

import gc

from verification.bench.app import app

__all__ = ["app"]


@app.get("/collect")
def collect() -> int:
    """Runs a full collection."""
    return gc.collect()
