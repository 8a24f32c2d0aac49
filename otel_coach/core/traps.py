"""Mistakes in the set-up of a service that are known by name: one text for the log and `doctor`.

A `Trap` is a row: what is wrong, why that matters and what mends it. A `Finding` is a row with the
values of one case: one line of the log, or a part of the report of `otel-coach doctor`. The rows
below are those that the log has too; `otel_coach.cli.doctor.traps` adds those that only the doctor
finds, and has the list of all. docs/doctor.md is generated from it.
"""

from __future__ import annotations

import errno
import socket
from enum import Enum
from string import Formatter
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_coach.core.record import record

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class _Template(Formatter):
    """`str.format_map`, with `!q` for a value that is quoted for a shell."""

    def convert_field(self, value: Any, conversion: str | None) -> Any:
        """Returns the value as `conversion` asks for it."""
        if conversion == "q":
            import shlex  # noqa: PLC0415 - a service that has nothing to mend does not need it

            return shlex.quote(str(value))
        return super().convert_field(value, conversion)  # type: ignore[arg-type]


class Severity(Enum):
    """How much a finding matters."""

    ERROR = "error"
    """Something that was asked for does not work."""
    WARNING = "warning"
    """It works, but measures or exports less than it could."""
    NOTE = "note"
    """Worth knowing; nothing has to be mended."""


class Way(Enum):
    """How `otel-coach doctor` is called to find it."""

    ENVIRONMENT = "doctor"
    COMMAND = "doctor -- COMMAND"
    PAGE = "doctor --url"


@record
class Trap:
    """One row. `what` and `cure` are templates of `_Template`."""

    name: str
    """Identifies the row in `doctor --json` and in tests."""
    what: str
    why: str
    cure: str
    """What can be pasted into a shell, where there is such a thing; what follows ` # ` says more.

    Before the ` # `, a value that somebody else may have chosen is quoted: `{name!q}`. After it, it
    need not be: it is part of a comment, which only a line break could end, and names of models
    have none.
    """
    severity: Severity = Severity.ERROR
    way: Way = Way.ENVIRONMENT
    example: str = ""
    """Shown in docs/doctor.md instead of `what`, if `what` is only a placeholder for a line that
    other code produces."""
    example_cure: str = ""
    """Shown there instead of `cure`, if that depends on what is found."""

    def filled(self, values: Mapping[str, object]) -> tuple[str, str]:
        """Returns `what` and `cure` with these values."""
        what, cure = (_Template().vformat(one, (), values) for one in (self.what, self.cure))
        return what, cure

    def found(self, **values: object) -> Finding:
        """Returns the row as it applies here, with these values."""
        return Finding(self, *self.filled(values))


class Finding(NamedTuple):
    """One mistake, as it was found here. As text, it is one line."""

    trap: Trap
    what: str
    cure: str

    def __str__(self) -> str:
        return f"{self.what}. Cure: {self.cure}"


