"""Figures, where only the drawing itself can show what matters."""

from __future__ import annotations

import base64
import re

import pytest

from logitrail.report.figures import curve_figure


@pytest.mark.parametrize("models", [3, 10])
def test_a_legend_of_many_models_lies_below_the_lines(models):
    curves = {f"model-{number}": [(step, float(number)) for step in range(5)] for number in range(models)}
    image = curve_figure("Loss", "nats", curves, from_zero=True)
    assert image is not None
    drawing = base64.b64decode(image.light.split(",", 1)[1]).decode()

    def height(text: str) -> float:
        """Of a text in the drawing, from the top."""
        found = re.search(rf'y="([\d.]+)"[^>]*>{re.escape(text)}<', drawing)
        assert found is not None, text
        return float(found[1])

    labels = [height(f"model-{number}") for number in range(models)]
    below = [place > height("step") for place in labels]
    assert all(below) if models > 4 else not any(below)
