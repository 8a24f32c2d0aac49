"""`curl`, of a provider's usage API: what the provider answers to a request that it understands.

Any other address is asked by the real one.
"""

import os
import shutil
import sys
from argparse import ArgumentParser
from decimal import Decimal
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.support.invoices import (
    Call,
    anthropic_costs,
    anthropic_usage,
    openai_costs,
    openai_usage,
)

GPT = [Call("gpt-4o-2024-08-06", 1000, 500, usd=Decimal("0.0075"))]
CLAUDE = [Call("claude-sonnet-4-5-20250929", 2000, 700, usd=Decimal("0.0165"))]
ANSWERS = {
    "api.openai.com/v1/organization/usage/completions": (lambda: openai_usage(GPT), "model"),
    "api.openai.com/v1/organization/usage/embeddings": (
        lambda: openai_usage([], embeds=True),
        "model",
    ),
    "api.openai.com/v1/organization/costs": (lambda: openai_costs(GPT), "line_item"),
    "api.anthropic.com/v1/organizations/usage_report/messages": (
        lambda: anthropic_usage(CLAUDE),
        "model",
    ),
    "api.anthropic.com/v1/organizations/cost_report": (
        lambda: anthropic_costs(CLAUDE),
        "description",
    ),
}

words = sys.argv[1:]
if not any("https://" in word for word in words):
    here = str(Path(shutil.which("curl")).parent)
    others = [one for one in os.environ["PATH"].split(os.pathsep) if one != here]
    os.execv(shutil.which("curl", path=os.pathsep.join(others)), ["curl", *words])
parser = ArgumentParser()
parser.add_argument("-g", action="store_true")
parser.add_argument("-H", action="append")
parser.add_argument("url")
given = parser.parse_args(words)
# Without -g, the real one takes brackets for a range of addresses.
assert given.g or "[" not in given.url
url = urlsplit(given.url)
answer, group = ANSWERS[url.netloc + url.path]
asked = parse_qs(url.query)
headers = dict(one.split(": ") for one in given.H)
if "openai" in url.netloc:
    assert headers == {"Authorization": "Bearer an-admin-key"}
    assert (asked["group_by"], int(asked["start_time"][0]) % 86_400) == ([group], 0)
else:
    assert headers == {"x-api-key": "an-admin-key", "anthropic-version": "2023-06-01"}
    assert asked["group_by[]"] == [group]
    assert asked["starting_at"] < asked["ending_at"]
sys.stdout.write(answer())
