"""How pictures look, and how they are written: SVG that takes the page's colours, and PNG for everywhere else."""

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.typing import RcKeyType

#: By role: what the picture itself bears, and what a page's style sheet calls it.
INK, MUTED, LINE, ACCENT, BEFORE = "#1d1b18", "#77726a", "#dfdad2", "#0b6e5f", "#b9b2a6"
PAPER = "#ffffff"
_VARIABLES: Mapping[str, str] = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    ACCENT: "var(--accent)",
    BEFORE: "var(--before)",
    PAPER: "var(--card)",
}
STYLE: dict[RcKeyType, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    # Text stays text, so that the page's own font and colours apply.
    "svg.fonttype": "none",
    "svg.hashsalt": "modelpress",
}


def svg(figure: Figure) -> str:
    """The figure as an SVG element whose colours and fonts are those of the page around it."""
    text = io.StringIO()
    with rc_context(STYLE):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None})
    element = text.getvalue()[text.getvalue().index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    # Names of groups: two pictures on one page would have them twice.
    element = re.sub(r' id="[\w.]+_\d+"', "", element)
    element = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", element)
    for colour, variable in _VARIABLES.items():
        element = element.replace(colour, variable)
    return element


def write_png(figure: Figure, path: Path) -> None:
    """The figure as a PNG on white, twice as fine as a screen."""
    figure.set_facecolor(PAPER)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=200, metadata={"Software": None})
