"""What is kept of very many lanes, until it no longer matters."""

from __future__ import annotations

from random import Random

from recall_async.limits.expiring import CHECKED, ExpiringRecords


def test_records_are_those_of_a_dictionary() -> None:
    """Would lose what a lane sent, or give it to another lane."""
    random, records, expected = (
        Random(1),
        ExpiringRecords[float](lambda until, now: until <= now),
        dict[object, float](),
    )
    now = 0.0
    for _ in range(20_000):
        now += 0.1
        key = f"w{random.randrange(300)}", random.choice("ab")
        if random.random() < 0.5:
            records.put(key, now + random.random() * 60, now)
            found = records.get(key)
            assert found is not None
            expected[key] = found
        elif (until := records.pop(key)) is not None:
            assert until == expected.pop(key)
        else:
            assert expected.pop(key, 0.0) <= now
        assert all(until <= now or records.get(key) == until for key, until in list(expected.items())[:5])  # type: ignore[arg-type]
    assert {key for key, _ in records} >= {key for key, until in expected.items() if until > now}
    assert len(records) == sum(1 for _ in records)


def test_no_record_is_added_at_the_cost_of_all() -> None:
    """Would block the event loop while a session is closed, because 100,000 workspaces are looked through."""
    checks = 0

    def over(until: float, now: float) -> bool:
        nonlocal checks
        checks += 1
        return until <= now

    records = ExpiringRecords[float](over)
    for number in range(20_000):
        before = checks
        records.put((f"w{number}", "ab"[number % 2]), number + 1000.0, float(number))
        assert checks - before <= 2 * CHECKED
        assert len(records) <= 2200
    assert sum(len(one.order) for one in records._operations.values()) <= 2200


def test_spare_records_are_kept_though_they_expired() -> None:
    """Would forget in which state of Redis a quota was, an hour after its last request."""
    records = ExpiringRecords[float](lambda until, now: until <= now, spare=10)
    for number in range(100):
        records.put((f"w{number}", "a"), 0.0, 1.0)
    assert len(records) == 10


def test_workspace_that_comes_and_goes_has_one_place() -> None:
    """Would add a place in the queue with each return of a workspace."""
    records = ExpiringRecords[float](lambda until, now: until <= now)
    for number in range(10_000):
        key = f"w{number % 500}", "a"
        records.pop(key)
        records.put(key, number + 1e6, float(number))
    assert len(records._operations["a"].order) == 500


def test_records_that_are_taken_out_leave_nothing_behind() -> None:
    """Would grow with the workspaces that come and go, or keep what is over though nothing is spare."""
    records = ExpiringRecords[float](lambda until, now: until <= now)
    for number in range(1000):
        records.put((f"w{number}", "a"), 2000.0, float(number))
        assert records.pop((f"w{number}", "a")) == 2000.0
    assert sum(len(one.by_workspace) for one in records._operations.values()) <= CHECKED
    records.put(("w", "a"), 1.0, 2.0)
    assert len(records) == 0
