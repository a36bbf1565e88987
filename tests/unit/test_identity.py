"""Identifiers leave in exactly the form TikTok matches, or not at all."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.event import EventSource
from consumer.identity import (
    PERSONAL_FIELDS,
    Identified,
    Identity,
    IdentityRules,
    Recent,
    with_click_id,
)
from consumer.source_rules import RULES
from tests.support.events import event

if TYPE_CHECKING:
    from ipaddress import IPv4Address

EMAIL = "848a771458438fc2ec420560d769fb9b9b86851ee338ec56517baabd79d3bb4f"
PHONE = "9f7ec22d72092cd3c0b58726ed9c2d91b92e51a3f29837508fb2948bb22dd2fd"
URL = "https://shop.example/"


def sha(text: str) -> str:
    """What TikTok is expected to have hashed itself."""
    return sha256(text.encode()).hexdigest()


def identify(
    rules: IdentityRules | None = None, url: str = URL, *, strip: bool = False, **user: Any
) -> Identified:
    """The identifiers of a web event with these fields."""
    found = of(Identity(rules or IdentityRules()), event(user=user)["user"], strip=strip)
    return with_click_id(found, url)


def of(
    identity: Identity,
    user: dict[str, Any] | None,
    source: EventSource = EventSource.WEB,
    *,
    strip: bool = False,
) -> Identified:
    """What an identity that may remember makes of a user record."""
    return identity.identify(identity.plan(source), user, strip=strip)


@pytest.mark.parametrize(
    ("field", "value", "sent"),
    [
        ("email", " ALICE_abc@gmail.com ", EMAIL),
        ("email", EMAIL.upper(), EMAIL),
        ("email", "o'neil+shop@mail-1.m_x.example", sha("o'neil+shop@mail-1.m_x.example")),
        ("email", "ईमेल@उदाहरण.भारत", sha("ईमेल@उदाहरण.भारत")),
        ("phone", "(+1)2133734253", PHONE),
        ("phone", "+1 213-373-4253", PHONE),
        ("phone", PHONE.upper(), PHONE),
        (
            "external_id",
            " user_123 ",
            "80fba0ae1c48e3978e43e4efc365e14e12ea0c830ba8ba5b9a2dafc7e3f2ab8b",
        ),
        ("external_id", "User_123", sha("User_123")),
        ("external_id", EMAIL.upper(), EMAIL),
        (
            "first_name",
            "Jane",
            "81f8f6dde88365f3928796ec7aa53f72820b06db8664f5fe76a7eb13e24546a2",
        ),
        ("first_name", " Mary-Ann ", sha("maryann")),
        ("last_name", "O'Neil  Jr.", sha("oneil jr")),
        ("last_name", "กี่", sha("กี่")),
        (
            "zip_code",
            "M5V 3L9",
            "5c850751d57c5d887fe7807d3da801efe7e8faa1f105ea36cdcd913dd32a41c7",
        ),
        ("zip_code", "10001-1234", sha("10001")),
        ("zip_code", "01310-100", sha("01310100")),
        ("city", "New York!", "newyork"),
        ("city", "東京 都", "東京都"),
        ("state", "C.A.", "ca"),
        ("country", " US ", "us"),
        ("ttclid", "E.C.P.AbC-123%2B", "E.C.P.AbC-123%2B"),
        ("ttp", "01J-AbC", "01J-AbC"),
        ("user_agent", "Mozilla/5.0 (X)", "Mozilla/5.0 (X)"),
        ("locale", "en-US", "en-US"),
        ("locale", " zh-Hant-TW ", "zh-Hant-TW"),
        ("ip", " 8.8.8.8 ", "8.8.8.8"),
        ("ip", "2001:4860:4860::8888", "2001:4860:4860::8888"),
        ("ip", "::ffff:8.8.8.8", "8.8.8.8"),
    ],
)
def test_a_value_is_sent_in_tiktoks_form(field: str, value: str, sent: str) -> None:
    """TikTok's own examples, and the cases that other clients get wrong."""
    found = identify(**{field: value})
    assert found == Identified({field: sent}, (), ())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", "alice"),
        ("email", "@gmail.com"),
        ("email", "alice@"),
        ("email", "a@b@c"),
        ("email", "alice smith@gmail.com"),
        ("email", "alice@gmail."),
        ("email", "alice@gmail..com"),
        ("email", '"alice@gmail.com"'),
        ("email", "<alice@gmail.com>"),
        ("email", "alice@gmail,com"),
        ("email", "\ufeffalice@gmail.com"),
        ("email", "alice@gmail.com\u200b"),
        ("ttclid", "alice@gmail.com"),
        ("ttp", "alice%40gmail.com"),
        ("user_agent", "Robot/1.0 (alice@gmail.com)"),
        ("phone", "2133734253"),
        ("phone", "+1 213"),
        ("phone", "call me"),
        ("phone", "+" + "1" * 300),
        ("first_name", "?!"),
        ("city", "---"),
        ("zip_code", "--"),
        ("ip", "10.1.2.3"),
        ("ip", "192.168.0.1"),
        ("ip", "127.0.0.1"),
        ("ip", "224.0.0.1"),
        ("ip", "fe80::1"),
        ("ip", "2001:4860:4860::8888%eth0"),
        ("ip", "::ffff:10.0.0.1"),
        ("ip", "8.8.8"),
        ("ip", "8.8.8.08"),
        ("ip", "8.8.8.8:443"),
        ("ip", "localhost"),
        ("locale", "en_US"),
        ("locale", "C.UTF-8"),
    ],
)
def test_an_unusable_value_is_left_out_with_a_warning(field: str, value: str) -> None:
    """It is never hashed as it is, and the warning does not repeat it."""
    found = identify(**{field: value})
    assert found.user == {}
    assert [warning.field for warning in found.warnings] == [f"user.{field}"]
    assert value not in repr(found.warnings)


