"""Rules about several settings at once, and about what is not built yet.

Each finding names the key to change and all keys it looked at, so that a rule stays silent where
one of them is wrong in itself.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from phonenumbers import SUPPORTED_REGIONS

from consumer.kafka_properties import FORBIDDEN_PROPERTIES
from consumer.lease import margin_seconds
from consumer.names import default_event_names
from consumer.source_rules import RULES
from consumer.topic_combinations import Finding, topic_findings
from consumer.units import format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consumer.configfile import Path
    from consumer.event import EventSource
    from consumer.settings import Config, DestinationSettings


def findings(config: Config) -> Iterator[Finding]:
    """Everything that is impossible or not possible yet, in the order of the file."""
    yield from _kafka(config)
    yield from topic_findings(config)
    yield from _schema(config)
    yield from _destinations(config)
    yield from _tiktok(config)
    yield from _bounds(config)
    yield from _times(config)
    yield from _identity(config)
    yield from _not_built(config)


def _kafka(config: Config) -> Iterator[Finding]:
    kafka = config.kafka
    for name, value in kafka.properties.items():
        path: Path = ("kafka", "properties", name)
        reason = FORBIDDEN_PROPERTIES.get(name)
        if reason:
            yield Finding(path, f"may not be set: {reason}")
        elif name in _MILLISECONDS and not re.fullmatch(r"[1-9][0-9]*", value):
            yield Finding(path, "must be a whole number of milliseconds")
        elif name == "group.protocol" and value.lower() not in ("classic", "consumer"):
            yield Finding(path, "must be classic or consumer")


_MILLISECONDS = frozenset({"session.timeout.ms", "max.poll.interval.ms"})


def _schema(config: Config) -> Iterator[Finding]:
    schema = config.schema_
    encoding = ("schema", "encoding")
    for url in schema.registry_url.split(","):
        yield from _url(("schema", "registry_url"), url.strip(), "set schema.registry_auth")
    for key, value, needed in (
        ("registry_auth", schema.registry_auth, "confluent"),
        ("registry_ca", schema.registry_ca, "confluent"),
        ("file", schema.file, "raw"),
        ("files", schema.files, "single_object"),
    ):
        if value and schema.encoding != needed:
            yield Finding(
                ("schema", key), f"has a meaning only with schema.encoding: {needed}", (encoding,)
            )
    auth = schema.registry_auth
    if auth:
        basic = auth.username is not None and auth.password is not None
        some = auth.username is not None or auth.password is not None
        if basic == (auth.token is not None) or some != basic:
            yield Finding(
                ("schema", "registry_auth"), "needs username and password, or token alone"
            )


def _url(path: Path, url: str, instead: str) -> Iterator[Finding]:
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        known = None
    if not known:
        yield Finding(path, "must be a URL that begins with http:// or https://")
    elif parts.username is not None or parts.password is not None:
        yield Finding(path, f"must not hold a user or password; {instead}")
    elif parts.query or parts.fragment:
        yield Finding(
            path,
            f"must end with its path: what follows ? or # is shown and logged, and "
            f"no place for a secret; {instead}",
        )


def _destinations(config: Config) -> Iterator[Finding]:
    first: dict[tuple[EventSource, str], int] = {}
    for index, destination in enumerate(config.destinations):
        path = ("destinations", index)
        key = (destination.event_source, destination.event_source_id)
        other = first.setdefault(key, index)
        if other != index:
            yield Finding(
                (*path, "event_source_id"),
                f"is the same {destination.event_source} destination as destinations[{other}]",
                tuple(
                    ("destinations", i, name)
                    for i in (other, index)
                    for name in ("event_source", "event_source_id")
                ),
            )
        yield from _names(path, destination)
    named = {destination.event_source_id for destination in config.destinations}
    if config.default_destination is not None and config.default_destination not in named:
        yield Finding(
            ("default_destination",),
            "is no event_source_id of destinations",
            tuple(("destinations", i, "event_source_id") for i in range(len(config.destinations))),
        )


def _names(path: Path, destination: DestinationSettings) -> Iterator[Finding]:
    """Names that the source's events cannot have would make dead letters of all their events."""
    standard = RULES[destination.event_source].names
    if standard is None:
        return
    own = {("event_names", given): sent for given, sent in destination.event_names.items()}
    mapped = {**default_event_names(destination.event_source), **destination.event_names}
    listed = {
        ("allow_events", n): mapped.get(name, name)
        for n, name in enumerate(destination.allow_events)
    }
    for key, sent in (own | listed).items():
        if sent not in standard:
            yield Finding(
                (*path, *key),
                f"{sent} is no standard event of TikTok's, and {destination.event_source} events "
                "take no others",
                ((*path, "event_source"),),
            )


