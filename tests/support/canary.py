"""Canaries: a marker in every field that may hold a person's data, and in every secret.

What a marker is found in has let it out. Markers are words of letters, which no scrubbing of
digits or digests hides by accident; telephone numbers, addresses and the like are numbers nobody
else uses. The digests of personal fields count as well: they are for TikTok alone.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any

from consumer.consent import ConsentRules
from consumer.event import ConsentState, Destination, EventSource, Mapped
from consumer.identity import IdentityRules
from consumer.payload import Mapper
from tests.support.events import event

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

STEM = "zqkanari"
"""In every marker that is text; no language and no program has this word."""

NUMBERS = {
    "phone": ("+12133734287", "2133734287", "213-373-4287", "213) 373-4287"),
    "ip": ("81.2.69.187",),
    "zip_code": ("90287-7311", "902877311"),
}
"""Markers that have to be numbers, in the forms in which they may come out."""

REGISTRY_USER = "schema-reader"
SECRETS = {
    "TOKEN_ONE": f"{STEM}TokenOfTheFirstPixels",
    "TOKEN_TWO": f"{STEM}TokenOfTheThirdPixel",
    "REGISTRY_PASSWORD": f"{STEM}RegistryPassword",
    "SASL_PASSWORD": f"{STEM}SaslPassword",
    "ADMIN_TOKEN": f"{STEM}AdminToken",
}
"""Secrets by the variables that hold them."""

KEY = f"{STEM}.key@{STEM}.example".encode()
HEADERS = (
    ("x-visitor", f"{STEM}-visitor".encode()),
    ("traceparent", f"00-{STEM}-{STEM}-01".encode()),
    ("baggage", f"visitor={STEM}".encode()),
)
"""A record's own headers, hostile ones for tracing among them."""

_DIGEST = re.compile(rb'"([0-9a-f]{64})"')


def canary_event(number: int, event_time: int, **fields: Any) -> dict[str, Any]:
    """A decoded event that is personal wherever it can be; `number` makes it another one.

    Only what telemetry names on purpose is not: event_id, event name, destination, consent.
    """
    given: dict[str, Any] = {
        "event_id": f"canary-{number}",
        "event": "Purchase",
        "event_time": event_time,
        "page": {
            "url": f"https://shop.example/{STEM}?email={STEM}%40{STEM}.example&ttclid={STEM}",
            "referrer": f"https://{STEM}.example/",
        },
        "user": {
            "email": f"{STEM.title()}.{number}@{STEM}.example",
            "phone": NUMBERS["phone"][0],
            "external_id": [f"{STEM}-customer-{number}", f"{STEM}-card"],
            "ttclid": f"{STEM}Click",
            "ttp": f"{STEM}Cookie",
            "ip": NUMBERS["ip"][0],
            "user_agent": f"Mozilla/5.0 ({STEM})",
            "locale": f"en-{STEM[:8]}",
            "first_name": STEM.title(),
            "last_name": f"Mc{STEM.title()}",
            "city": f"{STEM} City",
            "state": STEM,
            "country": STEM,
            "zip_code": NUMBERS["zip_code"][0],
        },
        "properties": {
            "value": 9.5,
            "currency": "USD",
            "content_type": "product",
            "contents": [
                {
                    "content_id": f"{STEM}-sku",
                    "content_name": STEM,
                    "content_category": STEM,
                    "brand": STEM,
                    "quantity": 1,
                    "price": 9.5,
                }
            ],
            "content_ids": [f"{STEM}-sku"],
            "order_id": f"{STEM}-order",
            "shop_id": f"{STEM}-shop",
            "search_string": f"gift for {STEM}",
            "description": f"For {STEM}",
            "custom": {f"{STEM}_note": f"call {STEM}", "note": STEM},
        },
        "consent": dict.fromkeys(("marketing", "ad_user_data", "ad_personalization"), "GRANTED"),
    }
    return event(**given | fields)


def digests(events: Iterable[Mapping[str, Any]]) -> set[str]:
    """The digests that TikTok gets of these events."""
    mapper = Mapper(
        consent=ConsentRules(missing=ConsentState.GRANTED),
        identity=IdentityRules(),
        max_future_ms=600_000,
        max_body_bytes=1 << 20,
    )
    destination = Destination(EventSource.WEB, "C9ABC1234567890DEFGH")
    found: set[str] = set()
    for one in events:
        mapped = mapper.map(dict(one), destination, one["event_time"], None)
        if isinstance(mapped, Mapped):
            found |= {digest.decode() for digest in _DIGEST.findall(mapped.body)}
    return found


def markers(events: Iterable[Mapping[str, Any]] = ()) -> frozenset[bytes]:
    """Everything to look for, in lower case: words, numbers, secrets' encodings, digests."""
    # The beginning that every password of the registry has in common, in whole groups of three.
    pair = f"{REGISTRY_USER}:{STEM}".encode()
    login = base64.b64encode(pair[: len(pair) // 3 * 3]).decode()
    numbers = (form for forms in NUMBERS.values() for form in forms)
    words = (STEM, login, *numbers, *digests(events))
    return frozenset(word.lower().encode() for word in words)


def leaks(places: Mapping[str, bytes | str], wanted: frozenset[bytes]) -> list[str]:
    """Where a marker was found, each with its surroundings."""
    return list(_leaks(places, wanted))


def _leaks(places: Mapping[str, bytes | str], wanted: frozenset[bytes]) -> Iterator[str]:
    for name, content in places.items():
        text = (content.encode() if isinstance(content, str) else content).lower()
        for marker in sorted(wanted):
            at = text.find(marker)
            if at >= 0:
                yield f"{marker.decode()} in {name}: {text[max(0, at - 160) : at + 80]!r}"