@pytest.mark.parametrize("blank", [None, "", "  "])
def test_a_blank_value_is_absent(blank: str | None) -> None:
    """Nothing was said, so nothing is sent and nobody is warned."""
    user = dict.fromkeys(RULES[EventSource.WEB].user, blank)
    assert identify(**user) == Identified({}, (), ())


def test_a_number_without_plus_is_read_in_the_default_region() -> None:
    """Only a setting may say which country a national number is from."""
    rules = IdentityRules(default_phone_region="US")
    assert identify(rules, phone="213 373 4253").user == {"phone": PHONE}


def test_a_default_region_must_exist() -> None:
    """A misspelt region would silently drop every national number."""
    with pytest.raises(ValueError, match="default_phone_region"):
        IdentityRules(default_phone_region="USA")


def test_an_external_id_is_lower_cased_where_the_pixel_does_so() -> None:
    """The setting makes both sides' digests equal."""
    rules = IdentityRules(lowercase_external_id=True)
    assert identify(rules, external_id=" User_123").user == {"external_id": sha("user_123")}


@pytest.mark.parametrize(
    ("zip_code", "country", "hashed"),
    [
        ("94107-1234", "US", "94107"),
        ("941071234", "usa", "94107"),
        ("94107", "us", "94107"),
        ("12345-6789", "SA", "123456789"),
        ("SW1A 1AA", "GB", "sw1a1aa"),
    ],
)
def test_only_american_zip_codes_are_cut_to_five_digits(
    zip_code: str, country: str, hashed: str
) -> None:
    """The country decides, where the event names one."""
    assert identify(zip_code=zip_code, country=country).user["zip_code"] == sha(hashed)


def test_an_american_zip_code_of_fewer_digits_is_unusable() -> None:
    """Four digits are no ZIP code, however they are hashed."""
    assert "zip_code" not in identify(zip_code="9410", country="US").user


def test_several_values_are_sent_once_each() -> None:
    """Different spellings of one address are one digest; unusable and blank ones are left out."""
    found = identify(email=["Alice_abc@gmail.com", "alice_ABC@gmail.com ", "b@c.de", "", "nobody"])
    assert found.user == {"email": [EMAIL, sha("b@c.de")]}
    assert [warning.field for warning in found.warnings] == ["user.email"]


def test_a_list_of_one_is_sent_as_a_string() -> None:
    """As in TikTok's examples."""
    assert identify(phone=["+12133734253", "+1 (213) 373-4253"]).user == {"phone": PHONE}


def test_a_list_without_a_usable_value_is_left_out() -> None:
    """No empty array is sent."""
    assert identify(external_id=["", " "]).user == {}


