"""The safety prompt goes in front, once, and changes nothing else."""

from __future__ import annotations

from logitrail.methods.ptst import SAFETY_PROMPT, Options, with_safety_prompt


def test_in_front_of_a_conversation_without_a_system_message():
    messages = [{"role": "user", "content": "hello"}]
    result = with_safety_prompt(messages)
    assert result == [{"role": "system", "content": SAFETY_PROMPT}, {"role": "user", "content": "hello"}]
    assert messages == [{"role": "user", "content": "hello"}]


def test_before_the_text_of_the_system_message_there_is():
    messages = [{"role": "system", "content": "Speak French."}, {"role": "user", "content": "hello"}]
    result = with_safety_prompt(messages, "Be careful.")
    assert result[0] == {"role": "system", "content": "Be careful.\n\nSpeak French."}
    assert result[1:] == messages[1:]
    assert messages[0]["content"] == "Speak French."


def test_the_default_prompt_is_ours():
    assert Options().prompt == SAFETY_PROMPT
