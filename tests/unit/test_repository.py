"""The repository's own rules, where no linter has them. Reads its files, and nothing else."""

from __future__ import annotations

import ast
import re
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from consumer.config import parse
from consumer.example import example_text

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("consumer/**/*.py"), *ROOT.glob("tests/**/*.py")])
CONFIGURATIONS = sorted(ROOT.glob("deploy/*.yaml"))
_SILENCER = re.compile(
    r"#\s*(?:noqa(?::\s*[A-Z]+[0-9]+(?:\s*,\s*[A-Z]+[0-9]+)*)?|type:\s*ignore(?:\[[^]]*\])?)(.*)"
)


def comments(path: Path) -> Iterator[tuple[int, str]]:
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string


def cases(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if function and node.name.startswith("test_"):
            yield node


def silencers_without_reason(lines: Iterator[tuple[int, str]]) -> list[int]:
    found = ((line, _SILENCER.search(comment)) for line, comment in lines)
    return [line for line, match in found if match and len(match[1].strip(" #").split()) < 2]


def test_every_test_says_in_a_sentence_what_it_shows() -> None:
    """A reader of a failure learns what is broken without reading the code."""
    silent = [
        f"{path.relative_to(ROOT)}::{case.name}"
        for path in SOURCES
        if path.name.startswith("test_")
        for case in cases(path)
        if not (ast.get_docstring(case) or "").rstrip().endswith(".")
    ]
    assert silent == []


def test_every_silenced_check_has_its_reason_beside_it() -> None:
    """`noqa` and `type: ignore` name the rule and then say why."""
    bare = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in SOURCES
        for line in silencers_without_reason(comments(path))
    ]
    assert bare == []


@pytest.mark.parametrize(
    ("comment", "bare"),
    [
        ("# noqa: S506", True),
        ("# noqa", True),
        ("# noqa: S506, PLC0415", True),
        ("# type: ignore[arg-type]", True),
        ("# noqa: S506  a SafeLoader underneath", False),
        ("# type: ignore[arg-type]  # the stub is wrong", False),
        ("# a plain comment", False),
    ],
)
def test_the_check_for_reasons_tells_a_reason_from_a_rule(comment: str, *, bare: bool) -> None:
    """The check above can fail."""
    assert silencers_without_reason(iter([(1, comment)])) == ([1] if bare else [])


def test_every_rule_ruff_ignores_has_its_reason_beside_it() -> None:
    """Nobody has to guess why a rule is off."""
    section = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[tool.ruff.lint]")[2]
    rules = re.findall(r'^\s+"[A-Z]+[0-9]+",(.*)$', section, re.MULTILINE)
    assert len(rules) > 10
    assert [rest for rest in rules if not re.search(r"# \w+ \w+", rest)] == []


def test_every_example_configuration_loads() -> None:
    """What is copied from here works, given the token."""
    assert CONFIGURATIONS
    for path in CONFIGURATIONS:
        text = path.read_text(encoding="utf-8")
        assert parse(text, {"TIKTOK_ACCESS_TOKEN": "made-up"}, references=True).destinations


def test_the_example_configuration_is_what_the_command_prints() -> None:
    """A new key cannot be missing there: `tiktok-events config example` writes the file."""
    shipped = (ROOT / "deploy" / "tiktok-events.yaml").read_text(encoding="utf-8")
    assert shipped == example_text()
