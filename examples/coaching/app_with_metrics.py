"""The same coach, run by a team that has Prometheus metrics of its own.

Run it with `uvicorn app_with_metrics:app`. Two of its metric families have names that an
instrumentation may use too.
"""

from app import app
from fastapi import Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest
from starlette.middleware.base import RequestResponseEndpoint

PLANS = Counter("coach_plans", "Training plans that were asked for")
IN_PROGRESS = Gauge("coach_requests_in_progress", "Requests that are being answered")
AUTH_FAILURES = Counter("auth_failures", "Refused requests", ["reason"])
DURATION = Histogram("http_server_request_duration_seconds", "Answers, by path", ["path"])


@app.middleware("http")
async def measure(request: Request, call_next: RequestResponseEndpoint) -> Response:
    """Measure each request by hand, as services do without instrumentation."""
    with IN_PROGRESS.track_inprogress(), DURATION.labels(request.url.path).time():
        response = await call_next(request)
    if "plan" in request.url.path:
        PLANS.inc()
    if response.status_code in {401, 403}:
        AUTH_FAILURES.labels(str(response.status_code)).inc()
    return response


@app.get("/metrics")
def metrics() -> Response:
    """Return the page for Prometheus."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
