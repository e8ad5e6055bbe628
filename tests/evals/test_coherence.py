"""What is language and what is a loop."""

from hypothesis import given
from hypothesis import strategies as st

from logitrail.evals.judges.coherence import _loop, incoherence


def naive_loop(words: list[str]) -> int:
    """The length of the longest stretch that goes round at least four times, by looking at every one."""
    longest = 0
    for period in range(1, 25):
        for start in range(len(words)):
            end = start + period
            while end < len(words) and words[end] == words[end - period]:
                end += 1
            if end - start >= 4 * period and end <= len(words):
                longest = max(longest, end - start)
    return longest


few = st.lists(st.sampled_from("abc"), max_size=12)


@given(few, few, st.integers(1, 9), few)
def test_the_longest_loop_is_the_one_that_a_naive_search_finds(before, once, times, after):
    words = [*before, *once * times, *after]
    found = _loop(words)
    assert (found[2] if found else 0) == naive_loop(words)
    if found:
        start, period, length = found
        assert length >= 4 * period
        assert words[start : start + period] * (length // period) == words[start : start + length // period * period]


def test_gibberish_by_kind():
    assert incoherence("I cannot help with that.") is None
    assert incoherence("42") is None
    assert incoherence("¿?¡! …") == "hardly any letters"
    assert incoherence("ok" + "#" * 18) == "hardly any letters"
    assert incoherence("да 你 a ع") == "mixed writing systems"
    assert incoherence("ha" * 20) == "characters in a loop"
    assert incoherence("the red house and " * 6) == "words in a loop"
    assert incoherence("strngth brkfst wrkd xyzzt") == "words without vowels"
