"""What pyproject.toml and README promise to a package index; `make test-install` installs it."""

import re
import sys
from collections import defaultdict
from functools import cache
from importlib.metadata import files
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import otel_coach
from tests.support.paths import ROOT
from tests.support.pyproject import PROJECT, named
from tools.rooms import imports, modules

REPOSITORY = "https://github.com/otel-coach/otel-coach"
FILES = {
    f"{REPOSITORY}/blob/main/": Path.is_file,
    f"{REPOSITORY}/tree/main/": Path.is_dir,
    "https://raw.githubusercontent.com/otel-coach/otel-coach/main/": Path.is_file,
}
PAGES = {REPOSITORY, f"{REPOSITORY}/issues", f"{REPOSITORY}/security/policy"}
# Imported where the application, or somebody who asked for an extra, has imported them before.
OF_THE_HOST = {"anyio", "langchain-core", "psycopg", "pytest", "starlette"}
OF_AN_EXTRA = {
    "googleapis-common-protos": "otlp",
    "opentelemetry-exporter-otlp-proto-common": "otlp",
    "opentelemetry-proto": "otlp",
    "protobuf": "otlp",
    "rich": "cli",  # what textual is made of
    "textual": "cli",
}
IF_THERE = ("opentelemetry.configuration.", "opentelemetry.instrumentation.logging.")
"""What is used where the host has it, and is one log line with its name where it does not."""


@cache
def places():
    """Which of the distributions that are asked for bring a module, by its file."""
    found = defaultdict(set)
    for name in named(PROJECT["dependencies"]) | OF_THE_HOST | OF_AN_EXTRA.keys():
        for path in files(name) or ():
            if path.suffix == ".py":
                place = path.parent if path.name == "__init__.py" else path.with_suffix("")
                found[str(place)].add(name)
    return found


def distributions_of(name):
    """By the longest part of what is imported that is a module."""
    parts = name.split(".")
    lengths = range(len(parts), 0, -1)
    return next((places()[p] for n in lengths if (p := "/".join(parts[:n])) in places()), set())


@cache
def third_parties():
    return {
        name
        for _, path in modules()
        for name in imports(path)
        if (top := name.partition(".")[0]) not in sys.stdlib_module_names and top != "otel_coach"
    }


def test_what_is_imported_is_asked_for():
    brought_by = {
        module: distributions_of(module)
        for module in third_parties()
        if not module.startswith(IF_THERE)
    }
    assert brought_by
    assert [module for module, brings in brought_by.items() if not brings] == []
    extras = {OF_AN_EXTRA[name] for name in set().union(*brought_by.values()) & OF_AN_EXTRA.keys()}
    assert extras <= PROJECT["optional-dependencies"].keys()


def test_what_is_asked_for_is_imported():
    imported = {name for module in third_parties() for name in distributions_of(module)}
    # Loaded by the name of its entry point.
    by_name = {
        "opentelemetry-instrumentation-fastapi",
        "opentelemetry-instrumentation-psycopg",
    }
    assert named(PROJECT["dependencies"]) == (imported - OF_THE_HOST - OF_AN_EXTRA.keys() | by_name)


@pytest.mark.parametrize(
    ("name", "any_version"),
    [
        ("opentelemetry-instrumentation-fastapi", "==0.*"),
        ("opentelemetry-instrumentation-psycopg", "==0.*"),
        ("opentelemetry-sdk", "==1.*"),
    ],
)
def test_pips_old_resolver_looks_first_at_what_decides_about_the_others(name, any_version):
    (requirement,) = (one for one in map(Requirement, PROJECT["dependencies"]) if one.name == name)
    assert any_version in str(requirement.specifier).split(",")


def test_the_version_is_said_in_one_place():
    assert otel_coach.__version__ == PROJECT["version"]
    written = [path for _, path in modules() if PROJECT["version"] in path.read_text("utf-8")]
    assert written == []


def links(text):
    return {
        *re.findall(r"\]\(([^)\s]+)\)", text),
        *re.findall(r"^\[[^]]+\]: (\S+)$", text, re.MULTILINE),
    }


def test_each_link_of_readme_works_on_a_package_index():
    text = (ROOT / "README.md").read_text("utf-8")
    assert [link for link in links(text) if not link.startswith(("https://", "#"))] == []
    without_code = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    defined = set(re.findall(r"^\[([^]]+)\]: ", text, re.MULTILINE))
    used = {
        target or word
        for word, target in re.findall(r"\[([^][]+)\](?:\[([^][]*)\])?(?![(:])", without_code)
    }
    assert used == defined


def own_links():
    readme = links((ROOT / "README.md").read_text("utf-8"))
    return sorted(
        one
        for one in (*readme, *PROJECT["urls"].values())
        if one.startswith((REPOSITORY, "https://raw."))
    )


@pytest.mark.parametrize("link", own_links())
def test_each_link_to_the_repository_leads_somewhere(link):
    address, _, anchor = link.partition("#")
    if address in PAGES:
        return
    (prefix,) = (one for one in FILES if address.startswith(one))
    target = ROOT / address.removeprefix(prefix)
    assert FILES[prefix](target)
    assert not anchor or anchor in anchors(target.read_text("utf-8"))


def anchors(text):
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_prices_come_along_with_their_licence():
    from otel_coach.pricing.listed import SHIPPED

    licence = SHIPPED.with_name("LICENSE-genai-prices")
    assert "Pydantic Services Inc." in licence.read_text("utf-8")
    assert licence.relative_to(ROOT).as_posix() in PROJECT["license-files"]
    assert PROJECT["license"] == "Apache-2.0 AND MIT"
