"""Asking an MLflow tracking server which version of a model is in service.

REST API 2.0: https://mlflow.org/docs/latest/rest-api.html, `registered-models/alias` and
`registered-models/get-latest-versions`; stages are deprecated there in favour of aliases, and both are in use.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import urlencode

from upkeep.core.http import NoReply, Reply, Request
from upkeep.core.job import Http
from upkeep.core.ml import Registry
from upkeep.core.model_health import Registered

_API = "/api/2.0/mlflow/registered-models"
_STAGES = ("none", "staging", "production", "archived")
_HEX = re.compile(r"[0-9a-f]{64}")


class MlflowRegistry:
    """Opens the connection that a registry names and asks."""

    def __init__(self, http: Callable[..., AbstractContextManager[Http]]) -> None:
        self._http = http

    def __call__(self, registry: Registry) -> Registered:
        """Return the version in service; `error` when nobody knows it."""
        with self._http(conn_id=registry.conn_id) as http:
            return _understood(http.ask(_request(registry)), registry)


def _request(registry: Registry) -> Request:
    if registry.stage and registry.stage.lower() not in _STAGES:
        wanted = urlencode({"name": registry.name, "alias": registry.stage})
        return Request(path=f"{_API}/alias?{wanted}")
    wanted = urlencode({"name": registry.name} | ({"stages": registry.stage} if registry.stage else {}))
    return Request(path=f"{_API}/get-latest-versions?{wanted}")


def _understood(answer: Reply | NoReply, registry: Registry) -> Registered:
    if isinstance(answer, NoReply):
        return Registered(error=f"no answer: {answer.detail}")
    try:
        said = json.loads(answer.body)
    except (ValueError, RecursionError):
        return Registered(error=f"status {answer.status}, and the answer is not JSON")
    if answer.status != 200:
        code = str(said.get("error_code", ""))[:60] if isinstance(said, dict) else ""
        absent = answer.status == 404 and code == "RESOURCE_DOES_NOT_EXIST"
        return Registered(error=f"status {answer.status} {code}".strip(), absent=absent)
    return _version(said, registry)


def _version(said: Any, registry: Registry) -> Registered:
    if not isinstance(said, dict):
        return Registered(error="the answer is not an object")
    listed = [said["model_version"]] if isinstance(said.get("model_version"), dict) else said.get("model_versions", [])
    if not isinstance(listed, list) or not all(isinstance(one, dict) and _named(one) for one in listed):
        return Registered(error="the answer lists no versions as MLflow does")
    ours = [one for one in listed if one.get("name", registry.name) == registry.name]
    if not ours:
        where = f" in stage {registry.stage!r}" if registry.stage else ""
        return Registered(error=f"it has no version of {registry.name!r}{where}", absent=True)
    newest = max(ours, key=_number)
    return Registered(version=str(newest["version"])[:80], sha256=_hash(newest.get("tags")))


def _named(one: dict[str, Any]) -> bool:
    return isinstance(one.get("version"), str | int) and bool(str(one["version"]))


def _number(one: dict[str, Any]) -> tuple[int, str]:
    """Return what versions are ordered by; MLflow counts them, GitLab gives them names (`1.2.2`)."""
    version = str(one["version"])
    return (int(version), "") if version.isdecimal() else (0, version)


def _hash(tags: Any) -> str:
    """Return the SHA-256 that a version's tag `sha256` states, empty when none does."""
    stated = [tag.get("value") for tag in tags or () if isinstance(tag, dict) and tag.get("key") == "sha256"]
    return next((one.lower() for one in stated if isinstance(one, str) and _HEX.fullmatch(one.lower())), "")
