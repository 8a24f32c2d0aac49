"""Whose distro and configurator it is to be. `make test-install` has real vendors beside it."""

from importlib.metadata import EntryPoint

import pytest

from otel_coach.configuration import environment_variables
from otel_coach.configuration.environment_variables import (
    CONFIGURATOR,
    DISTRO,
    in_our_place,
    vendors_in_place,
)
from otel_coach.settings import Settings
from otel_coach.setup import installation

OURS = ("otel_coach", "otel_coach")
STOCK = ("distro", "configurator")
VENDOR = ("acme", "acme_configurator")
ONLY_A_DISTRO = ("acme", None)
ONLY_A_CONFIGURATOR = (None, "acme_configurator")


@pytest.fixture(params=["found in this order", "found the other way round"])
def installed(request, monkeypatch):
    """Makes packages that each have a distro and a configurator, or one of the two."""
    for variable in ("OTEL_PYTHON_DISTRO", "OTEL_PYTHON_CONFIGURATOR", "OTEL_COACH_DISABLED"):
        monkeypatch.delenv(variable, raising=False)

    def install(*packages):
        order = packages if request.param == "found in this order" else packages[::-1]

        def entry_points(*, group):
            place = (DISTRO, CONFIGURATOR).index(group)
            return [EntryPoint(one[place], "m:C", group) for one in order if one[place]]

        monkeypatch.setattr(environment_variables, "entry_points", entry_points)

    return install


def choice():
    return tuple(getattr(in_our_place(group), "name", None) for group in (DISTRO, CONFIGURATOR))


@pytest.mark.parametrize(
    ("packages", "chosen"),
    [
        ([OURS], (None, None)),
        ([OURS, STOCK], (None, None)),
        ([OURS, VENDOR], VENDOR),
        ([OURS, STOCK, VENDOR], VENDOR),
        ([OURS, STOCK, ONLY_A_DISTRO], ("acme", "configurator")),
        ([OURS, STOCK, ONLY_A_CONFIGURATOR], ("distro", "acme_configurator")),
        ([OURS, ONLY_A_DISTRO], ("acme", None)),
    ],
)
def test_a_vendor_keeps_its_place_in_whatever_order_it_is_found(installed, packages, chosen):
    installed(*packages)
    assert choice() == chosen
    assert vendors_in_place() == (list(filter(None, chosen)) if "acme" in str(chosen) else [])


@pytest.mark.parametrize(
    ("packages", "chosen"),
    [
        ([OURS], (None, None)),
        ([OURS, STOCK], STOCK),
        ([OURS, STOCK, VENDOR], VENDOR),
    ],
)
def test_disabled_the_others_have_it(installed, monkeypatch, packages, chosen):
    installed(*packages)
    monkeypatch.setenv("OTEL_COACH_DISABLED", "true")
    assert choice() == chosen


def test_what_the_user_chose_is_not_touched(installed, monkeypatch):
    installed(OURS, STOCK, VENDOR)
    monkeypatch.setenv("OTEL_PYTHON_DISTRO", "otel_coach")
    monkeypatch.setenv("OTEL_PYTHON_CONFIGURATOR", "otel_coach")
    assert (choice(), vendors_in_place()) == ((None, None), [])
    environment_variables.come_first()
    assert (choice(), vendors_in_place()) == ((None, None), [])


def test_the_stock_ones_are_used_if_the_commands_own_option_disables_otel_coach(
    installed, monkeypatch
):
    """`opentelemetry-instrument --coach_disabled true` sets the variable after `come_first`."""
    monkeypatch.setattr("os.environ", {})
    installed(OURS, STOCK)
    environment_variables.come_first()
    monkeypatch.setenv("OTEL_COACH_DISABLED", "true")
    assert choice() == STOCK


@pytest.mark.parametrize(("packages", "variable"), [([OURS], None), ([OURS, STOCK], "otel_coach")])
def test_ours_is_asked_for_by_name_only_where_the_stock_ones_stand_beside(
    installed, monkeypatch, packages, variable
):
    environ = {}
    monkeypatch.setattr("os.environ", environ)
    installed(*packages)
    environment_variables.come_first()
    assert environ.get("OTEL_PYTHON_DISTRO") == variable
    assert environ.get("OTEL_PYTHON_CONFIGURATOR") == variable


@pytest.mark.parametrize("has_set", [False, True])
def test_the_exporters_give_way_only_where_a_vendor_has_set_the_provider(monkeypatch, has_set):
    """It may be installed, and not be started: by code, or without a configurator of its own."""
    built = []
    monkeypatch.setattr(installation, "vendors_in_place", lambda: ["acme"])
    monkeypatch.setattr(installation, "tracer_provider_is_set", lambda: has_set)
    monkeypatch.setattr(installation, "_installed", None)

    def build(settings, *, asked, vendors):
        built.append((settings.trace_exporters, tuple(vendors)))
        raise OSError

    monkeypatch.setattr(installation, "Installation", build)
    monkeypatch.setattr(installation, "_stays_off", False)
    installation.install(Settings(trace_exporters=("otlp",)))
    assert built == [((), ("acme",)) if has_set else (("otlp",), ())]
