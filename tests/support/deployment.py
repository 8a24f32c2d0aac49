"""compose.yaml and deploy/, read for the tests."""

import re

import yaml

from tests.support.paths import ROOT

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


def ports(name):
    return {one["name"]: one["containerPort"] for one in CONTAINERS[name]["ports"]}
