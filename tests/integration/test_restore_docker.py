"""Restore tests whose scratch server is a container. The daemon is UPKEEP_TEST_DOCKER, else the usual socket.

Its image is made here, from the lab's PostgreSQL. Without a daemon only that is shown which needs none.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import docker_image
from tests.faults import restore_worker
from tests.integration import physical_world
from tests.integration.backup_world import World, world
from upkeep.adapters import docker_engine, scratch_docker, scratch_place
from upkeep.adapters.docker_engine import LOCAL, Engine, Found
from upkeep.adapters.object_store import FolderStore
from upkeep.adapters.restore_test import Restorer
from upkeep.core.backup import Kept, Manifest
from upkeep.core.errors import ConfigurationError, TransientError
from upkeep.core.model import Severity
from upkeep.core.restore import Options, Tested
from upkeep.core.targets import Smoke
from upkeep.routines.backup import _restore_findings

ADDRESS = os.environ.get("UPKEEP_TEST_DOCKER", LOCAL)
REPOSITORY = f"upkeep-lab/{os.getpid()}"
# As the official image has them: an entrypoint that makes a server of its own, and a volume.
OFFICIAL = ('ENV PATH="/opt/pg/bin:/bin"', 'ENTRYPOINT ["/never/to/be/run"]', "VOLUME /var/lib/postgresql/data")
ROWS = 3000


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world() as made:
        made.store = FolderStore(tmp_path_factory.mktemp("store"))
        made.database(
            "shop",
            "create table big (id int primary key, v text)",
            f"insert into big select i, md5(i::text) from generate_series(1, {ROWS}) as i",
            "create extension pg_trgm",
            "create index on big using gin (v gin_trgm_ops)",
            "select lo_from_bytea(0, 'abc')",
        )
        yield made


@pytest.fixture(scope="module")
def kept(lab: World) -> Kept[Manifest]:
    return lab.backup()


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    try:
        made = Engine(ADDRESS)
    except ConfigurationError as error:
        pytest.skip(f"needs a Docker daemon: {error.message}")
    yield made
    made.close()


@pytest.fixture(scope="module")
def image(engine: Engine) -> Iterator[str]:
    """An image of the lab's PostgreSQL 18, by its name with {major}."""
    with docker_image.import_server(engine._api, 18, REPOSITORY, "official-18", *OFFICIAL) as name:
        yield name.replace("18", "{major}")


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test neither a container of ours nor a folder is there."""
    if "engine" not in request.fixturenames:
        yield
        return
    engine, lab = request.getfixturevalue("engine"), request.getfixturevalue("lab")
    yield
    assert ours(engine, lab) == []
    assert list(lab.scratch.iterdir()) == []


def ours(engine: Engine, lab: World) -> list[Found]:
    """List the containers of this test; others may use the same daemon."""
    return [found for found in engine.ours() if found.folder.parent == lab.scratch]


def test(lab: World, backup_id: str, say: Callable[[str], None] = lambda _: None, **options: Any) -> Tested:
    chosen = Options(**{"programs": str(lab.postgres.bin), "method": "docker", **options})
    address = options.pop("address", ADDRESS)
    return Restorer(lambda _: lab.store, lab.scratch, lambda _: address).test(lab.place, backup_id, chosen, say)


test.__test__ = False  # type: ignore[attr-defined]


def preflight(tested: Tested) -> tuple[str, str]:
    """Return message and hint of the only finding, which says that nothing is known of the backup."""
    assert tested.stopped and not tested.failures
    (finding,) = _restore_findings.of("shop/db", tested, None, 26)
    assert (finding.check, finding.severity) == ("preflight", Severity.UNKNOWN)
    return finding.message, finding.hint


def test_backup_is_proved_in_a_container_that_can_reach_nothing(
    lab: World, kept: Kept[Manifest], engine: Engine, image: str
) -> None:
    """What a local server proves a container proves; it has no network, no rights, and nothing to write to but ours."""
    seen: list[dict[str, Any]] = []

    def say(line: str) -> None:
        if line == "compare ...":
            seen.extend(engine._api.inspect_container(found.id) for found in ours(engine, lab))

    smoke = {"rows": Smoke(sql="select count(*) from big where v % '0'", least=0)}
    tested = test(lab, kept.manifest.id, say, image=image, smoke=smoke, docker_memory=1 << 30)
    assert (tested.failures, tested.corruption, tested.differences, tested.missing) == ((), (), (), ())
    assert tested.ok and tested.rows == kept.manifest.rows and tested.checked == ("amcheck", "fingerprints")
    assert tested.method == "docker" and "official-18" in tested.server_version
    assert tested.server_version.startswith("18.")
    (server,) = seen
    config, host = server["Config"], server["HostConfig"]
    assert config["User"].split(":")[0] not in ("", "0") and config["Entrypoint"] == ["postgres"]
    assert host["NetworkMode"] == "none" and host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"]
    assert host["Memory"] == 1 << 30
    (volume,) = (m["Name"] for m in server["Mounts"] if m["Type"] == "volume")  # the image's own, which goes with it
    assert volume not in {v["Name"] for v in engine._api.volumes()["Volumes"] or ()}
    folder = Path(config["Labels"]["upkeep.folder"])
    open_to_it = {Path(m["Destination"]) for m in server["Mounts"] if m["RW"] and m["Type"] == "bind"}
    assert folder in open_to_it and folder.parent == lab.scratch
    assert all(path.name.startswith("upkeep-socket-") for path in open_to_it - {folder})
    assert server["Config"]["Labels"]["upkeep.scratch"].startswith("restore-shop~shop-dump-")


def test_image_that_only_tells_where_its_programs_lie(
    lab: World, kept: Kept[Manifest], engine: Engine, image: str
) -> None:
    """Programs that are not on the image's PATH are found in its PG_BIN."""
    change = "ENV PG_BIN=/opt/pg/bin"
    with docker_image.import_server(engine._api, 18, REPOSITORY, "plain", change) as name:
        assert test(lab, kept.manifest.id, image=name, amcheck=False).ok


