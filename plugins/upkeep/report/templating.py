"""The one way in which text becomes HTML here: everything that is printed is cleaned, then escaped."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from upkeep.core.model import Severity
from upkeep.report import human

TEMPLATES = Path(__file__).parent / "templates"
# Status is told by a sign and a word; colour only repeats it.
SIGNS = {
    Severity.CRITICAL: "✕",
    Severity.UNKNOWN: "?",
    Severity.WARNING: "!",
    Severity.INFO: "i",
    Severity.OK: "✓",
}


@functools.cache
def environment(folder: Path = TEMPLATES) -> jinja2.Environment:
    """Return the templates of a folder, with those of the report (style, macros) behind them."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # `render` takes the templates' own indentation away; that of foreign text is held by spaces that do not break.
    made.filters["keep_indent"] = lambda text: str(text).replace("  ", "\u00a0\u00a0")
    made.globals.update(SIGNS=SIGNS, plural=human.plural, label=human.label, style=_style())
    return made


def render(template: str, folder: Path = TEMPLATES, **values: Any) -> str:
    """Return a page; the indentation of templates does not travel with it."""
    page = environment(folder).get_template(template).render(values)
    return re.sub(r"\n[ \t\n]+", "\n", page).strip() + "\n"


def _finalize(value: Any) -> Any:
    """Clean whatever a template prints; only markup made here passes as it is."""
    if isinstance(value, Markup):
        return value
    return "" if value is None else human.clean(value, limit=8 * human.TEXT_LIMIT)


def _style() -> Markup:
    return Markup((TEMPLATES / "style.css").read_text(encoding="utf-8"))  # noqa: S704 - a file of this package
