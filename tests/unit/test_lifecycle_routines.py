"""Modules that are not quite routines."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from upkeep.core import routine as declared
from upkeep.core.errors import ConfigurationError
from upkeep.core.routine import Routine

GOOD = '''"""Runbook."""
from upkeep.core.cadence import Covers
from upkeep.core.routine import RoutineSettings
TITLE, TARGETS, COVERS, ROLE = "Work", ("files",), Covers.NOW, "dba"
class Settings(RoutineSettings):
    """Settings."""
    seconds: int = 1
def observe(job): ...
'''


@pytest.fixture
def area(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `sample` with the area `area`, importable for one test."""
    (tmp_path / "sample" / "area").mkdir(parents=True)
    (tmp_path / "sample" / "__init__.py").touch()
    (tmp_path / "sample" / "area" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.split(".")[0] == "sample"]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path / "sample" / "area"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seconds: int = 1", "seconds: int", "settings without a default: seconds"),
        ('("files",)', '("files")', "TARGETS = 'files', expected a tuple"),
        ('("files",)', '("fiels",)', r"TARGETS = \('fiels',\)"),
        ("Covers.NOW", '"now"', "COVERS = 'now'"),
        ("class Settings(RoutineSettings)", "class Settings", "not derived from RoutineSettings"),
        ("def observe(job): ...", "def observe(job: ...", "SyntaxError"),
        ("def observe(job): ...", "1 / 0", "ZeroDivisionError"),
        ("def observe(job): ...", "raise SystemExit(3)", "SystemExit"),
        ("def observe(job): ...", "", "lacks observe"),
    ],
)
def test_what_is_wrong_with_a_module_is_said(area: Path, old: str, new: str, said: str):
    """Whatever is wrong with a routine's module is one kind of error, which takes no other routine along."""
    assert old in GOOD
    (area / "work.py").write_text(GOOD.replace(old, new))
    with pytest.raises(ConfigurationError, match=said):
        Routine.load("sample.area.work")


def test_the_good_one_is_good(area: Path):
    """The sample from which the bad ones are made loads."""
    (area / "work.py").write_text(GOOD)
    assert Routine.load("sample.area.work").name == "area.work"


def test_a_broken_area_hides_no_other(area: Path, monkeypatch: pytest.MonkeyPatch):
    """Discovery goes on past a package that cannot be imported."""
    (area / "work.py").write_text(GOOD)
    (area.parent / "broken").mkdir()
    (area.parent / "broken" / "__init__.py").write_text("1 / 0")
    point = type("Point", (), {"value": "sample"})()
    monkeypatch.setattr(declared, "entry_points", lambda group: [point])
    assert "sample.area.work" in declared.discover_paths()
    monkeypatch.setattr(declared, "entry_points", lambda group: [type("Point", (), {"value": "nothing_there"})()])
    with pytest.raises(ConfigurationError, match="nothing_there"):
        declared.discover_paths()
