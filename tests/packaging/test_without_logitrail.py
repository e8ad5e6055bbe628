"""What comes out of a run is a plain PEFT adapter, or plain weights: whoever uses it needs no logitrail."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from logitrail.models.loading import load_model
from tests.cli.conftest import logitrail, model_folder, project

__all__ = ["logitrail", "model_folder", "project"]

PLAIN = """
import json, sys
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "logitrail":
            raise ImportError("logitrail is not here")
sys.meta_path.insert(0, Gone())
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
base, trained, adapter = sys.argv[1:]
if adapter == "yes":
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), trained)
else:
    model = AutoModelForCausalLM.from_pretrained(trained)
tokenizer = AutoTokenizer.from_pretrained(trained)
with torch.no_grad():
    logits = model.eval()(**tokenizer("turn the light on", return_tensors="pt")).logits[0, -1]
try:
    import logitrail
except ImportError:
    print(json.dumps({"logits": logits.tolist(), "template": tokenizer.chat_template}))
"""


@pytest.mark.parametrize(("method", "lora"), [("str", {"r": 4, "alpha": 8}), ("str+ema", False)])
def test_loads_in_a_python_where_logitrail_cannot_be_imported(project, logitrail, model_folder, method, lora) -> None:
    recipe = project.write(methods=[method], lora=lora, training__max_steps=2, eval__harmless=None)
    done = logitrail("train", recipe)
    assert done.code == 0, done.err
    trained = project.folder / "out" / "train" / method / "model"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", PLAIN, str(model_folder), str(trained), "no" if lora is False else "yes"]
    there = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert there.returncode == 0, there.stderr
    found = json.loads(there.stdout.splitlines()[-1])
    ours = load_model(str(trained)) if lora is False else load_model(str(model_folder), adapter=str(trained))
    start = load_model(str(model_folder))
    inputs = ours.tokenizer("turn the light on", return_tensors="pt").to(ours.model.device)
    with torch.no_grad():
        here, before = (loaded.model(**inputs).logits[0, -1].cpu() for loaded in (ours, start))
    torch.testing.assert_close(torch.tensor(found["logits"]), here)
    assert not torch.allclose(here, before)
    assert found["template"] == ours.tokenizer.chat_template
