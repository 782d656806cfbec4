"""What the kernel holds now, as a State: ours as objects, what is in our way as Foreign.

The listing of our bpffs folder is the observation. Ids in the kernel (a program's maps, an
interface's program) are matched to pins; no id is ever looked up, since that takes CAP_SYS_ADMIN,
except to name a stranger where that is allowed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fos1d.errors import KernelError
from fos1d.kernel import attach, bpf, contents
from fos1d.kernel.bpf import Fd, MapInfo
from fos1d.kernel.bpffs import Bpffs, Listing
from fos1d.kernel.cgroup import Cgroupfs
from fos1d.kernel.ledger import read_ledgers
from fos1d.kernel.netlink import Link, Netlink
from fos1d.model.objects import (
    Attachment,
    CgroupAttachment,
    CgroupHook,
    Entries,
    Foreign,
    Hook,
    KernelObject,
    Key,
    Map,
    MapType,
    Mode,
    Observed,
    PinAlias,
    Program,
    Slots,
    State,
    Table,
    attachment_key,
    key_of,
)
from fos1d.model.pins import CGROUP_LINKS, decode, parse_cgroup_link_path
from fos1d.plan.contents import pack, unpack

PIN_FOLDERS = ("map", "state", "chain", "table")
OURS = "fos1_"


@dataclass(slots=True)
class Pins:
    """Our pins, opened once: kernel id to path, and what each is."""

    maps: dict[int, str] = field(default_factory=dict)
    programs: dict[int, str] = field(default_factory=dict)
    objects: dict[Key, Observed] = field(default_factory=dict)
    infos: dict[str, MapInfo] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class View:
    """What is looked at, and what for."""

    bpffs: Bpffs
    listing: Listing
    desired: Mapping[Key, KernelObject]

    def declared(self, path: str) -> Entries | None:
        """Return what is desired in the map at `path`, if anything is."""
        wanted = self.desired.get(Key("entries", path))
        return wanted if isinstance(wanted, Entries) else None

    def ledgers(self, path: str) -> tuple[str, ...]:
        """Return the pins of the ledgers of the map at `path`."""
        return self.listing.below(f"ledger/{path}")


@dataclass(frozen=True, slots=True)
class Places:
    """Where programs are attached: the interfaces, which of them have a clsact qdisc, cgroups."""

    netlink: Netlink
    links: Mapping[str, Link]
    clsact: Collection[str]
    cgroups: Cgroupfs


def observe(
    bpffs: Bpffs,
    listing: Listing,
    places: Places,
    desired: Mapping[Key, KernelObject],
    ours: set[int],
) -> State:
    """Return everything of ours, and what stands where `desired` wants to be.

    The contents of maps are read only where `desired` or a ledger names them. `ours` are the ids
    of programs that are ours even if their pins are gone; those seen now are added to it.
    """
    pins = read_pins(View(bpffs, listing, desired))
    ours.update(pins.programs)
    state = dict(pins.objects)
    for found in (
        *_slots(bpffs, pins),
        *_aliases(bpffs, pins, desired),
        *_xdp(places.links, pins, ours),
        *_tcx(bpffs, listing, places.links, pins),
        *_clsact(places, pins),
        *_cgroup_links(bpffs, places.cgroups, pins),
    ):
        key = key_of(found)
        if key in state and _has_wanted_mode(found, desired.get(key)):
            # Attached twice, by tcx and by clsact: show the one that must go.
            continue
        state[key] = found
    return state


def _has_wanted_mode(found: Observed, wanted: KernelObject | None) -> bool:
    if isinstance(found, Attachment) and isinstance(wanted, Attachment):
        return found.mode is wanted.mode
    return False


def read_pins(view: View) -> Pins:
    """Open every pin of maps and programs once and say what it is and holds."""
    pins = Pins()
    for folder in PIN_FOLDERS:
        for path in view.listing.below(folder):
            if fd := _opened(view, path):
                with fd:
                    _read_map(pins, view, path, fd)
    for path in view.listing.below("program"):
        if "/~" not in path and (fd := _opened(view, path)):
            with fd:
                _read_program(pins, path, fd)
    return pins


def _opened(view: View, path: str) -> Fd | None:
    """Open a pin, unless it went meanwhile."""
    with contextlib.suppress(KernelError):
        return view.bpffs.open(path)
    return None


def _read_map(pins: Pins, view: View, path: str, fd: Fd) -> None:
    info = bpf.map_info(fd)
    pins.maps[info.id] = path
    pins.infos[path] = info
    if path.startswith("table/"):
        found: Observed = Table(path, info.value_bytes, bpf.is_frozen(fd))
    else:
        found = _map_at(path, info)
    pins.objects[_key_at(path)] = found
    declared, ledgers = view.declared(path), view.ledgers(path)
    if declared or ledgers:
        entries = read_entries(view.bpffs, fd, path, declared, ledgers)
        pins.objects[key_of(entries)] = entries


def _map_at(path: str, info: MapInfo) -> Observed:
    """Return the map; if its shape is not the one that its pin's name says, that is no map of
    ours any more, and it is replaced as such."""
    family = path.rsplit("/", 1)[0]
    try:
        found = bpf.shape_of(info, family)
    except ValueError:
        found = Map(family, MapType.HASH, 0, 0, 0)
    return found


def _key_at(path: str) -> Key:
    return Key("table" if path.startswith("table/") else "map", path)


def _read_program(pins: Pins, path: str, fd: Fd) -> None:
    info = bpf.program_info(fd)
    family, digest = path.rsplit("/", 1)
    bound = frozenset(pins.maps[number] for number in info.map_ids if number in pins.maps)
    pins.programs[info.id] = path
    found = Program(family, digest, bound)
    pins.objects[key_of(found)] = found


# Contents


def read_entries(
    bpffs: Bpffs, fd: Fd, path: str, declared: Entries | None, ledgers: Iterable[str]
) -> Entries:
    """Read an open map's contents, and from its ledgers what we declared of them."""
    info = bpf.map_info(fd)
    found = contents.read_entries(fd, info, unpack(declared) if declared else {})
    return Entries(
        path,
        info.key_bytes,
        info.value_bytes,
        pack(found),
        declared.exclusive if declared else False,
        read_ledgers(bpffs, path, ledgers, declared, info.key_bytes),
    )


