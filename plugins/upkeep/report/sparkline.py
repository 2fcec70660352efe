"""A line of past values, small enough to stand beside a number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup

POINTS = 30
WIDTH, HEIGHT, MARGIN = 64, 16, 2


def sparkline(values: Sequence[float], show: Callable[[float], str] = str) -> Markup:
    """Return the newest `POINTS` values as an inline SVG with a text alternative.

    Nothing is drawn for fewer than three values or where nothing changed: such a line says nothing.
    The scale reaches from the lowest to the highest value, so it shows change and not proportion.
    """
    kept = [value for value in values if math.isfinite(value)][-POINTS:]
    low, high = min(kept, default=0.0), max(kept, default=0.0)
    if len(kept) < 3 or low == high:
        return Markup("")
    points = _points(kept, low, high)
    x, y = points[-1].split(",")
    said = f"last {len(kept)} values: {show(low)} to {show(high)}, now {show(kept[-1])}"
    return Markup(
        '<svg class="k" viewBox="0 0 {w} {h}" role="img" aria-label="{said}"><title>{said}</title>'
        '<polyline points="{line}"/><circle cx="{x}" cy="{y}" r="1.8"/></svg>'
    ).format(w=WIDTH, h=HEIGHT, said=said, line=" ".join(points), x=x, y=y)


def _points(values: Sequence[float], low: float, high: float) -> list[str]:
    step = (WIDTH - 2 * MARGIN) / (len(values) - 1)
    # Halved before subtracting: the distance between two finite numbers can be infinite.
    scale = (HEIGHT - 2 * MARGIN) / (high / 2 - low / 2)
    return [
        f"{MARGIN + number * step:.4g},{HEIGHT - MARGIN - (value / 2 - low / 2) * scale:.3g}"
        for number, value in enumerate(values)
    ]
