"""What each command says about itself, and the files that some of them print."""

import shlex
import tomllib

import pytest

from otel_coach import cli
from otel_coach.cli import shipped_files
from tests.support.paths import ROOT


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_help_of_a_command_has_an_example_that_it_accepts(name, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["otel-coach", name, "--help"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    examples = capsys.readouterr().out.partition("examples:\n")[2]
    commands = [
        line.strip() for line in examples.splitlines() if line.strip().startswith("otel-coach ")
    ]
    assert commands
    for line in commands:
        example, *_what_it_does = line.split("   ")
        program, first, *arguments = shlex.split(example.partition(" > ")[0].partition(" | ")[0])
        assert (program, first) == ("otel-coach", name)
        whole, _commands = cli.parsers()
        whole.parse_args([name, *arguments])


def test_the_help_of_all_commands_has_examples(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["otel-coach", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    printed = capsys.readouterr().out
    assert all(f"    {name} " in printed for name in cli.COMMANDS)
    assert "otel-coach doctor -- uvicorn app:app" in printed.partition("examples:\n")[2]


def test_a_page_that_cannot_be_read_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for path, reason in ((tmp_path, "Is a directory"), (tmp_path / "binary", "it is no text")):
        monkeypatch.setattr("sys.argv", ["otel-coach", "metrics", "--check", str(path)])
        assert cli.main() == 1
        assert capsys.readouterr().err == f"{path} cannot be read ({reason})\n"


def test_a_command_of_the_doctors_without_its_dashes_is_told_where_they_go(monkeypatch, capsys):
    words = ["doctor", "uvicorn", "app:app", "--port", "8000"]
    monkeypatch.setattr("sys.argv", ["otel-coach", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert "unrecognized arguments: --port" in error
    assert "a command comes after --: otel-coach doctor -- COMMAND ..." in error
    monkeypatch.setattr("sys.argv", ["otel-coach", "top", "--port", "8000", "http://h"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "after --" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "place"),
    [
        ("collector", "collector-config.yaml"),
        ("dashboard", "deploy/grafana/dashboards/otel-coach.json"),
        ("rules", "deploy/prometheus/rules.yml"),
    ],
)
def test_a_configuration_is_printed_as_it_is_in_the_repository(command, place, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["otel-coach", command])
    assert cli.main() == 0
    assert capsys.readouterr().out == (ROOT / place).read_text("utf-8")


def test_in_a_wheel_they_are_beside_the_package(monkeypatch, tmp_path):
    (tmp_path / "monitoring").mkdir()
    (tmp_path / "monitoring" / "rules.yml").write_text("groups: []\n")
    monkeypatch.setattr(shipped_files, "_PACKAGE", tmp_path)
    assert shipped_files.content_of("rules.yml") == "groups: []\n"


def test_the_wheel_is_told_to_have_the_same_files():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    told = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    places = shipped_files.PLACES.items()
    assert told == {place: f"otel_coach/monitoring/{name}" for name, place in places}
