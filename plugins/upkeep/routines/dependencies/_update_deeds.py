"""Doing what was agreed to."""

from __future__ import annotations

from upkeep.core.errors import ConfigurationError
from upkeep.core.model import Action, Finding, Outcome, OutcomeStatus, Severity
from upkeep.core.outdated import Applied, Change, Wanted
from upkeep.routines.dependencies._update_seen import UpdateJob


def act(job: UpdateJob, action: Action) -> Outcome:
    """Do one action. :raises ConfigurationError: it is none of this routine's."""
    if action.name == "put_back":
        return _told(job.tools.updates.put_back(action.subject), action)
    if action.name == "update_manifest":
        return _told(_update(job, action), action)
    if action.name == "install_security_updates":
        done = job.tools.updates.run(tuple(action.details["command"]), job.settings.command_seconds)
        return _told(done, action)
    raise ConfigurationError(f"{job.routine} has no action {action.name!r}", "correct its module")


def _update(job: UpdateJob, action: Action) -> Applied:
    told = action.details
    change = Change(manifest=action.subject, sha256=told["base_sha256"], new_sha256=told["new_sha256"])
    return job.tools.updates.apply(
        change,
        tuple(Wanted.model_validate(one) for one in told["wanted"]),
        now=job.tools.now(),
        branch=told["apply"] == "branch",
        tests=job.target.tests,
        timeout=job.settings.test_seconds,
    )


def _told(done: Applied, action: Action) -> Outcome:
    evidence = {key: value for key, value in (("kept", done.kept), ("tests", done.tests)) if value}
    if done.done:
        kept = f" ({done.kept})" if done.kept else ""
        return Outcome(status=OutcomeStatus.DONE, detail=done.detail + kept, evidence=evidence)
    finding = Finding(
        check="apply",
        subject=action.subject,
        severity=Severity.WARNING,
        message=f"{action.subject}: {done.detail}",
        hint="read the end of the tests in the action's evidence"
        if done.tests
        else "it is proposed anew by the next run",
    )
    return Outcome(status=OutcomeStatus.FAILED, detail=done.detail, findings=(finding,), evidence=evidence)
