"""The HTML page of a report: what stands where, and what must never happen."""

from __future__ import annotations

import itertools
import re
from datetime import timedelta
from html.parser import HTMLParser

import pytest

from tests.unit import report_samples as samples
from upkeep.core.model import Severity
from upkeep.ledger import events as ev
from upkeep.ledger.verdict import Verdict, judge_run
from upkeep.report import Extras, build

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """What a browser would see: elements, attributes, text and what the headings say, checked for balance."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.headings: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)
        for tag in self.open[-1:]:
            if tag in ("h1", "h2", "h3", "h4", "h5"):
                self.headings.append((tag, data.strip()))

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def troubled() -> Page:
    return Page(samples.troubled().html)


def test_the_verdict_comes_first_in_words(troubled: Page):
    """Whoever is paged reads how bad it is before anything else."""
    words = troubled.text
    assert troubled.headings[0][0] == "h1"
    assert "Critical: 4 things need a human now" in words
    order = ["Critical: 4 things", "Needs a human", "Who was told", "Systems at a glance", "This run"]
    assert sorted(order, key=words.index) == order


def test_what_needs_a_human_is_ordered_by_severity(troubled: Page):
    """Critical comes before unknown, unknown before a warning, and notes need nobody."""
    urgent = troubled.text.split("Needs a human")[1].split("Who was told")[0]
    order = [
        "no result of backup.postgres",
        "password of role upkeep",
        "sessions of other users",
        "answers slowly",
        "1 note",
    ]
    assert sorted(order, key=urgent.index) == order


def test_a_finding_tells_target_limit_age_and_cure(troubled: Page):
    """Everything that is needed to act stands beside the finding."""
    about = troubled.text.split("sequence public.claim_id_seq")[1].split("critical")[0]
    for part in ("claims/db", "96 %", "limit 90 %", "for 3 d, seen 4 times", "What to do", "bigint"):
        assert part in about


def test_a_subject_is_named_when_the_message_does_not(troubled: Page):
    """`answers slowly` is of no use without the endpoint."""
    assert re.search(r"answers slowly.{0,80}claims/api predict", troubled.text)


def test_links_lead_to_places_on_the_page(troubled: Page):
    """Every link is a fragment, and its target is there, once."""
    places = [value for _, name, value in troubled.attributes if name == "id"]
    links = [value for tag, name, value in troubled.attributes if tag == "a" and name == "href"]
    assert links and all(link.startswith("#") for link in links)
    assert {link[1:] for link in links} <= set(places)
    assert len(places) == len(set(places))


def test_the_page_loads_nothing():
    """No script, no address of anything else: it can be mailed, archived and read without a network."""
    html = samples.troubled().html
    page = Page(html)
    assert not page.tags & {"script", "img", "iframe", "object", "embed", "form", "base"}
    assert not re.search(r"url\(|@import|https?://", html.split("<body>")[0])
    loading = [
        v
        for tag, name, v in page.attributes
        if name in ("src", "srcset", "xlink:href") or (tag == "link" and name == "href")
    ]
    assert loading == ["data:,"]


def test_a_missing_result_is_shown_and_critical(troubled: Page):
    """A worker that died leaves a hole, and the hole is visible in the list and in its system."""
    assert "try 1 began and never ended" in troubled.text
    molecular = troubled.text.split("Molecular Data Platform")[2]
    assert "no result" in molecular and "never closed" in molecular


def test_a_skip_tells_its_reason_and_is_not_good(troubled: Page):
    """What was not looked at has no tick."""
    assert "outside the maintenance window 22:00 to 05:00" in troubled.text
    assert "a replica is backed up at its primary" in troubled.text
    glance = troubled.text.split("Systems at a glance")[1].split("Systems ")[0]
    assert "i backup skipped" in glance


@pytest.mark.parametrize("severity", [Severity.UNKNOWN, Severity.WARNING, Severity.CRITICAL])
def test_trouble_is_never_green(severity: Severity):
    """A single finding takes the tick away from headline, system and area."""
    found = samples.finding("check", "part", severity, "something", hint="do something")
    events = [
        samples.opened(),
        samples.expected(("database.health", "claims/db")),
        *samples.health("claims", findings=(found,)),
    ]
    html = samples.report_of(events).html
    assert f'class="verdict {severity}"' in html
    assert "All well" not in html and "✓" not in Page(html).text


def test_a_ledger_that_is_away_is_said_and_not_green():
    """Without the ledger everything that is known is shown, and what is not known is called unknown."""
    extras = Extras(now=samples.START + timedelta(seconds=95), ledger_away='connection to "db" refused')
    html = samples.report_of(samples.quiet_events(), extras).html
    page = Page(html)
    assert 'class="verdict unknown"' in html and "All well" not in page.text
    assert 'connection to "db" refused' in page.text and "The ledger was away" in page.text
    assert "Database health" in page.text and "what is in the catalogue is unknown" in page.text
    assert "<svg" not in html


def test_records_that_were_set_aside_are_a_warning():
    """What the ledger does not hold must not go unnoticed."""
    html = samples.report_of(samples.quiet_events(), samples.troubled_extras(rejected=2)).html
    assert 'class="verdict warning"' in html and "2 records of this worker" in html


def test_a_quiet_run_is_green_and_short():
    """Nothing to do is said in one line, and no list of trouble follows."""
    html = samples.report_of(samples.quiet_events(), samples.troubled_extras()).html
    assert 'class="verdict ok"' in html and "All well: nothing needs a human" in html
    assert "Needs a human" not in html and "4 results on 2 systems" in html


def test_a_run_that_skipped_everything_is_not_green():
    """Nothing looked at is not all well."""
    skipped = samples.story(samples.key("database.health", "claims/db"), "Health", state="skipped", reason="old window")
    html = samples.report_of([samples.opened(), samples.expected(("database.health", "claims/db")), *skipped]).html
    assert "Nothing was done" in html and "✓" not in Page(html).text


def test_nothing_selected_is_critical():
    """An empty run is no good run."""
    html = samples.report_of([samples.opened()]).html
    assert "nothing was selected" in html and 'class="verdict critical"' in html


def test_a_retry_that_never_came_is_unknown():
    """A try that was to be repeated and was not has no result."""
    tried = samples.story(samples.key("database.health", "claims/db"), "Health", state="retry", reason="cut")
    html = samples.report_of([samples.opened(), samples.expected(("database.health", "claims/db")), *tried]).html
    assert "no other try followed" in html and "All well" not in html


def test_an_action_that_never_closed_is_unknown():
    """Nobody can tell whether a deed without an end was done."""
    action = samples.Action(name="vacuum", subject="public.t", reason="40 % dead", undo="none needed")
    told = samples.story(samples.key("database.health", "claims/db"), "Health", actions=[(action, "", "", {})])
    html = samples.report_of([samples.opened(), samples.expected(("database.health", "claims/db")), *told]).html
    assert "what became of it is unknown" in html and 'class="verdict unknown"' in html


def test_a_dry_run_is_marked():
    """Nobody may take planned actions for done ones."""
    html = samples.report_of(samples.quiet_events(dry_run=True), samples.troubled_extras()).html
    text = Page(html).text
    assert "Dry run. Nothing was changed" in text and "dry run: nothing was changed" in text
    action = samples.Action(name="vacuum", subject="t", reason="dead rows")
    planned = samples.story(
        samples.key("database.health", "claims/db"), "Health", actions=[(action, "", "", {})], dry_run=True
    )
    text = Page(
        samples.report_of([samples.opened(), samples.expected(("database.health", "claims/db")), *planned]).html
    ).text
    assert "planned, not done" in text


def test_a_backup_shows_size_rate_and_proof(troubled: Page):
    """Size, source, ratio, duration, rate, counts, the manifest's hash and what read it back."""
    backup = troubled.text.split("Backup 20261121T060012Z-7f3a")[1]
    for part in ("652 MB", "1.7 GB", "37.4 %", "11.8 s", "148 MB/s", "59", "7,214,003", "9f2c1d7b5a3e4f60"):
        assert part in backup
    assert "31 backups on record" in backup and "read back and found whole" in backup


