"""Each mistake in the service's environment, planted: `otel-coach doctor` names it and its cure.

Those on the way to a back end are in test_doctor_back_ends.py, those of a page in
test_doctor_pages.py, those that need a process of their own in tests/integration/doctor/.
"""

import importlib
import re
import shlex
import sys

import pytest
from opentelemetry.sdk.trace import SpanProcessor

from otel_coach.cli.doctor.dependencies import Cure
from otel_coach.cli.doctor.service import _OF_LOSSES, _OF_THE_QUEUE
from otel_coach.cli.doctor.traps import TRAPS
from otel_coach.cli.doctor.traps import page as traps_of_page
from otel_coach.core.traps import NO_PRICE
from tests.support.doctor import diagnosis, hostile
from tests.support.otel_variables import documented
from tests.support.paths import TESTS


def only(found, name):
    """The one finding; it is alone."""
    assert found.keys() == {name}, found
    (text,) = found[name]
    return text


# All of them


def test_each_trap_is_planted_in_a_test():
    texts = "".join(path.read_text() for path in TESTS.rglob("test_doctor*.py"))
    assert [trap.name for trap in TRAPS if f'"{trap.name}"' not in texts] == []


def test_each_trap_has_a_name_of_its_own_and_says_why_and_what_mends_it():
    names = [trap.name for trap in TRAPS]
    assert len(names) == len(set(names)) > 30
    for trap in TRAPS:
        assert re.fullmatch("[a-z0-9-]+", trap.name)
        assert trap.why.endswith(".")
        assert trap.cure
        assert not trap.what.endswith(".")
        assert trap.example or not trap.what.startswith("{line}")
        assert trap.example_cure or trap.cure != "{cure}"


class Names(dict):
    """Each value is its own name in capitals, as in docs/doctor.md."""

    def __missing__(self, key):
        return key.upper()


PASTED = {
    *("cd", "curl", "export", "getent", "grep", "mkdir", "nc", "openssl", "pip", "ps", "python"),
    *("opentelemetry-instrument", "otel-coach", "sed", "set", "timedatectl", "unset"),
    "COMMAND",  # the command that is given to the doctor, without what instruments it
    "PYTHON",  # the interpreter of that command
    "OPTION",  # --url, to be given again
    "ChatOpenAI(stream_usage=True)",
}


def pasted(cure):
    """The words of a cure that a shell would see: what follows a # is a comment to it."""
    return shlex.split(cure, comments=True)


CURES = {trap.name: trap.example_cure or trap.filled(Names())[1] for trap in TRAPS}


@pytest.mark.parametrize("name", CURES)
def test_each_cure_begins_with_what_can_be_pasted(name):
    words = pasted(CURES[name])
    assert words[0] in PASTED, words
    # Prose between the commands would be pasted with them.
    assert not {"or", "or:", "is", "and"} & set(words), words
    assert not [word for word in words if word.endswith((",", "?"))], words


def test_cures_that_are_made_of_what_is_found_can_be_pasted_too():
    tables = [
        *(
            cure.value.format(name="db", host="h", port="1", where="h:1", scheme="http")
            for cure in Cure
        ),
        *(cure for _, cure in (_OF_LOSSES, _OF_THE_QUEUE)),
    ]
    assert {pasted(cure)[0] for cure in tables} <= PASTED


def test_what_a_stranger_has_chosen_is_quoted_for_the_shell():
    name = "x'; touch pwned; `id` $(id) \"#"
    _, cure = traps_of_page.HIDDEN.filled({"family": name})
    assert pasted(cure) == ["grep", "-rn", "-e", name, "."]
    _, cure = NO_PRICE.filled({"calls": 1, "model": name, "label": name})
    assert pasted(cure) == ["otel-coach", "prices", name]
    _, cure = traps_of_page.REDIRECTED.filled({"url": "u", "where": name, "option": "--url"})
    assert pasted(cure) == ["--url", name]


def test_where_nothing_is_wrong_nothing_is_found():
    assert diagnosis() == {}


