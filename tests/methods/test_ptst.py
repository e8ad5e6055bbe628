"""The safety prompt stands before every prompt at inference, and in no row of the training."""

from __future__ import annotations

from logitrail.methods import method
from logitrail.methods.ptst import SAFETY_PROMPT, Options


def test_the_default_prompt_is_ours():
    assert Options().prompt == SAFETY_PROMPT
    assert method("ptst").system({}) == SAFETY_PROMPT


def test_a_prompt_of_the_recipe_s_own():
    ptst = method("sft+ptst")
    assert ptst.system({"ptst": {"prompt": "Be careful."}}) == "Be careful."
    assert not ptst.changes_rows
    assert method("sft").system({}) is None
