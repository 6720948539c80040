"""Random mutations of seeds, for machines without atheris and for the suite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

WORDS = (
    b"null", b"1e999", b"NaN", b"[", b"{", b'"', b"\\ud83d", b"\\u0000", b"\xff", b"\r\n", b"\x00", b",", b":", b"//", b"@",
    b"%", b"?", b"#", b"\\", b"[::1]", b"9" * 30, b"-1", b"true", b"}" * 20, b"[" * 300, b" ", b"\x1b[31m", b"\xe2\x80\xae",
)  # fmt: skip


def mutations(seeds: Sequence[bytes], rng: Random, longest: int) -> Iterator[bytes]:
    """Yield mutations endlessly: of a seed, or of two that are joined."""
    while True:
        data = bytearray(rng.choice(seeds))
        if rng.random() < 0.2:
            other = rng.choice(seeds)
            data = data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]
        for _ in range(rng.choice((0, 1, 1, 2, 3, 8))):
            place = rng.randrange(len(data) + 1)
            match rng.randrange(5):
                case 0:
                    data[place:place] = rng.choice(WORDS)
                case 1:
                    data[place : place + rng.randrange(1, 9)] = b""
                case 2:
                    data[place : place + 1] = bytes([rng.randrange(256)])
                case 3:
                    data[place : place + rng.randrange(1, 30)] = rng.choice(WORDS)
                case _:
                    start = rng.randrange(len(data) + 1)
                    data[place:place] = data[start : start + rng.randrange(1, 60)]
        yield bytes(data[:longest])
