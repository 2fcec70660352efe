"""What is known of a machine-learning model: its files, what is said of it, how it does, which versions are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from upkeep.core.cadence import Window
from upkeep.core.ml import Labels, Registry
from upkeep.core.model import Model
from upkeep.core.system import System
from upkeep.core.targets import ModelTarget


@dataclass(frozen=True)
class ModelFile:
    """A file of a model: name below its folder, bytes, SHA-256, when it was last changed (UTC)."""

    name: str
    size: int
    sha256: str
    changed: datetime

    @property
    def loadable(self) -> bool:
        """Whether it is a pickle, by its name, which only the restricted process may load."""
        return self.name.lower().endswith((".pkl", ".pickle", ".joblib", ".sav"))


@dataclass(frozen=True)
class Metadata:
    """What the metadata file says, under whichever of the usual names; `error`: why it says nothing."""

    name: str = ""
    error: str = ""
    version: str = ""
    trained: datetime | None = None
    features: tuple[str, ...] = ()
    feature_count: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    """File name -> SHA-256. The empty name means the only model file there is."""

    def hash_of(self, name: str, alone: bool = False) -> str:
        """Return the hash that is stated for a file, empty when none is; `alone`: it is the only model file."""
        return self.hashes.get(name) or (self.hashes.get("", "") if alone else "")


@dataclass(frozen=True)
class FilesSeen:
    """A model's folder. `absent` are globs that match nothing, `refused` names that cannot be read, and why.

    The folder itself is refused as `.`. `broken` are JSON files that are none, and why.
    """

    folder: str
    files: tuple[ModelFile, ...]
    metadata: Metadata
    absent: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)

    def path(self, file: ModelFile) -> str:
        """Return where a file lies."""
        return f"{self.folder}/{file.name}"

    @property
    def models(self) -> tuple[ModelFile, ...]:
        """The files without the metadata file, which may change by itself."""
        return tuple(f for f in self.files if f.name != self.metadata.name)

    def stated(self, file: ModelFile) -> str:
        """Return the hash that the metadata state for a file, empty when none."""
        return self.metadata.hash_of(file.name, alone=len(self.models) == 1)


@dataclass(frozen=True)
class Registered:
    """The version in service by the registry, or `error`, why it is not known; `absent`: the registry has none."""

    version: str = ""
    sha256: str = ""
    error: str = ""
    absent: bool = False


class Confined(Model):
    """What the restricted process may have, and which Python it is."""

    python: str = ""
    """Interpreter with the model's libraries; empty: the one that runs this."""
    seconds: float = 60
    memory_bytes: int = 4 << 30
    max_bytes: int = 1 << 30
    allow: tuple[str, ...] = ()
    """Further classes that pickles may name, in full (`module.Class`)."""


@dataclass(frozen=True)
class Answer:
    """What the restricted process said. `why` is empty when it did what was asked; `detail` says it for people."""

    why: str = ""
    detail: str = ""
    kind: str = ""
    isolation: tuple[str, ...] = ()
    milliseconds: tuple[float, ...] = ()
    score: float | None = None
    importance: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether it did what was asked."""
        return not self.why


class Sandbox(Protocol):
    """The restricted process; see `adapters.model_sandbox`."""

    def load(self, path: str, sha256: str, how: Confined) -> Answer:
        """Load a pickle whose hash is known."""
        ...

    def time(
        self, path: str, sha256: str, how: Confined, columns: Mapping[str, Sequence[Any]], *, tries: int, warm_up: int
    ) -> Answer:
        """Load it and measure how long it takes to answer."""
        ...

    def importance(
        self, path: str, sha256: str, how: Confined, rows: LabelledRows, *, seed: int, repeats: int
    ) -> Answer:
        """Load it and measure how much its score falls when each feature is shuffled."""
        ...


@dataclass(frozen=True)
class LabelledRows:
    """Rows with features and truth, for permutation importance."""

    columns: Mapping[str, Sequence[Any]]
    labels: Sequence[Any]
    classification: bool


@dataclass(frozen=True)
class ClassScore:
    """How one class is recognised (0 to 1), and how many rows really are of it."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Scores:
    """How a model did in a window: `rows` answers, of which `labelled` have a label by now.

    Ratios are 0 to 1. What a task has not, or cannot be computed, is None or empty. `shares` and `quantiles` are of all
    predictions, labelled or not.
    """

    rows: int
    labelled: int
    accuracy: float | None = None
    classes: Mapping[str, ClassScore] = field(default_factory=dict)
    macro: ClassScore | None = None
    brier: float | None = None
    ece: float | None = None
    mae: float | None = None
    rmse: float | None = None
    r2: float | None = None
    shares: Mapping[str, float] = field(default_factory=dict)
    quantiles: Mapping[str, float] = field(default_factory=dict)
    odd: int = 0
    """Rows whose probability is missing, not finite or outside 0 to 1, or whose numbers are not finite."""
    sample: LabelledRows | None = None


