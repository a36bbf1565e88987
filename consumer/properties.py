"""TikTok's `properties` object: the standard ones checked, the advertiser's own passed on.

Formats are those of TikTok's Events API 2.0. Nothing in it is required, so nothing in it refuses
an event: what cannot be right is left out with a warning, which never repeats a value or a name
that came with the event. So is what gives a person away, whatever the consent: texts with an e-mail
address in them and custom properties named after personal data (`consumer.personal`). Ids stay as
they are.
"""

from __future__ import annotations

from math import isfinite
from typing import Any

from consumer.event import Consent, ConsentState, FieldWarning
from consumer.names import CURRENCIES, STANDARD_PROPERTIES
from consumer.personal import holds_address, is_personal, without_personal

CONSENT_PROPERTIES = ("ad_user_data", "ad_personalization")
"""Custom properties that carry the known consent states where `consent.forward_signals` is on."""

_KNOWN_STATES = {ConsentState.GRANTED: "GRANTED", ConsentState.DENIED: "DENIED"}
_IDS = ("order_id", "shop_id")
_TEXTS = ("search_string", "description")
_CHOICES = {
    "content_type": frozenset({"product", "product_group"}),
    "customer_type": frozenset({"new", "returning"}),
}


def _left_out(field: str, why: str) -> FieldWarning:
    return FieldWarning(f"properties.{field}", f"left out: {why}")


_VALUE_ALONE = _left_out("value", "it needs a currency")
_VALUE_NOT_FINITE = _left_out("value", "it is no finite number")
_CURRENCY_ALONE = _left_out("currency", "it needs a value")
_CURRENCY_UNKNOWN = _left_out("currency", "TikTok does not take this currency")
_PRICE_NOT_FINITE = _left_out("contents.price", "it is no finite number")
_QUANTITY_TOO_SMALL = _left_out("contents.quantity", "it is less than 1")
_NUM_ITEMS_NEGATIVE = _left_out("num_items", "it is negative")
_CUSTOM_NOT_FINITE = _left_out("custom", "a number is not finite")
_CUSTOM_STANDARD = _left_out("custom", "a name belongs to a standard property")
_CUSTOM_PERSONAL = _left_out("custom", "a name stands for personal data, which belongs to user")
_CUSTOM_ADDRESS = _left_out("custom", "an e-mail address stands in a text")
_CUSTOM_PAGE = FieldWarning("properties.custom", "personal data was taken out of a page's address")
_CONTENT_ADDRESS = _left_out("contents", "an e-mail address stands in a text")
_ADDRESS = {key: _left_out(key, "an e-mail address stands in it") for key in _TEXTS}
_NO_SUCH_CHOICE = {
    key: _left_out(key, f"it is none of {', '.join(sorted(choices))}")
    for key, choices in _CHOICES.items()
}


class Properties:
    """Maps decoded `properties`; `forward_signals` adds the known consent states."""

    def __init__(self, *, forward_signals: bool) -> None:
        self._forward = forward_signals
        # A signal that consent decides must not come from elsewhere.
        self._reserved = STANDARD_PROPERTIES.union(CONSENT_PROPERTIES if forward_signals else ())

    def map(
        self, given: dict[str, Any] | None, consent: Consent, warnings: list[FieldWarning]
    ) -> dict[str, Any]:
        """Map the decoded record (null: none came); what was left out joins `warnings`."""
        sent: dict[str, Any] = {}
        if given is not None:
            _money(given["value"], given["currency"], sent, warnings)
            _choices(given, sent, warnings)
            contents = given["contents"]
            if contents and (items := _contents(contents, warnings)):
                sent["contents"] = items
            _plain(given, sent, warnings)
            if given["custom"]:
                self._custom(given["custom"], sent, warnings)
        if self._forward:
            if consent.ad_user_data in _KNOWN_STATES:
                sent["ad_user_data"] = _KNOWN_STATES[consent.ad_user_data]
            if consent.ad_personalization in _KNOWN_STATES:
                sent["ad_personalization"] = _KNOWN_STATES[consent.ad_personalization]
        return sent

    def _custom(
        self, given: dict[str, Any], sent: dict[str, Any], warnings: list[FieldWarning]
    ) -> None:
        """Pass the advertiser's own properties on; warnings do not repeat the names given."""
        problems: set[FieldWarning] = set()
        for key, value in given.items():
            if value is None or not key or key.isspace():
                continue
            kind = value.__class__
            if kind is str and (not value or value.isspace()):
                continue
            if key in self._reserved:
                problems.add(_CUSTOM_STANDARD)
            elif is_personal(key, value):
                problems.add(_CUSTOM_PERSONAL)
            elif kind is float and not isfinite(value):
                problems.add(_CUSTOM_NOT_FINITE)
            elif kind is str and (text := _custom_text(value, problems)) is not value:
                if text:
                    sent[key] = text
            else:
                sent[key] = value
        warnings.extend(sorted(problems))


