"""compose.yaml and the image: all of it that can be checked without an engine."""

import re
from itertools import pairwise
from pathlib import PurePosixPath

import opentelemetry.sdk.environment_variables as of_the_sdk
import pytest
import yaml
from packaging.version import Version

from otel_coach.settings import Settings
from tests.support.deployment import (
    COMPOSE,
    CONFIGURED,
    CONTAINERS,
    DEPLOY,
    DOCKERFILE,
    KUSTOMIZATION,
    LAUNCHERS,
    PODS,
    RAW_COMPOSE,
    SECRET,
    SERVICES,
    environment,
    instructions,
    variables,
)
from tests.support.paths import COACHING, ROOT

# --- compose.yaml ---


def bind_mounts(service):
    """Host and container path of each file or folder of this repository."""
    for volume in service.get("volumes", ()):
        source, target, *mode = volume.split(":")
        if source.startswith("./"):
            assert mode == ["ro"], volume
            yield ROOT / source, PurePosixPath(target)
        else:
            assert source in COMPOSE["volumes"], volume


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_and_what_is_named_of_it_exists(name):
    service = SERVICES[name]
    mounts = list(bind_mounts(service))
    for source, _ in mounts:
        assert source.exists()
    named = [*service.get("command", ()), *service.get("environment", {}).values()]
    for path in map(PurePosixPath, re.findall(r"/[\w./-]+", " ".join(map(str, named)))):
        for source, target in mounts:
            if path.is_relative_to(target):
                assert (source / path.relative_to(target)).exists()


def test_volumes_are_all_used():
    used = {v.split(":")[0] for one in SERVICES.values() for v in one.get("volumes", ())}
    assert set(COMPOSE["volumes"]) <= used


def test_only_what_a_person_opens_is_published_and_only_on_the_loopback_interface():
    ports = {name: one["ports"] for name, one in SERVICES.items() if "ports" in one}
    assert set(ports) == {"service", "prometheus", "grafana", "jaeger"}
    assert all(port.startswith("127.0.0.1:") for ports in ports.values() for port in ports)


def test_every_address_leads_to_what_listens_there():
    listens = {
        ("service", instructions("EXPOSE")[0]),
        ("provider", "8001"),
        ("postgres", "5432"),
        ("prometheus", "9090"),
        ("collector", "8888"),
        *(
            (name, value.rpartition(":")[2])
            for name, one in SERVICES.items()
            for value in one.get("environment", {}).values()
            if str(value).startswith("0.0.0.0:")
        ),
    }
    texts = [path.read_text() for path in (DEPLOY / "prometheus" / "targets").iterdir()]
    texts += [path.read_text() for path in (DEPLOY / "grafana/provisioning/datasources").iterdir()]
    texts += [
        str(one.get(part)) for one in SERVICES.values() for part in ("environment", "healthcheck")
    ]
    asked = {found for text in texts for found in re.findall(r"\b([a-z]+):(\d{4,5})\b", text)}
    assert {host for host, _ in asked} >= {
        "collector",
        "jaeger",
        "postgres",
        "prometheus",
        "provider",
    }
    assert asked <= listens


def test_health_is_asked_of_all_that_serve():
    checked = {name for name, one in SERVICES.items() if "test" in one.get("healthcheck", {})}
    assert instructions("HEALTHCHECK")  # of `service`
    # The Collector's image has nothing to ask with.
    assert "collector:13133" in str(SERVICES["collector-health"]["healthcheck"])
    assert set(SERVICES) - checked == {"service", "users", "collector", "collector-queue"}


def test_one_shots_are_waited_for_and_the_others_restart():
    one_shots = {name for name, one in SERVICES.items() if "restart" not in one}
    waited_for = {
        (name, on["condition"])
        for one in SERVICES.values()
        for name, on in one.get("depends_on", {}).items()
        if name in one_shots
    }
    # `docker compose up --wait` takes the end of any other for a failure.
    assert waited_for == {(name, "service_completed_successfully") for name in one_shots}


def test_secrets_come_from_the_environment():
    given = re.findall(r"^ +(\w+): (.*)$", RAW_COMPOSE, re.MULTILINE)
    secrets = [value for name, value in given if SECRET.search(name)]
    assert len(secrets) == 5
    assert all(re.search(r"\$\{\w+:-[\w-]+\}", value) for value in secrets)


@pytest.mark.parametrize("name", SERVICES)
def test_containers_are_confined(name):
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"]
    assert service["mem_limit"]
    assert "docker.sock" not in str(service)
    assert not {"privileged", "devices", "pid", "ipc", "userns_mode"} & set(service)
    assert service.get("network_mode", "none") == "none"


