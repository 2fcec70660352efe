"""Reading advisories in OSV's format, deciding by them, and scoring CVSS vectors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tests.integration.advisory_server import DATA
from upkeep.adapters._package_text import UnreadableError
from upkeep.adapters.advisories import _groups, _rated
from upkeep.adapters.advisories_answer import Hit
from upkeep.adapters.advisories_cvss import rating_named, rating_of, score
from upkeep.adapters.advisories_osv import Decision, decide, looked_up_as, read
from upkeep.core.audit import Listed, Package, Rating, Unlisted, Verdict, Vulnerability, verdict_of


@pytest.mark.parametrize(
    ("vector", "expected"),
    [
        # Published beside the vectors: NVD, and the examples of the specification (first.org/cvss/examples).
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 9.8),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N", 7.5),
        ("CVSS:3.1/AV:N/AC:H/PR:N/UI:R/S:C/C:H/I:N/A:N", 6.1),
        ("CVSS:3.1/AV:N/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:N", 8.1),
        ("CVSS:3.1/AV:A/AC:H/PR:H/UI:N/S:U/C:H/I:N/A:N", 4.2),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:H/A:H", 9.1),
        ("CVSS:3.1/AV:N/AC:H/PR:N/UI:N/S:U/C:L/I:L/A:L", 5.6),
        ("CVSS:3.0/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1),
        ("CVSS:3.0/AV:N/AC:L/PR:L/UI:N/S:C/C:L/I:L/A:N", 6.4),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H", 10.0),
        ("CVSS:3.1/AV:P/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 6.8),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N", 0.0),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H/E:P/RL:O", 9.8),
    ],
)
def test_cvss_v3(vector: str, expected: float) -> None:
    """The base score follows the published formula; temporal metrics do not change it."""
    assert score(vector) == expected


@pytest.mark.parametrize(
    "vector",
    ["", "AV:N/AC:L/Au:N/C:P/I:P/A:P", "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N",
     "CVSS:3.1/AV:N", "CVSS:3.1/AV:X/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
     "CVSS:3.1/AV:N/AV:L/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"],
)  # fmt: skip
def test_other_vectors_have_no_score(vector: str) -> None:
    """A vector of another version, or one that is not whole, gives nothing: no guess."""
    assert score(vector) is None


def test_bands() -> None:
    """Scores fall into the bands of the specification; a word that says nothing is unknown."""
    assert [rating_of(s) for s in (9.0, 8.9, 7.0, 6.9, 4.0, 3.9, 0.1)] == [
        Rating.CRITICAL, Rating.HIGH, Rating.HIGH, Rating.MEDIUM, Rating.MEDIUM, Rating.LOW, Rating.LOW,
    ]  # fmt: skip
    assert rating_named("MODERATE") is Rating.MEDIUM
    assert rating_named("not yet assigned") is Rating.UNKNOWN


def advisory(*affected: dict[str, Any], **more: Any) -> dict[str, Any]:
    parts = [{"package": {"ecosystem": "PyPI", "name": "Some_Thing"}, **part} for part in affected]
    return {"id": "PYSEC-2026-1", "modified": "2026-01-01T00:00:00Z", "affected": parts, **more}


def span(*events: tuple[str, str], kind: str = "ECOSYSTEM") -> dict[str, Any]:
    return {"type": kind, "events": [{name: version} for name, version in events]}


def decided(document: dict[str, Any], version: str) -> Decision:
    return decide(read(document), "PyPI", "some-thing", version)


@pytest.mark.parametrize(
    ("events", "version", "expected", "fixed"),
    [
        ([("introduced", "0"), ("fixed", "2.0")], "1.9", "yes", "2.0"),
        ([("introduced", "0"), ("fixed", "2.0")], "2.0", "no", ""),
        ([("introduced", "0"), ("fixed", "2.0")], "2.0rc1", "yes", "2.0"),
        ([("introduced", "1.0"), ("fixed", "2.0")], "0.9", "no", ""),
        ([("introduced", "0"), ("last_affected", "2.0")], "2.0", "yes", ""),
        ([("introduced", "0"), ("last_affected", "2.0")], "2.0.1", "no", ""),
        ([("introduced", "0")], "99", "yes", ""),
        # Given in any order; two spans that touch: the version where they do is affected.
        ([("introduced", "2.0"), ("fixed", "2.5"), ("introduced", "0"), ("fixed", "1.5")], "1.2", "yes", "1.5"),
        ([("introduced", "2.0"), ("fixed", "2.5"), ("introduced", "0"), ("fixed", "1.5")], "1.7", "no", ""),
        ([("introduced", "0"), ("fixed", "2.0"), ("introduced", "2.0"), ("fixed", "2.5")], "2.0", "yes", "2.5"),
        ([("introduced", "2.0"), ("fixed", "2.5"), ("introduced", "0"), ("fixed", "2.0")], "1.0", "yes", "2.5"),
        ([("introduced", "0"), ("fixed", "2.0"), ("limit", "1.5")], "1.7", "no", ""),
        ([("introduced", "0"), ("fixed", "0")], "1.0", "no", ""),
        ([("introduced", "2.0"), ("fixed", "2.0")], "2.1", "no", ""),
        ([("introduced", "2.0"), ("last_affected", "2.0")], "2.0", "yes", ""),
        ([("introduced", "2.0"), ("last_affected", "2.0")], "2.1", "no", ""),
        # A post release and a local version come after the fix.
        ([("introduced", "0"), ("fixed", "2.0")], "2.0.post1", "no", ""),
        ([("introduced", "0"), ("fixed", "2.0")], "2.0+local", "no", ""),
    ],
)
def test_ranges(events: list[tuple[str, str]], version: str, expected: str, fixed: str) -> None:
    """Events mean what the format's evaluation algorithm says, and the fix is the smallest above that ends it."""
    found = decided(advisory({"ranges": [span(*events)]}), version)
    assert (found.applies, found.fixed) == (expected, fixed)


