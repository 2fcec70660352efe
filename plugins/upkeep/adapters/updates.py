"""Updates of manifests: proposed as a change of the text, applied to a file or a branch. Implements `Updater`."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cmp_to_key, partial
from pathlib import Path

from upkeep.adapters import update_branch, update_file, update_npm
from upkeep.adapters._package_text import UnreadableError, read_bytes, shown
from upkeep.adapters.http import open_client
from upkeep.adapters.outdated_config import Registries, configured
from upkeep.adapters.outdated_releases import AwayError, Release, SlowError, python_hashes, python_releases
from upkeep.adapters.packages import paths
from upkeep.adapters.update_check import resolve
from upkeep.adapters.update_edit import Edited, diff, edit
from upkeep.adapters.versions import compare, is_version
from upkeep.core.audit import Package, Unlisted
from upkeep.core.outdated import Applied, Change, Wanted
from upkeep.core.targets import DependenciesTarget

_SECONDS = 30.0
_NOT_TEXT = (".toml", ".lock", ".json", ".yaml", ".yml", ".cfg", ".py", ".xml")
_INDEX = "check the index of the machine (pip.conf, uv.toml, PIP_INDEX_URL) and the way to it"


class Updates:
    """See `core.outdated.Updater`.

    :param registries: where indexes are looked up; by default the machine's configuration.
    """

    def __init__(self, registries: Callable[[], Registries] = configured) -> None:
        self._registries = registries

    def highest(self, ecosystem: str, versions: Sequence[str]) -> str:
        """Return the newest of some versions; empty when there is none, or one cannot be read."""
        if not versions or not all(is_version(ecosystem, one) for one in versions):
            return ""
        return max(versions, key=cmp_to_key(partial(compare, ecosystem)))

    def manifests(self, target: DependenciesTarget) -> tuple[str, ...]:
        """Return the paths of a target's manifests; one that does not exist stays, and is told of later."""
        found = [str(path) for pattern in target.manifests for path in paths(pattern) or [Path(pattern)]]
        return tuple(dict.fromkeys(found))

    def patches(self, packages: Sequence[Package], timeout: float) -> tuple[tuple[Wanted, ...], tuple[Unlisted, ...]]:
        """Return the newest release of the same minor version of each package that is behind it."""
        wanted, unknown = list[Wanted](), list[Unlisted]()
        for one in packages:
            try:
                newest = self._newest_patch(one, timeout)
            except (UnreadableError, AwayError, SlowError) as error:
                reason = f"whether {one.name} has patches is not known: {error}"
                unknown.append(Unlisted(where=one.where, reason=reason, hint=_INDEX))
                continue
            if newest:
                why = f"patch level of {one.version}; {one.name} is security-critical"
                wanted.append(Wanted(name=one.name, version=newest, why=why))
        return tuple(wanted), tuple(unknown)

    def _newest_patch(self, package: Package, timeout: float) -> str:
        known = self._releases(package.name, timeout)
        if known is None:
            raise UnreadableError("no index has it")
        series = _series(package.version)
        better = [
            one.version
            for one in known
            if not one.pre
            and not one.withdrawn
            and _series(one.version) == series
            and compare("PyPI", one.version, package.version) > 0
        ]
        return self.highest("PyPI", better)

    def _releases(self, name: str, timeout: float) -> list[Release] | None:
        for place in self._registries().python:
            with open_client(place) as client:
                found = python_releases(client, name, platform.python_version(), min(timeout, _SECONDS))
            if found is not None:
                return found
        return None

    def _hashes(self, name: str, version: str) -> Sequence[str]:
        try:
            for place in self._registries().python:
                with open_client(place) as client:
                    if found := python_hashes(client, name, version, _SECONDS):
                        return found
        except (UnreadableError, AwayError, SlowError):
            return ()
        return ()

    def propose(self, manifest: str, wanted: Sequence[Wanted], *, environment: str | None, timeout: float) -> Change:
        """Return the change of a requirements file, or of a lock of npm, that meets some wishes. Nothing is written."""
        path = Path(manifest)
        try:
            if path.name in update_npm.LOCKS:
                return update_npm.propose(path, wanted, self._registries(), timeout)
            old = read_bytes(path, update_file.MAX_BYTES)
            text = _text(path, old)
        except UnreadableError as error:
            hint = (
                "have the tool that wrote it write it anew, such as `uv lock --upgrade-package`, or change it by hand"
            )
            refused = Unlisted(where=path.name, reason=f"it cannot be changed here: {error}", hint=hint)
            return Change(manifest=manifest, sha256="", new_sha256="", refused=(refused,))
        edited = edit(text, wanted, path.name, self._hashes)
        change = Change(
            manifest=manifest,
            sha256=update_file.digest(old),
            new_sha256=update_file.digest(edited.text.encode()),
            diff=diff(text, edited.text, path.name),
            bumps=tuple(edited.bumps),
            refused=tuple(edited.refused),
            missing=tuple(edited.missing),
        )
        return (
            self._checked(change, text, edited, path.resolve().parent, environment, timeout) if edited.bumps else change
        )

    def _checked(  # noqa: PLR0917
        self, change: Change, text: str, edited: Edited, folder: Path, environment: str | None, timeout: float
    ) -> Change:
        ask = partial(resolve, folder=folder, registries=self._registries(), python=environment, timeout=timeout)
        answer, words = ask(edited.text)
        if answer != "conflict":
            return change.model_copy(update={"resolved": answer, "resolver": words})
        before = "conflict before" if ask(text)[0] == "conflict" else "conflict"
        return change.model_copy(update={"resolved": before, "resolver": words})

    def apply(
        self,
        change: Change,
        wanted: Sequence[Wanted],
        *,
        now: datetime,
        branch: bool,
        tests: Sequence[str],
        timeout: float,
    ) -> Applied:
        """Write the change in place of the manifest, or to a branch, and run the tests."""
        path = Path(change.manifest)
        try:
            if path.name in update_npm.LOCKS:
                if branch:
                    raise UnreadableError("a branch with package.json and its lock is not made; set `apply: file`")
                return update_npm.apply(change, wanted, self._registries(), now=now, tests=tests, timeout=timeout)
            old = read_bytes(path, update_file.MAX_BYTES)
            if update_file.digest(old) != change.sha256:
                raise UnreadableError("it has changed since it was proposed")
            edited = edit(_text(path, old), wanted, path.name, self._hashes)
        except UnreadableError as error:
            return Applied(done=False, detail=f"{path}: {error}; nothing was written")
        new = edited.text.encode()
        if update_file.digest(new) != change.new_sha256:
            detail = f"{path}: it would become another file than was proposed; nothing was written"
            return Applied(done=False, detail=detail)
        if branch:
            message = "Update " + ", ".join(f"{one.name} to {one.after}" for one in edited.bumps)
            return update_branch.apply(path, change.sha256, new, message=message, now=now, tests=tests, timeout=timeout)
        return update_file.apply(path, change.sha256, new, now=now, tests=tests, timeout=timeout)

    def waiting(self, change: Change) -> str:
        """Return the branch of ours that holds a change already; empty where there is none."""
        return update_branch.holding(Path(change.manifest), change.new_sha256)

    def unfinished(self, manifest: str) -> str:
        """Return what an apply that was cut off has left in place untested; empty when there is nothing."""
        return update_file.unfinished(Path(manifest))

    def put_back(self, manifest: str) -> Applied:
        """Put the file back that an apply which was cut off has replaced."""
        return update_file.put_back(Path(manifest))

    def run(self, command: Sequence[str], timeout: float) -> Applied:
        """Run a command that installs updates."""
        passed, words = update_file.run_tests(command, Path("/"), Path("/"), timeout)
        return Applied(done=passed, detail=f"{shown(command[0])} {'succeeded' if passed else 'failed'}", tests=words)


def _text(path: Path, content: bytes) -> str:
    if path.suffix in _NOT_TEXT:
        raise UnreadableError("it is no requirements file")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UnreadableError(f"byte {error.start} is no UTF-8") from None


def _series(version: str) -> tuple[int, int, int]:
    """Return what stays when only the patch level changes. :raises UnreadableError: it is no version."""
    from packaging.version import InvalidVersion, Version

    try:
        found = Version(version)
    except InvalidVersion:
        raise UnreadableError(f"{shown(version, 40)!r} is no version") from None
    return found.epoch, found.major, found.minor
