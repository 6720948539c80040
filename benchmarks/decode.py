"""`decode`: a page of a hundred events, decoded; and what one event that is kept keeps in memory."""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import orjson

from recall_async import CalendarEvent, CalendarEventBot, MeetingURL, Page
from recall_async.models import Time

from .charts import bars, chart
from .events import page
from .processes import measured
from .pydantic_models import PydanticPage
from .report import Report, Table, Target, judged
from .rounds import INTERPRETERS, Figure, figure, ratio, turns

OURS = "recall_async"
ALL_KEPT = "recall_async, all events kept"
SKIPPED = "msgspec, skipping all"
CHUNK = 2**16


class WholeEvent(msgspec.Struct, kw_only=True):
    id: str
    start_time: Time
    end_time: Time
    calendar_id: str
    raw: dict[str, Any] | None = None
    platform: str
    platform_id: str | None = None
    ical_uid: str | None = None
    meeting_platform: str | None = None
    meeting_url: str | MeetingURL | None = None
    created_at: Time
    updated_at: Time
    is_deleted: bool = False
    bots: list[CalendarEventBot] = []


_decode: Callable[[bytes], Page[CalendarEvent]] = msgspec.json.Decoder(Page[CalendarEvent]).decode


def _all_kept(body: bytes) -> list[CalendarEvent]:
    """Decode a page whose events all outlive it, so that each `raw` is copied out of it."""
    return _decode(body).results


DECODERS: dict[str, Callable[[bytes], Any]] = {
    OURS: _decode,
    ALL_KEPT: _all_kept,
    "msgspec, `raw` decoded": msgspec.json.Decoder(Page[WholeEvent]).decode,
    "orjson, untyped": orjson.loads,
    "pydantic": PydanticPage.model_validate_json,
    "json, untyped": json.loads,
    SKIPPED: msgspec.json.Decoder(msgspec.Raw).decode,
}
KINDS = {"mostly Google": 75, "mostly Outlook": 10}
"""Events of Google Calendar on a page of a hundred; the others are of Outlook."""


