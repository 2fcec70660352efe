"""Plans of slow statements: which can be asked for, and how they are shown without what people put into them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from upkeep.core.job import Failed
from upkeep.core.sql_text import without_literals
from upkeep.routines.database._seen import Row
from upkeep.routines.database._slow_settings import Settings
from upkeep.routines.database._text import quoted

Node = Mapping[str, Any]

_PLANNABLE = ("SELECT", "WITH", "INSERT", "UPDATE", "DELETE", "MERGE", "VALUES", "TABLE", "(")
_CONDITIONS = (
    "Index Cond", "Recheck Cond", "Hash Cond", "Merge Cond", "Join Filter", "Filter", "One-Time Filter", "Sort Key",
    "Group Key",
)  # fmt: skip
# In units of the planner, of which reading a page is one: for 8 MB no index is worth its upkeep.
_LITTLE = 1000
# Errors that name nothing but relations, columns, functions, types and schemas. Others may quote values.
_NAMES_ONLY = ("42P01", "42703", "42883", "42704", "3F000", "42501")


def refusal(row: Row, source: Row, settings: Settings) -> str:
    """Return why no plan is asked for; empty when one is."""
    text = row["query"]
    if settings.plan == "never":
        return "the setting `plan` says never"
    if settings.plan == "trusted" and source["planted"]:
        return (
            f"{source['planted']} functions were written by roles that are no superusers, and planning could run them"
            f" as {source['role']}; if they are to be trusted, set `plan` to always"
        )
    if text is None:
        return "the server has not kept its text"
    if row["cut"]:
        return "its text is too long"
    if not starts_with(text, _PLANNABLE):
        return "it is of a kind that has none"
    return ""


def starts_with(text: str, words: tuple[str, ...]) -> bool:
    """Tell whether a statement begins with one of some words, whatever comment stands before it."""
    bare = without_literals(text[:300], 300) or without_literals(text, 300)
    return bare.upper().startswith(tuple(word.upper() for word in words))


def path(row: Row, settings: Settings) -> str:
    """Return the search_path that the statement's role probably has; an application may set another one."""
    found = settings.search_path or row["search_path"] or '"$user", public'
    mine = found.replace('"$user"', quoted(row["role"])).replace("$user", quoted(row["role"]))
    return f"{mine}, pg_temp" if mine.strip() else "pg_temp"


def failure(failed: Failed, row: Row, source: Row, settings: Settings) -> str:
    """Return why the server made no plan, in words that hold no value."""
    seen = path(row, settings)
    if failed.sqlstate in ("42P01", "42883", "42704", "3F000"):
        return f"{failed.message}; looked for in {seen}; name the right schemas with the setting `search_path`"
    if failed.reason == "privilege":
        return f"{failed.message}; GRANT pg_read_all_data TO {quoted(source['role'])};"
    if failed.sqlstate in _NAMES_ONLY:
        return failed.message
    words = {"42601": "with its constants taken out it is no valid SQL", "42P18": "the type of a parameter is unknown"}
    known = {"timeout": "making it took too long", "locked": "somebody holds a lock", "gone": "the connection was lost"}
    return words.get(failed.sqlstate) or known.get(failed.reason) or f"the server refused (SQLSTATE {failed.sqlstate})"


def shown(plan: Node, lines: int) -> list[str]:
    """Return a plan as lines: the topmost node first, those below it indented; at most `lines`."""
    every = list(_lines(plan, 0))
    more = [f"  … {len(every) - lines} more nodes"] if len(every) > lines else []
    return every[:lines] + more


def reads_all(plan: Node) -> str:
    """Return the table whose reading from end to end is most of the cost of a plan; empty when that is little."""
    whole = float(plan.get("Total Cost", 0))
    for node, _ in _nodes(plan, 0):
        cost = float(node["Total Cost"])
        if node["Node Type"] == "Seq Scan" and "Filter" in node and cost > max(whole / 2, _LITTLE):
            return str(node.get("Relation Name", ""))
    return ""


def _nodes(node: Node, depth: int) -> Iterator[tuple[Node, int]]:
    yield node, depth
    for below in node.get("Plans", ()):
        yield from _nodes(below, depth + 1)


def _lines(plan: Node, depth: int) -> Iterator[str]:
    for node, level in _nodes(plan, depth):
        yield "  " * (level + 1) + _line(node)


def _line(node: Node) -> str:
    name = node["Node Type"] if node["Node Type"] != "ModifyTable" else node.get("Operation", "ModifyTable")
    using = f" using {quoted(node['Index Name'])}" if "Index Name" in node else ""
    on = node.get("Relation Name") or node.get("Function Name") or node.get("CTE Name")
    where = f" on {quoted(on)}" if on else ""
    cost = f" (cost {float(node['Total Cost']):,.0f}, {float(node['Plan Rows']):,.0f} rows)"
    return f"{name}{using}{where}{cost}" + "".join(f", {_condition(node, key)}" for key in _CONDITIONS if key in node)


def _condition(node: Node, key: str) -> str:
    value = node[key]
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"{key.lower()} {without_literals(text, 80)}"
