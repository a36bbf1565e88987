"""An invented web shop: visitors who look, choose and sometimes buy.

Every person is made up: names from a list, e-mail at example.com, telephone numbers from the
ranges that the numbering authorities keep for fiction. The events are realistic where it matters:
funnels that get narrower, several pixels, names of Google Analytics 4 and of TikTok, and one order
id as the event_id of both the checkout and the purchase.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

FUNNEL = (
    ("page_view", "Pageview"),
    ("view_item", "ViewContent"),
    ("add_to_cart", "AddToCart"),
    ("begin_checkout", "InitiateCheckout"),
    ("purchase", "CompletePayment"),
)
"""The steps of a visit: the name of Google Analytics 4, and TikTok's for it."""

_GOES_ON = 0.8
_VISITS_AT_ONCE = 64
_MINUTE_MS = 60_000

_FIRST = ("Ada", "Björn", "Chloé", "Dmitri", "Élodie", "Fatima", "Grace", "Hiro", "Inés", "Jane")
_LAST = ("Abbott", "Brontë", "Castillo", "Dvořák", "Eriksen", "O'Hara", "García-Ruiz", "Tanaka")
_ITEMS = (
    ("sku-1001", "Enamel cup", "Kitchen", "Hearth", 14.5),
    ("sku-1002", "Linen apron", "Kitchen", "Hearth", 39.0),
    ("sku-2001", "Trail shoes", "Outdoor", "Northway", 119.95),
    ("sku-2002", "Rain jacket", "Outdoor", "Northway", 189.0),
    ("sku-3001", "Desk lamp", "Home", "Lumen", 64.9),
    ("sku-3002", "Wool blanket", "Home", "Fold", 89.0),
)
_MOZILLA = "Mozilla/5.0 ({}) AppleWebKit/{} (KHTML, like Gecko) {}"
_AGENTS = tuple(
    _MOZILLA.format(*parts)
    for parts in (
        (
            "iPhone; CPU iPhone OS 17_5_1 like Mac OS X",
            "605.1.15",
            "Version/17.5 Mobile/15E148 Safari/604.1",
        ),
        ("Linux; Android 14; Pixel 8", "537.36", "Chrome/126.0.6478.122 Mobile Safari/537.36"),
        ("Windows NT 10.0; Win64; x64", "537.36", "Chrome/126.0.0.0 Safari/537.36"),
    )
)
_PLACES = (
    ("US", "US-NY", "New York", "NY", "10001", "en-US", "USD", "+1 (212) 555-01{:02d}"),
    ("US", "US-CA", "Los Angeles", "CA", "90012", "en-US", "USD", "+1 310 555 01{:02d}"),
    ("GB", "GB", "London", "England", "SW1A 1AA", "en-GB", "GBP", "+44 7700 9001{:02d}"),
    ("FR", "FR", "Saint-Étienne", "Loire", "42000", "fr-FR", "EUR", "+33 6 39 98 01 {:02d}"),
    ("DE", "DE-BY", "München", "Bayern", "80331", "de-DE", "EUR", "+49 171 39200{:02d}"),
)
_PUBLIC_NETWORKS = (20, 23, 50, 73, 84, 91)


class ShopEvent(NamedTuple):
    """An event as the shop would produce it.

    `fields` follows the conversion event's schema, `key` is the visitor, and `name_as_sent` is the
    name that TikTok must get for it.
    """

    key: bytes
    fields: dict[str, Any]
    name_as_sent: str


@dataclass(slots=True)
class _Visit:
    """A visitor on the way through the shop."""

    visitor: str
    source_id: str
    speaks_ga4: bool
    user: dict[str, Any]
    currency: str
    region: str
    items: Sequence[tuple[str, str, str, str, float]]
    began_ms: int
    order_id: str
    step: int = 0


