"""Which application a server's command would serve, for the ways in which people write it."""

import pytest

from otel_coach.cli.doctor.command_line import CommandError, environment_of, served


@pytest.mark.parametrize(
    ("command", "target"),
    [
        ("uvicorn app:app", "app:app"),
        ("/opt/venv/bin/uvicorn --host 0.0.0.0 --port 8000 shop.main:app", "shop.main:app"),
        ("uvicorn --reload app:app --workers 4", "app:app"),
        ("uvicorn --loop my_loop:Loop app:app", "app:app"),
        ("python -m uvicorn app:app", "app:app"),
        ("python3.12 -X dev -m uvicorn app:app --no-access-log", "app:app"),
        ("opentelemetry-instrument uvicorn app:app", "app:app"),
        ("opentelemetry-instrument --service_name coach uvicorn app:app", "app:app"),
        ("uv run uvicorn app:app", "app:app"),
        ("uv run --with fastapi uvicorn app:app", "app:app"),
        ("uv run -q uvicorn app:app", "app:app"),
        ("uv run --directory=/srv/fastapi uvicorn app:app", "app:app"),
        ("env PYTHONPATH=/srv/fastapi uvicorn app:app", "app:app"),
        ("env -i -- uvicorn app:app", "app:app"),
        ("poetry run gunicorn -k uvicorn.workers.UvicornWorker -w 4 app:app", "app:app"),
        ("gunicorn app:app --bind localhost:8000", "app:app"),
        ("gunicorn -b localhost:8000 shop.wsgi", "shop.wsgi:application"),
        ("gunicorn shop.wsgi -c python:shop.configuration", "shop.wsgi:application"),
        ("hypercorn --bind localhost:8000 app:app", "app:app"),
        ("hypercorn --config python:configuration app:app", "app:app"),
        ("gunicorn --bind unix:app.sock app", "app:application"),
        ("hypercorn app", "app:app"),
        ("granian --interface asgi app:app", "app:app"),
        ("fastapi run --entrypoint shop:api", "shop:api"),
    ],
)
def test_the_target_of_a_command(command, target):
    found = served(command.split())
    assert found.target == target
    assert not found.is_factory
    assert found.folder == "."


@pytest.mark.parametrize(
    "command",
    ["uvicorn --factory app:create", "uvicorn app:create --factory", "gunicorn app:create()"],
)
def test_a_factory_is_called(command):
    found = served(command.split())
    assert (found.target, found.is_factory) == ("app:create", True)


@pytest.mark.parametrize(
    "command",
    [
        *("uvicorn --app-dir src app:app", "uvicorn app:app --app-dir=src"),
        *("gunicorn --chdir src app:app", "granian --working-dir src app:app"),
    ],
)
def test_the_folder_of_the_modules(command):
    found = served(command.split())
    assert (found.target, found.folder) == ("app:app", "src")


def test_a_folder_into_which_the_server_changes():
    assert served(["gunicorn", "--chdir", "src", "app:app"]).enters_folder
    found = served(["gunicorn", "--pythonpath", "src,lib", "app:app"])
    assert (found.folder, found.enters_folder) == ("src", False)


@pytest.mark.parametrize(
    ("command", "path", "attribute"),
    [
        ("fastapi run", "", ""),
        ("fastapi dev main.py --port 9000", "main.py", ""),
        ("fastapi run --port 9000 src/main.py --app api", "src/main.py", "api"),
    ],
)
def test_fastapi_names_a_file(command, path, attribute):
    found = served(command.split())
    assert (found.program, found.target, found.attribute) == ("fastapi", path, attribute)


@pytest.mark.parametrize(
    "command",
    [
        *("python app.py", "uvicorn", "uvicorn --port 8000", "flask run", "fastapi"),
        *("gunicorn -c x.py", "gunicorn -c python:configuration"),
    ],
)
def test_a_command_that_names_no_application_says_so(command):
    with pytest.raises(CommandError, match=r"application|calls none of|serves with"):
        served(command.split())


@pytest.mark.parametrize(
    "command",
    [
        "gunicorn -p run.pid -b :9464 app:app",
        "hypercorn -p x.pid --bind 0.0.0.0:9464 app:app",
        "uvicorn --port 9464 app:app",
    ],
)
def test_the_port_of_a_command(command):
    assert served(command.split()).port == 9464


@pytest.mark.parametrize(
    "command",
    [
        *("uvicorn --uds /run/a.sock app:app", "uvicorn --fd 3 app:app"),
        *("gunicorn -b unix:/run/app.sock app:app", "hypercorn --bind fd://3 app:app"),
    ],
)
def test_a_socket_without_a_port(command):
    assert served(command.split()).port is None


def test_options_of_the_command_count_as_variables():
    command = (
        "opentelemetry-instrument --service_name coach --coach_metrics_path=/m "
        "--disabled_instrumentations redis --distro otel_coach uvicorn a:b --x y"
    )
    assert environment_of(command.split(), {}) == {
        "OTEL_SERVICE_NAME": "coach",
        "OTEL_COACH_METRICS_PATH": "/m",
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "redis",
        "OTEL_PYTHON_DISTRO": "otel_coach",
    }
    assert environment_of(["uvicorn", "--host", "h", "a:b"], {}) == {}


@pytest.mark.parametrize(
    ("command", "variables"),
    [
        ("env B=2 uvicorn a:b C=3", {"A": "1", "B": "2"}),
        ("/usr/bin/env -u A B=x=y python -m uvicorn a:b", {"B": "x=y"}),
        ("env -i B= uvicorn a:b", {"B": ""}),
        ("env --unset=A uvicorn a:b", {}),
        ("opentelemetry-instrument env A=2 uvicorn a:b", {"A": "2"}),
        ("uvicorn a:b", {"A": "1"}),
    ],
)
def test_variables_that_env_sets_and_removes(command, variables):
    assert environment_of(command.split(), {"A": "1"}) == variables


def test_gunicorn_calls_a_factory_with_literals():
    found = served(["gunicorn", "app:create('production', debug=False)"])
    assert (found.target, found.is_factory) == ("app:create", True)
    assert found.values == "'production', debug=False"
