"""Mistakes about content, prices and dependencies, planted: `otel-coach doctor` names the cure."""

import sys
from contextlib import suppress

import pytest

from otel_coach.cli.doctor import dependencies, diagnosed, start
from tests.support.doctor import diagnosis, findings, hostile
from tests.support.price_lists import changed_list
from tests.support.programs import free_port
from tests.support.serving import by_tls, tcp_server

NAMED = {"OTEL_SERVICE_NAME": "coach"}


def only(found, name):
    """The one finding; it is alone."""
    assert found.keys() == {name}, found
    (text,) = found[name]
    return text


# Quotes


@pytest.mark.parametrize("quote", ["'", '"'])
def test_an_endpoint_in_quotes_is_named_with_what_is_between_them(quote):
    told = only(
        diagnosis(OTEL_EXPORTER_OTLP_ENDPOINT=f"{quote}http://u:hunter2@c:4318{quote}", **NAMED),
        "quoted-value",
    )
    assert "the value of OTEL_EXPORTER_OTLP_ENDPOINT is in quotes" in told
    assert "export OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318 # " in told
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"{quote}http://c:4318{quote}"}
    results = diagnosed(environ, starts=False)
    assert findings(results["OTLP back ends"])  # which are not right, then
    assert not findings(results["variables"])


@pytest.mark.parametrize(
    "name", ["OTEL_COACH_METRICS_TOKEN", "OTEL_COACH_BUDGET_MODEL", "OTEL_EXPORTER_OTLP_HEADERS"]
)
def test_a_value_in_quotes_is_named_and_not_shown(name):
    told = only(diagnosis(**{name: '"a=hunter2"'}), "quoted-value")
    assert f"export {name}=VALUE # " in told
    assert "hunter2" not in told
    assert "quoted-value" not in diagnosis(**{name: "a='hunter2'"})
    assert diagnosis(OTHER_TOKEN='"x"') == {}


@pytest.mark.parametrize("text", ["Bearer hunter2", "bearer hunter2", "'Bearer hunter2'"])
def test_a_token_with_the_scheme_before_it(text):
    found = diagnosis(OTEL_COACH_METRICS_TOKEN=text)
    (told,) = found["token-with-scheme"]
    assert "export OTEL_COACH_METRICS_TOKEN=TOKEN # " in told
    assert "hunter2" not in told
    assert diagnosis(OTEL_COACH_METRICS_TOKEN="bearer-of-bad-news") == {}


# Content


@pytest.mark.parametrize(
    "redactor", ["no.such:thing", "tests.support.redactors:missing", "tests.support.paths:ROOT"]
)
def test_a_redactor_that_is_not_there(redactor):
    environ = {
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY",
        "OTEL_COACH_CONTENT_REDACTOR": redactor,
    }
    told = only(diagnosis(**environ), "redactor-not-found")
    assert redactor in told
    assert "no content is captured" in told
    assert (
        diagnosis(**{**environ, "OTEL_COACH_CONTENT_REDACTOR": "tests.support.redactors:shout"})
        == {}
    )


def test_a_redactor_in_the_current_folder_is_found(tmp_path, monkeypatch):
    (tmp_path / "my_redactor_of_doctor.py").write_text("print('noise')\ndef redact(text): ...\n")
    monkeypatch.chdir(tmp_path)
    found = diagnosis(
        OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT="SPAN_ONLY",
        OTEL_COACH_CONTENT_REDACTOR="my_redactor_of_doctor:redact",
    )
    assert found == {}


# Prices


@pytest.mark.parametrize("content", ["{", '{"m": {"input_mtok": "free"}}', None])
def test_a_price_file_that_cannot_be_used(tmp_path, content):
    path = tmp_path / "prices.json"
    if content is not None:
        path.write_text(content)
    told = only(diagnosis(OTEL_COACH_PRICES=str(path)), "price-file")
    assert "OTEL_COACH_PRICES=" in told
    assert '{"my-model": {"input_mtok": 1.0' in told


@pytest.mark.parametrize(
    ("name", "said"),
    [("opneai", "has no provider opneai; perhaps openai is meant; export OTEL_COACH_GATEWAYS=h="),
     ("xyzzy", "has no provider xyzzy; export OTEL_COACH_GATEWAYS=h=PROVIDER # ")],
)  # fmt: skip
def test_a_gateway_of_a_provider_that_the_list_lacks(name, said):
    told = only(
        diagnosis(OTEL_COACH_GATEWAYS=f"h={name},i=litellm,j=azure"), "gateway-provider-unknown"
    )
    assert said in told


def test_a_list_of_prices_that_is_old_is_a_note(tmp_path):
    path = tmp_path / "old.tsv"
    path.write_bytes(changed_list(genai_prices="0.0.1", day="2025-01-01"))
    told = only(diagnosis(OTEL_COACH_PRICES=str(path)), "price-list-old")
    assert "otel-coach prices --update" in told


def test_the_list_that_comes_with_otel_coach_is_damaged(tmp_path, monkeypatch):
    from otel_coach.pricing import listed

    (tmp_path / "prices.tsv").write_text("not a list\n")
    monkeypatch.setattr(listed.ListedPrices.__init__, "__defaults__", (tmp_path / "prices.tsv",))
    assert "pip install --force-reinstall otel-coach" in only(diagnosis(), "price-list-unreadable")


# Dependencies


