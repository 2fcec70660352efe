"""Reading a system file: which files there are, their text, and that text as strict YAML."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from upkeep.systems.problem import Problem, SourceError

LIMIT_BYTES = 1 << 20
"""No system needs a description of a megabyte; a file that long is a mistake or an attack."""
MAX_VALUES, MAX_DEPTH = 20_000, 64
_FAST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Loc = tuple[Any, ...]


class Loader(_FAST):  # type: ignore[misc]
    """YAML as people mean it: `no` and `on` are words, `22:00` is no number, and no key may stand twice.

    These are YAML 1.2's rules; PyYAML follows 1.1. Merge keys (`<<`) are not part of 1.2 and are not followed:
    nested, they grow beyond any memory before anything could count them.
    """

    yaml_implicit_resolvers: dict[str, Any] = {}

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.duplicates: list[tuple[str, int]] = []

    def flatten_mapping(self, node: Any) -> None:
        """Leave `<<` alone."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Build a mapping, noting keys that stand twice."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    self.duplicates.append((key.value, key.start_mark.line + 1))
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?", "-+0123456789."),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), list(_first))


def systems_dir() -> Path:
    """Return the folder with the system files: `UPKEEP_SYSTEMS_DIR`, else the checkout's, else the package's."""
    if named := os.environ.get("UPKEEP_SYSTEMS_DIR"):
        return Path(named)
    package = Path(__file__).resolve().parents[1]
    checkout = package.parents[1] / "include" / "systems"
    return checkout if checkout.is_dir() else package / "_systems"


def system_files(folder: Path) -> tuple[list[Path], list[Problem]]:
    """Return the system files of a folder by name, and what is wrong with the folder itself.

    A `.yml` file is a problem, not a file to pass over: somebody believes that it is under maintenance.
    """
    try:
        names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        wrong = SourceError(
            f"a folder that cannot be read ({error.strerror})",
            "a folder with system files",
            "set UPKEEP_SYSTEMS_DIR to the folder with the <name>.yaml files",
        )
        return [], [wrong.problem(str(folder))]
    files = [folder / name for name in names if name.endswith(".yaml")]
    astray = [
        folder / name for name in names if name.lower().endswith((".yml", ".yaml")) and folder / name not in files
    ]
    problems = [
        Problem(file=str(path), seen=f"the ending {path.suffix!r}", expected="'.yaml'", hint="rename the file")
        for path in astray
    ]
    if not files and not problems:
        problems = [Problem(file=str(folder), seen="no *.yaml file", expected="one file for each system")]
    return files, problems


def read_text(path: Path) -> str:
    """Return a system file's text.

    :raises SourceError: it cannot be read, is no regular file, is too long, or is not UTF-8.
    """
    try:
        # Non-blocking: a FIFO called x.yaml must not hold up every DAG parse for ever.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise SourceError("something that is not a regular file", "a YAML file")
            data = file.read(LIMIT_BYTES + 1)
    except OSError as error:
        raise SourceError(
            f"a file that cannot be read ({error.strerror})",
            "a readable YAML file",
            "check its permissions and, for a link, where it leads",
        ) from error
    if len(data) > LIMIT_BYTES:
        raise SourceError("more than 1 MiB", "at most 1 MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SourceError(
            f"byte 0x{data[error.start]:02x}, which is not UTF-8", "UTF-8", "save it as UTF-8", line
        ) from None


def guard_depth(text: str) -> None:
    """Refuse nesting that libyaml's composer would follow, in C and without limit, until the process dies.

    :raises SourceError: nested too deep, or not YAML.
    """
    # Short lines and few brackets cannot nest deep: the slow look at every event is for the others.
    if text.count("[") + text.count("{") < 500 and max(map(len, text.split("\n"))) < 500:
        return
    depth = 0
    with yaml_errors(text):
        for event in yaml.parse(text, Loader=_FAST):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise _too_deep(event.start_mark.line + 1 if event.start_mark else None)


def _too_deep(line: int | None = None) -> SourceError:
    return SourceError("values nested too deep", f"at most {MAX_DEPTH} levels", line=line)


@contextmanager
def yaml_errors(text: str) -> Iterator[None]:
    """Turn what PyYAML raises into a `SourceError`."""
    try:
        yield
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _explain(error, text) from None


def _explain(error: BaseException, text: str) -> SourceError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        return SourceError("text that is not YAML", "YAML", "look for control characters and endless numbers")
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return SourceError("a tab in the indentation", "spaces", "indent with spaces", mark.line + 1)
    # PyYAML's `problem` is made of its own words; the snippet, which could hold a secret, is left out.
    said = " ".join(part for part in (getattr(error, "context", None), getattr(error, "problem", None)) if part)
    hint = "check the indentation here and above, and quote values that hold `: ` or ` #` or begin with a sign"
    return SourceError(said, "valid YAML", hint, mark.line + 1)


def parse(text: str) -> tuple[Any, list[tuple[str, int]]]:
    """Return a YAML text's value and the keys that stand twice, with their lines.

    :raises SourceError: the text is not YAML, or grows too large once aliases are followed.
    """
    guard_depth(text)
    with yaml_errors(text):
        loader = Loader(text)
        try:
            value = loader.get_single_data()
        finally:
            loader.dispose()
    return value, loader.duplicates


def leaves(value: Any) -> Iterator[tuple[Loc, Any]]:
    """Yield every scalar with its place, counting what aliases repeat.

    :raises SourceError: more than 20 000 values or 64 levels (a "billion laughs", or a value that contains itself).
    """
    count = 0
    waiting: list[tuple[Loc, Any]] = [((), value)]
    while waiting:
        place, here = waiting.pop()
        count += 1
        if count > MAX_VALUES:
            raise SourceError(f"more than {MAX_VALUES} values once aliases are followed", "a system's description")
        if len(place) > MAX_DEPTH:
            raise _too_deep()
        if isinstance(here, dict):
            waiting += [((*place, key), child) for key, child in here.items()]
        elif isinstance(here, list | tuple | set):
            waiting += [((*place, number), child) for number, child in enumerate(here)]
        else:
            yield place, here