def test_physical_backup_is_started_in_a_container(lab: World, engine: Engine, image: str) -> None:
    """The files of another cluster start in a container, and the image's pg_checksums reads them."""
    with physical_world.cluster(18) as shop:
        kept = shop.backup()
        chosen = Options(method="docker", image=image, programs=shop.programs)
        restorer = Restorer(lambda _: shop.store, shop.scratch, lambda _: ADDRESS)
        tested = restorer.test(shop.place, kept.manifest.id, chosen, lambda _: None)
        assert (tested.failures, tested.corruption, tested.missing) == ((), (), ())
        assert tested.ok and set(tested.checked) == {"amcheck", "checksums"}
        assert list(shop.scratch.iterdir()) == []


@pytest.mark.parametrize("place", ["kept", "lost"])
def test_what_a_killed_worker_leaves_the_next_run_removes(
    lab: World, kept: Kept[Manifest], engine: Engine, image: str, place: str
) -> None:
    """SIGKILL: the container goes on; the next run finds and removes it, its folder there or not, and nothing else."""
    order = {
        "store": str(lab.store.folder), "scratch": str(lab.scratch), "target": lab.target, "id": kept.manifest.id,  # type: ignore[attr-defined]
        "programs": str(lab.postgres.bin), "image": image, "docker": ADDRESS,
    }  # fmt: skip
    options = Options(method="docker", image=image)
    restorer = Restorer(lambda _: lab.store, lab.scratch, lambda _: ADDRESS)
    command = [sys.executable, restore_worker.__file__, json.dumps(order)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert any(line.startswith("restore ...") for line in worker.stdout)
        assert restorer.leftovers(lab.target, options) == ()  # somebody works on it
        worker.kill()
    (found,) = ours(engine, lab)
    assert found.state == "running"
    if place == "lost":
        shutil.rmtree(found.folder)
    others = strangers(engine, lab, image.replace("{major}", "18"))
    try:
        (left,) = restorer.sweep(lab.target, options)
        assert left.name == found.scratch
        assert {c["Id"] for c in engine._api.containers(all=True)} >= set(others)
        assert [one.id for one in ours(engine, lab)] == [others[0]]
    finally:
        for other in others:
            engine.remove(other)
    assert restorer.sweep(lab.target, options) == ()


def strangers(engine: Engine, lab: World, name: str) -> list[str]:
    """Start a container of a worker that lives, and one that is not ours."""
    alive = scratch_docker.labels(lab.scratch / f"{scratch_place.prefix(lab.target)}elsewhere")
    foreign = {docker_engine.SCRATCH: alive[docker_engine.SCRATCH], "upkeep": "no"}
    command = ["postgres", "--version"]
    return [
        engine.start(engine.image(name), command, user="65534:65534", binds={}, labels=labels, memory=1 << 28)
        for labels in (alive, foreign)
    ]


def test_server_killed_in_the_middle_is_no_fault_of_the_backup(
    lab: World, kept: Kept[Manifest], engine: Engine, image: str
) -> None:
    """A container that somebody removes while it is being worked with: the test is tried again, nothing is left."""

    def say(line: str) -> None:
        if line == "compare ...":
            for found in ours(engine, lab):
                engine.remove(found.id)

    with pytest.raises(TransientError):
        test(lab, kept.manifest.id, say, image=image)


def test_missing_image_names_the_command(lab: World, kept: Kept[Manifest], engine: Engine) -> None:
    """An image that is not here is not fetched; the finding names the command."""
    name = f"{REPOSITORY}:absent-{{major}}"
    message, hint = preflight(test(lab, kept.manifest.id, image=name))
    full = name.replace("{major}", "18")
    assert full in message and hint == f"docker pull {full}"


def test_image_of_another_major_or_without_a_server_is_refused(
    lab: World, kept: Kept[Manifest], engine: Engine, image: str
) -> None:
    """An image is asked for its version before anything is restored into it."""
    with docker_image.import_server(engine._api, 17, REPOSITORY, "old", *OFFICIAL) as name:
        message, hint = preflight(test(lab, kept.manifest.id, image=name))
        assert "PostgreSQL 17" in message and "major 18" in message and "{major}" in hint
    with docker_image.import_server(engine._api, 18, REPOSITORY, "empty", "ENV PG_BIN=/nowhere") as name:
        message, hint = preflight(test(lab, kept.manifest.id, image=name))
        assert "cannot be run" in message and "PG_BIN" in hint


def test_daemon_that_does_not_see_the_folder_is_told(engine: Engine, image: str, lab: World) -> None:
    """A folder that only the worker has (it may be a container itself) is refused by the daemon; we say why."""
    here = engine.image(image.replace("{major}", "18"))
    binds = {Path("/folder/of/another/machine"): (Path("/x"), True)}
    with pytest.raises(ConfigurationError, match="does not see the scratch folder") as caught:
        engine.start(here, ["postgres"], user="65534:65534", binds=binds, labels={}, memory=1 << 28)
    assert "UPKEEP_SCRATCH_DIR" in caught.value.hint


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("unix:///nowhere/docker.sock", "no Docker daemon answers"),
        ("tcp://192.0.2.1:2375", "reached over a network"),
    ],
)
def test_daemon_that_is_away_or_elsewhere_leaves_the_backup_unknown(
    lab: World, kept: Kept[Manifest], address: str, words: str
) -> None:
    """No daemon, or one of another machine: nothing is known of the backup, and the finding says what to do."""
    options = Options(method="docker", programs=str(lab.postgres.bin))
    restorer = Restorer(lambda _: lab.store, lab.scratch, lambda _: address)
    assert restorer.sweep(lab.target, options) == ()
    message, hint = preflight(restorer.test(lab.place, kept.manifest.id, options, lambda _: None))
    assert words in message and "the backup was not tested" in message and "`method: local`" in hint


