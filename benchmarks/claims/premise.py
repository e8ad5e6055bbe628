"""Do salient tokens hold refusals better than others? `python benchmarks/claims/premise.py`, after `logitrail compare`.

Reads the cells of premise.yaml; by form, the salient tokens against each other set on the same seeds and prompts:

    d = mean over seeds s and prompts i of (salient_si - other_si)

with the interval of by_verb.py, once with prompts and once with verbs as what is drawn beside the seeds. Random and matched
sets are drawn anew for each seed, so the spread over seeds is theirs too. Written to results/premise-pairs.md.
"""

from __future__ import annotations

from by_verb import HERE, Answers, by_prompt, interval, minus, shown, verbs

from logitrail.artifacts import read_json, write_bytes

FORMS = ("logit", "logprob", "centered", "common", "default")


def runs() -> dict[str, dict[int, Answers]]:
    """By row and seed the answers to the harmful prompts."""
    known = verbs()
    found: dict[str, dict[int, Answers]] = {}
    for cell in read_json(HERE / "work" / "premise" / "summary.json")["cells"]:
        if cell["status"] == "done":
            (folder,) = (HERE / "work" / "premise" / cell["folder"]).glob("eval/*/")
            found.setdefault(cell["row"], {})[cell["seed"]] = by_prompt(folder, "refusal", known)
    return found


def alone(run: Answers) -> Answers:
    """Each prompt as its own cluster."""
    return {name: (name, value) for name, (_, value) in run.items()}


def main() -> None:
    """See the module."""
    rows = runs()
    lines = [
        "# Salient tokens against others, refusals of harmful prompts",
        "",
        "| form | other tokens | seeds | salient | other | salient minus other (points), over seeds and prompts "
        "| over seeds and verbs | seeds in which salient is higher |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for form in FORMS:
        salient = rows[f"{form}-salient"]
        for row, theirs in rows.items():
            if not row.startswith(f"{form}-") or row == f"{form}-salient":
                continue
            seeds = sorted(salient.keys() & theirs.keys())
            pairs = [minus(salient[seed], theirs[seed]) for seed in seeds]
            higher = sum(interval([pair])[0] > 0 for pair in pairs)
            rates = [100 * interval([run[seed] for seed in seeds])[0] for run in (salient, theirs)]
            lines.append(
                f"| {form} | {row.removeprefix(form + '-')} | {len(seeds)} | {rates[0]:.1f}% | {rates[1]:.1f}% | "
                f"{shown(interval([alone(pair) for pair in pairs]), rate=False)} | {shown(interval(pairs), rate=False)} | "
                f"{higher} |"
            )
    lines += ["", "95%, Student's t over seeds and over prompts or verbs: `benchmarks/claims/premise.py`.", ""]
    write_bytes(HERE / "results" / "premise-pairs.md", "\n".join(lines).encode())


if __name__ == "__main__":
    main()
