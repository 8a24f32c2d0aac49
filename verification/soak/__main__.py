"""Checks that no counter falls, and that all are right at the end, whatever happens to workers.

For each server in turn, users send requests and a scraper reads the page ten times a second. At
times drawn from a seed, workers are killed, terminated, stopped and reloaded; they also end by
themselves after some requests.

`make soak SOAK='--part clocks --minutes 1'` runs one fault scenario of verification/soak/parts
instead, `--part all` runs all of them.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import httpx
import psutil

from verification.soak.clients import LEFT, PROMTOOL, Scraper, Users
from verification.soak.parts import Outcome, clocks, disk, holder, kills, memory, shutdown
from verification.soak.rest import differences_at_rest, rest
from verification.soak.servers import KILL, RELOAD, SERVERS, TERM, WORKERS, Running, Server, running

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_ACCIDENT_INTERVAL: Final = 1.5
_STOPPED_FOR: Final = 2.0
_MAX_LOSS: Final = 1.0
"""Seconds of a worker's counts that a SIGKILL may lose."""
_REST: Final = 1.5
_ENOUGH_ANSWERS: Final = 60
"""Fewer would prove nothing; on a slow machine, up to ten times as long is waited for them."""
_GROUP_AND_OTHERS: Final = 0o077
_MAX_SHOWN: Final = 20
PARTS: Final[Mapping[str, Callable[[float, int], Outcome]]] = {
    "kills": kills.run,
    "disk": disk.run,
    "memory": memory.run,
    "shutdown": shutdown.run,
    "clocks": clocks.run,
    "holder": holder.run,
}
"""The fault scenarios by name: each is called with a number of seconds and a seed."""
_HTTP: Final = "http_server_request_duration_seconds_count"
_STOPPED: Final = "app_ai_stopped_runs_total"


@dataclass
class Report:
    """The results for one server."""

    problems: list[str] = field(default_factory=list[str])
    answered: int = 0
    left: int = 0
    """The streams that users left."""
    scrapes: int = 0
    accidents: dict[str, int] = field(default_factory=dict[str, int])
    lost_at_most: int = 0
    lost: int = 0