def test_a_malformed_entry_is_named_by_itself_and_the_others_are_probed():
    with tcp_server(lambda connection: None) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        found = diagnosis(OTEL_COACH_DEPENDENCIES=f"api={address},cache=redis:/h")
    told = only(found, "dependency-malformed")
    assert "the address of cache is not an address" in told


def test_an_address_that_cannot_be_probed():
    told = only(
        diagnosis(OTEL_COACH_DEPENDENCIES="m=mongodb://u:hunter2@h"), "dependency-unsupported"
    )
    assert "tcp://HOST:PORT" in told
    assert "hunter2" not in told


def down(address):
    return only(
        diagnosis(OTEL_COACH_DEPENDENCIES=f"x={address}", OTEL_COACH_DEPENDENCY_TIMEOUT="0.5"),
        "dependency-down",
    )


def test_a_dependency_that_is_not_there_says_how():
    told = down("redis://no-such-host.invalid:6379")
    assert "DNS: the host no-such-host.invalid is not known" in told
    port = free_port()
    told = down(f"redis://u:hunter2@127.0.0.1:{port}")
    assert "connection refused" in told
    assert f"nc -vz 127.0.0.1 {port}" in told
    assert "hunter2" not in told


def test_a_dependency_that_answers_with_an_error_says_which():
    with hostile([b"HTTP/1.1 503 No\r\n\r\n"]) as (url, _):
        assert "HTTP status 503" in down(url)
        for scheme, name in (("redis", "Redis"), ("postgresql", "PostgreSQL")):
            told = down(url.replace("http", scheme))
            assert f"something answers there, but not as {name} does" in told
            assert "correct host and port, or the scheme" in told
    with hostile([b""], pause=3) as (url, _):
        assert "no answer in time (0.5 s)" in down(url)


@pytest.mark.parametrize(
    ("address", "asked"),
    [
        ("https://api.example.com/health", "curl -i https://api.example.com:443 #"),
        ("http://u:p@api.example.com:81/health", "curl -i http://api.example.com:81 #"),
    ],
)
def test_the_cure_of_an_http_dependency_asks_as_its_address_does(address, asked):
    assert dependencies._filled(dependencies.Cure.STATUS, "x", address).startswith(asked)


def test_a_start_that_is_not_tried_is_not_said_to_be_right(monkeypatch):
    monkeypatch.setattr(start, "result_of", lambda *_, **__: {"lines": []})
    assert "the start" not in diagnosed({**NAMED, "OTEL_COACH_DISABLED": "true"})
    assert "the start" in diagnosed(NAMED)


def test_a_dependency_whose_certificate_is_not_accepted_says_why():
    with tcp_server(by_tls(lambda _: None)) as server:
        told = down(f"https://localhost:{server.getsockname()[1]}")
    assert "TLS: its certificate is not accepted" in told
    with hostile([b"HTTP/1.1 400 No\r\n\r\n"]) as (url, _):
        assert "TLS" in down(url.replace("http://", "https://"))


def test_a_wrong_password_is_said_in_the_servers_words():
    """PostgreSQL's protocol by hand: it asks for a password, and refuses it."""

    def message(kind, body):
        return kind + (len(body) + 4).to_bytes(4, "big") + body

    def answer(connection):
        with connection, suppress(OSError):
            while len(connection.recv(4096)) == 8:  # may it speak TLS, or GSSAPI?
                connection.sendall(b"N")
            connection.sendall(message(b"R", (3).to_bytes(4, "big")))
            connection.recv(4096)
            error = b'SFATAL\0C28P01\0Mpassword authentication failed for user "u", hunter2\0\0'
            connection.sendall(message(b"E", error))

    with tcp_server(answer) as server:
        told = down(f"postgresql://u:hunter2@127.0.0.1:{server.getsockname()[1]}/db")
    assert 'password authentication failed for user "u"' in told
    assert "correct user and password" in told
    assert "hunter2" not in told


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"-LOADING Redis is loading the dataset in memory\r\n", "it says: LOADING Redis is load"),
        (b"-ERR \x1b[31mmax number of clients reached\r\n", "it says: ERR  [31mmax number of "),
        (b"-MISCONF " + 200 * b"x" + b"\r\n", "it says: MISCONF xxx"),
        (b"-DENIED protected mode: no password is set\r\n", "it says: DENIED protected mode: no "),
    ],
)
def test_an_error_of_redis_is_said_in_its_words(answer, said):
    with hostile([answer]) as (url, _):
        told = down(url.replace("http://", "redis://"))
    assert said in told
    assert "# it answers; check its log" in told
    assert "\x1b" not in told
    assert len(told) < 300


def test_a_password_that_redis_refuses_is_not_repeated():
    with hostile([b"-WRONGPASS invalid username-password pair hunter2\r\n"]) as (url, asked):
        told = down(url.replace("http://", "redis://:hunter2@"))
        assert asked == [b"*2\r\n$4\r\nAUTH\r\n$7\r\nhunter2\r\n"]
    assert "it refuses the password (WRONGPASS)" in told
    assert "correct user and password" in told
    assert "hunter2" not in told


def test_psycopg_that_is_not_installed_is_a_note(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with hostile([b"S"]) as (url, _):
        address = url.replace("http://", "postgresql://u:hunter2@")
        told = only(diagnosis(OTEL_COACH_DEPENDENCIES=f"db={address}"), "dependency-without-driver")
    assert "only its greeting is checked" in told
    assert "pip install 'psycopg[binary]'" in told
