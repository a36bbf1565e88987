"""TikTok's table of an event and its lists of names, row by row, for every source."""

from __future__ import annotations

from typing import Any

import pytest

from consumer import compose
from consumer.config import Config
from consumer.event import EventSource, FieldWarning, Mapped, Reason, Refused, Suppressed
from consumer.names import (
    APP_EVENTS,
    GA4_APP_EVENT_NAMES,
    GA4_EVENT_NAMES,
    NEWER_EVENT_NAMES,
    OLDER_EVENTS,
    WEB_EVENTS,
    default_event_names,
)
from consumer.sandbox.rules import check_request
from tests.support.events import EVENT_TIME_MS
from tests.support.mapping import (
    DESTINATIONS,
    complete_event,
    destination,
    element,
    event_of,
    mapped,
    outcome,
    request,
    warned,
)

WEB, APP, OFFLINE, CRM = EventSource
ALL = (WEB, APP, OFFLINE, CRM)
STANDARD = """AddPaymentInfo AddToCart AddToWishlist ApplicationApproval CompleteRegistration
Contact CustomizeProduct Download FindLocation InitiateCheckout Lead Purchase Schedule Search
StartTrial SubmitApplication Subscribe ViewContent""".split()  # noqa: SIM905  as TikTok lists them
OLDER = ["CompletePayment", "SubmitForm", "ClickButton", "PlaceAnOrder"]
STANDARD_OF_APPS = """AchieveLevel AddPaymentInfo AddToCart AddToWishlist Checkout CompleteTutorial
CreateGroup CreateRole GenerateLead InAppADClick InAppADImpr InstallApp JoinGroup LaunchAPP
LoanApplication LoanApproval LoanDisbursal Login Purchase Rate Registration Search SpendCredits
StartTrial Subscribe UnlockAchievement ViewContent""".split()  # noqa: SIM905  as TikTok lists them
PUBLIC_IP = {"ip": "8.8.8.8"}


def sent_of(source: EventSource, **fields: Any) -> dict[str, Any]:
    """The element of `data[]` that the smallest event with these fields becomes."""
    return element(mapped(event_of(source, **fields), DESTINATIONS[source]))


# §1: the fields of an event


@pytest.mark.parametrize("source", ALL)
def test_the_smallest_event_of_a_source_has_what_tiktok_requires_and_no_more(
    source: EventSource,
) -> None:
    """Rows event, event_time (whole seconds, its own) and event_id, and the required section."""
    section = {
        WEB: {"page": {"url": "https://shop.example/p/1"}},
        APP: {"app": {"app_id": "com.shop.example"}},
        OFFLINE: {},
        CRM: {"lead": {"lead_id": "7400000000000000001"}},
    }[source]
    sent = sent_of(source, event="Search", event_id="0123", event_time=EVENT_TIME_MS + 999)
    assert sent == {
        "event": "Search",
        "event_time": EVENT_TIME_MS // 1000,
        "event_id": "0123",
        **section,
    }
    assert check_request(request(source, sent)) is None


SECTIONS = [
    pytest.param("page", (WEB,), {"url": "https://a.example/"}, id="1-page-url"),
    pytest.param(
        "page", (WEB,), {"url": "https://a.example/", "referrer": "https://b.example/"}, id="1-page"
    ),
    pytest.param("app", (APP,), {"app_id": "1"}, id="1-app-app_id"),
    pytest.param("app", (APP,), {"app_id": "1", "app_name": "A", "app_version": "2"}, id="1-app"),
    pytest.param("ad", (APP,), {"callback": "c", "campaign_id": "1", "ad_id": "2"}, id="1-ad-ids"),
    pytest.param("ad", (APP,), {"creative_id": "3"}, id="1-ad-creative_id"),
    pytest.param("ad", (APP,), {"is_retargeting": False, "attributed": True}, id="1-ad-booleans"),
    pytest.param("ad", (APP,), {"attributed": False}, id="1-ad-false"),
    pytest.param(
        "ad",
        (APP,),
        {"attribution_type": "VTA", "attribution_provider": "m"},
        id="1-ad-attribution",
    ),
    pytest.param("ad", (WEB, APP), {"attribution_share": "0.5"}, id="1-ad-attribution_share"),
    pytest.param("lead", (CRM,), {"lead_id": "7"}, id="1-lead-lead_id"),
    pytest.param("lead", (CRM,), {"lead_id": "7", "lead_event_source": "CRM"}, id="1-lead"),
]


