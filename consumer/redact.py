"""Text without a person's data: two strengths, both pure.

`redact` is for what somebody else wrote about our events (TikTok's messages quote the offending
value). It keeps only what is known to be wording: words from a list, field paths made of names of
the API, numbers that count something. What it does not know goes, so a value nobody thought of is
not kept either.

`scrub` is for our own log lines, which never hold such data on purpose. It is a last defence and
takes out what looks like an e-mail address, a phone number, a digest, a token or a secret.
"""

from __future__ import annotations

import re
from itertools import pairwise

REDACTED = "[redacted]"

_LONGEST_INPUT = 8192
_ELLIPSIS = " ..."

_WORDS = frozenset(
    """
    a about above accepted access account advertiser after again all allowed already also always an
    and another any api app application are array as at authorization available bad batch be been
    before below between boolean both but by bytes can cannot character characters check city code
    contact contain contains content correct count country currency data date deprecated details
    digit digits disabled does doubled duplicate duplicated e each element email empty enabled
    enough enum error errors event events exceed exceeded exceeds exist existing exists expected
    expired fail failed field fields finished float following for forbidden format found frequent
    frequently from future given greater had has hash hashed have header however http i id if in
    incorrect index input integer internal invalid is ip issue it item items json key keys large
    later least length less limit limited list long longer lower maintenance malformed many match
    matches maximum may message method minimum missing more most must name near new no none not
    null number object objects of offline ok old on once one only operation or order other out over
    page parameter parameters parse parsed partial partially past per permission permissions phone
    pixel please positive present proper properly property provided public qps quota range rate
    reached read reason received refused reject rejected request requests required retry reached s
    same scope second seconds server service set sha256 shop should shorter size slow small some
    source sources standard status string strings succeed successful supported system temporarily
    than that the their then there these this those time timeout timestamp to token too trace
    true try type types unable unauthorized unavailable unexpected unique unknown unsupported until
    url use used user using valid validate validation value values wait was web were when which
    while will with within without wrong you your zip false
    """.split()  # noqa: SIM905  two hundred quoted lines would hide the list
)
"""Words that messages are made of, in lower case; none of them says anything about a person."""

_NAMES = frozenset(
    """
    data batch event event_id event_time event_source event_source_id test_event_code partner_name
    user properties page app ad lead limited_data_use email phone external_id ttclid ttp ip
    user_agent locale first_name last_name zip_code city state country idfa idfv gaid att_status
    url referrer contents content_id content_name content_category content_ids content_type brand
    quantity price value currency num_items order_id shop_id search_string query description
    customer_type ad_user_data ad_personalization app_id app_name app_version callback campaign_id
    ad_id creative_id is_retargeting attributed attribution_type attribution_provider
    attribution_share lead_id lead_event_source access_token pixel_code request_id
    """.split()  # noqa: SIM905  the same
)
"""Names of the Events API's own fields: the parts of a path."""

_COUNTED_BY = frozenset(
    """code http status index item element batch data length least most maximum minimum limit exceed
    exceeds exceeded than allowed after""".split()  # noqa: SIM905  the same
)
"""Words before a number that counts something and is no value of an event."""

_LISTS = frozenset({"data", "batch", "contents", "content_ids", "email", "phone", "external_id"})
"""Names of lists: what may have a place behind it in a path."""

_QUOTES = {
    '"': '"',
    "'": "'",
    "`": "`",
    "\u201c": "\u201d",
    "\u2018": "\u2019",
    "\u201e": "\u201c",
    "\u00ab": "\u00bb",
}
"""Opening quotation marks and what closes them."""
_QUOTED = re.compile(
    "|".join(
        rf"(?<!\w){re.escape(o)}[^{re.escape(c)}]*(?:{re.escape(c)}|\Z)" for o, c in _QUOTES.items()
    )
)
_PART = re.compile(r"\s+|[^\s,;:()<>{}]+|[,;:()<>{}]")
_WORD = re.compile(r"[A-Za-z][a-z]*|[A-Z]{2,6}")
_SHORT_NUMBER = re.compile(r"\d{1,6}")
_PLACE = re.compile(r"\d{1,4}")
_RUN = re.compile(rf"{re.escape(REDACTED)}(?:[\s,;:()<>{{}}.]*{re.escape(REDACTED)})+")


