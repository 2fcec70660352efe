"""Statements lose every literal, whatever stands around it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upkeep.core.sql_text import without_literals
from upkeep.routines.database._text import literal, quoted


@pytest.mark.parametrize(
    ("statement", "shown"),
    [
        ("UPDATE claim SET note = 'O''Hara' WHERE id = 12", "UPDATE claim SET note = ? WHERE id = ?"),
        ("SELECT * FROM t1 WHERE a IN (1, 2,3) AND b = $1", "SELECT * FROM t1 WHERE a IN (?) AND b = $1"),
        ("INSERT INTO t VALUES (1, 'x'), (2, 'y')", "INSERT INTO t VALUES (?)"),
        ("ALTER ROLE r PASSWORD 'hunter2'", "ALTER ROLE r PASSWORD ?"),
        (r"SELECT E'it\'s Bob', 1.5e-3, -7", "SELECT ?, -?"),
        ("SELECT $$Bob$$, $tag$ $$Bob$$ $tag$, U&'Bob', x'Bob'", "SELECT ?"),
        ("SELECT 1 -- for Bob\n/* Bob /* and Bob */ Bob */ FROM t", "SELECT ? FROM t"),
        ("SELECT 'cut off in Bo", "SELECT ?"),
        ("SELECT $x$cut off in Bo", "SELECT ?"),
        ("SELECT 1 /* cut off /* in */ Bo", "SELECT ?"),
        (r"SELECT 'C:\', name = 'Bob'", "SELECT ?…"),
        ('SELECT "Column 1" FROM "x""; drop table y;--"', 'SELECT "Column 1" FROM "x""; drop table y;--"'),
        ("SELECT '-- no comment', 'a/*' FROM t /* c */", "SELECT ? FROM t"),
    ],
)
def test_literals_and_comments_go(statement: str, shown: str):
    """Names of tables and columns stay, what people put in goes."""
    assert without_literals(statement) == shown


@given(st.text(max_size=40), st.text(alphabet=" \n", max_size=3))
def test_no_quoted_value_survives(value: str, space: str):
    """Whatever a value holds, once quoted it never shows, and what follows is still read rightly."""
    marked = f"SECRET{value}SECRET"
    shown = without_literals(f"SELECT * FROM t WHERE a ={space}{literal(marked)} AND b = 'SECRET'")
    assert "SECRET" not in shown
    assert shown.startswith("SELECT * FROM t WHERE a =")


@given(st.text(max_size=300))
def test_any_text_is_one_short_line(text: str):
    """Nothing that a server may hand out breaks a message."""
    shown = without_literals(text, 50)
    assert len(shown) <= 50 and "\n" not in shown


def test_identifiers_are_quoted():
    """A name with quotes cannot end its own quoting."""
    assert quoted('a"b') == '"a""b"'
