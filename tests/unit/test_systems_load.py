"""Bad system files: what is told about them, and that they harm nobody else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from upkeep.core.errors import ConfigurationError
from upkeep.systems.load import Loaded, load_all, load_system
from upkeep.systems.problem import Problem

GOOD = """\
name: {name}
title: A system
contacts:
  sysadmin: {{primary: {{name: A, channels: [{{kind: email, address: a@example.com}}]}}}}
targets:
  db: {{kind: postgres, conn_id: some_db}}
"""


def write(folder: Path, name: str, text: str | bytes) -> Path:
    """Put a file into the folder of systems."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def load(folder: Path, text: str | bytes, name: str = "bad.yaml") -> Loaded:
    """Load a good file beside the one in question."""
    write(folder, "good.yaml", GOOD.format(name="good"))
    write(folder, name, text)
    return load_all(folder, {})


def only(loaded: Loaded) -> Problem:
    """Return the one problem, after checking that the good system is there all the same."""
    assert list(loaded.systems) == ["good"]
    assert len(loaded.problems) == 1, [str(problem) for problem in loaded.problems]
    return loaded.problems[0]


def bad(**changes: str) -> str:
    """Return a good file's text with parts replaced."""
    text = GOOD.format(name="bad")
    for old, new in changes.items():
        known = {"zone": "contacts:\n", "title": "title:", "kind": "postgres", "conn": "some_db"}[old]
        assert known in text
        text = text.replace(known, new)
    return text


def test_unknown_key_names_line_and_cure(tmp_path: Path) -> None:
    """A mistyped key is told with its line, the keys that exist there, and the one that was probably meant."""
    problems = load(tmp_path, bad(conn="some_db, databse: x")).problems
    assert [(p.line, p.key, p.hint) for p in problems] == [(6, "targets.db.databse", "did you mean 'database'?")]
    assert "backup_conn_id" in problems[0].expected


def test_all_problems_of_a_file_at_once(tmp_path: Path) -> None:
    """A file with several faults is mended in one go: each is told, in the order of the lines."""
    text = bad(title="titel:", kind="postgress", zone="timezone: Europe/Berln\ncontacts:\n")
    found = [(p.key, p.hint) for p in load(tmp_path, text).problems]
    assert ("titel", "did you mean 'title'?") in found
    assert ("title", "") in found
    assert ("timezone", "did you mean 'Europe/Berlin'?") in found
    assert ("targets.db.kind", "did you mean 'postgres'?") in found
    lines = [p.line or 0 for p in load(tmp_path, text).problems]
    assert lines == sorted(lines)


def test_values_of_enumerations_get_a_suggestion(tmp_path: Path) -> None:
    """A channel of a kind that does not exist is answered with the kinds that do."""
    problem = only(load(tmp_path, GOOD.format(name="bad").replace("kind: email", "kind: emial")))
    assert (problem.seen, problem.hint) == ("'emial'", "did you mean 'email'?")
    assert problem.key == "contacts.sysadmin.primary.channels.0.kind"


@pytest.mark.parametrize(
    "text, seen",
    [
        ("", "an empty file"),
        ("# only a comment\n", "an empty file"),
        ("- a\n- b\n", "a list"),
        ("just words\n", "a single value"),
        ("name: bad\n\ttitle: x\n", "a tab"),
        ("name: [a\n", "flow sequence"),
        ("a: 1\n---\nb: 2\n", "document"),
        ("name: !!python/object/apply:os.system [id]\n", "constructor"),
        ("name: \x00\n", "not YAML"),
        ("name: b\n# café\n".encode("latin-1"), "not UTF-8"),
        (b"\xff\xfen\x00", "not UTF-8"),
        ("x: " + "9" * 5000 + "\n", "not YAML"),
    ],
)
def test_texts_that_are_no_system(tmp_path: Path, text: str | bytes, seen: str) -> None:
    """Whatever a file holds, it is one problem of that file and no exception."""
    assert seen in only(load(tmp_path, text)).seen


def test_non_utf8_names_the_line(tmp_path: Path) -> None:
    """The line of the first bad byte is told, because nobody sees it in an editor."""
    assert only(load(tmp_path, b"name: bad\ntitle: caf\xe9\n")).line == 2


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_deep_nesting_does_not_end_the_process(tmp_path: Path, opening: str) -> None:
    """A hundred thousand brackets are refused; libyaml's composer would run over the C stack."""
    assert "nested too deep" in only(load(tmp_path, opening * 100_000)).seen


