"""What the page of a running service says, or why there is none."""

from __future__ import annotations

from typing import Final

from otel_coach.core.traps import Severity, Trap, Way

_NO_PAGE: Final = "Prometheus does not get the page either."


def _page(  # noqa: PLR0913 - the columns of a table
    name: str,
    what: str,
    why: str,
    cure: str,
    severity: Severity = Severity.ERROR,
    *,
    example_cure: str = "",
) -> Trap:
    return Trap(name, what, why, cure, severity, Way.PAGE, example_cure=example_cure)


ADDRESS: Final = _page(
    "page-address",
    "{option} {problem}",
    "A page is read by HTTP from a host.",
    "{option} {example} # an address such as this",
    example_cure="OPTION http://localhost:8000/metrics # an address such as this",
)
UNREACHABLE: Final = _page(
    "page-unreachable",
    "{url} cannot be read ({reason})",
    _NO_PAGE,
    "curl {url!q} # is the service running, and is this its address?",
)
REDIRECTED: Final = _page(
    "page-redirected",
    "{url} redirects to {where}, which is not followed",
    "Following it would send the token to another address.",
    "{option} {where!q} # give that address, if you trust it",
)
TOKEN_MISSING: Final = _page(
    "token-missing",
    "{url} answers with {status}: it requires a token",
    _NO_PAGE,
    "export OTEL_COACH_METRICS_TOKEN=TOKEN # here as for the service",
)
TOKEN_WRONG: Final = _page(
    "token-wrong",
    "{url} answers with {status}: the service has another OTEL_COACH_METRICS_TOKEN, or the "
    "application refuses this path itself",
    _NO_PAGE,
    "export OTEL_COACH_METRICS_TOKEN=TOKEN # as it is in the service's environment",
)
MISSING: Final = _page(
    "page-missing",
    "{url} answers with 404: there is no page at this address",
    "The service was started without opentelemetry-instrument and measures nothing, or its page is "
    "at another path (OTEL_COACH_METRICS_PATH) or port (OTEL_EXPORTER_PROMETHEUS_PORT).",
    "{cure}",
    example_cure="opentelemetry-instrument uvicorn app:app # or name the address of the page: its "
    "path is that of OTEL_COACH_METRICS_PATH, by default /metrics, and its port that of "
    "OTEL_EXPORTER_PROMETHEUS_PORT, if that is set",
)
UNAVAILABLE: Final = _page(
    "page-unavailable",
    "{url} answers with {status}: {reason}",
    _NO_PAGE,
    "curl -i {url!q} # do what it says; is this the service's page?",
    example_cure="curl -i URL # do what it says: free some disk space, raise ulimit -n, or restart "
    "the service",
)
LOCAL_ONLY: Final = _page(
    "page-local-only",
    "{url} answers with {status}: it is served to its own machine only, by the name localhost",
    "This keeps web pages that are open in a browser on that machine from reading it.",
    "export OTEL_EXPORTER_PROMETHEUS_HOST=0.0.0.0 # lets the service listen on all addresses; or "
    "use localhost",
)
STATUS: Final = _page(
    "page-status",
    "{url} answers with {status}",
    _NO_PAGE,
    "curl -i {url!q} # is the service running under otel-coach, and is this its page?",
)
NOT_METRICS: Final = _page(
    "not-a-metrics-page",
    "{url} answers, but with {kind}, which is not a metrics page",
    "Something else serves that path: the application itself, or another program.",
    "export OTEL_COACH_METRICS_PATH=/internal/metrics # gives the page a path of its own; but is "
    "this its address, and does the service run under otel-coach?",
)
OTHER_PAGE: Final = _page(
    "page-of-others",
    "{url} answers with a metrics page, but not with otel-coach's families; it has {families}",
    "The service is measured by something else, or the address is that of another program.",
    "opentelemetry-instrument uvicorn app:app # was it started so, and is this its address?",
)
ALONE: Final = _page(
    "workers-not-sharing",
    "the page shows the figures of worker {worker} only: the workers cannot share them",
    "Each scrape shows the worker that happens to answer, and counters seem to fall.",
    "export OTEL_COACH_SHARED_DIR=/a/folder/of/this/user # the service's log says why",
)
STALE: Final = _page(
    "worker-stale",
    "worker {worker} does not answer or cannot write; the page shows its last figures",
    "What it counts since then is missing.",
    "ps -p {worker!q} # look for a full disk, a stopped process, or blocking code in that worker",
    Severity.WARNING,
)
HIDDEN: Final = _page(
    "family-hidden",
    "a second family named {family} is not on the page",
    "Two families with one name cannot both be on the page.",
    "grep -rn -e {family!q} . # rename it in the application",
    Severity.WARNING,
)
UNMEASURED: Final = _page(
    "calls-unmeasured",
    "{calls} of {model} not wholly measured",
    "Tokens or cost lack them, or a part of them.",
    "pip install --upgrade otel-coach # this version does not know the reason, but the service's "
    "does",
    Severity.WARNING,
)
NEARLY_FULL: Final = _page(
    "budget-nearly-full",
    "{used} of {size} values of {budget} are in use",
    "Past the budget, further values are counted as `other`.",
    "export {variable}={more} # or find the code that invents new values",
    Severity.WARNING,
)
OVERFLOW: Final = _page(
    "budget-overflow",
    "{figure}: {text}",
    "Values past the budget have no series of their own; sums stay right.",
    "export {variable}={more} # or find the code that invents new values",
)
LOST: Final = _page(
    "telemetry-lost",
    "{figure}: {text}",
    "Spans, points or log records have reached no back end.",
    "{cure}",
    example_cure="otel-coach doctor # in the service's environment: it sends a real export; where "
    "the queue is full, sample fewer traces: export OTEL_TRACES_SAMPLER=parentbased_traceidratio "
    "OTEL_TRACES_SAMPLER_ARG=0.1",
)
FAULTS: Final = _page(
    "own-faults",
    "{figure}: faults inside otel-coach, or in a function that it calls for you (a redactor), were "
    "swallowed",
    "The application did not notice, but something may not have been measured.",
    "pip install --upgrade otel-coach # the service's log has the place of each; please report "
    "those inside otel-coach: https://github.com/otel-coach/otel-coach/issues",
    Severity.WARNING,
)
DOWN: Final = _page(
    "dependency-seen-down",
    "the service's last probe of dependency {name} failed",
    "dependency_up is 0, and an alert may be firing.",
    "{cure}",
    example_cure="otel-coach doctor # in the service's environment: it says why; for a check of "
    "the application's own (watch_dependency), the service's log names the exception",
)
MORE: Final = _page(
    "more-findings",
    "{url} has {count} more findings like these",
    "Only the first ones are shown.",
    "otel-coach doctor --url {url!q} # again, when these are mended",
    Severity.WARNING,
)
CLOCK: Final = _page(
    "clock-skew",
    "the clock of {url} is {seconds} s {direction} this one's",
    "Traces of several machines, and rates in Prometheus, do not fit together.",
    "timedatectl set-ntp true # on both machines",
    Severity.WARNING,
)

ROWS: Final = (
    *(ADDRESS, UNREACHABLE, REDIRECTED, TOKEN_MISSING, TOKEN_WRONG, MISSING, UNAVAILABLE),
    *(LOCAL_ONLY, STATUS, NOT_METRICS, OTHER_PAGE, ALONE, STALE, HIDDEN, UNMEASURED),
    *(NEARLY_FULL, OVERFLOW, LOST, FAULTS, DOWN, MORE, CLOCK),
)
