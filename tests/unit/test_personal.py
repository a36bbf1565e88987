"""What gives a person away in a page's address, a text or a name, and what only seems to."""

from __future__ import annotations

from urllib.parse import quote, unquote

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from consumer import personal
from consumer.personal import holds_address, is_personal, without_personal

SHOP = "https://shop.example"


@pytest.mark.parametrize(
    "name",
    """
    email Email EMAIL e-mail e_mail eMail emails email_address emailAddress customer_email userEmail
    useremail utm_email user.email customer[email] customer%5Bemail%5D email[] email_1 email2
    email_hash hashed_email emailSHA256 email_md5 em user_data.em
    phone Phone user_phone phone_number phoneNumber telephone msisdn contact-phone phone2 userphone
    mobile_number mobilePhone
    first_name firstName FIRST-NAME firstname fname billing_lname last_name full_name surname
    username user_name customer_name name
    external_id externalId user_id userID userid customer_id member_id uid
    zip shipping_zip zip_code zipCode postcode postal_code
    """.split(),  # noqa: SIM905  eighty quoted lines would hide the list
)
def test_a_name_that_ends_in_a_word_for_personal_data_is_personal(name: str) -> None:
    """However it is spelt, whatever stands before, and numbered or qualified behind."""
    assert is_personal(name, "x")
    assert without_personal(f"{SHOP}/?a=1&{name}=x&b=2") == f"{SHOP}/?a=1&b=2"


@pytest.mark.parametrize(
    "name",
    """
    utm_medium utm_source utm_campaign utm_term utm_content utm_name utm_id ttclid gclid fbclid
    email_campaign email_id email_opt_in emailing newsletter newsletter_id mailing_id mc_eid
    phone_model phone_case iphone headphone smartphone microphone
    product_name content_name campaign_name model_name modelname channelName file_name brand_name
    order_id content_id campaign_id ad_id client_id product_uid session_id
    gzip theme system item_emblem hotel alphabet graph locale plan id _ 1 é
    """.split(),  # noqa: SIM905  the same
)
def test_a_name_about_something_else_stays(name: str) -> None:
    """What a marketer needs is not lost for a word within it."""
    assert not is_personal(name, "1234567890")
    url = f"{SHOP}/?{name}=1234567890&{name}=email"
    assert without_personal(url) is url


@pytest.mark.parametrize("name", ["mail", "mobile", "is_mobile", "tel", "cell", "soil_ph"])
def test_a_doubtful_name_counts_where_its_value_could_be_a_number(name: str) -> None:
    """A view for telephones is no telephone number; a number or a digest may be one."""
    for value in ("1", "yes", "v2.10", 6.5):
        assert not is_personal(name, value)
        url = f"{SHOP}/?{name}={value}"
        assert without_personal(url) is url
    for value in ("+49 171 3920000", "030/123456", 4_917_139_200, "ab12" * 16):
        assert is_personal(name, value)
        assert without_personal(f"{SHOP}/?{name}={quote(str(value))}") == f"{SHOP}/"


def test_a_boolean_identifies_nobody() -> None:
    """Whether somebody has an address is not the address."""
    assert not is_personal("has_email", value=True)


def test_a_name_may_be_an_address_itself() -> None:
    """A producer that keys by person."""
    assert is_personal("jane@mail.example" + "_visits" * 12, value=True)


@pytest.mark.parametrize(
    "text",
    [
        "jane@mail.example",
        "please call Jane.Doe+shop@mail.co.uk, thanks",
        "<jane@mail.example>.",
        "JANE@MAIL.EXAMPLE",
        "jane%40mail.example",
        "jane%2540mail.example",
        "jane_@xn--mller-kva.example",
        "jane@müller.example",
        "50% off for jane@mail.example",
    ],
)
def test_a_text_with_an_e_mail_address_in_it_is_found(text: str) -> None:
    """Anywhere, in any case, and percent-encoded more than once."""
    assert holds_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "a@b",
        "@jane.doe",
        "2 @ 3.50 each",
        "/@jane.doe/post",
        "logo@2x.png",
        "50% off",
        "pkg@1.2.3",
        "@52.5,13.4",
        "jane at mail.example",
        "%40",
    ],
)
def test_a_text_that_only_looks_a_little_like_it_stays(text: str) -> None:
    """Handles, versions, prices, places and pictures."""
    assert not holds_address(text)


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("/?email=jane@mail.example", "/"),
        ("/?email=x#top", "/#top"),
        ("/?email=x&ttclid=E.C.P.1", "/?ttclid=E.C.P.1"),
        ("/?utm_content=jane%40mail.example&utm_medium=email", "/?utm_medium=email"),
        ("/?q=a%20b&q=jane@mail.example&c", "/?q=a%20b&c"),
        ("/?jane@mail.example", "/"),
        ("/?a=1;email=x&b=2", "/?a=1&b=2"),
        ("/?a=1&amp;email=x&amp;b=2", "/?a=1&amp&amp;b=2"),
        ("/?a=1?email=x", "/"),
        ("/?a=email=x&b", "/?b"),
        ("/#email=x&b=2", "/#b=2"),
        ("/?a=1#phone=123", "/?a=1"),
        ("/#/cart?email=x&step=2", "/#/cart?step=2"),
        ("/#/cart?email=x", "/#/cart"),
        ("/#email=x?step=2", "/#?step=2"),
        ("/?back=https%3A%2F%2Fs.example%2F%3Fphone%3D%252B49171&b=2", "/?b=2"),
        ("/unsubscribe/jane@mail.example/now?b=2", "/unsubscribe//now?b=2"),
        ("/unsubscribe/jane%40mail.example", "/unsubscribe/"),
        ("/?&email=x&&b=2&", "/?&&b=2&"),
    ],
)
def test_personal_data_is_taken_out_of_an_address(url: str, kept: str) -> None:
    """Parameters of query and fragment, also within a passed-on address; segments of the path."""
    assert without_personal(SHOP + url) == SHOP + kept


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://jane:secret@shop.example/a", "https://shop.example/a"),
        ("https://jane@mail.example:p@shop.example", "https://shop.example"),
        ("HTTPS:\\\\jane@shop.example\\a", "HTTPS:\\\\shop.example\\a"),
        ("//jane@shop.example", "//shop.example"),
        ("https://jane%40shop.example/", "https://shop.example/"),
        ("mailto:jane@mail.example", ""),
        ("jane@mail.example", ""),
    ],
)
def test_nobody_is_named_before_the_host(url: str, kept: str) -> None:
    """User and password go; what was no page's address may leave nothing."""
    assert without_personal(url) == kept


