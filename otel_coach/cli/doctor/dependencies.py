"""Probes each dependency once, as the service does, and says why one does not answer.

The log names the class of an exception only, because its message may contain a password. The
doctor's output, which is for the operator's own terminal, has the reason. It has no password,
either: of a message, it has only parts that are known not to repeat the address. PostgreSQL's own
words are shown without the password and the parameters of the address.
"""

from __future__ import annotations

import re
import shlex
import socket
import ssl
from contextlib import suppress
from enum import Enum
from time import perf_counter
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from otel_coach.cli.doctor.examined import Fact
from otel_coach.cli.doctor.traps.environment import (
    DEPENDENCY_ADDRESS,
    DEPENDENCY_DOWN,
    NO_PSYCOPG,
)
from otel_coach.cli.terminal import within
from otel_coach.core.installed import is_installed
from otel_coach.instrumentors.dependencies.probes import (
    PORTS,
    Unexpected,
    UnexpectedAnswerError,
    UnknownAddressError,
    probe_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otel_coach.cli.doctor.examined import Examined
    from otel_coach.core.traps import Finding

_POSTGRESQL: Final = re.compile(r"postgres(?:ql)?(?:\+[\w.-]+)?://", re.IGNORECASE)


class Cure(Enum):
    """What to do, by what is wrong; `where` is host and port."""

    HOST = "getent hosts {host} # correct the host's name"
    LOGIN = (
        "export OTEL_COACH_DEPENDENCIES={name}=SCHEME://USER:PASSWORD@{where} # correct user and "
        "password, there or in the variable that has its address"
    )
    TLS = "openssl s_client -connect {where} # correct its certificate, or the scheme and port"
    ERROR = "nc -vz {host} {port} # it answers; check its log, or search for that error"
    PROTOCOL = "nc -vz {host} {port} # correct host and port, or the scheme"
    STATUS = "curl -i {scheme}://{where} # and its path; look into its log"
    REFUSED = "nc -vz {host} {port} # start it, or correct host and port"
    LATE = "nc -vz {host} {port} # look for a firewall, or raise OTEL_COACH_DEPENDENCY_TIMEOUT"
    OTHER = "nc -vz {host} {port} # start it, or correct its address"


_OF_ANSWERS: Final = {
    Unexpected.PROTOCOL: Cure.PROTOCOL,
    Unexpected.PASSWORD: Cure.LOGIN,
    Unexpected.ERROR: Cure.ERROR,
    Unexpected.STATUS: Cure.STATUS,
}
_FROM_THE_SERVER: Final = re.compile(r"FATAL:\s+([^\n]{1,200})")
_FROM_LIBPQ: Final = (
    (
        r"invalid response to (?:SSL|GSSAPI) negotiation|expected authentication request",
        "something answers there, but not as PostgreSQL does",
        Cure.PROTOCOL,
    ),
    (
        r"could not translate host name|Name or service not known",
        "DNS: its host is not known",
        Cure.HOST,
    ),
    (r"Connection refused", "connection refused", Cure.REFUSED),
    (r"timeout expired|timed? ?out", "no answer in time", Cure.LATE),
    (r"certificate verify failed", "TLS: its certificate is not accepted", Cure.TLS),
    (r"root certificate file", "TLS: the root certificate's file is missing", Cure.TLS),
    (r"does not support SSL", "TLS: it does not support TLS, which sslmode requires", Cure.TLS),
    (r"no password supplied", "password: none is given, and it requires one", Cure.LOGIN),
    (r"No route to host|Network is unreachable", "no route to its host", Cure.OTHER),
    (r"server closed the connection", "it closes the connection", Cure.OTHER),
    (r"No such file or directory", "its Unix socket is not there", Cure.OTHER),
    (r"invalid|missing|unrecognized", "its address cannot be read by libpq", Cure.OTHER),
)
"""What libpq says, which may repeat the address; what is shown instead; what to do.

Where psycopg cannot connect, libpq's message is all that it has: there is no SQLSTATE.
"""


def look(examined: Examined) -> Iterator[Finding | Fact]:
    """Probes all dependencies, one after the other; each has the timeout that is set."""
    settings = examined.settings
    for name, address in settings.dependencies.items():
        started = perf_counter()
        try:
            _probe(address, settings.dependency_timeout)
        except UnknownAddressError as error:
            yield DEPENDENCY_ADDRESS.found(name=name, reason=error)
            continue
        except Exception as error:  # noqa: BLE001 - whatever a probe raises, the dependency is down
            reason, cure = _reason_of(error, address, settings.dependency_timeout)
            yield DEPENDENCY_DOWN.found(name=name, reason=reason, cure=_filled(cure, name, address))
        else:
            milliseconds = 1000 * (perf_counter() - started)
            yield Fact(f"dependency {name} answers in {milliseconds:.0f} ms")
        if _POSTGRESQL.match(address) and not is_installed("psycopg"):
            yield NO_PSYCOPG.found(name=name)


def _probe(address: str, timeout: float) -> None:
    probe = probe_of(address)
    # A probe limits the time of each step only; a server that sends slowly causes many steps.
    within(timeout + 1, lambda: probe(timeout))


def _reason_of(error: Exception, address: str, timeout: float) -> tuple[str, Cure]:
    """Returns why a probe failed, and what to do.

    Of the address, the reason may have the host, and PostgreSQL's names of a user or a database.
    """
    if type(error).__module__.partition(".")[0] == "psycopg":
        return _of_psycopg(error, address)
    if isinstance(error, UnexpectedAnswerError):
        return str(error), _OF_ANSWERS[error.wrong]
    host, _ = _host_and_port(address)
    because = getattr(error, "verify_message", None) or getattr(error, "reason", None)
    known: Mapping[type[Exception], tuple[str, Cure]] = {
        socket.gaierror: (f"DNS: the host {host} is not known", Cure.HOST),
        ssl.SSLCertVerificationError: (
            f"TLS: its certificate is not accepted ({because})",
            Cure.TLS,
        ),
        ssl.SSLError: (f"TLS: the handshake fails ({because})", Cure.TLS),
        TimeoutError: (f"no answer in time ({timeout:g} s)", Cure.LATE),
        ConnectionRefusedError: ("connection refused", Cure.REFUSED),
    }
    strerror = error.strerror if isinstance(error, OSError) else None
    other = strerror or type(error).__name__, Cure.OTHER
    return next((known[kind] for kind in known if isinstance(error, kind)), other)


def _of_psycopg(error: Exception, address: str) -> tuple[str, Cure]:
    text = str(error)
    if (told := _FROM_THE_SERVER.search(text)) is not None:
        reason = told[1].strip()
        cure = Cure.LOGIN if "password" in reason else Cure.OTHER
        for secret in _secrets(address):
            reason = reason.replace(secret, "...")
        return reason, cure
    known = ((reason, cure) for form, reason, cure in _FROM_LIBPQ if re.search(form, text))
    return next(known, (type(error).__name__, Cure.OTHER))


def _secrets(address: str) -> Iterator[str]:
    """Yields the parts of an address that may be secret."""
    with suppress(ValueError):
        url = urlsplit(address)
        for part in (url.password, url.query, url.fragment):
            if part:
                yield part
                yield unquote(part)


def _host_and_port(address: str) -> tuple[str, str]:
    """Returns host and port, or `HOST` and `PORT` where a part of them may be of a password."""
    if address.count("@") <= 1 and address.count("://") == 1:
        with suppress(ValueError):
            url = urlsplit(address)
            rest = address.partition("://")[2]
            # What precedes an at sign may be a password with a slash in it.
            if "@" not in rest or "@" in url.netloc:
                return url.hostname or "HOST", str(url.port or PORTS.get(url.scheme, "PORT"))
    return "HOST", "PORT"


def _filled(cure: Cure, name: str, address: str) -> str:
    host, port = map(shlex.quote, _host_and_port(address))
    scheme = "https" if address[:6].lower() == "https:" else "http"
    where = f"{host}:{port}"
    return cure.value.format(
        name=shlex.quote(name), host=host, port=port, where=where, scheme=scheme
    )