def _slots(bpffs: Bpffs, pins: Pins) -> Iterator[Slots]:
    for path, info in sorted(pins.infos.items()):
        if info.type == MapType.PROG_ARRAY:
            with bpffs.open(path) as fd:
                held = contents.read_singly(fd, info)
            ids = (int.from_bytes(value, "little") for _, value in sorted(held.items()))
            yield Slots(path, tuple(pins.programs.get(number, f"id {number}") for number in ids))


# Aliases


def _aliases(bpffs: Bpffs, pins: Pins, desired: Mapping[Key, KernelObject]) -> Iterator[Observed]:
    recorded = dict(bpffs.aliases())
    wanted = {key.name for key in desired if key.kind == "alias"}
    for path in sorted(recorded.keys() | wanted):
        found = _alias(path, recorded.get(path), pins)
        if found is not None:
            yield found


def _alias(path: str, recorded: int | None, pins: Pins) -> Observed | None:
    """Return our alias, a stranger, or None where nothing is."""
    if not Path(path).exists():
        # A record without its pin still has to be cleared up.
        return PinAlias(path, "") if recorded is not None else None
    try:
        with bpf.get(Path(path)) as fd:
            info = bpf.map_info(fd)
    except KernelError:
        return Foreign(Key("alias", path), f"an object at {path} that is no map of ours")
    if info.id in pins.maps:
        return PinAlias(path, pins.maps[info.id])
    if info.id == recorded:
        return PinAlias(path, "")
    return Foreign(Key("alias", path), f"the map `{info.name}` (id {info.id}) at {path}")


# Attachments


def _xdp(links: Mapping[str, Link], pins: Pins, ours: set[int]) -> Iterator[Observed]:
    for name, link in sorted(links.items()):
        if link.xdp is None:
            continue
        number, mode = link.xdp.program_id, link.xdp.mode
        program = pins.programs.get(number)
        if program is None and (number in ours or _is_named_ours(number)):
            program = f"id {number}"
        if program is not None:
            yield Attachment(name, Hook.XDP, program, mode)
        else:
            key = attachment_key(name, Hook.XDP, 0)
            yield Foreign(key, f"XDP program {describe_program(number)} on {name}")


def _is_named_ours(number: int) -> bool:
    fd = bpf.program_by_id(number)
    if fd is None:
        return False
    with fd:
        return bpf.program_info(fd).name.startswith(OURS)


def describe_program(number: int) -> str:
    """Name a stranger's program as well as our rights allow."""
    fd = bpf.program_by_id(number)
    if fd is None:
        return f"id {number}"
    with fd:
        info = bpf.program_info(fd)
    return f"`{info.name}` (id {number}, tag {info.tag})"


def _tcx(
    bpffs: Bpffs, listing: Listing, links: Mapping[str, Link], pins: Pins
) -> Iterator[Attachment]:
    """Yield what our link pins hold. A link whose interface went has no program."""
    for path in listing.below("link"):
        _, folder, name = path.split("/")
        hook, _, order = name.rpartition(":")
        interface = decode(folder)
        with bpffs.open(path) as fd:
            info = bpf.link_info(fd)
        link = links.get(interface)
        lives = link is not None and link.interface.index == info.interface
        program = pins.programs.get(info.program_id, "") if lives else ""
        yield Attachment(interface, Hook(hook), program, Mode.TCX, int(order))


def _clsact(places: Places, pins: Pins) -> Iterator[Attachment]:
    for name in places.clsact:
        index = places.links[name].interface.index
        for found in places.netlink.filters(index):
            if found and found.priority in attach.PRIORITY_BAND and OURS in found.name:
                order = found.priority - attach.PRIORITY_BASE
                number = attach.clsact_program(index, found.hook, order)
                program = pins.programs.get(number, "")
                yield Attachment(name, found.hook, program, Mode.CLSACT, order)


def _cgroup_links(bpffs: Bpffs, cgroups: Cgroupfs, pins: Pins) -> Iterator[CgroupAttachment]:
    """Yield what our link pins hold. A link whose cgroup went, or was made anew under the same
    path, has no program."""
    for path in bpffs.pins(CGROUP_LINKS):
        cgroup, hook, slot = parse_cgroup_link_path(path)
        with bpffs.open(path) as fd:
            info = bpf.cgroup_link_info(fd)
        lives = info.cgroup_id != 0 and info.cgroup_id == cgroups.id_of(cgroup)
        program = pins.programs.get(info.program_id, "") if lives else ""
        yield CgroupAttachment(cgroup, CgroupHook(hook), program, slot)
