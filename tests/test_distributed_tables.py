"""What Citus asks of statements on tables that are distributed by session_id, held where there is no Citus.

Its source says it (src/backend/distributed/planner, multi_router_planner.c before all). What concerns one
conversation is found on one shard by session_id = a parameter. RETURNING and DO UPDATE SET hold nothing of the
moment, UPDATE and WHERE nothing volatile, nor what is of the moment and takes a column. A statement with an INSERT
in a CTE is executed CTE by CTE, so that what is read has to be read before it is written.

Functions are known by their names: one that is in no list here is taken for a volatile one.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlglot
from sqlglot import Expr, exp

SQL = Path(__file__).resolve().parent.parent / "sql" / "postgresql"
TABLES = {"agent_sessions", "agent_messages", "agent_session_leases"}
# For a page or a batch of conversations, or for all of them: they go to several shards.
OF_MANY = {
    "count_items_of",
    "delete_items_of",
    "delete_sessions",
    "first_items",
    "lock_sessions",
    "search_items",
    "session_sizes",
    "sessions_by_id",
    "sessions_by_id_descending",
    "sessions_newest_first",
    "sessions_of_shards",
    "sessions_oldest_first",
    "sessions_with_items",
    "unlisted_sessions",
}
# From one conversation to another.
OF_TWO = {"copy_items"}
# As far as times are TIMESTAMP and texts TEXT or VARCHAR; aggregates need no function of the moment.
IMMUTABLE = {"cardinality", "coalesce", "count", "greatest", "length", "max", "min", "nullif", "right", "unnest"}
# date_trunc() by the parser's name, and extract(): of times without a zone, as those of the tables are.
IMMUTABLE |= {"extract", "floor", "isfinite", "timestamp_trunc"}
# In its place stands what takes no column, whatever it is compared with.
GUARD = "stands_beside_the_sessions"
# Of the moment: the same throughout a statement.
STABLE = {"localtimestamp", GUARD, "statement_timestamp"}
# What the parser takes for functions, and PostgreSQL does not.
SYNTAX = (exp.Any, exp.Array, exp.Case, exp.Cast, exp.Connector, exp.Exists, exp.If, exp.Interval)
CHANGES = (exp.Insert, exp.Update, exp.Delete)


def parse(text: str) -> Expr:
    # A placeholder of psycopg's as one that the parser knows.
    return sqlglot.parse_one(re.sub(r"%\((\w+)\)[sbt]", r":\1", text), dialect="postgres")


def _statements() -> dict[str, Expr]:
    found: dict[str, Expr] = {}
    for file in ("queries", "operations"):
        text = (SQL / f"{file}.sql").read_text(encoding="utf-8")
        _, *parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
        found |= {
            name: parse(body) for name, body in zip(parts[::2], parts[1::2], strict=True) if "agent_" in _code(body)
        }
    return {name: statement for name, statement in found.items() if list(_tables(statement))}


def _code(body: str) -> str:
    return "\n".join(line for line in body.splitlines() if not line.startswith(("--", "SAVEPOINT", "RELEASE", "ROLL")))


def _tables(statement: Expr) -> Iterator[exp.Table]:
    return (table for table in statement.find_all(exp.Table) if table.name in TABLES)


STATEMENTS = _statements()
each = pytest.mark.parametrize("name", sorted(STATEMENTS))
each_of_one = pytest.mark.parametrize("name", sorted(set(STATEMENTS) - OF_MANY - OF_TWO))


# --- which functions


def functions(part: Expr | None) -> Iterator[tuple[str, Expr]]:
    if part is not None:
        for node in part.find_all(exp.Func):
            if not isinstance(node, SYNTAX):
                yield (node.name if isinstance(node, exp.Anonymous) else node.sql_name()).lower(), node


def volatile(part: Expr | None) -> list[str]:
    return [name for name, _ in functions(part) if name not in IMMUTABLE | STABLE]


def of_the_moment(part: Expr | None) -> list[str]:
    """What is not immutable; among it a cast to anything but text or a whole number, which no setting changes."""
    casts = [cast for cast in part.find_all(exp.Cast) if not cast.is_type("text", "bigint")] if part is not None else []
    return [name for name, _ in functions(part) if name not in IMMUTABLE] + [cast.sql() for cast in casts]


def meets_a_column(part: Expr | None) -> list[str]:
    """What is of the moment and takes a column, itself or by a conversion of the column that is not written."""
    found = []
    for name, node in functions(part):
        if name not in STABLE - {GUARD}:
            continue
        is_timestamp = (
            name == "localtimestamp"
            or (isinstance(node.parent, exp.Cast) and node.parent.is_type("timestamp"))
            or (isinstance(node.parent, exp.AtTimeZone) and isinstance(node.parent.args["zone"], exp.Literal))
        )
        if not is_timestamp or node.find(exp.Column) or node.find_ancestor(exp.Case, exp.Coalesce):
            found.append(node.sql())
    return found


# --- which shard


def names_one(condition: Expr, alias: str) -> bool:
    """Tell whether a condition is session_id = a parameter, or = ANY of it."""
    if not isinstance(condition, exp.EQ) or not isinstance(condition.this, exp.Column):
        return False
    value = condition.expression
    if isinstance(value, exp.Any):
        array = value.find(exp.Array)
        value = array.expressions[0] if array is not None and len(array.expressions) == 1 else value
    named = condition.this.name == "session_id" and condition.this.table in ("", alias)
    return named and isinstance(value, exp.Placeholder)


def unrouted(statement: Expr) -> list[str]:
    """The places at which a table is read or changed without being told the conversation."""
    found = []
    ctes = {cte.alias for cte in statement.find_all(exp.CTE)}
    for table in _tables(statement):
        place = table.find_ancestor(exp.Select, *CHANGES)
        assert place is not None
        if isinstance(place, exp.Insert):
            columns = [column.name for column in place.this.expressions]
            [row] = [place.expression] if isinstance(place.expression, exp.Select) else place.expression.expressions
            value = row.expressions[columns.index("session_id")].unalias()
            value = value.this if isinstance(value, exp.Cast) else value
            routed = isinstance(value, exp.Placeholder) or (isinstance(value, exp.Column) and value.table in ctes)
        else:
            where = place.args.get("where")
            conditions = where.this.flatten() if where and isinstance(where.this, exp.And) else [where and where.this]
            routed = any(names_one(condition, table.alias_or_name) for condition in conditions if condition)
        if not routed:
            found.append(place.sql("postgres"))
    return found


@each_of_one
def test_a_statement_on_a_conversation_names_it_beside_each_table(name: str) -> None:
    assert unrouted(STATEMENTS[name]) == []


@each
def test_no_row_is_known_by_its_place(name: str) -> None:
    assert not [column for column in STATEMENTS[name].find_all(exp.Column) if column.name == "ctid"]


@each
def test_returning_holds_nothing_of_the_moment(name: str) -> None:
    assert [found for part in STATEMENTS[name].find_all(exp.Returning) for found in of_the_moment(part)] == []


@each
def test_an_insert_that_meets_a_row_changes_it_by_nothing_of_the_moment(name: str) -> None:
    assert [found for part in STATEMENTS[name].find_all(exp.OnConflict) for found in of_the_moment(part)] == []


@each
def test_a_change_holds_nothing_volatile_and_nothing_of_the_moment_that_takes_a_column(name: str) -> None:
    changes = STATEMENTS[name].find_all(exp.Update, exp.Delete)
    parts = [part for change in changes for part in (*change.expressions, change.args.get("where"))]
    assert [found for part in parts for found in volatile(part) + meets_a_column(part)] == []


def reads(part: Expr) -> set[str]:
    return {table.name for table in _tables(part) if isinstance(table.parent, (exp.From, exp.Join))}


def changed(part: Expr) -> set[str]:
    return {table.name for change in part.find_all(*CHANGES) for table in [change.this.find(exp.Table)] if table}


@each
def test_what_is_executed_cte_by_cte_reads_a_table_before_it_changes_it(name: str) -> None:
    statement = STATEMENTS[name]
    ctes = list(statement.find_all(exp.CTE))
    if not any(isinstance(cte.this, exp.Insert) for cte in ctes):
        return  # it goes to its shard as a whole
    written: set[str] = set()
    for cte in ctes:
        assert not reads(cte) & written, cte.alias
        written |= changed(cte)
    bare = statement.copy()
    bare.set("with_", None)
    assert not reads(bare)


@pytest.mark.parametrize(
    ("judge", "text"),
    [
        (unrouted, "SELECT id FROM agent_messages WHERE id = %(id)s"),
        (unrouted, "SELECT id FROM agent_messages WHERE session_id = %(a)s OR id = %(id)s"),
        (unrouted, "SELECT 1 FROM agent_messages AS m CROSS JOIN agent_sessions AS s WHERE s.session_id = %(a)s"),
        (unrouted, "DELETE FROM agent_messages USING session WHERE agent_messages.session_id = session.session_id"),
        (volatile, "SELECT random()"),
        (volatile, "SELECT something_of_a_later_version()"),
        (of_the_moment, "SELECT greatest(updated_at, statement_timestamp())"),
        (of_the_moment, "SELECT created_at::timestamptz"),
        (meets_a_column, "SELECT greatest(updated_at, statement_timestamp())"),
        (meets_a_column, "SELECT coalesce(updated_at, statement_timestamp()::timestamp)"),
    ],
)
def test_what_is_refused_is_found(judge: object, text: str) -> None:
    assert callable(judge)
    assert judge(parse(text))
