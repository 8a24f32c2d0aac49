"""A network that ends at this machine, the double of all providers, and what is measured there."""

import os
from dataclasses import dataclass, field

import certifi
import pytest
import trustme

from otel_coach.testing import measuring
from tests.support.providers import shapes
from tests.support.providers.addresses import HOSTS, ROUTES
from tests.support.providers.double import Answer, Double
from tests.support.providers.handed_over import HandedOver
from tests.support.providers.network import only_network
from tests.support.providers.table import Table
from tests.support.providers.ways import CALLS, WAYS, weather


@pytest.fixture(scope="session")
def double(tmp_path_factory):
    authority = trustme.CA()
    bundle = tmp_path_factory.mktemp("trust") / "authority.pem"
    authority.cert_pem.write_to_path(bundle)
    context = _context(authority)
    with pytest.MonkeyPatch.context() as patch, Double(ROUTES, context) as running:
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"):
            patch.setenv(name, str(bundle))
        # langchain-mistralai reads certifi's file, whatever the environment says.
        patch.setattr(certifi, "where", lambda: str(bundle))
        for name in [*os.environ]:
            if name.lower().endswith("_proxy"):
                patch.delenv(name)
        for name, value in _SETTINGS.items():
            patch.setenv(name, value)
        with only_network(dict.fromkeys(HOSTS, running.tls_port)):
            yield running


_SETTINGS = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
"""What the packages do at other addresses than a provider's."""


def _context(authority):
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*HOSTS).configure_cert(context)
    return context


@pytest.fixture
def local_url(double):
    """A server of one's own, by plain HTTP."""
    return f"http://127.0.0.1:{double.http_port}"


@dataclass
class Outcome:
    """What one way of calling left: in the ledger, in the hands of callbacks, and measured."""

    calls: list
    handed: HandedOver
    page: object = None
    spans: list = field(default_factory=list)
    error: BaseException | None = None

    @property
    def chats(self):
        return [span for span in self.spans if span.name.startswith("chat ")]

    @property
    def finishes(self):
        return [span.attributes.get("gen_ai.response.finish_reasons", ()) for span in self.chats]

    @property
    def seconds_left(self):
        """From the first content of each stream to its end, as the provider sent them."""
        return sum(call.ended - call.first_content for call in self.calls)

    @property
    def seconds_after_first_token(self):
        """The same, as measured."""
        latency = self.page.sum("agent_llm_latency_seconds_sum")
        return latency - self.page.sum("agent_llm_time_to_first_token_seconds_sum")

    def unmeasured(self, reason):
        return self.page.sum("agent_llm_unmeasured_total", error_type=reason)

    def tokens(self, mode):
        return self.page.sum("agent_llm_tokens_total", mode=mode)

    @property
    def cost(self):
        return self.page.sum("agent_llm_cost_usd_total")


@pytest.fixture(scope="session")
def observe(double):
    """Calls `way(model)` with these answers of the provider, and returns what came of it."""

    def observing(way, model, *answers, settings=None, timed=False):
        """`timed`: streams pause, and what is imported or connected at a first call is done."""
        if timed:
            observing(way, model, *answers)
        double.waits = timed
        double.script(*answers)
        handed = HandedOver()
        getattr(model, "bound", model).callbacks = [handed]
        outcome = Outcome(double.ledger, handed)
        with measuring(settings) as measured:
            try:
                way(model)
            except Exception as error:  # noqa: BLE001 - each check says what it wanted instead
                outcome.error = error
            outcome.page = measured.page()
            outcome.spans = list(measured.spans)
        outcome.calls = list(double.ledger)
        return outcome

    return observing


@pytest.fixture(scope="session")
def drive(request, observe, double):
    """Drives an integration by one way of `ways.py`, once in a session."""
    made = {}

    def driving(integration, way):
        if (key := (integration.name, way)) not in made:
            address = (f"http://127.0.0.1:{double.http_port}",) * integration.needs_address
            model = integration.make(*address)
            answers = [Answer(cost=integration.stated_cost)]
            if way not in CALLS:
                answers.insert(0, Answer(tool="weather", cost=integration.stated_cost))
            call = WAYS[way]
            if way in CALLS and integration.has_tools:
                call = _with_tools(call)
            made[key] = observe(call, model, *answers, timed=True)
        return made[key]

    yield driving
    if request.config.getoption("--write-shapes"):
        single = {key: one for key, one in made.items() if key[1] in {"invoke", "stream"}}
        shapes.write(shapes.SHAPES, single)


def _with_tools(call):
    return lambda model: call(model.bind_tools([weather]))


def pytest_addoption(parser):
    parser.addoption("--write-shapes", action="store_true", help="write what was handed over")
    parser.addoption("--write-table", help="the page whose table is written from the results")


def pytest_configure(config):
    config.pluginmanager.register(Table(config.getoption("--write-table")))