def test_versions_are_equal_by_the_rules_of_the_ecosystem() -> None:
    """3.2.0 is the 3.2 of a list; names are compared as PyPI does; other packages are not meant."""
    document = advisory({"versions": ["3.2", "4.0rc1", "not a version"]})
    assert decided(document, "3.2.0").applies == "yes"
    assert decided(document, "4.0").applies == "no"
    assert decide(read(document), "PyPI", "other", "3.2").applies == "no"
    assert decide(read(document), "npm", "some-thing", "3.2").applies == "no"


def test_git_ranges_and_odd_versions_are_unclear() -> None:
    """An advisory that names only commits decides nothing; one with versions that cannot be compared is not a no."""
    only_commits = advisory({"ranges": [span(("introduced", "0"), ("fixed", "abc"), kind="GIT")]})
    assert decided(only_commits, "1.0").why.startswith("it names commits")
    beside = advisory({"ranges": [span(("introduced", "0"), kind="GIT"), span(("introduced", "0"), ("fixed", "2"))]})
    assert decided(beside, "1.0").applies == "yes"
    odd = advisory({"ranges": [span(("introduced", "0"), ("fixed", "two"))]})
    assert decided(odd, "1.0").applies == "unclear"


def test_a_package_without_versions_is_unclear() -> None:
    """An advisory that names a package and nothing else does not say that no version is affected."""
    assert decided(advisory({}), "1.0") == Decision("unclear", why="it names no version and no range")


