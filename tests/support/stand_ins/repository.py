"""Programs that publish, deploy or build the repository: whether it has what they are told to use.

Each does nothing else, and fails for a command that this page does not know.
"""

import os
import re
import sys
from argparse import ArgumentParser
from pathlib import Path

import yaml

REPOSITORY = "otel-coach/otel-coach"
KUBERNETES = Path("deploy/kubernetes")


def documents(path):
    return [one for one in yaml.safe_load_all(Path(path).read_text()) if one]


def kustomization():
    return documents(KUBERNETES / "kustomization.yaml")[0]


def secret_references(node):
    """The names and keys of secrets that a manifest refers to."""
    if isinstance(node, list):
        for one in node:
            yield from secret_references(one)
    elif isinstance(node, dict):
        if "secretKeyRef" in node:
            yield node["secretKeyRef"]["name"], node["secretKeyRef"]["key"]
        for one in node.values():
            yield from secret_references(one)


def make(words):
    targets = re.findall(r"^([\w-]+):", Path("Makefile").read_text(), re.MULTILINE)
    wanted = [word for word in words if "=" not in word]
    assert wanted
    assert set(wanted) <= set(targets), wanted


def git(words):
    (tag,) = {word for word in words if re.fullmatch(r"v\d+\.\d+\.\d+", word)}
    assert words in (["tag", "--sign", tag, "--message", tag], ["push", "origin", tag])


def gh(words):
    parser = ArgumentParser(allow_abbrev=False)
    parser.add_argument("words", nargs="+")
    parser.add_argument("--repo", required=True)
    for option in ("--dir", "--predicate-type", "--signer-workflow"):
        parser.add_argument(option)
    given = parser.parse_args(words)
    assert given.repo == REPOSITORY
    assert given.words[:2] in (["release", "download"], ["attestation", "verify"])
    if given.signer_workflow:
        assert Path(given.signer_workflow.removeprefix(f"{REPOSITORY}/")).exists()


def docker(words):
    if words[0] == "compose":
        known = {"up": {"--build", "--wait"}, "down": {"--volumes"}}
        assert set(words[2:]) <= known[words[1]]
        assert documents("compose.yaml")[0]["services"]
        return
    (image,) = kustomization()["images"]
    assert words[-1 if words[0] == "push" else 4].endswith(f"/coaching:{image['newTag']}")
    if words[0] == "build":
        assert (words[1], words[3], words[5:]) == ("--file", "--tag", ["."])
        assert Path(words[2]).exists()
    else:
        assert words[0] == "push"


def kubectl(words):
    if words[:2] == ["apply", "-f"]:
        text = sys.stdin.read() if words[2] == "-" else Path(words[2]).read_text()
        kinds = [one["kind"] for one in yaml.safe_load_all(text) if one]
        assert kinds
        assert "Deployment" in kinds or words[2] != "-"
    elif words[0] == "kustomize":
        assert words[1:3] == ["--load-restrictor", "LoadRestrictionsNone"]
        folder = Path(words[3])
        content = documents(folder / "kustomization.yaml")[0]
        for generated in content["configMapGenerator"]:
            assert all((folder / name).exists() for name in generated["files"])
        texts = ((folder / name).read_text() for name in content["resources"])
        sys.stdout.write("\n---\n".join(texts))
    else:
        assert words[:3] == ["create", "secret", "generic"]
        assert words[4:6] == ["--namespace", kustomization()["namespace"]]
        made = {(words[3], word.split("=")[1]) for word in words[6:]}
        assert all(re.fullmatch(r"--from-literal=\w+=.+", word) for word in words[6:])
        service = documents(KUBERNETES / "service.yaml")
        assert made == set(secret_references(service))


def otelcol(words):
    assert set(words[::2]) == {"--config"}
    texts = [Path(name).read_text() for name in words[1::2]]
    assert all(yaml.safe_load(text) for text in texts)
    is_agent = any("${env:GATEWAYS:" in text for text in texts)
    assert is_agent == ("GATEWAYS" in os.environ)


name, *words = sys.argv[1:]
{"docker": docker, "gh": gh, "git": git, "kubectl": kubectl, "make": make, "otelcol": otelcol}[
    name
](words)
