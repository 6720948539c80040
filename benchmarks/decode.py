"""`decode`: a page of a hundred events, decoded; and what one event that is kept keeps in memory."""

from __future__ import annotations

import gc
import json
import statistics
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import orjson

from recall_async import CalendarEvent, CalendarEventBot, MeetingURL, Page
from recall_async.models import Time

from .charts import bars, chart
from .events import GOOGLE, OUTLOOK, page
from .pydantic_models import PydanticPage
from .report import Report, Table, Target
from .rounds import ratio, turns

OURS = "recall_async"
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


DECODERS: dict[str, Callable[[bytes], Any]] = {
    OURS: msgspec.json.Decoder(Page[CalendarEvent]).decode,
    "msgspec, `raw` decoded": msgspec.json.Decoder(Page[WholeEvent]).decode,
    "orjson, untyped": orjson.loads,
    "pydantic": PydanticPage.model_validate_json,
    "json, untyped": json.loads,
}


def run(quick: bool) -> Report:
    """The report on decoding."""
    rounds, in_turn, kept_of = (6, 5, 4) if quick else (60, 20, 25)
    pages = [page(seed) for seed in range(in_turn)]
    taken = _times(pages, rounds)
    times = {name: statistics.median(seconds) for name, seconds in taken.items()}
    ratios = {name: ratio(seconds, taken[OURS]) for name, seconds in taken.items()}
    kept = {name: _kept(decode, pages[0], kept_of) for name, decode in DECODERS.items()}
    ours, to_orjson, to_pydantic = times[OURS], ratios["orjson, untyped"], ratios["pydantic"]
    raw = statistics.mean(sum(map(len, _raws(body))) for body in pages) / 1e3
    size = statistics.mean(map(len, pages)) / 1e3
    most = max(kept[OURS])

    figure, (left, right) = chart(1, 2, size=(10.0, 2.8))
    names = {name: name.replace("`", "") for name in DECODERS}
    bars(left, {names[name]: seconds * 1e3 for name, seconds in times.items()}, ours=OURS, form="{:.2f}")
    left.set(title="CPU to decode a page", xlabel="ms")
    bars(right, {names[name]: statistics.median(sizes) / 1e3 for name, sizes in kept.items()}, ours=OURS)
    right.set(title="Memory that one event keeps", xlabel="kB", yticklabels=[])
    return Report(
        title="decode: a page of a hundred events",
        method=f"{in_turn} pages of {GOOGLE} events of Google Calendar and {OUTLOOK} of Outlook, from the sandbox's "
        f"generator: {size:.0f} kB each, {raw:.0f} kB of which are `raw`. Each decoder in its turn decodes all {in_turn}, "
        f"each just put together from the chunks of {CHUNK // 1024} KiB in which it would arrive, and lets go of it before "
        f"the next, which is part of the time; {rounds} rounds. Ours leaves `raw` undecoded until it is asked for; the "
        "others decode all of it, because that is what they do. Pydantic's models and msgspec's structs have the fields of "
        "ours. The memory is what stays allocated (`tracemalloc`) when one event is kept and the rest of its page dropped: "
        f"median and largest of {kept_of}.",
        figure=figure,
        alt="CPU to decode a page, and memory that one event keeps, by decoder",
        tables=[
            Table(
                ("decoder", "CPU per page", "times ours", "kept by one event", "largest"),
                [
                    (
                        f"**{name}**" if name == OURS else name,
                        f"{seconds * 1e3:.2f} ms",
                        f"{ratios[name]:.2f}",
                        f"{statistics.median(kept[name]) / 1e3:.1f} kB",
                        f"{max(kept[name]) / 1e3:.1f} kB",
                    )
                    for name, seconds in times.items()
                ],
            )
        ],
        targets=[
            Target("≥ 3.3 × as fast as orjson, untyped", f"{to_orjson:.2f} ×", to_orjson >= 3.3, _limit(pages, ours)),
            Target("≥ 5.5 × as fast as pydantic", f"{to_pydantic:.2f} ×", to_pydantic >= 5.5, _limit(pages, ours)),
            Target("one event out of a page keeps ≤ 8 KB", f"{most / 1024:.1f} KiB at most", most <= 8 * 1024),
        ],
        packages=("orjson", "pydantic", "pydantic_core"),
    )


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
        event = decoded["results"][place] if isinstance(decoded, dict) else decoded.results[place]
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


def _limit(pages: Sequence[bytes], ours: float) -> str:
    """How much of our time goes into skipping over JSON alone, which nothing in Python can make faster."""
    skip = msgspec.json.Decoder(msgspec.Raw).decode
    taken = []
    for body in [*pages, *pages]:
        began = time.process_time()
        skip(body)
        taken.append(time.process_time() - began)
    share = statistics.median(taken) / ours
    return f"{share:.0%} of our time is msgspec finding the end of the page's JSON, without making anything of it."