def run(quick: bool) -> Report:
    """The report on decoding."""
    rounds, in_turn, interpreters, kept_of = (2, 3, 2, 4) if quick else (12, 8, INTERPRETERS, 25)
    found: list[dict[str, dict[str, list[float]]]] = [
        measured("benchmarks.decode", str(number * in_turn), str(in_turn), str(rounds))
        for number in range(interpreters)
    ]
    times = {
        kind: {name: statistics.median(second for each in found for second in each[kind][name]) for name in DECODERS}
        for kind in KINDS
    }

    def compared(name: str, to: str) -> list[Figure]:
        return [figure(ratio(each[kind][name], each[kind][to]) for each in found) for kind in KINDS]

    ratios = {name: compared(name, OURS) for name in DECODERS}
    pages = {kind: _pages(kind, 0, in_turn * interpreters) for kind in KINDS}
    first = next(iter(KINDS))
    kept = {name: _kept(decode, pages[first][0], kept_of) for name, decode in DECODERS.items() if name != SKIPPED}
    to_skip = compared(OURS, SKIPPED)
    all_kept = [found.value for found in compared(ALL_KEPT, SKIPPED)]
    sizes = " and ".join(
        f"{statistics.mean(map(len, bodies)) / 1e3:.0f} kB, "
        f"{statistics.mean(sum(map(len, _raws(body))) for body in bodies) / 1e3:.0f} kB of which are `raw`"
        for bodies in pages.values()
    )
    most = max(kept[OURS])

    drawing, (left, right) = chart(1, 2, size=(10.0, 2.8))
    names = {name: name.replace("`", "") for name in DECODERS}
    bars(left, {names[name]: times[first][name] * 1e3 for name in kept}, ours=OURS, form="{:.2f}")
    left.set(title=f"CPU to decode a page, {first}", xlabel="ms")
    bars(right, {names[name]: statistics.median(sizes) / 1e3 for name, sizes in kept.items()}, ours=OURS)
    right.set(title="Memory that one event keeps", xlabel="kB", yticklabels=[])
    return Report(
        title="decode: a page of a hundred events",
        method=f"Pages of two kinds, {in_turn * interpreters} of each, from the sandbox's generator: "
        f"{' and '.join(KINDS)}. They have {sizes}. Each of {interpreters} interpreters has {in_turn} of each kind, which "
        f"each decoder decodes in its turn, each just put together from the chunks of {CHUNK // 1024} KiB in which it "
        f"would arrive, and frees before the next, which is part of the time; {rounds} rounds in each. Ours leaves `raw` "
        "undecoded until it is accessed, and copies it out of the page if its event outlives the page; one row shows a "
        "page all of whose events do. The others decode all of it, because that is what they do; the last one skips every "
        "field and creates nothing. Pydantic's models and msgspec's structs have the fields of ours. The memory is what "
        "stays allocated (`tracemalloc`) when one event is kept and the rest of its page dropped: median and largest of "
        f"{kept_of}.",
        figure=drawing,
        alt="CPU to decode a page, and memory that one event keeps, by decoder",
        tables=[
            Table(
                ("decoder", *(f"{what}, {kind}" for kind in KINDS for what in ("CPU per page", "times ours"))),
                [
                    (
                        f"**{name}**" if name == OURS else name,
                        *(
                            text
                            for kind, times_ours in zip(KINDS, ratios[name], strict=True)
                            for text in (f"{times[kind][name] * 1e3:.2f} ms", f"{times_ours.value:.2f}")
                        ),
                    )
                    for name in DECODERS
                ],
            ),
            Table(
                ("decoder", "kept by one event", "largest"),
                [
                    (
                        f"**{name}**" if name == OURS else name,
                        f"{statistics.median(found) / 1e3:.1f} kB",
                        f"{max(found) / 1e3:.1f} kB",
                    )
                    for name, found in kept.items()
                ],
            ),
        ],
        targets=[
            judged(
                "≤ 1.5 × the pass that skips every field",
                to_skip,
                at_most=1.5,
                said=f"{to_skip[0].value:.2f} × and {to_skip[1].value:.2f} × "
                f"({' and '.join(f'{times:.2f} ×' for times in all_kept)} with all events kept)",
            ),
            judged("≥ 2.8 × as fast as orjson, untyped", ratios["orjson, untyped"], at_least=2.8),
            judged("≥ 6.5 × as fast as pydantic", ratios["pydantic"], at_least=6.5),
            Target("one event out of a page keeps ≤ 8 KB", f"{most / 1024:.1f} KiB at most", most <= 8 * 1024),
        ],
        packages=("orjson", "pydantic", "pydantic_core"),
    )


def _pages(kind: str, first: int, count: int) -> list[bytes]:
    return [page(seed, google=KINDS[kind]) for seed in range(first, first + count)]


def _times(pages: Sequence[bytes], rounds: int) -> dict[str, list[float]]:
    """CPU seconds per page of each decoder in each round."""
    chunks = [[body[start : start + CHUNK] for start in range(0, len(body), CHUNK)] for body in pages]
    taken: dict[str, list[float]] = {name: [] for name in DECODERS}
    for name, counts in turns(DECODERS, rounds):
        decode, seconds = DECODERS[name], 0.0
        for parts in chunks:
            body = b"".join(parts)
            began = time.process_time()
            decoded = decode(body)
            del decoded
            seconds += time.process_time() - began
        if counts:
            taken[name].append(seconds / len(pages))
    return taken


def _kept(decode: Callable[[bytes], Any], body: bytes, count: int) -> list[int]:
    """Bytes that stay allocated for one event of a page, for `count` events spread over it."""
    sizes = []
    decode(body)
    for place in range(0, 100, 100 // count):
        gc.collect()
        tracemalloc.start()
        decoded = decode(bytes(bytearray(body)))
        if isinstance(decoded, dict):
            decoded = decoded["results"]
        event = (decoded if isinstance(decoded, list) else decoded.results)[place]
        del decoded
        gc.collect()
        sizes.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        del event
    return sizes


class _RawOnly(msgspec.Struct):
    raw: msgspec.Raw


def _raws(body: bytes) -> list[bytes]:
    return [bytes(event.raw) for event in msgspec.json.decode(body, type=Page[_RawOnly]).results]


def main() -> None:
    """Print what decoding pages takes in this interpreter, by kind and decoder."""
    parser = argparse.ArgumentParser()
    for name in ("first", "in_turn", "rounds"):
        parser.add_argument(name, type=int)
    options = parser.parse_args()
    found = {kind: _times(_pages(kind, options.first, options.in_turn), options.rounds) for kind in KINDS}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
