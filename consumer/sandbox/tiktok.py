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
from consumer.sandbox.access import Access
from consumer.sandbox.answers import Reply
from consumer.sandbox.faults import FailedBy, Fault, FaultKind, Scenario, ThrottleForm
from consumer.sandbox.ground_truth import WINDOW_SECONDS, GroundTruth, RequestSeen, request_id
from consumer.sandbox.rate_limits import RateLimits
from consumer.sandbox.weather import Weather

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from consumer.event import Instant
    from consumer.sandbox.rules import Complaint

__all__ = ["Access", "Ask", "EmulatorSettings", "TikTok"]

_ANY_APP = "any"
_RATES = frozenset({"app_rate", "pixel_rate", "app_rates", "pixel_rates", "burst_seconds"})
_BODY_TOO_LARGE = Fault(FaultKind.PAGE, status=answers.TOO_LARGE)


@dataclass(frozen=True, slots=True)
class EmulatorSettings:
    """How an emulator starts.

    `tokens` None lets any token write anywhere. `strict` false leaves out the check of each
    event's fields, for load tests in which TikTok's share of the machine should be small. `window`
    is TikTok's deduplication window in seconds. `remember` is how many events and requests the
    ground truth holds at most, None all of them.
    """

    tokens: Mapping[str, Access] | None = field(default=None, repr=False)
    scenario: Scenario = field(default_factory=Scenario)
    strict: bool = True
    window: float = WINDOW_SECONDS
    remember: int | None = None


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
    data: Mapping[str, Any] | None = None
    rate_limited: bool = False


