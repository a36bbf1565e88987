"""One identifier at a time in the form TikTok matches: normalised, then SHA-256 in lower-case hex.

The rules are TikTok's (Events API 2.0, "user" parameters and advanced matching). Each function
takes a value that is not blank and the event's `user` record, and answers None for a value that
cannot be right: hashed as it is, it would match nobody. A value that already is a SHA-256 passes
through lower-cased, so nothing is hashed twice.
"""

from __future__ import annotations

import re
from hashlib import sha256
from ipaddress import IPv6Address, ip_address
from typing import Any
from unicodedata import category
from urllib.parse import unquote

import phonenumbers

_is_digest = re.compile(r"[0-9a-f]{64}").fullmatch
_DIGEST_CHARS = 64  # asked first, because most texts are plain and the pattern costs more
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_LABEL = r"[^\s!-,./:-@\[-^`{-~]+"  # all but spaces and ASCII punctuation other than - and _
_is_domain = re.compile(rf"{_LABEL}(?:\.{_LABEL})*").fullmatch
_is_ipv4 = re.compile(rf"({_OCTET})\.{_OCTET}\.{_OCTET}\.{_OCTET}").fullmatch
_is_language_tag = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*").fullmatch
_is_zip_plus_4 = re.compile(r"[0-9]{5}-[0-9]{4}").fullmatch
_UNITED_STATES = frozenset({"us", "usa", "unitedstates", "unitedstatesofamerica"})
_ZIP_DIGITS = 5
_ATT_STATUSES = frozenset(
    {"AUTHORIZED", "DENIED", "NOT_DETERMINED", "RESTRICTED", "NOT_APPLICABLE"}
)

# First octets of IANA's special-purpose blocks and of multicast: only these need the slow check.
_SPECIAL_OCTETS = frozenset(map(str, (0, 10, 100, 127, 169, 172, 192, 198, 203, *range(224, 256))))


def email(value: str, _user: dict[str, Any]) -> str | None:
    """An e-mail address: trimmed, lower-cased, hashed.

    It needs one `@`, behind it a domain without punctuation other than dashes and single dots, and
    no space or invisible character anywhere: such things stand around an address, not in it.
    """
    text = value.strip().lower()
    if len(text) == _DIGEST_CHARS and _is_digest(text):
        return text
    local, _, domain = text.partition("@")
    if not local or _is_domain(domain) is None or " " in local or not text.isprintable():
        return None
    return _digest(text)


def phone(value: str, region: str | None) -> str:
    """Digest of the number in E.164 with its plus sign; empty where it cannot be made that.

    "Possible" is libphonenumber's word for the right length; "valid" would refuse numbers of
    ranges that were opened after its tables were made.
    """
    text = value.strip().lower()
    if len(text) == _DIGEST_CHARS and _is_digest(text):
        return text
    try:
        number = phonenumbers.parse(value, region)
    except phonenumbers.NumberParseException:
        return ""
    if not phonenumbers.is_possible_number(number):
        return ""
    return _digest(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))


def external_id(value: str, _user: dict[str, Any]) -> str | None:
    """The advertiser's own id: trimmed, case kept, hashed."""
    text = value.strip()
    lower = text.lower()
    return lower if len(lower) == _DIGEST_CHARS and _is_digest(lower) else _digest(text)


def lower_external_id(value: str, _user: dict[str, Any]) -> str | None:
    """The advertiser's own id where the pixel sends it lower-cased."""
    text = value.strip().lower()
    return text if len(text) == _DIGEST_CHARS and _is_digest(text) else _digest(text)


def name(value: str, _user: dict[str, Any]) -> str | None:
    """A first or last name: trimmed, lower-cased, without punctuation, hashed."""
    text = value.strip().lower()
    if len(text) == _DIGEST_CHARS and _is_digest(text):
        return text
    if not text.isalpha():
        # By category, because marks that belong to letters (Thai, Hindi) are not letters.
        text = " ".join("".join(c for c in text if category(c)[0] not in "PSC").split())
    return _digest(text) if text else None


def place(value: str, _user: dict[str, Any]) -> str | None:
    """A city, state or country: lower case, no spaces or punctuation, letters of any script."""
    text = value.lower()
    if not text.isalpha():
        text = "".join(c for c in text if category(c)[0] not in "PSCZ")
    return text or None


def zip_code(value: str, user: dict[str, Any]) -> str | None:
    """A postal code: lower-cased, no spaces or dashes, hashed.

    In the United States its first five digits; where the event names no country, a code of the
    form 12345-6789 is taken to be from there.
    """
    text = value.strip().lower()
    if len(text) == _DIGEST_CHARS and _is_digest(text):
        return text
    country = user["country"]
    in_us = place(country, user) in _UNITED_STATES if country else _is_zip_plus_4(text) is not None
    code = "".join(c for c in text if category(c)[0] not in "ZC" and category(c) != "Pd")
    if in_us:
        code = code[:_ZIP_DIGITS]
        if len(code) < _ZIP_DIGITS or not code.isdecimal():
            return None
    return _digest(code) if code else None


def idfa(value: str, _user: dict[str, Any]) -> str | None:
    """Apple's advertising identifier: upper-cased, hashed; all zeros where tracking is refused."""
    text = value.strip()
    lower = text.lower()
    if len(text) == _DIGEST_CHARS and _is_digest(lower):
        return lower
    return _digest(text.upper()) if text.strip("0-") else None


def gaid(value: str, _user: dict[str, Any]) -> str | None:
    """Google's advertising id: lower-cased, hashed; all zeros where the person deleted it."""
    text = value.strip().lower()
    if len(text) == _DIGEST_CHARS and _is_digest(text):
        return text
    return _digest(text) if text.strip("0-") else None


def att_status(value: str, _user: dict[str, Any]) -> str | None:
    """The answer to Apple's prompt, upper-cased, if TikTok knows it."""
    text = value.strip().upper()
    return text if text in _ATT_STATUSES else None


def public_ip(value: str, _user: dict[str, Any]) -> str | None:
    """A public IPv4 or IPv6 address, as it is; private, reserved and multicast ones are not.

    Nor is one with a zone (`%eth0`): that is of some machine's own network.
    """
    text = value.strip()
    quad = _is_ipv4(text)
    if quad is not None and quad[1] not in _SPECIAL_OCTETS:
        return text
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        # How a dual-stack server writes an IPv4 visitor; TikTok knows the address itself.
        address = address.ipv4_mapped
        text = str(address)
    return text if address.is_global and not address.is_multicast else None


def locale(value: str, _user: dict[str, Any]) -> str | None:
    """A language tag as it is, if it has the shape of BCP 47: `en-US`, not `en_US` or `C.UTF-8`.

    TikTok refuses the whole event for another one, and nothing tells what such a one means.
    """
    text = value.strip()
    return text if _is_language_tag(text) else None


def click_id(page_url: str) -> str | None:
    """The `ttclid` parameter of an address's query, percent-decoded and otherwise as it stands."""
    query = page_url.partition("#")[0].partition("?")[2]
    for parameter in query.split("&"):
        if parameter.startswith("ttclid="):
            value = unquote(parameter[7:])
            if value and not value.isspace():
                return value
    return None


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
