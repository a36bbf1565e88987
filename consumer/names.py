"""TikTok's names: events, currencies and properties, and what others call the same events."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from consumer.event import EventSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


WEB_EVENTS = _words(
    "AddPaymentInfo AddToCart AddToWishlist ApplicationApproval CompleteRegistration Contact"
    " CustomizeProduct Download FindLocation InitiateCheckout Lead Purchase Schedule Search"
    " StartTrial SubmitApplication Subscribe ViewContent"
)
"""Standard events of web, offline and CRM sources (TikTok Events API 2.0)."""

OLDER_EVENTS = _words("CompletePayment SubmitForm ClickButton PlaceAnOrder Pageview")
"""Names of earlier versions that TikTok still takes, and the pixel's own Pageview."""

OFFLINE_EVENTS = (WEB_EVENTS | OLDER_EVENTS) - {"Pageview"}
"""The only names of offline events. Pageview is a pixel's event, and offline there is no page."""

APP_EVENTS = _words(
    "AchieveLevel AddPaymentInfo AddToCart AddToWishlist Checkout CompleteTutorial CreateGroup"
    " CreateRole GenerateLead InAppADClick InAppADImpr InstallApp JoinGroup LaunchAPP"
    " LoanApplication LoanApproval LoanDisbursal Login Purchase Rate Registration Search"
    " SpendCredits StartTrial Subscribe UnlockAchievement ViewContent"
)
"""Standard events of app sources (TikTok Events API 2.0)."""

GA4_EVENT_NAMES: Mapping[str, str] = MappingProxyType(
    {
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
)
"""Google Analytics 4 events by the names that most pixels use for them.

The server must use the pixel's name, because the name is part of TikTok's deduplication key; so
no TikTok name is ever a key here.
"""

GA4_APP_EVENT_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "ad_click": "InAppADClick",
        "ad_impression": "InAppADImpr",
        "add_payment_info": "AddPaymentInfo",
        "add_to_cart": "AddToCart",
        "add_to_wishlist": "AddToWishlist",
        "app_open": "LaunchAPP",
        "begin_checkout": "Checkout",
        "first_open": "InstallApp",
        "generate_lead": "GenerateLead",
        "join_group": "JoinGroup",
        "level_up": "AchieveLevel",
        "login": "Login",
        "purchase": "Purchase",
        "search": "Search",
        "sign_up": "Registration",
        "spend_virtual_currency": "SpendCredits",
        "tutorial_complete": "CompleteTutorial",
        "unlock_achievement": "UnlockAchievement",
        "view_item": "ViewContent",
        "view_search_results": "Search",
    }
)
"""Google Analytics 4 events of apps, where TikTok's app events have their obvious equal.

An installation is known to GA4 by the first start (`first_open`), as it is to attribution partners.
A session is no launch: it begins anew after half an hour, so `session_start` stays as it is.
"""

NEWER_EVENT_NAMES: Mapping[str, str] = MappingProxyType(
    {"purchase": "Purchase", "generate_lead": "Lead"}
)
"""For pixels that already use the newer names: these over `GA4_EVENT_NAMES`."""

CURRENCIES = _words(
    "AED ARS AUD BDT BHD BIF BOB BRL CAD CHF CLP CNY COP CRC CZK DKK DZD EGP EUR GBP GTQ HKD HNL"
    " HUF IDR ILS INR ISK JPY KES KHR KRW KWD KZT MAD MOP MXN MYR NGN NIO NOK NZD OMR PEN PHP PKR"
    " PLN PYG QAR RON RUB SAR SEK SGD THB TRY TWD UAH USD VES VND ZAR"
)
"""TikTok's closed list of currencies, ISO 4217."""

STANDARD_PROPERTIES = _words(
    "value currency content_type contents content_ids num_items order_id shop_id search_string"
    " query description customer_type"
)
"""Property names with a meaning of their own at TikTok; custom properties never take them."""


def allowed_names(listed: Iterable[str], names: Mapping[str, str]) -> frozenset[str]:
    """An allow list in names as they are sent, for the `names` that a destination maps.

    A listed name that no event is sent under, because it is mapped to another, stands for that one:
    taken literally it would suppress the very events it is to let through.
    """
    sent = frozenset(names.values())
    return frozenset(name if name in sent else names.get(name, name) for name in listed)


def default_event_names(source: EventSource, *, newer: bool = False) -> Mapping[str, str]:
    """The event names that are mapped for a source unless a destination says otherwise.

    `newer` puts `NEWER_EVENT_NAMES` over them, save for apps, whose names never had older ones.
    For offline events nothing is mapped to a name that they cannot have: such an event is refused
    under the name it came with, which the user knows.
    """
    if source is EventSource.APP:
        return GA4_APP_EVENT_NAMES
    names = dict(GA4_EVENT_NAMES)
    if newer:
        names |= NEWER_EVENT_NAMES
    if source is EventSource.OFFLINE:
        names = {name: sent for name, sent in names.items() if sent in OFFLINE_EVENTS}
    return names
