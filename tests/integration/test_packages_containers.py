"""An image's packages are read from the stream of its files; nothing of it runs, and nothing is unpacked."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from upkeep.adapters.docker_engine import LOCAL
from upkeep.adapters.packages_containers import LABEL, list_image, read_tar
from upkeep.core.audit import Listed

DEBIAN_12 = 'ID=debian\nVERSION_ID="12"\n'
SITE = "usr/lib/python3.12/site-packages"
DEBIAN = {
    "usr/lib/os-release": DEBIAN_12,
    "var/lib/dpkg/status": "Package: bash\nStatus: install ok installed\nVersion: 5.2-2+b7\nSource: bash (5.2-2)\n",
    f"{SITE}/requests-2.19.0.dist-info/METADATA": "Metadata-Version: 2\nName: requests\nVersion: 2.19.0\n\nName: no\n",
    f"{SITE}/requests-2.19.0.dist-info/REQUESTED": "",
    f"{SITE}/Zope_Interface.egg-info/PKG-INFO": "Name: Zope.Interface\nVersion: 5.0\n",
    "root/.cache/uv/archive/x/old-1.0.dist-info/METADATA": "Name: old\nVersion: 1.0\n",
    "srv/web/package-lock.json": json.dumps(
        {
            "lockfileVersion": 3,
            "packages": {"": {"dependencies": {"lodash": "4"}}, "node_modules/lodash": {"version": "4.17.11"}},
        }
    ),
    "srv/web/node_modules/x/package-lock.json": "broken, and nobody's concern",
}


def entry(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "") -> tarfile.TarInfo:
    """Return the header of a file."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info


def packed(files: dict[str, str | bytes], *others: tarfile.TarInfo, prefix: str = "") -> bytes:
    """Return files as a tar, with other entries before them."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for other in others:
            tar.addfile(other)
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            tar.addfile(entry(prefix + name, size=len(data)), io.BytesIO(data))
    return out.getvalue()


def read(tar: bytes, size: int = 700, **limits: Any) -> Listed:
    """Read a tar in chunks of an odd size."""
    return read_tar((tar[at : at + size] for at in range(0, len(tar), size)), "shop:1", **limits)


def found(listed: Listed) -> set[tuple[str, str, str, bool | None]]:
    """Return what was listed, without the places."""
    return {(p.ecosystem, p.name, p.version, p.direct) for p in listed.packages}


EXPECTED = {
    ("Debian:12", "bash", "5.2-2+b7", None),
    ("PyPI", "requests", "2.19.0", True),
    ("PyPI", "zope-interface", "5.0", False),
    ("npm", "lodash", "4.17.11", True),
}


@pytest.mark.parametrize("prefix", ["", "./", "/"])
def test_every_kind_of_package_is_listed(prefix: str) -> None:
    """Debian, Python and npm packages, with their places; not those of a cache or of a package's own tests."""
    listed = read(packed(DEBIAN, entry("etc/os-release", tarfile.SYMTYPE, link="../usr/lib/os-release"), prefix=prefix))
    assert found(listed) == EXPECTED
    assert not listed.unlisted
    assert {p.where for p in listed.packages} >= {
        "shop:1:/var/lib/dpkg/status",
        "shop:1:/srv/web/package-lock.json:node_modules/lodash",
    }


def test_node_packages_without_a_lock_of_the_project() -> None:
    """What npm has left among the installed packages counts; without that, it is told that nobody knows them."""
    left = json.dumps({"lockfileVersion": 3, "packages": {"node_modules/minimist": {"version": "0.0.8"}}})
    files: dict[str, str | bytes] = {
        **DEBIAN,
        "app/node_modules/.package-lock.json": left,
        "app/node_modules/minimist/package.json": "{}",
        "app/node_modules/minimist/node_modules/x/package.json": "{}",
        "srv/web/node_modules/lodash/package.json": "{}",
        "srv/pnpm/node_modules/.pnpm/a@1/node_modules/a/package.json": "{}",
        "usr/local/lib/node_modules/npm/package.json": "{}",
        f"{SITE}/notebook/node_modules/x/package.json": "{}",
    }
    listed = read(packed(files))
    assert found(listed) == EXPECTED | {("npm", "minimist", "0.0.8", None)}
    (one,) = listed.unlisted
    assert one.where == "image shop:1:/srv/pnpm" and "no lock tells" in one.reason


def test_distroless_and_alpine() -> None:
    """One file for each package, or Alpine's single one."""
    one = "var/lib/dpkg/status.d/base"
    parts = {one: "Package: base-files\nVersion: 12.4\n", f"{one}.md5sums": "x", "etc/os-release": DEBIAN_12}
    assert found(read(packed(parts))) == {("Debian:12", "base-files", "12.4", None)}
    apk = {"etc/os-release": "ID=alpine\nVERSION_ID=3.20.1", "lib/apk/db/installed": "P:musl\nV:1.2.5-r0\n"}
    assert found(read(packed(apk))) == {("Alpine:v3.20", "musl", "1.2.5-r0", None)}


def test_hard_links_are_followed_within_the_image() -> None:
    """uv links installed files to those of its cache."""
    cached = {"root/.cache/uv/requests-2.19.0.dist-info/METADATA": "Name: requests\nVersion: 2.19.0\n"}
    out = io.BytesIO(packed(cached))
    with tarfile.open(fileobj=out, mode="a") as tar:
        tar.addfile(entry(f"{SITE}/requests-2.19.0.dist-info/METADATA", tarfile.LNKTYPE, link=next(iter(cached))))
    assert found(read(out.getvalue())) == {("PyPI", "requests", "2.19.0", None)}


