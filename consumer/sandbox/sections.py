"""Which fields an Events API 2.0 request has, per event source: TikTok's tables.

A field that a table does not name is refused, save in `properties`, where it is a custom one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from consumer.sandbox import fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumer.sandbox.fields import Check

SOURCES = ("web", "app", "offline", "crm")

ENVELOPE: Mapping[str, Check] = {
    "event_source": fields.one_of(SOURCES),
    "event_source_id": fields.text,
    "test_event_code": fields.text,
}
"""What stands around the events. `partner_name` is for registered partners, and nobody is one."""

_COMMON_USER: Mapping[str, Check] = {"email": fields.digests, "phone": fields.digests}
_DEVICE: Mapping[str, Check] = {
    "ip": fields.public_ip,
    "user_agent": fields.text,
    "locale": fields.locale,
}
_USER: Mapping[str, Mapping[str, Check]] = {
    "web": {
        **_COMMON_USER,
        **_DEVICE,
        "external_id": fields.digests,
        "ttclid": fields.text,
        "ttp": fields.text,
        "first_name": fields.digest,
        "last_name": fields.digest,
        "zip_code": fields.digest,
        "city": fields.plain_place,
        "state": fields.plain_place,
        "country": fields.plain_place,
    },
    "app": {
        **_COMMON_USER,
        **_DEVICE,
        "idfa": fields.digest,
        "gaid": fields.digest,
        "idfv": fields.text,
        "att_status": fields.one_of(
            ("AUTHORIZED", "DENIED", "NOT_DETERMINED", "RESTRICTED", "NOT_APPLICABLE")
        ),
    },
    "offline": _COMMON_USER,
    "crm": {**_COMMON_USER, "external_id": fields.digests},
}

CONTENT: Mapping[str, Check] = {
    "content_id": fields.text,
    "content_name": fields.text,
    "content_category": fields.text,
    "brand": fields.text,
    "quantity": fields.integer,
    "price": fields.number,
}

PROPERTIES: Mapping[str, Check] = {
    "content_type": fields.one_of(("product", "product_group")),
    "content_ids": fields.texts,
    "num_items": fields.integer,
    "value": fields.number,
    "currency": fields.one_of(fields.CURRENCIES),
    "order_id": fields.text,
    "shop_id": fields.text,
    "search_string": fields.text,
    "query": fields.text,
    "description": fields.text,
    "customer_type": fields.one_of(("new", "returning")),
}

_PAGE: Mapping[str, Check] = {"url": fields.text, "referrer": fields.text}
_APP: Mapping[str, Check] = dict.fromkeys(("app_id", "app_name", "app_version"), fields.text)
_LEAD: Mapping[str, Check] = dict.fromkeys(("lead_id", "lead_event_source"), fields.text)
_SHARED_AD: Mapping[str, Check] = {"attribution_share": fields.text}
_APP_AD: Mapping[str, Check] = {
    **_SHARED_AD,
    **dict.fromkeys(
        (
            "callback",
            "campaign_id",
            "ad_id",
            "creative_id",
            "attribution_type",
            "attribution_provider",
        ),
        fields.text,
    ),
    "is_retargeting": fields.boolean,
    "attributed": fields.boolean,
}


class Section(NamedTuple):
    """An object within an event: its fields, whether it must be there, and what it must hold."""

    fields: Mapping[str, Check]
    required: bool = False
    required_fields: tuple[str, ...] = ()


SECTIONS: Mapping[str, Mapping[str, Section]] = {
    "web": {
        "user": Section(_USER["web"]),
        "page": Section(_PAGE, required=True, required_fields=("url",)),
        "ad": Section(_SHARED_AD),
    },
    "app": {
        "user": Section(_USER["app"]),
        "app": Section(_APP, required=True, required_fields=("app_id",)),
        "ad": Section(_APP_AD),
    },
    "offline": {"user": Section(_USER["offline"])},
    "crm": {
        "user": Section(_USER["crm"]),
        "lead": Section(_LEAD, required=True, required_fields=("lead_id",)),
    },
}

REQUIRED: Mapping[str, Check] = {
    "event": fields.text,
    "event_time": fields.unix_seconds,
    "event_id": fields.text,
}
"""What every event has. TikTok does not call `event_id` required; without one nothing can be
deduplicated, so here its absence is the sender's fault."""

LIMITABLE = frozenset({"web", "app"})
"""The sources whose events may ask for `limited_data_use`."""
