"""The rows of TikTok's Events API reference about an event's fields, as data.

A row is its id, which begins with the section of the reference (1 the request, 2 the user, 4
properties, 5 event names, 8 where widespread guides are wrong), the source, the field's path, a
value, and the path that the refusal blames: `TAKEN` where the value is right.
"""

from __future__ import annotations

from typing import Final

from tests.support.api_examples import DIGEST, EVENT_SOURCE_ID, EVENTS, LEFT_OUT

SOURCES: Final = tuple(EVENTS)
TAKEN: Final = ""
Row = tuple[str, str, str, object, str]

_SHOWN = 30


def _say(value: object) -> str:
    if value is LEFT_OUT:
        return "left out"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)})"


def right(row: str, source: str, path: str, *values: object) -> list[Row]:
    """Rows of a field whose values are all taken."""
    return [(f"{row}: {_say(value)} in {source}", source, path, value, TAKEN) for value in values]


def wrong(row: str, source: str, path: str, *values: object) -> list[Row]:
    """Rows of a field whose values are all refused."""
    return [
        (f"{row}: not {_say(value)} in {source}", source, path, value, path) for value in values
    ]


def elsewhere(row: str, path: str, value: object, *sources: str) -> list[Row]:
    """The field is right in these sources and unknown in all others."""
    return [
        (
            f"{row}: {'for' if source in sources else 'not for'} {source}",
            source,
            path,
            value,
            TAKEN if source in sources else path,
        )
        for source in SOURCES
    ]


_NO_TEXT = ("", 5, None, ["a"])

EVENT_ROWS: Final[list[Row]] = [
    *right("1 event", "web", "event", "Purchase", "purchase", "MyOwnEvent"),
    *right("1 event", "app", "event", "Purchase", "my_own_event"),
    *right("1 event", "offline", "event", "Purchase", "CompletePayment"),
    *wrong("1 event", "offline", "event", "MyOwnEvent", "purchase", "Pageview"),
    *wrong("1 event", "web", "event", LEFT_OUT, *_NO_TEXT),
    *right("1 event_time", "web", "event_time", 1_700_000_000, 1),
    *wrong("1 event_time", "web", "event_time", LEFT_OUT, "1700000000", 1_700_000_000.5),
    *wrong("1 event_time", "web", "event_time", 1_700_000_000_000, "2026-01-01T00:00:00Z", True),
    *right("1 event_id", "web", "event_id", "273196", "a" * 300),
    *wrong("1 event_id", "web", "event_id", 273196, *_NO_TEXT),
    *wrong("1 pixel_code", "web", "pixel_code", EVENT_SOURCE_ID),
    *wrong("1 timestamp", "web", "timestamp", "2026-01-01T00:00:00Z"),
    *wrong("1 context", "web", "context", {"page": {"url": "https://shop.example.com/"}}),
    *[
        row
        for source in SOURCES
        for section in ("user", "properties")
        for row in (
            *right(f"1 {section}", source, section, {}),
            *wrong(f"1 {section}", source, section, [], "x", None),
        )
    ],
    *elsewhere("1 page", "page", {"url": "https://shop.example.com/"}, "web"),
    *wrong("1 page", "web", "page", LEFT_OUT, "https://shop.example.com/"),
    *wrong("1 page.url", "web", "page.url", LEFT_OUT, *_NO_TEXT),
    *right("1 page.referrer", "web", "page.referrer", "https://example.com/", LEFT_OUT),
    *wrong("1 page.referrer", "web", "page.referrer", *_NO_TEXT),
    *elsewhere("1 app", "app", {"app_id": "1"}, "app"),
    *wrong("1 app", "app", "app", LEFT_OUT, "1"),
    *wrong("1 app.app_id", "app", "app.app_id", LEFT_OUT, *_NO_TEXT),
    *right("1 app.app_name", "app", "app.app_name", "Shop", LEFT_OUT),
    *right("1 app.app_version", "app", "app.app_version", "2.0", LEFT_OUT),
    *wrong("1 app.app_name", "app", "app.app_name", *_NO_TEXT),
    *wrong("1 app.app_version", "app", "app.app_version", *_NO_TEXT),
    *[
        row
        for name in ("callback", "campaign_id", "ad_id", "creative_id")
        for row in elsewhere(f"1 ad.{name}", f"ad.{name}", "x", "app")
        if row[1] in ("web", "app")
    ],
    *[
        row
        for name in ("attribution_type", "attribution_provider")
        for row in elsewhere(f"1 ad.{name}", f"ad.{name}", "x", "app")
        if row[1] in ("web", "app")
    ],
    *[
        row
        for name in ("is_retargeting", "attributed")
        for row in (
            *right(f"1 ad.{name}", "app", f"ad.{name}", True, False),
            *wrong(f"1 ad.{name}", "app", f"ad.{name}", "true", 1, None),
            *wrong(f"1 ad.{name}", "web", f"ad.{name}", True),
        )
    ],
    *right("1 ad.attribution_share", "web", "ad.attribution_share", "x"),
    *right("1 ad.attribution_share", "app", "ad.attribution_share", "x"),
    *[("1 ad: not for " + source, source, "ad", {}, "ad") for source in ("offline", "crm")],
    *elsewhere("1 lead", "lead", {"lead_id": "1"}, "crm"),
    *wrong("1 lead", "crm", "lead", LEFT_OUT, "1"),
    *wrong("1 lead.lead_id", "crm", "lead.lead_id", LEFT_OUT, *_NO_TEXT),
    *right("1 lead.lead_event_source", "crm", "lead.lead_event_source", "CRM", LEFT_OUT),
    *wrong("1 lead.lead_event_source", "crm", "lead.lead_event_source", *_NO_TEXT),
    *elsewhere("1 limited_data_use", "limited_data_use", True, "web", "app"),
    *wrong("1 limited_data_use", "web", "limited_data_use", 1, "true", None),
    *right("1 limited_data_use", "web", "limited_data_use", False),
]

