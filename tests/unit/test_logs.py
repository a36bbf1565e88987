"""Log lines: readable by machines and people, and free of a person's data."""

from __future__ import annotations

import io
import json
import logging
import sys
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.errors import StartError
from consumer.log_limit import LogLimit
from consumer.logs import JsonHandler, TerminalHandler, configure

if TYPE_CHECKING:
    import pytest

CANARIES = st.sampled_from(
    [
        "alice.canary@example.com",
        "+12133734253",
        "(213) 373-4253",
        "848a771458438fc2ec420560d769fb9b9b86851ee338ec56517baabd79d3bb4f",
        "0123456789abcdef0123456789abcdef01234567",
    ]
)
NAMES = st.sampled_from(["Janecanary", "O'Canary", "Zqyx", "ttclid.canary-1"])


def written(
    message: object,
    *args: object,
    error: BaseException | None = None,
    terminal: bool = False,
    **extra: object,
) -> str:
    out = io.StringIO()
    handler: logging.Handler = TerminalHandler(out) if terminal else JsonHandler(out)
    logger = logging.Logger("consumer.test")  # noqa: LOG001  apart from what pytest listens to
    logger.addHandler(handler)
    logger.error(message, *args, exc_info=error, extra=extra)
    return out.getvalue()


def line(message: object, *args: object, **given_fields: Any) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(written(message, *args, **given_fields))
    return parsed


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except type(error) as caught:
        return caught


def test_a_line_is_a_json_object_with_its_fields() -> None:
    """Time, level, logger, message and every field that has a value."""
    told = line("batch of %d", 3, event_id="e-1", trace_id="0" * 31 + "1", offset=42, field=None)
    assert told.pop("time").endswith("Z")
    assert told == {
        "level": "error",
        "logger": "consumer.test",
        "message": "batch of 3",
        "event_id": "e-1",
        "trace_id": "0" * 31 + "1",
        "offset": 42,
    }


def test_a_structured_field_keeps_its_structure() -> None:
    """The configuration can be read by a machine; text in it is scrubbed at any depth."""
    told = line(
        "started",
        configuration={
            "destinations": [{"event_source_id": "C9ABC1234567890DEFGH", "max_age": None}],
            "admin": {"port": 8080, "host": "alice@example.com"},
        },
    )
    assert told["configuration"] == {
        "destinations": [{"event_source_id": "C9ABC1234567890DEFGH", "max_age": None}],
        "admin": {"port": 8080, "host": "[redacted]"},
    }


@given(
    canary=CANARIES, before=st.text(max_size=30), after=st.text(max_size=30), terminal=st.booleans()
)
@settings(max_examples=100)
def test_no_canary_is_printed_wherever_it_stands(
    canary: str, before: str, after: str, *, terminal: bool
) -> None:
    """Message, argument, field and exception text are all scrubbed, in both forms."""
    text = before + canary + after
    cause = raised(ValueError(text))
    error = RuntimeError(text)
    error.__cause__ = cause
    out = written(
        text.replace("%", "%%") + "%s %r", text, {"email": text}, detail=text, error=error,
        terminal=terminal,
    )  # fmt: skip
    assert "RuntimeError" in out
    assert canary not in out.replace("\\", "")


@given(name=NAMES, terminal=st.booleans())
@settings(max_examples=30)
def test_a_foreign_exception_quotes_no_value(name: str, *, terminal: bool) -> None:
    """Names look like any word: of an exception that is not ours only known wording stays."""
    out = written("failed", error=raised(ValueError(f"{name} is not valid")), terminal=terminal)
    assert name not in out
    assert "is not valid" in out


def test_our_own_exceptions_are_told_whole() -> None:
    """Their text is written for operators, and free of data by contract."""
    told = line("start", error=raised(StartError("topic conversions.dlq is missing", "create it")))
    assert "topic conversions.dlq is missing: create it" in told["exception"]
    assert "in raised" in told["exception"]


def test_the_causes_of_an_exception_are_told() -> None:
    """A chain and a group are followed, a circle is not."""
    inner, outer = KeyError("missing"), OSError("disk full")
    outer.__context__, inner.__context__ = inner, outer
    told = line("x", error=ExceptionGroup("errors", [outer, TypeError("expected")]))
    for name in ("KeyError", "OSError: disk full", "TypeError", "ExceptionGroup"):
        assert name in told["exception"]


def test_an_identifier_is_kept_unless_it_is_an_address() -> None:
    """A numeric order number is no phone number; an e-mail as event_id is still an e-mail."""
    assert line("x", event_id="20260102030405")["event_id"] == "20260102030405"
    assert line("x", event_id="a@b.example")["event_id"] == "[redacted]"
    assert line("x", event_id="+12133734253")["event_id"] == "[redacted]"
    assert line("x", other="20260102030405")["other"] == "[redacted]"


def test_wrong_arguments_print_no_arguments() -> None:
    """A broken log call is reported without what it was given."""
    out = written("%d and %d", "alice.canary@example.com")
    assert "canary" not in out
    assert "arguments do not fit" in out


def test_a_line_that_cannot_be_written_prints_no_arguments(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The standard library would print message and arguments to standard error."""

    class Broken:
        """No text form."""

        def __str__(self) -> str:
            raise RuntimeError("alice.canary@example.com")

    assert written("x", field=Broken()) == "a log line of consumer.test could not be written\n"
    assert capsys.readouterr().err == ""


def test_text_without_a_utf8_form_is_still_a_line() -> None:
    """A lone surrogate from somewhere does not cost the line."""
    assert line("odd \ud800 text")["message"] == "odd \ud800 text"


def test_a_terminal_gets_readable_lines_without_control_characters() -> None:
    """Escape sequences and line breaks in data cannot draw on the terminal."""
    out = written("hello\x1b[31m\nworld", terminal=True, topic="t\x07")
    assert out.count("\n") == 1
    assert "\x1b" not in out
    assert "error   hello [31m world topic=t" in out


def test_everything_of_the_process_goes_to_one_place() -> None:
    """Loggers, warnings and uncaught exceptions end in the same scrubbed stream."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, sys.excepthook
    out = io.StringIO()
    try:
        configure(logging.INFO, out)
        logging.getLogger("somebody").info("for %s", "alice.canary@example.com")
        logging.getLogger("somebody").debug("not this")
        logging.getLogger("py.warnings").warning("a warning")
        sys.excepthook(ValueError, raised(ValueError("Janecanary")), None)
    finally:
        logging.captureWarnings(capture=False)
        root.handlers[:], level, sys.excepthook = before
        root.setLevel(level)
    told = [json.loads(one) for one in out.getvalue().splitlines()]
    assert [one["message"] for one in told] == [
        "for [redacted]",
        "a warning",
        "uncaught exception",
    ]
    assert "canary" not in out.getvalue()


@given(st.lists(st.floats(min_value=0, max_value=30), max_size=60), st.integers(1, 5))
@settings(max_examples=60)
def test_a_flood_is_limited_and_what_is_left_out_is_counted(gaps: list[float], lines: int) -> None:
    """Every line is either let through or counted, and no period has more than its share."""
    limit, now, asked, skipped = LogLimit(lines, 10.0), 0.0, 0, 0
    passed: list[float] = []
    for gap in [*gaps, 100.0]:
        now += gap
        asked += 1
        answer = limit.skipped("kind", now)
        if answer is not None:
            passed.append(now)
            skipped += answer
    assert len(passed) + skipped == asked
    for began in passed:
        assert sum(began <= at < began + 10.0 for at in passed) <= 2 * lines
