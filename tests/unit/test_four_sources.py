"""One event with everything a producer knows, sent to a pixel, an app, an offline set and a CRM.

What is sent to each is compared whole, digest by digest.
"""

from __future__ import annotations

from typing import Any

import pytest

from consumer.consent import ConsentRules
from consumer.event import EventSource
from consumer.sandbox.rules import check_request
from tests.support.events import EVENT_TIME_MS
from tests.support.mapping import (
    ALLOWED,
    DESTINATIONS,
    complete_event,
    element,
    mapped,
    request,
    warned,
)

WEB, APP, OFFLINE, CRM = EventSource
EMAIL = "848a771458438fc2ec420560d769fb9b9b86851ee338ec56517baabd79d3bb4f"
PHONE = "9f7ec22d72092cd3c0b58726ed9c2d91b92e51a3f29837508fb2948bb22dd2fd"
EXTERNAL_ID = "80fba0ae1c48e3978e43e4efc365e14e12ea0c830ba8ba5b9a2dafc7e3f2ab8b"
JANE = "81f8f6dde88365f3928796ec7aa53f72820b06db8664f5fe76a7eb13e24546a2"
ONEIL = "67a42a846e98e3c1a96cd6ba14883a5ea05990cd93964ce8b832aa9497ca785c"
ZIP_10001 = "e443169117a184f91186b401133b20be670c7c0896f9886075e5d9b81e9d076b"
IDFA = "70574fa9c8f498a7b2e5c8712b1126de7b1406fd02fdc591821c5bd33092fd1c"
GAID = "0ebad966881e1eebffe69b3abf624631cf83ec9bf8cb3ce134c7c75c6d8ee7fc"

PROPERTIES: dict[str, Any] = {
    "value": 49.9,
    "currency": "USD",
    "content_type": "product",
    "contents": [
        {
            "content_id": "sku-1",
            "content_name": "Mug",
            "content_category": "Kitchen",
            "brand": "Acme",
            "quantity": 2,
            "price": 24.95,
        }
    ],
    "content_ids": ["sku-1"],
    "num_items": 2,
    "order_id": "order-1",
    "shop_id": "shop-1",
    "search_string": "mugs",
    "description": "Two mugs",
    "customer_type": "new",
    "plan": "pro",
    "seats": 3,
    "rate": 0.5,
    "trial": False,
    "ad_user_data": "GRANTED",
    "ad_personalization": "GRANTED",
}
"""The same for every source."""

WEB_REQUEST: dict[str, Any] = {
    "event_source": "web",
    "event_source_id": "C9ABC1234567890DEFGH",
    "data": [
        {
            "event": "CompletePayment",
            "event_time": 1_764_000_000,
            "event_id": "order-1-purchase",
            "page": {
                "url": "https://shop.example/thanks?order=1",
                "referrer": "https://shop.example/pay",
            },
            "ad": {"attribution_share": "0.5"},
            "user": {
                "email": EMAIL,
                "phone": PHONE,
                "external_id": EXTERNAL_ID,
                "ttclid": "E.C.P.Abc-123",
                "ttp": "01J8ZK-ttp",
                "ip": "8.8.8.8",
                "user_agent": "Mozilla/5.0 (iPhone)",
                "locale": "en-US",
                "first_name": JANE,
                "last_name": ONEIL,
                "city": "newyork",
                "state": "ny",
                "country": "us",
                "zip_code": ZIP_10001,
            },
            "properties": PROPERTIES,
            "limited_data_use": False,
        }
    ],
}
APP_REQUEST: dict[str, Any] = {
    "event_source": "app",
    "event_source_id": "7123456789012345678",
    "data": [
        {
            "event": "Purchase",
            "event_time": 1_764_000_000,
            "event_id": "order-1-purchase",
            "app": {"app_id": "com.shop.example", "app_name": "Shop", "app_version": "4.2"},
            "ad": {
                "callback": "cb-1",
                "campaign_id": "c-1",
                "ad_id": "a-1",
                "creative_id": "cr-1",
                "is_retargeting": False,
                "attributed": True,
                "attribution_type": "CTA",
                "attribution_provider": "mmp",
                "attribution_share": "0.5",
            },
            "user": {
                "email": EMAIL,
                "phone": PHONE,
                "ip": "8.8.8.8",
                "user_agent": "Mozilla/5.0 (iPhone)",
                "locale": "en-US",
                "idfa": IDFA,
                "gaid": GAID,
                "idfv": "5E6BA2F1-51C7-4EFA-8C0B-9E9C1CE3B7FA",
                "att_status": "AUTHORIZED",
            },
            "properties": PROPERTIES,
            "limited_data_use": False,
        }
    ],
}
OFFLINE_REQUEST: dict[str, Any] = {
    "event_source": "offline",
    "event_source_id": "7234567890123456789",
    "data": [
        {
            "event": "CompletePayment",
            "event_time": 1_764_000_000,
            "event_id": "order-1-purchase",
            "user": {"email": EMAIL, "phone": PHONE},
            "properties": PROPERTIES,
        }
    ],
}
CRM_REQUEST: dict[str, Any] = {
    "event_source": "crm",
    "event_source_id": "7345678901234567890",
    "data": [
        {
            "event": "CompletePayment",
            "event_time": 1_764_000_000,
            "event_id": "order-1-purchase",
            "lead": {"lead_id": "7400000000000000001", "lead_event_source": "Acme CRM"},
            "user": {"email": EMAIL, "phone": PHONE, "external_id": EXTERNAL_ID},
            "properties": PROPERTIES,
        }
    ],
}
REQUESTS = {WEB: WEB_REQUEST, APP: APP_REQUEST, OFFLINE: OFFLINE_REQUEST, CRM: CRM_REQUEST}
WARNED = {
    WEB: """ad.callback ad.campaign_id ad.ad_id ad.creative_id ad.is_retargeting ad.attributed
        ad.attribution_type ad.attribution_provider app lead
        user.idfa user.gaid user.idfv user.att_status""",
    APP: """page lead user.external_id user.ttclid user.ttp user.first_name user.last_name user.city
        user.state user.country user.zip_code""",
    OFFLINE: """limited_data_use page app ad lead user.external_id user.ttclid user.ttp user.ip
        user.user_agent user.locale user.first_name user.last_name user.city user.state user.country
        user.zip_code user.idfa user.gaid user.idfv user.att_status""",
    CRM: """limited_data_use page app ad user.ttclid user.ttp user.ip user.user_agent user.locale
        user.first_name user.last_name user.city user.state user.country user.zip_code user.idfa
        user.gaid user.idfv user.att_status""",
}


