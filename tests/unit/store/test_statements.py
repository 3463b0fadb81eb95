"""The statements that are files argue for themselves (style 10)."""

import re
from itertools import takewhile
from pathlib import Path

import pytest

import service.store
from service.store.statements import statement
from service.store.tables import metadata

FILES = sorted((Path(service.store.__file__).parent / "sql").glob("*.sql"))
NAMES = {str(index.name) for table in metadata.tables.values() for index in table.indexes} | {
    str(constraint.name) for table in metadata.tables.values() for constraint in table.constraints
}


def test_there_are_some() -> None:
    assert {path.stem for path in FILES} >= {"accept", "claim", "journal", "bury"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_begins_with_its_argument_and_the_indexes_it_lives_on(path: Path) -> None:
    lines = path.read_text().splitlines()
    prose = list(takewhile(lambda line: line.startswith("--"), lines))
    assert any("Why it is right" in line for line in prose)
    [lives_on] = [line for line in prose if "Lives on:" in line]
    named = {word.strip(",. ") for word in lives_on.partition("Lives on:")[2].split()}
    indexes = {word for word in named if word.startswith(("pk_", "uq_", "ix_"))}
    assert indexes
    assert indexes <= NAMES | _conventional()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_takes_parameters_by_name(path: Path) -> None:
    named = set(re.findall(r"(?<!:):([a-z_]+)", str(statement(path.stem))))
    assert set(statement(path.stem).compile().params) == named
    assert "%" not in str(statement(path.stem))


def _conventional() -> set[str]:
    """The names that the convention gives: they are made when the DDL is."""
    return {f"pk_{table}" for table in metadata.tables} | {"uq_appliance_name"}
