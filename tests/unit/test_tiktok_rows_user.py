"""TikTok's tables of identifiers, row by row: who takes what, in which form, by which digest."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, NamedTuple

import pytest

from consumer.event import EventSource, FieldWarning
from consumer.identity import IdentityRules, Recent
from tests.support.mapping import (
    DESTINATIONS,
    NOW,
    complete_event,
    element,
    event_of,
    mapped,
    mapper,
    warned,
)

WEB, APP, OFFLINE, CRM = EventSource
ALL = (WEB, APP, OFFLINE, CRM)


def sha(text: str) -> str:
    """What TikTok is expected to have hashed itself."""
    return sha256(text.encode()).hexdigest()


class Row(NamedTuple):
    """A field of `user`: the sources it is for, a value, and what is sent of it."""

    field: str
    sources: tuple[EventSource, ...]
    value: str | list[str]
    sent: str | list[str]


ROWS = [
    Row("email", ALL, "a@b.example", sha("a@b.example")),
    Row("email", ALL, ["a@b.example", "c@d.example"], [sha("a@b.example"), sha("c@d.example")]),
    Row("phone", ALL, "+12133734253", sha("+12133734253")),
    Row("phone", ALL, ["+12133734253", "+12133734254"], [sha("+12133734253"), sha("+12133734254")]),
    Row("external_id", (WEB, CRM), "User 1", sha("User 1")),
    Row("external_id", (WEB, CRM), ["1", "2"], [sha("1"), sha("2")]),
    Row("ttclid", (WEB,), "E.C.P.AbC" + "x" * 900, "E.C.P.AbC" + "x" * 900),
    Row("ttp", (WEB,), "01J-AbC", "01J-AbC"),
    Row("ip", (WEB, APP), "8.8.8.8", "8.8.8.8"),
    Row("ip", (WEB, APP), "2001:4860:4860::8888", "2001:4860:4860::8888"),
    Row("user_agent", (WEB, APP), "Mozilla/5.0 (X)", "Mozilla/5.0 (X)"),
    Row("locale", (WEB, APP), "en-US", "en-US"),
    Row("first_name", (WEB,), "Jane", sha("jane")),
    Row("last_name", (WEB,), "O'Neil", sha("oneil")),
    Row("zip_code", (WEB,), "SW1A 1AA", sha("sw1a1aa")),
    Row("city", (WEB,), "São Paulo", "sãopaulo"),
    Row("state", (WEB,), "N.Y.", "ny"),
    Row("country", (WEB,), "US", "us"),
    Row("idfa", (APP,), "ea7583cd-a667", sha("EA7583CD-A667")),
    Row("idfv", (APP,), "5E6BA2F1-51c7", "5E6BA2F1-51c7"),
    Row("gaid", (APP,), "AAAA-2222", sha("aaaa-2222")),
    Row("att_status", (APP,), "AUTHORIZED", "AUTHORIZED"),
    Row("att_status", (APP,), "denied", "DENIED"),
    Row("att_status", (APP,), " Not_Determined ", "NOT_DETERMINED"),
    Row("att_status", (APP,), "RESTRICTED", "RESTRICTED"),
    Row("att_status", (APP,), "NOT_APPLICABLE", "NOT_APPLICABLE"),
]


TAKERS = {row.field: row.sources for row in ROWS}


def row_id(value: Any) -> str:
    """The row of §2 by its field, and the source."""
    return f"2-{value.field}" if isinstance(value, Row) else str(value)


@pytest.mark.parametrize("source", ALL)
@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_a_source_takes_the_fields_of_user_that_are_for_it(row: Row, source: EventSource) -> None:
    """In their form; another source's events go without, and say so."""
    found = mapped(event_of(source, user={row.field: row.value}), DESTINATIONS[source])
    if source in row.sources:
        assert element(found)["user"] == {row.field: row.sent}
        assert found.warnings == ()
    else:
        assert "user" not in element(found)
        assert found.match_keys == ()
        assert warned(found) == [f"user.{row.field}"]


@pytest.mark.parametrize(
    ("source", "keys"),
    [
        (
            WEB,
            """email phone external_id ttclid ttp ip user_agent first_name last_name city state
            country zip_code""",
        ),
        (APP, "email phone ip user_agent idfa gaid idfv"),
        (OFFLINE, "email phone"),
        (CRM, "email phone external_id"),
    ],
)
def test_the_match_keys_are_what_tiktok_finds_a_person_by(source: EventSource, keys: str) -> None:
    """Of what is sent; language and tracking status find nobody."""
    found = mapped(complete_event(source), DESTINATIONS[source])
    assert found.match_keys == tuple(keys.split())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (OFFLINE, "left out: offline events take email and phone only"),
        (CRM, "left out: crm events take email, phone and external_id only"),
        (APP, "left out: app events do not take it"),
    ],
)
def test_what_a_source_does_not_take_is_said_in_words(source: EventSource, message: str) -> None:
    """Whoever previews the event learns why the field is not in it."""
    found = mapped(event_of(source, user={"ttp": "x"}), DESTINATIONS[source])
    assert found.warnings == (FieldWarning("user.ttp", message),)


