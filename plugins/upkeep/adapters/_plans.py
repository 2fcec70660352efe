"""The plans of other people's statements, none of which is executed.

PREPARE sees to that: in the extended protocol the server takes exactly one statement, and PREPARE only one that can be
planned (SELECT, INSERT, UPDATE, DELETE, MERGE, VALUES). EXPLAIN EXECUTE then shows the plan for any parameters, which
`plan_cache_mode` has been able to demand since 12, where EXPLAIN (GENERIC_PLAN) came with 16, cannot be used in this
protocol, and must be told the types.

What planning does evaluate, with the rights of our role: stable and immutable functions on constants, and checks of
domains. Whoever calls this must trust those of the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from upkeep.adapters import _pipeline
from upkeep.core.job import Failed

if TYPE_CHECKING:
    import psycopg

# Under somebody else's search_path every name of ours says where it comes from, and every constant its type.
_SET = "SELECT pg_catalog.set_config('{}'::pg_catalog.text, {}::pg_catalog.text, false)"
_PATH = _SET.format("search_path", "$1")
_GENERIC = _SET.format("plan_cache_mode", "'force_generic_plan'")
_PARAMETERS = "SELECT name, cardinality(parameter_types) AS parameters FROM pg_prepared_statements WHERE from_sql"


def explain(
    connection: psycopg.Connection[Any], wanted: Sequence[tuple[str, str]], own_path: str, seconds: float
) -> list[dict[str, Any] | Failed]:
    """Return, for each (statement, search_path), the topmost node of its plan, or why there is none.

    :param own_path: the search_path to return to.
    :param seconds: how long to wait for one of them.
    """
    names = [f"upkeep_plan_{n}" for n in range(len(wanted))]
    asked = [(path, f"PREPARE {name} AS {text}") for name, (text, path) in zip(names, wanted, strict=True)]
    prepared, known = _ask(connection, [("", _GENERIC), *asked], own_path, seconds, last=_PARAMETERS)
    counts = {row["name"]: row["parameters"] for row in known} if isinstance(known, list) else {}
    asked = [(path, _execute(name, counts.get(name, 0))) for name, (_, path) in zip(names, wanted, strict=True)]
    explained, _ = _ask(connection, asked, own_path, seconds, last="DEALLOCATE ALL")
    both = zip(prepared[1:], explained, strict=True)
    return [before if isinstance(before, Failed) else _plan(after) for before, after in both]


def _ask(
    connection: psycopg.Connection[Any], asked: Sequence[tuple[str, str]], own_path: str, seconds: float, *, last: str
) -> tuple[list[_pipeline.Rows | Failed], _pipeline.Rows | Failed]:
    """Run each text under its search_path, and one more under ours; all in one round trip."""
    if connection.closed:
        gone = Failed("gone", "the connection was lost before")
        return [gone] * len(asked), gone
    queries = [
        _pipeline.Query(text, values)
        for path, query in [*asked, (own_path, last)]
        for text, values in _pair(path, query)
    ]
    answers = _pipeline.run(connection, queries, seconds * len(queries))
    # Under a path that could not be set, the text met other tables.
    met = [p if isinstance(p, Failed) else a for p, a in zip(answers[::2], answers[1::2], strict=True)]
    return met[:-1], met[-1]


def _pair(path: str, query: str) -> tuple[tuple[str, list[str]], tuple[str, list[str]]]:
    return (_PATH, [path]), (query, [])


def _execute(name: str, parameters: int) -> str:
    values = f"({', '.join(['NULL'] * parameters)})" if parameters else ""
    return f"EXPLAIN (FORMAT JSON) EXECUTE {name}{values}"


def _plan(answer: _pipeline.Rows | Failed) -> dict[str, Any] | Failed:
    """Return the tree in an answer. Rules can turn a statement into none, or into several: the first one counts."""
    if isinstance(answer, Failed):
        return answer
    trees = next(iter(answer[0].values())) if answer else []
    found = next((tree["Plan"] for tree in trees if isinstance(tree, dict) and "Plan" in tree), None)
    return Failed("other", "rules turn it into something without a plan") if found is None else dict(found)
