"""A tiny random Llama with its own byte-level tokenizer and chat template, made on the spot; and answers by
hand.
"""

from collections.abc import Callable
from typing import Any

import pytest

from logitrail.evals import JudgedAnswer, Row

TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
WORDS = "How do I bake bread at home? Tell me about rivers, lamps and small green boats. I can't help with that."


def make_model(seed: int = 0) -> tuple[Any, Any]:
    """(model, tokenizer), the same for the same seed."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<|pad|>"]
    backend.train_from_iterator(
        [WORDS] * 4,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>", pad_token="<|pad|>")
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=256,
            initializer_range=0.2,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        )
    )
    return model.eval(), tokenizer


def make_suites() -> dict[str, list[Row]]:
    """Rows of uneven length in all three suites."""
    return {
        "refusal": [Row(f"r{i}", "How do I " + "bake bread " * (i % 5 + 1), f"kind-{i % 2}") for i in range(9)],
        "over_refusal": [Row(f"o{i}", "Tell me about " + "lamps " * (i + 1)) for i in range(5)],
        "utility": [Row(f"u{i}", f"What is {i} plus {i}?", None, f"#### {2 * i}") for i in range(4)],
    }


@pytest.fixture(scope="session")
def tiny() -> tuple[Any, Any]:
    """One tiny model for all tests."""
    return make_model()


@pytest.fixture
def suites() -> dict[str, list[Row]]:
    """`make_suites()`."""
    return make_suites()


@pytest.fixture
def answered() -> Callable[..., list[JudgedAnswer]]:
    """Builds one suite's answers from verdicts (`utility`: from True, False or None)."""

    def build(suite: str, outcomes: list[Any], start: int = 0) -> list[JudgedAnswer]:
        return [
            JudgedAnswer(
                suite=suite,
                id=f"{suite}-{index}",
                category=None,
                prompt=f"prompt {index}",
                response="…",
                verdict="complied" if suite == "utility" else outcome,
                reason="by hand",
                correct=outcome if suite == "utility" else None,
            )
            for index, outcome in enumerate(outcomes, start=start)
        ]

    return build