NO_EXPORTER: Final = Trap(
    "no-exporter",
    "{variable}={name!r}: no exporter {component} is installed; {signal} are not exported",
    "OpenTelemetry's exporters are packages of their own; otel-coach installs none that sends.",
    "pip install {package}",
)
COMPONENT: Final = Trap(
    "unknown-component",
    "{variable}={value} cannot be used ({reason}); OpenTelemetry's default is used instead",
    "Traces are sampled, or identified, in another way than was asked for.",
    "export {variable}={default}",
)
PORT: Final = Trap(
    "port-taken",
    "OTEL_EXPORTER_PROMETHEUS_HOST={host} with OTEL_EXPORTER_PROMETHEUS_PORT={port} cannot be used "
    "({reason}); there is no page for Prometheus",
    "The page has a port of its own only if the service can listen there.",
    "{cure}",
    example_cure="export OTEL_EXPORTER_PROMETHEUS_PORT=9465 # any free port; or unset both, to "
    "serve the page inside the application; where the host is no address of this machine: export "
    "OTEL_EXPORTER_PROMETHEUS_HOST=0.0.0.0",
)
MULTIPROCESS_FOLDER: Final = Trap(
    "multiprocess-folder",
    "PROMETHEUS_MULTIPROC_DIR={path} is no folder: the page has otel-coach's figures, but none of "
    "the application's own prometheus_client metrics",
    "prometheus_client's multiprocess mode shares metrics by files in that folder.",
    "mkdir -p {path!q} # before each start, and empty",
)
REDACTOR: Final = Trap(
    "redactor-not-found",
    "OTEL_COACH_CONTENT_REDACTOR={redactor} cannot be imported ({reason}); no content is captured",
    "Without the redactor that was asked for, no prompt and no answer may leave the process.",
    "export OTEL_COACH_CONTENT_REDACTOR=module:function # of a module that the service can import",
)
SHARED_FOLDER: Final = Trap(
    "shared-folder",
    "the workers of this service cannot share their figures: {reason}; each shows its own on "
    "its page",
    "A scrape then gets the figures of the one worker that happens to answer it.",
    "{cure}",
    example_cure="mkdir -m 700 ~/otel-coach && export OTEL_COACH_SHARED_DIR=~/otel-coach # or free "
    "some space there",
)
VENDOR: Final = Trap(
    "vendor-distro",
    "a vendor's distro keeps its place ({names}): its exporters get otel-coach's spans, and it "
    "decides what creates the server spans",
    "opentelemetry-instrument uses one distro and one configurator; otel-coach's give way to a "
    "vendor's.",
    "export OTEL_PYTHON_DISTRO=otel_coach OTEL_PYTHON_CONFIGURATOR=otel_coach # to choose "
    "otel-coach's own",
    Severity.NOTE,
)
CONFIG_FILE: Final = Trap(
    "configuration-file",
    "OTEL_CONFIG_FILE={path!r} cannot be used ({reason}; opentelemetry.configuration may have "
    "logged why); the other OTEL_* variables configure what it has not built",
    "The providers that the file describes are missing, or some of them.",
    "unset OTEL_CONFIG_FILE # or correct the file: opentelemetry.io/docs/specs/otel/configuration",
)
CONFIG_DISABLES: Final = Trap(
    "disabled-by-file",
    "OTEL_CONFIG_FILE={path!r} contains `disabled: true`: nothing is measured",
    "The file switches off the SDK, and otel-coach with it.",
    "sed -i '/^disabled:/d' {path!q} # or: unset OTEL_CONFIG_FILE",
)
CONFIG_PROVIDERS: Final = Trap(
    "configuration-file-providers",
    "OTEL_CONFIG_FILE={path!r}: the global providers are the file's, or were set before it was "
    "read; their processors export otel-coach's spans, and its metrics are on its page only",
    "otel-coach does not redact the spans of other instrumentations then, and the variables that "
    "choose exporters are not read, except that OTEL_METRICS_EXPORTER=none removes the page.",
    "unset OTEL_CONFIG_FILE # and set OTEL_* variables, for all that otel-coach does",
    Severity.NOTE,
)
CONFIG_PACKAGE: Final = Trap(
    "configuration-package",
    "OTEL_CONFIG_FILE={path!r} is not read: opentelemetry-configuration is not installed; the "
    "other OTEL_* variables count",
    "The providers that the file describes are not built.",
    "pip install 'opentelemetry-sdk[file-configuration]'",
)
OWN_PAGE: Final = Trap(
    "own-page-not-prometheus",
    "the application's own {path} cannot be combined with otel-coach's ({reason}) and is left "
    "unchanged",
    "otel-coach adds its families only to an answer in a Prometheus format.",
    "export OTEL_COACH_METRICS_PATH=/internal/metrics # another path for otel-coach's families",
    Severity.ERROR,
    Way.COMMAND,
)
STOPPED_ENDPOINT: Final = Trap(
    "stopped-endpoint-unknown",
    "OTEL_COACH_STOP_ABANDONED lists {endpoint!r}, but no route that is known so far has that "
    "template{hint}",
    "Only routes with a listed template are stopped: unless one is added later, or by another "
    "application of this process, this entry has no effect.",
    "export OTEL_COACH_STOP_ABANDONED={corrected!q} # routes' templates, as in the label endpoint",
    Severity.ERROR,
    Way.COMMAND,
)

