"""Which index of Python packages and which npm registry this machine is configured to use, and with what credentials.

Only what the machine's administrator and the worker's user have written counts. What lies in a project (`.npmrc`,
`uv.toml`) is not read: whoever can change a project must not send our credentials elsewhere.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import tomllib
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from upkeep.adapters._package_text import UnreadableError, read_bytes
from upkeep.adapters.http import Address
from upkeep.adapters.process import environment, run
from upkeep.core.errors import ConfigurationError

# PEP 691 first; whoever does not know it answers in HTML (PEP 503).
_ACCEPT = {"Accept": "application/vnd.pypi.simple.v1+json,text/html;q=0.1"}


@dataclass(frozen=True)
class Registries:
    """Where packages are looked up: indexes of Python in order, and registries of npm by scope ("" for the rest)."""

    python: tuple[Address, ...]
    npm: Mapping[str, Address]
    python_urls: tuple[str, ...] = field(default=(), repr=False)
    """The same indexes as programs want them, with the credentials in them."""

    def for_npm(self, name: str) -> Address:
        """Return the registry of a package."""
        scope = name.partition("/")[0] if name.startswith("@") else ""
        found = self.npm.get(scope) or self.npm.get("")
        if found is None:
            raise ConfigurationError(
                "no npm registry is configured, and npm is not installed to tell its default",
                "set npm_config_registry for the workers, or install npm",
            )
        return found


def configured(environ: Mapping[str, str] | None = None, root: Path = Path("/")) -> Registries:
    """Read the configuration of uv, pip and npm: environment, then the user's files, then the machine's."""
    env = os.environ if environ is None else environ
    urls = _python(env, root)
    return Registries(tuple(_index(url) for url in urls), _npm(env, root), tuple(urls))


def _home(env: Mapping[str, str]) -> Path:
    return Path(env.get("HOME") or "/nowhere")


def _python(env: Mapping[str, str], root: Path) -> list[str]:
    """Return the addresses of indexes: the extra ones first, then the main one, which is PyPI where none is named.

    Where uv is told of an index, pip's configuration does not count, as with uv itself. A further index that is a
    folder cannot be asked; what only it has is not found, and that is said of each such package.
    """
    for sources in (_uv_sources(env, root), _pip_sources(env, root)):
        first, extra = "", list[str]()
        for main, more in sources:
            first = first or main
            extra += more
        if first or extra:
            return list(dict.fromkeys([*(url for url in extra if url.startswith("http")), first or _pip_default()]))
    return [_pip_default()]


def _pip_default() -> str:
    """Return the index that pip asks when nobody names one; pip knows it best."""
    from pip._internal.models.index import PyPI

    return str(PyPI.simple_url)


def _uv_sources(env: Mapping[str, str], root: Path) -> Iterator[tuple[str, list[str]]]:
    yield (
        env.get("UV_DEFAULT_INDEX") or env.get("UV_INDEX_URL") or "",
        [_bare(one) for one in (env.get("UV_INDEX") or env.get("UV_EXTRA_INDEX_URL") or "").split()],
    )
    for path in (_config(env) / "uv/uv.toml", root / "etc/uv/uv.toml"):
        yield _uv_file(path)


def _pip_sources(env: Mapping[str, str], root: Path) -> Iterator[tuple[str, list[str]]]:
    yield env.get("PIP_INDEX_URL", ""), env.get("PIP_EXTRA_INDEX_URL", "").split()
    named = [Path(env["PIP_CONFIG_FILE"])] if env.get("PIP_CONFIG_FILE") else []
    for path in (*named, _config(env) / "pip/pip.conf", _home(env) / ".pip/pip.conf", root / "etc/pip.conf"):
        yield _pip_file(path)


def _config(env: Mapping[str, str]) -> Path:
    return Path(env.get("XDG_CONFIG_HOME") or _home(env) / ".config")


def _bare(index: str) -> str:
    """Return the address of `name=https://...`."""
    return index if index.startswith("http") else index.partition("=")[2]


def _uv_file(path: Path) -> tuple[str, list[str]]:
    try:
        found = tomllib.loads(read_bytes(path, 1 << 20).decode())
    except (UnreadableError, ValueError):
        return "", []
    indexes = [one for one in found.get("index", []) if isinstance(one, dict)]
    default = next((str(one.get("url", "")) for one in indexes if one.get("default")), "")
    others = [str(one.get("url", "")) for one in indexes if not one.get("default")]
    extra = found.get("extra-index-url", [])
    return default or str(found.get("index-url", "")), [*others, *(extra if isinstance(extra, list) else [])]


def _pip_file(path: Path) -> tuple[str, list[str]]:
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(read_bytes(path, 1 << 20).decode())
    except (UnreadableError, ValueError, configparser.Error):
        return "", []
    option = {
        name: next(
            (parser.get(part, name) for part in ("list", "install", "global") if parser.has_option(part, name)), ""
        )
        for name in ("index-url", "extra-index-url")
    }
    return option["index-url"].strip(), option["extra-index-url"].split()


def _index(url: str) -> Address:
    return address(url, _ACCEPT)


def address(url: str, headers: Mapping[str, str]) -> Address:
    """Return where an address with credentials in it leads, the credentials apart from it."""
    parts = urlsplit(url)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
    if not parts.username:
        return Address(bare, headers)
    user, password = unquote(parts.username), unquote(parts.password or "")
    token = b64encode(f"{user}:{password}".encode()).decode()
    return Address(bare, {**headers, "Authorization": f"Basic {token}"}, password=password)


def _npm(env: Mapping[str, str], root: Path) -> dict[str, Address]:
    options: dict[str, str] = {}
    for path in (root / "etc/npmrc", root / "usr/etc/npmrc", root / "usr/local/etc/npmrc", _home(env) / ".npmrc"):
        options |= _npmrc(path, env)
    given = env.get("npm_config_registry") or env.get("NPM_CONFIG_REGISTRY")
    main = given or options.get("registry") or _npm_default()
    places = {"": main} if main else {}
    places |= {key.partition(":")[0]: url for key, url in options.items() if re.fullmatch(r"@[^:/]+:registry", key)}
    return {scope: _registry(url, options) for scope, url in places.items()}


def _npm_default() -> str:
    """Return the registry that npm asks when nobody names one, empty where npm is not installed."""
    program = shutil.which("npm")
    if program is None:
        return ""
    # Not what a project in this process's folder says, nor what the files say that were read already.
    command = [program, "config", "get", "registry", "--prefix=/"]
    done, out = run(command, env=environment(NPM_CONFIG_USERCONFIG=os.devnull))
    said = out.decode(errors="replace").strip().rstrip("/")
    return said if done.code == 0 and said.startswith("http") else ""


def _npmrc(path: Path, env: Mapping[str, str]) -> dict[str, str]:
    try:
        lines = read_bytes(path, 1 << 20).decode().splitlines()
    except (UnreadableError, ValueError):
        return {}
    pairs = (line.partition("=") for line in lines if line.strip()[:1] not in ("", "#", ";", "["))
    return {
        key.strip(): re.sub(r"\$\{(\w+)\}", lambda found: env.get(found[1], ""), value.strip().strip("\"'"))
        for key, _, value in pairs
    }


def _registry(url: str, options: Mapping[str, Any]) -> Address:
    """Return a registry with the credentials that npm keeps for exactly its address."""
    plain = address(url, {"Accept": "application/json"})
    place = plain.base_url.partition(":")[2] + "/"
    if token := options.get(f"{place}:_authToken"):
        return Address(plain.base_url, {**plain.headers, "Authorization": f"Bearer {token}"}, password=token)
    if pair := options.get(f"{place}:_auth"):
        return Address(plain.base_url, {**plain.headers, "Authorization": f"Basic {pair}"}, password=pair)
    return plain
