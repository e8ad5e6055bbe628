"""A training loop without a Trainer: `python own_loop.py MODEL ROWS.jsonl OUT`. Rows have `prompt` and `response`."""

import json
import sys
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoTokenizer

from logitrail import SafetyTokens
from logitrail.losses import position_mask, safety_token_loss
from logitrail.models import SafetyHead
from logitrail.models.hidden import capture_hidden
from logitrail.reference import Frozen

LAMBDA, BATCH, LEARNING_RATE = 0.1, 8, 1e-4

path, rows, out = sys.argv[1:]
device = "cuda" if torch.cuda.is_available() else "cpu"
tokenizer = AutoTokenizer.from_pretrained(path)
model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).to(device)


def example(row):
    """Ids of prompt and response, and labels on the response alone."""
    turns = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["response"]}]
    texts = [
        tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True),
        tokenizer.apply_chat_template(turns, tokenize=False),
    ]
    prompt, whole = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts)
    labels = [-100] * len(prompt) + whole[len(prompt) :]
    return torch.tensor(whole), torch.tensor(labels)


tokens = SafetyTokens.from_templates(tokenizer)
head = SafetyHead(model, tokens.ids)
head.verify(model)  # are these columns really the model's logits?
reference = Frozen(model, tokens.ids, with_logsumexp=False)  # the starting model, before the first step
optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)

examples = [example(json.loads(line)) for line in Path(rows).read_text(encoding="utf-8").splitlines()]
model.train()
for step, first in enumerate(range(0, len(examples), BATCH)):
    ids, labels = zip(*examples[first : first + BATCH], strict=True)
    inputs = {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=tokenizer.pad_token_id).to(device),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True).to(device),
    }
    labels = pad_sequence(labels, batch_first=True, padding_value=-100).to(device)
    mask = position_mask(labels)  # [batch, length - 1]: the next token has a label
    with capture_hidden(model) as captured:
        logits = model(**inputs).logits
        hidden = captured.take()
    ce = cross_entropy(logits[:, :-1][mask], labels[:, 1:][mask])
    policy = head.columns(hidden[:, :-1][mask])  # [N, K], the same hidden state: no second pass
    held = reference.columns(inputs, mask, None).columns  # [N, K], without gradient
    penalty = safety_token_loss(policy, held, weights=tokens.weights)
    (ce + LAMBDA * penalty).backward()
    optimizer.step()
    optimizer.zero_grad()
    print(json.dumps({"step": step, "ce": ce.item(), "str": penalty.item()}))

model.save_pretrained(out)
tokenizer.save_pretrained(out)