class Shop:
    """Visits to a shop with several pixels, told event by event in a mixed order.

    Everything is drawn from `random`; the newest event is a little older than `now_ms`.
    """

    def __init__(self, random: Random, event_source_ids: Sequence[str], now_ms: int) -> None:
        self._random = random
        self._event_source_ids = event_source_ids
        self._now_ms = now_ms
        self._visits = [self._visit() for _ in range(_VISITS_AT_ONCE)]

    def event(self) -> ShopEvent:
        """The next thing that somebody does in the shop."""
        place = self._random.randrange(_VISITS_AT_ONCE)
        visit = self._visits[place]
        event = self._event(visit)
        visit.step += 1
        if visit.step == len(FUNNEL) or self._random.random() > _GOES_ON:
            self._visits[place] = self._visit()
        return event

    def _visit(self) -> _Visit:
        random = self._random
        country, region, city, state, zip_code, locale, currency, phone = random.choice(_PLACES)
        number = random.randrange(1_000_000)
        first, last = random.choice(_FIRST), random.choice(_LAST)
        network = random.choice(_PUBLIC_NETWORKS)
        user: dict[str, Any] = {
            "external_id": f"user_{number}",
            "ttp": f"{random.getrandbits(64):016x}",
            "ip": f"{network}.{random.randrange(256)}.{random.randrange(256)}.7",
            "user_agent": random.choice(_AGENTS),
            "locale": locale,
            "country": country,
        }
        if random.random() < 0.75:  # noqa: PLR2004  the share of visitors who are logged in
            user["email"] = f" {first}.{number}@Example.com "
            user["phone"] = phone.format(number % 100)
            user.update(first_name=first, last_name=last)
            user.update(city=city, state=state, zip_code=zip_code)
        return _Visit(
            visitor=f"visitor-{number}",
            source_id=random.choice(self._event_source_ids),
            speaks_ga4=random.random() < 0.7,  # noqa: PLR2004  the others speak TikTok's names
            user=user,
            currency=currency,
            region=region,
            items=random.sample(_ITEMS, random.choice((1, 1, 2))),
            began_ms=self._now_ms - random.randrange(10 * _MINUTE_MS, 300 * _MINUTE_MS),
            order_id=f"order-{random.getrandbits(64):016x}",
        )

    def _event(self, visit: _Visit) -> ShopEvent:
        ga4_name, tiktok_name = FUNNEL[visit.step]
        ordered = tiktok_name in ("InitiateCheckout", "CompletePayment")
        event_id = visit.order_id if ordered else f"{self._random.getrandbits(128):032x}"
        fields = {
            "event_id": event_id,
            "event": ga4_name if visit.speaks_ga4 else tiktok_name,
            "event_time": visit.began_ms + visit.step * _MINUTE_MS,
            "event_source_id": visit.source_id,
            "event_source": "web",
            "page": _page(visit, ga4_name, self._random),
            "user": visit.user,
            "properties": _properties(visit, tiktok_name),
            "consent": {
                "marketing": "GRANTED",
                "ad_user_data": "GRANTED",
                "ad_personalization": "GRANTED",
                "region": visit.region,
                "cmp_version": "2.4.1",
                "collected_at": visit.began_ms,
            },
        }
        return ShopEvent(visit.visitor.encode(), fields, tiktok_name)


def _page(visit: _Visit, step: str, random: Random) -> dict[str, str]:
    url = f"https://shop.example.com/{step}/{visit.items[0][0]}"
    if random.random() < 0.5:  # noqa: PLR2004  half come from an advertisement
        url += f"?utm_source=tiktok&ttclid=E.C.P.{random.getrandbits(96):024x}"
    return {"url": url, "referrer": "https://www.example.com/search"}


def _properties(visit: _Visit, name: str) -> dict[str, Any] | None:
    if name == "Pageview":
        return None
    contents: list[dict[str, Any]] = [
        {
            "content_id": sku,
            "content_name": title,
            "content_category": category,
            "brand": brand,
            "quantity": 1 + place,
            "price": price,
        }
        for place, (sku, title, category, brand, price) in enumerate(visit.items)
    ]
    properties: dict[str, Any] = {
        "value": round(sum(c["price"] * c["quantity"] for c in contents), 2),
        "currency": visit.currency,
        "content_type": "product",
        "contents": contents,
        "content_ids": [c["content_id"] for c in contents],
        "customer_type": "returning" if visit.step > 1 else "new",
        "num_items": sum(c["quantity"] for c in contents),
        "description": "summer collection",
        "custom": {"theme": "summer", "step": visit.step, "voucher": False},
    }
    if name == "CompletePayment":
        properties["order_id"] = visit.order_id
    return properties
