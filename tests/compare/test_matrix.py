"""What a matrix may say: every mistake is one line that says what to do, before anything runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from logitrail.compare.plan import Plan
from logitrail.config import load_matrix, parse_matrix
from logitrail.config.matrix import put
from logitrail.demo import DATA
from logitrail.errors import RecipeError
from tests.compare.conftest import write

HARMFUL = str(DATA / "harmful_test.jsonl")
SAFE = str(DATA / "task_train.jsonl")

MISTAKES = {
    "unknown key": ({"seedz": [1]}, "unknown key `seedz`; did you mean `seeds`?"),
    "unknown key of tuning": ({"tuning__trial": 3}, "unknown key `tuning.trial`; did you mean `trials`?"),
    "no methods": ({"methods": {}}, "`methods`: no row is named, so nothing would be trained; give"),
    "methods in a list": (
        {"methods": ["sft", "str"]},
        "`methods`: got ['sft', 'str']; give a mapping with a key for each row, such as {sft: {}, str: {}}",
    ),
    "methods that are a word": ({"methods": "sft"}, "`methods`: got 'sft'; give a mapping with a key for each row"),
    "a seed twice": ({"seeds": [1, 1]}, "give different seeds"),
    "a negative seed": ({"seeds": [-1]}, "from 0 to 2^32 - 1"),
    "no seed": ({"seeds": []}, "`seeds`: the list is empty, so nothing would be trained; name some, such as [0, 1, 2]"),
    "seeds that are a number": ({"seeds": 3}, "`seeds`: got 3; give a list, such as [0, 1, 2]"),
    "no such recipe": ({"recipe": "none.yaml"}, "none.yaml does not exist"),
    "a recipe that is a number": ({"recipe": 3}, "`recipe`"),
    "a recipe's key": ({"recipe__eval__harmfull": "x"}, "unknown key `eval.harmfull`; did you mean `harmful`?"),
    "a row's key": ({"methods__str": {"evall.limit": 3}}, "row str: unknown key `evall`; did you mean `eval`?"),
    "a row's value": ({"methods__str": {"data.limit": 0}}, "row str: `data.limit`"),
    "a row through a number": ({"methods__str": {"data.limit.x": 0}}, "leads through `data.limit`, which is 64"),
    "a row's seed": ({"methods__str": {"seed": 3}}, "sets `seed`, which is the matrix's `seeds`"),
    "a row's folder": ({"methods__str": {"out": "/tmp/x"}}, "sets `out`, which is the matrix's `out`"),  # noqa: S108 (a name; nothing is written)
    "a row's gate": ({"methods__str": {"gate.refusal": 0.1}}, "sets `gate.refusal`, which is not used in a comparison"),
    "a row's model": ({"methods__str": {"model.dtype": "bfloat16"}}, "row str changes `model`"),
    "a row that is a list": ({"methods__str": [1]}, "`methods.str`"),
    "a key twice": (
        {"methods__str": {"data.limit": 3, "data": {"limit": 4}}},
        "sets `data.limit` twice",
    ),
    "an unknown method": ({"methods__strr": {}}, "unknown method 'strr'"),
    "TRL's method": ({"methods__dpo": {}}, "DPO is TRL's own trainer (DPOTrainer)"),
    "TRL's method in a part": (
        {"methods__mine": {"method": "dpo+ema"}},
        "only in the benchmark of the step's cost",
    ),
    "a part behind one that fixes the order": (
        {"methods__lisa+mix": {"safety_data": SAFE}},
        "fixes the order of the rows, which 'mix' behind it undoes; write 'mix+lisa'",
    ),
    "no safety data": ({"methods__mix": {}}, "row mix: the method mix needs harmful prompts with safe answers"),
    "no safety data in a tuned row": (
        {"methods__mine": {"method": "mix", "tune": {"method_options.mix.share": [0.1, 0.2]}}},
        "row mine: the method mix needs harmful prompts with safe answers",
    ),
    "no pretrained sibling": (
        {"methods__project": {}},
        "row project: the method project compares with the model before",
    ),
    "a method's option": (
        {"methods__kl": {"method_options.kl.wieght": 1}},
        "row kl: unknown key `method_options.kl.wieght`; did you mean `weight`?",
    ),
    "a method's tuned option": (
        {"methods__kl": {"tune": {"method_options.kl.wieght": [1, 2]}}},
        "row kl: unknown key `method_options.kl.wieght`; did you mean `weight`?",
    ),
    "an option's value": (
        {"methods__kl": {"method_options.kl.weight": -1}},
        "row kl: `method_options.kl.weight`: ",
    ),
    "an option of no method": (
        {"methods__kl": {"method_options.kk.weight": 1}},
        "row kl: `method_options.kk` is no method's; did you mean `method_options.kl`?",
    ),
    "an unknown reference": ({"reference": "stf"}, "`reference` is 'stf', which is no row; did you mean"),
    "a reference that stands there anyway": ({"reference": "base"}, "name a row, or leave it out"),
    "a judge that there is not": ({"recipe__eval__judge": "clasifier"}, "there is no judge 'clasifier'"),
    "a row asked behind a system message of its own": (
        {"methods__str": {"data.system": "Be kind."}},
        "row str changes `data.system`, and rows of one table",
    ),
    "a development split that forgets the task, whose loss is all that is measured": (
        {
            "recipe__eval__task_metric": "none",
            "tuning__overrides": {"eval.harmful": str(DATA / "harmful_dev.jsonl"), "eval.harmless": None},
        },
        "`data.test` is the test split's",
    ),
    "a row called base": ({"methods__base": {"method": "sft"}}, "no row may be called 'base'"),
    "rows that differ in case": ({"methods__SFT": {"method": "sft"}}, "differ in case only"),
    "tune without tuning": ({"tuning": None}, "`methods.str-tuned` has `tune`"),
    "tune of one value": ({"methods__str": {"tune": {"data.limit": 3}}}, "give a list of values to try"),
    "tune of nothing": ({"methods__str": {"tune": {"data.limit": []}}}, "give a list of values to try"),
    "tune of a value twice": ({"methods__str": {"tune": {"data.limit": [3, 3]}}}, "has a value twice"),
    "tuning on a reported seed": ({"tuning__seed": 1}, "`tuning.seed` is 1, one of `seeds`"),
    "tuning on no data set": (
        {"tuning__data": {"tsk": {}}},
        "`tuning.data` names 'tsk', which is no data set; did you mean",
    ),
    "tuning over what is tuned": (
        {"tuning__data": {"task": {"training.learning_rate": 5e-4}}},
        "`tuning.data.task` sets `training.learning_rate`, and `methods.str-tuned` tunes `training.learning_rate`",
    ),
    "a data set's seed in tuning": ({"tuning__data": {"task": {"seed": 1}}}, "`tuning.data.task` sets `seed`"),
    "tuning's data as a list": ({"tuning__data": [1]}, "`tuning.data`"),
    "no trial": ({"tuning__trials": 0}, "`tuning.trials`"),
    "the test split as development split": (
        {"tuning__overrides": {"eval.harmful": HARMFUL, "data.test": "task_dev.jsonl"}},
        "the development split's `eval.harmful` is the test split's",
    ),
    "a development split that forgets the task": (
        {"tuning__overrides": {"eval.harmful": str(DATA / "harmful_dev.jsonl")}},
        "is the test split's",
    ),
    "rows measured on different things": (
        {"methods__str": {"eval.limit": 4}},
        "row str changes `eval`, and rows of one table must start from the same policy",
    ),
    "a file that is not there": ({"recipe__data__train": "none.jsonl"}, "none.jsonl does not exist"),
    "no worker": ({"workers": 0}, "`workers`"),
    "an engine that there is not": ({"engine": "slurm"}, "`engine`"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_written(name, matrix, logitrail, tmp_path):
    changes, says = MISTAKES[name]
    result = logitrail("compare", matrix(**changes))
    assert result.code == 2, result.err
    assert len(result.err.strip().splitlines()) == 1
    assert says in result.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name", ["../../escape", "a/b", "", ".", "..", "-rf", "a\nb", "a\x00b", "/etc", "C:\\x", "~", "é", "x" * 81]
)
@pytest.mark.parametrize("where", ["methods", "data"])
def test_a_hostile_name_leaves_no_folder(name, where, matrix, logitrail, tmp_path):
    path = matrix()
    made = yaml.safe_load(path.read_text())
    made[where] = {name: {"method": "sft"} if where == "methods" else {}}
    made.pop("tuning")
    made["methods"].pop("str-tuned", None)
    path.write_text(yaml.safe_dump(made))
    before = set(tmp_path.rglob("*"))
    result = logitrail("compare", path)
    assert result.code == 2
    assert ("a text with a NUL" if "\0" in name else "cannot be a folder's name") in result.err
    assert len(result.err.strip().splitlines()) == 1
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("text", ["", "- 1", "a: [", "recipe: {a: 1}\n\tx: 2"])
def test_no_matrix_at_all(text, logitrail, tmp_path):
    path = tmp_path / "matrix.yaml"
    path.write_text(text)
    result = logitrail("compare", path)
    assert result.code == 2
    assert len(result.err.strip().splitlines()) == 1
    assert logitrail("compare", tmp_path / "none.yaml").code == 2


def test_only_rows_that_there_are(matrix, logitrail):
    result = logitrail("compare", matrix(), "--only", "sft2", "--plan")
    assert result.code == 2
    assert "there is no row 'sft2' in the matrix; did you mean `sft`?" in result.err


def test_paths_start_at_the_file_that_names_them(tmp_path):
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    (recipes / "common.yaml").write_text(
        "model: {path: model}\ndata: {train: train.jsonl}\neval: {harmful: harmful.jsonl}\n"
    )
    (recipes / "model").mkdir()
    matrix = parse_matrix(
        {
            "out": "runs",
            "recipe": "recipes/common.yaml",
            "data": {"b": {"data.train": "b.jsonl"}},
            "methods": {"str": {"tokens": {"file": "t.json"}}, "sft": {"tune": {"data.train": ["c.jsonl"]}}},
            "tuning": {"overrides": {"eval.harmful": "dev.jsonl"}, "data": {"b": {"data": {"test": "b_dev.jsonl"}}}},
        },
        folder=tmp_path,
    )
    assert matrix.out == tmp_path / "runs"
    assert matrix.recipe["data"]["train"] == recipes / "train.jsonl"
    assert matrix.recipe["model"]["path"] == str(recipes / "model")
    assert matrix.data["b"] == {"data.train": tmp_path / "b.jsonl"}
    assert matrix.methods["str"].overrides == {"tokens.file": tmp_path / "t.json"}
    assert matrix.methods["sft"].tune == {"data.train": (tmp_path / "c.jsonl",)}
    assert matrix.tuning is not None
    assert matrix.tuning.overrides == {"eval.harmful": tmp_path / "dev.jsonl"}
    assert matrix.tuning.data == {"b": {"data.test": tmp_path / "b_dev.jsonl"}}


def test_a_matrix_as_understood_is_a_matrix(matrix):
    first = load_matrix(matrix())
    again = parse_matrix(json.loads(first.model_dump_json()), folder=Path("/elsewhere"))
    assert again.model_dump(mode="json") == first.model_dump(mode="json")


def test_put():
    made = {"lora": False, "training": {"a": 1}}
    put(made, {"lora.r": 4, "training.b": [1], "eval.limit": 3}, "here")
    assert made == {"lora": {"r": 4}, "training": {"a": 1, "b": [1]}, "eval": {"limit": 3}}
    with pytest.raises(RecipeError, match=r"here: `training\.a\.x` leads through `training\.a`, which is 1"):
        put(made, {"training.a.x": 1}, "here")


def test_a_cells_key_knows_the_contents_of_every_model(tmp_path):
    """The pretrained sibling and another reference are named by folders; what lies in them is what counts."""
    from logitrail.compare.plan import Plan

    for name in ("base", "original"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    path = write(
        tmp_path,
        methods={"sft": {}},
        tuning=None,
        recipe__model__base=str(tmp_path / "base"),
        recipe__reference={"path": str(tmp_path / "original")},
    )

    def keys():
        plan = Plan(load_matrix(path))
        return plan.cell("task", "sft", 0).key, plan.shared("task").key

    cell, start = keys()
    assert keys() == (cell, start)
    (tmp_path / "base" / "config.json").write_text('{"other": 1}')
    after = keys()
    assert after[0] != cell
    (tmp_path / "original" / "config.json").write_text('{"other": 1}')
    assert keys()[0] not in (cell, after[0])
    assert keys()[1] == start


def test_a_cells_key_knows_the_files_that_training_and_tokens_read(tmp_path):
    template, rows = tmp_path / "chat.jinja", tmp_path / "rows.jsonl"
    template.write_text("{{ messages }}")
    rows.write_bytes((DATA / "task_train.jsonl").read_bytes())
    path = write(
        tmp_path,
        methods={"sft": {}},
        tuning=None,
        recipe__data__train="rows.jsonl",
        recipe__training__chat_template_path="chat.jinja",
        recipe__tokens={"top_k": 16, "control": "common"},
    )

    def jobs():
        plan = Plan(load_matrix(path))
        return plan.cell("task", "sft", 0), plan.shared("task")

    cell, start = jobs()
    assert cell.recipe.training["chat_template_path"] == str(template)
    assert [job.key for job in jobs()] == [cell.key, start.key]
    template.write_text("{{ messages | length }}")
    other, same = jobs()
    assert other.key != cell.key
    assert same.key == start.key
    rows.write_bytes(rows.read_bytes()[: rows.read_bytes().index(b"\n") + 1])
    assert jobs()[1].key != start.key  # the commonest words of the rows


def test_a_template_that_only_the_shell_would_find_is_refused(matrix, tmp_path, monkeypatch):
    elsewhere = tmp_path / "shell"
    elsewhere.mkdir()
    (elsewhere / "chat.jinja").write_text("{{ messages }}")
    monkeypatch.chdir(elsewhere)
    with pytest.raises(RecipeError, match=r"`training.chat_template_path`: there is no chat.jinja in"):
        load_matrix(matrix(recipe__training__chat_template_path="chat.jinja"))


def test_a_draw_of_its_own_for_each_seed_is_made_by_each_cell(matrix):
    tokens = {"top_k": 16, "control": "random"}
    for control_seed, own in ((3, False), ("seed", True)):
        plan = Plan(load_matrix(matrix(recipe__tokens={**tokens, "control_seed": control_seed})))
        for cell in plan.cells("task", "sft"):
            assert (cell.recipe.tokens.file is None) == own
            assert cell.recipe.control_seed == (cell.seed if own else 3) or not own


@pytest.mark.parametrize("form", ["columns", "messages"])
def test_prompts_in_both_splits_are_counted_in_every_form(form, matrix, tmp_path):
    path = matrix()
    rows = [json.loads(line) for line in (tmp_path / "task_test.jsonl").read_text().splitlines()]
    if form == "messages":
        rows = [
            {
                "messages": [
                    {"role": "user", "content": row["prompt"]},
                    {"role": "assistant", "content": row["response"]},
                ]
            }
            for row in rows
        ]
    for name, part in (("task_test", rows), ("task_dev", rows[:7])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    assert Plan(load_matrix(path)).overlap == [
        "data set task: 7 prompts of the development split's data.test stand in the test split's too"
    ]


def test_each_data_set_has_its_own_development_split(matrix, tmp_path):
    path = matrix(data={"one": {}, "two": {}}, tuning__data={"two": {"data.test": str(DATA / "task_train.jsonl")}})
    plan = Plan(load_matrix(path))
    splits = {data: plan.shared(data, "dev").recipe.data.test for data in ("one", "two")}
    assert splits == {"one": tmp_path / "task_dev.jsonl", "two": DATA / "task_train.jsonl"}
    assert {trial.recipe.data.test for trial in plan.trials("two", "str-tuned")} == {DATA / "task_train.jsonl"}
    assert {cell.recipe.data.test for cell in plan.cells("two", "sft")} == {tmp_path / "task_test.jsonl"}
