"""Which of two versions is the newer one, as each ecosystem says it.

Sources: PEP 440 by the `packaging` library; SemVer 2.0.0 section 11 (https://semver.org/#spec-item-11) for npm, which
follows it; Debian Policy 5.6.12 (https://www.debian.org/doc/debian-policy/ch-controlfields.html#version) for Debian and
those that descend from it; apk-tools' doc/apk-package.5.scd for Alpine.

OSV's `introduced: "0"` means "before every version" and is no version of any ecosystem: whoever reads ranges treats it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import zip_longest

_LONGEST = 512
_SEMVER = re.compile(
    r"v?(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(?:-((?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?",
    re.ASCII,
)
_DEBIAN = re.compile(r"(?:(\d{1,9}):)?([A-Za-z0-9][A-Za-z0-9.+~:-]*?)(?:-([A-Za-z0-9+.~]+))?", re.ASCII)
_APK = re.compile(
    r"(\d+(?:\.\d+)*)([a-z]?)((?:_(?:alpha|beta|pre|rc|cvs|svn|git|hg|p)\d*)*)(?:~[0-9a-f]+)?(?:-r(\d+))?", re.ASCII
)
_SUFFIXES = {"alpha": -4, "beta": -3, "pre": -2, "rc": -1, "cvs": 1, "svn": 2, "git": 3, "hg": 4, "p": 5}


def compare(ecosystem: str, a: str, b: str) -> int:
    """Return -1, 0 or 1: version `a` is older than `b`, the same, or newer.

    >>> compare("PyPI", "1.0rc1", "1.0"), compare("npm", "10.0.0", "9.9.9"), compare("Debian:12", "1.0~rc1-1", "1.0-1")
    (-1, 1, -1)

    :param ecosystem: OSV's word, with or without a release: `PyPI`, `npm`, `Debian:12`, `Alpine:v3.20`.
    :raises ValueError: one of the two is no version there, or the ecosystem is unknown.
    """
    family = ecosystem.partition(":")[0]
    if family not in _ORDERS:
        raise ValueError(f"how versions of {ecosystem!r} are ordered is not known; known are {', '.join(_ORDERS)}")
    for version in (a, b):
        if len(version) > _LONGEST or not version.isascii() or not version.isprintable() or " " in version:
            raise ValueError(f"{version[:40]!r}: too long for a version, or with signs that no version has")
    return _ORDERS[family](a, b)


def is_version(ecosystem: str, version: str) -> bool:
    """Tell whether a text is a version of an ecosystem."""
    try:
        compare(ecosystem, version, version)
    except ValueError:
        return False
    return True


def _sign[T](a: T, b: T) -> int:
    return int(a > b) - int(a < b)  # type: ignore[operator]


def _python(a: str, b: str) -> int:
    from packaging.version import Version

    return _sign(Version(a), Version(b))


def _semver(a: str, b: str) -> int:
    return _sign(_semver_key(a), _semver_key(b))


def _semver_key(version: str) -> tuple[tuple[int, ...], bool, tuple[tuple[bool, int, str], ...]]:
    """Return what orders a version: its numbers; a pre-release comes first; numbers come before words. No build."""
    found = _SEMVER.fullmatch(version)
    if not found:
        raise ValueError(f"{version!r} is no version by SemVer 2.0")
    parts = found[4].split(".") if found[4] else []
    words = tuple((not p.isdigit(), int(p) if p.isdigit() else 0, "" if p.isdigit() else p) for p in parts)
    return tuple(int(found[n]) for n in (1, 2, 3)), not parts, words


def _debian(a: str, b: str) -> int:
    epochs, upstreams, revisions = zip(_debian_parts(a), _debian_parts(b), strict=True)
    return _sign(*map(int, epochs)) or _debian_order(*upstreams) or _debian_order(*revisions)


def _debian_parts(version: str) -> tuple[str, str, str]:
    """Return epoch, upstream version and revision; a colon is allowed in the second only where there is an epoch."""
    found = _DEBIAN.fullmatch(version)
    if not found or version.endswith("-") or (found[1] is None and ":" in version):
        raise ValueError(f"{version!r} is no version by Debian Policy 5.6.12")
    return found[1] or "0", found[2], found[3] or "0"


def _debian_order(a: str, b: str) -> int:
    """Compare as dpkg does: text and numbers by turns; a tilde comes before the end, letters before other signs."""
    for (text_a, number_a), (text_b, number_b) in zip_longest(_runs(a), _runs(b), fillvalue=("", 0)):
        if text_a != text_b:
            weighed = zip_longest(map(_weight, text_a), map(_weight, text_b), fillvalue=0)
            return next(_sign(x, y) for x, y in weighed if x != y)
        if number_a != number_b:
            return _sign(number_a, number_b)
    return 0


def _runs(text: str) -> list[tuple[str, int]]:
    return [(word, int(number or 0)) for word, number in re.findall(r"(\D*)(\d*)", text, re.ASCII)]


def _weight(sign: str) -> int:
    return -1 if sign == "~" else ord(sign) if sign.isalpha() else ord(sign) + 256


def _alpine(a: str, b: str) -> int:
    return _sign(_alpine_key(a), _alpine_key(b))


def _alpine_key(version: str) -> tuple[list[tuple[int, int, str]], str, list[tuple[int, int]], int]:
    """Return what orders a version: numbers, letter, suffixes (their absence lies between `rc` and `cvs`), build.

    A later number with a leading zero is a decimal fraction (1.01 comes before 1.1).
    """
    found = _APK.fullmatch(version)
    if not found:
        raise ValueError(f"{version!r} is no version of an Alpine package")
    first, *rest = found[1].split(".")
    numbers = [(1, int(first), "")]
    numbers += [(0, 0, part) if part.startswith("0") else (1, int(part), "") for part in rest]
    suffixes = [(_SUFFIXES[name], int(number or 0)) for name, number in re.findall(r"_([a-z]+)(\d*)", found[3])]
    return numbers, found[2], [*suffixes, (0, 0)], int(found[4] or 0)


_ORDERS: dict[str, Callable[[str, str], int]] = {
    "PyPI": _python,
    "npm": _semver,
    "Debian": _debian,
    "Ubuntu": _debian,
    "Alpine": _alpine,
}
