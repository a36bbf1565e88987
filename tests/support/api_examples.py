"""A complete good event of each source of TikTok's Events API 2.0, and ways to change it."""

from __future__ import annotations

import copy
import hashlib
from typing import Any, Final

DIGEST: Final = hashlib.sha256(b"alice_abc@gmail.com").hexdigest()
"""What an e-mail address, or anything else that is hashed, looks like."""

LEFT_OUT: Final = object()
"""A value for `changed` and `with_envelope`: the field is not there."""

EVENT_SOURCE_ID: Final = "C9ABC1234567890DEFGH"

_ANY: Final[dict[str, Any]] = {"event_time": 1_700_000_000, "event_id": "e-1"}
EVENTS: Final[dict[str, dict[str, Any]]] = {
    "web": {
        **_ANY,
        "event": "CompletePayment",
        "user": {"email": DIGEST, "ttclid": "E.C.P.abc", "ip": "20.42.7.9"},
        "page": {"url": "https://shop.example.com/cart", "referrer": "https://example.com/"},
        "properties": {
            "contents": [{"content_id": "sku-1", "quantity": 2, "price": 9.5}],
            "value": 19.0,
            "currency": "EUR",
        },
    },
    "app": {
        **_ANY,
        "event": "InstallApp",
        "user": {"gaid": DIGEST, "ip": "20.42.7.9", "att_status": "NOT_APPLICABLE"},
        "app": {"app_id": "123", "app_name": "Shop", "app_version": "1.0"},
    },
    "offline": {
        **_ANY,
        "event": "Purchase",
        "user": {"email": DIGEST, "phone": [DIGEST]},
        "properties": {"value": 10.0, "currency": "USD"},
    },
    "crm": {
        **_ANY,
        "event": "Lead",
        "user": {"email": DIGEST, "external_id": DIGEST},
        "lead": {"lead_id": "l-1", "lead_event_source": "CRM"},
    },
}


def changed(source: str, path: str = "", value: object = None) -> dict[str, Any]:
    """A good event of a source with one field set, or taken away by `LEFT_OUT`.

    `path` has dots between names and places in lists; empty changes nothing.
    """
    event = copy.deepcopy(EVENTS[source])
    if not path:
        return event
    *sections, name = path.split(".")
    place: Any = event
    for section in sections:
        place = place[int(section)] if section.isdigit() else place.setdefault(section, {})
    if value is LEFT_OUT:
        del place[name]
    else:
        place[name] = value
    return event


def request(source: str, *events: object, **envelope: object) -> dict[str, Any]:
    """A request of these events; what `envelope` names is set, or taken away by `LEFT_OUT`."""
    body = {
        "event_source": source,
        "event_source_id": EVENT_SOURCE_ID,
        "data": list(events),
        **envelope,
    }
    return {name: value for name, value in body.items() if value is not LEFT_OUT}
