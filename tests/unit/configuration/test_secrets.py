"""Whether a password or a token comes out of anything that is printed, logged or represented."""

import logging
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_coach.cli.doctor import dependencies, page, tracing, variables
from otel_coach.cli.doctor.examined import Examined
from otel_coach.instrumentors.dependencies import DependenciesInstrumentor
from otel_coach.instrumentors.dependencies.probes import UnknownAddressError, probe_of
from otel_coach.settings import Settings
from otel_coach.testing import measuring

CORE = "hunter2"
# Nobody listens on port 1, and nothing else is asked.
FORMS = [
    "postgresql://u:{}@127.0.0.1:1/db",
    "postgresql://u:{}@127.0.0.1:1,127.0.0.1:1/db",
    "postgresql://127.0.0.1:1/db?user=u&password={}",
    "postgresql+asyncpg://u:{}@127.0.0.1:1/db?prepared_statement_cache_size=0",
    "POSTGRES://u:{}@127.0.0.1:1/db",
    "postgresql://127.0.0.1:port/db?password={}",
    "host=127.0.0.1 port=1 user=u password={}",
    "host=127.0.0.1 port=1 password='{}'",
    "host=127.0.0.1 password=a://{}",
    "host=127.0.0.1 password={}://b",
    "password={} host=127.0.0.1",
    "redis://:{}@127.0.0.1:1/0",
    "redis://{}@127.0.0.1:1",
    "redis://127.0.0.1:1/0?password={}",
    "rediss://:{}@127.0.0.1:1",
    "http://u:{}@127.0.0.1:1/x",
    "http://127.0.0.1:1/x?password={}",
    "http://u:{}@[::1/x",
    "https://u:{}@127.0.0.1:1/x",
    "tcp://u:{}@127.0.0.1:1",
    "tcp://127.0.0.1?{}",
    "mysql://u:{}@127.0.0.1:1/db",
    "mysql+pymysql://u:{}@127.0.0.1:1/db",
    "mongodb+srv://u:{}@127.0.0.1/db",
    "amqp://u:{}@127.0.0.1:1//",
    "jdbc:postgresql://127.0.0.1:1/db?password={}",
    "Server=127.0.0.1;Database=d;User Id=u;Password={};",
    "{}://127.0.0.1:1",
    "{}",
]
SECRETS = st.builds(
    "{}{}{}".format,
    st.text("ab1:/?#@&='\" %+.-[]", max_size=4),
    st.just(CORE),
    st.text("ab1:/?#@&='\" %+.-[],;", max_size=4),
)


@contextmanager
def heard():
    """All that is logged meanwhile, by whomever, at every level."""
    lines = []

    class Handler(logging.Handler):
        def emit(self, record):
            lines.append(logging.Formatter().format(record))

    handler, root = Handler(), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


@settings(deadline=None, derandomize=True, database=None)
@given(st.sampled_from(FORMS), SECRETS, st.booleans())
def test_a_password_in_an_address_comes_out_nowhere(form, secret, by_variable):
    address = form.format(secret)
    environment = {"OTEL_COACH_DEPENDENCIES": f"db={address}", "OTEL_COACH_DEPENDENCY_TIMEOUT": "1"}
    if by_variable:
        environment |= {"OTEL_COACH_DEPENDENCIES": "db=env:DSN", "DSN": address}
    with heard() as lines:
        found = Settings.from_env(environment)
        found.log_problems()
        lines += [repr(found), str(found), *(problem for problem in found.problems)]
        for one in found.dependencies.values():
            with suppress(UnknownAddressError):
                lines += [repr(probe_of(one)), str(probe_of(one))]
        for look in (dependencies.look, variables.look, page.look, tracing.look):
            lines.extend(map(str, look(Examined(found, environment))))
    assert CORE not in "\n".join(lines)


@pytest.mark.parametrize("form", FORMS)
def test_a_service_that_probes_it_logs_no_password(form):
    settings = Settings.from_env({"OTEL_COACH_DEPENDENCIES": f"db={form.format(CORE)}"})
    with heard() as lines, measuring(settings) as measured:
        instrumentor = DependenciesInstrumentor()
        lines += [repr(measured.installation.settings), repr(vars(instrumentor))]
        for probe in instrumentor._probes:
            probe._probe_once()
            lines += [repr(probe), repr(vars(probe)), repr(vars(probe._attempt))]
    assert lines
    assert CORE not in "\n".join(lines)


@settings(deadline=None, derandomize=True, database=None)
@given(SECRETS)
def test_a_token_comes_out_nowhere(token):
    with heard() as lines:
        environment = {"OTEL_COACH_METRICS_TOKEN": token}
        found = Settings.from_env(environment)
        found.log_problems()
        lines += [repr(found), str(found), *(problem for problem in found.problems)]
        for look in (variables.look, page.look, tracing.look):
            lines.extend(map(str, look(Examined(found, environment))))
    assert CORE in found.metrics_token
    assert CORE not in "\n".join(lines)
