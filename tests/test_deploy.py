"""compose.yaml and deploy/: all of it that can be checked without an engine or a cluster."""

import ast
import importlib
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path, PurePosixPath

import opentelemetry.sdk.environment_variables as of_the_sdk
import pytest
import yaml
from packaging.version import Version

from demo.stack import COACHING
from otel_coach.settings import Settings

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
LAUNCHERS = sorted((DEPLOY / "compose").glob("*.py"))

RAW_COMPOSE = (ROOT / "compose.yaml").read_text()
COMPOSE = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", RAW_COMPOSE))
SERVICES = COMPOSE["services"]
DOCKERFILE = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")

KUSTOMIZATION = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
MANIFESTS = [
    manifest
    for path in KUSTOMIZATION["resources"]
    for manifest in yaml.safe_load_all((KUBERNETES / path).read_text())
]
WORKLOADS = {one["metadata"]["name"]: one for one in MANIFESTS if "template" in one.get("spec", {})}
PODS = {name: one["spec"]["template"]["spec"] for name, one in WORKLOADS.items()}
CONTAINERS = {name: pod["containers"][0] for name, pod in PODS.items()}
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|_KEY$|DATABASE_URL")
POLICIES = {one["metadata"]["name"]: one for one in MANIFESTS if one["kind"] == "NetworkPolicy"}


def environment(container):
    """What a container of Kubernetes is given; its secrets have made-up values."""
    return {
        one["name"]: one.get("value", "postgresql://a:b@c/d") for one in container.get("env", ())
    }


def instructions(name):
    """The arguments of each instruction `name` of the Dockerfile's last stage."""
    last = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    return re.findall(rf"^{name} (.*)$", last, re.MULTILINE)


# --- compose.yaml ---


def test_compose_file_is_valid_by_the_schema_of_the_specification():
    schema = ("--builtin-schema", "vendor.compose-spec")
    command = [sys.executable, "-m", "check_jsonschema", *schema, ROOT / "compose.yaml"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


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


def variables(*paths):
    """The variables that configurations read, with their defaults."""
    text = "\n".join((ROOT / path).read_text() for path in paths)
    return dict(re.findall(r"\$\{env:(\w+)(?::-([^}]*))?\}", text))


AGENT = ("collector-config.yaml", "deploy/collector-agent.yaml")
CONFIGURED = [
    # who, with which configurations, and which addresses may stay on the loopback interface
    ("compose", "collector", AGENT[:1], set()),
    ("compose", "jaeger", ("deploy/jaeger.yaml",), {"JAEGER_QUERY_GRPC", "JAEGER_HEALTH"}),
    # It finds its gateways by DNS, scrapes nobody, and nobody asks it for figures of others.
    (
        "kubernetes",
        "otelcol-agent",
        AGENT,
        {"SERVICE_TARGET", "OTELCOL_PROMETHEUS", "JAEGER_OTLP", "GATEWAYS"},
    ),
    ("kubernetes", "otelcol-gateway", ("deploy/collector-gateway.yaml",), set()),
]


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
    built = yaml.safe_load((ROOT / "e2e" / "ocb.yaml").read_text())["dist"]["version"]
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


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.name)
def test_launchers_find_what_they_import(path):
    imports = [ast.unparse(node) for node in ast.parse(path.read_text()).body if is_import(node)]
    # In a process of its own: the application reads its environment when it is imported.
    environment = {**os.environ, "PYTHONPATH": f"{COACHING}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", "\n".join(imports)]
    subprocess.run(command, env=environment, cwd=DEPLOY, check=True)


def is_import(node):
    return isinstance(node, ast.Import | ast.ImportFrom)


# --- deploy/kubernetes ---


def model_of(manifest):
    """The class of its kind; generated from Kubernetes' own schema, or the operator's."""
    group, _, version = manifest["apiVersion"].rpartition("/")
    package = {
        "": "kubernetes.core",
        "apps": "kubernetes.apps",
        "monitoring.coreos.com": "prometheus_operator",
        "networking.k8s.io": "kubernetes.networking",
        "policy": "kubernetes.policy",
    }[group]
    module = importlib.import_module(f"cloudcoil.models.{package}.{version}")
    return getattr(module, manifest["kind"])


def understood(manifest):
    """What the schema has of it: an unknown field is lost on the way."""
    return (
        model_of(manifest)
        .model_validate(manifest)
        .model_dump(mode="json", by_alias=True, exclude_unset=True)
    )


