"""Exports as providers write them, from a ledger of calls. The formats are those of their API
references; nothing here knows what otel-coach reads of them."""

import csv
import io
import json
from decimal import Decimal
from typing import NamedTuple

DAY = 86_400
BEGIN = 1_795_824_000
"""2026-11-28T00:00:00Z."""


class Call(NamedTuple):
    """A call as the provider knows it; `prompt` has the tokens read from and written to a cache."""

    model: str
    prompt: int
    completion: int
    read: int = 0
    written: int = 0
    usd: Decimal = Decimal(0)
    day: int = 0
    embeds: bool = False


def of_ledger(entries, snapshots, prices=None):
    """The calls of the local provider's ledger; `prices` are USD per 1,000,000 tokens."""
    for entry in entries:
        prompt, cached, completion = prices[entry.model] if prices else (0, 0, 0)
        usd = (
            (entry.prompt_tokens - entry.cached_tokens) * Decimal(str(prompt))
            + entry.cached_tokens * Decimal(str(cached))
            + entry.completion_tokens * Decimal(str(completion))
        ) / 1_000_000
        name = snapshots.get(entry.model, entry.model)
        tokens = (entry.prompt_tokens, entry.completion_tokens, entry.cached_tokens)
        yield Call(name, *tokens, usd=usd)


def _groups(calls, key):
    found = {}
    for call in calls:
        found.setdefault(key(call), []).append(call)
    return found


def _openai_page(days, results, begin, **more):
    data = [
        {
            "object": "bucket",
            "start_time": begin + day * DAY,
            "end_time": begin + (day + 1) * DAY,
            "results": results(day),
        }
        for day in range(days)
    ]
    page = {"object": "page", "data": data, "has_more": False, "next_page": None, **more}
    return json.dumps(page)


def openai_usage(calls, days=1, begin=BEGIN, *, embeds=False, **more):
    """/v1/organization/usage/completions, or .../embeddings, grouped by model."""

    def results(day):
        today = [call for call in calls if call.day == day and call.embeds == embeds]
        for model, group in _groups(today, lambda call: call.model).items():
            found = {
                "object": f"organization.usage.{'embeddings' if embeds else 'completions'}.result",
                "input_tokens": sum(call.prompt for call in group),
                "num_model_requests": len(group),
                "project_id": None,
                "user_id": None,
                "api_key_id": None,
                "model": model,
            }
            if not embeds:
                found |= {
                    "output_tokens": sum(call.completion for call in group),
                    "input_cached_tokens": sum(call.read for call in group),
                    "input_cache_write_tokens": sum(call.written for call in group),
                    "input_audio_tokens": 0,
                    "output_audio_tokens": 0,
                    "batch": None,
                    "service_tier": None,
                }
            yield found

    return _openai_page(days, lambda day: list(results(day)), begin, **more)


def openai_costs(calls, days=1, begin=BEGIN, fees=(), *, grouped=True, **more):
    """/v1/organization/costs, grouped by line_item or not at all; `fees` are other line items."""

    def result(usd, line_item):
        return {
            "object": "organization.costs.result",
            "amount": {"value": float(usd), "currency": "usd"},
            "line_item": line_item,
            "project_id": None,
            "api_key_id": None,
            "quantity": None,
        }

    def results(day):
        today = [call for call in calls if call.day == day]
        if not grouped:
            usd = sum(call.usd for call in today) + sum(usd for _, usd in fees if not day)
            return [result(usd, None)]
        lines = []
        for model, group in _groups(today, lambda call: call.model).items():
            lines.append(result(sum(call.usd for call in group), f"{model}, output"))
            lines.append(result(0, f"priority | {model}, cached input, long context"))
        return lines + [result(usd, name) for name, usd in fees if not day]

    return _openai_page(days, results, begin, **more)


def _rfc3339(seconds):
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _anthropic_page(days, results, begin, **more):
    data = [
        {
            "starting_at": _rfc3339(begin + day * DAY),
            "ending_at": _rfc3339(begin + (day + 1) * DAY),
            "results": results(day),
        }
        for day in range(days)
    ]
    return json.dumps({"data": data, "has_more": False, "next_page": None, **more})