@pytest.mark.parametrize(
    "url",
    [
        "",
        "?",
        "#",
        "shop.example",
        f"{SHOP}/?",
        f"{SHOP}?#",
        f"{SHOP}/?&&a=1&",
        f"{SHOP}/@jane.doe/post?a=%2Fb%3Dc#:~:text=mug",
        f"{SHOP}/?email=&phone",
        f"{SHOP}/?a=b=c==",
        f"{SHOP}/p;v=1?x={'y' * 2000}",
        f"{SHOP}/%zz%?q=%e4",
        "android-app://a",
        " https://a\n",
    ],
)
def test_an_address_that_gives_nobody_away_is_the_same_object(url: str) -> None:
    """Byte for byte, however odd; a parameter without a value says nothing."""
    assert without_personal(url) is url


WORD = st.text("abcdyz0159._-~%/:é", max_size=8)
HARMLESS = st.builds(
    "{}={}".format, st.sampled_from(["utm_source", "order", "ttclid", "p", "", "é"]), WORD
)
EMAILS = st.emails().filter(lambda email: email.partition("@")[0][-1] not in "/?#&;=")
"""Addresses that stand whole in an address of a page; what divides one there cuts them off."""
GIVEAWAYS = st.one_of(
    st.builds("customer_email={}".format, WORD.filter(bool)),
    st.builds("{}={}".format, st.sampled_from(["q", "utm_content", "x"]), EMAILS.map(quote)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.booleans(), HARMLESS, GIVEAWAYS), min_size=1, max_size=5), WORD)
def test_the_rest_of_an_address_is_unchanged(
    parameters: list[tuple[bool, str, str]], fragment: str
) -> None:
    """What remains is the address as if the personal parameters had never been in it."""
    given_ = "&".join(giveaway if bad else good for bad, good, giveaway in parameters)
    kept = "&".join(good for bad, good, _ in parameters if not bad)
    tail = f"#{fragment}"
    expected = f"{SHOP}/p?{kept}{tail}" if kept else f"{SHOP}/p{tail}"
    assert without_personal(f"{SHOP}/p?{given_}{tail}") == expected


PLACES = st.sampled_from(
    ["/?q={}", "/?a=1&{}&b=2", "/{}/x", "/?to={}#x", "/#{}", "/#/r?x={}", "/?{}=1", "/p;u={}"]
)


@settings(max_examples=150, deadline=None)
@given(EMAILS, PLACES, st.integers(0, 2))
@example("%00@A.aD", "/?q={}", 1)
@example("%00@A.aD", "/{}/x", 2)
def test_no_drawn_e_mail_address_stays_in_an_address(email: str, place: str, times: int) -> None:
    """Wherever it stands and however often it is encoded."""
    assume(times or "%" not in email)  # bare, it would be the code of another character
    text = email
    for _ in range(times):
        text = quote(text, safe="")
    decoded = without_personal(SHOP + place.format(text))
    for _ in range(times):
        decoded = unquote(decoded)
    assert email not in decoded


ANY_URL = st.lists(
    st.sampled_from(
        """
        https:// // / ? & ; = # @ %40 %3D %26 %3b % email phone mobile name utm jane mail.example
        12345 . _ é
        """.split()  # noqa: SIM905  the same
    ),
    max_size=12,
).map("".join)


@settings(max_examples=400, deadline=None)
@given(ANY_URL)
@example("https://s.example/?a=1;email=x")
@example("https://s.example/?a=1#name=x")
@example("https://s.example/?a=email=x")
def test_the_quick_look_at_an_address_agrees_with_the_careful_one(url: str) -> None:
    """The usual addresses are cheap, not different; what changes only gets shorter."""
    kept = without_personal(url)
    assert kept == personal._without_personal(url)
    assert kept is url or len(kept) < len(url)
