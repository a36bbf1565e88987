"""Validation errors in the operator's words, with the key that was probably meant."""

from __future__ import annotations

import difflib
import typing
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from consumer.settings import Config
from consumer.settingtypes import PATTERN_MEANINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic_core import ErrorDetails

    from consumer.configfile import Path


def complaint(detail: ErrorDetails) -> str:
    """What is wrong at `detail["loc"]` and what to write instead; never the value itself."""
    kind = detail["type"]
    if kind == "extra_forbidden":
        return _unknown_key(detail["loc"])
    if kind == "string_pattern_mismatch":
        return PATTERN_MEANINGS[detail["ctx"]["pattern"]]
    known = _MESSAGES.get(kind)
    if known:
        return known
    return detail["msg"].removeprefix("Value error, ").replace("Input should", "must")


_MESSAGES = {
    "missing": "is missing and has no default",
    "string_type": "must be text; put it in quotes",
    "string_too_short": "must not be empty",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "model_type": "must be a mapping of keys to values",
    "mapping_type": "must be a mapping of names to values",
    "dict_type": "must be a mapping of names to values",
    "tuple_type": "must be a list, for example [a, b]",
    "too_short": "must have at least one entry",
    "path_type": "must be the path of a file",
}


def _unknown_key(path: Path) -> str:
    """What to write instead of a key that does not exist."""
    name = str(path[-1])
    siblings = list(_keys(_model_at(path[:-1])))
    close = difflib.get_close_matches(name, siblings, n=1, cutoff=0.7)
    if close:
        return f"is no known key; did you mean {close[0]}?"
    elsewhere = [key for key in _all_keys(Config, "") if key.rpartition(".")[2] == name]
    if elsewhere:
        return f"is no known key here; did you mean {' or '.join(elsewhere)}?"
    return f"is no known key; known here: {', '.join(siblings)}"


def _keys(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield field.alias or name


def _model_at(path: Path) -> type[BaseModel]:
    model: type[BaseModel] = Config
    for part in path:
        for name, field in model.model_fields.items():
            if part == (field.alias or name):
                model = _model_in(field.annotation) or model
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_model_in(argument) for argument in typing.get_args(annotation))
    return next((model for model in inner if model), None)


def _all_keys(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or name)
        yield key
        inner = _model_in(field.annotation)
        if inner:
            yield from _all_keys(inner, f"{key}.")