# Names and values


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("OTEL_COACH_METRIC_PATH", "OTEL_COACH_METRICS_PATH"),
        ("OTEL_COACH_DEPENDENCYS", "OTEL_COACH_DEPENDENCIES"),
        ("OTEL_COACH_METRICS_PORT", "OTEL_EXPORTER_PROMETHEUS_PORT"),
        ("OTEL_COCAH_PRICES", "OTEL_COACH_PRICES"),
        ("OTEL_EXPORTER_OLTP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ("OTEL_EXPORTER_OTLP_TRACE_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        ("OTEL_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ("OTEL_SERVICENAME", "OTEL_SERVICE_NAME"),
        ("OTEL_SAMPLER", "OTEL_TRACES_SAMPLER"),
        ("OTEL_TRACE_EXPORTER", "OTEL_TRACES_EXPORTER"),
        ("otel_service_name", "OTEL_SERVICE_NAME"),
    ],
)
def test_a_misspelt_name_is_told_what_it_may_be_meant_for(name, meant):
    text = only(diagnosis(**{name: "x"}), "misspelt-variable")
    assert text.startswith(f"{name} is ignored, as it is not a variable")
    assert f"perhaps {meant} is meant" in text
    assert f'export {meant}="${name}"; unset {name}' in text


@pytest.mark.parametrize("name", ["ENABLED", "LOG_LEVEL", "TYPO", "METRICS_URL", "MODE"])
def test_a_name_that_is_like_no_other_is_only_to_be_unset(name):
    """Whoever follows a wrong guess, such as DISABLED for ENABLED, is worse off than before."""
    text = only(diagnosis(**{f"OTEL_COACH_{name}": "true"}), "misspelt-variable")
    assert "meant" not in text
    assert text.endswith(f"; unset OTEL_COACH_{name}")


def test_names_that_packages_document_are_not_misspelt():
    names = {name: "1" for name in documented() if not name.startswith("OTEL_COACH_")}
    assert "OTEL_SEMCONV_STABILITY_OPT_IN" in names
    from otel_coach.configuration.names import misspelt

    assert [*misspelt(names, ["OTEL_EXPORTER_PROMETHEUS_PORT"])] == []
    strange = ("OTEL_PYTHON_FLASK_EXCLUDED_URLS", "OTEL_ACME_REGION", "OTHER", "OTP_SECRET")
    assert [*misspelt(strange, ())] == []


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("OTEL_COACH_BUDGET_MODEL", "many"),
        ("OTEL_COACH_METRICS_TOKEN", " "),
        ("OTEL_TRACES_EXPORTER", "oltp"),
        ("OTEL_COACH_CONTENT_REDACTOR", "module"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(variable, text):
    told = only(diagnosis(**{variable: text}), "invalid-value")
    assert variable in told
    assert f"unset {variable}" in told


def test_a_word_that_is_no_protocol_is_named_with_those_that_are():
    told = only(diagnosis(OTEL_EXPORTER_OTLP_PROTOCOL="http"), "otlp-protocol")
    assert "'http' is none of http/protobuf, grpc" in told
    assert "export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf" in told


def test_a_variable_without_effect_is_a_note():
    told = only(diagnosis(OTEL_LOG_LEVEL="debug"), "no-effect")
    assert "unset OTEL_LOG_LEVEL" in told


# Switched off


@pytest.mark.parametrize("variable", ["OTEL_COACH_DISABLED", "OTEL_SDK_DISABLED"])
@pytest.mark.parametrize("text", ["true", "yes", "on", "1"])
def test_disabled_says_by_which_variable(variable, text):
    told = only(diagnosis(**{variable: text}), "disabled")
    assert f"disabled by {variable}" in told
    assert f"unset {variable}" in told


def test_no_metrics_exporter_means_no_page():
    told = only(diagnosis(OTEL_METRICS_EXPORTER="none"), "no-page")
    assert "OTEL_METRICS_EXPORTER=none" in told


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("otel_coach_langchain", "unset OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"),
        ("redis,otel_coach_langchain", "export OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=redis"),
    ],
)
def test_a_disabled_instrumentor_of_ours_says_what_is_lost(text, cure):
    found = diagnosis(OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=text)
    told = only(found, "instrumentor-disabled")
    assert "LLM calls" in told
    assert cure in told