def test_severity_of_one_package_and_in_a_word() -> None:
    """A vector may stand beside the package that it is for; Ubuntu writes a word where others write a vector."""
    package = Package(ecosystem="PyPI", name="some-thing", version="1.0", where="r.txt:1")
    vector = {"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}
    low = {"type": "Ubuntu", "score": "low"}
    for document, expected in (
        (advisory({"versions": ["1.0"], "severity": [vector]}), (Rating.CRITICAL, 9.8)),
        (advisory({"versions": ["1.0"]}, severity=[low]), (Rating.LOW, None)),
        (advisory({"versions": ["1.0"], "severity": [low]}, severity=[vector]), (Rating.CRITICAL, 9.8)),
    ):
        assert _rated([Hit("PYSEC-2026-1", read(document))], package)[:2] == expected


def test_an_odd_range_hides_no_other() -> None:
    """Where one range cannot be compared and another one shows that it applies, it applies."""
    odd, good = span(("introduced", "0"), ("fixed", "two")), span(("introduced", "0"), ("fixed", "3.0"))
    for ranges in ([odd, good], [good, odd]):
        assert decided(advisory({"ranges": ranges}), "1.0").applies == "yes"
    in_list = advisory({"ranges": [odd], "versions": ["1.0"]})
    assert decided(in_list, "1.0") == Decision("yes")
    still = advisory({"ranges": [good], "versions": ["1.0", "3.0"]})
    assert decided(still, "1.0") == Decision("yes")  # 3.0 is named as affected, too: it is no fix


@pytest.mark.parametrize(
    "part", [{"versions": ["1.9.0"]}, {"ranges": [span(("introduced", "0"), ("last_affected", "1.9.0"))]}]
)
def test_a_build_has_the_faults_of_its_version(part: dict[str, Any]) -> None:
    """1.9.0+cu118 is 1.9.0 built in another way, though PEP 440 orders it after that."""
    package = Package(ecosystem="PyPI", name="some-thing", version="1.9.0+cu118", where="r.txt:1")
    assert decide(read(advisory(part)), *looked_up_as(package)).applies == "yes"


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6), st.integers(0, 99))
def test_ranges_agree_with_specifiers(numbers: list[tuple[int, int]], at: int) -> None:
    """Spans that do not overlap decide as `>=introduced,<fixed` of the packaging library does, in any order."""
    points = sorted({10 * a + b for a, b in numbers})
    spans = list(zip(points[::2], points[1::2], strict=False))
    events = [e for a, b in reversed(spans) for e in (("introduced", f"1.{a}"), ("fixed", f"1.{b}"))]
    expected = any(Version(f"1.{at}") in SpecifierSet(f">=1.{a},<1.{b}") for a, b in spans)
    if events:
        assert (decided(advisory({"ranges": [span(*events)]}), f"1.{at}").applies == "yes") is expected


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ([], "holds a list"),
        ({"id": "X-1", "modified": "2026-01-01T00:00:00Z"}, "no `affected`"),
        ({"id": "X-1", "modified": "2026-01-01T00:00:00Z", "affects": {}}, "a draft of the format"),
        (advisory({}, schema_version="2.0.0"), "expected 1.x"),
        (advisory({}, id="../../etc/passwd"), "`id`"),
        (advisory({}, modified="yesterday"), "`modified`"),
        (advisory({}, modified=None), "`modified`"),
        (advisory({"ranges": "all"}), "`affected.0.ranges`"),
        (advisory({"versions": [1.1]}), "`affected.0.versions.0`"),
        (advisory({}, aliases=[{"a": 1}]), "`aliases.0`"),
        ({"id": "X-1", "modified": "2026-01-01T00:00:00Z", "affected": ["django"]}, "`affected.0`"),
        (advisory({"ranges": [span(("fixed", "1.0"))]}), "it has no `introduced`"),
        (advisory({"ranges": [span()]}), "it has no `introduced`"),
    ],
)
def test_what_is_no_advisory_is_named(document: Any, reason: str) -> None:
    """A document that is no advisory is refused with the place at fault, never read as one about nothing."""
    with pytest.raises(UnreadableError, match=reason.replace("(", r"\(")):
        read(document)


def test_every_advisory_of_the_tests_is_read() -> None:
    """The advisories that tests use are whole, and withdrawn ones are known as such."""
    for path in DATA.glob("*.json"):
        assert read(json.loads(path.read_text())).id == path.stem
    assert read({"id": "X-1", "modified": "2026-01-01T00:00:00Z", "withdrawn": "2026-02-01T00:00:00Z"}).withdrawn


def test_names_join_groups() -> None:
    """A third name that joins two groups makes one vulnerability of them."""
    documents = [("PYSEC-2026-1", ["CVE-2026-1"]), ("GHSA-aaaa", ["CVE-2026-2"]), ("X-9", ["CVE-2026-1", "CVE-2026-2"])]
    hits = [("a", Hit(i, read(advisory({}, id=i, aliases=names)))) for i, names in documents]
    assert [len(group) for group in _groups(hits[:2])] == [1, 1]
    assert [len(group) for group in _groups(hits)] == [3]


PACKAGE = Package(ecosystem="PyPI", name="django", version="3.2", where="requirements.txt:1")
TROUBLE = Unlisted(where="x", reason="y", hint="z")


@pytest.mark.parametrize(
    ("listed", "found", "problems", "unanswered", "expected"),
    [
        (Listed(packages=(PACKAGE,)), (), (), (), Verdict.CLEAN),
        (Listed(packages=(PACKAGE,)), (), (TROUBLE,), (), Verdict.PARTIAL),
        (Listed(packages=(PACKAGE,), unlisted=(TROUBLE,)), (), (), (), Verdict.PARTIAL),
        (Listed(packages=(PACKAGE,)), (), (TROUBLE,), (PACKAGE,), Verdict.UNKNOWN),
        (Listed(packages=(PACKAGE,)), (), (), (PACKAGE,), Verdict.UNKNOWN),
        (Listed(), (), (), (), Verdict.UNKNOWN),
        (Listed(unlisted=(TROUBLE,)), (), (), (), Verdict.UNKNOWN),
        (
            Listed(packages=(PACKAGE,), unlisted=(TROUBLE,)),
            (Vulnerability(package=PACKAGE, id="CVE-1"),),
            (TROUBLE,),
            (PACKAGE,),
            Verdict.VULNERABLE,
        ),
    ],
)
def test_verdict(listed: Listed, found: Any, problems: Any, unanswered: Any, expected: Verdict) -> None:
    """CLEAN needs packages, an answer for each of them, and no trouble anywhere."""
    assert verdict_of(listed, found, problems, unanswered, listed.packages) is expected