def anthropic_usage(calls, days=1, begin=BEGIN, **more):
    """/v1/organizations/usage_report/messages, grouped by model."""

    def results(day):
        today = [call for call in calls if call.day == day]
        for model, group in _groups(today, lambda call: call.model).items():
            read = sum(call.read for call in group)
            written = sum(call.written for call in group)
            yield {
                "uncached_input_tokens": sum(call.prompt for call in group) - read - written,
                "cache_creation": {
                    "ephemeral_1h_input_tokens": written // 3,
                    "ephemeral_5m_input_tokens": written - written // 3,
                },
                "cache_read_input_tokens": read,
                "output_tokens": sum(call.completion for call in group),
                "server_tool_use": {"web_search_requests": 0},
                "api_key_id": None,
                "workspace_id": None,
                "model": model,
                "service_tier": None,
                "context_window": None,
            }

    return _anthropic_page(days, lambda day: list(results(day)), begin, **more)


def anthropic_costs(calls, days=1, begin=BEGIN, fees=(), **more):
    """/v1/organizations/cost_report, grouped by description: cents, as decimal strings."""

    def result(usd, description, model):
        return {
            "currency": "USD",
            "amount": str(usd * 100),
            "workspace_id": None,
            "description": description,
            "cost_type": "tokens" if model else "web_search",
            "context_window": "0-200k" if model else None,
            "model": model,
            "service_tier": "standard" if model else None,
            "token_type": "output_tokens" if model else None,
        }

    def results(day):
        today = [call for call in calls if call.day == day]
        groups = _groups(today, lambda call: call.model).items()
        lines = [result(sum(c.usd for c in group), f"{m} Usage", m) for m, group in groups]
        return lines + [result(usd, name, None) for name, usd in fees if not day]

    return _anthropic_page(days, results, begin, **more)


def table(calls, begin=BEGIN, *, sums=False):
    """The CSV file of docs/reconcile.md."""
    text = io.StringIO()
    counts = ["tokens"] if sums else ["input_tokens", "output_tokens"]
    lines = csv.writer(text)
    lines.writerow(["model", "day", *counts, "usd"])
    for (day, model), group in _groups(calls, lambda call: (call.day, call.model)).items():
        prompt = sum(call.prompt for call in group)
        completion = sum(call.completion for call in group)
        tokens = [prompt + completion] if sums else [prompt, completion]
        date = _rfc3339(begin + day * DAY)[:10]
        lines.writerow([model, date, *tokens, sum(call.usd for call in group)])
    return text.getvalue()


def page_text(tokens, usd=(), *, unmeasured=(), overflows=0, faults=0, more=""):
    """A metrics page with these tokens and US dollars by model."""
    lines = ["# TYPE agent_llm_tokens_total counter"]
    lines += [
        f'agent_llm_tokens_total{{model="{model}",mode="{mode}"}} {float(count)}'
        for model, modes in dict(tokens).items()
        for mode, count in modes.items()
    ]
    lines += ["# TYPE agent_llm_cost_usd_total counter"]
    lines += [f'agent_llm_cost_usd_total{{model="{m}"}} {float(v)}' for m, v in dict(usd).items()]
    lines += ["# TYPE agent_llm_unmeasured_total counter"]
    lines += [
        f'agent_llm_unmeasured_total{{model="{model}",error_type="{reason}"}} {float(count)}'
        for model, reason, count in [("none", "no_usage", 0), *unmeasured]
    ]
    lines += ["# TYPE otel_coach_label_overflow_total counter"]
    lines += [f'otel_coach_label_overflow_total{{error_type="model"}} {float(overflows)}']
    lines += ["# TYPE otel_coach_errors_total counter"]
    lines += [f'otel_coach_errors_total{{error_type="OSError"}} {float(faults)}', more]
    return "\n".join(lines) + "\n"
