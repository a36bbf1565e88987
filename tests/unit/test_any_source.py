"""Whatever an event of any source holds, what is sent is what TikTok takes, and nothing fails."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.consent import ConsentRules, OnDenied
from consumer.event import ConsentState, EventSource, Mapped, Reason, Refused
from consumer.identity import MATCH_KEYS, PERSONAL_FIELDS, IdentityRules
from consumer.names import CURRENCIES, STANDARD_PROPERTIES
from consumer.sandbox.rules import check_request
from consumer.source_rules import RULES
from tests.support.events import any_event
from tests.support.mapping import (
    DESTINATIONS,
    NOW,
    REQUIRED,
    complete_event,
    element,
    mapped,
    mapper,
    request,
)
from tests.support.mutations import mutated

CONSENT = st.builds(
    ConsentRules,
    missing=st.sampled_from([ConsentState.GRANTED, ConsentState.DENIED]),
    on_marketing_denied=st.sampled_from(OnDenied),
    on_ad_user_data_denied=st.sampled_from(OnDenied),
    forward_signals=st.booleans(),
    limited_data_use_regions=st.just(frozenset({"US"})),
)
HASHED = PERSONAL_FIELDS | {"idfa", "gaid"}
MAPPER = mapper(identity=IdentityRules("US"))
"""One that remembers what it has seen of every source, as in a process that runs for long."""


def assert_nothing_empty(value: Any) -> None:
    """No null, blank text, empty object or array anywhere."""
    if isinstance(value, dict | list):
        assert value
        for child in value.values() if isinstance(value, dict) else value:
            assert_nothing_empty(child)
    else:
        assert value is not None
        assert not isinstance(value, str) or value.strip()


def assert_user_as_documented(source: EventSource, user: dict[str, Any]) -> None:
    """The source's fields only, the personal ones as digests."""
    assert user.keys() <= set(RULES[source].user)
    for field in HASHED & user.keys():
        values = user[field] if isinstance(user[field], list) else [user[field]]
        assert all(re.fullmatch("[0-9a-f]{64}", value) for value in values)


def assert_properties_as_documented(properties: dict[str, Any]) -> None:
    """Standard properties in the types and choices of TikTok's reference."""
    assert ("value" in properties) == ("currency" in properties)
    assert properties.get("currency", "USD") in CURRENCIES
    assert properties.get("content_type", "product") in {"product", "product_group"}
    assert properties.get("customer_type", "new") in {"new", "returning"}
    for item in properties.get("contents", ()):
        assert item.get("quantity", 1) >= 1
        assert isinstance(item.get("price", 0.0), float)
    for name in STANDARD_PROPERTIES - {"value", "contents", "content_ids", "num_items"}:
        assert isinstance(properties.get(name, ""), str)


def assert_as_documented(source: EventSource, given_: dict[str, Any], found: Mapped) -> None:
    """Everything that is sent obeys the reference, and consent."""
    sent, rules = element(found), RULES[source]
    assert check_request(request(source, sent)) is None
    assert_nothing_empty(sent)
    parts = {"event", "event_time", "event_id", "user", "properties", *rules.sections}
    assert sent.keys() <= parts | ({"limited_data_use"} if rules.limited_data_use else set())
    assert sent["event_time"] == given_["event_time"] // 1000
    assert sent["event_id"] == given_["event_id"]
    user = sent.get("user", {})
    assert_user_as_documented(source, user)
    assert found.match_keys == tuple(key for key in MATCH_KEYS if key in user)
    assert_properties_as_documented(sent.get("properties", {}))
    assert sent.get("limited_data_use") is found.consent.limited_data_use
    if found.consent.strip_user_data:
        assert not PERSONAL_FIELDS & user.keys()


@settings(max_examples=150, deadline=None)
@given(any_event, st.sampled_from(EventSource), CONSENT)
def test_any_event_maps_to_what_tiktok_documents(
    given_: dict[str, Any], source: EventSource, rules: ConsentRules
) -> None:
    """Every event the schema allows has an outcome, and what is sent obeys the reference."""
    given_ |= {
        name: section if given_[name] is None else given_[name] | section
        for name, section in complete_event(source).items()
        if name in REQUIRED[source]
    }
    if source is EventSource.OFFLINE:
        given_["event"] = "Purchase"
    found = mapper(rules).map(given_, DESTINATIONS[source], NOW)
    if isinstance(found, Mapped):
        assert_as_documented(source, given_, found)
    else:
        assert found.reason in {Reason.CONSENT, Reason.INVALID}


@settings(max_examples=400, deadline=None)
@given(st.data(), st.sampled_from(EventSource))
def test_a_field_that_changed_is_taken_warned_about_or_refused(
    data: st.DataObject, source: EventSource
) -> None:
    """One field of a complete event gets any value its type allows, sensible or hostile."""
    path, given_ = data.draw(mutated(complete_event(source)))
    found = MAPPER.map(given_, DESTINATIONS[source], NOW)
    if isinstance(found, Mapped):
        assert_as_documented(source, given_, found)
    elif isinstance(found, Refused):
        # A limited use of data needs the address: changing either can bring that about.
        assert found.field is not None
        assert found.field.startswith(path) or {path, found.field} == {
            "limited_data_use",
            "user.ip",
        }
    else:
        assert path.startswith("consent")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(EventSource), min_size=2, max_size=8), st.booleans())
def test_what_one_source_is_remembered_by_is_no_other_sources(
    sources: list[EventSource],
    strip: bool,  # noqa: FBT001  drawn, not called with
) -> None:
    """The same person by one mapper in any order of sources: each time as if it came first."""
    answer = "DENIED" if strip else "GRANTED"
    one = mapper(identity=IdentityRules("US"))
    for source in sources:
        given_ = complete_event(source)
        given_["consent"] |= {"ad_user_data": answer}
        alone = mapper(identity=IdentityRules("US")).map(given_, DESTINATIONS[source], NOW)
        found = one.map(given_, DESTINATIONS[source], NOW)
        assert isinstance(found, Mapped)
        assert found == alone


EMAILS = st.from_regex(
    r"[a-z0-9][a-z0-9._+-]{0,8}[a-z0-9]@[a-z]{2,8}\.(example|co\.uk)", fullmatch=True
)


@settings(max_examples=100, deadline=None)
@given(
    EMAILS,
    st.text("abc @:/?&=#", max_size=4),
    st.sampled_from(["GRANTED", "DENIED"]),
    st.sampled_from(EventSource),
)
def test_no_e_mail_address_of_the_person_is_in_the_body(
    email: str, around: str, answer: str, source: EventSource
) -> None:
    """Wherever a producer put it, with or without consent, and TikTok takes what remains."""
    text = f"{around} {email} {around}"
    given_ = complete_event(
        source,
        page={"url": f"https://s.example/?q={text}&b=2", "referrer": f"https://{text}/"},
        user={"email": email, "external_id": email, "first_name": email},
        properties={
            "search_string": text,
            "description": text,
            "contents": [{"content_id": "sku", "content_name": text, "brand": text}],
            "custom": {"note": text, "page": f"https://s.example/{text}", email: 1},
        },
        consent={"marketing": "GRANTED", "ad_user_data": answer},
    )
    given_["app"] |= {"app_name": text, "app_version": text}
    given_["lead"] |= {"lead_event_source": text}
    given_["ad"] |= {"attribution_type": text, "attribution_share": text}
    found = mapped(given_, DESTINATIONS[source])
    assert email.encode() not in found.body
    assert check_request(request(source, element(found))) is None
