"""What a value of a setting equals, and how it is changed and changed back."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest

from upkeep.routines.database._review_seen import Value
from upkeep.routines.database._review_settings import Settings

BASE = {
    "name": "work_mem", "setting": "4096", "unit": "kB", "vartype": "integer", "context": "user", "source": "default",
    "sourcefile": None, "boot_val": "4096", "pending_restart": False, "shown": "4MB",
}  # fmt: skip


def setting(**changes: Any) -> Value:
    return Value.of(BASE | changes)


@pytest.mark.parametrize(
    ("changes", "same", "other"),
    [
        ({}, ["4MB", "4096", "4096kB", " 4 MB", "0.00390625GB"], ["4", "4GB", "4ms", "many", "4 mb", ""]),
        ({"unit": "8kB", "setting": "16384"}, ["128MB", "16384", "131072kB"], ["16384kB"]),
        ({"unit": "s", "setting": "300"}, ["5min", "300s", "300000ms", "300"], ["5h", "5", "300MB"]),
        ({"unit": None, "setting": "0.1", "vartype": "real"}, ["0.1", "0.10", "1e-1", ".1"], ["0.2", "0.1s", "-0.1"]),
        ({"unit": None, "setting": "on", "vartype": "bool"}, ["on", "TRUE", "1", "yes"], ["off", "0", "perhaps"]),
        ({"unit": None, "setting": "replica", "vartype": "enum"}, ["replica", "Replica"], ["minimal"]),
        ({"unit": None, "setting": "UTC", "vartype": "string"}, ["UTC"], ["utc"]),
        ({"unit": "kB", "setting": "-1"}, ["-1"], ["1", "-2"]),
    ],
)
def test_equal_is_what_the_server_would_take_as_equal(changes: dict[str, Any], same: list[str], other: list[str]):
    """Units convert, words have several spellings, and what cannot be read is not equal."""
    assert [text for text in same if not setting(**changes).equals(text)] == []
    assert [text for text in other if setting(**changes).equals(text)] == []


def test_undo_brings_back_what_was():
    """RESET where the value stands elsewhere or nowhere, SET where RESET would lose it."""
    assert "undo: ALTER SYSTEM RESET work_mem;" in setting().change("8MB", "d")
    assert "ALTER SYSTEM SET work_mem = '8MB'; SELECT pg_reload_conf();" in setting().change("8MB", "d")
    auto = {"source": "configuration file", "sourcefile": "/pg/postgresql.auto.conf"}
    assert "undo: ALTER SYSTEM SET work_mem = '4MB';" in setting(**auto).change("8MB", "d")
    assert "undo: ALTER SYSTEM SET" in setting(**auto | {"sourcefile": None}).change("8MB", "d")
    assert "undo: ALTER SYSTEM RESET" in setting(**auto | {"sourcefile": "/etc/p.conf"}).change("8MB", "d")
    assert "restart the server" in setting(context="postmaster").change("8MB", "d")
    assert "command line" in setting(source="command line").change("8MB", "d")
    assert 'ALTER DATABASE "a""b" SET work_mem' in setting(source="database").change("8MB", 'a"b')


def test_values_may_be_written_as_yaml_reads_them():
    """`on` and `0.1` are no strings in YAML; a name that is none is refused before it gets into a statement."""
    read = Settings.model_validate({"expected": {"autovacuum": True, "work_mem": 4096, "X.y": 0.1}}).expected
    assert read == {"autovacuum": "on", "work_mem": "4096", "x.y": "0.1"}
    with pytest.raises(pydantic.ValidationError, match="no name of a setting"):
        Settings.model_validate({"expected": {"a; drop table b": "1"}})


def test_bytes():
    """The unit of a setting may be a multiple."""
    assert setting().bytes == 4 * 2**20
    assert setting(unit="8kB", setting="16384").bytes == 128 * 2**20
