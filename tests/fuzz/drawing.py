"""Events with one to three fields changed to something that their types allow and nobody expects.

Wrong types cannot come out of Avro, so it is values that are hostile: empty, huge, near misses of
what TikTok documents, control and combining characters, numbers at the edges of their range.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from consumer.event import EventSource
from consumer.names import APP_EVENTS, CURRENCIES, GA4_EVENT_NAMES, OLDER_EVENTS, WEB_EVENTS
from tests.support.events import EVENT_TIME_MS, FIELDS, SCHEMA
from tests.support.mapping import IDS, complete_event, event_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

_DAY_MS = 86_400_000
_MOST_CHANGES = 3

_DIGEST = "0123456789abcdef" * 4
_AWKWARD: Final = (
    *("", " ", "\t\n", "\x00", "\x01", "\x1b[31m", "\x7f", "\x85", "\u200b", "\u2028", "\u202e"),
    *("\ufeff", "\ufffd", "\uffff", "\U0010ffff", "e\u0301", "İ", "ß", "ﬁ", "Ⅷ", "٣", "😀", "中文"),
    *("-", ".", "/", "\\", '"', "'", "%", "%00", "{}", "[]", "null", "None", "true", "0", "-1"),
    *("NaN", "Infinity", "1e309", "${TOKEN}", "{{x}}", "<script>", "' OR 1=1 --"),
    *(_DIGEST, _DIGEST.upper(), _DIGEST[1:], f"{_DIGEST}0", f" {_DIGEST} ", "g" * 64, "0" * 64),
)
_EMAILS: Final = (
    *("a@b.example", " A@B.EXAMPLE ", "a@b", "@", "a@", "@b.example", "a@@b.example"),
    *("a b@c.example", "a+tag@c.example", '"a b"@c.example', "ü@ö.example", "a@b.example\x00"),
    *("a%40b.example", "mailto:a@b.example", "Jane <a@b.example>", "a@b.example,c@d.example"),
)
_PHONES: Final = (
    *("+12133734253", "(213) 373-4253", "0171 1234567", "+", "++1", "00491711234567", "911"),
    *("+1" + "2" * 40, "+٤٩١٧١١٢٣٤٥٦٧", "tel:+12133734253", "+1 213 373 4253 ext. 9", "+0"),
)
_ADDRESSES: Final = (
    *("8.8.8.8", "10.0.0.1", "127.0.0.1", "0.0.0.1", "255.255.255.255", "169.254.1.1", "224.0.0.1"),
    *("100.64.0.1", "::1", "fe80::1%eth0", "2001:db8::1", "2a00:1450::8a", "::ffff:8.8.8.8"),
    *("::ffff:10.0.0.1", "8.8.8.8:443", "[2a00:1450::8a]", "8.8.8", "08.8.8.8", " 8.8.8.8 ", "a.b"),
)
_PAGES: Final = (
    *("https://shop.example/?ttclid=E.C.P.x", "https://shop.example/?ttclid=", "shop.example"),
    *("https://a@b.example/", "https://user:pw@shop.example/", "https://shop.example/?email=a@b.c"),
    *("https://shop.example/#ttclid=x", "http://[::1", "https://шоп.example/%ff", "javascript:1"),
    *("https://shop.example/?" + "a=1&" * 300, "?", "https://shop.example/?q=%61%40b.example"),
)
_NAMES: Final = (
    *sorted(WEB_EVENTS | OLDER_EVENTS | APP_EVENTS | GA4_EVENT_NAMES.keys()),
    *("purchase ", "PURCHASE", "Own Event", "own_event", "Kauf\u00ad", "page view", "x" * 300),
)
_CODES: Final = (
    *(*sorted(CURRENCIES)[:6], "usd", " EUR ", "XXX", "BTC", "€", "US", "USDX", "product"),
    *("PRODUCT", "product_group", "new", "returning", "New ", "authorized", "DENIED", "MAYBE"),
    *("en-US", "en_US", "de", "zh-Hant-TW", "x-klingon", "C", "en-", "-US", "US-CA", "us_ca", "DE"),
    *("EA7583CD-A667-48BC-B806-42ECB2B48606", "00000000-0000-0000-0000-000000000000", "80331"),
    *("aaaaaa-2222-1111-8787-809e92233ba0", "M5V 3L9", "10001-1234", "SW1A 1AA", "--"),
)
_TEXTS: Final = (_AWKWARD, _EMAILS, _PHONES, _ADDRESSES, _PAGES, _NAMES, _CODES)
_RANGES: Final = ((0x20, 0x7E), (0, 0x1F), (0xA0, 0x2FF), (0x300, 0x36F), (0x3400, 0xD7FF))
_RANGES_FAR: Final = ((0xE000, 0xFFFF), (0x1F300, 0x1FAFF), (0xE0000, 0xE007F))

_LONGS: Final = (
    *(-(2**63), -(2**53) - 1, -(2**31) - 1, -1, 0, 1, 2, 2**31, 2**32, 2**53 + 1, 2**63 - 1),
)
_TIMES: Final = (
    *_LONGS,
    *(EVENT_TIME_MS + days * _DAY_MS for days in (-29, -8, -7, 1)),
    *(EVENT_TIME_MS // 1000, EVENT_TIME_MS * 1000, EVENT_TIME_MS + 1),
)
_DOUBLES: Final = (
    *(float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 1.0, -1.0, 0.1, 19.99, 1e-9, 1e21),
    *(5e-324, 2.0**53 + 2, 1.7976931348623157e308, -1e308, 1e15 + 0.3),
)
_HUGE_ONCE_IN = 400
_NULL_ONCE_IN = 8


class Drawn(NamedTuple):
    """An event, the source it was made for, and the paths of what was changed in it."""

    event: dict[str, Any]
    source: EventSource
    changed: tuple[str, ...]


def draw(random: Random) -> Drawn:
    """An event of any source with one to three fields changed, all of it by `random`."""
    source = random.choice(_SOURCES)
    event = orjson.loads(random.choice(_BASES[source]))
    changed = tuple(random.sample(_PATHS, random.randint(1, _MOST_CHANGES)))
    for path in changed:
        _put(event, path, _value(random, _TYPES[path]))
    return Drawn(event, source, changed)


_SOURCES: Final = tuple(EventSource)
_BASES: Final = {
    source: tuple(
        orjson.dumps(event)
        for event in (
            complete_event(source),
            complete_event(source, event_source_id=IDS[source]),
            event_of(source, event="Purchase", event_source=source.value),
        )
    )
    for source in EventSource
}
"""Events to change: with everything in them, with an id as well, and with the least."""


def _named(schema: Any, found: dict[str, Any]) -> dict[str, Any]:
    """Every named type of the schema."""
    for branch in schema if isinstance(schema, list) else [schema]:
        if isinstance(branch, dict):
            if "name" in branch:
                found[branch["name"]] = branch
            _named(branch.get("items"), found)
            for field in branch.get("fields", ()):
                _named(field["type"], found)
    return found


_NAMED: Final = _named(SCHEMA, {})


def _paths(record: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """Every field with its type, those within records after the record itself."""
    for field in record["fields"]:
        at = f"{path}.{field['name']}" if path else field["name"]
        yield at, field["type"]
        for branch in field["type"] if isinstance(field["type"], list) else ():
            if isinstance(branch, dict) and branch["type"] == "record":
                yield from _paths(branch, at)


_TYPES: Final = dict(_paths(SCHEMA, ""))
_PATHS: Final = tuple(_TYPES)


def _put(event: dict[str, Any], path: str, value: Any) -> None:
    """Sets a field; a record that is not there appears with nothing else in it."""
    *outer, last = path.split(".")
    holder = event
    for name in outer:
        if holder[name] is None:
            holder[name] = dict.fromkeys(FIELDS[name.capitalize()])
        holder = holder[name]
    holder[last] = value


def _value(random: Random, schema: Any) -> Any:
    """A value of any branch of a type; null now and then where it may be."""
    branches = schema if isinstance(schema, list) else [schema]
    if "null" in branches:
        if random.randrange(_NULL_ONCE_IN) == 0:
            return None
        branches = [branch for branch in branches if branch != "null"]
    branch = random.choice(branches)
    branch = _NAMED.get(branch, branch) if isinstance(branch, str) else branch
    kind = branch if isinstance(branch, str) else branch["type"]
    if isinstance(branch, dict) and "logicalType" in branch:
        return random.choice(_TIMES)
    return _KINDS[kind](random, branch)


def _text(random: Random, _branch: Any) -> str:
    if random.randrange(_HUGE_ONCE_IN) == 0:
        return random.choice("x\x01ü😀 ") * random.choice((5_000, 70_000))
    if random.randrange(4):
        return random.choice(random.choice(_TEXTS))
    ranges = random.choices((*_RANGES, *_RANGES_FAR), k=random.randint(1, 12))
    return "".join(chr(random.randint(*limits)) for limits in ranges)


def _array(random: Random, branch: Any) -> list[Any]:
    return [_value(random, branch["items"]) for _ in range(random.choice((0, 1, 2, 4)))]


def _map(random: Random, branch: Any) -> dict[str, Any]:
    return {
        _text(random, None): _value(random, branch["values"])
        for _ in range(random.choice((0, 1, 2, 5)))
    }


def _record(random: Random, branch: Any) -> dict[str, Any]:
    return {field["name"]: _value(random, field["type"]) for field in branch["fields"]}


_KINDS: Final[dict[str, Callable[[Random, Any], Any]]] = {
    "boolean": lambda random, _: random.random() < 0.5,
    "long": lambda random, _: random.choice(_LONGS),
    "double": lambda random, _: random.choice(_DOUBLES),
    "string": _text,
    "enum": lambda random, branch: random.choice(branch["symbols"]),
    "array": _array,
    "map": _map,
    "record": _record,
}
