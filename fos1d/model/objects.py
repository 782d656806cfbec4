"""What the kernel holds, as values. Desired and observed objects have the same types.

Every object has a key; the key says where it lives, the rest says what it is. Pin paths are
relative to our bpffs root and are part of the identity, digest and all, so that a listing of
bpffs is the observation (kernel/bpffs.py has the layout).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import NamedTuple


class MapType(IntEnum):
    """Map types by their number in the kernel's UAPI (linux/bpf.h, enum bpf_map_type)."""

    HASH = 1
    ARRAY = 2
    PROG_ARRAY = 3
    PERF_EVENT_ARRAY = 4
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    LRU_HASH = 9
    LPM_TRIE = 11
    QUEUE = 22
    STACK = 23
    RINGBUF = 27


PER_CPU = frozenset({MapType.PERCPU_HASH, MapType.PERCPU_ARRAY})
ARRAYS = frozenset({MapType.ARRAY, MapType.PERCPU_ARRAY})
KEYLESS = frozenset({MapType.QUEUE, MapType.STACK, MapType.RINGBUF})
POPPED = frozenset({MapType.QUEUE, MapType.STACK})
WITHOUT_ENTRIES = KEYLESS | {MapType.PERF_EVENT_ARRAY, MapType.PROG_ARRAY}

NO_PREALLOC = 1 << 0
MMAPABLE = 1 << 10


class Key(NamedTuple):
    """Where an object lives: its class and its name within the class."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Map:
    """A pinned map. `family` is its pin's folder: another shape of it carries its entries over.

    `label` is what bpftool shows (at most 15 bytes).
    """

    family: str
    type: MapType
    key_bytes: int
    value_bytes: int
    max_entries: int
    flags: int = 0
    label: str = field(default="", compare=False)

    @property
    def path(self) -> str:
        """Pin path: the family and the shape."""
        shape = (self.type.name.lower(), self.key_bytes, self.value_bytes, self.max_entries)
        return f"{self.family}/{'-'.join(map(str, shape))}-{self.flags:x}"


@dataclass(frozen=True, slots=True)
class Entries:
    """The contents of a map: packed records of key and value, sorted, each key once.

    `ledger` holds the packed keys that earlier passes declared (observed objects only): those
    may be removed, others are somebody else's unless `exclusive`.
    """

    map: str
    key_bytes: int
    value_bytes: int
    packed: bytes = field(repr=False)
    exclusive: bool = False
    ledger: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Table:
    """An array whose pin is named by the digest of its content when it is made: it can only be
    whole.

    `content` makes the bytes, elements of `value_bytes`; it is called only when the table is
    written. `frozen` is False where programs count, and where somebody could still write.
    """

    path: str
    value_bytes: int
    frozen: bool = True
    content: Callable[[], memoryview] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A program of ours: an object file that ships with the package."""

    object: str
    function: str


@dataclass(frozen=True, slots=True)
class UserObject:
    """A user's compiled CO-RE object. `content_id` stands for its bytes."""

    path: str
    function: str
    content_id: str
    read: Callable[[], bytes] = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class UserSource:
    """A user's BCC C file, compiled on the router."""

    path: str
    function: str
    content_id: str
    read: Callable[[], bytes] = field(compare=False, repr=False)


ProgramCode = BuiltIn | UserObject | UserSource


class Hook(StrEnum):
    """Where on an interface a program runs."""

    XDP = "xdp"
    TC_INGRESS = "tc-ingress"
    TC_EGRESS = "tc-egress"


class CgroupHook(StrEnum):
    """Where on a cgroup a program runs, for what the cgroup and all below it do."""

    INGRESS = "cgroup-ingress"
    EGRESS = "cgroup-egress"
    SOCK_CREATE = "sock-create"
    SOCK_RELEASE = "sock-release"
    CONNECT4 = "connect4"
    CONNECT6 = "connect6"
    SENDMSG4 = "sendmsg4"
    SENDMSG6 = "sendmsg6"
    SOCK_OPS = "sock-ops"
    DEVICE = "device"


@dataclass(frozen=True, slots=True)
class Next:
    """A program's successor in a chain: the program array and the slot to tail call."""

    chain: str
    slot: int


