"""Full or incremental, the tar stream read in passing, frames in a row."""

from __future__ import annotations

import io
import random
import tarfile
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upkeep.adapters.physical_pg import NO_PARENT, damaged_pages, read_server_manifest
from upkeep.adapters.physical_tar import TarWalk
from upkeep.adapters.physical_zstd import Codec, Gzip, best
from upkeep.core.backup import PhysicalManifest, Source
from upkeep.core.errors import DamagedError
from upkeep.core.model import Severity
from upkeep.core.physical import DAMAGED, Cluster, Decision, Frequency, decide

NOW = datetime(2026, 11, 21, 2, tzinfo=UTC)
WEEKLY = Frequency(days=7, incrementals=6)


def source(**changes: Any) -> Source:
    fields = {
        "system_identifier": "1", "version": "18.1", "version_num": 180001, "database": "d", "in_recovery": False,
        "lsn": "0/0", "snapshot_time": NOW, "encoding": "UTF8", "lc_collate": "C", "lc_ctype": "C",
        "collation_version": None, "collation_version_now": None, "size_bytes": 1, "extensions": {},
    }  # fmt: skip
    return Source.model_validate(fields | changes)


def manifest(number: int, **changes: Any) -> PhysicalManifest:
    """A backup taken `number` days ago."""
    begun = NOW - timedelta(days=number)
    fields = {
        "id": f"{begun:%Y%m%dT%H%M%SZ}-00000000", "target": "a/b", "run_id": "r", "started": begun, "finished": begun,
        "tools": {}, "settings": {}, "files": (), "source": source(), "timeline": 1, "start_lsn": "0/0",
        "end_lsn": "0/0", "checksums": True,
    }  # fmt: skip
    return PhysicalManifest.model_validate(fields | changes)


def asked(chain: list[PhysicalManifest], broken: str = "", tier: Any = "daily", **changes: Any) -> Decision:
    facts = {"timeline": 1, "checksums": True, "summarizes": True, "slots_free": 1, "page_failures": 0}
    server = {k: changes.pop(k) for k in ("version_num", "system_identifier") if k in changes}
    cluster = Cluster(source=source(**server), **{**facts, **changes})
    return decide(cluster, chain, broken, WEEKLY, tier=tier, now=NOW)


def test_it_is_incremental_to_the_newest_when_everything_fits() -> None:
    """One full backup of yesterday: the next names it as its parent and there is nothing to tell."""
    yesterday = manifest(1)
    decision = asked([yesterday])
    assert (decision.parent, decision.severity) == (yesterday.id, Severity.OK)


@pytest.mark.parametrize(
    ("chain", "changes", "severity", "said"),
    [
        ([], {}, Severity.OK, "first"),
        ([manifest(1)], {"version_num": 160004}, Severity.OK, "from version 17"),
        ([manifest(1)], {"tier": "quarterly"}, Severity.OK, "wanted"),
        ([manifest(7)], {}, Severity.OK, "7.0 days old"),
        ([manifest(n, parent=manifest(n + 1).id) for n in range(6)] + [manifest(6)], {}, Severity.OK, "6 incremental"),
        ([manifest(1, settings={DAMAGED: ["base/1/1 block 0"]})], {}, Severity.OK, "damaged pages"),
        ([manifest(1)], {"summarizes": False}, Severity.INFO, "summarize_wal is off"),
        ([manifest(1, parent=manifest(2).id), manifest(2)], {"summarizes": False}, Severity.WARNING, "summarize_wal"),
        ([manifest(1)], {"timeline": 2}, Severity.INFO, "timeline"),
        ([manifest(1)], {"system_identifier": "2"}, Severity.WARNING, "cluster 1, this is cluster 2"),
        ([], {"broken": "it is damaged"}, Severity.WARNING, "damaged"),
    ],
)
def test_whatever_does_not_fit_makes_it_full_and_says_why(
    chain: list[PhysicalManifest], changes: dict[str, Any], severity: Severity, said: str
) -> None:
    """Nothing is ever built upon another cluster, another timeline, a broken or an old chain."""
    decision = asked(chain, **changes)
    assert (decision.parent, decision.severity) == (None, severity)
    assert said in decision.reason
    assert decision.hint or severity == Severity.OK


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5000), max_size=12), st.integers(1, 3000), st.integers(0, 11))
def test_what_lies_in_a_tar_stream_is_found_whatever_the_blocks(sizes: list[int], step: int, place: int) -> None:
    """Headers and contents may be cut anywhere."""
    out, dice = io.BytesIO(), random.Random(1)
    wanted = dice.randbytes(1234)
    members = [(f"f{n}", dice.randbytes(size)) for n, size in enumerate(sizes)]
    members.insert(min(place, len(members)), ("backup_manifest", wanted))
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    walk, data = TarWalk(), out.getvalue()
    kept = {name: bytearray() for name, _ in members}
    for at in range(0, len(data), step):
        for segment in walk.feed(data[at : at + step]):
            assert segment.offset == len(kept[segment.member.name])
            kept[segment.member.name] += segment.data
    assert (kept, walk.files, walk.ended) == (dict(members), len(members), True)


@pytest.mark.parametrize("codec", [best(), Gzip()], ids=lambda c: c.suffix)
def test_frames_in_a_row_decode_and_damage_is_noticed(codec: Codec) -> None:
    """Cut anywhere they decode to what went in; cut short or altered they never do so silently."""
    dice = random.Random(2)
    parts = [b"x" * 3_000_000, dice.randbytes(70_000), b"y"]
    data = b"".join(codec.compress(part, 3) for part in parts)
    for step in (1000, len(data)):
        blocks = (data[at : at + step] for at in range(0, len(data), step))
        assert b"".join(bytes(part()) for part in codec.parts(blocks)) == b"".join(parts)
    with pytest.raises(DamagedError):
        b"".join(bytes(part()) for part in codec.parts(iter([data[:-3]])))
    altered = bytearray(data)
    altered[len(data) // 2] ^= 4
    with pytest.raises(DamagedError):
        b"".join(bytes(part()) for part in codec.parts(iter([bytes(altered)])))


def test_the_words_of_the_server_are_understood() -> None:
    """Damaged pages by file and block; why nothing incremental is possible; where the WAL begins and ends."""
    line = 'WARNING:  checksum verification failed in file "./base/5/1", block 3: calculated EF08 but expected 4D4A'
    assert damaged_pages([line, "WARNING:  2 total checksum verification failures"]) == ["base/5/1 block 3"]
    assert NO_PARENT.search("ERROR:  WAL summaries are required on timeline 1 from 0/1 to 0/2, but ...")
    assert not NO_PARENT.search("FATAL:  password authentication failed")
    text = b'{"Files": [{}], "WAL-Ranges": [{"Timeline": 2, "Start-LSN": "0/3", "End-LSN": "0/4"}]}'
    assert read_server_manifest(text) == (2, "0/3", "0/4", 1)
    with pytest.raises(DamagedError):
        read_server_manifest(b"{}")
