"""examples/first_run.ipynb runs from top to bottom in a fresh kernel."""

from __future__ import annotations

import ast
import os

import nbformat
from nbclient import NotebookClient

from tests.docs.pages import ROOT


def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch):
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(ROOT / "examples" / "first_run.ipynb", as_version=4)
    nbformat.validate(notebook)
    kept = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in kept)  # what a reader sees is what his own run says
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    outputs = [output for cell in kept for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    said = "".join(output.text for output in outputs if output.get("name") == "stdout")
    assert " plain: " in said
    assert "   STR: " in said
    (drift,) = [out.data["text/plain"] for out in outputs if "'held'" in str(out.get("data", {}).get("text/plain"))]
    values = ast.literal_eval(drift)
    assert 0 < values["held"] < values["plain"]