def test_a_damaged_backup_is_not_called_whole(troubled: Page):
    """A verification that failed says so where its evidence stands."""
    assert "read back and NOT whole" in troubled.text


def test_delivery_is_told_with_its_proof(troubled: Page):
    """Delivered, not delivered and without proof are three things; what failed needs a human."""
    told = troubled.text.split("Who was told")[1].split("Systems at a glance")[0]
    for part in ("delivered Database Administrator", "250 2.0.0 Ok", "no proof On-call", "not delivered Campus IT"):
        assert part in told
    assert "Campus IT was not reached by webhook" in troubled.text


def test_times_are_in_the_time_zone_of_the_system(troubled: Page):
    """The window of each system is told in its own time."""
    assert "Window 2026-11-20 01:00 EST to 2026-11-21 01:00 EST" in troubled.text
    assert "Window 2026-11-20 07:00 CET to 2026-11-21 07:00 CET" in troubled.text


def test_many_subjects_make_no_wall():
    """Of 2,000 tables a few stand in the open, some in a fold, and the rest is counted; a finding's comes first."""
    sizes = [samples.measure("table.size", n, "bytes", f"public.t{n}") for n in range(1, 2001)]
    bad = samples.finding("bloat", "public.t7", Severity.WARNING, "public.t7 is bloated")
    told = samples.story(samples.key("database.health", "claims/db"), "Health", measurements=sizes, findings=(bad,))
    html = samples.report_of([samples.opened(), samples.expected(("database.health", "claims/db")), *told]).html
    assert html.count("<tr>") < 80 and "1,994 more rows" in html and "1,934 further rows" in html
    shown = re.findall(r'scope="row">.*?(public\.t\d+)', html)
    assert shown[:3] == ["public.t7", "public.t2000", "public.t1999"]


