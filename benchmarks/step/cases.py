"""What is measured: cases, the jobs that measure them, and the ratios made of them. Data only, no torch.

A case is one way to train one model. A job is one process. Time jobs hold several cases in one process and let them
take single steps in turn, so that whatever slows the machine slows all of them alike; memory jobs hold one case each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Shape:
    """A model's real sizes; the weights are random."""

    like: str
    family: str
    hidden: int
    layers: int
    intermediate: int
    heads: int
    kv_heads: int


SHAPES = {
    "smollm2-135m": Shape("SmolLM2-135M", "llama", 576, 30, 1536, 9, 3),
    "qwen2.5-0.5b": Shape("Qwen2.5-0.5B", "qwen2", 896, 24, 4864, 14, 2),
    "llama-3.2-1b": Shape("Llama-3.2-1B", "llama", 2048, 16, 8192, 32, 8),
    "thin": Shape(
        "Llama-3.2-1B's 16 layers without their width: a step is Python and kernel launches", "llama", 64, 16, 128, 4, 2
    ),
    "tiny": Shape("nothing: a smoke test", "llama", 32, 2, 64, 4, 2),
}
V32, V128, V152, V262 = 32_000, 128_256, 151_936, 262_144
"""Llama 2, Llama 3, Qwen2.5, Gemma 3."""
ROWS_A_BATCH = 4
"""Batches of rows in a case's data set, which training goes through again and again."""


@dataclass(frozen=True)
class Case:
    """One way to train one model.

    Attributes:
        method: `sft` (TRL's trainer as it is), `str` (ours), `str-naive`, `kl-naive`, `kl-chunked`, `constrained`,
            `dpo` (TRL's, on pairs in the place of rows); see `methods.py`.
        reference: of `str`: `cache`, `adapter-off` or `frozen`.
        tuning: `lora` (rank 16 on every linear layer of the backbone) or `full`.
        layers: how many of the shape's layers are kept; None is all.
        default: of `str`: everything that a user may leave out is left out, and probe prompts are given, 64 harmful and
            64 harmless ones of 24 tokens. The drift for `auto` is measured every tenth step, which medians do not show.
    """

    name: str
    method: str
    reference: str = "cache"
    anchor: str = "logit"
    k: int = 64
    shape: str = "smollm2-135m"
    layers: int | None = None
    vocabulary: int = V128
    length: int = 256
    batch: int = 1
    tuning: str = "lora"
    checkpointing: bool = False
    default: bool = False

    @property
    def depth(self) -> int:
        return self.layers or SHAPES[self.shape].layers

    @property
    def backbone_parameters(self) -> int:
        shape = SHAPES[self.shape]
        head = shape.hidden // shape.heads
        attention = 2 * shape.hidden * head * (shape.heads + shape.kv_heads)
        return self.depth * (attention + 3 * shape.hidden * shape.intermediate)

    @property
    def head_parameters(self) -> int:
        return self.vocabulary * SHAPES[self.shape].hidden

    @property
    def flops(self) -> float:
        """Rough cost of a step: 2 a parameter and token for each pass. It is used for the plan's times only."""
        backbone, head = 2.0 + (self.tuning == "full") + self.checkpointing, 3.0 + (self.tuning == "full")
        if self.method in ("str-naive", "kl-naive"):
            backbone, head = backbone + 1, head + 0.5
        elif self.method == "constrained" or (self.reference != "cache" and self.anchor == "logprob"):
            backbone, head = backbone + 1, head + 1
        elif self.method == "kl-chunked":
            backbone, head = backbone + 1, head + 5
        elif self.method == "str" and self.reference != "cache":
            backbone += 1
        tokens = self.length * self.batch
        attention = 2 * backbone * self.depth * self.length * SHAPES[self.shape].hidden * tokens
        # A head's tile passes through memory a dozen times and more: on a CPU as dear as 450 products an entry.
        elementwise = 900.0 * head * self.vocabulary * tokens
        return (
            2 * tokens * (backbone * self.backbone_parameters + head * self.head_parameters) + attention + elementwise
        )


@dataclass(frozen=True)
class Job:
    """One process. `rounds` steps (or measurements) of each case are kept after `warmup` ones."""

    name: str
    kind: str  # time, memory, prepare, cache-build, cache-open, profile
    cases: tuple[Case, ...]
    rounds: int
    warmup: int = 1
    settings: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Ratio:
    """Product of `over` divided by the product of `under`, round by round, and the value it must not exceed.

    `quantity` is `time` or `memory`; `job` names the time job, or is the prefix of the memory jobs.
    """

    name: str
    quantity: str
    job: str
    over: tuple[str, ...]
    under: tuple[str, ...]
    bound: float | None = None


