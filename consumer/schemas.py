"""The Avro schemas that ship with the program."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any


def load_schema(name: str) -> dict[str, Any]:
    """Read a schema by its file's name without the ending, such as `conversion_event`.

    An installed wheel carries the schemas inside the package; a checkout has them beside it.

    Raises:
        FileNotFoundError: no schema of that name ships with the program.
    """
    file = f"{name}.avsc"
    packaged = files("consumer") / "schemas" / file
    if packaged.is_file():
        text = packaged.read_text(encoding="utf-8")
    else:
        text = (Path(__file__).parent.parent / "schemas" / file).read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema
