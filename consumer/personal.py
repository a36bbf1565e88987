"""Personal data in places that are not meant for it: page addresses, free text, custom properties.

Identifiers leave as digests in `user` and nowhere else, whatever the consent. This module says what
gives a person away elsewhere; who calls it takes that out and warns.

Text gives a person away where it holds an e-mail address, plain or percent-encoded.

A name, of a parameter or of a custom property, gives a person away where it *ends* in a word for
an e-mail address, phone number, postal code, person's name or person's id: `email`,
`customer_email`, `userEmail`, `utm_email`, `billing[phone]`. What stands behind that word only to
number it or to say how it is written does not count: `email_2`, `email_sha256`. Case and
punctuation do not count. A name that merely begins so is about something else and stays:
`email_campaign`, `email_id`, `phone_model`. So does a value: `utm_medium=email`. Words that shops
use for other things too (`mail`, `mobile`, `tel`, `cell`, `ph`) count where the value has at least
five digits, as numbers and digests have: `mobile=1` stays.

Not found, because nothing tells it from a product: an id, a name or a number under a name that
says nothing, or as a part of a path.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from itertools import pairwise
from urllib.parse import unquote

_ENDINGS = tuple(
    """
    email emails emailaddress emailaddresses emailaddr mailaddress telephone phonenumber
    phonenumbers phoneno userphone customerphone contactphone mobilephone cellphone mobilenumber
    mobileno msisdn zipcode postalcode postcode firstname lastname fullname middlename maidenname
    givenname familyname surname forename username customername contactname billingname
    shippingname recipientname buyername guestname cardholdername externalid userid customerid
    memberid
    """.split()  # noqa: SIM905  forty quoted lines would hide the list
)
"""Words so long that no other word ends in them: what comes before need not be set apart."""

_LAST_WORDS = frozenset({"phone", "zip", "fname", "lname", "em"})
"""Words that others end in (`headphone`, `modelname`): they must stand by themselves."""

_WHOLE_NAMES = frozenset({"name", "uid"})
"""Words that mean a person only where nothing says whose they are, unlike `product_name`."""

_DOUBTFUL_LAST_WORDS = frozenset({"mail", "mobile", "tel", "cell", "ph"})
_TELLING_DIGITS = 5

_QUALIFIERS = frozenset(
    """hash hashed sha md encoded encrypted base b raw plain lower lowercase normalized normalised
    value""".split()  # noqa: SIM905  the same
)
"""Words behind the one that counts: `email_hash`; `sha256` and `md5` come without their number."""

_NAME_CHARS = 64
_REMEMBERED_NAMES = 4096
_USUAL_CHARS = 1024
_DECODINGS = 3

_words = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+|[^\W0-9A-Za-z_]+").findall
# What may end the part before the @ includes no slash: `/@handle.name` is no e-mail address. Nor
# is `logo@2x.png`, an image for fine screens.
_find_address = re.compile(r"[\w.!#$%&'\"*+=^`{|}~-]@(?![0-9]x\.)(?:[\w-]++\.)+[^\W\d_]{2}").search
_url_parts = re.compile(
    r"(\s*(?:[A-Za-z][A-Za-z0-9+.-]*:)?[/\\]{2,})?((?<=[/\\])[^/\\?#]*)?"
    r"([^?#]*)(?:\?([^#]*))?(?:#(.*))?",
    re.DOTALL,
).fullmatch
_user_info = re.compile(r".*(?:@|%40)", re.DOTALL)
# Percent-encoded characters that would make more of an address than it seems: @ ; = ? & % #
_hides_structure = re.compile(r"%(?:40|3[BDFbdf]|2[356])").search
_separators = re.compile(r"([&;])")
_inner_separators = re.compile(r"[?&;#]")


class _Meaning(Enum):
    """What a name says about its value; `DOUBTFUL` leaves it to the value."""

    NOTHING = 0
    DOUBTFUL = 1
    PERSONAL = 2


_NOTHING, _PERSONAL = _Meaning.NOTHING, _Meaning.PERSONAL


def holds_address(text: str) -> bool:
    """Whether an e-mail address stands somewhere in a text, plain or percent-encoded."""
    if "@" in text and _find_address(text):
        return True
    # A percent sign may be the address's own: decoded once more, it is one no longer.
    return "%" in text and any(map(_find_address, _decodings(text)))


def is_personal(name: str, value: object) -> bool:
    """Whether a name, of a parameter or custom property, says that its value identifies a person.

    A boolean identifies nobody, whatever its name: `accepts_email`.
    """
    if holds_address(name):
        return True
    meaning = _meaning(name[-_NAME_CHARS:])
    if meaning is _NOTHING or isinstance(value, bool):
        return False
    return meaning is _PERSONAL or _has_digits(str(value))


def without_personal(url: str) -> str:
    """A page's address without what gives a person away; the rest of it byte for byte.

    Taken out are parameters, of the query and of the fragment, by their name or because an
    e-mail address stands in them, also where they belong to an address within the address; user
    and password before the host; and the content of a path segment with an e-mail address in it.
    An address of which nothing is to be taken out comes back as the same object; nothing may be
    left of one that was an e-mail address and no page's.
    """
    if "@" in url or len(url) > _USUAL_CHARS or ("%" in url and _hides_structure(url)):
        return _without_personal(url)
    if "=" not in url:
        return url
    path, _, query = url.partition("?")
    if "#" in path:
        return _without_personal(url)
    # As most addresses are: a few parameters of which only the names can tell.
    fields = query.split("=")
    fields.pop()
    for field in fields:
        if _meaning(field.rpartition("&")[2]) is not _NOTHING:
            return _without_personal(url)
    return url


def _without_personal(url: str) -> str:
    parts = _url_parts(url)
    if parts is None:  # every text has these parts, possibly empty
        return ""
    scheme, authority, path, query, fragment = parts.groups()
    kept = (scheme or "") + _user_info.sub("", authority or "") + _path(path)
    if query is not None and ((rest := _parameters(query)) or not query):
        kept += "?" + rest
    if fragment is not None and ((rest := _fragment(fragment)) or not fragment):
        kept += "#" + rest
    return url if kept == url else kept


def _path(path: str) -> str:
    if not holds_address(path):
        return path
    return "/".join("" if holds_address(segment) else segment for segment in path.split("/"))


def _fragment(fragment: str) -> str:
    """A fragment is a route, parameters, or a route with parameters: `#/cart?step=2`."""
    route, mark, query = fragment.partition("?")
    kept = _parameters(route) if "=" in route else _path(route)
    rest = _parameters(query)
    return kept + mark + rest if rest or not query else kept


def _parameters(query: str) -> str:
    """The parameters that give nobody away, each with the separator that stood before it."""
    pieces = _separators.split(query)
    kept: list[str] = []
    for at in range(0, len(pieces), 2):
        if _gives_away(pieces[at]):
            continue
        if kept:
            kept.append(pieces[at - 1])
        kept.append(pieces[at])
    return "".join(kept)


def _gives_away(parameter: str) -> bool:
    """Whether a parameter, or one within its value, is personal. Without a value none is."""
    *passed_on, text = _decodings(parameter)
    for piece in _inner_separators.split(text):
        sides = piece.split("=")
        if "@" in piece and any(map(_find_address, sides)):
            return True
        for name, value in pairwise(sides):
            if value and is_personal(name, value):
                return True
    if any("@" in one and any(map(_find_address, one.split("="))) for one in passed_on):
        return True
    return "@" in text and _find_address(text.partition("=")[2]) is not None


def _decodings(text: str) -> list[str]:
    """A text, and percent-decoded as often as addresses are passed on within addresses."""
    found = [text]
    while "%" in found[-1] and len(found) <= _DECODINGS:
        found.append(unquote(found[-1]))
    return found


def _decoded(text: str) -> str:
    return _decodings(text)[-1]


def _has_digits(value: str) -> bool:
    return sum(map(str.isdecimal, value)) >= _TELLING_DIGITS


@lru_cache(maxsize=_REMEMBERED_NAMES)
def _meaning(name: str) -> _Meaning:
    """What a name says, remembered for the few names that most events share."""
    # Of what a hurried caller cut out of an address, the name is what follows the last separator.
    name = _inner_separators.split(_decoded(name))[-1]
    words = [word.lower() for word in _words(name)]
    while len(words) > 1 and (words[-1].isdecimal() or words[-1] in _QUALIFIERS):
        words.pop()
    joined = "".join(words)
    if joined.endswith(_ENDINGS) or joined in _WHOLE_NAMES:
        return _Meaning.PERSONAL
    if not words:
        return _Meaning.NOTHING
    if words[-1] in _LAST_WORDS:
        return _Meaning.PERSONAL
    return _Meaning.DOUBTFUL if words[-1] in _DOUBTFUL_LAST_WORDS else _Meaning.NOTHING
