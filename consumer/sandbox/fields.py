"""What a single field of TikTok's Events API 2.0 may hold.

A check takes the value that JSON gave and returns a complaint, or None where the value is fine.
Complaints are worded like TikTok's own (`not a valid string.`) and, like some of TikTok's, quote
the offending value: whoever logs such a message must be able to cope with that.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Check = Callable[[object], str | None]

CURRENCIES = frozenset(
    """AED ARS AUD BDT BHD BIF BOB BRL CAD CHF CLP CNY COP CRC CZK DKK DZD EGP EUR GBP GTQ HKD HNL
    HUF IDR ILS INR ISK JPY KES KHR KRW KWD KZT MAD MOP MXN MYR NGN NIO NOK NZD OMR PEN PHP PKR PLN
    PYG QAR RON RUB SAR SEK SGD THB TRY TWD UAH USD VES VND ZAR""".split()  # noqa: SIM905  sixty quoted lines would hide the list
)
"""The currencies TikTok takes: a closed list."""

STANDARD_EVENTS = frozenset(
    """AddPaymentInfo AddToCart AddToWishlist ApplicationApproval CompleteRegistration Contact
    CustomizeProduct Download FindLocation InitiateCheckout Lead Purchase Schedule Search StartTrial
    SubmitApplication Subscribe ViewContent CompletePayment SubmitForm ClickButton PlaceAnOrder
    Pageview""".split()  # noqa: SIM905  the same
)
"""Standard event names of web, offline and crm, older ones included."""

OFFLINE_EVENTS = STANDARD_EVENTS - {"Pageview"}
"""The only names an offline event may have. A page view is the pixel's, and no pixel is there."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_LOCALE = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*")
_PRESENT_DAY = range(1, 100_000_000_000)


def text(value: object) -> str | None:
    """A string that says something: absent fields are left out, never sent empty."""
    if type(value) is not str:
        return "not a valid string."
    return None if value else "shorter than minimum length 1."


def integer(value: object) -> str | None:
    """A whole number; a boolean is none."""
    return None if type(value) is int else "not a valid integer."


def number(value: object) -> str | None:
    """A number, whole or not; a boolean is none."""
    return None if type(value) in (float, int) else "not a valid number."


def boolean(value: object) -> str | None:
    """True or false, not 0, 1 or a string."""
    return None if type(value) is bool else "not a valid boolean."


def unix_seconds(value: object) -> str | None:
    """Whole seconds since the epoch.

    TikTok documents the unit and no limit of age. A value that only makes sense in milliseconds is
    not in that unit and is refused; how old or how far ahead an event is, is nobody's rule here.
    """
    if type(value) is not int:
        return "not a valid integer."
    return None if value in _PRESENT_DAY else f"{value} is not a Unix time in seconds."


def digest(value: object) -> str | None:
    """A SHA-256 in lower-case hex. The complaint quotes what came instead."""
    if type(value) is not str:
        return "not a valid string."
    return None if _DIGEST.fullmatch(value) else f"'{value}' is not a SHA-256 hash."


def digests(value: object) -> str | None:
    """One digest or a list of them."""
    if type(value) is list:
        if not value:
            return "shorter than minimum length 1."
        return next((why for why in map(digest, value) if why is not None), None)
    return digest(value)


def texts(value: object) -> str | None:
    """A list of strings."""
    if type(value) is not list:
        return "not a valid list."
    return next((why for why in map(text, value) if why is not None), None)


def one_of(allowed: Iterable[str]) -> Check:
    """A check for a closed set of strings."""
    choices = frozenset(allowed)
    listed = ", ".join(sorted(choices))

    def check(value: object) -> str | None:
        if type(value) is not str:
            return "not a valid string."
        return None if value in choices else f"'{value}' is not one of: {listed}."

    return check


def locale(value: object) -> str | None:
    """A BCP 47 language tag, by its shape."""
    if type(value) is not str:
        return "not a valid string."
    return None if _LOCALE.fullmatch(value) else f"'{value}' is not a BCP 47 tag."


def public_ip(value: object) -> str | None:
    """A public IPv4 or IPv6 address: that of the person, not of a proxy within the shop."""
    if type(value) is not str:
        return "not a valid string."
    return None if _is_public(value) else f"'{value}' is not a public IP address."


def plain_place(value: object) -> str | None:
    """A city, state or country: lower case, no spaces or punctuation, letters of any script."""
    if type(value) is not str:
        return "not a valid string."
    return None if _is_plain(value) else f"'{value}' is not lower case without punctuation."


@lru_cache(maxsize=4096)
def _is_public(value: str) -> bool:
    try:
        address = ip_address(value)
    except ValueError:
        return False
    # A zone (`%eth0`) has a meaning on one machine only.
    return address.is_global and not address.is_multicast and "%" not in value


@lru_cache(maxsize=4096)
def _is_plain(value: str) -> bool:
    return (
        bool(value)
        and value == value.lower()
        and not any(unicodedata.category(letter)[0] in "PSZC" for letter in value)
    )