@pytest.mark.parametrize("source", ALL)
@pytest.mark.parametrize(("name", "sources", "section"), SECTIONS)
def test_a_source_takes_the_sections_that_are_for_it(
    name: str, sources: tuple[EventSource, ...], section: dict[str, Any], source: EventSource
) -> None:
    """With their types; another source's events go without, and say so."""
    found = mapped(event_of(source, **{name: section}), DESTINATIONS[source])
    sent = element(found)
    if source in sources:
        assert sent[name] == section
        assert found.warnings == ()
    else:
        assert name not in sent
        web_ad = source is WEB and name == "ad"
        assert warned(found) == ([f"ad.{field}" for field in section] if web_ad else [name])
    assert check_request(request(source, sent)) is None


@pytest.mark.parametrize(
    ("source", "fields", "field"),
    [
        pytest.param(WEB, {"page": None}, "page.url", id="1-page-missing"),
        pytest.param(WEB, {"page": {"referrer": "https://a"}}, "page.url", id="1-page-no-url"),
        pytest.param(WEB, {"page": {"url": " "}}, "page.url", id="1-page-blank-url"),
        pytest.param(APP, {"app": None}, "app.app_id", id="1-app-missing"),
        pytest.param(APP, {"app": {"app_name": "A"}}, "app.app_id", id="1-app-no-app_id"),
        pytest.param(APP, {"app": {"app_id": ""}}, "app.app_id", id="1-app-blank-app_id"),
        pytest.param(CRM, {"lead": None}, "lead.lead_id", id="1-lead-missing"),
        pytest.param(
            CRM, {"lead": {"lead_event_source": "C"}}, "lead.lead_id", id="1-lead-no-lead_id"
        ),
        pytest.param(CRM, {"lead": {"lead_id": "\t"}}, "lead.lead_id", id="1-lead-blank-lead_id"),
        *(
            pytest.param(source, {name: " "}, name, id=f"1-{name}-{source}")
            for source in ALL
            for name in ("event", "event_id")
        ),
        *(
            pytest.param(source, fields, "user.ip", id=f"1-limited_data_use-{why}-{source}")
            for source in (WEB, APP)
            for why, fields in (
                ("no-ip", {"limited_data_use": True}),
                ("private-ip", {"limited_data_use": True, "user": {"ip": "10.0.0.1"}}),
            )
        ),
    ],
)
def test_an_event_without_a_required_field_is_invalid_there(
    source: EventSource, fields: dict[str, Any], field: str
) -> None:
    """The whole path of the field is the one to mend, and what consent decided stays known."""
    found = outcome(event_of(source, **fields), DESTINATIONS[source])
    assert isinstance(found, Refused)
    assert (found.reason, found.field) == (Reason.INVALID, field)
    assert (found.consent is None) == (field in {"event", "event_id"})


@pytest.mark.parametrize("source", ALL)
def test_sections_that_say_nothing_are_absent(source: EventSource) -> None:
    """A record of nulls and blanks is no section, and nobody is warned about it."""
    blank = {name: {} for name in ("page", "app", "ad", "lead")}
    blank["ad"] = {"campaign_id": " ", "attribution_share": ""}
    required = {WEB: "page", APP: "app", CRM: "lead"}.get(source)
    fields = {name: section for name, section in blank.items() if name != required}
    found = mapped(event_of(source, **fields), DESTINATIONS[source])
    assert element(found).keys() == {"event", "event_time", "event_id"} | {required} - {None}
    assert found.warnings == ()


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize("source", ALL)
def test_limited_data_use_goes_where_it_exists(
    source: EventSource,
    flag: bool,  # noqa: FBT001  a column of the table
) -> None:
    """Row limited_data_use: web and app only; the others go without it, and say so."""
    given = event_of(source, limited_data_use=flag, user={"email": "a@b.example", **PUBLIC_IP})
    found = mapped(given, DESTINATIONS[source])
    if source in (WEB, APP):
        assert element(found)["limited_data_use"] is flag
        assert found.consent.limited_data_use is flag
        assert found.warnings == ()
    else:
        assert "limited_data_use" not in element(found)
        assert found.consent.limited_data_use is None
        warning = FieldWarning("limited_data_use", f"left out: {source} events do not take it")
        assert warning in found.warnings


