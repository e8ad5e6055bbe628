"""A whole comparison through the command line: resumed, tuned, failed and killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from logitrail.evals import read_answers
from tests.cli.test_run import command, environment
from tests.compare.conftest import summary_of, write

NOISE = {"seconds", "seconds_per_step", "step_ratio_to_sft", "peak_memory_bytes", "process_peak_bytes"}
"""What no two runs share."""


def without_noise(value):
    if isinstance(value, dict):
        return {key: without_noise(of) for key, of in value.items() if key not in NOISE}
    return [without_noise(item) for item in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The matrix after one unbroken run, and what it printed."""
    folder = tmp_path_factory.mktemp("compare")
    path = write(folder)
    ran = subprocess.run(
        command("compare", path, "--json", "--workers", "2"),
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return path, json.loads(ran.stdout), ran.stderr


def test_what_is_there(finished):
    path, printed, progress = finished
    out = path.parent / "out"
    summary = summary_of(path)
    assert printed == summary
    assert summary["stage"] == "compare"
    assert [row["row"] for row in summary["rows"]] == ["base", "sft", "str-tuned"]
    assert {cell["status"] for cell in summary["cells"]} == {"done"}
    assert len(summary["cells"]) == 4
    assert "[8/8]" in progress
    for cell in summary["cells"]:
        assert (out / cell["folder"] / "cell.json").exists()
        assert set(cell["rates"]) == {"refusal", "over_refusal", "utility"}
        assert cell["rates"]["refusal"]["n"] == 8
        assert cell["steps"] == 3
        assert "Fatal" not in (out / cell["folder"] / "log.txt").read_text()
        assert cell["process_peak_bytes"] > 2**20
    assert len({cell["weights"] for cell in summary["cells"]}) == 4
    assert summary["matrix"]["recipe"]["training"]["max_steps"] == 3
    table = (out / "table.md").read_text()
    assert "| str-tuned (tuned) |" in table
    assert "chosen" in table
    assert "fewer than the 3 trials" in table
    assert (out / "front.svg").read_text().startswith("<?xml")


def test_a_rows_figures_are_those_of_its_answers(finished):
    path, summary, _ = finished
    out = path.parent / "out"
    base = {
        answer.id: answer
        for answer in read_answers(out / "shared/task/test/eval/base/answers.jsonl")
        if answer.suite == "refusal"
    }
    by_row = {row["row"]: row for row in summary["rows"]}
    for name, method in (("sft", "sft"), ("str-tuned", "str")):
        refused, moved = [], []
        for seed in (0, 1):
            for answer in read_answers(out / f"cells/task/{name}/seed-{seed}/eval/{method}/answers.jsonl"):
                if answer.suite == "refusal" and answer.scored and base[answer.id].scored:
                    refused.append(int(answer.declined))
                    moved.append(int(answer.declined) - int(base[answer.id].declined))
        row = by_row[name]
        assert row["against_base"]["refusal"]["value"] == pytest.approx(sum(moved) / len(moved))
        if row["rates"]["refusal"]["n"] == 8:
            assert row["rates"]["refusal"]["value"] == pytest.approx(sum(refused) / len(refused))
        losses = [cell["held_out_loss"] for cell in summary["cells"] if cell["row"] == name]
        assert row["held_out_loss"]["value"] == pytest.approx(sum(losses) / 2)
    assert by_row["sft"]["against_reference"]["refusal"]["value"] == 0.0


def test_tuning_takes_what_the_rule_says_and_shows_all(finished):
    path, summary, _ = finished
    (tuning,) = summary["tuning"]
    assert [trial["setting"] for trial in tuning["trials"]] == [
        {"training.learning_rate": 1e-4},
        {"training.learning_rate": 3e-3},
    ]
    base, trials = tuning["base"], [trial["rates"] for trial in tuning["trials"]]
    floor = max(rates["utility"]["value"] for rates in trials) - 0.05 - 1e-9
    useful = [number for number, rates in enumerate(trials) if rates["utility"]["value"] >= floor]
    start = base["utility"]["value"]
    least = start + max(max(rates["utility"]["value"] for rates in trials) - start, 0) / 10 - 1e-9
    safe = [
        number
        for number, rates in enumerate(trials)
        if rates["utility"]["value"] >= least
        and rates["refusal"]["value"] >= base["refusal"]["value"] - 0.03 - 1e-9
        and rates["over_refusal"]["value"] <= base["over_refusal"]["value"] + 0.05 + 1e-9
    ]
    wanted = (
        max(safe, key=lambda number: (trials[number]["utility"]["value"], -number))
        if safe
        else max(
            useful,
            key=lambda number: (trials[number]["refusal"]["value"], trials[number]["utility"]["value"], -number),
        )
    )
    assert tuning["chosen"] == wanted
    row = next(row for row in summary["rows"] if row["row"] == "str-tuned")
    assert row["setting"] == tuning["setting"] == tuning["trials"][wanted]["setting"]
    out = path.parent / "out"
    seen = {answer.prompt for answer in read_answers(out / "tuning/task/str-tuned/trial-0/eval/str/answers.jsonl")}
    told = {answer.prompt for answer in read_answers(out / "cells/task/str-tuned/seed-0/eval/str/answers.jsonl")}
    assert not seen & told


def test_again_nothing_runs_and_torch_stays_out(finished):
    path, summary, _ = finished
    before = {file: file.stat().st_mtime_ns for file in (path.parent / "out").rglob("cell.json")}
    code = (
        "import sys\nfrom logitrail.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as ended:\n    assert not ended.code, ended.code\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    again = subprocess.run(
        [sys.executable, "-c", code, "compare", str(path), "--json"], capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == summary
    assert again.stderr == ""
    assert before == {file: file.stat().st_mtime_ns for file in (path.parent / "out").rglob("cell.json")}


def test_plan_lists_what_is_done(finished, logitrail):
    path, _, _ = finished
    listed = json.loads(logitrail("compare", path, "--plan", "--json").out)
    assert [entry["status"] for entry in listed] == ["done"] * 8
    few = json.loads(logitrail("compare", path, "--plan", "--json", "--only", "sft").out)
    assert [entry["folder"] for entry in few] == [
        "shared/task/test",
        "cells/task/sft/seed-0",
        "cells/task/sft/seed-1",
    ]


def test_an_edited_file_makes_its_cells_new(finished, logitrail):
    path, _, _ = finished
    dev = path.parent / "task_dev.jsonl"
    text = dev.read_bytes()
    try:
        dev.write_bytes(text.replace(b"app", b"tool"))
        listed = json.loads(logitrail("compare", path, "--plan", "--json").out)
    finally:
        dev.write_bytes(text)
    status = {entry["folder"]: entry["status"] for entry in listed}
    assert status["shared/task/dev"] == "not done"
    assert status["tuning/task/str-tuned/trial-0"] == "not done"
    assert status["cells/task/str-tuned/seed-0"] == "waits for tuning"
    assert status["cells/task/sft/seed-0"] == "done"


def locked(folder):
    """Whether a process works in the folder."""
    import fcntl

    with open(folder / ".lock", "a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        return False


def wait_until(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.02)


def test_a_cell_whose_answers_are_damaged_is_named_and_runs_again_as_the_message_says(finished, logitrail):
    path, summary, _ = finished
    cell = path.parent / "out/cells/task/sft/seed-0"
    answers, begun = cell / "eval/sft/answers.jsonl", (cell / "train/sft/summary.json").stat().st_mtime_ns
    answers.write_bytes(answers.read_bytes()[:-20])
    (path.parent / "out/summary.json").unlink()
    told = cell / "eval/sft/summary.json"
    refused = logitrail("compare", path)
    assert refused.code
    assert f"delete {told}" in refused.err
    told.unlink()
    listed = json.loads(logitrail("compare", path, "--plan", "--json").out)
    assert [entry["folder"] for entry in listed if entry["status"] == "not done"] == ["cells/task/sft/seed-0"]
    again = subprocess.run(
        command("compare", path, "--json"), capture_output=True, text=True, env=environment(), check=False
    )
    assert again.returncode == 0, again.stderr
    assert without_noise(json.loads(again.stdout)["rows"]) == without_noise(summary["rows"])
    assert (cell / "train/sft/summary.json").stat().st_mtime_ns == begun  # measured again, not trained


@pytest.mark.parametrize(("number", "stage"), [(signal.SIGKILL, "train"), (signal.SIGINT, "train")])
def test_killed_in_the_middle_and_run_again_equals_an_unbroken_one(finished, tmp_path, number, stage):
    whole, _, _ = finished
    path = write(tmp_path)
    cell = tmp_path / "out/cells/task/sft/seed-0"
    process = subprocess.Popen(
        command("compare", path, "--only", "sft"), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment()
    )
    wait_until(lambda: (cell / stage).exists() or process.poll() is not None)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGKILL: -9, signal.SIGINT: 130}[number], err
    if number == signal.SIGINT:
        assert not locked(cell)  # ended before its parent
        assert b"goes on where it stopped" in err
    wait_until(lambda: not locked(cell), 20)
    assert not (cell / "cell.json").exists()
    start = (tmp_path / "out/shared/task/test/cell.json").stat().st_mtime_ns
    again = subprocess.run(
        command("compare", path, "--only", "sft"), capture_output=True, env=environment(), check=False
    )
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "out/shared/task/test/cell.json").stat().st_mtime_ns == start
    mine, theirs = summary_of(path), summary_of(whole)

    def of(summary, what):
        return without_noise([one for one in summary[what] if one["row"] == "sft"])

    assert of(mine, "cells") == of(theirs, "cells")
    (row,), (other,) = of(mine, "rows"), of(theirs, "rows")
    assert {**row, "dominated_by": None, "on_front": None} == {**other, "dominated_by": None, "on_front": None}


def test_a_failed_cell_stops_no_other_and_is_tried_again(tmp_path):
    path = write(
        tmp_path,
        seeds=[0],
        tuning=None,
        methods={"broken": {"method": "sft", "training.learning_rat": 1}, "sft": {}},
        reference="sft",
    )
    first = subprocess.run(command("compare", path), capture_output=True, text=True, env=environment(), check=False)
    assert first.returncode == 1
    (line,) = [line for line in first.stderr.splitlines() if line.startswith("error: ")]
    assert "1 of 3 cells failed, first cells/task/broken/seed-0: unknown key `training.learning_rat`" in line
    assert "did you mean `training.learning_rate`?" in line
    summary = summary_of(path)
    row = next(row for row in summary["rows"] if row["row"] == "broken")
    assert [failure["error_kind"] for failure in row["failures"]] == ["RecipeError"]
    assert row["rates"] == {}
    assert "Failed cells" in (tmp_path / "out/table.md").read_text()
    sft = tmp_path / "out/cells/task/sft/seed-0/cell.json"
    before = sft.stat().st_mtime_ns
    write(tmp_path, seeds=[0], tuning=None, methods={"broken": {"method": "sft"}, "sft": {}}, reference="sft")
    second = subprocess.run(command("compare", path), capture_output=True, text=True, env=environment(), check=False)
    assert second.returncode == 0, second.stderr
    assert sft.stat().st_mtime_ns == before
    assert summary_of(path)["rows"][1]["failures"] == []
    # What is done counts for nothing in the time left, though its turn has not come.
    (tmp_path / "out/shared/task/test/cell.json").unlink()
    third = subprocess.run(command("compare", path), capture_output=True, text=True, env=environment(), check=False)
    assert "[1/3] shared/task/test done" in third.stderr
    assert "left" not in third.stderr


def test_a_cell_that_dies_without_a_word(tmp_path, monkeypatch):
    from logitrail.compare import process

    assert "SIGKILL" in process.ending(tmp_path, -9)
    assert "out of memory" in process.ending(tmp_path, -9)
    (tmp_path / "log.txt").write_text("first\nerror: no lock\n")
    assert "code 3: error: no lock" in process.ending(tmp_path, 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5")
    from logitrail.compare.engines import visible_devices

    assert visible_devices() == ["3", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert visible_devices() == []


def test_two_at_once_in_one_folder(finished, logitrail):
    from logitrail.stages.folder import only_writer

    path, _, _ = finished
    with only_writer(path.parent / "out"):
        # The lock is a process's own, so another one asks for it.
        second = subprocess.run(
            command("compare", path), capture_output=True, text=True, env=environment(), check=False
        )
    assert second.returncode == 2
    assert f"process {os.getpid()}" in second.stderr