@pytest.mark.parametrize("source", EventSource)
def test_the_same_event_becomes_each_sources_request(source: EventSource) -> None:
    """Everything the source takes, nothing it does not; and what was left out is told."""
    found = mapped(complete_event(source), DESTINATIONS[source])
    sent = request(source, element(found))
    assert sent == REQUESTS[source]
    assert check_request(sent) is None
    assert warned(found) == WARNED[source].split()
    assert found.event_time_ms == EVENT_TIME_MS
    assert found.removed == ()


DENIED = {"marketing": "GRANTED", "ad_user_data": "DENIED", "ad_personalization": "DENIED"}
US = ConsentRules(limited_data_use_regions=frozenset({"US"}))


@pytest.mark.parametrize(
    ("source", "user", "removed", "limited"),
    [
        pytest.param(
            WEB,
            "ttclid ttp ip user_agent locale city state country",
            "email phone external_id first_name last_name zip_code",
            True,
            id="web",
        ),
        pytest.param(
            APP,
            "ip user_agent locale idfa gaid idfv att_status",
            "email phone",
            True,
            id="app",
        ),
        pytest.param(OFFLINE, "", "email phone", None, id="offline"),
        pytest.param(CRM, "", "email phone external_id", None, id="crm"),
    ],
)
def test_a_denial_in_california_changes_each_sources_request(
    source: EventSource,
    user: str,
    removed: str,
    limited: bool | None,  # noqa: FBT001  a column of the table
) -> None:
    """The identifiers leave, the denials travel, and data use is limited where that exists."""
    given = complete_event(source, consent={**DENIED, "region": "US-CA"}, limited_data_use=None)
    found = mapped(given, DESTINATIONS[source], US)
    granted = REQUESTS[source]["data"][0]
    expected = {
        **granted,
        "user": {name: granted["user"][name] for name in user.split()},
        "properties": {
            **PROPERTIES,
            "ad_user_data": "DENIED",
            "ad_personalization": "DENIED",
        },
        "limited_data_use": limited,
    }
    assert element(found) == {k: v for k, v in expected.items() if v not in ({}, None)}
    assert found.removed == tuple(f"user.{name}" for name in removed.split())
    # The region asks for what the source cannot be asked: whoever answers for it learns that.
    assert ("limited_data_use" in warned(found)) is (limited is None)
    assert found.consent.limited_data_use is limited


@pytest.mark.parametrize("source", EventSource)
@pytest.mark.parametrize("region", ["DE", "CA", None])
def test_a_denial_elsewhere_travels_and_limits_nothing(
    source: EventSource, region: str | None
) -> None:
    """Canada is not California."""
    given = complete_event(source, consent={**DENIED, "region": region}, limited_data_use=None)
    sent = element(mapped(given, DESTINATIONS[source], US))
    assert "limited_data_use" not in sent
    assert sent["properties"]["ad_personalization"] == "DENIED"


@pytest.mark.parametrize("source", EventSource)
def test_an_unknown_answer_is_read_by_the_setting_and_never_forwarded(source: EventSource) -> None:
    """Only known states travel; what is missing was not said."""
    given = complete_event(source, consent={"marketing": "GRANTED", "ad_user_data": "UNKNOWN"})
    strict = mapped(given, DESTINATIONS[source], ConsentRules())
    loose = mapped(given, DESTINATIONS[source], ALLOWED)
    assert "user.email" in strict.removed
    assert loose.removed == ()
    for found in (strict, loose):
        assert "ad_user_data" not in element(found)["properties"]
