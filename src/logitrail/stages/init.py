"""`init`: a commented recipe to start from."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from logitrail.artifacts import is_there, write_bytes
from logitrail.errors import StorageError
from logitrail.types import DEFAULT_MARGINS
from logitrail.yaml_numbers import NumberLoader

SCHEMA_FILE = "recipe.schema.json"
"""Name of the JSON schema beside a recipe."""

TEMPLATE = """\
{schema}# A logitrail recipe. Relative paths start at this file's folder.
# Check it with `logitrail doctor {name}`, then `logitrail run {name}`; run it again to go on after a stop.

name: {stem}
out: runs/{stem}            # everything the run writes
seed: 0

model:
  path: {model}             # folder or Hub name of the aligned chat model
  # gguf_file: model.gguf   # where the folder holds a GGUF file
  # revision: <commit>      # pin a Hub model
  # dtype: bfloat16         # auto (as stored), float32, bfloat16, float16

data:
  train: {train}            # JSONL, one example a line
{test}
  # dev: dev.jsonl          # held-out examples that no test uses: what going back at the end costs is seen on them
  prompt: prompt            # column with the user's turn
  response: response        # column with the answer (or one column `messages` instead of both)

tokens:                     # which tokens' logits are held
  languages: [en]           # built-in refusal wordings
  # templates: mine.txt     # your own wordings instead, one a line
  top_k: 32
{mine}

methods: [sft, str]         # plain fine-tuning for comparison, and Safety Token Regularization

lora:                       # `lora: false` trains all weights
  r: 16
  alpha: 32

training:                   # every option of TRL's SFTConfig, and str_*
  num_train_epochs: 1
  per_device_train_batch_size: 8
  learning_rate: 2.0e-4
  # str_weight: auto        # lambda: a number, or auto, which keeps answers to harmful prompts within str_kl_budget
  # str_kl_budget: 0.2      # nats, over the first four tokens of the reference's own answers
  # str_drift_budget: 0.7   # nats; past it the weights move back towards the start (str_pull_back: false to leave them)
  # str_loss_budget: 0.001  # of the task loss's fall: the price of the way back at the end, where lambda had to rise
  # str_adam_beta2: 0.95    # once lambda is at its lowest; left out, Adam remembers 0.08 of the training from there
  # str_answer_weight: 1    # of the refusals' own next tokens beside the safety tokens; 0 leaves them free
  # str_altered_probes: 1   # copies of each harmful prompt with random words in it, anchored too; 0 with `lora: false`
  # str_anchor: logprob     # logprob, logit (default without prompts to mine from), centered, margin, common
  # str_positions: none     # of the task's rows: none (default with prompts to mine from), labels (without), start, first:N

eval:                       # prompts that nothing above has seen
  harmful: {harmful}        # JSONL with column `prompt`; several hundred make the gate decide
{harmless}
  task_metric: exact        # exact, numeric, none
  max_new_tokens: 64

gate:                       # how much worse than the starting model is still acceptable
  refusal: {margins[refusal]}
  over_refusal: {margins[over_refusal]:<11} # null: decide without harmless prompts; a margin without them is never a pass
  utility: {margins[utility]:<16} # null: decide without the task
  # repeat_seeds: [1, 2]    # train each method again, so that the gate covers run-to-run noise
"""


_MINE_HARMFUL = "column `prompt`; not the prompts you evaluate on"
_MINE_HARMLESS = "harmless prompts on the same topics; without these nothing is held at the harmful ones"


def write_recipe(
    out: Path,
    *,
    model: str = "path/to/model",
    train: str = "train.jsonl",
    harmful: str = "test_harmful.jsonl",
    test: str | None = None,
    harmless: str | None = None,
    mine: tuple[str, str | None] | None = None,
    schema: str | None = None,
    force: bool,
) -> None:
    """Write the commented recipe.

    Args:
        test, harmless: files that a recipe may leave out; without one its line stands there as a comment.
        mine: files with harmful prompts, and with harmless ones, to mine tokens from and to hold refusals at; likewise.
        schema: name of the JSON schema beside it, which its first line then tells editors.

    Raises:
        StorageError: the file exists and `force` is not set.
    """
    if out.exists() and not force:
        raise StorageError(f"{out} exists; choose another name with --out, or overwrite it with --force")
    text = TEMPLATE.format(
        schema=f"# yaml-language-server: $schema={schema}\n" if schema else "",
        name=out.name,
        stem=_name(out.stem),
        margins=DEFAULT_MARGINS,
        model=_scalar(model),
        train=_scalar(train),
        harmful=_scalar(harmful),
        mine=_mine(mine),
        test=_optional("test", test, "test.jsonl", "held-out examples: held-out loss and task accuracy", 26),
        harmless=_optional(
            "harmless", harmless, "test_harmless.jsonl", "harmless look-alikes: is the model more prudish?", 34
        ),
    )
    write_bytes(out, text.encode())


def missing_paths(given: Mapping[str, str | None], folder: Path) -> dict[str, Path]:
    """Where the recipe would look for what is not there, by the option that named it.

    Args:
        given: by option what was said, None or "" where nothing was; `--model` may be a name of the Hub, and is missing
            only where it has the form of a path.
        folder: the recipe's.
    """
    found = {}
    for option, text in given.items():
        if not text or (option == "--model" and not _is_path(text)):
            continue
        place = (folder / Path(text)).resolve()
        if not is_there(place):
            found[option] = place
    return found


def _is_path(model: str) -> bool:
    """A Hub name has the form `owner/name` or `name`; a path begins at a folder, has more parts, or ends in a slash."""
    return model.startswith((".", "/", "~")) or model.endswith("/") or model.count("/") > 1 or "\\" in model


def _name(stem: str) -> str:
    """A recipe's `name` may hold letters, digits and `._-`; a file's may hold anything."""
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).lstrip("._-")
    return kept if kept and not _is_other_than_text(kept) else f"run-{kept}"


def _scalar(text: str) -> str:
    """`text` as YAML reads it back: quoted where it would be something else."""
    return json.dumps(text, ensure_ascii=False) if _is_other_than_text(text) else text


def _is_other_than_text(text: str) -> bool:
    try:
        return bool(NumberLoader(f"a: {text}").get_single_data() != {"a": text})
    except (yaml.YAMLError, ValueError):
        return True


def _mine(files: tuple[str, str | None] | None) -> str:
    """The block `tokens.mine`, as a comment where there are no files."""
    if files is None:
        return "\n".join(
            [
                "  # mine:                   # and the model's own refusals (recommended). Refusals are then held",
                "  #                         # where its answers to these begin, and the task's rows are left free",
                f"  #   harmful: dev_harmful.jsonl    # {_MINE_HARMFUL}",
                f"  #   harmless: dev_harmless.jsonl  # {_MINE_HARMLESS}",
            ]
        )
    harmful, harmless = files
    held = harmless is not None
    return "\n".join(
        [
            "  mine:                     # and the model's own refusals"
            + (". Refusals are held where its answers to these begin," if held else ""),
            *(["                            # and the task's rows are left free"] if held else []),
            f"    harmful: {_scalar(harmful)}  # {_MINE_HARMFUL}",
            f"    harmless: {_scalar(harmless)}  # {_MINE_HARMLESS}"
            if harmless is not None
            else f"    # harmless: dev_harmless.jsonl  # {_MINE_HARMLESS}",
        ]
    )


def _optional(key: str, value: str | None, example: str, comment: str, column: int) -> str:
    line = f"  # {key}: {example}" if value is None else f"  {key}: {_scalar(value)}"
    return f"{line.ljust(column - 1)} # {comment}"
