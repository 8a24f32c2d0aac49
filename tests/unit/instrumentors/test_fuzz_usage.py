"""Providers' usage blocks: what is well-formed is read exactly, and nothing breaks."""

from hypothesis import assume, given
from hypothesis import strategies as st

from otel_coach.instrumentors.genai.billing import billing_of, usage_of
from otel_coach.instrumentors.genai.usage_blocks import usage_of_chunks
from tests.support import strategies as some

# Usage blocks


def assert_plausible(usage, blocks=1):
    counts = tuple(usage)
    assert all(type(count) is int and 0 <= count <= 3 * 10**12 * blocks for count in counts)
    assert usage.cached + usage.cache_write <= usage.prompt
    assert usage.cache_write_1h <= usage.cache_write
    assert usage.reasoning <= usage.completion


@given(st.data(), some.blocks())
def test_a_providers_block_is_read_exactly_wherever_it_lies(data, block):
    told, usage = block
    answer = data.draw(some.answers(told))
    assert usage_of(billing_of(answer)) == (usage if usage.prompt or usage.completion else None)


@given(some.blocks(), st.lists(st.integers(0, 1000), max_size=4))
def test_the_completions_of_chunks_add_up(block, completions):
    told, usage = block
    assume(usage.prompt > 0)
    more = [{"input_tokens": 0, "output_tokens": count} for count in completions]
    expected = usage._replace(completion=usage.completion + sum(completions))
    assert usage_of_chunks([told, *more]) == expected


@given(st.lists(some.blocks(), min_size=2, max_size=4))
def test_of_running_totals_the_last_one_is_the_bill(blocks):
    assume(all(usage.prompt > 0 for _, usage in blocks))
    assert usage_of_chunks([told for told, _ in blocks]) == blocks[-1][1]


@given(st.data(), some.blocks())
def test_a_damaged_block_is_no_usage_or_a_plausible_one(data, block):
    told = data.draw(some.damaged(block[0]))
    for usage in (usage_of(billing_of(data.draw(some.answers(told)))), usage_of_chunks([told])):
        if usage is not None:
            assert_plausible(usage)


@given(some.JSON | some.strange_answers(), st.lists(some.JSON, max_size=4))
def test_a_strange_answer_is_no_usage_or_a_plausible_one(response, chunks):
    for usage in (usage_of(billing_of(response)), usage_of_chunks(chunks)):
        if usage is not None:
            assert_plausible(usage, len(chunks) or 1)