def test_hostile_names_links_and_sizes() -> None:
    """Nothing outside is read or written, nothing hostile is shown, and the rest is listed."""
    name = f"{SITE}/\x1b[2J<b>.dist-info/METADATA"
    files: dict[str, str | bytes] = {
        name: "Name: <script>\nVersion: 1\n", "../../etc/x.dist-info/METADATA": "Name: a\nVersion: not one\n",
        "a/package-lock.json": b'{"lockfileVersion": 1, "dependencies":' * 9000, **DEBIAN,
    }  # fmt: skip
    links = (
        entry("d/passwd.dist-info/METADATA", tarfile.SYMTYPE, link="/etc/passwd"),
        entry("x.egg-info", tarfile.CHRTYPE),
        entry("y.egg-info", tarfile.LNKTYPE, link="/etc/shadow"),
    )
    listed = read(packed(files, *links))
    assert found(listed) == EXPECTED
    assert len(listed.unlisted) == 6
    assert all((u.where + u.reason).isprintable() for u in listed.unlisted)


def test_a_file_that_is_too_large_is_told() -> None:
    """Its content is passed over, what follows is read."""
    head = entry("var/lib/dpkg/status", size=33 << 20).tobuf() + bytes(33 << 20)
    listed = read(head + packed({"x.dist-info/METADATA": "Name: a\nVersion: 1\n"}), 1 << 20)
    assert found(listed) == {("PyPI", "a", "1", None)}
    assert "too large" in listed.unlisted[0].reason


@pytest.mark.parametrize("cut", [300, 512 * 3 + 10])
def test_a_stream_that_ends_early_is_told(cut: int) -> None:
    """Half an image is not a clean one."""
    assert any("end early" in one.reason for one in read(packed(DEBIAN)[:cut]).unlisted)


def test_a_stream_without_end_ends() -> None:
    """At the limit of bytes, and no header of any size is taken into memory."""

    def endless() -> Iterator[bytes]:
        while True:
            yield packed({"x": "y"})[:1024]

    assert any("larger than" in one.reason for one in read_tar(endless(), "x", limit=1 << 20).unlisted)
    huge = entry("x", tarfile.XHDTYPE, size=7 << 30).tobuf()
    assert any("header of" in one.reason for one in read(huge + bytes(2048)).unlisted)
    assert read(b"<html>garbage" * 500).unlisted


@pytest.mark.parametrize("files", [{}, {"bin/server": "x"}, {"usr/lib/sysimage/rpm/rpmdb.sqlite": "x"}])
def test_an_image_without_a_known_list_is_unknown(files: dict[str, str | bytes]) -> None:
    """What a lone program was built from nobody can tell from outside."""
    listed = read(packed(files))
    assert not listed.packages and len(listed.unlisted) == 1


def test_without_a_daemon_it_is_unlisted(tmp_path: Path) -> None:
    """The reason names the address."""
    listed = list_image("shop:1", f"unix://{tmp_path}/none.sock")
    assert "no Docker daemon answers" in listed.unlisted[0].reason and not listed.packages


@pytest.fixture
def api() -> Iterator[Any]:
    """A real daemon, where there is one (`UPKEEP_TEST_DOCKER` may name its address)."""
    import docker  # type: ignore[import-untyped]

    try:
        client = docker.APIClient(base_url=os.environ.get("UPKEEP_TEST_DOCKER", LOCAL), version="auto", timeout=30)
    except docker.errors.DockerException:
        pytest.skip("no Docker daemon here")
    yield client
    client.close()


@pytest.fixture
def image(api: Any) -> Iterator[str]:
    """An image FROM scratch whose program would say that it had run."""
    name = f"upkeep-listing-{uuid.uuid4().hex[:8]}:1"
    repository, tag = name.split(":")
    api.import_image_from_data(packed(DEBIAN), repository=repository, tag=tag, changes=["VOLUME /data", 'CMD ["/x"]'])
    yield name
    api.remove_image(name, force=True)


def test_a_real_image(api: Any, image: str) -> None:
    """Its packages are those of its files; no container and no volume is left, not even of a maker that died."""
    before = api.volumes()["Volumes"]
    host = api.create_host_config()
    api.create_container(image, ["x"], labels={LABEL: "gone/0/1/0.00"}, host_config=host)
    listed = list_image(image, os.environ.get("UPKEEP_TEST_DOCKER", LOCAL))
    assert found(listed) == EXPECTED and not listed.unlisted
    assert not [c for c in api.containers(all=True) if image in c["Image"]]
    assert len(api.volumes()["Volumes"] or ()) == len(before or ())


def test_an_image_that_is_not_here_and_one_that_takes_too_long(api: Any, image: str) -> None:
    """Nothing is pulled; what takes too long is told, and its container removed as well."""
    address = os.environ.get("UPKEEP_TEST_DOCKER", LOCAL)
    started = time.monotonic()
    (one,) = list_image("no-such-image:1", address).unlisted
    assert one.hint == "docker pull no-such-image:1" and time.monotonic() - started < 5
    assert any("longer than" in u.reason for u in list_image(image, address, seconds=0).unlisted)
    assert not [c for c in api.containers(all=True) if image in c["Image"]]
