"""Kinds of values that system files hold: names, connection ids, durations, paths."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import pydantic
from pydantic import Field

from upkeep.core import text


def _expanded(value: Any, info: pydantic.ValidationInfo) -> Any:
    """Fill in environment variables where the validation's context carries an environment; else leave the text."""
    environ = (info.context or {}).get("environ")
    return text.expand(value, environ) if isinstance(value, str) and environ is not None else value


def _no_secret(value: str) -> str:
    if text.looks_secret(value) or text.looks_random(value):
        raise ValueError("expected the id of an Airflow connection; this looks like the credential itself")
    return value


Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
ConnId = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9_.\-]{1,250}$", description="Airflow connection id; never a URL or a password"),
    pydantic.AfterValidator(_no_secret),
]
Duration = Annotated[timedelta, pydantic.BeforeValidator(text.duration)]
"""A duration written with its unit (`30 min`)."""
Path = Annotated[str, Field(min_length=1), pydantic.BeforeValidator(_expanded)]
"""A path or glob; `${NAME}` stands for an environment variable and is filled in when the file is loaded for a run."""