@dataclass(frozen=True)
class Plan:
    """All jobs in the order in which they run, and the ratios."""

    jobs: tuple[Job, ...]
    ratios: tuple[Ratio, ...]


def _sft(**more: Any) -> Case:
    return Case("sft", "sft", **more)


def _str(name: str, **more: Any) -> Case:
    return Case(name, "str", **more)


def plan(*, device: str = "cpu", quick: bool = False) -> Plan:
    """The full plan for a device, or its smoke test."""
    cuda = device == "cuda"
    # A GPU takes the real depth and length; two CPU cores take a real small model under the large head.
    base: dict[str, Any] = {"shape": "llama-3.2-1b", "length": 1024} if cuda else {}
    deep: dict[str, Any] = {"shape": "llama-3.2-1b" if cuda else "qwen2.5-0.5b", "length": 1024}
    cut: dict[str, Any] = {"shape": "llama-3.2-1b", "layers": 4, "length": 1024 if cuda else 256}
    long: dict[str, Any] = {
        "shape": base.get("shape", "smollm2-135m"),
        "layers": None if cuda else 4,
        "vocabulary": V32,
    }
    many, repeats = (4, 1) if cuda else (1, 6)  # a GPU's allocator has the same peak each time
    thin: dict[str, Any] = {"shape": "thin", "vocabulary": 1024, "length": 64, "k": 16}
    lengths = (256, 1024, 4096)
    vocabularies = {"32k": V32, "152k": V152, "262k": V262}
    ks = (1, 1024, 4096)

    anchored = (_sft(**base), _str("cache", **base), _str("cache-logprob", anchor="logprob", **base))
    providers = (
        _sft(**base),
        _str("adapter-off", reference="adapter-off", **base),
        _str("adapter-off-logprob", reference="adapter-off", anchor="logprob", **base),
        _str("frozen", reference="frozen", **base),
        Case("str-naive", "str-naive", **base),
        Case("kl-naive", "kl-naive", **base),
        Case("kl-chunked", "kl-chunked", **base),
        Case("constrained", "constrained", **base),
    )
    in_turn = ("cache", "adapter-off", "frozen", "str-naive", "kl-chunked", "constrained", "default")
    deep_cases = (_str("cache", **deep), Case("str-naive", "str-naive", **deep))
    full = tuple(
        replace(case, tuning="full")
        for case in (_sft(**base), _str("cache", **base), _str("frozen", reference="frozen", **base))
    )
    memory_shape = {**base, "length": 1024 if cuda else 512}
    # TRL's default; here with a backbone that is small beside the logits.
    checkpointed = tuple(
        replace(case, shape="llama-3.2-1b" if cuda else "smollm2-135m", checkpointing=True) for case in deep_cases
    )
    memory = {
        "plain": (_sft(**memory_shape), _str("cache", **memory_shape)),
        "deep": deep_cases,
        "checkpointed": checkpointed,
        "full": full[:2],
    }

    jobs = [
        Job("anchored", "time", anchored, 32 * many),
        Job("deep", "time", deep_cases, 5 * many),
        Job("full", "time", full, 3 * many),
        Job("checkpointed", "time", checkpointed, 2 * many),
        Job("prepare-plain", "prepare", memory["plain"][1:], 0, 0),
        *(
            Job(f"memory-{group}-{case.name}-{repeat}", "memory", (case,), 1, 1)
            for group, cases in memory.items()
            for repeat in range(repeats if group == "plain" else 1)
            for case in cases
        ),
        Job("providers", "time", providers, 6 * many),
        Job("vocabulary", "time", tuple(
            replace(case, name=f"{case.name}-{name}", vocabulary=size)
            for name, size in vocabularies.items()
            for case in (_sft(**base), _str("cache", **base))
        ), 16 * many),
        Job("k", "time", tuple(_str(f"k-{k}", k=k, **base) for k in ks), 16 * many),
        Job("cut", "time", (_str("cache", **cut), Case("str-naive", "str-naive", **cut)), 3 * many),
        Job("length", "time", tuple(
            replace(case, name=f"{case.name}-{length}", length=length, batch=1)
            for length in lengths
            for case in (_sft(**long), _str("cache", **long))
        ), 2 * many),
        Job("batch", "time", tuple(replace(case, batch=4) for case in anchored[:2]), 3 * many),
        Job("default", "time", tuple(
            replace(case, batch=4)
            for case in (_sft(**base), _str("default", anchor="logprob", default=True, **base), *providers[-2:])
        ), 4 * many),
        # Rows so short that a card waits for Python, and probe prompts ride along.
        *([Job("short", "time", tuple(
            replace(case, shape="smollm2-135m", layers=None, length=128, batch=8)
            for case in (_sft(**base), _str("default", anchor="logprob", default=True, **base), *providers[-2:])
        ), 4 * many)] if cuda else ()),
        Job("dpo", "time", (_sft(**base), Case("dpo", "dpo", **base)), 4 * many),
        Job("thin", "time", tuple(
            replace(case, **thin)
            for case in (*providers, _str("cache"), _str("default", anchor="logprob", default=True))
        ), 40),
        Job("cache-build", "cache-build", tuple(replace(case, batch=2) for case in anchored[1:]), 4, 0),
        Job("cache-open", "cache-open", (), 5, 0, (("positions", 10_000_000), ("row", 200), ("k", 8))),
    ]  # fmt: skip

    def time(name: str, job: str, over: str, under: str, bound: float | None = None) -> Ratio:
        return Ratio(name, "time", job, (over,), (under,), bound)

    ratios = (
        time("cached_time", "anchored", "cache", "sft", 1.02),
        Ratio("cached_memory", "memory", "memory-plain", ("cache",), ("sft",), 1.01),
        time("adapter_off_time", "providers", "adapter-off", "sft", 1.40),
        time("adapter_off_logprob_time", "providers", "adapter-off-logprob", "sft"),
        time("naive_two_forward_time", "providers", "str-naive", "sft"),
        time("cached_over_naive_time", "deep", "cache", "str-naive", 0.80),
        Ratio("cached_over_naive_memory", "memory", "memory-deep", ("cache",), ("str-naive",), 0.60),
        time("k_1024_over_k_1", "k", "k-1024", "k-1", 1.03),
        Ratio("vocab_growth", "time", "vocabulary", ("cache-262k", "sft-32k"), ("cache-32k", "sft-262k"), 1.02),
        time("cache_build", "cache-build", "build", "forward", 1.05),
        time("logprob_over_logit", "anchored", "cache-logprob", "cache", 1.01),
        time("cache_build_logprob", "cache-build", "build-logprob", "forward"),
        time("cached_over_naive_time_checkpointed", "checkpointed", "cache", "str-naive"),
        Ratio("cached_over_naive_memory_checkpointed", "memory", "memory-checkpointed", ("cache",), ("str-naive",)),
        time("cached_over_naive_time_4_layers", "cut", "cache", "str-naive"),
        time("frozen_time", "providers", "frozen", "sft"),
        time("kl_naive_time", "providers", "kl-naive", "sft"),
        time("kl_chunked_time", "providers", "kl-chunked", "sft"),
        time("constrained_time", "providers", "constrained", "sft"),
        time("cached_time_full", "full", "cache", "sft"),
        time("frozen_time_full", "full", "frozen", "sft"),
        Ratio("cached_memory_full", "memory", "memory-full", ("cache",), ("sft",)),
        time("k_4096_over_k_1", "k", "k-4096", "k-1"),
        *(time(f"cached_time_vocab_{name}", "vocabulary", f"cache-{name}", f"sft-{name}") for name in vocabularies),
        *(time(f"cached_time_length_{length}", "length", f"cache-{length}", f"sft-{length}") for length in lengths),
        time("cached_time_batch_4", "batch", "cache", "sft"),
        time("default_time", "default", "default", "sft"),
        time("default_over_kl_chunked", "default", "default", "kl-chunked", 1.0),
        *(
            (
                time("default_time_short", "short", "default", "sft"),
                time("default_over_kl_chunked_short", "short", "default", "kl-chunked", 1.0),
                time("default_over_constrained_short", "short", "default", "constrained", 1.0),
            )
            if cuda
            else ()
        ),
        time("dpo_time", "dpo", "dpo", "sft"),
        time("default_over_constrained", "default", "default", "constrained", 1.0),
        *(time(f"{name.replace('-', '_')}_time_thin", "thin", name, "sft") for name in in_turn),
    )
    whole = Plan(tuple(jobs), ratios)
    return _smoke(whole) if quick else whole


def _smoke(whole: Plan) -> Plan:
    """The same jobs and names on a model of no size, two rounds each."""

    def small(case: Case) -> Case:
        return replace(
            case,
            shape="tiny",
            layers=None,
            vocabulary=case.vocabulary // 64,
            length=case.length // 32,
            k=min(case.k, 64),
        )

    def shrunk(job: Job) -> Job:
        settings = job.settings
        if job.kind == "cache-open":
            settings = (("positions", 10_000), ("row", 100), ("k", 2))
        return replace(job, cases=tuple(map(small, job.cases)), rounds=min(job.rounds, 2), warmup=1, settings=settings)

    return Plan(tuple(map(shrunk, whole.jobs)), whole.ratios)