def _tiktok(config: Config) -> Iterator[Finding]:
    path = ("tiktok", "endpoint")
    endpoint = config.tiktok.endpoint
    yield from _url(path, endpoint, "the token is sent in a header")
    if endpoint.endswith("/event/track"):
        yield Finding(path, "must end with a slash, as TikTok requires: .../event/track/")
    elif _plain_text_to_the_world(endpoint):
        yield Finding(path, "must use https: the access token would travel readable")


def _plain_text_to_the_world(url: str) -> bool:
    """Whether the token would cross a public network in plain text, as far as the URL shows.

    Another host over http may be an emulator or a proxy that adds TLS.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme != "http":
        return False
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return host == "tiktok.com" or host.endswith(".tiktok.com")


def _bounds(config: Config) -> Iterator[Finding]:
    events = ("limits", "max_in_flight_events")
    if config.batching.max_events > config.limits.max_in_flight_events:
        yield Finding(
            ("batching", "max_events"),
            f"must not be above limits.max_in_flight_events "
            f"({config.limits.max_in_flight_events}): a batch could never fill",
            (events,),
        )
    if config.batching.max_bytes > config.limits.max_in_flight_bytes:
        yield Finding(
            ("batching", "max_bytes"),
            f"must not be above limits.max_in_flight_bytes "
            f"({format_size(config.limits.max_in_flight_bytes)}): a batch could never fill",
            (("limits", "max_in_flight_bytes"),),
        )


TIKTOK_WINDOW = 48 * 3600.0
"""Seconds in which TikTok itself drops a repeat (Events API 2.0); ours may be longer."""


def _times(config: Config) -> Iterator[Finding]:
    window = config.dedup.window
    if window > TIKTOK_WINDOW <= config.retry.give_up_after:
        yield Finding(
            ("retry", "give_up_after"),
            f"must be below TikTok's own window ({format_duration(TIKTOK_WINDOW)}), however long "
            "dedup.window is: a repeat after it counts twice",
            (("dedup", "window"),),
        )
    elif config.retry.give_up_after >= window:
        yield Finding(
            ("retry", "give_up_after"),
            f"must be below dedup.window ({format_duration(window)}): a repeat after the window "
            "counts twice",
            (("dedup", "window"),),
        )
    if config.retry.initial > config.retry.max:
        yield Finding(
            ("retry", "initial"),
            f"must not be above retry.max ({format_duration(config.retry.max)})",
            (("retry", "max"),),
        )
    session = config.kafka.session_timeout
    if session is not None:
        yield from lease_findings(config, session)
    poll = config.kafka.max_poll_interval
    if config.shutdown_timeout >= poll:
        yield Finding(
            ("shutdown_timeout",),
            f"must be below max.poll.interval.ms ({format_duration(poll)}): the broker gives the "
            "partitions away before a hand-over ends",
            (("kafka", "properties", "max.poll.interval.ms"),),
        )


def lease_findings(config: Config, session_timeout: float) -> Iterator[Finding]:
    """What leaves no time to send anything, given the group's session time-out in seconds.

    Under KIP-848 the broker tells that, and only while the consumer runs.
    """
    told = format_duration(session_timeout)
    looked_at: tuple[Path, ...] = (("kafka", "properties", "session.timeout.ms"),)
    lease = config.lease(session_timeout)
    if lease <= 0:
        yield Finding(
            ("tiktok", "timeout"),
            f"leaves no time to start a request: the group's session time-out ({told}) less this "
            f"and a safety margin ({format_duration(margin_seconds(session_timeout))}) must be "
            "positive; shorten it or raise the session time-out",
            looked_at,
        )
    elif config.kafka.commit_interval > lease / 2:
        yield Finding(
            ("kafka", "commit_interval"),
            f"must be at most half of {format_duration(lease)}, for which a commit proves that "
            f"this process still owns its partitions (the group's session time-out, {told}, less "
            "tiktok.timeout and a safety margin)",
            (*looked_at, ("tiktok", "timeout")),
        )


def _identity(config: Config) -> Iterator[Finding]:
    region = config.identity.default_phone_region
    if region is not None and region not in SUPPORTED_REGIONS:
        yield Finding(("identity", "default_phone_region"), "is no country with phone numbers")


def _not_built(config: Config) -> Iterator[Finding]:
    """Keys of the contract whose part is not there yet: refused, never silently ignored."""
    later: tuple[tuple[Path, object, str], ...] = (
        (("dedup", "rekey"), config.dedup.rekey, "duplicates must share a partition"),
        (("dead_letter", "max_ratio"), config.dead_letter.max_ratio, "dead letters never stop it"),
        (("workers",), config.workers > 1, "start more processes with the same group instead"),
    )
    for path, value, meanwhile in later:
        if value:
            yield Finding(path, f"is not supported yet; leave it out ({meanwhile})")
