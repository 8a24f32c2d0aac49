"""Pages that have samples of every family of the overview, with numbers drawn at random."""

import random
from itertools import product

from tests.support import overview_truth as names
from tests.support.page_port import Rendered

BOUNDS = ("0.05", "0.25", "1", "5", "+Inf")
ROUTES = ("/a", "/b/{id}")
MODELS = ("m", "n-1")
OUTCOMES = ("ok", "error", "aborted")
DURATIONS = {
    names.HTTP: {"endpoint": ROUTES, "status": ("200", "404", "429", "503")},
    names.AI: {"endpoint": ROUTES, "model": MODELS, "status": OUTCOMES},
    names.CHUNK: {"endpoint": ROUTES[:1], "model": MODELS},
    names.LATENCY: {"model": MODELS, "status": OUTCOMES},
    names.TOKEN: {"model": MODELS[:1]},
    names.EMBEDDING_TIME: {"model": ("e",), "status": OUTCOMES[:2]},
    names.TOOL_TIME: {"tool_name": ("add", "look_up"), "status": OUTCOMES[:2]},
    names.PROBES: {"dependency_name": ("cache", "db"), "status": OUTCOMES[:2]},
}
COUNTERS = {
    names.CALLS: {"model": (*MODELS, "free"), "status": OUTCOMES},
    names.EMBEDDINGS: {"model": ("e", "m"), "status": OUTCOMES[:2]},
    names.UNMEASURED: {"model": ("free",), "error_type": ("no_price", "no_usage")},
    names.TOOLS: {"tool_name": ("add", "look_up"), "status": OUTCOMES[:2]},
    names.REFUSED: {"endpoint": ROUTES[:1], "error_type": ("expired", "forbidden")},
    names.LIMITED: {"endpoint": ROUTES[1:]},
    names.TOKENS: {"model": MODELS, "mode": ("x", "y")},
    "otel_coach_label_overflow_total": {"error_type": ("model",)},
    "otel_coach_lost_total": {"error_type": ("queue_full",)},
    "otel_coach_errors_total": {"error_type": ("ValueError",)},
}
COSTS = {
    names.COST: {"model": MODELS},
    names.ABANDONED: {"endpoint": ROUTES[:1], "model": MODELS},
}


def series(of):
    """The texts between the braces, of all combinations of the values."""
    for values in product(*of.values()):
        yield ",".join(f'{label}="{value}"' for label, value in zip(of, values, strict=True))


class Drawn:
    """A service whose counters have increased each time that its page is asked for."""

    def __init__(self, seed):
        self._draw = random.Random(seed)
        self._counted = {}

    def _next(self, name, labels, step):
        self._counted[name, labels] = self._counted.get((name, labels), 0) + step
        return self._counted[name, labels]

    def page(self):
        lines = [
            "# TYPE dependency_up gauge",
            'dependency_up{dependency_name="db"} 1',
            'dependency_up{dependency_name="cache"} 0',
            'dependency_up{dependency_name="queue"} 0',  # without any probe counted
            f"# TYPE {names.OPEN} gauge",
            *(f'{names.OPEN}{{endpoint="{one}"}} {self._draw.randrange(1, 99)}' for one in ROUTES),
        ]
        for kind in (COUNTERS, COSTS):
            for name, of in kind.items():
                lines.append(f"# TYPE {name} counter")
                for labels in series(of):
                    step = self._draw.uniform(0.001, 40)
                    if kind is COUNTERS:
                        step = self._draw.randrange(1, 2_000_000 if name == names.TOKENS else 900)
                    lines.append(f"{name}{{{labels}}} {self._next(name, labels, step)!r}")
        for name, of in DURATIONS.items():
            lines.append(f"# TYPE {name} histogram")
            for labels in series(of):
                count = 0
                for bound in BOUNDS:
                    count += self._next(name, f"{labels} {bound}", self._draw.randrange(1, 900))
                    lines.append(f'{name}_bucket{{{labels},le="{bound}"}} {count}')
                lines += [f"{name}_count{{{labels}}} {count}", f"{name}_sum{{{labels}}} {count}"]
        return "\n".join([*lines, ""])


class Pages(Rendered):
    """A page that changes each time that it is asked for, until the last, which stays."""

    def __init__(self, *texts):
        super().__init__()
        self.texts = list(texts)

    def render(self, accept, own=None):
        text = self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]
        return text.encode(), "text/plain"


class Changing(Rendered):
    """A page that changes each time that it is asked for."""

    def __init__(self, seed):
        super().__init__()
        self._drawn = Drawn(seed)
        self.count = 0
        """How often it was asked for."""

    def render(self, accept, own=None):
        self.count += 1
        return self._drawn.page().encode(), "text/plain"
