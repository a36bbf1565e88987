"""The commented example configuration, written from the settings themselves: it cannot go stale."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Final

import yaml
from pydantic import BaseModel

from consumer.settings import Config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

_WIDTH: Final = 98
_PIXEL: Final = {
    "event_source_id": "C9ABC1234567890DEFGH",
    "event_source": "web",
    "access_token": {"env": "TIKTOK_ACCESS_TOKEN"},
}
_HEAD: Final = """\
Configuration of tiktok-events. Only destinations is required; every other key shows its default.

Durations take ms, s, m, h or d; sizes take B, KiB, MiB or GiB. ${NAME} and ${NAME:-default} are
replaced by environment variables. Every key can also be given by the environment, over this
file: TIKTOK_EVENTS__KAFKA__BOOTSTRAP_SERVERS for kafka.bootstrap_servers; lists and mappings as
YAML or JSON. Secrets are named by their place, {env: NAME} or {file: PATH}, never written here.
"""


def example_text() -> str:
    """A complete configuration file: every key, what it means, its default.

    It loads as it is, given the environment variable TIKTOK_ACCESS_TOKEN.
    """
    config = Config.model_validate({"destinations": [_PIXEL]})
    return "\n".join([*_comment(_HEAD, ""), *_section(config, "")]) + "\n"


def _section(section: BaseModel, indent: str) -> Iterator[str]:
    shown = section.model_dump(mode="json", by_alias=True)
    for name, field in type(section).model_fields.items():
        key = field.alias or name
        value = getattr(section, name)
        if not indent:
            yield ""
        yield from _comment(field.description or "", indent)
        if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            yield f"{indent}{key}:"
            for entry in value:
                yield from _entry(entry, indent)
        elif isinstance(value, BaseModel) and not indent:
            yield f"{indent}{key}:"
            yield from _section(value, indent + "  ")
        else:
            yield f"{indent}{key}: {_flow(_written(field, shown[key]))}"


def _entry(entry: BaseModel, indent: str) -> Iterator[str]:
    lines = list(_section(entry, indent + "    "))
    first = next(index for index, line in enumerate(lines) if not line.lstrip().startswith("#"))
    # The dash stands before the first key, after its comment.
    lines[first] = f"{indent}  - {lines[first].lstrip()}"
    yield from lines


def _written(field: FieldInfo, value: Any) -> Any:
    """The default as the contract writes it (`48h`), which is not always the shortest (`2d`)."""
    extra = field.json_schema_extra
    return extra.get("default", value) if isinstance(extra, dict) else value


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), sort_keys=False)
    return text.removesuffix("...\n").strip()


def _comment(text: str, indent: str) -> Iterator[str]:
    for paragraph in text.strip().split("\n\n"):
        if paragraph != text.strip().split("\n\n")[0]:
            yield f"{indent}#"
        filled = " ".join(paragraph.split())
        for line in textwrap.wrap(filled, _WIDTH - len(indent), break_on_hyphens=False):
            yield f"{indent}# {line}"
