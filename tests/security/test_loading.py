"""A hostile model repository or artifact: pickled weights, code that nobody named, and a branch that moves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from logitrail.errors import ModelError
from logitrail.hub import commit_of
from logitrail.models.loading import load_model, load_weights
from tests.cli.conftest import summary
from tests.security.conftest import with_code
from tests.tiny import save_tiny

FIRST, SECOND = "a" * 40, "b" * 40


@pytest.fixture
def model(tmp_path: Path, model_folder: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def as_pickle(folder: Path, name: str = "pytorch_model.bin") -> Path:
    """The same weights as torch saves them: sound, and refused all the same."""
    torch.save(load_file(folder / "model.safetensors"), folder / name)
    (folder / "model.safetensors").unlink()
    return folder


def test_pickled_weights_are_refused(model: Path) -> None:
    load_model(str(model))
    as_pickle(model)
    with pytest.raises(ModelError, match=r"pytorch_model\.bin, and only safetensors files"):
        load_model(str(model))


def test_a_payload_in_weights_never_runs(model: Path, pickled: bytes, mark: Path) -> None:
    (model / "pytorch_model.bin").write_bytes(pickled)
    load_model(str(model))  # the safetensors beside it are what is read
    (model / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="only safetensors"):
        load_model(str(model))
    assert not mark.exists()


@pytest.mark.parametrize("shard", ["pytorch_model.bin", "../elsewhere/model.safetensors"])
def test_an_index_may_only_name_safetensors_of_its_folder(model: Path, shard: str) -> None:
    names = list(load_file(model / "model.safetensors"))
    as_pickle(model)
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, shard)}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="only safetensors files of that folder"):
        load_weights(str(model))


def test_a_config_may_not_name_a_pickle(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    torch.save(load_file(model / "model.safetensors"), model / "adapter_model.bin")
    (model / "config.json").write_text(json.dumps({**config, "transformers_weights": "adapter_model.bin"}))
    with pytest.raises(ModelError, match=r"adapter_model\.bin, and only safetensors"):
        load_weights(str(model))


@pytest.fixture
def adapter(tmp_path: Path, model_folder: Path) -> Path:
    base = AutoModelForCausalLM.from_pretrained(model_folder)
    get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_a_pickled_adapter_is_refused(model: Path, adapter: Path) -> None:
    load_model(str(model), adapter=str(adapter))
    torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"has no adapter_model\.safetensors, only a pickle"):
        load_model(str(model), adapter=str(adapter))


def test_an_adapter_is_no_model_that_brings_its_own(adapter: Path) -> None:
    shutil.copy(adapter / "adapter_config.json", adapter / "kept.json")
    with pytest.raises(ModelError, match="is an adapter; name the model that it belongs to"):
        load_weights(str(adapter))


def test_a_pickled_model_on_the_hub_is_refused(model: Path, hub) -> None:
    hub("org/good", FIRST, model)
    load_model("org/good")
    hub("org/pickled", FIRST, as_pickle(model))
    with pytest.raises(ModelError, match=r"does not appear to have a file named model\.safetensors"):
        load_model("org/pickled")


# Code from a repository --------------------------------------------------------------------------------------------------


def test_code_in_a_folder_runs_only_when_it_is_asked_for(model: Path, mark: Path) -> None:
    with_code(model, mark)
    with pytest.raises(ModelError):
        load_model(str(model))
    assert not mark.exists()
    load_model(str(model), trust_remote_code=True)
    assert mark.exists()


def test_code_of_another_repository_is_not_the_model_that_was_named(model: Path, mark: Path) -> None:
    with_code(model, mark, repository="someone/else")
    with pytest.raises(ModelError, match="takes code from another repository"):
        load_model(str(model), trust_remote_code=True)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["_attn_implementation_internal", "attn_implementation", "_experts_implementation"])
@pytest.mark.parametrize("inside", [False, True])
def test_a_config_may_not_ask_for_kernels_from_the_hub(model: Path, name: str, inside: bool) -> None:
    config = json.loads((model / "config.json").read_text())
    setting = {name: "someone/kernel"}
    (model / "config.json").write_text(json.dumps({**config, **({"text_config": setting} if inside else setting)}))
    with pytest.raises(ModelError, match="takes code from the Hub"):
        load_model(str(model))


def test_code_from_the_hub_needs_its_commit(model: Path, mark: Path, hub, project, logitrail) -> None:
    hub("org/own", FIRST, with_code(model, mark))
    with pytest.raises(ModelError, match="name that commit"):
        load_weights("org/own", trust_remote_code=True)
    with pytest.raises(ModelError, match="name that commit"):
        load_weights("org/own", revision="main", trust_remote_code=True)
    recipe = project.write(model__path="org/own", model__trust_remote_code=True, methods=["str"])
    refused = logitrail("tokens", recipe)
    assert (refused.code, len(refused.error_lines)) == (2, 1)
    assert "name that commit" in refused.error_lines[0]
    assert not mark.exists()
    allowed = logitrail("tokens", project.write(model__revision=FIRST))
    assert allowed.code == 0, allowed.err


def test_an_adapter_does_not_say_whose_code_may_run(model: Path, adapter: Path, mark: Path, project, logitrail) -> None:
    with_code(model, mark)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(model)}))
    command = ("drift", adapter, "--probes", project.folder / "harmful.jsonl", "--json")
    assert logitrail(*command).code == 2
    assert logitrail(*command, "--trust-remote-code", adapter).code == 2
    assert not mark.exists()
    unpinned = logitrail(*command, "--trust-remote-code", "org/own@main")
    assert "40 digits" in unpinned.error_lines[0]
    named = logitrail(*command, "--trust-remote-code", model)
    assert named.code == 0, named.err
    assert mark.exists()


# One commit a run --------------------------------------------------------------------------------------------------------


def test_a_name_stands_for_the_commit_that_its_branch_has(model: Path, hub) -> None:
    hub("org/model", FIRST, model)
    assert commit_of("org/model") == commit_of("org/model", "main") == FIRST
    assert commit_of("org/model", SECOND) == SECOND
    assert commit_of("org/unknown") is None
    assert commit_of(str(model)) is None


def test_every_summary_names_the_commit_and_a_moved_branch_is_another_model(
    model: Path, hub, project, logitrail
) -> None:
    hub("org/model", FIRST, model)
    recipe = project.write(model__path="org/model", methods=["str"], training__max_steps=2)
    assert logitrail("run", recipe).code == 0
    wanted = [{"name": "org/model", "revision": None, "commit": FIRST}]
    files = sorted((project.folder / "out").rglob("summary.json"))
    assert len(files) == 9
    for file in files:
        assert json.loads(file.read_text())["hub_models"] == wanted, file
    before = summary(project, "eval", "base")["weights"]
    hub("org/model", SECOND, save_tiny(project.folder / "moved", seed=5))
    again = logitrail("eval", recipe, "--model", "base")
    assert again.code == 0, again.err
    after = summary(project, "eval", "base")
    assert after["hub_models"][0]["commit"] == SECOND
    assert after["weights"] != before
    pinned = project.write(model__revision=FIRST)
    assert logitrail("eval", pinned, "--model", "base").code == 0
    assert summary(project, "eval", "base")["weights"] == before
