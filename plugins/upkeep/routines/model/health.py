"""Looks a model over: its files, what is said of them, whether they are the ones they should be, and whether they load.

**What it does.** Every file that the system file names must be there. The metadata file must tell when the model was
trained, on which features, with which scores and as which version. Each file's SHA-256 is compared with the one that
metadata or registry state, and with that of the last run. Where a registry (MLflow) is named, its version in service
must be that of the metadata. JSON files are parsed. A pickle (also joblib's) is loaded **only** when its hash is known:
stated by metadata or registry, or that of a copy that a person approved (`model.versions` asks). It happens in a
process of its own without network, privileges, or the right to write or start anything, and only classes of the known
libraries are found there (docs/decisions/0017).

**When it is red.**

- `files`: a file is missing. Is the volume mounted? Restore the newest copy in `versions`, or the backup.
- `hash` (critical): a file is not the one that metadata or registry speak of. Until somebody explains it, treat it as
  tampered with: do not load it, restore the last approved copy, look who wrote it and when.
- `changed`: a file changed and nothing announces it. If it was you: approve the copy that `model.versions` proposes.
- `load`: it does not load, or asks for something that no model needs (then: as `hash`). Compare the libraries'
  versions with those of training; the emergency DAG brings the last stable version back.
- `trust`: nobody vouches for the hash, so it was not loaded. Let the training program write `sha256` into the
  metadata, or approve the copy.
- `metadata`: missing or unreadable: retraining may be needed, for nobody knows what this model is.
- `registry`: the registry is away, or has another version in service than the files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import Field

from upkeep.core.cadence import Covers
from upkeep.core.job import Job
from upkeep.core.model import Finding, Judgement, Measurement, Severity
from upkeep.core.model_health import Answer, FilesSeen, ModelVersion, Registered
from upkeep.core.targets import ModelTarget
from upkeep.routines.model import _health_findings as findings
from upkeep.routines.model._health_trust import ConfinedSettings, trusted

TITLE = "Model health"
TARGETS = ("model",)
COVERS = Covers.NOW
ROLE = "ml"


class Settings(ConfinedSettings):
    """Whether and how model files are loaded."""

    load: bool = Field(True, description="load pickles whose hash is known, in the restricted process")


@dataclass(frozen=True)
class Seen:
    """A model's files, its copies, its registry, and what became of loading."""

    files: FilesSeen
    kept: tuple[ModelVersion, ...]
    registered: Registered | None
    trust: Mapping[str, str]
    answers: Mapping[str, Answer]


def observe(job: Job[ModelTarget, Settings]) -> Seen:
    """Read the files, ask the registry, load what may be loaded."""
    models, target = job.tools.models, job.target
    files = models.files(target)
    kept = models.versions.kept(files.folder)
    registered = models.registered(target.registry) if target.registry else None
    trust = {file.name: trusted(file, files, kept, registered) for file in files.models}
    answers = {}
    for file in files.models:
        if job.settings.load and file.loadable and trust[file.name]:
            job.tools.log.info("loading %s, whose hash is known by %s", file.name, trust[file.name])
            answers[file.name] = models.sandbox.load(files.path(file), file.sha256, job.settings.confined())
    return Seen(files, kept, registered, trust, answers)


def judge(job: Job[ModelTarget, Settings], seen: Seen) -> Judgement:
    """Judge files, metadata, hashes, registry and loading."""
    unexplained = _unexplained(job, seen)
    found = (
        *findings.of_files(seen.files),
        *findings.of_metadata(seen.files, job.target),
        *findings.of_hashes(seen.files, seen.registered),
        *_changed(seen, unexplained),
        *(findings.of_registry(seen.files.metadata, seen.registered) if seen.registered else ()),
        *(findings.of_loading(seen.files, seen.trust, seen.answers) if job.settings.load else ()),
    )
    return Judgement(measurements=tuple(_measurements(job, seen, unexplained)), findings=found)


def fingerprint(sha256: str) -> float:
    """Return the first 48 bits of a hash as a number that a measurement holds exactly.

    >>> fingerprint("00000000000f" + "0" * 52)
    15.0
    """
    return float(int(sha256[:12], 16))


def _unexplained(job: Job[ModelTarget, Settings], seen: Seen) -> dict[str, float]:
    """Return the files that are others than at the last run although nothing vouches for them, with what they were."""
    before = job.tools.history.latest("file.sha48")
    return {
        file.name: before[file.name].value
        for file in seen.files.models
        if file.name in before and before[file.name].value != fingerprint(file.sha256) and not seen.trust[file.name]
    }


def _changed(seen: Seen, unexplained: Mapping[str, float]) -> Iterator[Finding]:
    """Yield the changed files; those that differ from what is stated are told already, and worse."""
    for file in seen.files.models:
        if file.name not in unexplained or seen.files.stated(file):
            continue
        was = unexplained[file.name]
        lost = not any(fingerprint(v.files.get(file.name, "0" * 64)) == was for v in seen.kept)
        yield Finding(
            check="changed",
            subject=file.name,
            severity=Severity.WARNING,
            message=f"{file.name} has changed since the last run, and neither metadata, registry nor an approved copy"
            f" know its hash{'; no dated copy holds what it was before' if lost else ''}",
            observed=f"sha256 {file.sha256[:12]}, changed {file.changed:%Y-%m-%d %H:%M} UTC",
            limit="the hash of the last run, or one that is announced",
            hint="if it was meant: approve the copy that model.versions proposes; else restore the last approved copy",
        )


def _measurements(
    job: Job[ModelTarget, Settings], seen: Seen, unexplained: Mapping[str, float]
) -> Iterator[Measurement]:
    files = seen.files.files
    yield Measurement(name="files.count", value=len(files), unit="count")
    yield Measurement(name="files.size", value=sum(file.size for file in files), unit="bytes")
    for file in seen.files.models:
        # A change that is not explained stays a finding until it is: what was is not forgotten.
        value = unexplained.get(file.name, fingerprint(file.sha256))
        yield Measurement(name="file.sha48", value=value, unit="hash", subject=file.name)
    if trained := seen.files.metadata.trained:
        days = (job.tools.now() - trained).total_seconds() / 86_400
        yield Measurement(name="model.age", value=days, unit="days")
    for name, value in seen.files.metadata.metrics.items():
        yield Measurement(name="metadata.metric", value=value, unit="score", subject=name)
