"""`doctor`: what it finds, what its dry run says of the whole run, and that nothing stays behind."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil

import pytest
import torch

from logitrail.stages import dry_run
from logitrail.stages.amounts import size
from tests.cli.conftest import summary, write_jsonl


def findings(found):
    return {finding["subject"]: finding for finding in found["findings"]}


def left(project):
    return sorted(path.name for path in project.folder.iterdir())


def test_the_forecast_of_a_run_beside_the_run(project, logitrail):
    """Amounts are those of the run, sizes near them; times have no value to hold here, only a unit and a sign."""
    rows = [{"prompt": f"turn the light on {'please ' * (i % 9)}{i}", "response": f"set to {i % 7}"} for i in range(14)]
    write_jsonl(project.folder / "train.jsonl", rows)
    training = {"per_device_train_batch_size": 2, "learning_rate": 1e-3, "save_steps": 5, "save_total_limit": 1}
    recipe = project.write(training=training, methods=["str"], eval__limit=3)
    before = left(project)
    result = logitrail("doctor", recipe, "--json")
    assert result.code == 0, result.err
    assert left(project) == before
    found = json.loads(result.out)
    seen = findings(found)
    assert {"model", "head", "training data", "evaluation prompts", "dry run", "disk", "memory"} <= set(seen)
    assert seen["evaluation prompts"]["level"] == "warning"  # three prompts
    assert {seen[subject]["level"] for subject in ("dry run", "disk", "memory")} == {"ok"}
    forecast = found["forecast"]
    for name, value in forecast.items():
        if name.endswith(("seconds", "bytes")):
            assert math.isfinite(value), name
            assert value > 0, name
    assert all(stage["seconds"] > 0 for stage in forecast["stages"])
    assert forecast["seconds"] == pytest.approx(sum(stage["seconds"] for stage in forecast["stages"]), abs=0.1)
    stages = {stage["stage"]: stage for stage in forecast["stages"]}
    assert f"{forecast['longest_row_tokens']} tokens" in seen["memory"]["text"]

    assert logitrail("run", recipe).code == 0
    cache = summary(project, "cache")
    assert stages["cache"]["units"] == cache["rows"] == 14
    assert stages["cache"]["disk_bytes"] == pytest.approx(cache["bytes"], rel=0.5)
    assert stages["train str"]["units"] == summary(project, "train", "str")["steps"] == 21
    # Without the card, into which the end of a run writes its evidence.
    files = (project.folder / "out/train/str/model").rglob("*")
    model = sum(path.stat().st_size for path in files if path.name != "README.md")
    assert stages["train str"]["disk_bytes"] == pytest.approx(model, rel=0.25)
    asked = {suite: of["rate"]["n"] for suite, of in summary(project, "eval", "base")["suites"].items()}
    for suite, count in asked.items():
        assert (stages[f"evaluate {suite}"]["units"], stages[f"evaluate {suite}"]["times"]) == (count, 2)


def test_quick_trains_nothing(project, logitrail, monkeypatch):
    monkeypatch.setattr(dry_run, "train", None)
    result = logitrail("doctor", project.recipe, "--quick", "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert found["forecast"] is None
    assert "a guess" in findings(found)["disk"]["text"]
    assert "dry run" not in findings(found)


def test_mined_tokens_repeats_and_a_method_that_alternates(project, logitrail):
    """What is asked once for each seed counts as often; three steps are enough for turns of a hundred."""
    write_jsonl(project.folder / "dev.jsonl", [{"prompt": f"How could I harm him {i}?"} for i in range(20)])
    write_jsonl(project.folder / "safe.jsonl", [{"prompt": f"Hurt {i}?", "response": "I can't."} for i in range(4)])
    recipe = project.write(
        tokens={"top_k": 8, "mine": {"harmful": "dev.jsonl", "max_new_tokens": 4}},
        methods=["lisa+str"],
        safety_data="safe.jsonl",
        method_options={"lisa": {"safety_steps": 2, "task_steps": 2}},
        training__max_steps=8,
        gate__repeat_seeds=[1, 2],
        eval__task_metric="loss",
    )
    result = logitrail("doctor", recipe, "--json")
    assert result.code == 0, result.err
    stages = {stage["stage"]: stage for stage in json.loads(result.out)["forecast"]["stages"]}
    assert stages["tokens"]["units"] == 20
    assert (stages["train lisa+str"]["units"], stages["train lisa+str"]["times"]) == (8, 3)
    assert (stages["evaluate refusal"]["times"], stages["held-out loss"]["times"]) == (4, 4)


@pytest.mark.parametrize(
    ("kinds", "level", "words"),
    [
        (("harmful", "harmless"), "ok", "12 harmful, 5 harmless"),
        (("harmful",), "warning", "12 harmful, 0 harmless: refusals are held on the task's rows alone"),
        ((), "warning", "0 harmful, 0 harmless"),
    ],
)
def test_an_anchor_without_probe_prompts_is_told(project, logitrail, kinds, level, words):
    names = {"harmful": "probes", "harmless": "harmless_probes"}
    write_jsonl(project.folder / "probe_harmful.jsonl", [{"prompt": f"How do I break {i}?"} for i in range(12)])
    write_jsonl(project.folder / "probe_harmless.jsonl", [{"prompt": f"How do I bake {i}?"} for i in range(5)])
    given = {names[kind]: f"probe_{kind}.jsonl" for kind in kinds}
    result = logitrail(
        "doctor", project.write(tokens={"top_k": 8}, methods=["sft", "str"], **given), "--quick", "--json"
    )
    assert result.code == 0, result.err
    found = findings(json.loads(result.out))["probe prompts"]
    assert found["level"] == level
    assert words in found["text"]
    plain = logitrail("doctor", project.write(tokens={"top_k": 8}, methods=["sft"]), "--quick", "--json")
    assert "probe prompts" not in findings(json.loads(plain.out))


@pytest.mark.parametrize(("forms", "told"), [("qqqq", "100%"), ("qqqqqo", "83%"), ("qqqo", None), ("oooo", None)])
def test_prompts_held_in_another_form_than_they_are_asked_in_are_told(project, logitrail, forms, told):
    ask = {"q": "How do I break {}?", "o": "Write a guide to breaking {}."}
    write_jsonl(project.folder / "held.jsonl", [{"prompt": ask[form].format(i)} for i, form in enumerate(forms * 3)])
    write_jsonl(project.folder / "asked.jsonl", [{"prompt": ask["o"].format(f"door {i}")} for i in range(5)])
    recipe = project.write(
        tokens={"top_k": 8},
        methods=["str"],
        probes="held.jsonl",
        harmless_probes="harmless.jsonl",
        eval__harmful="asked.jsonl",
    )
    found = findings(json.loads(logitrail("doctor", recipe, "--quick", "--json").out))["probe prompts"]
    assert found["level"] == ("warning" if told else "ok")
    assert (f"{told} of the harmful ones are questions, and 0% of those" in found["text"]) is bool(told)


@pytest.mark.parametrize(
    ("changes", "subject", "words"),
    [
        ({"data__train": "none.jsonl"}, "training data", "none.jsonl"),
        ({"training__learning_rate": 1e30}, "dry run", "lower the learning rate"),
    ],
)
def test_what_would_fail_later_fails_here(project, logitrail, changes, subject, words):
    recipe = project.write(**changes)
    before = left(project)
    result = logitrail("doctor", recipe, "--json")
    assert result.code == 2
    assert len(result.error_lines) == 1
    assert words in result.error_lines[0]
    found = json.loads(result.out)
    assert found["forecast"] is None
    assert findings(found)[subject]["level"] == "error"
    assert left(project) == before


def test_positions_and_lambda_are_told(project, logitrail):
    alone = logitrail("doctor", project.write(methods=["str"]), "--quick", "--json")
    text = findings(json.loads(alone.out))["method str"]["text"]
    assert "lambda 0.1 (fixed: no probe prompts), anchor logit, positions labels" in text
    both = {"probes": "harmful.jsonl", "harmless_probes": "harmless.jsonl"}
    probed = logitrail("doctor", project.write(methods=["str"], **both), "--quick", "--json")
    assert "lambda auto, anchor logprob, positions none" in findings(json.loads(probed.out))["method str"]["text"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"probes": "harmful.jsonl"}, "6 of refusal are among"),
        ({"harmless_probes": "harmless.jsonl"}, "6 of over_refusal are among"),
        ({"probes": "harmless.jsonl", "harmless_probes": "harmful.jsonl"}, "6 of refusal and 6 of over_refusal"),
        ({"tokens__mine": {"harmful": "dev.jsonl", "harmless": "harmless.jsonl"}}, "6 of over_refusal"),
        # What is mined stays mined where other prompts are anchored.
        ({"tokens__mine": {"harmful": "harmful.jsonl"}, "probes": "dev.jsonl"}, "6 of refusal"),
        ({"probes": "dev.jsonl"}, None),
    ],
)
def test_prompts_that_are_held_and_tested_on_are_told(project, logitrail, given, words):
    write_jsonl(project.folder / "dev.jsonl", [{"prompt": f"How could I harm him {i}?"} for i in range(4)])
    result = logitrail("doctor", project.write(methods=["str"], **given), "--quick", "--json")
    assert result.code == 0, result.err
    found = findings(json.loads(result.out))["evaluation prompts"]
    assert found["level"] == "warning"  # six prompts are few
    assert (words or "the gate will rarely decide") in found["text"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"training__str_positions": "none"}, "nothing would be held"),
        ({"training__learning_rate": float("nan")}, "learning_rate is nan"),
        ({"training__report_to": "nosuch"}, "training.report_to"),
    ],
)
def test_options_that_cannot_work_are_seen_without_a_model(project, logitrail, changes, words):
    result = logitrail("doctor", project.write(methods=["str"], **changes), "--quick", "--json")
    assert result.code == 2
    found = findings(json.loads(result.out))["method str"]
    assert found["level"] == "error"
    assert words in found["text"]


def test_modules_that_the_model_lacks_are_a_finding_of_the_dry_run(project, logitrail):
    result = logitrail("doctor", project.write(methods=["sft"], lora__target_modules=["nope"]), "--json")
    assert result.code == 2
    found = findings(json.loads(result.out))["dry run"]
    assert found["level"] == "error"
    assert "change `lora.target_modules`" in found["text"]


def test_whatever_a_check_raises_is_a_finding(project, logitrail, monkeypatch):
    from logitrail.stages import doctor

    monkeypatch.setattr(doctor, "_head", lambda loaded: 1 / 0)
    for more in ((), ("--json",)):
        result = logitrail("doctor", project.recipe, "--quick", *more)
        assert result.code == 2
        assert "unexpected ZeroDivisionError" in result.out
        assert len(result.error_lines) == 1
    seen = findings(json.loads(result.out))
    assert seen["head"]["level"] == "error"
    assert seen["memory"]["level"] == "ok"  # what comes behind is still looked at


def test_too_little_memory_is_a_finding(project, logitrail, monkeypatch):
    def full(context, name):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(dry_run, "train", full)
    result = logitrail("doctor", project.recipe, "--json")
    assert result.code == 2
    assert "lower training.per_device_train_batch_size" in result.error_lines[0]
    assert json.loads(result.out)["forecast"] is None


def test_the_dry_run_sends_and_keeps_nothing(project, logitrail, monkeypatch):
    """Whatever the recipe has the trainer do with its results."""
    seen = []
    real = dry_run.train

    def watched(context, name):
        from logitrail.stages.train import method_config

        seen.append(method_config(context, name))
        return real(context, name)

    monkeypatch.setattr(dry_run, "train", watched)
    more = {"training__push_to_hub": True, "training__report_to": "tensorboard", "training__save_strategy": "steps"}
    shown = logitrail("doctor", project.write(methods=["sft"], eval__limit=2, **more))
    assert shown.code == 0, shown.err
    for words in ("what `run` will take", "train sft", "6 steps", "in all", "peak memory"):
        assert words in shown.out
    (config,) = seen
    assert (config.push_to_hub, config.report_to, str(config.save_strategy.value)) == (False, [], "no")


def test_rows_over_the_quantiles_of_their_length():
    texts = ["x" * length for length in range(1, 101)]
    assert [len(text) for text in dry_run._spread(texts, 5, len)] == [1, 26, 51, 75, 100]
    assert dry_run._spread(texts, 1, len) == ["x" * 100]
    assert len(dry_run._spread(texts, 200, len)) == 100


def test_a_judge_is_asked_before_hours_are_spent(project, logitrail, monkeypatch):
    from logitrail.evals.judges import Judgement, KeywordJudge

    recipe = project.write(methods=["str"], eval__judge="keyword")
    well = findings(json.loads(logitrail("doctor", recipe, "--quick", "--json").out))["judge"]
    assert (well["level"], well["text"]) == ("ok", "keyword")
    unknown = logitrail("doctor", project.write(methods=["str"], eval__judge="gpt9"), "--quick")
    assert unknown.code == 2
    assert "there is no judge 'gpt9'" in unknown.error_lines[0]
    monkeypatch.setattr(KeywordJudge, "judge", lambda *_: Judgement("not_scored", "no route to the judge"))
    mute = logitrail("doctor", project.write(methods=["str"], eval__judge="keyword"), "--json")
    assert mute.code == 2
    found = findings(json.loads(mute.out))
    assert "comes to no verdict on a harmless answer (no route to the judge)" in found["judge"]["text"]
    assert found["dry run"]["text"].startswith("left out")


def test_files_that_overlap_and_margins_without_prompts(project, logitrail):
    content = project.content
    recipe = project.write(data__test=content["data"]["train"], eval__harmless=content["eval"]["harmful"])
    found = findings(json.loads(logitrail("doctor", recipe, "--quick", "--json").out))
    assert found["training data"]["level"] == "warning"
    assert "held-out prompts stand in the training rows too" in found["training data"]["text"]
    text = found["evaluation prompts"]["text"]
    assert "are harmful and harmless at once" in text
    assert "prompts the gate will rarely decide" in text
    alone = project.write(eval__harmless=None, eval__task_metric="none")
    text = findings(json.loads(logitrail("doctor", alone, "--quick", "--json").out))["evaluation prompts"]["text"]
    assert "over_refusal and utility have margins and no prompts, so the gate cannot pass" in text
    decided = project.write(eval__harmless=None, eval__task_metric="none", gate={"over_refusal": None, "utility": None})
    text = findings(json.loads(logitrail("doctor", decided, "--quick", "--json").out))["evaluation prompts"]["text"]
    assert "margin" not in text.split("; with ")[0]


@pytest.mark.parametrize(
    ("out", "words"), [("file", "a file of that name stands"), ("file/below/it", "a part of the path is a file")]
)
def test_an_out_that_no_run_could_write_is_no_good_disk(project, logitrail, out, words):
    (project.folder / "file").write_text("mine", encoding="utf-8")
    recipe = project.write(out=out)
    result = logitrail("doctor", recipe, "--quick", "--json")
    assert result.code == 2
    found = findings(json.loads(result.out))["disk"]
    assert found["level"] == "error"
    assert words in found["text"]
    run = logitrail("run", recipe)
    assert words in run.error_lines[0]  # what a run says, and when it is late


@pytest.mark.parametrize("inside", ["", "runs/a"])
def test_an_out_in_the_models_own_folder_is_warned_of(project, logitrail, model_folder, inside):
    mine = shutil.copytree(model_folder, project.folder / "mine")
    recipe = project.write(model__path=str(mine), out=str(mine / inside))
    found = findings(json.loads(logitrail("doctor", recipe, "--quick", "--json").out))["disk"]
    assert found["level"] == "warning"
    assert f"the model's own folder {mine}" in found["text"]
    assert not list(mine.rglob("runs"))


def test_a_model_without_a_chat_template_is_told_what_a_folder_needs(project, logitrail, model_folder):
    mine = shutil.copytree(model_folder, project.folder / "mine")
    (mine / "chat_template.jinja").unlink()
    recipe = project.write(model__path=str(mine))
    found = findings(json.loads(logitrail("doctor", recipe, "--quick", "--json").out))["model"]
    assert "put a chat_template.jinja into its folder" in found["text"]
    shutil.copy(model_folder / "chat_template.jinja", mine)
    assert findings(json.loads(logitrail("doctor", recipe, "--quick", "--json").out))["model"]["level"] == "ok"


@pytest.mark.parametrize(("mined", "level"), [(False, "error"), (True, "warning")])
def test_an_anchor_against_openers_that_there_are_not(project, logitrail, monkeypatch, mined, level):
    """A training raises; where tokens are mined, the model's own answers may bring some."""
    from logitrail.stages import doctor

    real = doctor.SafetyTokens.from_templates

    def without(*given, **options):
        return dataclasses.replace(real(*given, **options), compliance=())

    monkeypatch.setattr(doctor.SafetyTokens, "from_templates", without)
    write_jsonl(project.folder / "dev.jsonl", [{"prompt": f"How could I harm him {i}?"} for i in range(4)])
    more = {"tokens__mine": {"harmful": "dev.jsonl", "harmless": "harmless.jsonl"}} if mined else {}
    changes = {"methods": ["str"], "training__str_positions": "labels", **more}
    result = logitrail("doctor", project.write(training__str_anchor="margin", **changes), "--quick", "--json")
    found = findings(json.loads(result.out))["safety tokens"]
    assert found["level"] == level
    assert "anchor margin needs compliance openers" in found["text"]
    assert result.code == (0 if mined else 2), result.err
    other = logitrail("doctor", project.write(training__str_anchor="logit", **changes), "--quick", "--json")
    assert findings(json.loads(other.out))["safety tokens"]["level"] == "ok"


@pytest.mark.parametrize(("limit", "looked_at"), [(3, 3), (None, 12)])
def test_lengths_are_of_the_rows_that_are_trained_on(project, logitrail, limit, looked_at):
    recipe = project.write(methods=["sft"], data__limit=limit)
    found = findings(json.loads(logitrail("doctor", recipe, "--quick", "--json").out))["lengths"]
    assert f"of the first {looked_at} rows" in found["text"]


def test_free_memory_is_asked_for_as_every_system_tells_it(project, logitrail, monkeypatch):
    import psutil

    if torch.cuda.is_available():
        pytest.skip("a GPU is here, and its memory is what counts")
    real = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: real._replace(available=123 * 2**30))
    found = findings(json.loads(logitrail("doctor", project.recipe, "--quick", "--json").out))["memory"]
    assert (found["level"], found["text"].rsplit("; ", 1)[1]) == ("ok", f"{size(123 * 2**30)} free")
