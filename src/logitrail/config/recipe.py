"""What a recipe may say. Data only: frozen, validated, printable; the stages make objects of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from logitrail.types import DEFAULT_MARGINS, Control

TEMPLATE = "chat_template_path"
"""TRL's option, the one of `training` that names a file."""


class Section(BaseModel):
    """Frozen; an unknown key is an error (`reading` names the nearest right one)."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _different_seeds(value: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(value)) != len(value) or any(not 0 <= seed < 2**32 for seed in value):
        raise ValueError(f"got {list(value)}; give different seeds, each from 0 to 2^32 - 1")
    return value


Seeds = Annotated[tuple[int, ...], AfterValidator(_different_seeds)]
"""Of several trainings, one each."""


class ModelSection(Section):
    """The aligned chat model to start from."""

    path: str = Field(description="Folder or Hub name of the aligned chat model.")
    gguf_file: str | None = Field(None, description="Name of a GGUF file in that folder.")
    adapter: str | None = Field(None, description="PEFT folder to put on top: part of the starting policy.")
    base: str | None = Field(None, description="Its pretrained sibling before alignment, for `project` and `pact`.")
    revision: str | None = Field(None, description="Hub commit to pin the model to.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="Type of the weights.")
    trust_remote_code: bool = Field(
        False,
        description="Run Python code from the repository `path` names; a Hub model then needs its commit as `revision`.",
    )


class ReferenceSection(ModelSection):
    """A model whose logits are held instead of the starting one's: the original, when a chain of tasks has moved on."""

    with_start: bool = Field(False, description="Hold the starting model too: the mean of both penalties.")


class DataSection(Section):
    """The task to learn."""

    train: Path = Field(
        description="JSONL with one training example a line: prompt and response, messages, alpaca or sharegpt."
    )
    test: Path | None = Field(None, description="JSONL with held-out examples: held-out loss and task accuracy.")
    dev: Path | None = Field(
        None,
        description="JSONL with held-out examples that no test uses: on them, and not on the rows it learned, "
        "`str_weight: auto` sees what moving the weights back at the end costs the task.",
        exclude_if=lambda path: path is None,  # a recipe without it keeps the keys that it had before there was one
    )
    prompt: str = Field("prompt", description="Column with the user's turn (text, or a list of messages).")
    response: str = Field("response", description="Column with the answer to learn.")
    system: str | None = Field(None, description="System message put before every prompt.")
    limit: int | None = Field(None, ge=1, description="Use only the first N training rows.")
    test_limit: int | None = Field(None, ge=1, description="Use only the first N held-out rows.")

    @model_validator(mode="after")
    def _dev_is_apart(self) -> DataSection:
        for name in ("train", "test"):
            if self.dev is not None and self.dev == getattr(self, name):
                raise ValueError(
                    f"`dev` is `{name}`'s file ({self.dev}), and has to be rows that are neither learned nor reported; "
                    "name another file, or leave it out: the training's own rows are asked then"
                )
        return self


class MineSection(Section):
    """Prompts to which the model itself answers, to find its own refusal words."""

    harmful: Path = Field(description="JSONL with harmful prompts (column `prompt`); also the default of probes.")
    harmless: Path | None = Field(
        None, description="JSONL with harmless prompts on the same topics; also the default of harmless_probes."
    )
    limit: int = Field(128, ge=1, description="Use at most N prompts of each kind.")
    max_new_tokens: int = Field(24, ge=1, description="Length of the answers that are looked at.")