def test_deep_nesting_over_many_lines(tmp_path: Path) -> None:
    """Nesting is also counted where no line is long."""
    assert "nested too deep" in only(load(tmp_path, "[\n" * 100_000)).seen
    assert "nested too deep" in only(load(tmp_path, "".join(" " * n + "a:\n" for n in range(400)))).seen


def test_aliases_that_grow(tmp_path: Path) -> None:
    """Nine lines of aliases that stand for a thousand million values are refused."""
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10))]
    assert "20000 values" in only(load(tmp_path, "\n".join(lines))).seen


def test_merge_keys_do_not_grow(tmp_path: Path) -> None:
    """Merge keys are not followed: nested, they would fill the memory before anything could count them."""
    lines = ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 20)}]}}" for n in range(1, 9))]
    assert "values" in only(load(tmp_path, "\n".join(lines))).seen
    loaded = load(tmp_path, bad() + "<<: {title: x}\n")
    assert any("'<<'" in problem.seen for problem in loaded.problems)


def test_value_that_contains_itself(tmp_path: Path) -> None:
    """An alias to the value it stands in has no end; it is refused."""
    assert "nested too deep" in only(load(tmp_path, "a: &a [*a]\n")).seen


def test_too_long(tmp_path: Path) -> None:
    """A file beyond 1 MiB is not even parsed."""
    assert only(load(tmp_path, "# " + "x" * (1 << 20))).seen == "more than 1 MiB"


def test_duplicate_keys(tmp_path: Path) -> None:
    """A key that stands twice is refused, with the line of the second; YAML would keep the last without a word."""
    problem = only(load(tmp_path, GOOD.format(name="bad") + "  db: {kind: redis, conn_id: x}\n"))
    assert (problem.line, problem.key, problem.seen) == (7, "db", "a key that stands twice")


def test_name_must_be_the_files(tmp_path: Path) -> None:
    """Two files cannot describe the same system, nor two systems share target ids."""
    problem = only(load(tmp_path, GOOD.format(name="good")))
    assert (problem.line, problem.key, problem.expected) == (1, "name", "'bad'")


def test_words_stay_words(tmp_path: Path) -> None:
    """`no`, `on` and `22:00` are what was written, not false, true and 1320."""
    window = 'maintenance_window: {start: 22:00, end: "05:00"}\n'
    text = bad(title="title: no #", zone=f"description: on\nlinks: {{off: yes}}\n{window}contacts:\n")
    system = load(tmp_path, text).systems["bad"]
    assert (system.title, system.description, system.links) == ("no", "on", {"off": "yes"})
    assert system.maintenance_window.start.hour == 22


@pytest.mark.parametrize("wait", ["30", "30:00", "1:30:00", "half an hour", "-5 min", "10000 d", "P", "PT"])
def test_durations_need_a_unit(tmp_path: Path, wait: str) -> None:
    """A bare number, a sexagesimal one or an endless one is refused rather than guessed at."""
    problem = only(load(tmp_path, bad() + f"ladder: {{deadlines: {{daily: {wait}}}}}\n"))
    assert problem.key == "ladder.deadlines.daily"
    assert "30 min" in problem.expected


