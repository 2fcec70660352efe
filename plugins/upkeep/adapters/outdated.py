"""How far packages are behind: Python's by the configured index, npm's by the registry, Debian's by apt's simulation.

Python packages are asked for one by one, and not through `uv pip list --outdated`: that says nothing of a package that
the index does not have, which then looks as if it were up to date, and nothing of dates.
"""

from __future__ import annotations

import platform
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import cmp_to_key
from pathlib import Path

from upkeep.adapters import packages_debian as debian
from upkeep.adapters._package_run import ask
from upkeep.adapters._package_text import UnreadableError, bounded, shown
from upkeep.adapters.advisories_osv import normal
from upkeep.adapters.http import Address, Client, open_client
from upkeep.adapters.outdated_config import Registries, configured
from upkeep.adapters.outdated_releases import AwayError, Release, SlowError, npm_releases, python_releases
from upkeep.adapters.outdated_stated import stated
from upkeep.adapters.versions import compare, is_version
from upkeep.core.audit import Listed, Package, Unlisted
from upkeep.core.outdated import Behind, Lookup, Newer, Outdated, OutdatedLister
from upkeep.core.targets import DependenciesTarget

_AT_ONCE = 8
_EACH = 30.0
_PATIENCE = 3
"""Answers that do not come whole after which an index is taken to be away."""
_HINT = "check the index of the machine (pip.conf, uv.toml, .npmrc, PIP_INDEX_URL) and the way to it"


def make_lister(registries: Callable[[], Registries] = configured, root: Path = Path("/")) -> OutdatedLister:
    """Return what `Tools.outdated` is."""

    def find(target: DependenciesTarget, listed: Listed, lookup: Lookup) -> Outdated:
        python, problems = _interpreter(target)
        facts = [("python", python, "")] if python else []
        checked = stated(lookup.software, listed.packages, facts)
        if target.ecosystem == "debian":
            return _debian(listed, root, lookup.timeout).model_copy(update={"stated": checked})
        asked = _Asking(registries(), lookup.python or python or platform.python_version(), lookup.timeout)
        found = asked.about(_chosen(listed.packages, lookup))
        return Outdated(
            looked_up=asked.answered,
            newer=tuple(one for one in found if isinstance(one, Newer)),
            stated=checked,
            unknown=bounded([*problems, *(one for one in found if isinstance(one, Unlisted))], target.id),
        )

    return find


def _chosen(packages: Sequence[Package], lookup: Lookup) -> list[Package]:
    """Return each version once, of those that an index knows; Debian's in an image come with a newer base image."""
    own = {normal("PyPI", name) for name in lookup.own}
    chosen = {
        (one.ecosystem, one.name, one.version): one
        for one in reversed(packages)
        if one.ecosystem in ("PyPI", "npm")
        and (lookup.transitive or one.direct is not False)
        and normal("PyPI", one.name) not in own
    }
    return sorted(chosen.values(), key=lambda one: (one.ecosystem, one.name, one.version))


def _interpreter(target: DependenciesTarget) -> tuple[str, list[Unlisted]]:
    """Return the version of an environment's Python; empty where there is none to ask."""
    if not target.environment:
        return "", []
    # Isolated, and away from any folder with a file that would be taken for a module.
    code = "import platform; print(platform.python_version())"
    try:
        said = ask([target.environment, "-I", "-S", "-c", code], timeout=30)
        version = said.out.decode(errors="replace").strip()
        if said.code == 0 and version:
            return shown(version, 40), []
        reason = f"it ended with code {said.code}: {said.complaint}"
    except UnreadableError as error:
        reason = str(error)
    hint = "correct `environment`: the path of the environment's bin/python"
    return "", [Unlisted(where=target.environment, reason=f"its version of Python is not known: {reason}", hint=hint)]


def _debian(listed: Listed, root: Path, timeout: float) -> Outdated:
    at = debian.lists_at(root)
    try:
        pending = debian.pending(root, timeout=timeout)
    except UnreadableError as error:
        hint = "run on a machine with apt, as a user who may read /var/lib/apt/lists; try `apt-get -s dist-upgrade`"
        return Outdated(lists_at=at, unknown=(Unlisted(where="apt", reason=str(error), hint=hint),))
    return Outdated(looked_up=len(listed.packages), pending=pending, lists_at=at)


