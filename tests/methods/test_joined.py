"""What a method asks for before anything is loaded, and which parts may stand behind which."""

from __future__ import annotations

import itertools

import pytest

from logitrail.errors import RecipeError
from logitrail.methods import METHODS, method


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
