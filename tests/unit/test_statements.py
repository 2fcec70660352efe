"""Statements as files: variants by server version, comments, names, places."""

from __future__ import annotations

from pathlib import Path

import pytest

from upkeep.adapters import statements
from upkeep.core.errors import ConfigurationError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An area `area` with statement `seats` for every server, from 16 on and from 18 on, and `late` from 17 on."""
    area = tmp_path / "area"
    area.mkdir()
    (area / "seats.sql").write_text("-- All seats.\n--\n\n-- Units: seats.\nselect 1 -- kept\n;\n\n")
    (area / "seats.pg16.sql").write_text("-- Newer.\nselect 16")
    (area / "seats.pg18.sql").write_text("select 18;")
    (area / "late.pg17.sql").write_text("select 17")
    monkeypatch.setenv("UPKEEP_SQL_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("version", "text"),
    [(None, "1 -- kept"), (140022, "1 -- kept"), (150000, "1 -- kept"), (160004, "16"), (170001, "16"), (190000, "18")],
)
def test_the_newest_variant_that_the_server_understands(folder: Path, version: int | None, text: str):
    """The variant with the highest number not above the server's major wins; the leading comment is gone."""
    assert statements.load("area", "seats", version).strip() == f"select {text}"
    assert statements.named("area/seats", version) == statements.load("area", "seats", version)


def test_a_statement_that_old_servers_do_not_have(folder: Path):
    """Asking an old server for it names the version it needs."""
    assert statements.load("area", "late", 170000) == "select 17\n"
    with pytest.raises(ConfigurationError, match=r"PostgreSQL 17 and newer, this server is 16"):
        statements.load("area", "late", 160004)


def test_an_unknown_name_gets_a_suggestion(folder: Path):
    """A misspelt statement names the one that was meant."""
    with pytest.raises(ConfigurationError, match="did you mean 'area/seats'"):
        statements.load("area", "seat")
    with pytest.raises(ConfigurationError, match="did you mean 'area/late'"):
        statements.named("late")


def test_a_file_with_another_name_is_refused(folder: Path):
    """A variant that the loader would overlook is an error, not a silence."""
    (folder / "area" / "seats.v16.sql").write_text("select 1")
    with pytest.raises(ConfigurationError, match=r"seats\.v16\.sql"):
        statements.load("area", "seats")


def test_an_empty_folder_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A wrong UPKEEP_SQL_DIR is named as the cause."""
    monkeypatch.setenv("UPKEEP_SQL_DIR", str(tmp_path))
    with pytest.raises(ConfigurationError, match="UPKEEP_SQL_DIR"):
        statements.load("area", "seats")


def test_all_variants_are_listed(folder: Path):
    """Completeness tests rely on this list."""
    assert [(v.statement, v.major) for v in statements.variants("area")] == [
        ("area/late", 17),
        ("area/seats", 0),
        ("area/seats", 16),
        ("area/seats", 18),
    ]


def test_a_wheel_carries_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Installed, the statements lie inside the package; in a checkout beside it."""
    monkeypatch.delenv("UPKEEP_SQL_DIR", raising=False)
    assert statements.folder().parts[-2:] == ("include", "sql")
    module = tmp_path / "upkeep" / "adapters" / "statements.py"
    monkeypatch.setattr(statements, "__file__", str(module))
    (tmp_path / "upkeep" / "_sql").mkdir(parents=True)
    assert statements.folder() == tmp_path / "upkeep" / "_sql"


def test_values_become_numbered_placeholders():
    """A value used twice is sent once; percent signs survive."""
    text = "select %(b)s, %(a)s, %(b)s where x like 'p%%'"
    assert statements.placeholders(text) == ("b", "a")
    assert statements.numbered(text) == "select $1, $2, $1 where x like 'p%'"
