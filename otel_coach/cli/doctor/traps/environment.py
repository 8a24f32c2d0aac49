"""Mistakes in the environment of the service, and in what it depends on."""

from __future__ import annotations

from typing import Final

from otel_coach.core.traps import Severity, Trap

DISABLED: Final = Trap(
    "disabled",
    "otel-coach is disabled by {variables}: nothing is measured",
    "With OTEL_COACH_DISABLED or OTEL_SDK_DISABLED, the application runs without otel-coach.",
    "unset {variables}",
)
MISSPELT: Final = Trap(
    "misspelt-variable",
    "{line}",
    "A variable with another name is not read.",
    "{cure}",
    example="OTEL_COACH_METRIC_PATH is ignored, as it is not a variable of otel-coach; perhaps "
    "OTEL_COACH_METRICS_PATH is meant",
    example_cure='export OTEL_COACH_METRICS_PATH="$OTEL_COACH_METRIC_PATH"; unset '
    "OTEL_COACH_METRIC_PATH",
)
INVALID_VALUE: Final = Trap(
    "invalid-value",
    "{line}",
    "The setting is not what was asked for.",
    "unset {variable} # or give it one of its values: docs/configuration.md",
    example="OTEL_COACH_BUDGET_MODEL='many' is not a whole number from 1 to 100000; the default "
    "is used",
)
QUOTED: Final = Trap(
    "quoted-value",
    "the value of {variable} is in quotes, which are a part of it",
    "A shell takes them away; `docker run --env-file` does not.",
    "export {variable}={correct!q} # in a file for docker: the same without quotes",
)
TOKEN_WITH_SCHEME: Final = Trap(
    "token-with-scheme",
    "OTEL_COACH_METRICS_TOKEN begins with `Bearer`, which is no part of a token",
    "A scraper sends `Authorization: Bearer TOKEN`, and gets 401.",
    "export OTEL_COACH_METRICS_TOKEN=TOKEN # the token alone",
)
WITHOUT_EFFECT: Final = Trap(
    "no-effect",
    "{line}",
    "Here the variable does not do what OpenTelemetry documents.",
    "unset {variable}",
    Severity.NOTE,
    example="OTEL_LOG_LEVEL has no effect: the OpenTelemetry SDK for Python does not read it",
)
LOGGED_AT_START: Final = Trap(
    "logged-at-start",
    "{line}",
    "The service logs it when it starts: something is not as its variables ask for.",
    "{cure}",
    Severity.WARNING,
    example="Unable to parse value for OTEL_BSP_SCHEDULE_DELAY as integer. Defaulting to 5000.",
    example_cure="unset OTEL_BSP_SCHEDULE_DELAY # or correct it",
)
PROPAGATORS: Final = Trap(
    "propagator-unknown",
    "OTEL_PROPAGATORS={value}: {reason}; the service does not start",
    "OpenTelemetry's API reads the variable when it is imported, and raises an error.",
    "export OTEL_PROPAGATORS=tracecontext,baggage # or install what the value needs, such as: "
    "pip install opentelemetry-propagator-b3",
)
DISTRO: Final = Trap(
    "distro-unknown",
    "{variable}={value}: no installed package has that in its entry points {group}",
    "opentelemetry-instrument loads OpenTelemetry's default, or nothing, instead.",
    "unset {variable}",
)
SEVERAL_DISTROS: Final = Trap(
    "several-distros",
    "{count} vendors' distros or configurators are installed: {names}",
    "opentelemetry-instrument uses the first that it finds, in no promised order.",
    "export OTEL_PYTHON_DISTRO={first} OTEL_PYTHON_CONFIGURATOR={first} # or uninstall the others",
    Severity.WARNING,
)
INSTRUMENTOR_DISABLED: Final = Trap(
    "instrumentor-disabled",
    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS disables {name}: {lost}",
    "What that instrumentor measures is not on the page.",
    "{cure}",
    Severity.WARNING,
    example_cure="unset OTEL_PYTHON_DISABLED_INSTRUMENTATIONS",
)
NO_PAGE: Final = Trap(
    "no-page",
    "OTEL_METRICS_EXPORTER={value}: no metrics leave this service",
    "Prometheus finds no page, and nothing is pushed.",
    "unset OTEL_METRICS_EXPORTER",
    Severity.WARNING,
)
SAMPLED_OUT: Final = Trap(
    "sampled-out",
    "OTEL_TRACES_SAMPLER={sampler}{argument}: no span is exported{exception}",
    "The page is complete; only traces are missing.",
    "export OTEL_TRACES_SAMPLER=parentbased_always_on",
    Severity.WARNING,
    example="OTEL_TRACES_SAMPLER=always_off: no span is exported",
)
NO_SERVICE_NAME: Final = Trap(
    "no-service-name",
    "the service has no name: its telemetry is exported as {name}",
    "Back ends tell services apart by service.name.",
    "export OTEL_SERVICE_NAME=my-service",
    Severity.WARNING,
)
PRICES_FILE: Final = Trap(
    "price-file",
    "{line}",
    "Calls are priced by the built-in list alone, or have no price.",
    'unset OTEL_COACH_PRICES # or correct the file, such as: {{"my-model": {{"input_mtok": 1.0, '
    '"output_mtok": 2.0}}}}',
    example="OTEL_COACH_PRICES=prices.json cannot be used (Expecting value: line 1 column 1)",
)
PRICES_OLD: Final = Trap(
    "price-list-old",
    "the price list in use is {days} days old: {origin}",
    "Providers change their prices; models that came later have none.",
    "pip install --upgrade genai-prices && otel-coach prices --update prices.tsv && export "
    "OTEL_COACH_PRICES=$PWD/prices.tsv # or: pip install --upgrade otel-coach",
    Severity.NOTE,
)
PRICES_UNREADABLE: Final = Trap(
    "price-list-unreadable",
    "{reason}",
    "Calls without a price of your own are counted as no_price.",
    "pip install --force-reinstall otel-coach",
    example="the price list 'prices.tsv' was written for another version of otel-coach",
)
GATEWAY: Final = Trap(
    "gateway-provider-unknown",
    "OTEL_COACH_GATEWAYS: {host}={name}: the price list has no provider {name}{hint}",
    "Calls through that gateway have no price (no_price).",
    "export OTEL_COACH_GATEWAYS={entry!q} # beside the other entries; there are {known}",
    example="OTEL_COACH_GATEWAYS: llm.example.com=opneai: the price list has no provider opneai; "
    "perhaps openai is meant",
    example_cure="export OTEL_COACH_GATEWAYS=llm.example.com=openai # beside the other entries",
)
MALFORMED_DEPENDENCY: Final = Trap(
    "dependency-malformed",
    "{line}",
    "That dependency is not probed; the others are.",
    "export OTEL_COACH_DEPENDENCIES=cache=redis://HOST:6379,api=https://HOST/health # each entry "
    "is name=scheme://host:port",
    example="OTEL_COACH_DEPENDENCIES: the address of cache is not an address such as "
    "redis://host:6379; left out",
)
DEPENDENCY_ADDRESS: Final = Trap(
    "dependency-unsupported",
    "OTEL_COACH_DEPENDENCIES: {name} {reason}",
    "That dependency is not probed; dependency_up lacks it.",
    "export OTEL_COACH_DEPENDENCIES={name!q}=tcp://HOST:PORT # beside the other entries: it tells "
    "whether something accepts connections there",
    example="OTEL_COACH_DEPENDENCIES: db has the unknown scheme 'mysql'; use one of "
    "postgresql://, redis://, http://, https://, tcp://",
)
DEPENDENCY_DOWN: Final = Trap(
    "dependency-down",
    "dependency {name} does not answer: {reason}",
    "From here, the service cannot use it either; dependency_up is 0.",
    "{cure}",
    example="dependency cache does not answer: connection refused (or: DNS, the server's own words "
    "about a password, TLS, an HTTP status, no answer in time)",
    example_cure="nc -vz HOST PORT # start it, or correct host and port",
)
NO_PSYCOPG: Final = Trap(
    "dependency-without-driver",
    "dependency {name} is PostgreSQL, and psycopg is not installed: only its greeting is checked",
    "A wrong password or a database that is not there goes unnoticed.",
    "pip install 'psycopg[binary]'",
    Severity.NOTE,
)
ASSUMPTION: Final = Trap(
    "library-changed",
    "{name}: this does not hold for the installed version, so {lost}",
    "otel-coach relies on a part of that library that is not public (core/compatibility.py).",
    "pip install --upgrade otel-coach",
    Severity.WARNING,
)
LOOK_FAILED: Final = Trap(
    "look-failed",
    "the doctor could not look at {subject} ({reason})",
    "What it would have found there is not in this report.",
    "pip install --upgrade otel-coach # if that does not help, please report this: "
    "https://github.com/otel-coach/otel-coach/issues",
    Severity.WARNING,
)

ROWS: Final = (
    *(
        DISABLED,
        MISSPELT,
        INVALID_VALUE,
        QUOTED,
        TOKEN_WITH_SCHEME,
        WITHOUT_EFFECT,
        SEVERAL_DISTROS,
        INSTRUMENTOR_DISABLED,
    ),
    *(LOGGED_AT_START, PROPAGATORS, DISTRO, NO_PAGE, SAMPLED_OUT, NO_SERVICE_NAME),
    *(PRICES_FILE, PRICES_OLD, PRICES_UNREADABLE, GATEWAY),
    *(MALFORMED_DEPENDENCY, DEPENDENCY_ADDRESS, DEPENDENCY_DOWN, NO_PSYCOPG, ASSUMPTION),
    LOOK_FAILED,
)
