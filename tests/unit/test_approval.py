"""A request for an approval: what is refused at once, and which changes an answer means."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from upkeep.core.errors import ConfigurationError
from upkeep.operators import request

SYSTEM = """
name: shop
title: A shop
contacts: {dba: {primary: {name: DBA, channels: [{kind: email, address: dba@shop.example}]}}}
targets:
  db: {kind: postgres, conn_id: shop_db}
"""
ASKED = [{"name": "rebuild", "subject": name, "reason": "61 % of it is empty"} for name in ("big", "bigger", "biggest")]


@pytest.fixture(autouse=True)
def systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One system."""
    (tmp_path / "shop.yaml").write_text(SYSTEM)
    monkeypatch.setenv("UPKEEP_SYSTEMS_DIR", str(tmp_path))


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"target": "shop/db", "routine": "database.reindx"}, "database.reindex"),
        ({"target": "shop/dbb", "routine": "database.reindex"}, "shop/db"),
        ({"target": "shap/db", "routine": "database.reindex"}, "shap"),
        ({"target": "shop/db", "routine": "services.health"}, "shop/db is postgres"),
        ({"target": "shop/db", "routine": "database.reindex", "settings": {"database.reindex": {"x": 1}}}, "x"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_cure(params: dict[str, Any], said: str):
    """A name that nothing has, a target of another kind, a setting that is none: nobody is asked about that."""
    with pytest.raises(ConfigurationError) as raised:
        request.check(params)
    assert said in f"{raised.value.message} {raised.value.hint}" and raised.value.hint


def test_what_can_be_done_passes():
    """Target and routine go together."""
    request.check({"target": "shop/db", "routine": "database.reindex", "settings": None})


@pytest.mark.parametrize(
    ("form", "meant"),
    [
        ({}, ["big", "bigger", "biggest"]),
        ({"only": []}, ["big", "bigger", "biggest"]),
        ({"only": None}, ["big", "bigger", "biggest"]),
        ({"only": ["rebuild bigger"]}, ["bigger"]),
        ({"only": ["rebuild smaller"]}, []),
    ],
)
def test_an_approval_means_what_was_chosen(form: dict[str, Any], meant: list[str]):
    """All of them where nothing was chosen; never one that was not asked about."""
    chosen = request.chosen(ASKED, {"chosen_options": ["Approve"], "params_input": form})
    assert [action["subject"] for action in chosen] == meant


def test_a_moment_may_come_as_text():
    """Airflow hands over what a person answered in both ways."""
    at = datetime(2026, 11, 21, 6, tzinfo=UTC)
    assert request.moment(at) == request.moment("2026-11-21T06:00:00+00:00") == at and request.moment(None) is None