@pytest.mark.parametrize(
    "manifest", MANIFESTS, ids=lambda one: f"{one['kind']}-{one['metadata']['name']}"
)
def test_manifest_is_valid_by_the_schema_of_its_kind(manifest):
    assert understood(manifest) == manifest


def test_a_field_that_does_not_exist_would_be_seen():
    spec = {"selector": {}, "podMetricsEndpoints": [{"port": "metrics", "intervall": "15s"}]}
    misspelt = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor", "spec": spec}
    assert understood(misspelt) != misspelt


def test_kustomization_has_every_file():
    (generator,) = KUSTOMIZATION["configMapGenerator"]
    files = [KUBERNETES / path for path in (*KUSTOMIZATION["resources"], *generator["files"])]
    assert all(path.is_file() for path in files)
    beside = {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
    assert beside == {path.name for path in files if path.parent == KUBERNETES}
    names = {Path(path).name for path in generator["files"]}
    read = set(re.findall(r"--config=/etc/otelcol/([\w.-]+)", str(CONTAINERS)))
    assert read == names


def test_prometheus_rule_is_generated_from_the_rules():
    command = [sys.executable, "-m", "monitoring", "rules", "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert checked.returncode == 0, checked.stderr
    (rule,) = (one for one in MANIFESTS if one["kind"] == "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())


@pytest.mark.parametrize("name", PODS)
def test_pods_are_restricted(name):
    pod, container = PODS[name], CONTAINERS[name]
    assert not pod["automountServiceAccountToken"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    requests, limits = container["resources"]["requests"], container["resources"]["limits"]
    assert set(requests) == {"cpu", "memory", "ephemeral-storage"}
    assert set(limits) == {"memory", "ephemeral-storage"}  # of CPU: streams would stutter
    assert {"readinessProbe", "livenessProbe"} <= set(container)


@pytest.mark.parametrize("name", PODS)
def test_pods_have_no_more_of_their_node_and_their_cluster_than_they_need(name):
    pod = PODS[name]
    (container,) = pod["containers"]
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod)
    assert pod["securityContext"]["runAsUser"] > 10_000
    assert pod["securityContext"]["runAsGroup"] > 10_000
    assert pod["enableServiceLinks"] is False
    assert not [one for one in container["ports"] if "hostPort" in one]
    for volume in pod["volumes"]:
        assert set(volume) & {"emptyDir", "configMap"}
        assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"]


@pytest.mark.parametrize("name", [n for n, one in WORKLOADS.items() if "replicas" in one["spec"]])
def test_one_of_several_goes_on_while_a_node_is_gone(name):
    spec = WORKLOADS[name]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["replicas"] > 1
    (spread,) = PODS[name]["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"].items() <= labels.items()
    budgets = {
        one["metadata"]["name"]: one for one in MANIFESTS if one["kind"] == "PodDisruptionBudget"
    }
    budget = budgets[name]["spec"]
    assert budget["minAvailable"] == 1
    assert budget["selector"]["matchLabels"].items() <= labels.items()


# Who asks for what; the kubelet asks `health`, or `http`, from the node.
ANYBODY = [None]
PROMETHEUS = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]


def only(name):
    return [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": name}}}]


REACHED = {
    "coaching": {"http": ANYBODY, "metrics": PROMETHEUS},
    "otelcol-agent": {
        "otlp-grpc": only("coaching"),
        "otlp-http": only("coaching"),
        "metrics": PROMETHEUS,
    },
    "otelcol-gateway": {"otlp-grpc": only("otelcol-agent"), "metrics": PROMETHEUS},
}


@pytest.mark.parametrize("name", PODS)
def test_each_port_is_open_to_those_who_need_it(name):
    spec = POLICIES[name]["spec"]
    labels = WORKLOADS[name]["spec"]["template"]["metadata"]["labels"]
    assert spec["podSelector"]["matchLabels"].items() <= labels.items()
    assert spec["policyTypes"] == ["Ingress"]
    reached = {
        port["port"]: rule.get("from", ANYBODY)
        for rule in spec["ingress"]
        for port in rule["ports"]
    }
    assert reached == REACHED[name]
    assert set(reached) | {"health"} >= set(ports(name))
    assert set(reached) <= set(ports(name))


def test_nobody_is_let_in_where_no_policy_says_so():
    assert set(POLICIES) == {*PODS, "nobody"}
    assert POLICIES["nobody"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress"]}


def test_page_is_closed_by_a_token_that_prometheus_has():
    (token,) = (
        one for one in CONTAINERS["coaching"]["env"] if one["name"] == "OTEL_COACH_METRICS_TOKEN"
    )
    secret = token["valueFrom"]["secretKeyRef"]
    assert "optional" not in secret  # without it no pod starts, instead of one that is open
    (monitor,) = (
        one
        for one in MANIFESTS
        if one["kind"] == "PodMonitor" and one["metadata"]["name"] == "coaching"
    )
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["authorization"]["credentials"] == secret


def test_the_secret_that_readme_makes_has_every_key():
    made = set(re.findall(r"--from-literal=(\w+)=", (DEPLOY / "README.md").read_text()))
    asked = {
        one["valueFrom"]["secretKeyRef"]["key"]
        for one in CONTAINERS["coaching"]["env"]
        if "secretKeyRef" in one.get("valueFrom", {})
    }
    assert made == asked


def test_secrets_come_from_a_secret():
    given = [one for container in CONTAINERS.values() for one in container["env"]]
    secret = [one for one in given if SECRET.search(one["name"])]
    assert secret
    assert all("secretKeyRef" in one["valueFrom"] for one in secret)


def test_workers_of_a_pod_share_a_folder_in_memory_that_is_theirs():
    folder = PurePosixPath(environment(CONTAINERS["coaching"])["OTEL_COACH_SHARED_DIR"])
    mounts = {m["mountPath"]: m["name"] for m in CONTAINERS["coaching"]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in PODS["coaching"]["volumes"]}
    # The mount itself is root's and open to all, which the workers refuse.
    assert volumes[mounts[str(folder.parent)]]["emptyDir"]["medium"] == "Memory"


def ports(name):
    return {one["name"]: one["containerPort"] for one in CONTAINERS[name]["ports"]}


def test_services_monitors_and_probes_name_ports_that_are_there():
    for manifest in MANIFESTS:
        spec = manifest.get("spec", {})
        if manifest["kind"] == "Service":
            selector, wanted = spec["selector"], spec["ports"]
            wanted = [one.get("targetPort", one["name"]) for one in wanted]
        elif manifest["kind"] == "PodMonitor":
            selector = spec["selector"]["matchLabels"]
            wanted = [one["port"] for one in spec["podMetricsEndpoints"]]
        else:
            continue
        selected = [
            name
            for name, one in WORKLOADS.items()
            if selector.items() <= one["spec"]["template"]["metadata"]["labels"].items()
        ]
        assert selected
        assert all(set(wanted) <= set(ports(name)) for name in selected)
    for name, container in CONTAINERS.items():
        probed = {one["httpGet"]["port"] for key, one in container.items() if key.endswith("Probe")}
        assert probed <= set(ports(name))


def test_ports_are_those_that_the_programs_listen_on():
    for _, name, paths, _ in CONFIGURED[2:]:
        given = {**variables(*paths), **environment(CONTAINERS[name])}
        for port, variable in (
            ("otlp-grpc", "OTELCOL_OTLP_GRPC"),
            ("metrics", "OTELCOL_SELF_PORT"),
            ("health", "OTELCOL_HEALTH"),
        ):
            assert given[variable].rpartition(":")[2] == str(ports(name)[port])
    resolver = yaml.safe_load((KUBERNETES / "collector-kubernetes.yaml").read_text())
    dns = resolver["exporters"]["loadbalancing"]["resolver"]["dns"]
    assert dns["hostname"] in CONTAINERS
    assert dns["port"] == str(ports(dns["hostname"])["otlp-grpc"])


def test_page_has_a_port_that_the_service_does_not_publish():
    template = WORKLOADS["coaching"]["spec"]["template"]
    settings = Settings.from_env(environment(CONTAINERS["coaching"]))
    assert settings.metrics_port == ports("coaching")["metrics"]
    assert template["metadata"]["annotations"] == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(settings.metrics_port),
        "prometheus.io/path": settings.metrics_path,
    }
    (service,) = (
        one
        for one in MANIFESTS
        if one["kind"] == "Service" and one["metadata"]["name"] == "coaching"
    )
    assert [one["targetPort"] for one in service["spec"]["ports"]] == ["http"]
