"""A figure drawn by matplotlib as SVG text: the same drawing gives the same bytes.

No dates, a fixed salt for ids, none of the user's matplotlib settings, and the reader's own fonts.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final

_STYLE: Final = {
    "svg.hashsalt": "logitrail",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def svg(
    width: float,
    height: float,
    draw: Callable[[Any], None],
    *,
    style: Mapping[str, Any],
    title: str | None = None,
    transparent: bool = False,
) -> str:
    """`draw(figure)` on a figure of that many inches.

    Args:
        style: matplotlib's rcParams beside those of every figure here, colours above all.
        title: the document's, for readers that show one.
        transparent: without paper behind figure and axes.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # glyphs that the bundled font lacks: the browser's fonts have them
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**_STYLE, **style})
        layout = ConstrainedLayoutEngine()
        figure = Figure(figsize=(width, height), layout=layout)
        canvas = FigureCanvasSVG(figure)
        draw(figure)
        layout.execute(figure)
        figure.set_layout_engine("none")
        if transparent:
            for patch in (figure.patch, *(axes.patch for axes in figure.axes)):
                patch.set(facecolor="none", edgecolor="none")
        stream = io.BytesIO()
        metadata = {"Date": None, "Creator": None, **({} if title is None else {"Title": title})}
        canvas.print_svg(
            stream, metadata=metadata
        )  # `savefig` would draw it all a first time, only to have it laid out
    return stream.getvalue().decode("utf-8").replace("'DejaVu Sans'", "system-ui, sans-serif")
