"""What an answer of TikTok means: one table, body before status.

TikTok answers most errors with HTTP 200 and says what happened in the body's `code`, so the code
decides and the HTTP status only speaks where there is no code (a gateway, a broken body).
The table is the vendor's quirks in one place, a reason in each row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal, NamedTuple

import orjson

from consumer.redact import known_path

Failure = Literal["timeout", "connection", "not_sent"]


class Answer(NamedTuple):
    """What came back for a request, as the client saw it.

    `failure` is None where an HTTP answer came. Otherwise `not_sent` says that nothing reached
    TikTok (refused connection, unknown host, no token), while `timeout` and `connection` leave
    open whether TikTok took the events. `retry_after` is that header, raw.
    """

    status: int | None
    body: bytes
    retry_after: str | None = None
    failure: Failure | None = None

    def __repr__(self) -> str:
        """The status or the failure; never the body, which may quote an event."""
        return f"<Answer {self.failure or self.status}>"


class Kind(StrEnum):
    """What to do with the events of a request."""

    ACCEPTED = "accepted"
    RETRY = "retry"
    THROTTLED = "throttled"
    REJECTED = "rejected"
    HELD = "held"


class Scope(StrEnum):
    """How far a throttle or a hold reaches."""

    PIXEL = "pixel"
    APP = "app"


class Rule(NamedTuple):
    """One row of the table. `unknown` says that TikTok may have taken the events all the same."""

    kind: Kind
    why: str
    scope: Scope = Scope.PIXEL
    unknown: bool = False
    alert: bool = False
    partial: bool = False
    pause: float = 0.0


_BAD_PARAMETER = Rule(Kind.REJECTED, "bad parameters: some event of the batch is wrong")
_APP_THROTTLE = Rule(Kind.THROTTLED, "too many requests of this app", scope=Scope.APP)
_TIKTOK_SIDE = Rule(Kind.RETRY, "an error on TikTok's side", unknown=True)
_TOKEN = Rule(
    Kind.HELD, "TikTok refuses the token or the app: replace the token", Scope.APP, alert=True
)
_SETUP = Rule(Kind.HELD, "the account or the pixel is not set up for this", alert=True)
_PRESENT = Rule(Kind.ACCEPTED, "TikTok has this already")

_TOKEN_CODES = (
    *range(40101, 40107),
    40003,
    40113,
    *range(40115, 40120),
    40124,
    40125,
    40130,
)
_SETUP_CODES = (*range(40006, 40011), 40051, 40300, 40301, 41000, 41001, 41002)

CODES: Mapping[int, Rule] = {
    0: Rule(Kind.ACCEPTED, "ok"),
    20001: Rule(Kind.ACCEPTED, "partially successful: never resend", alert=True, partial=True),
    **dict.fromkeys((40000, 40002, 40061, 40062, 40063, 40700), _BAD_PARAMETER),
    **dict.fromkeys((40100, 40016, 40133, 61000), _APP_THROTTLE),
    40132: Rule(Kind.THROTTLED, "too many requests for this pixel, or a leaked token", alert=True),
    40202: _TIKTOK_SIDE,
    50000: _TIKTOK_SIDE,
    50002: _TIKTOK_SIDE,
    60001: Rule(Kind.RETRY, "maintenance", pause=60.0),
    40001: Rule(Kind.HELD, "the token has no permission for this pixel", alert=True),
    **dict.fromkeys(_TOKEN_CODES, _TOKEN),
    **dict.fromkeys(_SETUP_CODES, _SETUP),
    40050: _PRESENT,
    40900: _PRESENT,
}
"""TikTok's documented codes for this endpoint."""

_TOKEN_CLASS = range(40100, 40200)
_CLIENT_CLASS = range(40000, 50000)


def rule_for_code(code: int) -> Rule:
    """The row of a code; a code nobody documents is judged by its class, with an alert.

    An unknown code of the 4xxxx class holds the destination: its events are kept until somebody
    has looked, since neither dropping them nor hammering TikTok would be right.
    """
    if (known := CODES.get(code)) is not None:
        return known
    if code in _TOKEN_CLASS:
        return _TOKEN._replace(why=f"unknown code {code} of the token class")
    if code in _CLIENT_CLASS:
        return _SETUP._replace(why=f"unknown code {code}: held until somebody has looked")
    return _TIKTOK_SIDE._replace(why=f"unknown code {code}", alert=code not in range(51000, 54000))


def rule_for_status(status: int) -> Rule:
    """The rule for an answer without a code: a gateway's page blames no event."""
    match status:
        case 401 | 403:
            return Rule(
                Kind.HELD, f"HTTP {status} without a code: token or app", Scope.APP, alert=True
            )
        case 429:
            return Rule(Kind.THROTTLED, "HTTP 429", scope=Scope.APP)
        case 413:
            return Rule(Kind.REJECTED, "the request is too large")
        case _ if status >= 500:  # noqa: PLR2004  the class of HTTP server errors
            return Rule(Kind.RETRY, f"HTTP {status}", unknown=True)
        case _ if 200 <= status < 300:  # noqa: PLR2004  HTTP success without a readable code
            return Rule(Kind.RETRY, f"HTTP {status} with an unreadable body", unknown=True)
        case _:
            return Rule(
                Kind.RETRY, f"HTTP {status} without a code: a gateway?", unknown=True, alert=True
            )


FAILURES: Mapping[Failure, Rule] = {
    "timeout": Rule(Kind.RETRY, "no answer in time", unknown=True),
    "connection": Rule(Kind.RETRY, "the connection broke", unknown=True),
    "not_sent": Rule(Kind.RETRY, "nothing could be sent"),
}


