"""`otel-coach prices`, and what `otel-coach doctor` says about prices."""

import re

import pytest

from otel_coach import cli
from otel_coach.cli import prices as command
from otel_coach.cli.doctor import pricing
from otel_coach.cli.doctor.examined import Examined, Fact
from otel_coach.core.traps import Finding
from otel_coach.pricing import equivalence
from otel_coach.pricing.listed import ListedPrices
from otel_coach.settings import Settings
from tests.support.paths import ROOT
from tests.support.price_lists import changed_list

SHIPPED = ListedPrices().about.version


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the command; returns its exit code, output and errors."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["otel-coach", "prices", *arguments])
        return cli.main(), *capsys.readouterr()

    return run


def own(tmp_path, monkeypatch, content):
    path = tmp_path / "own.toml"
    path.write_bytes(content)
    monkeypatch.setenv("OTEL_COACH_PRICES", str(path))
    return path


def installed(monkeypatch, version):
    monkeypatch.setattr(command, "installed_version", lambda: version)


def test_it_shows_the_price_its_entry_and_its_list(run):
    code, shown, _ = run(
        "gpt-4o", "--provider", "openai", "--prompt", "1000", "--completion", "500"
    )
    assert code == 0
    assert f"gpt-4o of openai, in otel-coach's list, genai-prices {SHIPPED} of 20" in shown
    assert "output_mtok: 10 USD per 1,000,000\n" in shown
    assert "1,000 prompt and 500 completion tokens cost 0.0075 USD\n" in shown


def test_it_shows_tiers_and_whose_entry_it_is(run):
    _, shown, _ = run("gemini-2.5-pro")
    more = "2.5 for all tokens of a call with more than 200,000 input tokens"
    assert f"input_mtok: 1.25 USD per 1,000,000; {more}\n" in shown
    assert "cost" not in shown
    _, shown, _ = run("gpt-4o", "--provider", "azure")
    assert "gpt-4o of openai, which azure offers too, in" in shown


def test_it_shows_your_own_price_first(run, tmp_path, monkeypatch):
    own(tmp_path, monkeypatch, b'["gpt-4o"]\ninput_mtok = 1\noutput_mtok = 2\n')
    code, shown, _ = run("gpt-4o", "--prompt", "1000")
    assert code == 0
    assert shown.splitlines() == [
        "your own price, from the file of OTEL_COACH_PRICES:",
        "  input_mtok: 1 USD per 1,000,000",
        "  output_mtok: 2 USD per 1,000,000",
        "1,000 prompt and 0 completion tokens cost 0.001 USD",
    ]


def test_a_model_without_a_price_is_told_with_exit_code_1(run):
    code, _, error = run("nothing\x1b[31m", "--provider", "openai")
    assert code == 1
    assert "of openai has no price" in error
    assert "\x1b" not in error


def test_a_model_whose_name_does_not_tell_its_provider_is_found(run):
    """platform.openai.com/docs/pricing: 0.02 USD for a million tokens."""
    code, shown, _ = run("text-embedding-3-small", "--prompt", "1000000")
    assert code == 0
    assert "text-embedding-3-small of openai, in " in shown
    assert "1,000,000 prompt and 0 completion tokens cost 0.02 USD\n" in shown
    assert shown.endswith("also offered by azure: --provider names one\n")


def test_a_model_that_many_offer_at_their_own_prices_needs_a_provider(run):
    code, shown, error = run("openai/gpt-oss-120b")
    assert (code, shown) == (1, "")
    assert "Cure: name yours: --provider " in error
    assert "groq" in error


