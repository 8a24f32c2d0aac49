"""compose.yaml and deploy/, by the schemas and programs that read them."""

import ast
import importlib
import os
import subprocess
import sys

import pytest
import yaml

from tests.support.deployment import DEPLOY, LAUNCHERS, MANIFESTS
from tests.support.paths import COACHING, ROOT

# --- compose.yaml ---


def test_compose_file_is_valid_by_the_schema_of_the_specification():
    schema = ("--builtin-schema", "vendor.compose-spec")
    command = [sys.executable, "-m", "check_jsonschema", *schema, ROOT / "compose.yaml"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


# --- the service's variables ---


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


def test_prometheus_rule_is_generated_from_the_rules():
    command = [sys.executable, "-m", "tools.monitoring", "rules", "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert checked.returncode == 0, checked.stderr
    (rule,) = (one for one in MANIFESTS if one["kind"] == "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())
