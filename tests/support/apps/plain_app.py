"""The small application without its model, whose import takes longer than all the rest."""

import asyncio
import os

from fastapi import FastAPI

app = FastAPI()


@app.get("/health")
async def health():
    return "ok"


@app.get("/hello/{name}")
async def hello(name: str):
    return name


match os.environ.get("SMALL_APP"):
    case "own page":
        from prometheus_client import make_asgi_app

        app.mount("/metrics", make_asgi_app())

    case "reads what all share":
        from prometheus_client import REGISTRY, Counter
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        class Shared:
            """As one that asks Redis or a database."""

            def collect(self):
                yield GaugeMetricFamily("shop_queue", "Orders that wait", 100)
                yield CounterMetricFamily("shop_sold", "Orders so far", 1000)

        REGISTRY.register(Shared())
        asked = Counter("shop_asked", "Counted in this process")

        @app.middleware("http")
        async def count(request, call_next):
            asked.inc()
            return await call_next(request)

    case "has a gauge that hangs":
        import time
        from itertools import count as numbers

        from opentelemetry.metrics import Observation, get_meter

        calls = numbers()

        def connections(_options):
            if next(calls):
                time.sleep(600)
            return [Observation(1)]

        get_meter("app").create_observable_gauge("pool.size", [connections])

    case "takes otel-coach off":

        @app.post("/uninstrument")
        async def uninstrument():
            import threading

            import otel_coach

            own = [one for one in threading.enumerate() if one.name.startswith("otel")]
            otel_coach.uninstrument()
            for one in own:  # one that sleeps ends when it wakes
                await asyncio.to_thread(one.join, 60)
            return [thread.name for thread in threading.enumerate()], os.getpid()
