"""What would become of an event: the consumer's own path up to the request, which is not sent.

Nothing here decides. Destination, mapping, consent and identifiers come from the objects that the
engine is built of, the request's body and headers from the client; what is added are the words for
a person and a place for the token, which nobody needs to have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import orjson

from consumer import compose
from consumer.client import HEADERS, TOKEN_HEADER, envelope
from consumer.event import (
    ConsentState,
    FieldWarning,
    Mapped,
    Reason,
    Refused,
    Suppressed,
)
from consumer.requests import Request

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from consumer.config import Config
    from consumer.event import Consent, Destination
    from consumer.plain_json import PlainEvent

Outcome = Literal["send", "suppressed", "dead_lettered"]

TOKEN_MASK: Final = "***"  # noqa: S105  what is shown in a token's place
_UNKNOWN, _DENIED = ConsentState.UNKNOWN, ConsentState.DENIED


class HttpRequest(NamedTuple):
    """A request as the client would make it, the token masked."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        """Where to; never the body."""
        return f"<HttpRequest {self.method} {self.url}>"


@dataclass(frozen=True, slots=True)
class Preview:
    """What would become of an event.

    `reason`, `field` and `detail` are those of the outcome: the first of `problems` where it would
    be dead-lettered. `destination` is None where it has none. `request` and `mapped` are there
    where it would be sent, `consent` where consent was asked. `warnings` name what was left out,
    and why.
    """

    outcome: Outcome
    reason: Reason | None = None
    field: str | None = None
    detail: str | None = None
    destination: Destination | None = None
    warnings: tuple[FieldWarning, ...] = ()
    request: HttpRequest | None = None
    mapped: Mapped | None = None
    consent: Consent | None = None
    problems: tuple[Refused, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The form that other programs read; its keys are a contract."""
        request = self.request
        return {
            "outcome": self.outcome,
            "reason": self.reason,
            "field": self.field,
            "detail": self.detail,
            "destination": self.destination and self.destination.event_source_id,
            "warnings": [warning._asdict() for warning in self.warnings],
            "request": request
            and {
                "method": request.method,
                "url": request.url,
                "headers": dict(request.headers),
                "body": orjson.loads(request.body),
            },
        }


class Previewer:
    """Previews events under one configuration; the tokens it names are not read."""

    def __init__(self, config: Config) -> None:
        self._endpoint = config.tiktok.endpoint
        self._missing_is_denied = config.consent.missing == "denied"
        self._effects = {
            "marketing": config.consent.on_marketing_denied,
            "ad_user_data": config.consent.on_ad_user_data_denied,
        }
        self._routes = compose.routes(config, compose.destinations(config))
        self._mapper = compose.mapper(config)

    def preview(self, plain: PlainEvent, wall_ms: int) -> Preview:
        """What would become of a plain event at `wall_ms` (milliseconds since the epoch)."""
        if plain.event is None:
            return _dead_lettered(plain.problems, None, plain.warnings)
        destination = self._routes.route(plain.event)
        if isinstance(destination, Refused):
            return _dead_lettered((destination,), None, plain.warnings)
        found = self._mapper.map(plain.event, destination, wall_ms)
        if isinstance(found, Refused):
            return _dead_lettered((found,), destination, plain.warnings)
        if isinstance(found, Suppressed):
            return Preview(
                "suppressed",
                found.reason,
                None,
                self._why_suppressed(found, plain.event, destination),
                destination,
                plain.warnings,
                consent=found.consent,
            )
        return Preview(
            "send",
            destination=destination,
            warnings=(*plain.warnings, *found.warnings, *self._removed(found)),
            request=self._request(found),
            mapped=found,
            consent=found.consent,
        )

    def _request(self, mapped: Mapped) -> HttpRequest:
        destination = mapped.destination
        request = Request(
            0,
            destination.event_source.value,
            destination.event_source_id,
            mapped.test_event_code,
            [mapped.body],
        )
        headers = {**HEADERS, TOKEN_HEADER: TOKEN_MASK}
        return HttpRequest("POST", self._endpoint, headers, envelope(request))

    def _why_suppressed(
        self, found: Suppressed, event: dict[str, Any], destination: Destination
    ) -> str:
        if found.consent is not None:
            return " and ".join(self._denials(found.consent, "suppress"))
        name = destination.event_names.get(event["event"], event["event"])
        return f"{name} is not among the allow_events of {destination.event_source_id}"

    def _removed(self, mapped: Mapped) -> Iterator[FieldWarning]:
        why = " and ".join(self._denials(mapped.consent, "strip"))
        for field in mapped.removed:
            yield FieldWarning(field, f"left out: {why}")

    def _denials(self, consent: Consent, effect: str) -> Iterator[str]:
        """The denials that have this effect, in words."""
        for purpose, has in self._effects.items():
            state = getattr(consent, purpose)
            if has != effect:
                continue
            if state is _DENIED:
                yield f"consent.{purpose} is DENIED"
            elif state is _UNKNOWN and self._missing_is_denied:
                yield f"consent.{purpose} is not known, which consent.missing reads as denied"


def _dead_lettered(
    problems: tuple[Refused, ...],
    destination: Destination | None,
    warnings: tuple[FieldWarning, ...],
) -> Preview:
    first = problems[0]
    return Preview(
        "dead_lettered",
        first.reason,
        first.field,
        first.detail,
        destination,
        warnings,
        consent=first.consent,
        problems=problems,
    )
