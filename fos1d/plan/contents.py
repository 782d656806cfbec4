"""Diff of map contents, in bulk: packed records in, packed records out."""

from __future__ import annotations

from dataclasses import dataclass

from fos1d.model.objects import Entries


@dataclass(frozen=True, slots=True)
class ContentsDelta:
    """What to write and what to remove: packed records, packed keys."""

    added: dict[bytes, bytes]
    corrected: dict[bytes, bytes]
    removed: tuple[bytes, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.corrected or self.removed)

    def __str__(self) -> str:
        return f"+{len(self.added)} ~{len(self.corrected)} -{len(self.removed)} entries"


def contents_delta(desired: Entries, observed: Entries | None) -> ContentsDelta:
    """Return what makes `observed` hold `desired`, leaving alone what others put there.

    An observed key is removed only if an earlier pass declared it (it is in the ledger) or the
    map is exclusive.
    """
    have = unpack(observed) if observed else {}
    if observed and observed.packed == desired.packed and not stale_ledger(desired, observed):
        return ContentsDelta({}, {}, ())
    want = unpack(desired)
    added = {key: value for key, value in want.items() if key not in have}
    corrected = {k: v for k, v in want.items() if k in have and have[k] != v}
    ours = set(have) if desired.exclusive else ledger_keys(observed)
    removed = tuple(sorted(key for key in ours if key in have and key not in want))
    return ContentsDelta(added, corrected, removed)


def stale_ledger(desired: Entries, observed: Entries) -> bool:
    """Whether the ledger names keys that are declared no more and still there."""
    return bool(ledger_keys(observed) - keys_of(desired) & keys_of(observed))


def unpack(entries: Entries) -> dict[bytes, bytes]:
    """Return the records as a mapping from key to value."""
    step, split = entries.key_bytes + entries.value_bytes, entries.key_bytes
    data = entries.packed
    return {data[i : i + split]: data[i + split : i + step] for i in range(0, len(data), step)}


def keys_of(entries: Entries) -> set[bytes]:
    """Return the keys of all records."""
    return set(unpack(entries))


def ledger_keys(entries: Entries | None) -> set[bytes]:
    """Return the keys that earlier passes declared."""
    if entries is None:
        return set()
    step = entries.key_bytes
    return {entries.ledger[i : i + step] for i in range(0, len(entries.ledger), step)}


def pack(records: dict[bytes, bytes]) -> bytes:
    """Return the records packed and sorted, the form in which `Entries` holds them."""
    return b"".join(key + records[key] for key in sorted(records))
