"""Whether installed software has the versions that a system states (`software: {django: "==5.1.6"}`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from upkeep.core.audit import Package
from upkeep.core.outdated import Stated

# Debian's packages of a product, the exact version in the name left open. What is called so on PyPI or npm is something
# else: a client.
_DEBIAN = {
    "python": r"python3",
    "postgresql": r"postgresql-\d+",
    "redis": r"redis-server|valkey-server",
    "nginx": r"nginx",
    "nodejs": r"nodejs",
    "docker": r"docker\.io|docker-ce",
    "openssl": r"openssl",
}


def stated(
    software: Mapping[str, str], packages: Sequence[Package], facts: Iterable[tuple[str, str, str]]
) -> tuple[Stated, ...]:
    """Return what the system states of each product that is among the packages, or among the facts.

    :param facts: product, version and place of what is known otherwise (the interpreter of an environment).
    """
    known = list(facts)
    return tuple(
        Stated(product=product, wanted=wanted, installed=version, where=where, fits=_fits(version, wanted))
        for product, wanted in software.items()
        for version, where in sorted({*_installed(product, packages), *((v, w) for p, v, w in known if p == product)})
    )


def _installed(product: str, packages: Sequence[Package]) -> Iterable[tuple[str, str]]:
    plain = re.sub(r"[-_.]+", "-", product).lower()
    pattern = _DEBIAN.get(plain, re.escape(plain))
    for one in packages:
        family = one.ecosystem.partition(":")[0]
        if family in ("Debian", "Ubuntu"):
            if re.fullmatch(pattern, one.name):
                yield _upstream(one.version), one.where
        elif plain not in _DEBIAN and one.name.lower() == plain and one.direct is not False:
            yield one.version, one.where


def _upstream(version: str) -> str:
    """Return the makers' version of a Debian version: without epoch, revision, and what the packager added.

    >>> _upstream("5:7.0.15-1~deb12u2"), _upstream("1.2.3+dfsg-4")
    ('7.0.15', '1.2.3')
    """
    bare = version.partition(":")[2] or version
    return re.split(r"[+~]", bare.rpartition("-")[0] or bare)[0]


def _fits(version: str, wanted: str) -> bool | None:
    """Tell whether a version is one of those stated; None when either cannot be read."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion, Version

    try:
        return SpecifierSet(wanted).contains(Version(version), prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return None
