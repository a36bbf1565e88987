"""Which tokens TikTok knows, and what each of them opens."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Access(NamedTuple):
    """What a token opens: requests count for `app`, and only these destinations may be written."""

    app: str
    event_source_ids: frozenset[str]


class TokensError(ValueError):
    """A list of tokens that cannot be read; the text names the entry, never the token."""


def tokens_from_json(document: object) -> Mapping[str, Access]:
    """Tokens from JSON: `{"<token>": {"app": "<name>", "event_source_ids": ["<id>", …]}, …}`.

    Raises:
        TokensError: something else; the entry is named by its place, beginning with 1.
    """
    if not isinstance(document, dict) or not document:
        raise TokensError("an object of tokens is expected")
    return {
        token: _access(entry, f"token {place}")
        for place, (token, entry) in enumerate(document.items(), 1)
    }


def _access(entry: object, path: str) -> Access:
    if not isinstance(entry, dict) or set(entry) != {"app", "event_source_ids"}:
        raise TokensError(f"{path}: an object with app and event_source_ids is expected")
    app, ids = entry["app"], entry["event_source_ids"]
    if not isinstance(app, str) or not app:
        raise TokensError(f"{path}: app must be a string")
    if not isinstance(ids, list) or not all(isinstance(each, str) and each for each in ids):
        raise TokensError(f"{path}: event_source_ids must be a list of strings")
    return Access(app, frozenset(ids))
