"""EBPFMap: a data structure that programs and user space share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import PurePosixPath
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from fos1d.kinds.entries import (
    Packed,
    Record,
    Shape,
    Written,
    as_written,
    pack_entries,
    size_faults,
)
from fos1d.kinds.fields import MOST_U32, NUMBER_OR_TEXT, Count, Listed, Maybe, Name, Parsed
from fos1d.kinds.map_flags import BITS, NO_PREALLOC, flag_fault, parse_flags
from fos1d.kinds.meta import (
    DESCRIPTION,
    NODE_SELECTOR,
    ApiVersion,
    Fault,
    LabelSelector,
    Metadata,
    Model,
)
from fos1d.kinds.names import pin_path
from fos1d.model.identity import ResourceId

MapTypeName: TypeAlias = Literal[
    "hash",
    "array",
    "lru_hash",
    "lpm_trie",
    "percpu_hash",
    "percpu_array",
    "stack",
    "queue",
    "ringbuf",
    "perf_event_array",
]

PAGE_BYTES = 4096
MOST_RING_BYTES = 1 << 31
KEYLESS: Mapping[str, str] = {
    "stack": "a stack has no keys",
    "queue": "a queue has no keys",
    "ringbuf": "a ring buffer has no entries, only bytes in passing",
    "perf_event_array": "its entries are perf events that readers put there; the kernel fixes both"
    " sizes",
}
VALUELESS = frozenset({"ringbuf", "perf_event_array"})
ARRAYS = frozenset({"array", "percpu_array"})

_WRITTEN_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0}]}
_FLAGS_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 0, "maximum": MOST_U32},
        {"type": "array", "items": {"type": "string", "enum": list(BITS)}},
    ]
}
PinPath = Annotated[PurePosixPath, Parsed(pin_path, "a path", {"pattern": "^/sys/fs/bpf/[^.]+$"})]
Flags = Annotated[
    int, Parsed(parse_flags, "a number or a list of names", _FLAGS_SCHEMA, (int, list))
]
Data = Annotated[
    Written, Parsed(as_written, "hex, a number or an address", _WRITTEN_SCHEMA, NUMBER_OR_TEXT)
]


class InitEntry(Model):
    """A declared entry, as it is written."""

    key: Data = Field(
        description="Hex (`0x…`, as written, padded in front), an address, or a decimal number (in"
        " the machine's order); in an lpm_trie `0x0a0a0a00/24`, `10.10.10.0/24`, `2001:db8::/32`"
        " or an address."
    )
    value: Data = Field(description="Hex, an address, or a decimal number, as for keys.")


class MapSpec(Model):
    """What an EBPFMap asks for."""

    description: str = Field("", description=DESCRIPTION)
    node_selector: Maybe[LabelSelector] = Field(None, description=NODE_SELECTOR)
    type: MapTypeName = Field(description="The kernel's type of map.")
    max_entries: Count = Field(
        description="How many entries fit. A ringbuf counts bytes, rounded up to a power of two of"
        " pages."
    )
    key_size: Maybe[Count] = Field(
        None, description="Bytes of a key; required where the type has keys, refused elsewhere."
    )
    value_size: Maybe[Count] = Field(
        None, description="Bytes of a value; required where the type has values, refused elsewhere."
    )
    pin_path: Maybe[PinPath] = Field(
        None, description="A second pin, below /sys/fs/bpf/, for other programs to find the map."
    )
    flags: Flags = Field(
        0, description="Flags of the kernel, as a number or as names; an lpm_trie has no_prealloc."
    )
    accessed_by: Listed[Name] = Field(
        (),
        description="EBPFPrograms in the same name space that use the map; an lpm_trie becomes"
        " their blacklist (4-byte value: 1 drops).",
    )
    init_data: Listed[InitEntry] = Field(
        (), description="Entries that are kept in the map; others stay, unless exclusive."
    )
    exclusive: bool = Field(
        False, description="Remove entries that something else put there at run time."
    )

    @property
    def shape(self) -> Shape:
        """The map's type and sizes; 0 where there are no keys or values."""
        return Shape(self.type, self.key_size or 0, self.value_size or 0, self.max_entries)

    @property
    def kernel_flags(self) -> int:
        """The flags with what the type implies."""
        return self.flags | (NO_PREALLOC if self.type == "lpm_trie" else 0)

    @property
    def records(self) -> tuple[Record, ...]:
        """The declared entries as the kernel holds them, in the order as written."""
        return self._packed.records

    @cached_property
    def _packed(self) -> Packed:
        return pack_entries(self.shape, [(entry.key, entry.value) for entry in self.init_data])

    def effective_max_entries(self, page_bytes: int = PAGE_BYTES) -> int:
        """Return what the kernel is asked for: a ringbuf's bytes rounded up, else max_entries."""
        if self.type != "ringbuf":
            return self.max_entries
        return max(page_bytes, 1 << (self.max_entries - 1).bit_length())

    def combinations(self) -> Iterator[Fault]:
        """Yield what is wrong with these fields together."""
        faults = [*self._sizes("keySize", self.key_size, self.type in KEYLESS)]
        faults += self._sizes("valueSize", self.value_size, self.type in VALUELESS)
        faults += size_faults(self.shape)
        yield from faults
        if fault := flag_fault(self.type, self.flags):
            yield Fault(("flags",), fault)
        if self.type == "ringbuf" and self.max_entries > MOST_RING_BYTES:
            yield Fault(("maxEntries",), f"must be at most {MOST_RING_BYTES} bytes for a ringbuf")
        yield from self._exclusive()
        if self.init_data and not faults:
            yield from self._entries()

    def _sizes(self, field: str, size: int | None, refused: bool) -> Iterator[Fault]:
        if refused and size is not None:
            yield Fault((field,), f"does not belong to type {self.type}: {KEYLESS[self.type]}")
        if not refused and size is None:
            yield Fault((field,), f"is required for type {self.type}")

    def _exclusive(self) -> Iterator[Fault]:
        if self.exclusive and self.type in KEYLESS:
            message = f"does not belong to type {self.type}: {KEYLESS[self.type]}"
            yield Fault(("exclusive",), message)
        if self.exclusive and self.type in ARRAYS:
            message = f"does not belong to type {self.type}: its entries cannot be removed"
            yield Fault(("exclusive",), message)

    def _entries(self) -> Iterator[Fault]:
        if self.type in KEYLESS:
            message = f"does not belong to type {self.type}: {KEYLESS[self.type]}"
            yield Fault(("initData",), message)
            return
        if len(self.init_data) > self.max_entries:
            message = f"has {len(self.init_data)} entries; maxEntries is {self.max_entries}"
            yield Fault(("initData",), message)
        for fault in self._packed.faults:
            yield Fault(("initData", *fault.loc), fault.message)


class EBPFMap(Model):
    """A data structure that programs and user space share."""

    api_version: ApiVersion = Field(description="The version of the schema.")
    kind: Literal["EBPFMap"] = Field(description="The kind.")
    metadata: Metadata = Field(description="Who the resource is.")
    spec: MapSpec = Field(description="What is asked for.")

    @property
    def id(self) -> ResourceId:
        """Who the resource is."""
        return self.metadata.id_of(self.kind)

    def remarks(self) -> Iterator[Fault]:
        """Yield what is odd though allowed."""
        if self.spec.type == "lru_hash" and self.spec.init_data:
            message = "an lru_hash may evict these entries; they come back with the next pass"
            yield Fault(("spec", "initData"), message)