def test_the_nearest_name_is_suggested(run):
    code, _, error = run("gpt-4o-mni")
    assert code == 1
    assert "gpt-4o-mni has no price; perhaps gpt-4o-mini is meant" in error
    assert "perhaps" not in run("my-own-model")[2]
    # Some ids of the list are no names that it has a price for.
    listed = ListedPrices()
    without = sorted(one for one in {*listed.names()} if not listed.offering(one))
    assert len(without) > 10
    for model in without[:: len(without) // 3]:
        *_, error = run(model)
        meant = re.search("perhaps (.*) is meant", error)
        assert meant is None or (meant[1] != model and listed.offering(meant[1]))


def test_a_provider_that_the_list_lacks_is_to_blame(run):
    code, _, error = run("gpt-4o", "--provider", "opneai")
    assert code == 1
    assert error.startswith("the price list has no provider opneai; perhaps openai is meant. Cure:")
    assert run("gpt-4o", "--provider", "azure_openai")[0] == 0


def test_no_model_is_a_misuse(run):
    assert run()[0] == 2
    with pytest.raises(SystemExit) as exit_:
        run("gpt-4o", "--prompt", "-1")
    assert exit_.value.code == 2


@pytest.mark.parametrize("version", [None, "0.0.60", SHIPPED])
def test_a_list_is_not_written_without_a_newer_genai_prices(run, tmp_path, monkeypatch, version):
    installed(monkeypatch, version)
    code, _, error = run("--update", str(tmp_path / "new.tsv"))
    assert code == 2
    assert "-m pip install --upgrade genai-prices" in error
    assert not [*tmp_path.iterdir()]


@pytest.fixture
def newer(monkeypatch):
    """As if a newer genai-prices with the same prices were installed."""
    installed(monkeypatch, "99.0")
    monkeypatch.setattr(
        equivalence, "installed_list", lambda _day: changed_list(genai_prices="99.0")
    )
    monkeypatch.setattr(equivalence.RandomCalls, "one_for_each_model", lambda _self: iter(()))


def test_a_newer_list_is_written_and_can_be_used(run, newer, tmp_path, monkeypatch):
    path = tmp_path / "new.tsv"
    code, shown, _ = run("--update", str(path))
    assert code == 0
    assert f"OTEL_COACH_PRICES={path}" in shown
    assert run("--update", str(path))[0] == 0  # once more, in the place of the first
    monkeypatch.setenv("OTEL_COACH_PRICES", str(path))
    _, shown, _ = run("gpt-4o")
    assert f"gpt-4o of openai, in the list {path}, genai-prices 99.0 of" in shown


def test_what_is_no_list_is_not_overwritten(run, newer, tmp_path):
    path = tmp_path / "own.toml"
    path.write_text("[m]")
    code, _, error = run("--update", str(path))
    assert (code, path.read_text()) == (1, "[m]")
    assert "no list of prices" in error


def test_a_folder_that_is_not_there_is_one_line(run, newer, tmp_path):
    code, _, error = run("--update", str(tmp_path / "nowhere" / "new.tsv"))
    assert code == 1
    assert "cannot be written (No such file" in error


def test_a_genai_prices_that_is_not_understood_needs_a_newer_otel_coach(
    run, newer, tmp_path, monkeypatch
):
    def refuse(_):
        raise command.UnknownMeaningError("openai/gpt-9", "a ClauseXor")

    monkeypatch.setattr(equivalence, "installed_list", refuse)
    code, _, error = run("--update", str(tmp_path / "new.tsv"))
    assert code == 1
    assert "newer otel-coach: openai/gpt-9: a ClauseXor" in error


# What doctor says


def state(**environment):
    found = pricing.look(Examined(Settings.from_env(environment), environment))
    return [one.text for one in found if isinstance(one, Fact)]


def test_doctor_names_the_list_in_use(monkeypatch):
    installed(monkeypatch, SHIPPED)
    (line,) = state()
    assert line.startswith(f"prices: otel-coach's list, genai-prices {SHIPPED} of 20")
    installed(monkeypatch, None)
    assert state() == [line]


def test_doctor_says_that_an_installed_genai_prices_is_newer_and_not_used(monkeypatch):
    installed(monkeypatch, "99.0")
    _, line = state()
    assert "genai-prices 99.0 is newer, but not used" in line
    assert "otel-coach prices --update FILE" in line


def test_doctor_says_which_prices_come_first_and_that_a_list_is_old(tmp_path, monkeypatch):
    installed(monkeypatch, "0.1.0")
    list_ = tmp_path / "old.tsv"
    list_.write_bytes(changed_list(genai_prices="0.0.1", day="2025-01-01"))
    path = own(tmp_path, monkeypatch, b'list = "old.tsv"\n[m]\ninput_mtok = 1\noutput_mtok = 2\n')
    first, used, *others = state(OTEL_COACH_PRICES=str(path))
    assert first == "prices: your own first, for 1 model"
    assert f"the list {list_}, genai-prices 0.0.1 of 2025-01-01" in used
    assert "which is old" in used
    assert [word in line for word, line in zip(("comes with", "0.1.0"), others, strict=True)]


@pytest.mark.parametrize("content", [b"{", b'list = "not-there.tsv"\n'])
def test_doctor_finds_a_file_that_cannot_be_used(tmp_path, monkeypatch, content):
    path = own(tmp_path, monkeypatch, content)
    settings = Settings.from_env({"OTEL_COACH_PRICES": str(path)})
    examined = Examined(settings, {})
    (problem,) = [one for one in pricing.look(examined) if isinstance(one, Finding)]
    assert f"OTEL_COACH_PRICES={path} cannot be used" in problem.what
    assert "otel-coach's list" in state(OTEL_COACH_PRICES=str(path))[0]


def test_all_texts_name_the_list_as_a_list_and_own_prices_as_json():
    """A list is no JSON, and is refused as own prices; so no text may call it so."""
    pages = [
        ROOT / "README.md",
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "otel_coach").rglob("*.py"),
    ]
    text = " ".join(" ".join(page.read_text("utf-8").split()) for page in pages)
    written = set(re.findall(r"--update ([\w.]+)(?=[ `]|$)", text))
    assert written == {"FILE", "prices.tsv"}
    written = re.findall(r"> prices\.(\w+)", text) + re.findall(r"PWD/prices\.(\w+)", text)
    assert set(written) == {"json", "tsv"}