class TikTok:
    """TikTok's side of the endpoint: its rules, its limits, its faults and its memory."""

    def __init__(self, settings: EmulatorSettings, now: Instant) -> None:
        self._settings = settings
        self.truth = GroundTruth(settings.window, settings.remember)
        self._weather = Weather(settings.scenario, now.mono)
        self._limits = RateLimits(settings.scenario)

    @property
    def scenario(self) -> Scenario:
        """The scenario in force."""
        return self._weather.scenario

    @property
    def faults(self) -> list[dict[str, Any]]:
        """Its faults as JSON, with how often each has `struck` and how often it may (`left`)."""
        return self._weather.pending()

    def play(self, scenario: Scenario, now: Instant) -> None:
        """Puts a scenario in force; its times count from now, and rate limits start afresh."""
        self._weather = Weather(scenario, now.mono)
        self._limits = RateLimits(scenario)

    def amend(self, changes: Mapping[str, Any], now: Instant) -> None:
        """Changes the named fields of the scenario; everything else goes on, clocks included.

        Raises:
            ScenarioError: the changes contradict each other or what stays.
        """
        self._weather.amend(changes, now.mono)
        if not _RATES.isdisjoint(changes):
            self._limits = RateLimits(self.scenario)

    def add_faults(self, faults: Sequence[Fault], now: Instant) -> None:
        """Adds faults to the scenario in force, behind the others; their times count from now."""
        self._weather.add(faults, now.mono)

    def answer(self, ask: Ask, now: Instant) -> Reply:
        """Answers a request that came at `now`, and remembers what it took."""
        number = self.truth.begin(now.wall_ns / 1e9)
        body = _parse(ask.body)
        event_source_id = _string(body, "event_source_id")
        app = self._app(ask.access_token)
        fault = self._strike(ask, event_source_id, app, now)
        judgement = self._verdict(fault, ask, body, number, now)
        reply = self._reply(fault, judgement, number, now)
        data = body.get("data") if isinstance(body, dict) else None
        self.truth.note(
            RequestSeen(
                request_id(number),
                now.wall_ns / 1e9,
                event_source_id,
                _string(body, "test_event_code"),
                len(data) if isinstance(data, list) else 0,
                len(ask.body),
                reply.code,
                fault.kind if fault is not None else None,
                judgement.accepted,
                judgement.deduplicated,
                app,
                ask.upload_seconds,
                reply.status if reply.answered else None,
            )
        )
        return reply

    def _app(self, token: str | None) -> str | None:
        tokens = self._settings.tokens
        access = tokens.get(token) if tokens is not None and token is not None else None
        return None if access is None else access.app

    def _strike(
        self, ask: Ask, event_source_id: str | None, app: str | None, now: Instant
    ) -> Fault | None:
        most = self.scenario.max_body_bytes
        if most is not None and len(ask.body) > most:
            return _BODY_TOO_LARGE
        return self._weather.strike(event_source_id, app, now.mono)

    def _verdict(
        self, fault: Fault | None, ask: Ask, body: object, number: int, now: Instant
    ) -> _Judgement:
        if fault is None:
            return self._judge(ask, body, number, now)
        if _reaches_tiktok(fault):
            judgement = self._judge(ask, body, number, now, fault.failed)
            if fault.kind is FaultKind.CODE and judgement.code == answers.OK:
                data = _failures(fault, body)
                return judgement._replace(code=fault.code, message=fault.message, data=data)
            return judgement
        if fault.kind is FaultKind.CODE:
            return _Judgement(fault.code, fault.message)
        return _Judgement(None)

    def _judge(
        self, ask: Ask, body: object, number: int, now: Instant, failed: Sequence[int] = ()
    ) -> _Judgement:
        """What TikTok says when nothing goes wrong on its side, but for the `failed` events."""
        refusal = self._check_form(ask, body, now)
        if refusal is not None or not isinstance(body, dict):
            return refusal or _Judgement(answers.BAD_REQUEST)
        event_source_id = body["event_source_id"]
        if (refusal := self._check_access(ask.access_token, event_source_id, now)) is not None:
            return refusal
        check = rules.check_events if self._settings.strict else rules.check_identities
        if (complaint := check(body)) is not None:
            return self._refuse(complaint)
        events = body["data"]
        if failed:
            events = [event for index, event in enumerate(events) if index not in failed]
        accepted, deduplicated = self.truth.accept(
            number, event_source_id, body.get("test_event_code"), events
        )
        return _Judgement(answers.OK, None, accepted, deduplicated)

    def _refuse(self, complaint: Complaint) -> _Judgement:
        return _Judgement(answers.BAD_PARAMETER, complaint.message(self.scenario.wording))

    def _check_form(self, ask: Ask, body: object, now: Instant) -> _Judgement | None:
        if (code := self._token_refusal(ask.access_token, now)) is not None:
            return _Judgement(code)
        if not _is_json(ask.content_type):
            return _Judgement(answers.BAD_REQUEST, "Content-Type must be application/json.")
        if body is None:
            return _Judgement(answers.BAD_REQUEST, "The request body is not valid JSON.")
        complaint = rules.check_envelope(body)
        return None if complaint is None else self._refuse(complaint)

    def _token_refusal(self, token: str | None, now: Instant) -> int | None:
        if not token:
            return answers.TOKEN_MISSING
        tokens = self._settings.tokens
        known = " " not in token if tokens is None else token in tokens
        if not known:
            return answers.TOKEN_WRONG
        return self._weather.token_refusal(token, now.mono)

    def _check_access(
        self, token: str | None, event_source_id: str, now: Instant
    ) -> _Judgement | None:
        tokens = self._settings.tokens
        access = tokens[token] if tokens is not None and token is not None else None
        if access is not None and event_source_id not in access.event_source_ids:
            return _Judgement(answers.NO_PERMISSION)
        app = access.app if access is not None else _ANY_APP
        code = self._limits.refusal(app, event_source_id, now.mono)
        return None if code is None else _Judgement(code, rate_limited=True)

    def _reply(
        self, fault: Fault | None, judgement: _Judgement, number: int, now: Instant
    ) -> Reply:
        delay = self._weather.latency()
        kind = None if fault is None else fault.kind
        if fault is not None and kind in (FaultKind.HANG, FaultKind.LATE):
            delay += fault.seconds
        if kind in (FaultKind.HANG, FaultKind.CLOSE_BEFORE, FaultKind.CLOSE_AFTER):
            return Reply(0, b"", delay=delay, answered=False, number=number)
        status = self._status(fault, judgement)
        retry_after = self._retry_after(fault, judgement, now)
        form = self.scenario.throttle_form
        if kind is FaultKind.PAGE or (judgement.rate_limited and form is ThrottleForm.PAGE):
            page = answers.page(status)
            return Reply(status, page, "text/html", retry_after, delay, number=number)
        code = judgement.code or answers.OK
        body = answers.body(code, judgement.message, request_id(number), judgement.data)
        cut = kind is FaultKind.CUT
        return Reply(
            status,
            body,
            retry_after=retry_after,
            delay=delay,
            number=number,
            code=None if cut else code,
            cut=cut,
        )

    def _status(self, fault: Fault | None, judgement: _Judgement) -> int:
        if fault is not None and fault.status is not None:
            return fault.status
        if judgement.rate_limited and self.scenario.throttle_form is not ThrottleForm.BODY:
            return answers.TOO_MANY_REQUESTS
        return 200

    def _retry_after(self, fault: Fault | None, judgement: _Judgement, now: Instant) -> str | None:
        if fault is not None and fault.retry_after is not None:
            value, as_date = fault.retry_after, fault.retry_after_date
        elif judgement.code in answers.THROTTLED and self.scenario.retry_after is not None:
            value, as_date = self.scenario.retry_after, self.scenario.retry_after_date
        else:
            return None
        return answers.http_date(now.wall_ns / 1e9 + int(value)) if as_date else value


def _reaches_tiktok(fault: Fault) -> bool:
    """Whether TikTok sees the request although its answer is spoilt."""
    return (
        fault.taken
        or fault.kind in (FaultKind.LATE, FaultKind.CLOSE_AFTER, FaultKind.CUT)
        or (fault.kind is FaultKind.CODE and fault.code in answers.TAKEN)
    )


def _failures(fault: Fault, body: object) -> Mapping[str, Any] | None:
    """What `data` of a partial success says. The shape is a guess: nobody has seen the answer."""
    if not fault.failed or fault.failed_by is FailedBy.NOTHING or not isinstance(body, dict):
        return None
    events = body["data"]
    named: list[dict[str, Any]] = [
        {"index": index}
        if fault.failed_by is FailedBy.INDEX
        else {"event_id": events[index]["event_id"]}
        for index in fault.failed
        if index < len(events)
    ]
    return {"failed_events": [{**each, "message": "Event failed."} for each in named]}


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