class TokensSection(Section):
    """Where the safety tokens come from."""

    file: Path | None = Field(None, description="An existing safety_tokens.json to use as it is.")
    templates: Path | None = Field(None, description="Your own refusal wordings (JSON list or one a line).")
    languages: tuple[str, ...] = Field(("en",), description="Languages of the built-in templates.")
    top_k: int = Field(32, ge=1, description="How many tokens to anchor at most.")
    mine: MineSection | None = Field(None, description="Mine the model's own refusals as well.")
    control: Control | None = Field(
        None, description="For ablations: as many other tokens in their place (random, matched, common, vocabulary)."
    )
    control_seed: Annotated[int, Field(ge=0, lt=2**32)] | Literal["seed"] = Field(
        0,
        description="Of the draw of `control`; not the training's seed, unless it is the word `seed`: then each seed of a "
        "comparison draws anew, and its intervals cover the draw too.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> TokensSection:
        if self.file is not None and (self.templates is not None or self.mine is not None):
            raise ValueError(
                "`file` uses finished tokens, so `templates` and `mine` would be ignored; keep one of them"
            )
        return self


class LoraSection(Section):
    """The adapter to train; `lora: false` trains all weights."""

    r: int = Field(16, ge=1, description="Rank.")
    alpha: int = Field(32, ge=1, description="Scale numerator.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the adapter's input.")
    target_modules: str | tuple[str, ...] = Field("all-linear", description="Which layers get an adapter.")
    use_dora: bool = Field(False, description="DoRA instead of LoRA.")
    use_rslora: bool = Field(False, description="Rank-stabilised scale.")


class AttackSection(Section):
    """Harmful prompts behind wrappers: refusals must be more than a few tokens deep, and direct prompts saturate."""

    kinds: tuple[Literal["prefill", "role_play", "template", "sample"], ...] = Field(
        ("prefill", "role_play", "template", "sample"), min_length=1, description="Which attacks."
    )
    samples: int = Field(4, ge=1, description="Draws of each plain prompt, for `sample`.")
    temperature: float = Field(1.0, gt=0, description="Of those draws; all else is greedy.")
    limit: int | None = Field(None, ge=1, description="Use only the first N harmful prompts.")


class EvalSection(Section):
    """What every model is measured on: the starting policy and each trained one."""

    harmful: Path = Field(description="JSONL with harmful prompts that nothing else used (column `prompt`).")
    harmless: Path | None = Field(None, description="JSONL with harmless look-alike prompts.")
    attack: AttackSection | None = Field(None, description="Ask the harmful prompts behind wrappers too.")
    task_metric: Literal["exact", "numeric", "loss", "none"] = Field(
        "exact",
        description="How an answer to a held-out task row is right; `loss`: no answers, the right one's loss a token; "
        "`none` leaves the task out.",
    )
    judge: str = Field("classifier", description="Who says whether an answer refuses (`logitrail judge list`).")
    judges: tuple[str, ...] | None = Field(
        None, min_length=1, description="Several of them, in place of `judge`; rates are the first one's."
    )
    standard_tasks: tuple[str, ...] = Field((), description="Tasks of lm-eval by name, such as gsm8k or mmlu.")
    standard_tasks_path: Path | None = Field(None, description="Folder with your own lm-eval tasks (YAML).")
    standard_tasks_chat: bool = Field(
        False,
        description="Ask them through the chat template, behind data.system, in place of lm-eval's bare text.",
        exclude_if=lambda chat: (
            not chat
        ),  # younger than the other keys: what was measured without it stays of its recipe
    )
    max_new_tokens: int = Field(64, ge=1, description="Longest answer to a safety prompt.")
    task_max_new_tokens: int = Field(64, ge=1, description="Longest answer to a task row.")
    batch_size: int = Field(32, ge=1, description="Prompts generated at once.")
    limit: int | None = Field(None, ge=1, description="Use only the first N rows of each suite.")

    @field_validator("judges")
    @classmethod
    def _each_once(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and len(set(value)) != len(value):
            raise ValueError(f"a judge stands twice in {list(value)}; name each once")
        return value

    def judge_names(self) -> tuple[str, ...]:
        """Everyone who judges; the first one's verdicts make the rates."""
        return (self.judge,) if self.judges is None else self.judges


class JudgeErrorSection(Section):
    """How often the judge was right on answers that people labelled (`logitrail judge validate` counts it)."""

    file: Path | None = Field(
        None, description="What `logitrail judge validate --json` printed; the four counts are taken from it."
    )
    refused_right: int = Field(0, ge=0, description="Answers that people call a refusal and the judge too.")
    refused: int = Field(0, ge=0, description="Answers that people call a refusal, wholly or in part.")
    answered_right: int = Field(0, ge=0, description="Answers that people call no refusal and the judge too.")
    answered: int = Field(0, ge=0, description="Answers that people call no refusal.")

    @model_validator(mode="after")
    def _possible(self) -> JudgeErrorSection:
        if self.file is None and not (self.refused and self.answered):
            raise ValueError(
                "`refused` or `answered` is missing or 0; name `file`, or give all four counts, with labels of both kinds"
            )
        if self.refused_right > self.refused or self.answered_right > self.answered:
            raise ValueError("the judge cannot be right more often than there are labels; swap the two numbers")
        return self


class GateSection(Section):
    """How much worse than the starting policy a candidate may be."""

    refusal: float = Field(
        DEFAULT_MARGINS["refusal"], gt=0, lt=1, description="Margin: share of harmful prompts no longer refused."
    )
    over_refusal: float | None = Field(
        DEFAULT_MARGINS["over_refusal"],
        gt=0,
        lt=1,
        description="Margin: share of harmless prompts newly refused; null decides without them.",
    )
    utility: float | None = Field(
        DEFAULT_MARGINS["utility"],
        gt=0,
        lt=1,
        description="Margin: share of task rows newly wrong; null decides without them.",
    )
    attack: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Margin: share of harmful prompts newly answered behind an attack; needs eval.attack.",
    )
    alpha: float = Field(0.05, gt=0, lt=0.5, description="One-sided error rate of each comparison.")
    unscored: Literal["against", "exclude"] = Field(
        "against", description="What a row without a verdict is: `against` the candidate, or left out."
    )
    judge_error: JudgeErrorSection | None = Field(
        None, description="Correct the two refusal suites for the judge's errors, with these labels' uncertainty."
    )
    repeat_seeds: Seeds = Field(
        (), description="Train each method again with these seeds, so that the gate covers run-to-run noise; 2 or more."
    )

    def margins(self) -> dict[str, float]:
        """By suite; `attack` where it has one."""
        given = {
            "refusal": self.refusal,
            "over_refusal": self.over_refusal,
            "utility": self.utility,
            "attack": self.attack,
        }
        return {suite: margin for suite, margin in given.items() if margin is not None}


class Recipe(Section):
    """A whole run. Relative paths start at the recipe's folder."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Shown in the report.")
    out: Path = Field(Path("runs/run"), description="Folder of everything that the run writes.")
    seed: int = Field(0, ge=0, lt=2**32, description="Of the adapter, the data order and dropout.")
    model: ModelSection
    data: DataSection
    tokens: TokensSection = Field(default_factory=TokensSection)
    methods: tuple[str, ...] = Field(
        ("sft", "str"),
        json_schema_extra={"minItems": 1},
        description="What to train, each on its own; words may be joined, as in `str+ema`.",
    )
    method_options: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Options of single methods, by the method's word."
    )
    safety_data: Path | None = Field(
        None, description="JSONL with harmful prompts and safe answers, for `mix`, `lisa` and `safegrad`."
    )
    lora: LoraSection | Literal[False] = Field(default_factory=LoraSection)
    training: dict[str, Any] = Field(default_factory=dict, description="Options of STRConfig by their own names.")
    reference: ReferenceSection | None = Field(
        None, description="Hold this model's logits; by default those of the model that training starts from."
    )
    probes: Path | None = Field(
        None,
        description="JSONL with harmful prompts: a part is watched for drift. With harmless_probes beside them the rest is "
        "anchored, and the task's rows are not (str_positions: none). Default: tokens.mine.harmful.",
    )
    harmless_probes: Path | None = Field(
        None, description="JSONL with harmless look-alikes, anchored beside probes. Default: tokens.mine.harmless."
    )
    eval: EvalSection
    gate: GateSection = Field(default_factory=GateSection)

    @field_validator("lora", mode="before")
    @classmethod
    def _section_or_false(cls, value: Any) -> Any:
        if value is not False and not isinstance(value, dict | LoraSection):
            raise ValueError(
                "give a mapping such as {r: 16, alpha: 32}, or false to train all weights; left out it is an adapter of "
                "rank 16"
            )
        return value

    @field_validator("methods")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("the list is empty, so nothing would be trained; name methods such as [sft, str]")
        if len(set(value)) != len(value):
            raise ValueError(f"a method stands twice in {list(value)}; name each once")
        return value

    @property
    def probe_files(self) -> tuple[Path | None, Path | None]:
        """The harmful probe prompts and the harmless ones: those named, else those that tokens are mined from."""
        mine = self.tokens.mine
        return self.probes or (mine.harmful if mine else None), self.harmless_probes or (
            mine.harmless if mine else None
        )

    @property
    def chat_template(self) -> Path | None:
        """The file that `training.chat_template_path` names, if it is one and not a model."""
        given = self.training.get(TEMPLATE)
        return Path(given) if isinstance(given, str) and Path(given).is_file() else None

    @property
    def control_seed(self) -> int:
        """The seed of the draw of `tokens.control`."""
        return self.seed if self.tokens.control_seed == "seed" else self.tokens.control_seed

    def on_tokens(self, file: Path) -> Recipe:
        """This recipe on finished safety tokens; probe prompts stay what they are, wherever they came from."""
        finished = {"file": file, "templates": None, "mine": None, "control": None}
        harmful, harmless = self.probe_files
        return self.model_copy(
            update={
                "tokens": self.tokens.model_copy(update=finished),
                "probes": harmful,
                "harmless_probes": harmless,
            }
        )

    @model_validator(mode="after")
    def _attacked_if_gated(self) -> Recipe:
        if self.gate.attack is not None and self.eval.attack is None:
            raise ValueError("`gate.attack` is a margin for attacks that are not asked; add `attack: {}` to `eval`")
        return self

    @model_validator(mode="after")
    def _one_judges_errors(self) -> Recipe:
        judges = self.eval.judge_names()
        if self.gate.judge_error is not None and len(judges) > 1:
            raise ValueError(
                f"`gate.judge_error` is one judge's, and `eval.judges` names {', '.join(judges)}; name one judge, or leave "
                "judge_error out"
            )
        return self

    @field_validator("training")
    @classmethod
    def _not_ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        return require_own_options(value)


def require_own_options(training: dict[str, Any]) -> dict[str, Any]:
    """Raise `ValueError` for what a `training` section may not say: what other keys set, and secrets."""
    taken = {
        "output_dir": "out",
        "seed": "seed",
        "str_cache_dir": "out",
        "trust_remote_code": "model.trust_remote_code",
    }
    for key, own in taken.items():
        if key in training:
            raise ValueError(f"`training.{key}` is set by the recipe's `{own}`; remove it here")
    secret = _secret_key(training)
    if secret is not None:
        raise ValueError(
            f"`training.{secret}` is a secret, and a recipe is copied into summaries and reports; remove it here, and log "
            "in with `hf auth login` or set HF_TOKEN"
        )
    return training


_SECRETS = re.compile(
    r"(^|_)(api_?key|password|secret|auth_token|hub_token|hf_token|access_token)$|^token$", re.IGNORECASE
)


def _secret_key(value: Any, before: str = "") -> str | None:
    """The first key, at any depth, that is there to hold a secret and holds something."""
    if isinstance(value, dict):
        for key, item in value.items():
            if _SECRETS.search(str(key)) and isinstance(item, str) and item:
                return f"{before}{key}"
            if (found := _secret_key(item, f"{before}{key}.")) is not None:
                return found
    return None