def test_daemon_that_hangs_up_leaves_the_backup_unknown(lab: World, kept: Kept[Manifest], tmp_path: Path) -> None:
    """A socket behind which nobody speaks Docker's language is a daemon that is away."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()

        def hang_up() -> None:
            while True:
                try:
                    listening.accept()[0].close()
                except OSError:
                    return

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        options = Options(method="docker", programs=str(lab.postgres.bin))
        restorer = Restorer(lambda _: lab.store, lab.scratch, lambda _: f"unix://{tmp_path / 's'}")
        message, _ = preflight(restorer.test(lab.place, kept.manifest.id, options, lambda _: None))
        assert "no Docker daemon answers" in message
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def test_owner_is_dead_only_when_that_is_certain() -> None:
    """A process of this machine that is gone is dead; one that lives, or cannot be looked at, may live."""
    boot, space, pid, birth = docker_engine.owner().split("/")
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert docker_engine.lives(f"{boot}/{space}/{pid}/{birth}")
    assert not docker_engine.lives(f"{boot}/{space}/{pid}/{float(birth) - 5}")  # its number, another process
    assert not docker_engine.lives(f"{boot}/{space}/{gone.pid}/{birth}")
    assert not docker_engine.lives(f"an-earlier-boot/{space}/{pid}/{birth}")
    assert docker_engine.lives(f"{boot}/1/{pid}/{birth}")  # a process of another container
    for nonsense in ("", "/", f"{boot}/{space}/x/y"):
        assert docker_engine.lives(nonsense)
