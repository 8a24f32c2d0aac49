"""The forge's files, read."""

import tomllib

import yaml

from tests.support.paths import ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = {path.name: path for path in sorted((GITHUB / "workflows").glob("*.y*ml"))}
READ = {name: yaml.safe_load(path.read_text("utf-8")) for name, path in WORKFLOWS.items()}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def jobs():
    return [
        (name, job, content)
        for name, workflow in READ.items()
        for job, content in workflow["jobs"].items()
    ]


def steps():
    return [step for _, _, job in jobs() for step in job.get("steps", ())]