def test_stripping_takes_out_what_names_the_person_and_says_so() -> None:
    """E-mail, phone, external id, names and zip leave; click id, address and agent stay."""
    taken = RULES[EventSource.WEB].user
    user = dict.fromkeys(taken, "x") | {
        "ip": "8.8.8.8",
        "email": ["a@b.c"],
        "locale": "en",
    }
    found = identify(strip=True, **user)
    assert found.user.keys() == set(taken) - PERSONAL_FIELDS
    assert set(found.removed) == {f"user.{name}" for name in PERSONAL_FIELDS}
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("url", "ttclid"),
    [
        ("https://s.example/?a=1&ttclid=E.C.P.AbC", "E.C.P.AbC"),
        ("https://s.example/?ttclid=a%2Bb+c%3D#part", "a+b+c="),
        ("https://s.example/?ttclid=&ttclid=second", "second"),
        ("https://s.example/?my_ttclid=other", None),
        ("https://s.example/#ttclid=fragment", None),
        ("https://s.example/ttclid=path", None),
        ("https://s.example/?ttclid=alice%40gmail.com", None),
        ("https://s.example/", None),
    ],
)
def test_the_click_id_is_taken_from_the_page_where_the_event_has_none(
    url: str, ttclid: str | None
) -> None:
    """Percent-decoded and otherwise as it stands, from the query alone; never an e-mail address."""
    assert identify(url=url).user.get("ttclid") == ttclid
    without_user = with_click_id(of(Identity(IdentityRules()), None), url)
    assert without_user.user.get("ttclid") == ttclid


def test_the_events_own_click_id_wins() -> None:
    """It was stored at the click; the address may be of a later page."""
    assert identify(url=f"{URL}?ttclid=page", ttclid="own").user == {"ttclid": "own"}


@given(st.ip_addresses(v=4))
def test_the_quick_check_of_addresses_agrees_with_the_standard_library(
    address: IPv4Address,
) -> None:
    """What is public is IANA's to say, by way of ipaddress."""
    public = address.is_global and not address.is_multicast
    assert identify(ip=str(address)).user == ({"ip": str(address)} if public else {})


@given(st.text(), st.sampled_from(sorted(PERSONAL_FIELDS)))
def test_no_text_leaves_plain(text: str, field: str) -> None:
    """Whatever stands in a personal field, a digest is sent or nothing."""
    sent = identify(**{field: text}).user.get(field)
    assert sent is None or (
        isinstance(sent, str) and len(sent) == 64 and set(sent) <= set("0123456789abcdef")
    )


@given(st.text(), st.sampled_from(sorted(PERSONAL_FIELDS)))
def test_digests_are_not_hashed_again(text: str, field: str) -> None:
    """A producer may hash itself, in either case, and an own digest survives a second pass."""
    sent = identify(**{field: sha(text).upper()})
    assert sent.user == {field: sha(text)}


def test_the_memory_of_digests_is_bounded_and_keeps_what_is_used() -> None:
    """Old entries go, a value in use stays."""
    recent: Recent[str, str] = Recent(10)
    recent.put("often", "digest")
    for number in range(100):
        recent.put(str(number), "digest")
        assert recent.get("often") == "digest"
    assert len(recent) <= 10
    assert recent.get("0") is None


def test_the_memory_of_digests_shows_no_content() -> None:
    """A repr may end up in a log."""
    recent: Recent[str, str] = Recent(10)
    recent.put("+12133734253", PHONE)
    assert repr(recent) == "<Recent 1 of at most 10>"


def test_a_person_seen_before_is_identified_alike_and_never_changed() -> None:
    """Every record of a visit gets its own click id; the remembered one stays as it was."""
    identity = Identity(IdentityRules())
    user = event(user={"email": "jane@example.com", "phone": "+12133734253"})["user"]
    first = of(identity, user)
    with_click = with_click_id(of(identity, user), f"{URL}?ttclid=E.C.P.1")
    again = of(identity, user)
    assert again == first
    assert with_click.user == {**first.user, "ttclid": "E.C.P.1"}
    stripped = of(identity, user, strip=True)
    assert stripped.user == {}
    assert stripped.removed == ("user.email", "user.phone")


def test_a_giant_value_is_not_remembered() -> None:
    """The memory is bounded in bytes: what is longer than usual is worked out anew."""
    identity = Identity(IdentityRules())
    user = event(user={"user_agent": "x" * 100_000, "phone": "1" * 1000})["user"]
    for _ in range(2):
        assert of(identity, user).user == {"user_agent": "x" * 100_000}
    assert "0 of at most" in repr(identity._persons)
    assert "0 of at most" in repr(identity._phones)


def test_an_unusable_phone_is_remembered_as_such() -> None:
    """The second time costs no parsing and is answered alike."""
    identity = Identity(IdentityRules())
    user = event(user={"phone": "call me"})["user"]
    first, second = (of(identity, user) for _ in range(2))
    assert first == second
    assert [warning.field for warning in second.warnings] == ["user.phone"]