def test_all_instrumentors_disabled_are_a_finding_each():
    found = diagnosis(OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="*")
    assert len(found["instrumentor-disabled"]) >= 3


@pytest.fixture
def installed(tmp_path, monkeypatch, read_entry_points_again):
    """Installs a package that has nothing but entry points."""

    def install(name, entries):
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(entries)
        importlib.invalidate_caches()
        read_entry_points_again()

    for variable in ("OTEL_PYTHON_DISTRO", "OTEL_PYTHON_CONFIGURATOR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    return install


def test_a_vendors_distro_is_a_note_and_two_of_them_are_to_mend(installed):
    installed("acme", "[opentelemetry_distro]\nacme = acme:Distro\n")
    told = only(diagnosis(), "vendor-distro")
    assert "(acme" in told
    assert "OTEL_PYTHON_DISTRO=otel_coach" in told
    installed("globex", "[opentelemetry_distro]\nglobex = globex:Distro\n")
    found = diagnosis()
    assert found.keys() == {"vendor-distro", "several-distros"}
    (told,) = found["several-distros"]
    assert "acme" in told
    assert "globex" in told
    assert "export OTEL_PYTHON_DISTRO=" in told


def test_a_configuration_file_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.configuration", None)
    told = only(diagnosis(OTEL_CONFIG_FILE="sdk.yaml"), "configuration-package")
    assert "pip install 'opentelemetry-sdk[file-configuration]'" in told


# Traces


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_TRACES_SAMPLER": "always_off"},
        {"OTEL_TRACES_SAMPLER": "parentbased_always_off"},
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"},
    ],
)
def test_a_sampler_that_keeps_nothing(environ):
    told = only(diagnosis(**environ), "sampled-out")
    assert environ["OTEL_TRACES_SAMPLER"] in told
    assert "export OTEL_TRACES_SAMPLER=parentbased_always_on" in told
    asks_its_parent = "parentbased" in environ["OTEL_TRACES_SAMPLER"]
    assert ("except for callers that sample the trace themselves" in told) == asks_its_parent


@pytest.mark.parametrize(
    ("environ", "variable"),
    [
        ({"OTEL_TRACES_SAMPLER": "sometimes"}, "OTEL_TRACES_SAMPLER"),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "10%"},
            "OTEL_TRACES_SAMPLER_ARG",
        ),
    ],
)
def test_a_sampler_that_is_not_there_has_the_words_of_the_log(environ, variable, caplog):
    from otel_coach.sdk.components import Components

    told = only(diagnosis(**environ), "unknown-component")
    Components(environ).sampler()
    (record,) = caplog.records
    what = told.partition("; export")[0]
    assert what.startswith(f"{variable}={environ[variable]} cannot be used")
    assert what in record.getMessage()


def test_telemetry_of_a_service_without_a_name():
    told = only(diagnosis(OTEL_TRACES_EXPORTER="console"), "no-service-name")
    assert "export OTEL_SERVICE_NAME=" in told
    for named in (
        {"OTEL_SERVICE_NAME": "coach"},
        {"OTEL_RESOURCE_ATTRIBUTES": "a=b,service.name=coach"},
    ):
        assert diagnosis(OTEL_TRACES_EXPORTER="console", **named) == {}


def test_an_exporter_that_is_not_installed_has_the_words_of_the_log(monkeypatch, caplog):
    from otel_coach.core import plugins
    from otel_coach.sdk import exporters

    def without_otlp(**query):
        found = entry_points(**query)
        return [] if query.get("name", "").startswith("otlp") else found

    entry_points = plugins.entry_points
    monkeypatch.setattr(plugins, "entry_points", without_otlp)
    monkeypatch.setattr(exporters, "entry_points", without_otlp)
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SERVICE_NAME": "coach"}
    told = only(diagnosis(**environ), "no-exporter")
    assert "pip install 'otel-coach[otlp]'" in told
    from otel_coach.settings import Settings
    from otel_coach.testing import measuring

    with measuring(Settings.from_env(environ)):
        pass
    what = told.partition("; pip")[0]
    assert [what in record.getMessage() for record in caplog.records] == [True]