_USER_FIELDS: dict[str, tuple[object, tuple[str, ...]]] = {
    "email": (DIGEST, SOURCES),
    "phone": (DIGEST, SOURCES),
    "external_id": (DIGEST, ("web", "crm")),
    "ttclid": ("E.C.P.Cs8BGWoK-_Az", ("web",)),
    "ttp": ("94e2a4j9-h3ss-k2b5-98cc-84c745mk0902", ("web",)),
    "ip": ("20.42.7.9", ("web", "app")),
    "user_agent": ("Mozilla/5.0 (X11; Linux x86_64)", ("web", "app")),
    "locale": ("de-CH", ("web", "app")),
    "first_name": (DIGEST, ("web",)),
    "last_name": (DIGEST, ("web",)),
    "zip_code": (DIGEST, ("web",)),
    "city": ("newyork", ("web",)),
    "state": ("ny", ("web",)),
    "country": ("us", ("web",)),
    "idfa": (DIGEST, ("app",)),
    "idfv": ("EA7583CD-A667-48BC-B806-42ECB2B48606", ("app",)),
    "gaid": (DIGEST, ("app",)),
    "att_status": ("AUTHORIZED", ("app",)),
}
"""Each user field with a right value and the sources that take it."""

_HASHED = ("email", "phone", "external_id", "first_name", "last_name", "zip_code", "idfa", "gaid")
_LISTED = ("email", "phone", "external_id")
_NO_DIGESTS = (DIGEST.upper(), DIGEST[:-1], DIGEST + "0", "g" * 64, "", 5, None)

USER_ROWS: Final[list[Row]] = [
    *[
        row
        for name, (value, sources) in _USER_FIELDS.items()
        for row in elsewhere(f"2 {name}", f"user.{name}", value, *sources)
    ],
    *[
        row
        for name, (_, sources) in _USER_FIELDS.items()
        for row in wrong(f"2 {name}", sources[0], f"user.{name}", "", None, 5, {})
    ],
    *[
        row
        for name in _HASHED
        for row in wrong(f"2 {name}", _USER_FIELDS[name][1][0], f"user.{name}", *_NO_DIGESTS)
    ],
    *[
        row
        for name in _LISTED
        for row in (
            *right(f"2 {name}", "web", f"user.{name}", [DIGEST], [DIGEST, DIGEST]),
            *wrong(f"2 {name}", "web", f"user.{name}", [], [DIGEST, "alice"], [None], [[DIGEST]]),
        )
    ],
    *right("2 ip", "web", "user.ip", "2a00:1450:4001:82a::200e", "8.8.8.8"),
    *wrong("2 ip", "web", "user.ip", "192.168.1.7", "127.0.0.1", "fe80::1", "8.8.8", "localhost"),
    *right("2 locale", "web", "user.locale", "en", "en-US", "zh-Hant-TW", "es-419"),
    *wrong("2 locale", "web", "user.locale", "en_US", "C.UTF-8", "e"),
    *right("2 city", "web", "user.city", "münchen", "東京", "москва"),
    *wrong("2 city", "web", "user.city", "New York", "new york", "st.gallen", "Berlin"),
    *[
        row
        for status in ("AUTHORIZED", "DENIED", "NOT_DETERMINED", "RESTRICTED", "NOT_APPLICABLE")
        for row in right("2 att_status", "app", "user.att_status", status)
    ],
    *wrong("2 att_status", "app", "user.att_status", "authorized", "UNKNOWN"),
    *wrong("8 phone_number", "web", "user.phone_number", DIGEST),
    *wrong("8 em", "web", "user.em", DIGEST),
    *wrong("8 ph", "web", "user.ph", DIGEST),
    *wrong("2 unknown", "web", "user.gender", "f"),
]

