"""Reads the configuration: one file, the environment over it, every problem at once.

The settings themselves, with their meaning and defaults, are in `consumer.settings`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic.json_schema import GenerateJsonSchema

from consumer.combinations import findings
from consumer.complaints import complaint
from consumer.configfile import Path, Tree, as_problems, read_tree
from consumer.errors import ConfigError, Problem, SecretError
from consumer.secret import Secret, SecretSource
from consumer.settings import Config, DestinationSettings

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator, Mapping

    from pydantic_core import ErrorDetails

__all__ = [
    "Config",
    "DestinationSettings",
    "Secret",
    "SecretSource",
    "json_schema",
    "load",
    "parse",
]


def load(
    path: pathlib.Path | None, environ: Mapping[str, str], *, references: bool = True
) -> Config:
    """Reads and checks the configuration.

    Args:
        path: the YAML file; None reads the environment alone.
        environ: the environment: for `TIKTOK_EVENTS__...`, `${NAME}` and `{env: NAME}`.
        references: whether the files and variables it names must be there and readable, as they
            must to run; to show a configuration they need not be.

    Raises:
        ConfigError: with every problem found.
    """
    if path is None:
        return parse("", environ, references=references)
    return parse(_read(path), environ, references=references, name=str(path))


def parse(
    text: str, environ: Mapping[str, str], *, references: bool, name: str = "configuration"
) -> Config:
    """As `load`, from the text of a file; `name` stands for it in problems of the whole file.

    Raises:
        ConfigError: with every problem found.
    """
    tree = read_tree(text, environ)
    if any(not at for at, _ in tree.problems):
        raise ConfigError(_named(tree.problems, tree, name))
    wrong = {at for at, _ in tree.problems}
    config, invalid = _validate(tree)
    wrong |= invalid
    found = list(tree.problems)
    # A rule whose keys are wrong in themselves has nothing to say yet.
    found += [
        (finding.path, finding.message)
        for finding in findings(config)
        if not any(_within(key, wrong) for key in (finding.path, *finding.looked_at))
    ]
    if references:
        found += [
            (at, message)
            for at, message in _missing_references(config, environ)
            if not _within(at, wrong)
        ]
    if found:
        raise ConfigError(_named(found, tree, name))
    return config


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the configuration file, each key with its description."""
    schema = Config.model_json_schema()
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "title": "tiktok-events configuration",
        **{key: _tidy(value) for key, value in schema.items() if key != "title"},
    }


def _tidy(value: Any) -> Any:
    """Without the titles pydantic derives from names, and without line breaks in descriptions."""
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: " ".join(item.split())
        if key == "description" and isinstance(item, str)
        # Below `properties` and `$defs` the keys are names, and `title` would be one of them.
        else {name: _tidy(child) for name, child in item.items()}
        if key in ("properties", "$defs")
        else _tidy(item)
        for key, item in value.items()
        if not (key == "title" and isinstance(item, str))
    }


def _read(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else "cannot be read"
        message = f"{reason}; name a configuration file with -c, or in TIKTOK_EVENTS_CONFIG"
        raise ConfigError((Problem(str(path), message),)) from error
    except UnicodeDecodeError as error:
        raise ConfigError((Problem(str(path), "is not UTF-8 text"),)) from error


def _validate(tree: Tree) -> tuple[Config, set[Path]]:
    """The settings, with what is wrong replaced by what is harmless, and the paths of that.

    So the rules about several keys can be checked although some keys are wrong.
    """
    wrong: set[Path] = set()
    values: Any = tree.values
    for attempt in range(_ROUNDS):
        try:
            return Config.model_validate(values), wrong
        except ValidationError as error:
            details = _causes(error.errors(include_url=False, include_input=False))
        for detail in details:
            path: Path = detail["loc"]
            if attempt == 0:
                tree.problems.append((path, complaint(detail)))
            if detail["type"] != "extra_forbidden":
                wrong.add(path)
        values = _pruned(values, (), {detail["loc"] for detail in details})
        _fill(values)
    raise ConfigError(as_problems(tree.problems))


def _causes(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Without the lists that are too short only because their entries are wrong."""
    return [
        detail
        for detail in details
        if detail["type"] != "too_short"
        or not any(
            other is not detail and other["loc"][: len(detail["loc"])] == detail["loc"]
            for other in details
        )
    ]


_ROUNDS = 4
"""Each round takes out what the one before complained of; two are enough for any known error."""


def _pruned(value: Any, at: Path, wrong: set[Path]) -> Any:
    """A copy without the wrong values; a list with a wrong scalar goes as a whole."""
    if isinstance(value, dict):
        return {
            key: _pruned(child, (*at, key), wrong)
            for key, child in value.items()
            if (*at, key) not in wrong
            and not (
                isinstance(child, list)
                and any(
                    (*at, key, index) in wrong and not isinstance(item, dict)
                    for index, item in enumerate(child)
                )
            )
        }
    if isinstance(value, list):
        return [_pruned(child, (*at, index), wrong) for index, child in enumerate(value)]
    return value


def _fill(values: dict[str, Any]) -> None:
    """Puts placeholders where something required is missing; nobody sees them."""
    destinations = values.get("destinations") or [{}]
    values["destinations"] = [
        {"event_source_id": f"placeholder-{index}", "access_token": {"env": "PLACEHOLDER"}, **given}
        for index, given in enumerate(destinations)
    ]


def _within(path: Path, wrong: set[Path]) -> bool:
    return any(path[:length] in wrong for length in range(1, len(path) + 1))


def _missing_references(config: Config, environ: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    secrets: list[tuple[Path, SecretSource | None]] = [
        (("destinations", index, "access_token"), destination.access_token)
        for index, destination in enumerate(config.destinations)
    ]
    auth = config.schema_.registry_auth
    if auth:
        secrets += [
            (("schema", "registry_auth", "password"), auth.password),
            (("schema", "registry_auth", "token"), auth.token),
        ]
    secrets.append((("admin", "token"), config.admin.token))
    for path, source in secrets:
        try:
            if source:
                source.read(environ)
        except SecretError as error:
            yield path, str(error)
    files: list[tuple[Path, pathlib.Path | None]] = [
        (("schema", "registry_ca"), config.schema_.registry_ca),
        (("schema", "file"), config.schema_.file),
        *((("schema", "files", i), file) for i, file in enumerate(config.schema_.files)),
    ]
    for path, file in files:
        if file and not (file.is_file() and os.access(file, os.R_OK)):
            yield path, f"names {file}, which is no readable file"


def _named(found: list[tuple[Path, str]], tree: Tree, name: str) -> tuple[Problem, ...]:
    """Problems with the variable each value came from, and the file where no key is at fault."""
    problems = [
        (at, f"{message} (environment variable {origin})" if origin else message)
        for at, message in found
        for origin in [_origin(at, tree)]
    ]
    return tuple(
        problem if problem.path else Problem(name, problem.message)
        for problem in as_problems(problems)
    )


def _origin(path: Path, tree: Tree) -> str | None:
    for length in range(len(path), 0, -1):
        origin = tree.origins.get(path[:length])
        if origin:
            return origin
    return None