def test_texts_with_an_e_mail_address_leave_a_section_and_ids_stay() -> None:
    """As everywhere else; what is required is an id."""
    app = {"app_id": "a@b.example", "app_name": "for a@b.example"}
    found = mapped(event_of(APP, app=app), DESTINATIONS[APP])
    assert element(found)["app"] == {"app_id": "a@b.example"}
    assert found.warnings == (
        FieldWarning("app.app_name", "left out: an e-mail address stands in it"),
    )


# §5: names


@pytest.mark.parametrize("source", ALL)
@pytest.mark.parametrize("newer", [False, True], ids=["older", "newer"])
@pytest.mark.parametrize("name", sorted({*STANDARD, *OLDER, *STANDARD_OF_APPS, "Pageview"}))
def test_a_name_of_tiktoks_is_never_renamed(
    name: str,
    source: EventSource,
    newer: bool,  # noqa: FBT001  a column of the table
) -> None:
    """Rows of standard, older and app names: it must equal the pixel's, whatever the settings."""
    to = destination(source, event_names=default_event_names(source, newer=newer))
    found = outcome(event_of(source, event=name), to)
    if source is OFFLINE and name not in {*STANDARD, *OLDER}:
        assert isinstance(found, Refused)
        assert (found.reason, found.field) == (Reason.INVALID, "event")
        assert "event_names" in found.detail
    else:
        assert isinstance(found, Mapped)
        assert found.event == element(found)["event"] == name


def test_the_lists_of_names_are_tiktoks() -> None:
    """Rows web/offline/crm standard, older names, app standard."""
    assert set(STANDARD) == WEB_EVENTS
    assert {*OLDER, "Pageview"} == OLDER_EVENTS
    assert set(STANDARD_OF_APPS) == APP_EVENTS


@pytest.mark.parametrize("source", ALL)
@pytest.mark.parametrize("name", ["quiz_finished", "purchase ", "COMPLETEPAYMENT"])
def test_custom_names_go_where_the_source_has_them(name: str, source: EventSource) -> None:
    """Row event: case-sensitive; offline takes standard names only, and is told what to do."""
    found = outcome(event_of(source, event=name), DESTINATIONS[source])
    if source is OFFLINE:
        assert isinstance(found, Refused)
        assert (found.reason, found.field) == (Reason.INVALID, "event")
        assert name not in found.detail
    else:
        assert isinstance(found, Mapped)
        assert found.event == name


GA4_ROW = {
    "page_view": "Pageview",
    "view_item": "ViewContent",
    "add_to_cart": "AddToCart",
    "add_to_wishlist": "AddToWishlist",
    "begin_checkout": "InitiateCheckout",
    "add_payment_info": "AddPaymentInfo",
    "purchase": "CompletePayment",
    "sign_up": "CompleteRegistration",
    "generate_lead": "SubmitForm",
    "search": "Search",
    "view_search_results": "Search",
    "file_download": "Download",
}


@pytest.mark.parametrize("source", [WEB, OFFLINE, CRM])
@pytest.mark.parametrize(("ga4", "sent"), GA4_ROW.items())
def test_ga4_names_become_the_pixels(ga4: str, sent: str, source: EventSource) -> None:
    """Row GA4; a page view is nothing that happens offline, under either name."""
    found = outcome(event_of(source, event=ga4), DESTINATIONS[source])
    if source is OFFLINE and ga4 == "page_view":
        assert isinstance(found, Refused)
        assert found.field == "event"
    else:
        assert isinstance(found, Mapped)
        assert found.event == sent


@pytest.mark.parametrize(
    ("ga4", "sent"),
    [
        ("purchase", "Purchase"),
        ("begin_checkout", "Checkout"),
        ("sign_up", "Registration"),
        ("login", "Login"),
        ("generate_lead", "GenerateLead"),
        ("tutorial_complete", "CompleteTutorial"),
        ("level_up", "AchieveLevel"),
        ("unlock_achievement", "UnlockAchievement"),
        ("join_group", "JoinGroup"),
        ("spend_virtual_currency", "SpendCredits"),
        ("first_open", "InstallApp"),
        ("app_open", "LaunchAPP"),
        ("ad_impression", "InAppADImpr"),
        ("ad_click", "InAppADClick"),
        ("add_to_cart", "AddToCart"),
        ("add_to_wishlist", "AddToWishlist"),
        ("add_payment_info", "AddPaymentInfo"),
        ("view_item", "ViewContent"),
        ("search", "Search"),
        ("view_search_results", "Search"),
        ("page_view", "page_view"),
        ("session_start", "session_start"),
    ],
)
@pytest.mark.parametrize("newer", [False, True], ids=["older", "newer"])
def test_ga4_names_of_apps_become_tiktoks_app_names(
    ga4: str,
    sent: str,
    newer: bool,  # noqa: FBT001  a column of the table
) -> None:
    """Where there is an obvious equal; apps have no older names to choose from."""
    to = destination(APP, event_names=default_event_names(APP, newer=newer))
    assert mapped(event_of(APP, event=ga4), to).event == sent
    assert sent == ga4 or sent in STANDARD_OF_APPS


