"""What of an event is sent where the person did not allow all of it."""

from __future__ import annotations

import pytest

from consumer.consent import ConsentRules, decide, strictest
from consumer.event import ConsentState, EventSource, Mapped, Reason, Suppressed
from tests.support.events import event, purchase
from tests.support.mapping import ALLOWED, DESTINATIONS, NOW, element, mapped, mapper, outcome

PUBLIC_IP = {"ip": "8.8.8.8"}


def test_a_denied_marketing_consent_suppresses_the_event() -> None:
    """With the consent that decided, for the receipt."""
    found = outcome(event(consent={"marketing": "DENIED", "cmp_version": "2"}))
    assert isinstance(found, Suppressed)
    assert found.reason is Reason.CONSENT
    assert found.consent is not None
    assert (found.consent.marketing, found.consent.cmp_version) == (ConsentState.DENIED, "2")


def test_a_missing_consent_suppresses_by_default() -> None:
    """A forgotten mapping sends too little, never too much."""
    found = outcome(event(), consent=ConsentRules())
    assert isinstance(found, Suppressed)
    assert found.reason is Reason.CONSENT


def test_a_denied_ad_user_data_takes_the_identifiers_out() -> None:
    """What was taken out is named, what names nobody stays, and the denial travels."""
    found = mapped(purchase(consent={"marketing": "GRANTED", "ad_user_data": "DENIED"}))
    sent = element(found)
    assert sent["user"].keys() == {"ttclid", "ttp", "ip", "user_agent", "locale"}
    assert found.removed == ("user.email", "user.phone", "user.external_id")
    assert found.match_keys == ("ttclid", "ttp", "ip", "user_agent")
    assert sent["properties"]["ad_user_data"] == "DENIED"
    assert "ad_personalization" not in sent["properties"]


def test_signals_are_forwarded_only_where_they_are_wanted() -> None:
    """Without the setting the names are the advertiser's own again."""
    quiet = ConsentRules(forward_signals=False)
    assert "ad_user_data" not in element(mapped(purchase(), consent=quiet))["properties"]
    custom = purchase(properties={"custom": {"ad_user_data": "asked"}})
    assert element(mapped(custom, consent=quiet))["properties"] == {"ad_user_data": "asked"}


def test_the_consent_given_takes_the_place_of_the_events_own() -> None:
    """One attempt may stand for several records; it obeys the strictest."""
    strict = decide({**purchase()["consent"], "ad_user_data": "DENIED"}, ALLOWED)
    own = mapped(purchase()).consent
    found = mapper().map(purchase(), DESTINATIONS[EventSource.WEB], NOW, strictest(own, strict))
    assert isinstance(found, Mapped)
    assert found.consent.strip_user_data
    assert "email" not in element(found)["user"]


@pytest.mark.parametrize("flag", [True, False])
def test_limited_data_use_is_sent_as_decided(
    flag: bool,  # noqa: FBT001  a column of the table
) -> None:
    """With a public address, which TikTok requires for it."""
    sent = element(mapped(event(limited_data_use=flag, user=PUBLIC_IP)))
    assert sent["limited_data_use"] is flag


def test_a_region_can_limit_data_use() -> None:
    """The setting's regions turn a denial into TikTok's flag."""
    rules = ConsentRules(limited_data_use_regions=frozenset({"US"}))
    consent = {"marketing": "GRANTED", "ad_personalization": "DENIED", "region": "US-CA"}
    sent = element(mapped(event(consent=consent, user=PUBLIC_IP), consent=rules))
    assert sent["limited_data_use"] is True