SECRETS = [
    "postgresql://app:hunter2secret@db.example.com/claims",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_0123456789abcdefghijABCDEFGHIJ012345",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    "Xq3kT9vB2mZ8wL5pR7nY4jH6gF1dS0aQ",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_credentials_instead_of_a_connection_id(tmp_path: Path, secret: str) -> None:
    """A credential where a connection id belongs is refused, with the cure, and is not repeated."""
    problem = only(load(tmp_path, bad(conn=f'"{secret}"')))
    assert problem.key == "targets.db.conn_id"
    assert "conn_id" in problem.hint
    assert secret not in str(problem)
    assert "hunter2" not in str(problem)


@pytest.mark.parametrize(
    "line",
    [
        "links: {wiki: 'https://me:hunter2secret@wiki.example.com'}",
        "settings: {x.y: {password: hunter2secret}}",
        "settings: {x.y: {deep: [{api_key: hunter2secret}]}}",
        "password: hunter2secret",
        "store: {url: 's3://key:hunter2secret@bucket', conn_id: c}",
        "description: 'connect with password=hunter2secret'",
    ],
)
def test_credentials_anywhere(tmp_path: Path, line: str) -> None:
    """A credential anywhere in a system file is refused and not repeated."""
    loaded = load(tmp_path, bad() + line + "\n")
    assert list(loaded.systems) == ["good"]
    assert loaded.problems
    assert "hunter2" not in " ".join(map(str, loaded.problems))
    assert any("conn_id" in problem.hint for problem in loaded.problems)


def test_unset_variable(tmp_path: Path) -> None:
    """A variable that is not set, or empty, is one problem of its file however often it is used."""
    text = bad() + "  a: {kind: files, paths: ['${NOT_HERE}/x', '${NOT_HERE}/y']}\n"
    assert "NOT_HERE" in only(load(tmp_path, text)).expected
    assert load_all(tmp_path, {"NOT_HERE": ""}).problems
    assert load_all(tmp_path, {"NOT_HERE": "/data"}).systems["bad"].targets["a"].paths == ("/data/x", "/data/y")  # type: ignore[union-attr]
    assert not load_all(tmp_path, None).problems


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Links in circles, links to nothing, folders and pipes called *.yaml are problems, and nothing hangs."""
    write(tmp_path, "good.yaml", GOOD.format(name="good"))
    (tmp_path / "a.yaml").symlink_to("b.yaml")
    (tmp_path / "b.yaml").symlink_to("a.yaml")
    (tmp_path / "c.yaml").symlink_to("nowhere")
    (tmp_path / "d.yaml").mkdir()
    os.mkfifo(tmp_path / "e.yaml")
    loaded = load_all(tmp_path, {})
    assert list(loaded.systems) == ["good"]
    assert sorted(Path(p.file).name for p in loaded.problems) == ["a.yaml", "b.yaml", "c.yaml", "d.yaml", "e.yaml"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_file_without_permission(tmp_path: Path) -> None:
    """A file that may not be read is a problem that says so."""
    write(tmp_path, "bad.yaml", GOOD.format(name="bad")).chmod(0)
    assert "Permission denied" in load_all(tmp_path, {}).problems[0].seen


def test_other_ending_is_not_passed_over(tmp_path: Path) -> None:
    """Whoever wrote x.yml believes that it is under maintenance: it is a problem, not ignored."""
    assert only(load(tmp_path, GOOD.format(name="x"), "x.yml")).expected == "'.yaml'"
    write(tmp_path, ".x.yaml.swp", "")
    write(tmp_path, "notes.txt", "")
    assert len(load_all(tmp_path, {}).problems) == 1


def test_missing_and_empty_folder(tmp_path: Path) -> None:
    """No folder, or none with system files, is a problem: a run over nothing must not be green."""
    assert load_all(tmp_path / "none", {}).problems[0].hint.startswith("set UPKEEP_SYSTEMS_DIR")
    assert "no *.yaml file" in load_all(tmp_path, {}).problems[0].seen


def test_subject_does_not_move_with_lines(tmp_path: Path) -> None:
    """A problem keeps its name when lines are added above it, so that tomorrow's finding is today's."""
    first = only(load(tmp_path, bad(conn="'a b'")))
    second = only(load(tmp_path, "# more\n# lines\n" + bad(conn="'a b'")))
    assert first.line != second.line
    assert first.subject == second.subject == "bad.yaml:targets.db.conn_id"


def test_load_system(tmp_path: Path) -> None:
    """One system is read alone; an unknown name and a bad file are configuration errors that name the cure."""
    load(tmp_path, bad(title="titel:"))
    assert load_system("good", tmp_path).name == "good"
    with pytest.raises(ConfigurationError, match="did you mean 'good'"):
        load_system("goood", tmp_path)
    with pytest.raises(ConfigurationError, match=r"bad.yaml:2: titel"):
        load_system("bad", tmp_path)


def test_roles_and_endpoints_that_do_not_exist(tmp_path: Path) -> None:
    """A ladder that calls nobody and a model that nobody serves are refused."""
    assert "role 'boss'" in only(load(tmp_path, bad() + "ladder: {rungs: [{after: 0 s, roles: [boss]}]}\n")).expected
    assert "web/x" in only(load(tmp_path, bad() + "  m: {kind: model, path: /m, endpoint: web/x}\n")).expected


def test_target_ids_are_not_written(tmp_path: Path) -> None:
    """A target's id follows from the names; one that is written, and could be another system's, is refused."""
    assert "follows from the names" in only(load(tmp_path, bad(conn="some_db, id: good/db"))).expected