@pytest.mark.parametrize("source", [WEB, OFFLINE, CRM])
@pytest.mark.parametrize(("ga4", "sent"), [("purchase", "Purchase"), ("generate_lead", "Lead")])
def test_the_newer_names_are_one_setting_away(ga4: str, sent: str, source: EventSource) -> None:
    """Row newer names: what Purchase and Lead were called before is left to who calls it so."""
    names = default_event_names(source, newer=True)
    assert mapped(event_of(source, event=ga4), destination(source, event_names=names)).event == sent
    assert {key for key in names if names[key] != default_event_names(source).get(key)} == {
        "purchase",
        "generate_lead",
    }


@pytest.mark.parametrize("newer", [False, True], ids=["older", "newer"])
def test_the_configuration_gives_each_destination_its_sources_names(
    newer: bool,  # noqa: FBT001  a column of the table
) -> None:
    """With the destination's own over them, and without touching another's."""
    config = Config.model_validate(
        {
            "destinations": [
                {
                    "event_source_id": source.value,
                    "event_source": source.value,
                    "access_token": {"env": "TOKEN"},
                    "event_names": {"search": "Contact"} if source is CRM else {},
                }
                for source in ALL
            ],
            "events": {"newer_names": newer},
        }
    )
    names = {to.event_source: to.event_names for to in compose.destinations(config)}
    for source in ALL:
        own = {"search": "Contact"} if source is CRM else {}
        assert names[source] == {**default_event_names(source, newer=newer), **own}
    assert names[APP]["purchase"] == "Purchase"
    assert names[WEB]["purchase"] == ("Purchase" if newer else "CompletePayment")


def test_no_default_renames_a_tiktok_name_or_maps_to_another() -> None:
    """Defaults turn other people's names into standard ones, and nothing else."""
    tiktok = WEB_EVENTS | OLDER_EVENTS | APP_EVENTS
    assert tiktok.isdisjoint({*GA4_EVENT_NAMES, *GA4_APP_EVENT_NAMES})
    assert {*GA4_EVENT_NAMES.values(), *NEWER_EVENT_NAMES.values()} <= WEB_EVENTS | OLDER_EVENTS
    assert APP_EVENTS.issuperset(GA4_APP_EVENT_NAMES.values())


@pytest.mark.parametrize("source", ALL)
def test_each_destination_may_have_its_own_names(source: EventSource) -> None:
    """Row overridable: over the defaults, and TikTok's own names if the user says so."""
    own = {"purchase": "Subscribe", "Purchase": "CompletePayment"}
    to = destination(source, event_names={**default_event_names(source), **own})
    assert mapped(event_of(source, event="purchase"), to).event == "Subscribe"
    assert mapped(event_of(source, event="Purchase"), to).event == "CompletePayment"
    assert mapped(event_of(source, event="search"), to).event == "Search"


@pytest.mark.parametrize("source", ALL)
def test_a_funnel_filter_lets_the_listed_names_go(source: EventSource) -> None:
    """By the name as sent; the rest is suppressed, also where it could not have been sent."""
    bought = "Purchase" if source is APP else "CompletePayment"
    only = destination(source, allow_events=frozenset({bought}))
    assert mapped(event_of(source, event="purchase"), only).event == bought
    for other in ("view_item", "quiz_finished", "page_view"):
        assert outcome(event_of(source, event=other), only) == Suppressed(Reason.FILTER)


@pytest.mark.parametrize("source", ALL)
def test_every_field_is_taken_or_warned_about(source: EventSource) -> None:
    """Nothing of a complete event is left out in silence."""
    found = mapped(complete_event(source), DESTINATIONS[source])
    sent, given = element(found), complete_event(source)
    left_out = set(warned(found))
    for name in ("page", "app", "ad", "lead", "user", "properties"):
        for field, value in given[name].items():
            held = sent.get(name, {})
            there = field in held or (field == "custom" and held.items() >= value.items())
            assert there != bool({name, f"{name}.{field}"} & left_out)
    assert ("limited_data_use" in sent) != ("limited_data_use" in left_out)
