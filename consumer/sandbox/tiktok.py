"""TikTok's answers to the Events API 2.0, without a socket.

A request comes in as a value and a reply goes out as one, time included, so that a test can play
two days in a millisecond. What is answered follows TikTok's documented codes: nearly always HTTP
200, the verdict in the body's `code`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from consumer.sandbox import answers, rules
from consumer.sandbox.answers import Reply
from consumer.sandbox.faults import FaultKind, Scenario, Weather
from consumer.sandbox.ground_truth import WINDOW_SECONDS, GroundTruth, RequestSeen, request_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumer.event import Instant
    from consumer.sandbox.faults import Fault
    from consumer.sandbox.rules import Complaint


class Access(NamedTuple):
    """What a token opens: requests count for `app`, and only these destinations may be written."""

    app: str
    event_source_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class EmulatorSettings:
    """How an emulator starts.

    `tokens` None lets any token write anywhere. `strict` false leaves out the check of each
    event's fields, for load tests in which TikTok's share of the machine should be small. `window`
    is TikTok's deduplication window in seconds.
    """

    tokens: Mapping[str, Access] | None = field(default=None, repr=False)
    scenario: Scenario = field(default_factory=Scenario)
    strict: bool = True
    window: float = WINDOW_SECONDS


class Ask(NamedTuple):
    """A request to the endpoint: its body, the two headers that matter, and how long it took."""

    body: bytes
    access_token: str | None = None
    content_type: str | None = "application/json"
    upload_seconds: float = 0.0

    def __repr__(self) -> str:
        """Its size; never the token or the events."""
        return f"<Ask of {len(self.body)} bytes>"


class _Judgement(NamedTuple):
    """What TikTok says; `code` None where it never saw the request."""

    code: int | None
    message: str | None = None
    accepted: int = 0
    deduplicated: int = 0


class _Bucket:
    """A token bucket that holds a second's worth of requests."""

    __slots__ = ("_left", "_rate", "_since")

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._left = max(rate, 1.0)
        self._since = now

    def take(self, now: float) -> bool:
        """Whether one more request fits now."""
        refilled = self._left + (now - self._since) * self._rate
        self._left = min(refilled, max(self._rate, 1.0))
        self._since = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class TikTok:
    """TikTok's side of the endpoint: its rules, its limits, its faults and its memory."""

    def __init__(self, settings: EmulatorSettings, now: Instant) -> None:
        self._settings = settings
        self.truth = GroundTruth(settings.window)
        self._buckets: dict[tuple[str, str], _Bucket] = {}
        self._weather = Weather(settings.scenario, now.mono)

    @property
    def scenario(self) -> Scenario:
        """The scenario in force."""
        return self._weather.scenario

    def play(self, scenario: Scenario, now: Instant) -> None:
        """Puts a scenario in force; its times count from now, and rate limits start afresh."""
        self._weather = Weather(scenario, now.mono)
        self._buckets.clear()

    def answer(self, ask: Ask, now: Instant) -> Reply:
        """Answers a request that came at `now`, and remembers what it took."""
        number = self.truth.begin(now.wall_ns / 1e9)
        body = _parse(ask.body)
        event_source_id = _string(body, "event_source_id")
        fault = self._weather.strike(event_source_id, now.mono)
        judgement = self._verdict(fault, ask, body, number, now)
        reply = self._reply(fault, judgement, number)
        data = body.get("data") if isinstance(body, dict) else None
        self.truth.note(
            RequestSeen(
                request_id(number),
                now.wall_ns / 1e9,
                event_source_id,
                _string(body, "test_event_code"),
                len(data) if isinstance(data, list) else 0,
                len(ask.body),
                judgement.code if reply.answered else None,
                fault.kind if fault is not None else None,
                judgement.accepted,
                judgement.deduplicated,
                self._app(ask.access_token),
                ask.upload_seconds,
            )
        )
        return reply._replace(number=number)

    def _app(self, token: str | None) -> str | None:
        tokens = self._settings.tokens
        access = tokens.get(token) if tokens is not None and token is not None else None
        return None if access is None else access.app

    def _verdict(
        self, fault: Fault | None, ask: Ask, body: object, number: int, now: Instant
    ) -> _Judgement:
        if fault is None:
            return self._judge(ask, body, number, now)
        if _reaches_tiktok(fault):
            judgement = self._judge(ask, body, number, now)
            if fault.kind is FaultKind.CODE and judgement.code == answers.OK:
                return judgement._replace(code=fault.code, message=fault.message)
            return judgement
        if fault.kind is FaultKind.CODE:
            return _Judgement(fault.code, fault.message)
        return _Judgement(None)

    def _judge(self, ask: Ask, body: object, number: int, now: Instant) -> _Judgement:
        """What TikTok says when nothing goes wrong on its side."""
        refusal = self._check_form(ask, body)
        if refusal is not None or not isinstance(body, dict):
            return refusal or _Judgement(answers.BAD_REQUEST)
        event_source_id = body["event_source_id"]
        if (refusal := self._check_access(ask.access_token, event_source_id, now)) is not None:
            return refusal
        check = rules.check_events if self._settings.strict else rules.check_identities
        if (complaint := check(body)) is not None:
            return self._refuse(complaint)
        accepted, deduplicated = self.truth.accept(
            number, event_source_id, body.get("test_event_code"), body["data"]
        )
        return _Judgement(answers.OK, None, accepted, deduplicated)

    def _refuse(self, complaint: Complaint) -> _Judgement:
        return _Judgement(answers.BAD_PARAMETER, complaint.message(self.scenario.wording))

    def _check_form(self, ask: Ask, body: object) -> _Judgement | None:
        if (refusal := self._check_token(ask.access_token)) is not None:
            return refusal
        if not _is_json(ask.content_type):
            return _Judgement(answers.BAD_REQUEST, "Content-Type must be application/json.")
        if body is None:
            return _Judgement(answers.BAD_REQUEST, "The request body is not valid JSON.")
        complaint = rules.check_envelope(body)
        return None if complaint is None else self._refuse(complaint)

    def _check_token(self, token: str | None) -> _Judgement | None:
        if not token:
            return _Judgement(answers.TOKEN_MISSING)
        if token in self.scenario.expired_tokens:
            return _Judgement(answers.TOKEN_EXPIRED)
        tokens = self._settings.tokens
        known = " " not in token if tokens is None else token in tokens
        return None if known else _Judgement(answers.TOKEN_WRONG)

    def _check_access(
        self, token: str | None, event_source_id: str, now: Instant
    ) -> _Judgement | None:
        tokens = self._settings.tokens
        access = tokens[token] if tokens is not None and token is not None else None
        if access is not None and event_source_id not in access.event_source_ids:
            return _Judgement(answers.NO_PERMISSION)
        app = access.app if access is not None else "any"
        if not self._within("app", app, self.scenario.app_rate, now):
            return _Judgement(answers.APP_THROTTLED)
        if not self._within("pixel", event_source_id, self.scenario.pixel_rate, now):
            return _Judgement(answers.PIXEL_THROTTLED)
        return None

    def _within(self, scope: str, name: str, rate: float | None, now: Instant) -> bool:
        if rate is None:
            return True
        bucket = self._buckets.get((scope, name))
        if bucket is None:
            bucket = self._buckets[scope, name] = _Bucket(rate, now.mono)
        return bucket.take(now.mono)

    def _reply(self, fault: Fault | None, judgement: _Judgement, number: int) -> Reply:
        delay = self._weather.latency()
        throttled = judgement.code in answers.THROTTLED
        retry_after = self.scenario.retry_after if throttled else None
        status = 200
        if fault is not None:
            retry_after = fault.retry_after or retry_after
            status = fault.status or status
            match fault.kind:
                case FaultKind.PAGE:
                    page = answers.page(status)
                    return Reply(status, page, "text/html", retry_after, delay)
                case FaultKind.HANG:
                    return Reply(0, b"", delay=delay + fault.seconds, answered=False)
                case FaultKind.CLOSE_BEFORE | FaultKind.CLOSE_AFTER:
                    return Reply(0, b"", delay=delay, answered=False)
                case FaultKind.LATE:
                    delay += fault.seconds
                case FaultKind.CODE:
                    pass
        body = answers.body(judgement.code or answers.OK, judgement.message, request_id(number))
        return Reply(status, body, retry_after=retry_after, delay=delay)


def _reaches_tiktok(fault: Fault) -> bool:
    """Whether TikTok sees the request although its answer is spoilt."""
    return fault.kind in (FaultKind.LATE, FaultKind.CLOSE_AFTER) or (
        fault.kind is FaultKind.CODE and fault.code in answers.TAKEN
    )


def _is_json(content_type: str | None) -> bool:
    return content_type is not None and (
        content_type.partition(";")[0].strip().lower() == "application/json"
    )


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _string(body: object, name: str) -> str | None:
    value = body.get(name) if isinstance(body, dict) else None
    return value if isinstance(value, str) else None
