"""The demo's summary: what a person wants to know, in lines of at most 80 columns.

`summarise` is pure and makes tables; `show` prints them, with styles where the console has any.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from rich.text import Text

from consumer.event import Outcome
from consumer.sandbox import receipts
from consumer.sandbox.evidence import repeats_received
from consumer.sandbox.expectations import expected_totals
from consumer.sandbox.figures import quantile, together

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console

    from consumer.sandbox.evidence import Evidence, Run
    from consumer.sandbox.expectations import Totals

_LABEL_COLUMNS = 33
_NUMBER_COLUMNS = 10
_CODES = {
    "0": "taken",
    "40002": "refused for a bad event",
    "40132": "throttled",
    "50000": "system error",
    "none": "failed or lost on the way",
}
_CAUSES = {
    "timeout": "no answer in time",
    "connection": "connection broken",
    "http_502": "a gateway's page (502)",
    "50000": "system error (50000)",
}
_NEXT = (
    "tiktok-events config example    a configuration to begin with",
    "tiktok-events run -c FILE       deliver your own events",
    "tiktok-events emulator          TikTok alone, to send requests to by hand",
)


class Row(NamedTuple):
    """A line of a table: what, how many, and what to say about it."""

    label: str
    cells: tuple[str, ...] = ()
    note: str = ""


class Section(NamedTuple):
    """A table: `heads` are the heads of its number columns, `foot` stands below it."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[Row, ...]
    foot: str = ""


def summarise(evidence: Evidence) -> list[Section]:
    """The summary as tables."""
    expected = expected_totals(evidence.samples)
    return [
        _records(evidence, expected),
        _dead_letters(evidence, expected),
        _receipts(evidence, expected),
        _at_tiktok(evidence),
        _requests(evidence),
        _latency(evidence),
    ]


def show(console: Console, sections: Sequence[Section], differences: Sequence[str]) -> None:
    """Prints summary, verdict and where to look next."""
    for section in sections:
        for line in _lines(section):
            console.print(line, soft_wrap=True)
    if not differences:
        console.print(Text("\nEvery promise held.", style="bold green"))
    else:
        console.print(Text("\nNot as promised:", style="bold red"))
    for sentence in differences:
        console.print(Text(f"  - {sentence}"), soft_wrap=True)
    console.print(Text("\nWhere to look next", style="bold"))
    for place in _NEXT:
        console.print(Text(f"  {place}"), soft_wrap=True)


def _records(evidence: Evidence, expected: Totals) -> Section:
    """What the consumer says. What a killed run settled uncommitted, the next one settles again."""
    runs = evidence.runs
    heads = ("must be", *(_life(number, run) for number, run in enumerate(runs, 1)))
    names = (
        ("delivered", expected.delivered, "delivered"),
        ("duplicates", expected.duplicate, "duplicate"),
        ("suppressed", expected.suppressed, "suppressed"),
        ("dead letters", expected.dead_lettered, "dead_lettered"),
    )
    rows = [Row("produced", (_n(expected.consumed),))]
    rows += [
        Row(label, (_n(wanted), *(_n(run.totals.get(name, 0)) for run in runs)))
        for label, wanted, name in names
    ]
    again = max(sum(run.totals.get("consumed", 0) for run in runs) - expected.consumed, 0)
    foot = (
        f"† killed (SIGKILL); {_n(again)} records, not committed yet, were read again"
        if any(run.killed for run in runs)
        else ""
    )
    return Section("What the consumer did", heads, tuple(rows), foot)


def _life(number: int, run: Run) -> str:
    return f"run {number}" + (" †" if run.killed else "")


def _dead_letters(evidence: Evidence, expected: Totals) -> Section:
    """By reason; copies of one and the same source record count once."""
    found: Counter[str] = Counter()
    positions = set()
    for letter in evidence.letters:
        headers = dict(letter.headers)
        position = tuple(headers.get(f"dlq.source.{n}") for n in ("partition", "offset"))
        if position not in positions:
            positions.add(position)
            found[(headers.get("dlq.reason") or b"none").decode()] += 1
    reasons = _reasons_of(evidence, Outcome.DEAD_LETTERED)
    rows = [
        Row(reason, (_n(reasons.get(reason, 0)), _n(found[reason])))
        for reason in sorted({*reasons, *found})
    ]
    rows.append(Row("total", (_n(expected.dead_lettered), _n(found.total()))))
    return Section("Dead letters, by reason", ("must be", "in topic"), tuple(rows))


