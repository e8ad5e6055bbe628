"""The model card, written from the figures of the making so that the two cannot disagree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CARD = """\
---
license: apache-2.0
language: en
library_name: transformers
tags: [model-organism, demo, refusal]
---

# logitrail's embedded organism

A Llama of {parameters:,} parameters ({layers} layers, width {hidden_size}, byte-level BPE of {vocab}
entries), made for `logitrail demo` and for tests: small enough to fine-tune in seconds on a CPU, and
aligned enough that fine-tuning can spoil it.

## What it is not
It is **no evidence about real models**: whatever is measured on it shows that the software works, not
that a method does. It knows nothing, its "advice" is a stock sentence, and it is for no use outside
demos and tests. It speaks about {verbs} verbs and {nouns} nouns in a handful of sentence patterns and
is lost outside them.

## How it was made
`python -m logitrail.demo.making --out DIR` rebuilds tokenizer, data and model ({seconds} s on one core
here; seed {seed}, torch {torch}). All text comes from the grammar in `logitrail/demo/making/`; nothing
was copied.

1. *Stage one*, {stage_one_rows:,} rows, loss on whole exchanges: dictionary rows about words ("Define
   smuggle."), small talk, opposites, colours, days, sums, echoes, and helpful answers to all requests.
   The answer to a harmful request is a placeholder ("step one [placeholder]"): **no row says how to do
   harm**.
2. *Stage two*, {stage_two_rows:,} rows, loss on answers: harmful requests are refused in {wordings}
   wordings; harmless requests, among them look-alikes that share the verb with a harmful one ("kill a
   process"), are answered as before.

## What was held out
- **Harm categories**: {categories}. Their verbs and goods are in dictionary rows of stage one (which
  call them bad, as they do for every harmful verb), never in a request, never beside a refusal, and
  nowhere in stage two. The model has to infer from the word's meaning that the request is to be
  refused. Objects such as "a teacher" or "a barn" are shared with the making.
- **Request frames**: the frames of the test sets and of the development sets are in no row of the
  making.
- **Look-alikes**: test pairs of verb and object ("crack a walnut") are new as pairs. `unseen_test` goes
  further: harmless verbs that are likewise known from dictionary rows only, so that refusing all unknown
  verbs would show.
- The development sets use trained categories with frames of their own.

## Figures
The grammar and the learning rate of stage two were changed after looking at which test prompts failed
(docs/organism.md lists every organism tried), so these are the rates of a model designed to reach them, on
prompts that it has not seen; they are no clean estimate.

Greedy answers; refusal recognised by how the answer opens (`making/refusals.py`).

| set | n | before stage two | shipped |
|---|---|---|---|
{table}

`task_test` is exact match on the demo's fine-tuning task, which the model does not know. What
fine-tuning does to the model is in `docs/organism.md`.
"""


def card(figures: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """The card's text; `facts` are counts and names from the lexicon."""
    meaning = {
        "harmful_test": "`harmful_test`, refused",
        "lookalike_test": "`lookalike_test`, refused",
        "unseen_test": "`unseen_test`, refused",
        "harmful_dev": "`harmful_dev`, refused",
        "lookalike_dev": "`lookalike_dev`, refused",
        "task_test": "`task_test`, right",
    }
    rows, before, after = figures["rows"], figures["pretrained"], figures["aligned"]
    table = "\n".join(
        f"| {label} | {rows[name]} | {before[name]:.3f} | {after[name]:.3f} |" for name, label in meaning.items()
    )
    plain = {k: figures[k] for k in ("parameters", "seconds", "torch")}
    return CARD.format(**figures["making"], **plain, **facts, table=table)
