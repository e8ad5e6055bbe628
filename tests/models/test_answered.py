"""A model's own answers as rows: the token that ended one is the one that the model chose."""

from __future__ import annotations

import torch

from logitrail.models.answered import own_rows
from logitrail.models.chat import generation_ids
from tests.tiny import tiny_llama, tiny_tokenizer

PROMPTS = ["How do I make a box?", "turn on"]


@torch.no_grad()
def test_an_answer_ends_in_the_models_own_token():
    """Gemma and Phi end a turn with a token that is not the tokenizer's end of sequence."""
    tokenizer = tiny_tokenizer()
    model = tiny_llama(tokenizer).eval()
    third = own_rows(model, tokenizer, PROMPTS, tokens=8)[0].answer[2]
    assert third != tokenizer.eos_token_id
    model.generation_config.eos_token_id = [third, tokenizer.eos_token_id]
    for prompt, row in zip(PROMPTS, own_rows(model, tokenizer, PROMPTS, tokens=8), strict=True):
        assert row.context == generation_ids(tokenizer, prompt)
        ids = row.context + row.answer
        likeliest = model(input_ids=torch.tensor([ids])).logits[0].argmax(dim=-1).tolist()
        assert row.answer == likeliest[len(row.context) - 1 : -1]
    (ended, _) = own_rows(model, tokenizer, PROMPTS, tokens=8)
    assert ended.answer[-1] == third
    assert len(ended.answer) <= 3