NO_USAGE: Final = Trap(
    "stream-without-usage",
    "{calls} of {model} without usage, or a part of it: tokens and cost are not, or not all, on "
    "the page (no_usage)",
    "agent_llm_tokens_total and agent_llm_cost_usd_total are too low.",
    "ChatOpenAI(stream_usage=True) # for streams that are read to their end (in calls by the "
    'openai package, stream_options={{"include_usage": True}}): one that was left, or that broke, '
    "has told no usage yet; a model that reports no tokens, such as a fake one, has none that "
    "could be counted",
    Severity.WARNING,
    Way.PAGE,
)
NO_PRICE: Final = Trap(
    "model-without-price",
    "{calls} of {model} without a price: the cost is not on the page (no_price)",
    "agent_llm_cost_usd_total is too low.",
    "otel-coach prices {label!q} # shows what is known; what helps is a price of your own in the "
    'file of OTEL_COACH_PRICES ({{"{label}": {{"input_mtok": 1.0, "output_mtok": 2.0}}}}), '
    "OTEL_COACH_GATEWAYS if a gateway of your own was asked, or a newer price list",
    Severity.WARNING,
    Way.PAGE,
    example_cure="otel-coach prices MODEL # shows what is known; what helps is a price of your own "
    'in the file of OTEL_COACH_PRICES ({"MODEL": {"input_mtok": 1.0, "output_mtok": 2.0}}), '
    "OTEL_COACH_GATEWAYS if a gateway of your own was asked, or a newer price list",
)
EXTRA_FEE: Final = Trap(
    "extra-fee",
    "{calls} of {model} billed for something{details} that the price does not cover, or whose "
    "count the answer does not tell; so the cost on the page is too low (extra_fee)",
    "agent_llm_cost_usd_total is too low.",
    "pip install --upgrade otel-coach # a newer price list may have it; `otel-coach reconcile` "
    "compares the page with the bill",
    Severity.WARNING,
    Way.PAGE,
)

_INSIDE: Final = "; or unset both, to serve the page inside the application"


def cure_of_port(error: Exception | None = None) -> str:
    """Returns the cure for a host and port of the page's own whose use raised `error`."""
    is_host = isinstance(error, (socket.gaierror, UnicodeError)) or (
        isinstance(error, OSError) and error.errno == errno.EADDRNOTAVAIL
    )
    if is_host:
        return (
            "export OTEL_EXPORTER_PROMETHEUS_HOST=0.0.0.0 # all addresses of this machine, or "
            f"localhost{_INSIDE}"
        )
    return f"export OTEL_EXPORTER_PROMETHEUS_PORT=9465 # any free port{_INSIDE}"


LATE_VARIABLES: Final = Trap(
    "variable-too-late",
    "{names}: set only after otel-coach had started, and so without effect",
    "`uvicorn --env-file`, `gunicorn --env` and load_dotenv() in the application set variables "
    "after opentelemetry-instrument has read them.",
    "set -a; . {file!q}; set +a # in the shell, before the command; or: env $(cat {file!q}) "
    "COMMAND",
    Severity.ERROR,
    Way.COMMAND,
)
UNUSED_SETTINGS: Final = Trap(
    "settings-unused",
    "otel_coach.instrument(settings=...) comes after otel-coach has started; without effect: "
    "{fields}",
    "Only the settings of the first start count; opentelemetry-instrument and `otel-coach run` "
    "take them from the environment.",
    "export {variables} # set these variables instead; or pass these settings to the first start: "
    "the first call of otel_coach.instrument(), without opentelemetry-instrument",
    Severity.WARNING,
    Way.COMMAND,
    example_cure="export OTEL_COACH_METRICS_TOKEN=... # set these variables instead; or pass these "
    "settings to the first start: the first call of otel_coach.instrument(), without "
    "opentelemetry-instrument",
)

LOGGED: Final = (
    *(
        NO_EXPORTER,
        COMPONENT,
        PORT,
        MULTIPROCESS_FOLDER,
        REDACTOR,
        SHARED_FOLDER,
        VENDOR,
        CONFIG_PACKAGE,
    ),
    *(CONFIG_FILE, CONFIG_PROVIDERS, CONFIG_DISABLES, OWN_PAGE, STOPPED_ENDPOINT),
    *(LATE_VARIABLES, UNUSED_SETTINGS),
    *(NO_USAGE, NO_PRICE, EXTRA_FEE),
)
"""The rows that the log has too."""
