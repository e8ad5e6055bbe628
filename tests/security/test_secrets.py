"""Secrets of the environment and of the user stay where they are: no file, no stream says them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from logitrail.errors import LogitrailError

SECRETS = {
    "HF_TOKEN": "hf_SENTINELsentinelSENTINELsentinel01",
    "HUGGING_FACE_HUB_TOKEN": "hf_SENTINELsentinelSENTINELsentinel02",
    "OPENAI_API_KEY": "sk-SENTINELsentinelSENTINELsentinel03",
    "WANDB_API_KEY": "SENTINELsentinelSENTINELsentinel04",
    "AWS_SECRET_ACCESS_KEY": "SENTINELsentinelSENTINELsentinel05",
    "DATABASE_PASSWORD": "SENTINELsentinelSENTINELsentinel06",
}


def test_a_whole_run_says_none_of_them(project, logitrail, monkeypatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    junit = project.folder / "out" / "gate.xml"
    results = [
        logitrail("run", project.recipe),
        logitrail("gate", project.recipe, "--junit", junit),
        logitrail("report", project.recipe, "--answers"),
        logitrail("doctor", project.write(data__train="none.jsonl")),
    ]
    assert junit.exists()
    said = "".join(result.out + result.err for result in results)
    assert "SENTINEL" not in said
    files = [file for file in project.folder.rglob("*") if file.is_file()]
    assert len(files) > 30
    assert not [file for file in files if b"SENTINEL" in file.read_bytes()]


@pytest.mark.parametrize(
    ("training", "key"),
    [
        ({"hub_token": "hf_SENTINEL"}, "hub_token"),
        ({"model_init_kwargs": {"token": "hf_SENTINEL"}}, "model_init_kwargs.token"),
        ({"report_options": {"deep": {"API_KEY": "SENTINEL"}}}, "report_options.deep.API_KEY"),
        ({"trust_remote_code": True}, "trust_remote_code"),
    ],
)
def test_a_recipe_may_hold_no_secret(project, logitrail, training, key) -> None:
    refused = logitrail("run", project.write(training=training))
    assert (refused.code, len(refused.error_lines)) == (2, 1)
    assert f"`training.{key}`" in refused.error_lines[0]
    assert "SENTINEL" not in refused.out + refused.err
    assert not (project.folder / "out").exists()


def test_nor_may_a_chain(tmp_path: Path, logitrail) -> None:
    content = {"training": {"hub_token": "hf_SENTINEL"}}
    (tmp_path / "chain.yaml").write_text(yaml.safe_dump(content))
    refused = logitrail("chain", tmp_path / "chain.yaml")
    assert refused.code == 2
    assert "SENTINEL" not in refused.err


def test_options_that_only_sound_like_secrets_are_fine() -> None:
    from logitrail.config.recipe import require_own_options

    fine = {"eos_token": "<|end|>", "include_num_input_tokens_seen": "all", "hub_token": None, "pad_token": "x"}
    assert require_own_options(fine) == fine


@pytest.mark.parametrize("kind", ["LogitrailError", "RuntimeError", "OSError"])
def test_an_error_that_quotes_one_is_cleaned(kind: str) -> None:
    """A library's message may hold an address with credentials in it."""
    code = (
        "import sys\nfrom logitrail.cli.errors import guarded\nfrom logitrail.errors import LogitrailError\n"
        f"def work(): raise {kind}('403 for https://me:' + {SECRETS['DATABASE_PASSWORD']!r} + '@host/')\n"
        "sys.exit(guarded(work))"
    )
    environment = {**SECRETS, "PYTHONPATH": ":".join(sys.path), "SHORT_TOKEN": "host"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode in (2, 70)
    assert "SENTINEL" not in done.stderr
    assert "https://me:[DATABASE_PASSWORD]@host/" in done.stderr


@pytest.mark.parametrize("kind", [RuntimeError, LogitrailError])
def test_a_finding_that_quotes_one_is_cleaned(project, logitrail, monkeypatch, kind) -> None:
    """The doctor's table and JSON are for standard output, which CI systems keep."""
    from logitrail.stages import doctor

    secret = SECRETS["DATABASE_PASSWORD"]
    monkeypatch.setenv("DATABASE_PASSWORD", secret)

    def quoting(loaded):
        raise kind(f"403 for https://me:{secret}@host/ {'x' * 240} {secret}")  # a cut at 300 would leave half of it

    monkeypatch.setattr(doctor, "_head", quoting)
    for more in ((), ("--json",)):
        result = logitrail("doctor", project.recipe, "--quick", *more)
        assert result.code == 2
        assert "SENT" not in "".join((result.out + result.err).split())
    assert "https://me:[DATABASE_PASSWORD]@host/" in result.out  # in JSON no line is broken
