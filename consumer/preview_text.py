"""A preview in words, for a person at a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click
import orjson

from consumer.event import ConsentState, Reason
from consumer.identity import MATCH_KEYS, PERSONAL_FIELDS
from consumer.source_rules import RULES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from consumer.event import Consent, Destination, Mapped
    from consumer.preview import Preview

_HINTS: Final = {
    Reason.TOO_OLD: "With --now the event is taken as if it happened now.",
    Reason.UNKNOWN_DESTINATION: "The destinations of this configuration: {destinations}.",
}
_PURPOSES: Final = ("marketing", "ad_user_data", "ad_personalization")


def text(preview: Preview, destinations: Sequence[Destination], *, missing: str) -> str:
    """The preview on some lines, styled; `destinations` are the configured ones.

    `missing` is the setting `consent.missing`: how an unknown answer is read.
    """
    return "\n".join(_lines(preview, destinations, missing))


def summary(preview: Preview, destinations: Sequence[Destination]) -> str:
    """What would become of the event and what is left out, without the request."""
    return "\n".join((*_outcome(preview, destinations), *_warnings(preview)))


def _lines(preview: Preview, destinations: Sequence[Destination], missing: str) -> Iterator[str]:
    yield from _outcome(preview, destinations)
    if preview.request is not None:
        request = preview.request
        yield from ("", f"{request.method} {request.url}")
        yield from (f"{name}: {value}" for name, value in request.headers.items())
        shown = orjson.dumps(orjson.loads(request.body), option=orjson.OPT_INDENT_2)
        yield from ("", *map(_shown, shown.decode().splitlines()))
    if preview.warnings:
        yield ""
        yield from _warnings(preview)
    if preview.consent is not None:
        yield from ("", _title("Consent"), *_consent(preview.consent, missing))
    if preview.mapped is not None:
        yield from ("", _title("Matched by"), *_matching(preview.mapped))


def _outcome(preview: Preview, destinations: Sequence[Destination]) -> Iterator[str]:
    """The first line and what belongs to it."""
    yield _headline(preview)
    if preview.mapped is not None:
        yield from _test(preview.mapped)
        return
    for problem in preview.problems:
        at = f"{problem.field}: " if problem.field else ""
        yield f"  {at}{_shown(problem.detail)}"
    if not preview.problems:
        yield f"  {_shown(preview.detail or '')}"
    hint = _HINTS.get(preview.reason) if preview.reason else None
    if hint is not None:
        known = ", ".join(f"{d.event_source} {d.event_source_id}" for d in destinations)
        yield f"  {hint.format(destinations=known)}"


def _warnings(preview: Preview) -> Iterator[str]:
    if preview.warnings:
        yield _title("Left out, or worth a look")
    yield from (f"  {field}: {message}" for field, message in preview.warnings)


def _shown(words: str) -> str:
    """What came with an event, without what would steer the terminal."""
    return "".join(char if char.isprintable() else "\ufffd" for char in words)


def _title(words: str) -> str:
    return click.style(words, bold=True)


def _headline(preview: Preview) -> str:
    to = preview.destination
    where = f" {to.event_source} {to.event_source_id}" if to is not None else ""
    match preview.outcome:
        case "send":
            name = _shown(preview.mapped.event) if preview.mapped is not None else ""
            return click.style(f"Would be sent as {name} to{where}", fg="green", bold=True)
        case "suppressed":
            words = f"Would not be sent: suppressed ({preview.reason})"
            return click.style(words, fg="yellow", bold=True)
        case "dead_lettered":
            words = f"Would not be sent: a dead letter ({preview.reason})"
            return click.style(words, fg="red", bold=True)


def _test(mapped: Mapped) -> Iterator[str]:
    if mapped.test_event_code is None:
        yield "  as a real event: it has no test_event_code, and neither has its destination"
    else:
        yield f"  as a test event, with the code {_shown(mapped.test_event_code)}"


def _consent(consent: Consent, missing: str) -> Iterator[str]:
    for purpose in _PURPOSES:
        state: ConsentState = getattr(consent, purpose)
        unknown = state is ConsentState.UNKNOWN
        yield f"  {purpose}: {f'not known, read as {missing}' if unknown else state.lower()}"
    if missing == "denied" and ConsentState.UNKNOWN in consent[: len(_PURPOSES)]:
        yield "  (consent.missing: granted would read what is not known as consent: only for people"
        yield "  who were asked before, or need not be asked.)"
    if consent.region is not None:
        yield f"  region: {_shown(consent.region)}"
    if consent.limited_data_use is not None:
        yield f"  limited_data_use: {str(consent.limited_data_use).lower()}"


def _matching(mapped: Mapped) -> Iterator[str]:
    """What TikTok can find the person by, and what is missing that consent allows."""
    denied = PERSONAL_FIELDS if mapped.consent.strip_user_data else frozenset()
    able = set(RULES[mapped.destination.event_source].user).difference(denied, mapped.match_keys)
    yield f"  {', '.join(mapped.match_keys) or 'nothing: TikTok can attribute it to nobody'}"
    if missing := [key for key in MATCH_KEYS if key in able]:
        yield f"  would match better with: {', '.join(missing)}"