def test_only_what_makes_a_volume_its_users_has_rights_of_root():
    added = {name: one["cap_add"] for name, one in SERVICES.items() if "cap_add" in one}
    assert added == {
        "postgres": ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"],
        "collector-queue": ["CHOWN"],
    }


# --- addresses of the Collectors and Jaeger ---


@pytest.mark.parametrize(("where", "name", "paths", "local"), CONFIGURED)
def test_addresses_reach_other_containers(where, name, paths, local):
    given = SERVICES[name]["environment"] if where == "compose" else environment(CONTAINERS[name])
    read = variables(*paths)
    assert set(given) <= set(read)
    on_loopback = {one for one, default in read.items() if "127.0.0.1" in default}
    assert on_loopback - set(given) == local
    assert not [one for one in on_loopback & set(given) if "127." in given[one]]


# --- the image ---


def test_images_are_pinned():
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(set(bases)) == 1
    images = [*bases, *(one["image"] for one in (*SERVICES.values(), *CONTAINERS.values()))]
    assert not [one for one in images if not re.fullmatch(r"[\w./-]+:v?\d+(\.\d+)+(-[a-z]+)*", one)]
    (ours,) = {one for one in images if one.startswith("coaching:")}
    project = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{ours.removeprefix("coaching:")}"' in project
    assert KUSTOMIZATION["images"][0]["newTag"] == ours.removeprefix("coaching:")
    # The Collector is the one that the end-to-end suite runs.
    built = yaml.safe_load((ROOT / "verification/end_to_end/ocb.yaml").read_text())["dist"][
        "version"
    ]
    assert {one for one in images if "collector" in one} == {
        f"otel/opentelemetry-collector-contrib:{built}"
    }


def test_image_has_a_python_that_the_project_knows():
    version = Version(re.search(r"python:([\d.]+)", DOCKERFILE)[1])
    classifier = f"Programming Language :: Python :: {version.major}.{version.minor}"
    assert classifier in (ROOT / "pyproject.toml").read_text()


def test_what_is_copied_is_there_and_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in ignored if line.startswith("!")]
    assert "*" in ignored
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    sources = [source for one in copied for source in one.split()]
    assert sorted(sources) == sorted(allowed)
    assert all((ROOT / source).exists() for source in sources)


def test_user_is_not_root_and_the_same_everywhere():
    (user,) = instructions("USER")
    assert user == "10001:10001"
    assert {pod["securityContext"]["runAsUser"] for pod in PODS.values()} == {10001}
    assert SERVICES["collector-queue"]["command"][1] == user


def test_four_workers_end_before_they_are_killed():
    command = yaml.safe_load(instructions("CMD")[-1])
    options = dict(pairwise(command))
    assert options["--workers"] == "4"
    grace = int(options["--timeout-graceful-shutdown"])
    assert grace < int(SERVICES["service"]["stop_grace_period"].removesuffix("s"))
    before = int(CONTAINERS["coaching"]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert before + grace < PODS["coaching"]["terminationGracePeriodSeconds"]


# --- the service's variables ---


class Asked(dict):
    """An environment that remembers what it was asked for."""

    def get(self, name, default=None):
        self[name] = ""
        return default


def known_variables():
    asked = Asked()
    Settings.from_env(asked)
    coaching = (COACHING / "settings.py").read_text()
    return {
        *asked,
        *re.findall(r'os\.environ\.get\("(\w+)"\)', coaching),
        *(name for name in vars(of_the_sdk) if name.startswith("OTEL_")),
    }


@pytest.mark.parametrize(
    "given", [SERVICES["service"]["environment"], environment(CONTAINERS["coaching"])]
)
def test_service_is_given_variables_that_it_reads_and_can_use(given):
    parts = set(re.findall(r"\$\((\w+)\)", str(given)))  # Kubernetes puts them together
    assert set(given) - parts <= known_variables()
    settings = Settings.from_env(given)
    assert settings.problems == ()
    assert settings.trace_exporters == ("otlp",)
    assert set(settings.dependencies) == {"postgres_django"}
    assert "'.[otlp]'" in DOCKERFILE


def test_users_are_given_variables_that_they_read():
    launchers = "".join(path.read_text() for path in LAUNCHERS)
    read = {*known_variables(), *re.findall(r'environ\["(\w+)"\]', launchers), "PYTHONPATH"}
    assert set(SERVICES["users"]["environment"]) <= read
