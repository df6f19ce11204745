"""The SQL files of the dialects say the same, in the same shape; what departs says so.

A block on our tables that has no counterpart of the same name and parameters in each dialect starts
with `Differs:`, or is named in the `Differs:` of another. What names neither table is about the
connection or the transaction, where the databases have nothing in common.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.servers import dialect_of, execute_sql

ROOT = Path(__file__).resolve().parent.parent
DIALECTS = ("sqlite", "postgresql", "mysql")
_PLACEHOLDER = {
    "sqlite": re.compile(r"(?<![:\w]):(\w+)"),
    "postgresql": re.compile(r"%\((\w+)\)[sbt]"),
    "mysql": re.compile(r"%\((\w+)\)s"),
}
_KEYWORDS = re.compile(
    r"\b(?:and|as|begin|by|commit|conflict|create|default|delete|desc|exists|from|index|insert|into|key|limit|not|null"
    r"|on|or|order|primary|references|returning|rollback|select|set|table|transaction|update|values|where|with)\b"
)


@dataclass(frozen=True)
class Block:
    """One named statement, apart from what is said about it."""

    dialect: str
    file: str
    name: str
    comment: str
    statement: str

    @property
    def code(self) -> str:
        """The statement without literals and the names of columns in quotes."""
        return re.sub(r"'[^']*'", "''", self.statement)

    @property
    def parameters(self) -> set[str]:
        return set(_PLACEHOLDER[self.dialect].findall(self.code))

    @property
    def differs(self) -> str:
        """What it says about its departure; empty when it does not depart."""
        return self.comment if self.comment.startswith("Differs:") else ""


def _blocks(dialect: str, file: str) -> list[Block]:
    text = (ROOT / "sql" / dialect / f"{file}.sql").read_text(encoding="utf-8")
    preamble, *parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
    assert all(line.startswith("--") for line in preamble.splitlines() if line), "a statement without a name"
    blocks = []
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        lines = body.splitlines()
        comments = [line for line in lines if line.lstrip().startswith("--")]
        code = [line for line in lines if not line.lstrip().startswith("--")]
        comment = " ".join(line.strip().removeprefix("--").strip() for line in comments)
        blocks.append(Block(dialect, file, name, comment, "\n".join(code).strip()))
    return blocks


def _all() -> list[Block]:
    files = [(dialect, file) for dialect in DIALECTS for file in ("schema", "queries", "operations", "seals", "checks")]
    return [block for dialect, file in files for block in _blocks(dialect, file)]


BLOCKS = _all()
each_block = pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.dialect}-{block.name}")
each_name = pytest.mark.parametrize("name", sorted({block.name for block in BLOCKS}))


def _named(name: str) -> dict[str, Block]:
    return {block.dialect: block for block in BLOCKS if block.name == name}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_name_stands_once_in_a_dialect(dialect: str) -> None:
    names = [block.name for block in BLOCKS if block.dialect == dialect]
    assert len(names) == len(set(names))


@each_name
def test_a_statement_is_in_every_dialect_or_says_why_not(name: str) -> None:
    found = _named(name)
    missing = sorted(set(DIALECTS) - set(found))
    on_our_tables = any("agent_" in block.code for block in found.values())
    reasons = [block.differs for block in BLOCKS if block.name == name or re.search(rf"\b{name}\b", block.differs)]
    assert not missing or not on_our_tables or any(reasons), f"{name} is missing in {missing}"


@each_name
def test_a_statement_takes_the_same_parameters_everywhere_or_says_why_not(name: str) -> None:
    found = _named(name)
    parameters = {dialect: sorted(block.parameters) for dialect, block in found.items()}
    same = len(set(map(tuple, parameters.values()))) == 1
    assert same or any(block.differs for block in found.values()), parameters


@each_name
def test_a_statement_stands_in_the_file_of_the_same_name_everywhere(name: str) -> None:
    assert len({block.file for block in _named(name).values()}) == 1


@each_block
def test_a_block_is_one_statement(block: Block) -> None:
    assert block.code.endswith(";")
    assert block.code.count(";") == 1 or block.code.startswith(("BEGIN NOT ATOMIC", "IF "))  # MariaDB's


@each_block
def test_a_percent_sign_is_a_placeholder(block: Block) -> None:
    without = block.statement if block.dialect == "sqlite" else _PLACEHOLDER[block.dialect].sub("", block.statement)
    assert "%" not in without + block.comment


@each_block
def test_keywords_are_in_capitals(block: Block) -> None:
    code = re.sub(r"%\(\w+\)[sbt]|:\w+|[`\"]\w+[`\"]", "", block.code)
    assert _KEYWORDS.findall(code) == []


@each_block
def test_columns_are_listed(block: Block) -> None:
    assert not re.search(r"SELECT\s+\*|\.\*|INSERT INTO \w+\s+(?:VALUES|SELECT)", block.code)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_statement_is_used(dialect: str) -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "sessions").rglob("*.py"))
    unused = [block.name for block in BLOCKS if block.dialect == dialect and f'"{block.name}"' not in source]
    assert unused == []


def test_a_schema_runs_twice_without_harm(sql_url: str) -> None:
    dialect = {"mariadb": "mysql"}.get(dialect_of(sql_url), dialect_of(sql_url))
    statements = [block.statement.rstrip(";") for block in _blocks(dialect, "schema")]
    creations = [statement for statement in statements if statement.startswith("CREATE")]
    for statement in creations * 2:
        execute_sql(sql_url, statement)
    assert len(creations) >= 2
    execute_sql(sql_url, "INSERT INTO agent_sessions (session_id) VALUES (%s)", ("chat_1",))
    for statement in creations:
        execute_sql(sql_url, statement)
    assert execute_sql(sql_url, "SELECT session_id FROM agent_sessions") == [("chat_1",)]