class Blame(NamedTuple):
    """Whom a rejection names: an event of the request, or the request itself.

    `event` is its index in `data`. `event` None and `envelope` False: the message
    names nobody, so the batch is bisected.
    """

    event: int | None = None
    field: str | None = None
    envelope: bool = False


class Verdict(NamedTuple):
    """An answer judged. `message` is TikTok's own text and may quote a person's data."""

    kind: Kind
    rule: Rule
    code: int | None
    http_status: int | None
    request_id: str | None
    message: str | None
    retry_after: str | None
    failure: Failure | None
    blame: Blame
    failed: tuple[int | str, ...] = ()

    def __repr__(self) -> str:
        """Kind and cause; never TikTok's text."""
        return f"<Verdict {self.kind} {self.cause}>"

    @property
    def cause(self) -> str:
        """A short name for metrics: the code, the HTTP status or the failure."""
        if self.code is not None:
            return str(self.code)
        return self.failure or f"http_{self.http_status}"


_INDEXED = re.compile(
    r"[A-Za-z _-]{0,60}?(?:\bdata ?[.\[]|\bBatch ?\.) ?(\d{1,6}) ?\]? ?\.? ?"
    r"([A-Za-z_][\w. ]{0,200}?)? ?(?::|$)",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"[A-Za-z _-]{0,60}?\bInvalid value for ([A-Za-z_][\w. ]{0,200}?) ?(?::|$)", re.IGNORECASE
)
# Both look at the message's start alone: what follows the first colon may be a quoted value,
# and whoever chose it must not get to name a neighbour.
_ABOUT_ENVELOPE = re.compile(
    r"[A-Za-z ,_-]{1,80}: ?'?(event_source_id|event_source|access_token)'?[. ]*$", re.IGNORECASE
)
_LED_BY_ENVELOPE = re.compile(
    r"(?:(?:the|a|invalid|missing|unknown|wrong|bad|data|for|required|field|parameter) ){0,5}"
    r"'?(event_source_id|event_source|access_token)'?(?=[ :,]|\.?$)",
    re.IGNORECASE,
)
_LONGEST_MESSAGE = 4096
"""Characters of a message that are searched. It may quote a hostile value, so white space is
folded first: a run of it must not multiply the ways in which a pattern can fail."""
_ENVELOPE_FIELDS = frozenset({"event_source", "event_source_id", "test_event_code", "access_token"})
_NOBODY = Blame()
_LONGS = range(-(2**63), 2**63)
"""What a receipt or a span can hold; a code beyond came from nobody who knows TikTok's API."""


def blame(message: str | None, events: int) -> Blame:
    """Whom a rejection's message names, against the request of `events` events as it was sent.

    The documented wordings are `data. 1 .event_id:`, `data.0.event_id:`, `Batch.0.properties…:`
    and one without an index. An index that the request does not have names nobody. A field is
    named as far as its path is the API's own, since the rest of it may be an event's.
    """
    if not message:
        return _NOBODY
    message = " ".join(message[:_LONGEST_MESSAGE].split())
    if (found := _INDEXED.match(message)) is not None:
        index, path = int(found[1]), found[2]
        field = known_path(path.replace(" ", "")) if path else None
        return Blame(index, field) if index < events else Blame(None, field)
    if (found := _NAMED.match(message)) is not None:
        field = known_path(found[1].replace(" ", ""))
        return Blame(None, field, envelope=field in _ENVELOPE_FIELDS)
    if (found := _ABOUT_ENVELOPE.match(message) or _LED_BY_ENVELOPE.match(message)) is not None:
        # `Missing data for required field: event_source_id`: words and the field, nothing quoted.
        # `event_source_id: Not a valid string`, `Invalid event_source_id`: what leads is the field.
        return Blame(None, found[1].lower(), envelope=True)
    return _NOBODY


def judge(answer: Answer, events: int) -> Verdict:
    """Judges an answer to a request of `events` events. Never raises, whatever came back."""
    if answer.failure is not None:
        rule = FAILURES[answer.failure]
        return Verdict(rule.kind, rule, None, None, None, None, None, answer.failure, _NOBODY)
    body = _parse(answer.body)
    code = body.get("code")
    if type(code) is not int or code not in _LONGS:
        rule = rule_for_status(answer.status or 0)
        return Verdict(
            rule.kind,
            rule,
            None,
            answer.status,
            None,
            None,
            answer.retry_after,
            None,
            _NOBODY,
        )
    rule = rule_for_code(code)
    message = body.get("message") if isinstance(body.get("message"), str) else None
    request_id = body.get("request_id")
    return Verdict(
        rule.kind,
        rule,
        code,
        answer.status,
        request_id[:128] if isinstance(request_id, str) and request_id.isprintable() else None,
        message,
        answer.retry_after,
        None,
        blame(message, events) if rule.kind is Kind.REJECTED else _NOBODY,
        _failed(body.get("data")) if rule.partial else (),
    )


def _parse(body: bytes) -> dict[str, Any]:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _failed(data: object) -> tuple[int | str, ...]:
    """The events a partial success names, by index or event_id, in any list of objects in `data`.

    No public client has seen this answer, so the shape is read leniently.
    """
    if not isinstance(data, dict):
        return ()
    named: list[int | str] = []
    for entries in data.values():
        for entry in entries if isinstance(entries, Sequence) else ():
            if not isinstance(entry, dict):
                continue
            # A number is an index only where it is called so: an event_id may look like one.
            index, event_id = entry.get("index"), entry.get("event_id")
            if type(index) is int:
                named.append(index)
            elif isinstance(event_id, str):
                named.append(event_id)
    return tuple(named)