def test_two_thousand_tables_on_five_systems_make_a_page_that_opens():
    """Totals and the worst or largest stand in the open, some in a fold, the rest is counted; the log stays short."""
    report = samples.heavy(tables=2000)
    assert len(report.html) < 400_000 and len(report.markdown) < 30_000
    part = Page(report.html).text.split("Vacuum and analyze campus/db")[1]
    sizes = [3_000_000_000 // (n + 1) for n in range(2000) if n % 50 != 7 and n != 11] + [20_000] * 50
    rows, pages = sum(size // 900 for size in sizes), sum(size // 4 // 8192 for size in sizes)
    said = f"2,009 done, 1 failed, 40 skipped; {rows:,} rows and {pages:,} pages removed, 5.5 GB freed"
    assert said in part and said in report.markdown
    shown = part.split("rows removed size took")[1]
    first = ["public.claim_0011", "public.claim_0007", "public.claim_0057"]
    assert sorted(first, key=shown.index) == first
    assert "2,040 more actions" in part and "1,980 further actions in the ledger" in part
    assert "31 more findings" in part


def test_a_row_tells_what_it_gained():
    """Before and after, rows removed, and the words of what was not done."""
    text = Page(samples.heavy().html).text
    assert "public.claim_0000 vacuum ✓ done 3,333,333 4.2 GB → 3.5 GB 15 s" in text
    assert "public.claim_0007 public.claim_0007 could not be vacuumed: it was locked" in text
    assert "public.claim_0011 invalid page in block 17" in text
    assert "9 done, 3 waiting for approval" in text and "215 MB → 71.5 MB" in text


def test_of_many_actions_only_those_that_somebody_must_see_show_their_evidence():
    """What failed and what waits for approval; of a few actions all."""
    deeds = samples.heavy().html.count('class="deed"')
    assert deeds == len(samples.TITLES) * (1 + 3)


def test_the_same_trouble_on_several_targets_is_one_item():
    """Word for word the same with the same cure is told once, with all its targets; the count stays that of targets."""
    text = Page(samples.heavy().html).text
    needs = text.split("Needs a human")[1].split("Approvals")[0]
    assert needs.count("too little history") == 1 and "5 unknown" in text
    assert "campus/db cardiology/db claims/db molecular/db student/db server Growth and capacity" in needs


def test_another_cure_is_another_item():
    """What differs in a single word is not put together."""
    said = [samples.opened(), samples.expected(("database.health", "claims/db"), ("database.health", "campus/db"))]
    for system in ("claims", "campus"):
        found = samples.finding("privilege", "x", Severity.UNKNOWN, "x is hidden", hint=f"GRANT x TO {system}")
        said += samples.story(samples.key("database.health", f"{system}/db"), "Health", findings=(found,))
    report = samples.report_of(said)
    assert Page(report.html).text.split("Systems at a glance")[0].count("x is hidden") == 2
    assert "GRANT x TO claims" in report.markdown and "GRANT x TO campus" in report.markdown


def test_a_short_line_about_an_action_names_its_subject():
    """`analyzed in 0.35 s` is of no use without the table."""
    action = samples.Action(name="analyze", subject="public.t", reason="never analyzed")
    told = samples.story(
        samples.key("database.analyze", "claims/db"), "Analyze", actions=[(action, "done", "analyzed in 0.35 s", {})]
    )
    html = samples.report_of([samples.opened(), samples.expected(("database.analyze", "claims/db")), *told]).html
    assert '<p class="small lines">analyze public.t: analyzed in 0.35 s</p>' in html


def test_lines_of_a_finding_stay_lines_in_its_section():
    """A statement and its plan are not run together."""
    html = samples.heavy().html
    lines = ("SELECT *", "\u00a0\u00a0FROM claim", " WHERE id = $1", "Seq Scan on claim")
    assert html.count("".join(f'<span class="line">{line}</span>' for line in lines)) == 1 + len(samples.TITLES)


def test_the_slowest_statements_come_first():
    """Rows are ordered by size, else by time, whatever stands in the first column."""
    measurements = [
        m
        for n in range(1, 21)
        for m in (
            samples.measure("statement.calls", 100 - n, "calls", f"s{n}"),
            samples.measure("statement.time", n, "ms", f"s{n}"),
        )
    ]
    told = samples.story(samples.key("database.slow_queries", "claims/db"), "Slow", measurements=measurements)
    html = samples.report_of([samples.opened(), samples.expected(("database.slow_queries", "claims/db")), *told]).html
    assert re.findall(r'scope="row">(s\d+)<', html)[:3] == ["s20", "s19", "s18"]


def test_hostile_text_stays_text():
    """Names, messages, ids and evidence from outside become no element, no attribute and no style."""
    html = samples.hostile().html
    page = Page(html)
    assert not page.tags & {"script", "img"}
    assert [name for _, name, _ in page.attributes if name.startswith("on")] == []
    assert html.count("</style>") == 1 and html.count("<!--bar-->") == 1
    assert "{{ 7*7 }}" in page.text and "<script>alert(1)</script>" in page.text
    assert not [v for _, name, v in page.attributes if name == "href" and not v.startswith(("#", "data:,"))]


def test_characters_that_deceive_are_replaced():
    """No control character, terminal sequence, override of direction or lone surrogate reaches a page or a log."""
    report = samples.hostile()
    for text in (report.html, report.markdown):
        text.encode("utf-8")
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f]", text)
    assert "bell\ufffd red link" in report.html
    assert "\ufffdtxt.exe" in report.html


def test_building_is_pure():
    """The same run gives the same report, byte for byte."""
    assert samples.troubled() == samples.troubled()


def test_the_verdict_handed_in_is_never_softened():
    """The page may be worse than the verdict, not better."""
    record = samples.record_of(samples.quiet_events())
    made = build(
        record, Verdict(severity=Severity.CRITICAL, reasons=("the disk is on fire",)), samples.troubled_extras()
    )
    assert 'class="verdict critical"' in made.html and "the disk is on fire" in made.html


def test_five_hundred_systems_make_a_modest_page():
    """The page grows in proportion to the systems: its size for 500 is within a tenth of ten times that for 50."""
    sizes = {}
    for count in (50, 500):
        names = [f"system{n:03d}" for n in range(count)]
        record = samples.record_of(samples.quiet_events(names))
        sizes[count] = len(build(record, judge_run(record), samples.troubled_extras()).html)
    assert sizes[500] < 11 * sizes[50]
    assert sizes[500] < 500 * 8_000


def test_severity_is_never_told_by_colour_alone():
    """Every badge holds its sign and a word."""
    badges = re.findall(r'<span class="badge \w+">(.*?)</span>', samples.troubled().html)
    assert badges and all(re.match(r"([✕?!i✓] )?[\w, ]+$", badge) for badge in badges)


def test_headings_do_not_skip_levels(troubled: Page):
    """A screen reader walks the page by its headings."""
    levels = [int(tag[1]) for tag, _ in troubled.headings]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_the_run_may_be_unknown():
    """A report is made even when the run's own beginning is not on record."""
    told = samples.health("claims")
    html = samples.report_of([samples.expected(("database.health", "claims/db")), *told]).html
    assert "unknown" in html and ev.RunKey(dag_id="maintenance_daily", run_id=samples.RUN.run_id).run_id in html


def test_a_tree_keeps_its_shape():
    """A finding of several lines is shown line by line, with its indentation."""
    tree = "2 sessions wait, blocked by\npid 1 owner\n  pid 2 waits\n    pid 3 waits"
    events = [
        event.model_copy(
            update={"findings": (event.findings[0].model_copy(update={"message": tree}), *event.findings[1:])}
        )
        if event.kind == "observed" and event.findings
        else event
        for event in samples.troubled_events()
    ]
    html = samples.report_of(events, samples.troubled_extras()).html
    lines = ("pid 1 owner", "\u00a0\u00a0pid 2 waits", "\u00a0\u00a0\u00a0\u00a0pid 3 waits")
    assert f'<pre class="small">{"".join(f"""<span class="line">{line}</span>""" for line in lines)}</pre>' in html
