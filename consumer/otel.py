"""What OpenTelemetry's own `OTEL_*` variables say, read the SDK's way.

One decision is ours: without `OTEL_TRACES_EXPORTER` spans go nowhere, unless
`OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` names a receiver, which
switches OTLP on; metrics likewise. (The specification's default is OTLP to localhost, which for a
program that also runs on a laptop means an error every few seconds.) OTLP is spoken over
HTTP/protobuf unless `OTEL_EXPORTER_OTLP_PROTOCOL` says `grpc`, which needs the `grpc` extra.
"""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from uuid import uuid4

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from consumer.errors import ConfigError, Problem

if TYPE_CHECKING:
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.sdk.trace.sampling import Sampler

Signal = Literal["traces", "metrics"]

OTLP_HTTP = "otlp_proto_http"
OTLP_GRPC = "otlp_proto_grpc"
_OTLP_BY_PROTOCOL = {"http/protobuf": OTLP_HTTP, "grpc": OTLP_GRPC}
_SDK_SAMPLERS = frozenset(
    {
        "always_on",
        "always_off",
        "traceidratio",
        "parentbased_always_on",
        "parentbased_always_off",
        "parentbased_traceidratio",
    }
)


class TraceParts(NamedTuple):
    """The SDK's parts that decide about a span before it is written."""

    sampler: Sampler
    id_generator: IdGenerator
    propagator: TextMapPropagator


def trace_parts() -> TraceParts:
    """Sampler, id generator and propagator as the environment configures them.

    Raises:
        ConfigError: a variable names something that is not installed or cannot be read.
    """
    try:
        # Imported here because the module loads what OTEL_PROPAGATORS names while it is imported,
        # and a wrong name is to be reported as a wrong setting.
        from opentelemetry.propagate import get_global_textmap  # noqa: PLC0415  see above

        propagator = get_global_textmap()
    except ValueError as error:
        raise _refused("OTEL_PROPAGATORS", str(error)) from error
    try:
        provider = TracerProvider(
            sampler=_custom_sampler(), id_generator=_id_generator(), shutdown_on_exit=False
        )
    except ValueError as error:
        raise _refused("OTEL_*", str(error)) from error
    return TraceParts(provider.sampler, provider.id_generator, propagator)


def resource(version: str) -> Resource:
    """Who we are. The environment speaks first; name, version and instance only fill gaps."""
    found = Resource.create()
    ours: dict[str, str] = {}
    if str(found.attributes.get("service.name", "unknown_service")).startswith("unknown_service"):
        ours["service.name"] = "tiktok-events"
    if not found.attributes.get("service.version"):
        ours["service.version"] = version
    if not found.attributes.get("service.instance.id"):
        # Several workers report sums of their own; without an instance they would overwrite
        # each other at the receiver.
        ours["service.instance.id"] = str(uuid4())
    return found.merge(Resource(ours))


def disabled() -> bool:
    """Whether `OTEL_SDK_DISABLED` switches everything off."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def exporter_names(signal: Signal) -> tuple[str, ...]:
    """Entry point names of the exporters to use for a signal; empty where nothing is exported.

    Raises:
        ConfigError: `OTEL_EXPORTER_OTLP_PROTOCOL` names a protocol that does not exist.
    """
    if disabled():
        return ()
    names = os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip()
    if not names:
        endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
        names = "otlp" if any(os.environ.get(name) for name in endpoints) else "none"
    listed = [name.strip() for name in names.split(",")]
    return tuple(
        dict.fromkeys(
            _otlp(signal) if name == "otlp" else name for name in listed if name not in ("", "none")
        )
    )


def load(group: str, name: str, variable: str) -> Any:
    """What an entry point of OpenTelemetry's stands for.

    Raises:
        ConfigError: nothing installed has this name.
    """
    for found in entry_points(group=group, name=name):
        try:
            return found.load()
        except ImportError as error:
            raise _refused(variable, f"{name!r} cannot be loaded: {error}") from error
    hint = "; install 'tiktok-events[grpc]'" if name == OTLP_GRPC else ""
    raise _refused(variable, f"{name!r} is not installed{hint}")


def milliseconds(variable: str, default: float) -> float:
    """A duration: the variable's milliseconds, or `default` seconds; in seconds.

    Raises:
        ConfigError: the variable holds something else than a positive number.
    """
    return positive(variable, default * 1000) / 1000


def positive(variable: str, default: float) -> float:
    """A positive number.

    Raises:
        ConfigError: the variable holds something else.
    """
    text = os.environ.get(variable, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise _refused(variable, f"{text!r} is not a positive number")
    return value


def _otlp(signal: Signal) -> str:
    for variable in (
        f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
    ):
        if protocol := os.environ.get(variable, "").strip():
            if protocol not in _OTLP_BY_PROTOCOL:
                raise _refused(variable, f"{protocol!r} is neither http/protobuf nor grpc")
            return _OTLP_BY_PROTOCOL[protocol]
    return OTLP_HTTP


def _custom_sampler() -> Sampler | None:
    """A sampler by entry point; None for the SDK's own, which the SDK reads itself."""
    name = os.environ.get("OTEL_TRACES_SAMPLER", "").strip()
    if not name or name.lower() in _SDK_SAMPLERS:
        return None
    factory = load("opentelemetry_traces_sampler", name, "OTEL_TRACES_SAMPLER")
    made: Sampler = factory(os.environ.get("OTEL_TRACES_SAMPLER_ARG", ""))
    return made


def _id_generator() -> IdGenerator | None:
    name = os.environ.get("OTEL_PYTHON_ID_GENERATOR", "").strip()
    if name in ("", "random"):
        return None
    made: IdGenerator = load("opentelemetry_id_generator", name, "OTEL_PYTHON_ID_GENERATOR")()
    return made


def _refused(variable: str, message: str) -> ConfigError:
    return ConfigError((Problem(variable, message),))