def redact(text: str, limit: int = 1024) -> str:
    """What is left of a message when everything that may be a person's data is taken out.

    Quoted text goes whole. Of the rest stay known words, field paths and numbers that count
    something (`code 40002`, `data.7.event_id`); every other word becomes `[redacted]`, several
    in a row one. The result is ASCII, has at most `limit` bytes, and is its own redaction.

    Args:
        text: a message of TikTok or of a gateway.
        limit: bytes of the longest result; a longer one is cut at a word and ends in ` ...`.
    """
    kept: list[str] = []
    before = ("", "")
    for part in _PART.findall(_QUOTED.sub(REDACTED, text[:_LONGEST_INPUT])):
        if part.isspace():
            kept.append(" ")
        elif part in ",;:()<>{}":
            kept.append(part)
        else:
            kept.append(part if _is_wording(part, before) else REDACTED)
            before = before[1], part.lower().strip(".")
    return _shorten(_RUN.sub(REDACTED, "".join(kept)).strip(), limit)


def known_path(path: str) -> str | None:
    """The beginning of a field's path that is made of the API's names and of places in lists.

    What follows may be a custom property's name, or a value that stands where a path is expected.
    """
    steps = path.split(".")
    while steps and not _is_path([step.lower() for step in steps]):
        steps.pop()
    return ".".join(steps) or None


def _is_wording(part: str, before: tuple[str, str]) -> bool:
    """Whether a part is a known word, a path, or a count after the two parts before it."""
    if part in (REDACTED, "...", ".", "-", "/", "=", "&"):
        return True
    bare = part.strip(".!?[]")
    if not bare:
        return part.isascii()
    if _WORD.fullmatch(bare) is not None:
        return bare.lower() in _WORDS or bare in _NAMES
    if _SHORT_NUMBER.fullmatch(bare) is not None:
        return before[1] in _COUNTED_BY and before[0] not in ("zip", "postal", "post")
    return _is_path(re.split(r"[.\[\]]+", bare.lower()))


def _is_path(steps: list[str]) -> bool:
    """Whether every step is a name of the API, or a place in a list behind that list's name."""
    return steps[0] in _NAMES and all(
        step in _NAMES or (_PLACE.fullmatch(step) is not None and list_name in _LISTS)
        for list_name, step in pairwise(steps)
    )


def _shorten(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    cut = text[: max(limit - len(_ELLIPSIS), 0)].rpartition(" ")[0]
    return (cut + _ELLIPSIS)[:limit].strip()


_SECRET_NAMED = re.compile(
    r"(access[-_ ]?token|authorization|api[-_ ]?key|password|passwd|secret|bearer|basic)"
    r"""(["']?\s*[:=]\s*["']?|\s+)(?:(?:bearer|basic)\s+)?[^\s"',;}]{6,}""",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"[^\s\"'<>(),;=]*(?:@|%40)[^\s\"'<>(),;]*", re.IGNORECASE)
_HEX = re.compile(r"[0-9A-Fa-f]{32,}")
_TOKEN_LIKE = re.compile(r"[A-Za-z0-9_-]{40,}")
_PHONE = re.compile(r"\+?\(?\d(?:[\s().\-/]{0,2}\d){8,}")
_IPV4 = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")
_LONGEST_WORDY = 63


def scrub(text: str) -> str:
    """Own text with everything out of it that looks like personal data or a secret.

    Taken out: tokens with an `@`, runs of nine or more digits however they are grouped (IPv4
    addresses excepted: brokers have them), 32 or more hex digits, long token-like runs, and what
    follows `Access-Token`, `Authorization`, `password` and the like. Numbers that belong in a log
    line travel as fields of their own, as numbers.
    """
    text = _SECRET_NAMED.sub(rf"\1\2{REDACTED}", text)
    text = _ADDRESS.sub(REDACTED, text)
    text = _HEX.sub(REDACTED, text)
    text = _TOKEN_LIKE.sub(_without_token, text)
    return _PHONE.sub(_without_phone, text)


def _without_token(found: re.Match[str]) -> str:
    run = found[0]
    has_digit = any(character.isdigit() for character in run)
    return REDACTED if has_digit or len(run) > _LONGEST_WORDY else run


def _without_phone(found: re.Match[str]) -> str:
    return found[0] if _IPV4.fullmatch(found[0]) is not None else REDACTED
