"""What a requirements file names, read as pip reads it (https://pip.pypa.io/en/stable/reference/requirements-file-format/).

Nothing is fetched, executed or expanded: what stands behind a URL, a repository, a folder or an environment variable is
not known here and is said to be so. The reader is our own because pip's, and what was made of it, open every file that
a line names, wherever that lies.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from upkeep.adapters._package_text import UnreadableError, bounded, read_bytes, shown
from upkeep.adapters.packages_python_markers import counts, from_file_name, normal, pinned, showable
from upkeep.core.audit import Listed, Package, Unlisted

_MAX_FILES = 200
_COMMENT = re.compile(r"(^|\s)#.*$")
_INCLUDE = re.compile(r"(-r|--requirement|-c|--constraint)(?:\s*=\s*|\s+)?(.+)")
_EDITABLE = re.compile(r"(-e|--editable)(?:\s*=\s*|\s+)(.+)")
# Options that say where packages come from or how they are built, and name none.
_NAMELESS = re.compile(
    r"(-i|-f|--(pre|no-index|prefer-binary|require-hashes|(extra-)?index-url|find-links|trusted-host|use-feature"
    r"|no-binary|only-binary|pypi-url|always-unzip))\b"
)
_VARIABLE = re.compile(r"\$\{[A-Z0-9_]+\}")
_URL = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*://|file:|[.~]{0,2}/|\.\.?$|[^\s;@\[]+\.(?:whl|tar\.gz|zip|tar\.bz2)\b)")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_PIN = "pin it (`name==version`), or audit a lock file or the environment that is installed from it"


def read_requirements(path: Path, environment: Mapping[str, str]) -> Listed:
    """Return the packages of a requirements file and of those that it includes."""
    reader = _Reader(path, environment)
    reader.read(path, path.name, constraint=False, within=())
    return reader.listed()


class _Reader:
    def __init__(self, path: Path, environment: Mapping[str, str]) -> None:
        self._root, self._environment = path.parent.resolve(), environment
        self._pins: dict[str, list[Package]] = {}
        self._pinned_under: dict[str, set[str]] = {}
        self._unpinned: list[tuple[str, str, str, str]] = []
        self._constraints: dict[str, list[str]] = {}
        self._unlisted: list[Unlisted] = []
        self._read: set[tuple[Path, bool]] = set()
        self._hashed, self._own_code, self._first = False, False, path.name

    def listed(self) -> Listed:
        """Return what was found, once all files are read: any of them may pin what another one names."""
        packages = [package for pins in self._pins.values() for package in pins]
        for name, where, line, marker in self._unpinned:
            versions = self._constraints.get(name, ())
            packages += [Package(ecosystem="PyPI", name=name, version=v, where=where, direct=True) for v in versions]
            # A pin for other machines than this line is meant for says nothing about it.
            if not versions and not {"", marker} & self._pinned_under.get(name, set()):
                self._leave(where, f"{line!r} does not pin a version", _PIN)
        # pip demands a hash of everything that it installs as soon as one line has one: then all of it is named.
        return Listed(
            packages=tuple(dict.fromkeys(packages)),
            unlisted=bounded(self._unlisted, self._first),
            open_ended=(self._first,) if self._own_code or (packages and not self._hashed) else (),
        )

    def read(self, path: Path, where: str, *, constraint: bool, within: tuple[Path, ...]) -> None:
        """Take in one file. `within`: the files that include it."""
        place = path.resolve()
        if (place, constraint) in self._read:
            return
        self._read.add((place, constraint))
        try:
            text = _decoded(read_bytes(path))
        except UnreadableError as error:
            self._leave(where, f"the file cannot be read: {error}", "correct its path or rights")
            return
        origins = _origins(text)
        for number, line in _logical(text):
            here = f"{where}:{number}"
            if found := _INCLUDE.match(line):
                self._include(path, found[1] in ("-c", "--constraint"), found[2].strip(), here, (*within, place))
            else:
                self._line(line, here, constraint, origins.get(number))

    def _include(self, path: Path, constraint: bool, named: str, here: str, within: tuple[Path, ...]) -> None:
        told = showable(named)
        if _VARIABLE.search(named):
            self._leave(here, f"it includes {told!r}, which depends on a variable", "write the path out")
        elif "://" in named or named.startswith("file:"):
            self._leave(here, f"it includes {told!r}; nothing is fetched", "keep a copy of that file beside this one")
        elif not (target := (path.parent / named).resolve()).is_relative_to(self._root):
            self._leave(
                here, f"it includes {told!r} outside of the manifest's folder; that is not opened", "audit it too"
            )
        elif target in within:
            self._leave(here, f"it includes {told!r}, which includes this file", "remove the circle: pip refuses it")
        elif len(self._read) >= _MAX_FILES:
            self._leave(here, f"more than {_MAX_FILES} files are included", "audit them by themselves")
        else:
            self.read(target, target.relative_to(self._root).as_posix(), constraint=constraint, within=within)

    def _line(self, line: str, here: str, constraint: bool, direct: bool | None) -> None:
        if _NAMELESS.match(line):
            self._hashed |= line.startswith("--require-hashes")
            return
        if found := _EDITABLE.match(line):
            self._elsewhere(_split(found[2])[0], here, constraint, "an editable source")
        elif line.startswith("-"):
            self._leave(here, f"{showable(line)!r} is no option of a requirements file", "correct the line")
        else:
            text, options = _split(line)
            self._hashed |= "--hash" in options
            if _VARIABLE.search(text):
                self._leave(here, f"{showable(text)!r} depends on a variable", _PIN)
            elif "\ufffd" in text or len(text) > 4000:
                self._leave(here, f"{showable(text)!r} is no requirement", "correct the line")
            elif _URL.match(text):
                self._elsewhere(text, here, constraint, "a file or repository")
            else:
                self._requirement(text, here, constraint, direct)

    def _requirement(self, text: str, here: str, constraint: bool, direct: bool | None) -> None:
        from packaging.requirements import InvalidRequirement, Requirement

        try:
            wanted = Requirement(text)
        except InvalidRequirement as error:
            reason = shown(str(error).partition("\n")[0])
            self._leave(here, f"{showable(text)!r} is no requirement: {reason}", "correct the line")
            return
        if not counts(str(wanted.marker or ""), self._environment):
            return
        name, version = normal(wanted.name), pinned(wanted.specifier)
        # Where the environment is stated, every line that counts is meant for it.
        marker = "" if self._environment else str(wanted.marker or "")
        if wanted.url:
            self._elsewhere(wanted.url, here, constraint, f"{name} from elsewhere")
        elif constraint:
            if version:
                self._constraints.setdefault(name, []).append(version)
        elif version:
            self._pin(name, version, here, direct, marker)
        else:
            self._unpinned.append((name, here, showable(text), marker))

    def _elsewhere(self, url: str, here: str, constraint: bool, what: str) -> None:
        """Take in something that is installed from a URL or path: its file name may tell what it is."""
        if named := from_file_name(url):
            if constraint:
                self._constraints.setdefault(named[0], []).append(named[1])
            else:
                self._pin(*named, here, True)
        elif self._is_own(url):
            self._own_code = True
        elif not constraint:
            self._leave(here, f"{showable(url)!r} is {what}: its name and version are not known without it", _PIN)

    def _is_own(self, named: str) -> bool:
        """Tell whether a path leads to a folder beside the manifest: code of the project, not in any advisory."""
        if "://" in named or named.startswith("file:") or _VARIABLE.search(named):
            return False
        try:
            folder = (self._root / re.sub(r"\[.*\]$", "", named.strip())).resolve()
            return folder.is_relative_to(self._root) and folder.is_dir()
        except (OSError, ValueError):
            return False

    def _pin(self, name: str, version: str, here: str, direct: bool | None, marker: str = "") -> None:
        self._pinned_under.setdefault(name, set()).add(marker)
        package = Package(ecosystem="PyPI", name=name, version=version, where=here, direct=direct)
        known = self._pins.setdefault(name, [])
        if version not in {p.version for p in known}:
            known.append(package)

    def _leave(self, where: str, reason: str, hint: str) -> None:
        self._unlisted.append(Unlisted(where=where, reason=reason, hint=hint))


def _decoded(content: bytes) -> str:
    """Decode as pip does: a byte order mark, else a coding comment in the first two lines, else UTF-8."""
    for bom, encoding in _BOMS:
        if content.startswith(bom):
            return content[len(bom) :].decode(encoding, "replace")
    named = next((m for line in content.split(b"\n")[:2] if (m := re.match(rb"#.*coding[:=]\s*([-\w.]+)", line))), None)
    try:
        return content.decode(named[1].decode() if named else "utf-8", "replace")
    except (LookupError, UnicodeError):
        return content.decode("utf-8", "replace")


def _logical(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not empty, continuations joined and comments removed, with the number of their first."""
    parts, first = list[str](), 0
    for number, raw in enumerate([*text.splitlines(), ""], 1):
        first = first or number
        comment = raw.lstrip().startswith("#")
        if raw.endswith("\\") and not comment:
            parts.append(raw.rstrip("\\"))
            continue
        line = _COMMENT.sub("", "".join(parts) + (" " if comment else "") + raw).strip()
        if line:
            yield first, line
        parts, first = [], 0


def _split(line: str) -> tuple[str, str]:
    """Return a requirement and the options behind it (`--hash=...`)."""
    words = line.split(" ")
    cut = next((n for n, word in enumerate(words) if n and word.startswith("-")), len(words))
    return " ".join(words[:cut]).strip(), " ".join(words[cut:])


def _origins(text: str) -> dict[int, bool]:
    """Return, by line number, whether a package was asked for directly, where pip-compile or uv left `# via`."""
    via, current, inside, continued = dict[int, list[str]](), 0, False, False
    for number, raw in enumerate(text.splitlines(), 1):
        bare = raw.strip()
        if bare and not bare.startswith("#"):
            current, inside = (current if continued else number), False
        continued = bare.endswith("\\") and not bare.startswith("#")
        if (found := re.search(r"#\s+via\b\s*(.*)", raw)) and current:
            inside = True
            via.setdefault(current, []).append(found[1])
        elif inside and bare.startswith("#"):
            via[current].append(bare.lstrip("# "))
    asked = re.compile(r"-r\s|\(pyproject\.toml|\(setup\.|\.in\)?$")
    return {number: any(asked.search(word) for word in words) for number, words in via.items() if any(words)}
