"""Damaged system files: whatever bytes they hold, they are problems and never exceptions."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upkeep.core.text import duration, expand, looks_secret
from upkeep.systems.index import read_index
from upkeep.systems.load import load_all
from upkeep.systems.source import systems_dir

SAMPLES = sorted(systems_dir().glob("*.yaml"))
PIECES = st.sampled_from(
    ["\t", "\n", ": ", "- ", "{", "}", "[", "]", "&a ", "*a", "<<: ", "!!set ", "|", ">", "'",
     '"', "#", "---\n", "é", "\x00",
     "\u2028", "null", "1e999", "-1", "${X}", "ladder:\n", "  ", "? ", "%YAML 9\n", "\ud7ff", "\ufeff"]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SAMPLES), st.data())
def test_damaged_samples(sample: Path, data: st.DataObject) -> None:
    """A sample with pieces cut out, doubled and put in is a system or has problems; the index has its name anyway.

    Where the damaged file is still a good one, the index has the ladder that the full load has.
    """
    text = sample.read_text()
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 40)))
        text = text[:start] + data.draw(PIECES) * data.draw(st.integers(0, 3)) + text[end:]
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setenv("UPKEEP_CACHE_DIR", f"{place}/cache")
        folder = Path(place, "systems")
        folder.mkdir()
        (folder / sample.name).write_bytes(text.encode("utf-8", "surrogatepass"))
        loaded, index = load_all(folder, None), read_index(folder)
        assert index.names == (sample.stem,)
        assert bool(loaded.systems) != bool(loaded.problems)
        for system in loaded.systems.values():
            assert index.entries[0].late == system.ladder.deadlines
            assert index.entries[0].rungs == tuple(rung.after for rung in system.ladder.rungs)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes(content: bytes) -> None:
    """Any bytes at all are told as problems, with messages that can be printed."""
    with tempfile.TemporaryDirectory() as place:
        Path(place, "x.yaml").write_bytes(content)
        loaded = load_all(Path(place), {})
        assert loaded.problems
        for problem in loaded.problems:
            assert str(problem).encode("utf-8")


@given(st.text(max_size=30))
def test_durations_are_read_or_refused(text: str) -> None:
    """A text is a duration or a ValueError, and nothing else."""
    try:
        assert duration(text).total_seconds() >= 0
    except ValueError as error:
        assert "30 min" in str(error)


@pytest.mark.parametrize(
    "text, seconds",
    [("0 s", 0), ("90s", 90), ("1.5 h", 5400), ("2 d", 172800), ("PT30M", 1800), ("P1DT1H", 90000), ("PT0.5S", 0.5)],
)
def test_durations(text: str, seconds: float) -> None:
    """Units are seconds, minutes, hours and days, in words or in ISO 8601."""
    assert duration(text).total_seconds() == seconds


def test_expand_leaves_other_dollars_alone() -> None:
    """Only `${NAME}` is a variable; an empty one counts as missing."""
    assert expand("$HOME/${A}/$$/a$", {"A": "x"}) == "$HOME/x/$$/a$"
    with pytest.raises(ValueError, match="A, B"):
        expand("${B}${A}", {"A": ""})


@pytest.mark.parametrize(
    "text",
    ["claims_db", "insurance-claims-backups", "https://insurance-claims.com/oncall", "https://host:8080/a@b",
     "public.claims_claim", "(555) 123-4567", "admin@insurance-claims.com", "the token is kept in a vault",
     "s3://upkeep-backups/claims"],
)  # fmt: skip
def test_ordinary_values_are_no_secrets(text: str) -> None:
    """Names, addresses and URLs without a password pass."""
    assert not looks_secret(text)