def soak(
    server: Server,
    seconds: float,
    seed: int,
    *,
    accidents: frozenset[str] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Runs `server` for `seconds` and lets `accidents`, by default all of its own, happen to it.

    Runs longer on a machine so slow that almost nothing has been answered by then.
    """
    chance = random.Random(seed)  # noqa: S311 - a plan, no secret
    kinds = sorted(server.accidents if accidents is None else server.accidents & accidents)
    options = server.recycles if accidents is None or accidents else ()
    with running(server, *options) as service:
        service.wait()
        users, scraper = Users(service.url, leave=server.stops), Scraper(service.url)
        report = Report(accidents=dict.fromkeys(kinds, 0))
        with scraper.reading():
            with users.asking():
                deadline = time.monotonic() + seconds
                latest = deadline + 9 * seconds
                while time.monotonic() < deadline or (
                    users.answers() < _ENOUGH_ANSWERS and time.monotonic() < latest
                ):
                    time.sleep(_ACCIDENT_INTERVAL)
                    if kinds:
                        _cause(service, chance.choice(kinds), chance, users, report)
                    say(
                        f"{server.name}: {users.answers()} answers, "
                        f"{scraper.scrapes} scrapes, {len(scraper.fallen)} falls, "
                        f"{max(0.0, deadline - time.monotonic()):.0f} s to go"
                    )
            time.sleep(_REST)
        for _ in range(2 * WORKERS):  # whichever worker answers, the page is the same
            _last_read(scraper)
        if service.program.process.poll() is None:
            report.problems += [
                f"{server.name}: at rest: {line}" for line in differences_at_rest(service)
            ]
        report.problems += [f"{server.name}: fell: {line}" for line in scraper.fallen]
        report.answered, report.scrapes = users.answers(), scraper.scrapes
        report.left = users.left
        _compare(server, users, scraper, report)
        if service.program.process.poll() is None:
            report.problems += [f"{server.name}: {line}" for line in scraper.complaints()]
        else:
            last = service.program.last_lines()
            report.problems.append(f"{server.name}: ended by itself. Its log ends:\n{last}")
        report.problems += [
            f"{server.name}: others can read {path}"
            for path in service.shared.rglob("*")
            if path.stat().st_mode & _GROUP_AND_OTHERS
        ]
        service.flush()
        service.program.stop()
        if service.program.was_killed:
            report.problems.append(f"{server.name}: did not end after SIGTERM, and was killed")
        if left := [f"{server.name}: left behind: {path}" for path in service.shared.rglob("*")]:
            report.problems += [*left, f"Its log ends:\n{service.program.last_lines(60)}"]
    return report


def _cause(
    service: Running, accident: str, chance: random.Random, users: Users, report: Report
) -> None:
    workers = service.workers()
    if accident in {KILL, TERM}:
        workers = [worker for worker in workers if service.can_die(worker)]
    if not workers:
        return
    victim = chance.choice(workers)
    report.accidents[accident] += 1
    try:
        if accident == RELOAD:
            service.reload()
        elif accident == TERM:
            victim.terminate()
        elif accident == KILL:
            since = time.monotonic() - _MAX_LOSS
            victim.kill()
            time.sleep(_MAX_LOSS)  # by then, the users have noted answers that were on their way
            report.lost_at_most += users.answered_by(victim.pid, since)
        else:
            victim.suspend()
            time.sleep(_STOPPED_FOR)
            victim.resume()
    except psutil.Error:
        pass  # the worker has ended by itself


def _last_read(scraper: Scraper) -> None:
    for _ in range(20):
        try:
            scraper.read()
        except httpx.HTTPError:
            time.sleep(0.2)
        else:
            return


def _compare(server: Server, users: Users, scraper: Scraper, report: Report) -> None:
    found: dict[tuple[str, int], float] = {}
    for (name, labels), value in scraper.last.items():
        if name == _HTTP:
            by_name = dict(labels)
            found[by_name["endpoint"], int(by_name["status"])] = value
    for (endpoint, status), answered in sorted(users.answered.items()):
        count = found.get((endpoint, status), 0)
        report.lost += max(0, answered - int(count))
        if count > answered + users.broken[endpoint]:
            report.problems.append(f"{server.name}: {endpoint} {status}: {count:g} of {answered}")
    stopped = sum(value for (name, _), value in scraper.last.items() if name == _STOPPED)
    report.lost += max(0, users.left - int(stopped))
    if stopped > users.left + users.broken[LEFT]:
        report.problems.append(f"{server.name}: {stopped:g} runs stopped, {users.left} left")
    if report.lost > report.lost_at_most:
        report.problems.append(
            f"{server.name}: {report.lost} answers are not counted; kills may lose "
            f"{report.lost_at_most}"
        )


def _rest(servers: list[str], rounds: int) -> int:
    problems = [
        line
        for name in servers
        for line in rest(
            SERVERS[name], rounds, say=lambda line: print(f"\r{line:<90}", end="", flush=True)
        )
    ]
    print(f"\n{len(problems)} differences", *problems, sep="\n")
    return 1 if problems else 0


def _parts(names: list[str], seconds: float, seed: int) -> int:
    problems: list[str] = []
    for name in [*PARTS] if "all" in names else names:
        try:
            outcome = PARTS[name](seconds, seed)
        except (OSError, RuntimeError, httpx.HTTPError) as error:  # go on with the other parts
            outcome = Outcome(problems=[f"it did not come to its end: {error}"])
        figures = ", ".join(f"{what}: {figure:g}" for what, figure in outcome.figures.items())
        print(f"{name}: {figures}; {len(outcome.problems)} problems", flush=True)
        found = [f"{name}: {problem}" for problem in outcome.problems]
        print(*found[:_MAX_SHOWN], sep="\n", end="\n" if found else "")
        problems += found
    return 1 if problems else 0


def main() -> int:
    """Returns the exit code: 0, or 1 if a counter fell, a count is wrong or a file is left."""
    parser = argparse.ArgumentParser(prog="python -m verification.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20, help="for all servers together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at-rest", type=int, metavar="N", help="compare pages at rest, N times")
    parser.add_argument("--server", choices=[*SERVERS], action="append", help="only these")
    parser.add_argument("--stop", action="store_true", help="users leave, and work is stopped")
    parser.add_argument("--part", choices=[*PARTS, "all"], action="append", help="a scenario")
    arguments = parser.parse_args()
    if arguments.part:
        each = len(PARTS) if "all" in arguments.part else len(arguments.part)
        return _parts(arguments.part, arguments.minutes * 60 / each, arguments.seed)
    if arguments.at_rest:
        return _rest(arguments.server or ["uvicorn"], arguments.at_rest)
    chosen = arguments.server or [*SERVERS]
    seconds = arguments.minutes * 60 / len(chosen)
    if PROMTOOL is None:
        print("promtool is not on the PATH: the pages are checked by prometheus_client alone")
    print(f"seed {arguments.seed}, {seconds:.0f} s for each of {', '.join(chosen)}", flush=True)
    problems: list[str] = []
    for name in chosen:
        report = soak(
            replace(SERVERS[name], stops=arguments.stop),
            seconds,
            arguments.seed,
            say=lambda line: print(f"\r{line:<90}", end="", flush=True),
        )
        done = ", ".join(f"{count} x {kind}" for kind, count in report.accidents.items())
        print(
            f"\r{name}: {report.answered} answers, {report.left} streams left, "
            f"{report.scrapes} scrapes, {done}; "
            f"{report.lost} lost of {report.lost_at_most} that kills may lose, "
            f"{len(report.problems)} problems"
        )
        print(*report.problems, sep="\n", end="\n" if report.problems else "")
        problems += report.problems
    print(f"{len(problems)} problems in all", *problems, sep="\n")  # a log may keep its end only
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
