"""What people are told reads well and carries nothing that it must not."""

from __future__ import annotations

from email.headerregistry import Address
from email.parser import BytesParser
from email.policy import default
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from upkeep.adapters.notify_mail import as_bytes, compose
from upkeep.core.notice import Notice, clean, one_line


def notice(**changes: Any) -> Notice:
    values: dict[str, Any] = {
        "label": "CRITICAL",
        "subject": "claims/db",
        "headline": "Database health: sequence is nearly used up",
        "facts": {"Observed": "97 %", "Limit": "90 %", "What to do": "alter sequence ... as bigint", "Empty": ""},
        "links": {"Open": "https://airflow.example/dags/x/runs/y"},
        "dag_id": "maintenance_daily",
        "run_id": "scheduled__2026-03-01T01:00:00+00:00",
        "topic": "claims/db database.health",
        "rung": 1,
    }
    return Notice(**(values | changes))


def mailed(one: Notice, domain: str = "shop.example") -> Any:
    sent = compose(one, Address(addr_spec=f"upkeep@{domain}"), Address(addr_spec="dba@shop.example"))
    return BytesParser(policy=default).parsebytes(as_bytes(sent))


def test_the_subject_line_says_how_bad_where_and_what() -> None:
    """The subject is one clear line."""
    assert notice().title == "[CRITICAL] claims/db: Database health: sequence is nearly used up"


def test_a_long_subject_stays_on_one_line() -> None:
    """A subject beyond 78 characters is not folded, so it starts with its first word in every mail program."""
    one = notice(headline="Database health: public.claims_claim_id_seq is nearly used up")
    assert mailed(one)["Subject"] == one.title
    assert mailed(notice(headline="Größe " * 30))["Subject"] == notice(headline="Größe " * 30).title


def test_the_body_has_what_observed_limit_next_step_and_link() -> None:
    """Facts come in order, empty ones are left out, run and link are there."""
    body = notice().body()
    assert body.index("97 %") < body.index("90 %") < body.index("bigint") < body.index("maintenance_daily")
    assert "Empty" not in body and "https://airflow.example/dags/x/runs/y" in body


@given(st.text(), st.text())
def test_no_text_can_add_a_header(subject: str, headline: str) -> None:
    """Whatever a finding says, the mail has exactly our headers, one recipient, and parses without a defect."""
    sent = mailed(notice(subject=subject, headline=headline + "\r\nBcc: thief@example.net"))
    assert sorted(sent.keys()) == sorted(mailed(notice()).keys())
    assert sent["To"] == "dba@shop.example" and not sent.defects and "\n" not in sent["Subject"]


def test_rungs_of_one_topic_form_one_conversation() -> None:
    """Another rung is another message of the same thread; another run or topic is another thread."""
    first, second = mailed(notice()), mailed(notice(rung=2))
    assert first["References"] == second["References"] == first["In-Reply-To"]
    assert first["Message-ID"] != second["Message-ID"] and first["Subject"] == second["Subject"]
    assert first["Message-ID"] == mailed(notice())["Message-ID"]
    assert len({notice().thread, notice(run_id="other").thread, notice(topic="other").thread}) == 3


def test_ids_survive_a_long_domain() -> None:
    """A Message-ID is never folded or encoded, however long the sender's domain is."""
    domain = ".".join(["a" * 60] * 3) + ".example"
    assert mailed(notice(), domain)["References"].endswith(f"@{domain}>")
    assert mailed(notice(), domain)["Message-ID"].startswith(f"<{notice().id}@")


def test_a_machine_wrote_it() -> None:
    """Mail is plain text, marked auto-generated, so that no absence notice answers it."""
    sent = mailed(notice())
    assert (sent["Auto-Submitted"], sent.get_content_type()) == ("auto-generated", "text/plain")


def test_control_characters_and_credentials_do_not_pass() -> None:
    """Terminal escapes are replaced, and a line with the shape of a credential is withheld."""
    assert clean("a\x1b[2Jb\nc") == "a\ufffd[2Jb\nc"
    assert "hunter2" not in clean("connect to postgresql://app:hunter2@db/claims failed")
    assert one_line("a\r\nb\tc") == "a b c"


def test_long_text_is_cut() -> None:
    """A subject fits a screen and a fact a page."""
    assert len(notice(headline="x" * 5000).title) <= 140
    assert len(clean("x" * 5000)) <= 1000
