"""What is wrong with a model's files, as findings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from upkeep.core.model import Finding, Severity
from upkeep.core.model_health import Answer, FilesSeen, Metadata, Registered
from upkeep.core.targets import ModelTarget

_ISOLATION = ("no network", "no privileges", "no writing or executing")


def of_files(seen: FilesSeen) -> Iterator[Finding]:
    """Yield what is missing or cannot be read."""
    if "." in seen.refused:
        yield _missing(seen.folder, f"{seen.folder}: {seen.refused['.']}")
        return
    for glob in seen.absent:
        yield _missing(glob, f"{seen.folder} holds no file that matches {glob!r}")
    if not seen.absent and not seen.models and not seen.refused:
        yield _missing(seen.folder, f"{seen.folder} holds no model file")
    for name, reason in seen.refused.items():
        yield Finding(
            check="files",
            subject=name,
            severity=Severity.UNKNOWN,
            message=f"{seen.folder}/{name} {reason}: it was not looked at",
            hint="correct owner or mode; for a link name the folder it leads to in the system file",
        )


def _missing(subject: str, message: str) -> Finding:
    return Finding(
        check="files",
        subject=subject,
        severity=Severity.CRITICAL,
        message=message,
        observed="none",
        limit="at least one file",
        hint="see whether the volume is mounted; restore the newest copy in `versions`, else the backup",
    )


def of_metadata(seen: FilesSeen, target: ModelTarget) -> Iterator[Finding]:
    """Yield what the metadata do not say, or say otherwise than the system file."""
    said = seen.metadata
    if said.error:
        named = target.metadata is not None or bool(said.name)
        yield Finding(
            check="metadata",
            subject=said.name or "metadata",
            severity=Severity.WARNING if named else Severity.INFO,
            message=f"metadata {said.name or 'file'}: {said.error}; retraining may be needed",
            hint="let the training program write it (version, training date, features, metrics, sha256), or train anew",
        )
        return
    parts = {"training date": said.trained, "version": said.version, "metrics": said.metrics,
             "features": said.features or said.feature_count}  # fmt: skip
    if lacking := [name for name, value in parts.items() if not value]:
        yield Finding(
            check="metadata",
            subject=said.name,
            severity=Severity.INFO,
            message=f"{said.name} tells no {', no '.join(lacking)}",
            hint="let the training program write it",
        )
    yield from _features(said, target)


def _features(said: Metadata, target: ModelTarget) -> Iterator[Finding]:
    differing = set(said.features) ^ set(target.features) if said.features and target.features else set()
    count = said.feature_count is not None and bool(target.features) and said.feature_count != len(target.features)
    if differing or count:
        yield Finding(
            check="features",
            subject=said.name,
            severity=Severity.WARNING,
            message="metadata and system file differ about the features"
            + (f": {', '.join(sorted(differing)[:10])}" if differing else ""),
            observed=str(said.feature_count),
            limit=str(len(target.features)),
            hint="correct whichever is old; the service must give the model what it was trained on",
        )


def of_hashes(seen: FilesSeen, registered: Registered | None) -> Iterator[Finding]:
    """Yield the files that are not those that metadata or registry speak of."""
    for file in seen.models:
        stated = {f"metadata {seen.metadata.name}": seen.stated(file)}
        if registered and len(seen.models) == 1:
            stated["the registry"] = registered.sha256
        for source, sha256 in stated.items():
            if sha256 and sha256 != file.sha256:
                yield Finding(
                    check="hash",
                    subject=file.name,
                    severity=Severity.CRITICAL,
                    message=f"{file.name} is not the file that {source} speak{'s' if 'the' in source else ''} of",
                    observed=f"sha256 {file.sha256[:12]}, changed {file.changed:%Y-%m-%d %H:%M} UTC",
                    limit=f"sha256 {sha256[:12]}",
                    hint="treat it as tampered with until somebody explains it: restore the last approved copy in"
                    " `versions`, and look who wrote it",
                )
                break


def of_registry(said: Metadata, registered: Registered) -> Iterator[Finding]:
    """Yield what the registry says otherwise, or why it says nothing."""
    if registered.error:
        yield Finding(
            check="registry",
            subject="version",
            severity=Severity.WARNING if registered.absent else Severity.UNKNOWN,
            message=f"the registry does not tell the version in service: {registered.error}",
            hint="register the version (name and alias as in the system file)"
            if registered.absent
            else "see that the tracking server runs, and its connection's address and credentials",
        )
    elif not said.version:
        yield Finding(
            check="registry",
            subject="version",
            severity=Severity.UNKNOWN,
            message=f"the registry has version {registered.version} in service; the metadata tell no version",
            hint="let the training program write `version` into the metadata",
        )
    elif said.version.lower().lstrip("v") != registered.version.lower().lstrip("v"):
        yield Finding(
            check="registry",
            subject="version",
            severity=Severity.WARNING,
            message="the files are another version than the registry has in service",
            observed=said.version,
            limit=registered.version,
            hint="deploy the registered version, or move the registry's alias",
        )


def of_loading(seen: FilesSeen, trust: Mapping[str, str], answers: Mapping[str, Answer]) -> Iterator[Finding]:
    """Yield what does not load, and what could not be tried."""
    for name, reason in seen.broken.items():
        if name != seen.metadata.name:
            yield _unloaded(name, Severity.CRITICAL, f"{name} is not JSON: {reason}", "restore the newest good copy")
    for file in seen.models:
        if file.loadable and not trust[file.name]:
            yield Finding(
                check="trust",
                subject=file.name,
                severity=Severity.UNKNOWN,
                message=f"{file.name} was not loaded: nobody vouches for its hash, and loading a pickle runs what is"
                " in it",
                observed=f"sha256 {file.sha256[:12]}",
                # Never an invitation to vouch for a file that somebody may have put there.
                hint="first find out who changed it (see `hash`), then restore the last approved copy"
                if seen.stated(file) not in ("", file.sha256)
                else "write its sha256 into the metadata, or approve the copy that model.versions proposes",
            )
    for name, answer in answers.items():
        if not answer.ok:
            yield _not_loaded(name, answer)
    yield from _isolation(answers)


def _not_loaded(name: str, answer: Answer) -> Finding:
    said = f"{name} does not load: {answer.detail}"
    if answer.why == "refused":
        hint = "treat it as hostile, as under `hash`; if the class is yours, name it in the setting `allow`"
        return _unloaded(name, Severity.CRITICAL, f"{name} was refused: {answer.detail}", hint)
    if "ModuleNotFoundError" in answer.detail or "ImportError" in answer.detail:
        hint = "set `python` of model.health to the interpreter that serves the model"
        return _unloaded(name, Severity.UNKNOWN, said, hint)
    if answer.why in ("time", "memory", "size", "hash"):
        hint = "raise load_seconds, load_memory or load_size; a file that changes while it is read: run this again"
        return _unloaded(name, Severity.UNKNOWN, said, hint)
    hint = "compare the libraries' versions with those of training; restore the newest good copy in `versions`"
    return _unloaded(name, Severity.CRITICAL, said, hint)


def _unloaded(name: str, severity: Severity, message: str, hint: str) -> Finding:
    return Finding(check="load", subject=name, severity=severity, message=message, hint=hint)


def _isolation(answers: Mapping[str, Answer]) -> Iterator[Finding]:
    told = [answer.isolation for answer in answers.values() if answer.isolation]
    if told and (lacking := [part for part in _ISOLATION if part not in told[0]]):
        yield Finding(
            check="isolation",
            subject="machine",
            severity=Severity.INFO,
            message=f"the restricted process had to do without: {', '.join(lacking)}; Python's own barriers held alone",
            hint="allow unprivileged user namespaces and Landlock (Linux 5.13 or later) on the workers",
        )