class _Asking:
    """Questions about many packages, several at a time, until time is up or an index is away."""

    def __init__(self, registries: Registries, python: str, timeout: float) -> None:
        self._registries, self._python = registries, python
        self._ends = time.monotonic() + timeout
        self._away: dict[str, str] = {}
        self._slow: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.answered = 0

    def about(self, packages: Sequence[Package]) -> list[Newer | Unlisted]:
        """Return what is newer, and what could not be found out; an index that is away is told once."""
        threads = min(_AT_ONCE, -(-len(packages) // 4))  # a connection costs as much as a few questions
        shares = [packages[n::threads] for n in range(threads)]
        with ThreadPoolExecutor(max(1, len(shares)), thread_name_prefix="index") as pool:
            found = [one for share in pool.map(self._share, shares) for one in share]
        for place, reason in sorted(self._away.items()):
            found.append(Unlisted(where=place, reason=f"the index does not answer: {reason}", hint=_HINT))
        return found

    def _share(self, packages: Sequence[Package]) -> list[Newer | Unlisted]:
        clients = _Clients()
        try:
            return [found for one in packages if (found := self._one(clients, one)) is not None]
        finally:
            clients.close()

    def _one(self, clients: _Clients, package: Package) -> Newer | Unlisted | None:
        """Ask one index after the other until one has the package."""
        python = package.ecosystem == "PyPI"
        for place in self._registries.python if python else (self._registries.for_npm(package.name),):
            if place.base_url in self._away:
                return None
            try:
                known = self._releases(clients.of(place), package)
            except AwayError as error:
                self._away[place.base_url] = str(error)
                return None
            except SlowError as error:
                self._count_slow(place.base_url, str(error))
                return _unknown(package, f"{place.base_url}: {error}", _HINT)
            except UnreadableError as error:
                return _unknown(package, f"{place.base_url} cannot be understood: {error}", _HINT)
            if known is not None:
                with self._lock:
                    self.answered += 1
                return _newer(package, *known)
        return _unknown(package, "no index has it", "list packages of your own in the setting `own`")

    def _count_slow(self, place: str, reason: str) -> None:
        with self._lock:
            self._slow[place] += 1
            if self._slow[place] >= _PATIENCE:
                self._away[place] = f"{reason}, {_PATIENCE} times"

    def _releases(self, client: Client, package: Package) -> tuple[list[Release], str] | None:
        timeout = round(min(self._ends - time.monotonic(), _EACH), 1)
        if timeout <= 0:
            raise AwayError("there was no time left to ask it; raise `timeout`")
        if package.ecosystem == "npm":
            return npm_releases(client, package.name, timeout)
        found = python_releases(client, package.name, self._python, timeout)
        return None if found is None else (found, "")


class _Clients:
    """One connection to each place, for one thread."""

    def __init__(self) -> None:
        from contextlib import ExitStack

        self._stack = ExitStack()
        self._open: dict[str, Client] = {}

    def of(self, place: Address) -> Client:
        if place.base_url not in self._open:
            self._open[place.base_url] = self._stack.enter_context(open_client(place))
        return self._open[place.base_url]

    def close(self) -> None:
        self._stack.close()


def _unknown(package: Package, reason: str, hint: str) -> Unlisted:
    return Unlisted(where=f"{package.ecosystem} {package.name}", reason=reason, hint=hint)


def _newer(package: Package, releases: list[Release], preferred: str) -> Newer | Unlisted | None:
    """Compare the installed version with the releases.

    :param preferred: what the makers call the latest (npm's dist-tag); empty: the newest that is no pre-release.
    """
    try:

        def order(a: Release, b: Release) -> int:
            return compare(package.ecosystem, a.version, b.version)

        usable = sorted((r for r in releases if is_version(package.ecosystem, r.version)), key=cmp_to_key(order))
        ours = next((r for r in usable if compare(package.ecosystem, r.version, package.version) == 0), None)
        good = [r for r in usable if not r.pre and not r.withdrawn]
        if preferred and (named := next((r for r in good if r.version == preferred), None)):
            good = good[: good.index(named) + 1]
        ahead = [r for r in good if compare(package.ecosystem, r.version, package.version) > 0]
    except ValueError as error:
        return _unknown(package, f"its version cannot be compared: {shown(error)}", "pin it to a version of the index")
    if not ahead and not (ours and ours.withdrawn):
        return None
    latest = ahead[-1] if ahead else ours
    assert latest is not None
    behind = _behind(package.version, latest.version) if ahead else None
    first = next((r for r in ahead if _behind(package.version, r.version) == behind), None)
    return Newer(
        ecosystem=package.ecosystem,
        name=package.name,
        installed=package.version,
        latest=latest.version,
        where=package.where,
        behind=behind,
        releases=len(ahead),
        days=_days(ours.at if ours else None, latest.at),
        since=first.at if first else None,
        withdrawn=ours.withdrawn if ours else "",
    )


def _behind(installed: str, latest: str) -> Behind:
    from packaging.version import InvalidVersion, Version

    def numbers(text: str) -> tuple[int, int, int]:
        try:
            found = Version(text)
            return found.epoch << 32 | found.major, found.minor, found.micro
        except InvalidVersion:  # npm's pre-releases: the numbers stand before the first sign
            major, minor, *_ = text.lstrip("v").split(".")
            return int(major), int(minor), 0

    ours, theirs = numbers(installed), numbers(latest)
    return "major" if ours[0] != theirs[0] else "minor" if ours[1] != theirs[1] else "patch"


def _days(a: datetime | None, b: datetime | None) -> float | None:
    return round((b - a).total_seconds() / 86400, 1) if a and b else None
