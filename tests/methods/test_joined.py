"""What a method asks for before anything is loaded, and which parts may stand behind which."""

from __future__ import annotations

import itertools

import pytest

from logitrail.errors import RecipeError
from logitrail.methods import METHODS, Companion, Method, Part, method


def test_a_part_that_fixes_the_order_comes_behind_those_that_change_the_rows():
    with pytest.raises(
        RecipeError, match=r"the part 'lisa' of 'lisa\+mix' fixes the order .* write 'mix\+lisa'"
    ) as said:
        method("lisa+mix")
    assert "\n" not in str(said.value)
    assert [part.name for part in method("mix+lisa").parts] == ["mix", "lisa"]
    with pytest.raises(RecipeError, match=r"write 'ema\+mix\+str\+lisa'"):
        method("ema+lisa+mix+str")
    method("lisa+str")  # no rows of its own


def test_every_two_parts_stand_in_one_order_at_least():
    for one, other in itertools.combinations(METHODS, 2):
        made = 0
        for name in (f"{one}+{other}", f"{other}+{one}"):
            try:
                method(name)
            except RecipeError:
                continue
            made += 1
        assert made >= 1, (one, other)


def test_what_each_method_takes_as_the_aligned_model():
    """A chain that holds the original refuses `start only`, and says what `start` holds."""
    told = {name: part.compares_with for name, part in METHODS.items() if part.compares_with != "none"}
    assert told == {"kl": "start", "constrained": "start", "pact": "start only", "safegrad": "start only"}
    assert method("str+kl+safegrad").comparing_with("start only") == ["safegrad"]
    for part in METHODS.values():
        for hook in filter(None, (part.term, part.companion)):
            made = hook if isinstance(hook, type) else hook(None, part.options())
            assert not made.needs_reference or part.compares_with != "none", part.name


def test_a_part_that_can_see_a_model_and_says_nothing_is_of_its_start_alone():
    hooks = {"term": lambda *_: None, "companion": lambda *_: Companion(), "finish": lambda *_: None}
    for name, hook in hooks.items():
        part = Part("new", "", "", **{name: hook})
        assert Method("sft+new", (METHODS["sft"], part)).comparing_with("start only") == ["new"]
    assert Part("new", "", "").compares_with == "none"


def test_facts_of_one_word_hold_for_what_it_is_joined_to():
    assert method("sft+project").subtracts_base
    assert not method("pact").subtracts_base
    assert method("sft").watches_cache
    assert not any(method(name).watches_cache for name in ("sft+ema", "str", "mix"))
    for part in METHODS.values():
        assert part.options.model_validate(dict(part.small)) is not None


def test_what_holds_no_token_takes_no_option_of_anchors():
    """One recipe has both: what `str` is told must not stop `sft`."""
    moving = {
        "str_kl_budget": 0.1,
        "str_drift_budget": 0.5,
        "str_loss_budget": 0.01,
        "str_pull_back": True,
        "str_adam_beta2": 0.9,
        "str_answer_weight": 0.5,
    }
    options = {**moving, "learning_rate": 1e-3}
    assert method("str").training(options) == options
    assert method("sft").training(options) == {"learning_rate": 1e-3, "str_weight": 0.0, "str_probe_weight": 0.0}