_CURRENCIES = """
AED ARS AUD BDT BHD BIF BOB BRL CAD CHF CLP CNY COP CRC CZK DKK DZD EGP EUR GBP GTQ HKD HNL
HUF IDR ILS INR ISK JPY KES KHR KRW KWD KZT MAD MOP MXN MYR NGN NIO NOK NZD OMR PEN PHP PKR
PLN PYG QAR RON RUB SAR SEK SGD THB TRY TWD UAH USD VES VND ZAR""".split()  # noqa: SIM905  quoted one by one they would hide the list

PROPERTY_ROWS: Final[list[Row]] = [
    *right("4 contents", "web", "properties.contents", [], [{}], [{"content_id": "a"}]),
    *wrong("4 contents", "web", "properties.contents", {}, "a", None),
    *[
        row
        for name in ("content_id", "content_name", "content_category", "brand")
        for row in (
            *right(f"4 contents {name}", "web", f"properties.contents.0.{name}", "x"),
            *wrong(f"4 contents {name}", "web", f"properties.contents.0.{name}", *_NO_TEXT),
        )
    ],
    *right("4 contents quantity", "web", "properties.contents.0.quantity", 1, 0),
    *wrong("4 contents quantity", "web", "properties.contents.0.quantity", 1.5, "1", True, None),
    *right("4 contents price", "web", "properties.contents.0.price", 1, 0.99),
    *wrong("4 contents price", "web", "properties.contents.0.price", "9.99", True, None),
    *wrong("4 contents content_type", "web", "properties.contents.0.content_type", "product"),
    *right("4 content_type", "web", "properties.content_type", "product", "product_group"),
    *wrong("4 content_type", "web", "properties.content_type", "Product", "", None),
    *right("4 content_ids", "web", "properties.content_ids", ["a", "b"], []),
    *wrong("4 content_ids", "web", "properties.content_ids", "a", [1], [""], None),
    *right("4 num_items", "web", "properties.num_items", 3),
    *wrong("4 num_items", "web", "properties.num_items", "3", 3.5, True, None),
    *right("4 value", "web", "properties.value", 0, 19, 19.99),
    *wrong("4 value", "web", "properties.value", "19.99", True, None),
    *wrong("4 value with currency", "web", "properties.value", LEFT_OUT),
    *wrong("4 currency with value", "web", "properties.currency", LEFT_OUT),
    *right("4 currency", "web", "properties.currency", *_CURRENCIES),
    *wrong("4 currency", "web", "properties.currency", "eur", "BTC", "XAF", "", None),
    *[
        row
        for name in ("order_id", "shop_id", "search_string", "query", "description")
        for row in (
            *right(f"4 {name}", "web", f"properties.{name}", "x"),
            *wrong(f"4 {name}", "web", f"properties.{name}", *_NO_TEXT),
        )
    ],
    *right("4 customer_type", "web", "properties.customer_type", "new", "returning"),
    *wrong("4 customer_type", "web", "properties.customer_type", "old", "", None),
    *[
        row
        for source in SOURCES
        for row in right("4 custom", source, "properties.shelf", "a", 5, 1.5, True, None, ["a"])
    ],
    *right("8 ad_user_data", "web", "properties.ad_user_data", "GRANTED", "DENIED"),
    *right("8 ad_personalization", "web", "properties.ad_personalization", "DENIED"),
]

_STANDARD = """
AddPaymentInfo AddToCart AddToWishlist ApplicationApproval CompleteRegistration Contact
CustomizeProduct Download FindLocation InitiateCheckout Lead Purchase Schedule Search
StartTrial SubmitApplication Subscribe ViewContent""".split()  # noqa: SIM905  quoted one by one they would hide the list
_OLDER = ("CompletePayment", "SubmitForm", "ClickButton", "PlaceAnOrder")
_APP_STANDARD = """
AchieveLevel AddPaymentInfo AddToCart AddToWishlist Checkout CompleteTutorial CreateGroup
CreateRole GenerateLead InAppADClick InAppADImpr InstallApp JoinGroup LaunchAPP
LoanApplication LoanApproval LoanDisbursal Login Purchase Rate Registration Search
SpendCredits StartTrial Subscribe UnlockAchievement ViewContent""".split()  # noqa: SIM905  quoted one by one they would hide the list

NAME_ROWS: Final[list[Row]] = [
    *[
        row
        for source in ("web", "offline", "crm")
        for row in right("5 standard", source, "event", *_STANDARD, *_OLDER)
    ],
    *right("5 standard", "web", "event", "Pageview"),
    *right("5 app standard", "app", "event", *_APP_STANDARD),
    *wrong("5 app standard", "offline", "event", "InstallApp", "LaunchAPP", "Login"),
    *wrong("5 GA4", "offline", "event", "purchase", "page_view", "Register"),
]
