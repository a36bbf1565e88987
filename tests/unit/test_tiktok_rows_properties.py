"""TikTok's table of properties, row by row: every source takes the same."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

from consumer.decode import Decoder, Encoding
from consumer.event import EventSource
from consumer.names import CURRENCIES
from consumer.sandbox.rules import check_request
from tests.support.events import SCHEMA, avro
from tests.support.mapping import DESTINATIONS, element, event_of, mapped, request, warned

ALL = tuple(EventSource)
ITEM = {
    "content_id": "sku-1",
    "quantity": 2,
    "price": 19.5,
    "content_name": "Mug",
    "content_category": "Kitchen",
    "brand": "Acme",
}
LISTED = """AED ARS AUD BDT BHD BIF BOB BRL CAD CHF CLP CNY COP CRC CZK DKK DZD EGP EUR GBP GTQ HKD
HNL HUF IDR ILS INR ISK JPY KES KHR KRW KWD KZT MAD MOP MXN MYR NGN NIO NOK NZD OMR PEN PHP PKR PLN
PYG QAR RON RUB SAR SEK SGD THB TRY TWD UAH USD VES VND ZAR""".split()  # noqa: SIM905  TikTok's list


def sent_of(source: EventSource, properties: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The properties as sent, and the fields that were warned about; TikTok takes the request."""
    found = mapped(event_of(source, properties=properties), DESTINATIONS[source])
    sent = element(found)
    assert check_request(request(source, sent)) is None
    return sent.get("properties", {}), warned(found)


@pytest.mark.parametrize("source", ALL)
@pytest.mark.parametrize(
    "properties",
    [
        pytest.param({"contents": [ITEM]}, id="4-contents"),
        pytest.param({"contents": [ITEM, {"content_id": "sku-2"}]}, id="4-contents-several"),
        pytest.param({"contents": [{"content_name": "Mug"}]}, id="4-contents-without-content_id"),
        *(pytest.param({"contents": [{k: v}]}, id=f"4-contents-{k}") for k, v in ITEM.items()),
        pytest.param({"content_type": "product"}, id="4-content_type-product"),
        pytest.param({"content_type": "product_group"}, id="4-content_type-product_group"),
        pytest.param({"content_ids": ["a", "b"]}, id="4-content_ids"),
        pytest.param({"num_items": 3}, id="4-num_items"),
        pytest.param({"value": 49.9, "currency": "EUR"}, id="4-value-currency"),
        pytest.param({"value": 0.0, "currency": "JPY"}, id="4-value-zero"),
        pytest.param({"order_id": "o-1", "shop_id": "s-1"}, id="4-order_id-shop_id"),
        pytest.param({"search_string": "mugs"}, id="4-search_string"),
        pytest.param({"description": "Two mugs"}, id="4-description"),
        pytest.param({"customer_type": "new"}, id="4-customer_type-new"),
        pytest.param({"customer_type": "returning"}, id="4-customer_type-returning"),
    ],
)
def test_a_property_goes_as_documented(properties: dict[str, Any], source: EventSource) -> None:
    """With its name, its type and its place; content_type beside the contents."""
    assert sent_of(source, properties) == (properties, [])


@pytest.mark.parametrize("source", ALL)
@pytest.mark.parametrize(
    ("given", "sent", "field"),
    [
        pytest.param({"value": 1.0}, {}, "value", id="4-value-alone"),
        pytest.param({"currency": "USD"}, {}, "currency", id="4-currency-alone"),
        pytest.param({"value": 1.0, "currency": "BTC"}, {}, "currency", id="4-currency-unlisted"),
        pytest.param({"value": nan, "currency": "USD"}, {}, "value", id="4-value-nan"),
        pytest.param({"value": -inf, "currency": "USD"}, {}, "value", id="4-value-infinite"),
        pytest.param(
            {"contents": [{"content_id": "a", "price": inf}]},
            {"contents": [{"content_id": "a"}]},
            "contents.price",
            id="4-price-infinite",
        ),
        pytest.param({"contents": [{"price": nan}]}, {}, "contents.price", id="4-price-nan"),
        pytest.param(
            {"contents": [{"content_id": "a", "quantity": 0}]},
            {"contents": [{"content_id": "a"}]},
            "contents.quantity",
            id="4-quantity-none",
        ),
        pytest.param({"content_type": "sku"}, {}, "content_type", id="4-content_type-other"),
        pytest.param({"customer_type": "vip"}, {}, "customer_type", id="4-customer_type-other"),
        pytest.param({"num_items": -1}, {}, "num_items", id="4-num_items-negative"),
        pytest.param({"custom": {"rate": nan}}, {}, "custom", id="4-custom-nan"),
        pytest.param({"custom": {"value": 1}}, {}, "custom", id="4-custom-standard-name"),
        pytest.param({"custom": {"query": "x"}}, {}, "custom", id="4-custom-older-name"),
    ],
)
def test_a_property_that_cannot_be_right_is_left_out_with_a_warning(
    given: dict[str, Any], sent: dict[str, Any], field: str, source: EventSource
) -> None:
    """The event goes: nothing among its properties is required."""
    assert sent_of(source, given) == (sent, [f"properties.{field}"])


def test_the_list_of_currencies_is_tiktoks() -> None:
    """Row currency: a closed list, and every one of it is taken, in any case."""
    assert set(LISTED) == CURRENCIES
    for code in LISTED:
        sent, warnings = sent_of(EventSource.WEB, {"value": 1.5, "currency": f" {code.lower()} "})
        assert sent == {"value": 1.5, "currency": code}
        assert warnings == []


@pytest.mark.parametrize("source", ALL)
@pytest.mark.parametrize(
    "value", [True, False, 0, -(2**63), 2**63 - 1, 0.5, 1.0, "text", "1", "ü😀"], ids=repr
)
def test_an_unknown_property_goes_as_a_custom_one_with_its_type(
    value: Any, source: EventSource
) -> None:
    """Row unknown properties: one is not 1.0, and true is not 1."""
    sent, warnings = sent_of(source, {"custom": {"own": value}})
    assert (sent, warnings) == ({"own": value}, [])
    assert type(sent["own"]) is type(value)


def test_whole_numbers_stay_whole_and_prices_stay_numbers() -> None:
    """Rows quantity and num_items: integers; price and value: numbers, never texts."""
    sent, _ = sent_of(
        EventSource.WEB,
        {"contents": [ITEM], "num_items": 2, "value": 39.0, "currency": "USD"},
    )
    (item,) = sent["contents"]
    assert type(item["quantity"]) is type(sent["num_items"]) is int
    assert type(item["price"]) is type(sent["value"]) is float


def test_the_older_name_query_is_read_as_search_string() -> None:
    """Row search_string: the schema's alias brings events of producers that call it query."""
    older = _renamed(SCHEMA, {"search_string": "query"})
    given = event_of(EventSource.WEB, properties={"search_string": "mugs"})
    properties = {**given["properties"], "query": "mugs"}
    del properties["search_string"]
    decoder = Decoder(Encoding.RAW, SCHEMA, [older])
    decoded = decoder.decode(avro({**given, "properties": properties}, older))
    sent = element(mapped(decoded))
    assert sent["properties"] == {"search_string": "mugs"}


def _renamed(schema: Any, names: dict[str, str]) -> Any:
    """The schema of a producer that calls some fields otherwise."""
    if isinstance(schema, list):
        return [_renamed(branch, names) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    renamed = {key: _renamed(value, names) for key, value in schema.items() if key != "aliases"}
    if renamed.get("name") in names:
        renamed["name"] = names[renamed["name"]]
    return renamed
