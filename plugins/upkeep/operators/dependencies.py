"""Operators for dependencies."""

from __future__ import annotations

from upkeep.operators.base import RoutineOperator


class DependencyAuditOperator(RoutineOperator):
    """Look every package of a target up in advisories: what is vulnerable, since when, and what fixes it."""

    routine = "upkeep.routines.dependencies.audit"


class OutdatedOperator(RoutineOperator):
    """List the packages of a target that are behind their newest version, and by how much."""

    routine = "upkeep.routines.dependencies.outdated"


class UpdateProposalOperator(RoutineOperator):
    """Propose the smallest safe updates of a target's manifests, and apply them once a person has agreed."""

    routine = "upkeep.routines.dependencies.update"
