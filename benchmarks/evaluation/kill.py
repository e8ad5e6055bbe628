"""Kill an evaluation at ten random rows, resume it each time, and compare with one that nobody killed.

    python benchmarks/evaluation/kill.py [--seed 0]

The child writes down every row whose generation returned. Its judge is slow, so that half of the kills meet it at work.
Killed with SIGKILL a random moment after the row was reached, it must end with the same bytes, and no row may have been
generated twice. A batch that a kill cuts has returned nothing and is begun again; such rows are counted apart.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

CHILD = """
import json, os, sys, time
from pathlib import Path
import torch
import logitrail.models.generation as generation
from logitrail.demo import DATA, ORGANISM
from logitrail.evals import Row, attack_rows, evaluate, judge, read_rows
from logitrail.models.loading import load_model
torch.set_num_threads(1)
answers, log = Path(sys.argv[1]), open(sys.argv[2], "a")
real = generation.generate
def note(kind, prompts):
    log.write(json.dumps([kind, prompts]) + "\\n"); log.flush(); os.fsync(log.fileno())
def counting(model, tokenizer, prompts, **settings):
    keys = [f"{settings['prefill']}|{settings['temperature']}|{prompt}" for prompt in prompts]
    note("begun", keys)
    found = real(model, tokenizer, prompts, **settings)
    note("done", keys)
    return found
generation.generate = counting
loaded = load_model(str(ORGANISM))
harmful = read_rows(DATA / "harmful_test.jsonl", "refusal").rows[:60]
suites = {
    "refusal": harmful,
    "over_refusal": read_rows(DATA / "lookalike_test.jsonl", "over_refusal").rows[:60],
    "attack": attack_rows(harmful[:4], samples=1),
}
class Slow:
    name, suites, hub_models = "slow", ("refusal", "over_refusal", "attack"), ()
    def __init__(self):
        self.quick = judge("classifier")
    def judge(self, prompt, response):
        time.sleep(0.01)
        return self.quick.judge(prompt, response)
def progress(done, total):
    print(done, total, flush=True)
    time.sleep(0.03)  # so that a parent can aim at a row of a model this fast
evaluate(loaded.model, loaded.tokenizer, suites, judge=[Slow(), judge("keyword")], answers_path=answers,
         max_new_tokens=16, batch_size=4, on_progress=progress)
"""


def child(folder: Path, name: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    arguments = [sys.executable, "-c", CHILD, str(folder / f"{name}.jsonl"), str(folder / f"{name}.log")]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment)  # noqa: S603


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=10)
    given = parser.parse_args()
    chance = random.Random(given.seed)  # noqa: S311 (a benchmark, no secret)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = child(folder, "whole")
        out, _ = whole.communicate()
        assert whole.returncode == 0
        total = int(out.split()[-1])
        rows = sorted(chance.sample(range(1, total), given.kills))
        for row in rows:
            running = child(folder, "cut")
            assert running.stdout is not None
            for line in running.stdout:
                if int(line.split()[0]) >= row:
                    break
            time.sleep(chance.uniform(0, 0.06))
            running.send_signal(signal.SIGKILL)
            running.wait()
            if running.returncode != -signal.SIGKILL:
                raise SystemExit("the child ended before it was killed; the machine is faster than this benchmark")
            assert not (folder / "cut.jsonl").exists()
        last = child(folder, "cut")
        last.communicate()
        assert last.returncode == 0
        notes = [json.loads(line) for line in (folder / "cut.log").read_text().splitlines()]
        done = Counter(key for kind, keys in notes if kind == "done" for key in keys)
        begun = Counter(key for kind, keys in notes if kind == "begun" for key in keys)
        same = (folder / "whole.jsonl").read_bytes() == (folder / "cut.jsonl").read_bytes()
        result = {
            "rows": total,
            "killed_at": rows,
            "same_bytes": same,
            "generated_twice": sum(count > 1 for count in done.values()),
            "begun_again": sum(count > 1 for count in begun.values()),
        }
    print(json.dumps(result))
    sys.exit(0 if same and result["generated_twice"] == 0 else 1)


if __name__ == "__main__":
    main()