@pytest.mark.parametrize("source", ALL)
@pytest.mark.parametrize("blank", ["", "  ", None, [], ["", " "]], ids=repr)
def test_blank_identifiers_are_absent_from_every_source(source: EventSource, blank: Any) -> None:
    """Nothing was said, so nothing is sent and nobody is warned, taken or not."""
    several = dict.fromkeys(("email", "phone", "external_id"), blank)
    single = {} if isinstance(blank, list) else dict.fromkeys(("ttp", "idfa", "idfv"), blank)
    found = mapped(event_of(source, user=several | single), DESTINATIONS[source])
    assert "user" not in element(found)
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("field", "value", "digest"),
    [
        pytest.param(
            "email",
            " ALICE_abc@gmail.com ",
            "848a771458438fc2ec420560d769fb9b9b86851ee338ec56517baabd79d3bb4f",
            id="3-email",
        ),
        pytest.param(
            "phone",
            "(+1)2133734253",
            "9f7ec22d72092cd3c0b58726ed9c2d91b92e51a3f29837508fb2948bb22dd2fd",
            id="3-phone",
        ),
        pytest.param(
            "external_id",
            "user_123",
            "80fba0ae1c48e3978e43e4efc365e14e12ea0c830ba8ba5b9a2dafc7e3f2ab8b",
            id="3-external_id",
        ),
        pytest.param(
            "first_name",
            "Jane",
            "81f8f6dde88365f3928796ec7aa53f72820b06db8664f5fe76a7eb13e24546a2",
            id="3-names",
        ),
        pytest.param(
            "last_name",
            " J'a-n.e ",
            "81f8f6dde88365f3928796ec7aa53f72820b06db8664f5fe76a7eb13e24546a2",
            id="3-names-punctuation",
        ),
        pytest.param(
            "zip_code",
            "M5V 3L9",
            "5c850751d57c5d887fe7807d3da801efe7e8faa1f105ea36cdcd913dd32a41c7",
            id="3-zip",
        ),
        pytest.param(
            "idfa",
            "EA7583CD-A667-48BC-B806-42ECB2B48606",
            "70574fa9c8f498a7b2e5c8712b1126de7b1406fd02fdc591821c5bd33092fd1c",
            id="3-idfa",
        ),
        pytest.param(
            "idfa",
            " ea7583cd-a667-48bc-b806-42ecb2b48606 ",
            "70574fa9c8f498a7b2e5c8712b1126de7b1406fd02fdc591821c5bd33092fd1c",
            id="3-idfa-given-lower",
        ),
        pytest.param(
            "gaid",
            "aaaaaa-2222-1111-8787-809e92233ba0",
            "0ebad966881e1eebffe69b3abf624631cf83ec9bf8cb3ce134c7c75c6d8ee7fc",
            id="3-gaid",
        ),
        pytest.param(
            "gaid",
            " AAAAAA-2222-1111-8787-809E92233BA0 ",
            "0ebad966881e1eebffe69b3abf624631cf83ec9bf8cb3ce134c7c75c6d8ee7fc",
            id="3-gaid-given-upper",
        ),
    ],
)
def test_an_identifier_has_the_documented_digest(field: str, value: str, digest: str) -> None:
    """In every source that takes it; given as that digest, in any case, it goes as it is."""
    for source in TAKERS[field]:
        for given in (value, digest, f" {digest.upper()} "):
            found = mapped(event_of(source, user={field: given}), DESTINATIONS[source])
            assert element(found)["user"] == {field: digest}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("idfa", "00000000-0000-0000-0000-000000000000"),
        ("gaid", "00000000-0000-0000-0000-000000000000"),
        ("gaid", "00000000000000000000000000000000"),
        ("idfa", "--"),
        ("att_status", "maybe"),
        ("att_status", "3"),
        ("ip", "192.168.1.1"),
        ("locale", "en_US"),
        ("phone", "213 373 4253"),
        ("email", "nobody"),
    ],
)
def test_what_identifies_nobody_leaves_an_app_event_with_a_warning(field: str, value: str) -> None:
    """A device without tracking has a number of zeros, which all such devices share."""
    found = mapped(event_of(APP, user={field: value}), DESTINATIONS[APP])
    assert "user" not in element(found)
    assert warned(found) == [f"user.{field}"]
    assert value not in repr(found.warnings)


@pytest.mark.parametrize("source", ALL)
def test_a_national_number_is_read_in_the_default_region(source: EventSource) -> None:
    """The setting counts for the phones of all sources, also of several numbers."""
    phones = ["213 373 4253", "+1 213 373 4254", "not a number"]
    one = mapper(identity=IdentityRules(default_phone_region="US"))
    found = one.map(event_of(source, user={"phone": phones}), DESTINATIONS[source], NOW)
    assert element(found)["user"]["phone"] == [sha("+12133734253"), sha("+12133734254")]
    assert warned(found) == ["user.phone"]


def test_the_memory_of_persons_is_bounded_over_all_sources() -> None:
    """Sources share the bound, and never an entry."""
    one = mapper()
    one._identity._persons = Recent(8)
    for number in range(50):
        for source in ALL:
            given = event_of(source, user={"email": f"p{number}@b.example", "ttp": "cookie"})
            found = one.map(given, DESTINATIONS[source], NOW)
            assert warned(found) == ([] if source is WEB else ["user.ttp"])
    assert len(one._identity._persons) <= 8
