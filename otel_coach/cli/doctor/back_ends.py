"""The OTLP back ends: the address of each, and whether it accepts an export."""

from __future__ import annotations

import re
import ssl
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_coach.cli.doctor import otlp_grpc, otlp_http
from otel_coach.cli.doctor.examined import Fact
from otel_coach.cli.doctor.otlp_outcome import ExportFailure, Outcome
from otel_coach.cli.doctor.otlp_targets import exporters_by_signal, targets
from otel_coach.cli.doctor.traps import back_ends as traps
from otel_coach.cli.doctor.variables import quoted_value, unquoted, without_secrets
from otel_coach.cli.terminal import reason_of, within
from otel_coach.configuration.otlp_endpoints import GRPC, GRPC_PORT, HTTP_PORT, variable_of
from otel_coach.core.plugins import exporter_component, has_exporter, package_of
from otel_coach.core.traps import NO_EXPORTER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_coach.cli.doctor.examined import Examined
    from otel_coach.cli.doctor.otlp_targets import Target
    from otel_coach.core.traps import Finding

_MAX_SECONDS: Final = 8.0
"""Seconds for one export."""
_OF_GRPC: Final = re.compile(r"(?:unix|unix-abstract|dns|ipv4|ipv6|vsock|xds):")
"""Schemes of gRPC's names; see its documentation of name resolution."""
_NO_PEM: Final = "it has no certificate or key in PEM format"
_PATH: Final = re.compile(r"/v1/(?:traces|metrics|logs)/?$")
_TRAPS: Final = {
    ExportFailure.NO_TLS: traps.TLS_TO_PLAIN,
    ExportFailure.TLS: traps.PLAIN_TO_TLS,
    ExportFailure.CERTIFICATE: traps.CERTIFICATE,
    ExportFailure.CREDENTIALS: traps.CREDENTIALS,
    ExportFailure.PROTOCOL: traps.WRONG_PROTOCOL,
    ExportFailure.UNREACHABLE: traps.UNREACHABLE,
    ExportFailure.PROXY: traps.PROXY,
    ExportFailure.REFUSED: traps.REFUSED,
}
_NOT_CONNECTED: Final = (ExportFailure.UNREACHABLE, ExportFailure.PROXY)


def look(examined: Examined) -> Iterator[Finding | Fact]:
    """Yields what is wrong on the way to the back ends; sends an empty export to each."""
    if not examined.configures_by_file:
        yield from _of_variables(examined)


def _of_variables(examined: Examined) -> Iterator[Finding | Fact]:
    yield from _missing(examined)
    all_targets = [*targets(examined)]
    yield from dict.fromkeys(_bad_headers(all_targets))
    outcomes: dict[tuple[str, str, str], Outcome] = {}
    alike: dict[tuple[str, str, Outcome], list[Target]] = defaultdict(list)
    reported = set[str]()
    for target in all_targets:
        if target.variable in reported:
            continue
        if unquoted(examined, target.variable) is not None:
            reported.add(target.variable)
            yield quoted_value(examined, target.variable)
            continue
        has_other = "://" in target.endpoint and not _OF_GRPC.match(target.endpoint)
        if not target.has_scheme and (target.protocol != GRPC or has_other):
            reported.add(target.variable)
            yield traps.SCHEME.found(
                variable=target.variable,
                endpoint=without_secrets(target.endpoint),
                correct=f"http://{without_secrets(target.endpoint.rpartition('://')[2])}",
            )
            continue
        if target.is_base and (path := _PATH.search(target.endpoint)) is not None:
            reported.add(target.variable)
            yield traps.PATH_TWICE.found(
                variable=target.variable,
                endpoint=without_secrets(target.endpoint),
                signal=target.signal,
                url=without_secrets(target.url),
                correct=without_secrets(target.endpoint[: path.start()]),
            )
            continue
        if target.uses_tls and (unusable := _unusable_file(examined, target)) is not None:
            reported.add(target.variable)
            yield unusable
            continue
        key = (target.protocol, target.endpoint, str(target.headers))
        outcome = outcomes.get(key)
        if outcome is None or outcome.failure not in _NOT_CONNECTED:
            outcome = outcomes[key] = _sent(target)
        alike[target.variable, target.protocol, outcome].append(target)
    for (_, _, outcome), group in alike.items():
        signals = " and ".join(target.signal for target in group)
        if outcome.failure is None:
            yield Fact(f"{signals}: {without_secrets(group[0].url)} accepts an empty export")
        else:
            yield _finding(group[0], outcome, signals)


