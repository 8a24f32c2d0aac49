"""The run of `make cardinality-attack`, in short: a real server, fed what nobody would choose."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from otel_coach.metrics.labels import ALLOWED_LABELS
from verification.cardinality_attack.attack import ALL_KINDS, run, target


@pytest.mark.long
def test_junk_of_every_kind_leaves_the_page_valid_and_small():
    most = {
        "endpoint": 100 + 2,
        "model": 20 + 2,
        "mode": 10 + 5,
        "tool_name": 50 + 1,
        "error_type": 30 + 27,
        "dependency_name": 20 + 1,
        "method": 20 + 12,
        "status": 40 + 4,
    }
    with target() as attacked:
        attacks = run(attacked, 1000, first=1500)
        text = attacked.page()
    assert [attack.kind for attack in attacks] == [*ALL_KINDS]
    for attack in attacks:
        assert attack.after.series < 6000, attack
        assert attack.after.page < 1_000_000, attack
    assert not any(attack.after.memory > attack.before.memory + 20e6 for attack in attacks)
    values = {}
    for family in text_string_to_metric_families(text):
        series = set()
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items()))
            assert key not in series
            series.add(key)
            if family.name.startswith(("python_", "process_")):
                continue
            assert set(sample.labels) <= ALLOWED_LABELS | {"le"}
            for label, value in sample.labels.items():
                values.setdefault((family.name, label), set()).add(value)
    for (family, label), found in values.items():
        if label in most:
            assert len(found) <= most[label], (family, label)
    requests = sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "http_server_request_duration_seconds_count"
        and sample.labels["endpoint"] in {"/echo", "unmatched"}
    )
    assert requests >= 1500 + 1000 * 2  # every one that was sent
