"""Log lines: JSON for machines, coloured text on a terminal, and never a person's data.

Our own code writes no such data into a log line. What is here is the last defence, for what comes
from elsewhere: every text is scrubbed when it is formatted (`redact.scrub`), and the text of a
foreign exception, which may quote the value it stumbled over, keeps only known wording
(`redact.redact`). Fields travel by `extra={"event_id": ..., "trace_id": ...}`.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any

import orjson
from rich.console import Console
from rich.text import Text

from consumer.errors import TikTokEventsError
from consumer.redact import REDACTED, redact, scrub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_STANDARD = frozenset(
    {*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName", "exc_text"}
)
_IDENTIFIERS = frozenset(
    {"event_id", "event_source_id", "trace_id", "span_id", "request_id", "topic", "group"}
)
"""Fields whose values are identifiers: kept, although many look like a number or a digest."""

_COLOURS = {"WARNING": "yellow", "ERROR": "bold red", "CRITICAL": "bold red", "DEBUG": "dim"}
_LONGEST_CHAIN = 8
_QUIET = {
    # They log the content of headers that anybody may have sent.
    "opentelemetry.trace.span": logging.ERROR,
    "opentelemetry.trace.propagation.tracecontext": logging.ERROR,
    "opentelemetry.baggage.propagation": logging.ERROR,
    "urllib3": logging.WARNING,
}


def configure(
    level: int | str = logging.INFO, stream: IO[str] | None = None, *, as_json: bool | None = None
) -> None:
    """Sends all logging, warnings and uncaught exceptions of this process to one stream.

    Args:
        level: the least severe level to write.
        stream: where to; standard error where it is left out.
        as_json: JSON lines or readable ones; where it is left out, readable only on a terminal.
    """
    out = stream if stream is not None else sys.stderr
    machine = not out.isatty() if as_json is None else as_json
    handler: logging.Handler = JsonHandler(out) if machine else TerminalHandler(out)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(least)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


class SafeHandler(logging.StreamHandler[IO[str]]):
    """A handler whose own failure does not print what it was given."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's own name
        """Says that a line was lost, without the arguments that the standard handler prints."""
        try:
            self.stream.write(f"a log line of {record.name} could not be written\n")
        except (OSError, ValueError):
            return  # the stream is gone, and there is nowhere left to say so


class JsonHandler(SafeHandler):
    """One JSON object a line: time (RFC 3339, UTC), level, logger, message, fields, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        line: dict[str, Any] = {
            "time": _time(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message(record),
        }
        line.update((key, value) for key, value in fields(record).items() if key not in line)
        if text := exception_text(record):
            line["exception"] = text
        try:
            return orjson.dumps(line, default=str).decode()
        except TypeError:  # text without a UTF-8 form, or a number beyond 64 bits
            return json.dumps(line, default=str)


class TerminalHandler(SafeHandler):
    """A readable line: time, level, message, fields; the exception below."""

    def __init__(self, stream: IO[str]) -> None:
        super().__init__(stream)
        self._console = Console(file=stream, soft_wrap=True, highlight=False)

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the line of a record."""
        try:
            self._console.print(self._line(record))
        except Exception:  # noqa: BLE001  logging must not end what it reports on
            self.handleError(record)

    def _line(self, record: logging.LogRecord) -> Text:
        colour = _COLOURS.get(record.levelname, "")
        line = Text.assemble(
            (_time(record).astimezone().strftime("%H:%M:%S "), "dim"),
            (f"{record.levelname.lower():8}", colour),
            _printable(message(record)),
        )
        for key, value in fields(record).items():
            line.append(f" {key}=", "dim")
            line.append(_printable(str(value)))
        if text := exception_text(record):
            line.append("\n" + "\n".join(map(_printable, text.splitlines())), "dim")
        return line


def message(record: logging.LogRecord) -> str:
    """The record's message, scrubbed."""
    try:
        text = record.getMessage()
    except Exception:  # noqa: BLE001  wrong arguments are a defect of a log call, no more
        text = f"{record.msg} (the arguments do not fit)"
    return scrub(text)


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """What was given as `extra`, without what is None; texts scrubbed."""
    return {
        key: _field(key, value)
        for key, value in record.__dict__.items()
        if key not in _STANDARD and value is not None
    }


def exception_text(record: logging.LogRecord) -> str:
    """The record's exception with its causes: where, which, and as much of why as is safe."""
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return ""
    lines: list[str] = []
    for one in _chain(error):
        frames = traceback.format_list(traceback.extract_tb(one.__traceback__))
        lines += [frame.rstrip("\n") for frame in frames]
        why = scrub(str(one)) if isinstance(one, (TikTokEventsError, OSError)) else redact(str(one))
        name = f"{type(one).__module__}.{type(one).__qualname__}"
        lines.append(f"{name}: {why}" if why else name)
    return scrub("\n".join(lines))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and those it came from or holds, outermost last, so many at most."""
    found: list[BaseException] = []
    pending: list[BaseException] = [error]
    while pending and len(found) < _LONGEST_CHAIN:
        one = pending.pop()
        if any(one is known for known in found):
            continue
        found.append(one)
        if isinstance(one, BaseExceptionGroup):
            pending += one.exceptions
        before = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
        if before is not None:
            pending.append(before)
    return reversed(found)


def _field(key: str, value: object) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, dict):  # the configuration: a machine reads it as what it is
        return {str(name): _field(str(name), child) for name, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [_field(key, child) for child in value]
    text = str(value)
    if key not in _IDENTIFIERS:
        return scrub(text)
    personal = "@" in text or "%40" in text or text.startswith("+")
    return REDACTED if personal else text


def _time(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def _log_uncaught(
    kind: type[BaseException], error: BaseException, where: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("consumer").critical("uncaught exception", exc_info=(kind, error, where))


def _log_uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is not None:
        _log_uncaught(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)