@dataclass(frozen=True)
class NoScores:
    """Why there are none: the source is away, a column is missing."""

    message: str
    hint: str = ""


class ModelVersion(Model):
    """A dated copy: `name` is its folder `<date>-<sha12>`, `files` name -> SHA-256.

    `origin` says how it came about; `approved` by what its hashes are trusted: empty, `metadata`, or `a person`.
    """

    name: str
    made: datetime
    files: dict[str, str]
    size: int
    origin: Literal["change", "retraining", "rollback"] = "change"
    approved: str = ""
    version: str = ""
    run_id: str = ""


@dataclass(frozen=True)
class NotKept:
    """Why a copy was not made, restored or removed; nothing half done counts."""

    message: str
    hint: str = ""


class Versions(Protocol):
    """Dated copies of a model's files, in `versions` of its folder; see `adapters.model_versions`."""

    def kept(self, folder: str) -> tuple[ModelVersion, ...]:
        """Return the copies that are complete by their manifests, newest first."""
        ...

    def spoilt(self, folder: str, version: ModelVersion) -> tuple[str, ...]:
        """Read a copy and return the names of files that are not as its manifest says."""
        ...

    def leftovers(self, folder: str) -> tuple[str, ...]:
        """Return folders that a killed writer has left."""
        ...

    def unfinished(self, folder: str) -> str:
        """Return the copy whose restore was begun and has not ended, empty when there is none."""
        ...

    def keep(self, seen: FilesSeen, version: ModelVersion) -> NotKept | None:
        """Copy files as they were seen; the folder appears at once and whole, or not at all."""
        ...

    def approve(self, folder: str, name: str, by: str) -> NotKept | None:
        """Note in a copy's manifest what its hashes are trusted by."""
        ...

    def restore(self, folder: str, name: str) -> NotKept | None:
        """Put the files of a copy back into service, each at once."""
        ...

    def remove(self, folder: str, names: Sequence[str]) -> tuple[str, ...] | NotKept:
        """Remove copies and leftovers; return the names of those that are gone."""
        ...


class Trial(Model):
    """The note of a retraining at work, kept beside the copies until it has ended."""

    backup: str
    begun: datetime
    run_id: str


@dataclass(frozen=True)
class Finished:
    """How a program ended: exit code, seconds, last lines (redacted); `late`: it was ended for taking too long."""

    code: int
    seconds: float
    tail: tuple[str, ...] = ()
    late: bool = False


class Retrainer(Protocol):
    """Runs the programs of a retraining and keeps its note; see `adapters.retrain`."""

    def run(self, command: Sequence[str], *, folder: str, seconds: float, still_alone: Callable[[], None]) -> Finished:
        """Run a program to its end. Neither it nor its children outlive this worker."""
        ...

    def note(self, folder: str) -> Trial | NotKept | None:
        """Return the note of a retraining that has not ended; NotKept: there is one that cannot be read."""
        ...

    def write(self, folder: str, trial: Trial | None) -> None:
        """Write the note, or remove it. :raises UpkeepError: that is not possible."""
        ...

    def held(self, folder: str) -> AbstractContextManager[bool]:
        """Hold the model for a retraining; False when another worker does."""
        ...


@dataclass(frozen=True)
class Models:
    """Everything about models that reaches outside."""

    files: Callable[[ModelTarget], FilesSeen]
    registered: Callable[[Registry], Registered]
    sandbox: Sandbox
    scores: Callable[[Labels, System, Window, Sequence[str], int], Scores | NoScores]
    scored: Callable[[ModelTarget, System, Window], int | NoScores]
    versions: Versions
    retrainer: Retrainer
