"""What the tests of `otel-coach reconcile` share."""

import json

import pytest

from otel_coach import cli


@pytest.fixture
def reconcile(monkeypatch, capsys, tmp_path):
    """Runs the command with files of these texts as exports; `.json` returns its JSON."""

    class Command:
        def file(self, name, text):
            path = tmp_path / name
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
            return str(path)

        def __call__(self, exports, *arguments, page=None, since=None):
            given = [exports] if isinstance(exports, str | bytes) else exports
            files = [self.file(f"usage-{place}", text) for place, text in enumerate(given)]
            if page is not None:
                arguments += ("--page", self.file("page.txt", page))
            if since is not None:
                arguments += ("--since", self.file("since.txt", since))
            monkeypatch.setattr("sys.argv", ["otel-coach", "reconcile", *files, *arguments])
            return cli.main(), *capsys.readouterr()

        def json(self, *arguments, **pages):
            code, shown, errors = self(*arguments, "--json", **pages)
            assert not errors
            found = json.loads(shown)
            assert code == (0 if found["reconciled"] else 1)
            return found

        def error(self, *arguments, **pages):
            """The one line of an input that cannot be used."""
            code, shown, errors = self(*arguments, **pages)
            assert code == 2
            assert shown == ""
            (line,) = errors.splitlines()
            return line

    return Command()