def _missing(examined: Examined) -> Iterator[Finding]:
    for signal, names, protocol in exporters_by_signal(examined.settings):
        for name in names:
            component = exporter_component(name, protocol)
            if name != "prometheus" and not has_exporter(signal, component):
                yield NO_EXPORTER.found(
                    variable=f"OTEL_{signal.upper()}_EXPORTER",
                    name=name,
                    component=component,
                    signal=signal,
                    package=package_of(component),
                )


def _unusable_file(examined: Examined, target: Target) -> Finding | None:
    """Returns what is wrong with the first file for TLS that cannot be used."""
    for part, path in target.files.items():
        try:
            Path(path).read_bytes()
        except (OSError, ValueError) as error:
            variable = variable_of(target.signal, part, examined.variables)
            return traps.CERTIFICATE_FILE.found(
                variable=variable, path=path, reason=reason_of(error)
            )
    client = {part: path for part, path in target.files.items() if part != "CERTIFICATE"}
    server = {part: path for part, path in target.files.items() if part == "CERTIFICATE"}
    for files in filter(None, (server, client)):
        try:
            otlp_http.tls_context(files)
        except (OSError, ValueError) as error:
            part, path = next(iter(files.items()))
            variable = variable_of(target.signal, part, examined.variables)
            reason = _NO_PEM if isinstance(error, ssl.SSLError) else reason_of(error)
            return traps.CERTIFICATE_FILE.found(variable=variable, path=path, reason=reason)
    return None


def _bad_headers(all_targets: list[Target]) -> Iterator[Finding]:
    for target in all_targets:
        for position in target.bad_headers:
            yield traps.HEADERS.found(variable=target.headers_variable, position=position)


def _sent(target: Target) -> Outcome:
    send = otlp_grpc.send if target.protocol == GRPC else otlp_http.send
    try:
        return within(_MAX_SECONDS, lambda: send(target))
    except TimeoutError:
        return Outcome(ExportFailure.UNREACHABLE, f"no complete answer within {_MAX_SECONDS:g} s")
    except Exception as error:  # noqa: BLE001 - what answers may make a parser raise anything
        return Outcome(ExportFailure.PROTOCOL, type(error).__name__)


def _finding(target: Target, outcome: Outcome, signals: str) -> Finding:
    trap = _TRAPS[outcome.failure or ExportFailure.REFUSED]
    correct = without_secrets(target.endpoint)
    is_grpc = target.protocol == GRPC
    if outcome.failure in {ExportFailure.PROTOCOL, ExportFailure.UNREACHABLE, ExportFailure.NO_TLS}:
        if target.port == GRPC_PORT and not is_grpc:
            trap, correct = traps.GRPC_PORT, target.with_port(HTTP_PORT)
        elif target.port == HTTP_PORT and is_grpc:
            trap, correct = traps.HTTP_PORT, target.with_port(GRPC_PORT)
    if trap is traps.UNREACHABLE:
        port = GRPC_PORT if is_grpc else HTTP_PORT
        correct = f"http://COLLECTOR:{port}{target.path_for(is_grpc=is_grpc)}"
    elif trap is traps.TLS_TO_PLAIN:
        correct = re.sub("^(?:https://)?", "http://", correct)
    elif trap is traps.PLAIN_TO_TLS:
        correct = re.sub("^http://", "https://", correct)
    elif trap is traps.REFUSED and not (is_grpc or target.is_base or target.parts.path.strip("/")):
        trap, correct = traps.PATH_MISSING, f"{correct.rstrip('/')}/v1/{target.signal}"
    return trap.found(
        variable=target.variable,
        endpoint=without_secrets(target.endpoint),
        url=without_secrets(target.url),
        host=target.host,
        signals=signals,
        reason=outcome.reason,
        correct=correct,
        protocol=target.protocol,
        other="http/protobuf" if is_grpc else GRPC,
    )