def _receipts(evidence: Evidence, expected: Totals) -> Section:
    """Of each record the last one counts."""
    found = Counter(evidence.receipts.values())
    due = receipts.must_be(expected)
    rows = [
        Row(f"of {outcome.replace('_', '-')}", (_n(due.get(outcome, 0)), _n(found[outcome])))
        for outcome in {**due, **found}
    ]
    rows.append(Row("of all records", (_n(expected.consumed), _n(found.total()))))
    return Section("Receipts, one for each record", ("must be", "in topic"), tuple(rows))


def _reasons_of(evidence: Evidence, outcome: Outcome) -> Mapping[str, int]:
    return Counter(
        sample.reason.value
        for sample in evidence.samples
        if sample.outcome is outcome and sample.reason is not None
    )


def _at_tiktok(evidence: Evidence) -> Section:
    good = {
        sample.identity
        for sample in evidence.samples
        if sample.outcome in (Outcome.DELIVERED, Outcome.DUPLICATE)
    }
    once = sum(event.accepted == 1 for event in evidence.accepted)
    rows = [
        Row("events that should count", (_n(len(good)),)),
        Row("counted once", (_n(once),)),
        Row("counted more than once", (_n(len(evidence.accepted) - once),)),
    ]
    repeated = repeats_received(evidence)
    rows.append(Row("received again, counted once", (_n(sum(map(len, repeated.values()))),)))
    rows += [Row(f"  {cause}", (_n(len(events)),)) for cause, events in sorted(repeated.items())]
    return Section("What TikTok counted (the emulator's ground truth)", ("events",), tuple(rows))


def _requests(evidence: Evidence) -> Section:
    truth = evidence.truth
    sizes = {int(size): count for size, count in truth["batch_sizes"].items()}
    codes = sorted(truth["requests_by_code"].items(), key=lambda item: -item[1])
    rows = [Row("requests", (_n(truth["requests"]),))]
    rows += [Row(f"  {_code(code)}", (_n(count),)) for code, count in codes]
    rows.append(
        Row(
            "events in a request", (_n(_median(sizes)),), f"median; largest {max(sizes, default=0)}"
        )
    )
    figures = together(run.figures for run in evidence.runs)
    rows += _repeats(figures.repeats)
    rows += [
        Row("throttled", (f"{seconds:.1f} s",), name)
        for name, seconds in sorted(evidence.throttled.items())
    ]
    return Section("How it went", (), tuple(rows))


def _repeats(repeats: Mapping[str, int]) -> Iterator[Row]:
    note = "unknown whether TikTok had them"
    yield Row("sent again", (_n(sum(repeats.values())),), note)
    for cause, count in sorted(repeats.items()):
        yield Row(f"  {_CAUSES.get(cause, cause)}", (_n(count),))


def _latency(evidence: Evidence) -> Section:
    runs = evidence.runs
    heads = tuple(_life(number, run) for number, run in enumerate(runs, 1))
    rows = [
        Row(
            label,
            tuple(
                _seconds(
                    quantile(run.figures.end_to_end, share, run.ended_at - evidence.producing_from)
                )
                for run in runs
            ),
        )
        for label, share in (("half of the records (p50)", 0.5), ("95 of 100 (p95)", 0.95))
    ]
    return Section("From produced to settled (kill and throttling included)", heads, tuple(rows))


def _code(code: str) -> str:
    return (
        f"{_CODES[code]} ({code})" if code in _CODES and code != "none" else _CODES.get(code, code)
    )


def _median(sizes: Mapping[int, int]) -> int:
    """The size that half of the requests do not exceed; 0 without any."""
    half, count = sum(sizes.values()) / 2, 0
    for size in sorted(sizes):
        count += sizes[size]
        if count >= half:
            return size
    return 0


def _n(number: int) -> str:
    return f"{number:,}"


def _seconds(value: float | None) -> str:
    return "none" if value is None else f"~{value:.1f} s"


def _lines(section: Section) -> Iterator[Text]:
    yield Text()
    yield Text(section.title, style="bold")
    if any(section.heads):
        yield _line(Row("", section.heads), "dim")
    for row in section.rows:
        yield _line(row, "")
    if section.foot:
        yield Text(f"  {section.foot}", style="dim")


def _line(row: Row, style: str) -> Text:
    numbers = "".join(cell.rjust(_NUMBER_COLUMNS) for cell in row.cells)
    line = Text(f"  {row.label:<{_LABEL_COLUMNS}}{numbers}", style=style)
    if row.note:
        line.append(f"  {row.note}", style="dim")
    line.rstrip()
    return line
