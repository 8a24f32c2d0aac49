"""deploy/kubernetes: all of it that can be checked without a cluster."""

import re
from pathlib import Path, PurePosixPath

import pytest
import yaml

from otel_coach.settings import Settings
from tests.support.deployment import (
    CONFIGURED,
    CONTAINERS,
    DEPLOY,
    KUBERNETES,
    KUSTOMIZATION,
    MANIFESTS,
    PODS,
    POLICIES,
    SECRET,
    WORKLOADS,
    environment,
    ports,
    variables,
)

# --- deploy/kubernetes ---


def test_kustomization_has_every_file():
    (generator,) = KUSTOMIZATION["configMapGenerator"]
    files = [KUBERNETES / path for path in (*KUSTOMIZATION["resources"], *generator["files"])]
    assert all(path.is_file() for path in files)
    beside = {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
    assert beside == {path.name for path in files if path.parent == KUBERNETES}
    names = {Path(path).name for path in generator["files"]}
    read = set(re.findall(r"--config=/etc/otelcol/([\w.-]+)", str(CONTAINERS)))
    assert read == names


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