# The page


def test_a_port_that_another_program_has():
    with hostile([b"HTTP/1.1 200 OK\r\n\r\nhello"]) as (url, _):
        port = url.split(":")[2].split("/")[0]
        told = only(diagnosis(OTEL_EXPORTER_PROMETHEUS_PORT=port), "port-taken")
    assert f"OTEL_EXPORTER_PROMETHEUS_PORT={port}" in told
    assert "in use" in told
    assert "unset both" in told


def test_a_port_that_the_service_itself_has_is_right():
    from otel_coach.metrics.catalogue import ERRORS

    text = f'# TYPE x counter\n{ERRORS.prometheus_name}{{error_type="OSError"}} 0\n'
    with hostile([b"HTTP/1.1 200 OK\r\n\r\n", text.encode()]) as (url, _):
        assert diagnosis(OTEL_EXPORTER_PROMETHEUS_PORT=url.split(":")[2].split("/")[0]) == {}


def test_a_token_is_sent_to_nothing_that_has_the_port():
    with hostile([b"HTTP/1.1 401 Unauthorized\r\n\r\n"]) as (url, asked):
        variables = {"OTEL_EXPORTER_PROMETHEUS_PORT": url.split(":")[2].split("/")[0]}
        told = only(diagnosis(**variables), "port-taken")
        assert "in use" in told
        assert diagnosis(**variables, OTEL_COACH_METRICS_TOKEN="sesame") == {}  # as the service
    assert asked
    assert b"sesame" not in b"".join(asked)


def test_a_host_that_is_not_this_machines():
    told = only(diagnosis(OTEL_EXPORTER_PROMETHEUS_HOST="192.0.2.1"), "port-taken")
    assert "OTEL_EXPORTER_PROMETHEUS_HOST=192.0.2.1" in told
    told = only(diagnosis(OTEL_EXPORTER_PROMETHEUS_HOST="no-such-host.invalid"), "port-taken")
    assert "; export OTEL_EXPORTER_PROMETHEUS_HOST=0.0.0.0 # all addresses of this mach" in told


@pytest.mark.parametrize("name", ["PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"])
def test_a_folder_of_prometheus_clients_multiprocess_mode_that_is_not_there(tmp_path, name):
    told = only(diagnosis(**{name: f"{tmp_path}/no such"}), "multiprocess-folder")
    assert f"mkdir -p '{tmp_path}/no such'" in told
    assert diagnosis(**{name: str(tmp_path)}) == {}


@pytest.mark.parametrize("kind", ["a file in the way", "others may write"])
def test_a_shared_folder_that_cannot_be_used(place, kind):
    folder = place / "shared"
    if kind == "a file in the way":
        folder.write_text("")
    else:
        folder.mkdir()
        folder.chmod(0o777)
    told = only(diagnosis(OTEL_COACH_SHARED_DIR=str(folder)), "shared-folder")
    assert str(folder) in told
    assert "export OTEL_COACH_SHARED_DIR=" in told


# Libraries, and the doctor itself


def test_a_library_that_has_changed_says_what_is_lost(monkeypatch):
    monkeypatch.delattr(SpanProcessor, "_on_ending")
    told = only(diagnosis(), "library-changed")
    assert "_on_ending" in told


def test_a_look_that_fails_ends_no_other(monkeypatch):
    from otel_coach.cli.doctor import pricing

    monkeypatch.setattr(pricing, "ListedPrices", lambda: 1 / 0)
    found = diagnosis(OTEL_COACH_DISABLED="true")
    assert found.keys() == {"look-failed", "disabled"}
    assert "prices (ZeroDivisionError)" in found["look-failed"][0]