def _money(
    value: float | None, currency: str | None, sent: dict[str, Any], warnings: list[FieldWarning]
) -> None:
    """Value and currency go together or not at all."""
    code = currency.strip().upper() if currency else ""
    if value is None:
        if code:
            warnings.append(_CURRENCY_ALONE)
    elif not isfinite(value):
        warnings.append(_VALUE_NOT_FINITE)
    elif not code:
        warnings.append(_VALUE_ALONE)
    elif code not in CURRENCIES:
        warnings.append(_CURRENCY_UNKNOWN)
    else:
        sent["value"] = value
        sent["currency"] = code


def _choices(given: dict[str, Any], sent: dict[str, Any], warnings: list[FieldWarning]) -> None:
    for key, choices in _CHOICES.items():
        value = given[key]
        if value and not value.isspace():
            choice = value.strip().lower()
            if choice in choices:
                sent[key] = choice
            else:
                warnings.append(_NO_SUCH_CHOICE[key])


def _plain(given: dict[str, Any], sent: dict[str, Any], warnings: list[FieldWarning]) -> None:
    """What is passed on as it is."""
    ids = given["content_ids"]
    if ids and (ids := [one for one in ids if one and not one.isspace()]):
        sent["content_ids"] = ids
    num_items = given["num_items"]
    if num_items is not None:
        if num_items < 0:
            warnings.append(_NUM_ITEMS_NEGATIVE)
        else:
            sent["num_items"] = num_items
    for key in _IDS:
        text = given[key]
        if text and not text.isspace():
            sent[key] = text
    for key in _TEXTS:
        text = given[key]
        if text and not text.isspace():
            if holds_address(text):
                warnings.append(_ADDRESS[key])
            else:
                sent[key] = text


def _custom_text(text: str, problems: set[FieldWarning]) -> str:
    """What may be sent of a text: all of it, the rest of a page's address, or nothing."""
    if "://" in text:
        kept = without_personal(text)
        if kept is not text:
            problems.add(_CUSTOM_PAGE)
            text = kept
    if holds_address(text):
        problems.add(_CUSTOM_ADDRESS)
        return ""
    return text


def _contents(contents: list[dict[str, Any]], warnings: list[FieldWarning]) -> list[dict[str, Any]]:
    """The items with what is usable of each; one that has nothing left is left out.

    An item without a `content_id` stays: TikTok does not require one.
    """
    problems: set[FieldWarning] = set()
    items = [item for content in contents if (item := _item(content, problems))]
    if problems:
        warnings.extend(sorted(problems))
    return items


def _item(content: dict[str, Any], problems: set[FieldWarning]) -> dict[str, Any]:
    item = {}
    for key, value in content.items():
        if value is None:
            continue
        if key == "price":
            if not isfinite(value):
                problems.add(_PRICE_NOT_FINITE)
                continue
        elif key == "quantity":
            if value < 1:
                problems.add(_QUANTITY_TOO_SMALL)
                continue
        elif not value or value.isspace():
            continue
        elif key != "content_id" and ("@" in value or "%" in value) and holds_address(value):
            problems.add(_CONTENT_ADDRESS)
            continue
        item[key] = value
    return item
