"""Commits a new manifest to a branch of the repository that it lies in; what is checked out is not touched.

The commit is made with an index of its own, so that neither the working tree nor the user's index changes; the
repository's hooks and file-system monitor are switched off, because they are programs. Filters that its configuration
names (git-lfs, git-crypt) do run, as in every checkout: without them a commit would hold the wrong thing.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from upkeep.adapters._package_run import Answer, ask
from upkeep.adapters._package_text import UnreadableError, read_bytes
from upkeep.adapters.process import environment
from upkeep.adapters.update_file import MAX_BYTES, digest, run_tests
from upkeep.core.outdated import Applied

_NOBODY = {"NAME": "airflow-upkeep", "EMAIL": "airflow-upkeep@localhost"}
_LOOKED_AT = 50
_NONE = ""  # for `update-ref`: there is no such branch yet, by whichever hash the repository names things


def apply(
    path: Path, expected: str, new: bytes, *, message: str, now: datetime, tests: Sequence[str], timeout: float
) -> Applied:
    """Commit a file's new content to a new branch `upkeep/update-...`; where its tests fail, there is no branch."""
    path = path.resolve()
    try:
        with tempfile.TemporaryDirectory(prefix="upkeep-branch-") as scratch:
            return _Repository(path.parent, Path(scratch)).commit(path, expected, new, message, now, tests, timeout)
    except (UnreadableError, OSError) as error:
        return Applied(done=False, detail=f"{path}: {error}; no branch was made")


def holding(path: Path, sha256: str) -> str:
    """Return the newest branch of ours that has a file with this content; empty where none has, or nobody can tell."""
    path = path.resolve()
    try:
        with tempfile.TemporaryDirectory(prefix="upkeep-branch-") as scratch:
            return _Repository(path.parent, Path(scratch)).holding(path, sha256)
    except (UnreadableError, OSError):
        return ""


class _Repository:
    """The repository that a folder belongs to.

    :raises UnreadableError: there is no git, or the folder belongs to none.
    """

    def __init__(self, folder: Path, scratch: Path) -> None:
        program = shutil.which("git")
        if program is None:
            raise UnreadableError("git is not installed")
        self._program, self._folder, self._scratch = program, folder, scratch
        self.top = Path(self._git("rev-parse", "--show-toplevel"))

    def commit(  # noqa: PLR0917
        self, path: Path, expected: str, new: bytes, message: str, now: datetime, tests: Sequence[str], timeout: float
    ) -> Applied:
        """See `apply`."""
        place = path.relative_to(self.top.resolve()).as_posix()
        head = self._git("rev-parse", "--verify", "HEAD^{commit}")
        mode = self._check(path, place, expected)
        content = self._scratch / "content"
        content.write_bytes(new)
        blob = self._git("hash-object", "-w", f"--path={place}", str(content))
        self._git("read-tree", head)
        self._git("update-index", "--add", "--cacheinfo", f"{mode},{blob},{place}")
        made = self._git("commit-tree", self._git("write-tree"), "-p", head, "--no-gpg-sign", "-m", message)
        passed, words = self._tested(made, place, tests, timeout)
        if not passed:
            return Applied(done=False, detail="the tests failed on the new manifest; no branch was made", tests=words)
        branch = self._free(place, now)
        self._git("update-ref", f"refs/heads/{branch}", made, _NONE)
        return Applied(done=True, detail=f"{place} is committed as {made[:12]}", kept=branch, tests=words)

    def holding(self, path: Path, sha256: str) -> str:
        """See `holding`."""
        place = path.relative_to(self.top.resolve()).as_posix()
        ours = self._git("for-each-ref", "--sort=-committerdate", "--format=%(refname)", "refs/heads/upkeep/update-*")
        for name in ours.splitlines()[:_LOOKED_AT]:
            said = self._ask("cat-file", "blob", f"{name}:{place}")
            if said.code == 0 and digest(said.out) == sha256:
                return name.removeprefix("refs/heads/")
        return ""

    def _free(self, place: str, now: datetime) -> str:
        """Return the name of a branch that there is not yet: two manifests may be updated in one second."""
        # Not every name of a file may be one of a branch.
        stem = re.sub(r"[^A-Za-z0-9_-]+", "-", place.removesuffix(Path(place).suffix)).strip("-")
        branch = f"upkeep/update-{stem}-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
        names = (branch, *(f"{branch}-{number}" for number in range(1, 100)))
        for name in names:
            if not self._git("for-each-ref", f"refs/heads/{name}"):
                return name
        raise UnreadableError(f"{branch} and a hundred more of that name exist")

    def _check(self, path: Path, place: str, expected: str) -> str:
        """Return the file's mode in the repository.

        :raises UnreadableError: it is not the file that was proposed, or not the one that is committed.
        """
        if digest(read_bytes(path, MAX_BYTES)) != expected:
            raise UnreadableError("it has changed since it was proposed")
        entry = self._git("ls-tree", "HEAD", "--", f":(top,literal){place}", allowed=(0, 128)).split()
        if len(entry) < 3:
            raise UnreadableError("it is not committed in its repository")
        if self._git("hash-object", f"--path={place}", str(path)) != entry[2]:
            raise UnreadableError("it has changes that are not committed; commit or undo them first")
        return entry[0]

    def _tested(self, commit: str, place: str, tests: Sequence[str], timeout: float) -> tuple[bool, str]:
        """Run the tests in a working tree of their own."""
        if not tests:
            return True, ""
        tree = self._scratch / "tree"
        self._git("worktree", "add", "--detach", str(tree), commit)
        try:
            return run_tests(tests, (tree / place).parent, tree / place, timeout)
        finally:
            self._git("worktree", "remove", "--force", str(tree))

    def _git(self, *words: str, allowed: Sequence[int] = (0,)) -> str:
        said = self._ask(*words)
        if said.code not in allowed:
            raise UnreadableError(f"git {words[0]} failed: {said.complaint}")
        return said.out.decode(errors="replace").strip()

    def _ask(self, *words: str) -> Answer:
        safe = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "maintenance.auto=false")
        author = {f"GIT_{role}_{part}": value for role in ("AUTHOR", "COMMITTER") for part, value in _NOBODY.items()}
        env = environment(GIT_INDEX_FILE=str(self._scratch / "index"), GIT_TERMINAL_PROMPT="0", **author)
        return ask([self._program, *safe, *words], timeout=120, env=env, cwd=self._folder)
