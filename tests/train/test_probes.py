"""A step's probe prompts, dealt out over its micro-batches and processes: each once, in few passes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from logitrail.train.probes import Share, deal


@given(half=st.integers(1, 200), micro_batches=st.integers(1, 32), ranks=st.integers(1, 16))
def test_all_shares_together_have_each_prompt_once(half, micro_batches, ranks):
    batch = 2 * half
    passes = [
        [deal(batch, Share(0, micro, micro_batches, rank, ranks)) for rank in range(ranks)]
        for micro in range(micro_batches)
    ]
    dealt = [place for shares in passes for share in shares if share is not None for place in share]
    assert sorted(dealt) == list(range(batch))
    for shares in passes:  # sharded weights are gathered by all processes at once, so all run a pass or none does
        assert len({share is None for share in shares}) == 1
    most = -(-batch // (8 * ranks))
    assert sum(shares[0] is not None for shares in passes) <= min(micro_batches, most)


def test_the_default_costs_one_pass_a_step_however_it_is_accumulated():
    assert [deal(8, Share(0, micro, 8)) for micro in range(8)] == [range(8), *[None] * 7]
