"""Start the real programs, send known requests, and query the back ends."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from tests.support.programs import ProgramError
from tests.support.users import Users
from verification.end_to_end import abandoned, checks, gateways, invoice
from verification.end_to_end.backends import Ports, Programs
from verification.end_to_end.report import Report
from verification.end_to_end.stack import whole_stack
from verification.end_to_end.tools import ToolError

_CONFIGURATION = "https://github.com/otel-coach/otel-coach/blob/main/collector-config.yaml"
_HEAD = f"""# End to end

Printed by `make e2e`, which starts the reference service with 4 workers, a Collector with
[collector-config.yaml]({_CONFIGURATION}), Jaeger, Prometheus with the rules in `deploy`,
and PostgreSQL, sends known requests, and then asks Prometheus' and Jaeger's query APIs.
`make e2e E2E="--write docs/e2e.md"` writes this page from such a run.

"""


def main() -> int:
    """Returns the exit code: 0, 1 if a back end answers wrongly, 2 if a program did not start."""
    parser = argparse.ArgumentParser(prog="python -m verification.end_to_end", description=__doc__)
    parser.add_argument("--write", type=Path, help="also write the report to this file")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(highlight=False, width=150)
    report = Report(console)
    try:
        with TemporaryDirectory(prefix="otel-coach-e2e-") as folder:
            _run(report, Path(folder))
    except (ProgramError, ToolError) as error:
        console.print(str(error), style="red", markup=False)
        return 2
    except KeyboardInterrupt:
        return 130
    if arguments.write is not None:
        arguments.write.write_text(_HEAD + report.markdown())
    for finding in report.wrong:
        console.print(
            f"{finding.question}: {finding.found} instead of {finding.expected}",
            style="red",
            markup=False,
        )
    findings = sum(map(len, report.chapters.values()))
    console.print(f"{findings} questions asked, {len(report.wrong)} answered wrongly")
    return 1 if report.wrong else 0


def _run(report: Report, folder: Path) -> None:
    variables = {"COACH_CHAT_LEGACY_LIMIT": "8/minute", **abandoned.STOPPED}
    with whole_stack(folder, Ports.free(), seconds=1, **variables) as stack:
        users = Users(stack.service)
        checks.configurations(report, folder)
        checks.counts(report, stack, users)
        checks.formats(report, stack)
        checks.traces(report, stack, users)
        checks.exemplars(report, stack, users)
        invoice.check(report, stack, users, folder)
        checks.collector_killed(report, stack, users)
        checks.database_killed(report, stack, users)
        abandoned.check(report, stack, users)  # the rate limit of its chat is over by now
        checks.queries(report, stack.prometheus)
        users.close()
    with Programs(folder / "gateways") as programs:
        gateways.check(report, gateways.Tier(programs))


if __name__ == "__main__":
    sys.exit(main())