@dataclass(frozen=True, slots=True)
class Program:
    """A loaded, pinned program. `family` is its pin's folder, `digest` its pin's name.

    `bound` are the pin paths of the maps that it uses. What only the load needs is left out of
    comparisons, since the digest stands for it: `constants` are the knobs set in .rodata, `maps`
    binds map names in the object to pin paths, `check` are packets that it must judge rightly.
    """

    family: str
    digest: str
    bound: frozenset[str] = frozenset()
    hook: Hook | CgroupHook = field(default=Hook.XDP, compare=False)
    code: ProgramCode = field(default=BuiltIn("", ""), compare=False)
    constants: tuple[tuple[str, int | tuple[int, ...]], ...] = field(default=(), compare=False)
    maps: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    successor: Next | None = field(default=None, compare=False)
    check: tuple[CannedPacket, ...] = field(default=(), compare=False, repr=False)

    @property
    def path(self) -> str:
        """Pin path: the family and the digest."""
        return f"{self.family}/{self.digest}"


@dataclass(frozen=True, slots=True)
class CannedPacket:
    """A frame and the verdict that a program must give it before it may be attached."""

    what: str
    frame: bytes
    verdict: int


@dataclass(frozen=True, slots=True)
class Slots:
    """The programs of a chain, in order: slot i of the program array holds `programs[i]`."""

    chain: str
    programs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PinAlias:
    """A user's own pin of one of our maps: `path` is absolute, `map` is ours."""

    path: str
    map: str


class Mode(StrEnum):
    """How a program is attached. AUTO is a wish (native, else generic), never observed."""

    AUTO = "auto"
    NATIVE = "native"
    GENERIC = "generic"
    TCX = "tcx"
    CLSACT = "clsact"


@dataclass(frozen=True, slots=True)
class Attachment:
    """A program on a hook of an interface. `order` places it among ours on a TC hook."""

    interface: str
    hook: Hook
    program: str
    mode: Mode = Mode.AUTO
    order: int = 0


@dataclass(frozen=True, slots=True)
class CgroupAttachment:
    """A program on a hook of a cgroup, beside whatever others attached there.

    `cgroup` is a path below the cgroup2 root, `.` the root itself. `slot` tells several of ours on
    one hook apart; they run in the order in which they were attached, and all must agree.
    """

    cgroup: str
    hook: CgroupHook
    program: str
    slot: int = 0


@dataclass(frozen=True, slots=True)
class Foreign:
    """Something that is not ours, in a place that we may want. Never touched, only told."""

    key: Key
    holder: str


Placement = Attachment | CgroupAttachment
KernelObject = Map | Entries | Table | Program | Slots | PinAlias | Attachment | CgroupAttachment
Observed = KernelObject | Foreign


def key_of(obj: Observed) -> Key:
    """Return where `obj` lives."""
    match obj:
        case Map():
            return Key("map", obj.path)
        case Entries():
            return Key("entries", obj.map)
        case Table():
            return Key("table", obj.path)
        case Program():
            return Key("program", obj.path)
        case Slots():
            return Key("slots", obj.chain)
        case PinAlias():
            return Key("alias", obj.path)
        case Attachment():
            return attachment_key(obj.interface, obj.hook, obj.order)
        case CgroupAttachment():
            return Key("attachment", f"{obj.cgroup} {obj.hook} {obj.slot}")
        case Foreign():
            return obj.key


def attachment_key(interface: str, hook: Hook, order: int) -> Key:
    """Return the key of whatever is attached there."""
    place = f"{interface} {hook}"
    return Key("attachment", place if hook is Hook.XDP else f"{place} {order}")


def needs(obj: KernelObject) -> tuple[Key, ...]:
    """Return the keys of the objects that must exist before `obj` can."""
    match obj:
        case Map() | Table():
            return ()
        case Entries():
            return (Key("map", obj.map),)
        case Program():
            return tuple(pin_key(path) for path in sorted(obj.bound))
        case Slots():
            return (Key("map", obj.chain), *(Key("program", path) for path in obj.programs))
        case PinAlias():
            return (Key("map", obj.map),)
        case Attachment() | CgroupAttachment():
            return (Key("program", obj.program),)


def pin_key(path: str) -> Key:
    """Return the key of the map or table pinned at `path`."""
    return Key("table" if path.startswith("table/") else "map", path)


State = Mapping[Key, Observed]


def state_of(*objects: Observed) -> dict[Key, Observed]:
    """Return the state that holds `objects`."""
    return {key_of(obj): obj for obj in objects}
