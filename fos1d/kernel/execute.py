"""One action into the kernel. Every step leaves a state that a fresh start can go on from."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from fos1d.errors import HeldByOther, KernelError, SelfCheckFailed, Waiting
from fos1d.kernel import attach, bpf, cgroup, contents
from fos1d.kernel.bpf import Fd
from fos1d.kernel.bpffs import Bpffs
from fos1d.kernel.counters import STATS
from fos1d.kernel.flows import begin_tracking
from fos1d.kernel.ledger import write_ledger
from fos1d.kernel.loader import load
from fos1d.kernel.netlink import Link, Netlink
from fos1d.kernel.observe import read_entries
from fos1d.kernel.policy_counters import hand_over
from fos1d.model.objects import (
    MMAPABLE,
    POPPED,
    WITHOUT_ENTRIES,
    Attachment,
    CgroupAttachment,
    Entries,
    Foreign,
    KernelObject,
    Map,
    MapType,
    Mode,
    Observed,
    PinAlias,
    Program,
    Slots,
    Table,
)
from fos1d.model.pins import interface_of_chain
from fos1d.plan.actions import Action, Create, Delete, Replace
from fos1d.plan.contents import contents_delta, keys_of, ledger_keys, unpack


@dataclass(slots=True)
class Executor:
    """Executes actions below one root.

    `ours` are the ids of programs that this process attached or saw pinned: they are ours even
    when no pin leads to them any more. The kernel gives no id a second time.
    """

    bpffs: Bpffs
    netlink: Netlink
    cgroups: cgroup.Cgroupfs
    ours: set[int] = field(default_factory=set)

    def execute(self, action: Action) -> str:
        """Carry out one action; return a remark for people, or nothing.

        Raises KernelError (SourceProgramError for a user's program) and has then changed nothing
        that the next pass would not find.
        """
        match action:
            case Create(new=Map() as new, carry_from=str(old), declared=declared):
                self._renew_map(new, old, declared)
                return ""
            case Create(new=new):
                return self._make(new, None)
            case Replace(old=old, new=new):
                return self._make(new, old)
            case Delete(old=old, carry_to=carry_to):
                self._delete(old, carry_to)
                return ""

    def _make(self, new: KernelObject, old: Observed | None) -> str:
        match new:
            case Map():
                self._make_map(new)
            case Table():
                self._make_table(new)
            case Entries():
                self._write_entries(new)
            case Program():
                self._make_program(new)
            case Slots():
                self._fill_slots(new)
            case PinAlias():
                self._make_alias(new, old)
            case Attachment():
                return self._attach(new, old if isinstance(old, Attachment) else None)
            case CgroupAttachment():
                with self.bpffs.open(new.program) as program:
                    cgroup.attach(self.bpffs, self.cgroups, program, new)
        return ""

    def _delete(self, old: KernelObject, carry_to: str | None) -> None:
        match old:
            case Map():
                self._delete_map(old, carry_to)
            case Table():
                self._delete_table(old)
            case Entries():
                self._delete_entries(old)
            case Program():
                self._delete_program(old)
            case Slots():
                # They go with their program array.
                return
            case PinAlias():
                self._delete_alias(old)
            case Attachment():
                self._detach(old)
            case CgroupAttachment():
                cgroup.detach(self.bpffs, old)

    # Maps

    def _make_map(self, new: Map) -> None:
        with bpf.create_map(new) as fd:
            self.bpffs.put(fd, new.path)

    def _renew_map(self, new: Map, old: str, declared: Entries | None) -> None:
        with bpf.create_map(new) as fd:
            if new.type not in WITHOUT_ENTRIES:
                self._carry(old, fd, new.path, declared)
            self.bpffs.put(fd, new.path)

    def _carry(self, old: str, target: Fd, path: str, declared: Entries | None) -> None:
        """Copy what fits, declared entries first: they are what must be there.

        What was declared once and is no more stays behind, so that one ledger says all.
        """
        with self.bpffs.open(old) as source:
            if declared is None:
                self._carry_ledger(old, path)
                contents.copy_entries(source, target)
                return
            write_ledger(self.bpffs, declared)
            contents.write_entries(target, bpf.map_info(target), unpack(declared))
            if not declared.exclusive:
                earlier = ledger_keys(self._read_entries(source, old, None))
                contents.copy_entries(source, target, keys_of(declared) | earlier)

    def _carry_ledger(self, old: str, new: str) -> None:
        for path in list(self.bpffs.pins(f"ledger/{old}")):
            with self.bpffs.open(path) as ledger:
                self.bpffs.put(ledger, f"ledger/{new}/{path.rsplit('/', 1)[-1]}")

    def _delete_map(self, old: Map, carry_to: str | None) -> None:
        if carry_to and self.bpffs.exists(carry_to):
            with self.bpffs.open(old.path) as source, self.bpffs.open(carry_to) as target:
                if old.type in POPPED:
                    contents.move_elements(source, target)
                elif old.type not in WITHOUT_ENTRIES:
                    contents.copy_entries(source, target, only_missing=True)
        self.bpffs.remove(old.path)

    def _make_table(self, new: Table) -> None:
        if new.content is None:
            raise KernelError(f"the content of {new.path} is not known")
        content = new.content().cast("B")
        count = len(content) // new.value_bytes
        shape = Map(new.path, MapType.ARRAY, 4, new.value_bytes, count, MMAPABLE)
        with bpf.create_map(shape) as fd:
            contents.write_array(fd, content)
            if new.frozen:
                bpf.freeze(fd)
            self.bpffs.put(fd, new.path)

    def _delete_table(self, old: Table) -> None:
        if old.path.endswith(f"/{STATS}"):
            hand_over(self.bpffs, old.path)
        self.bpffs.remove(old.path)

    def _fill_slots(self, new: Slots) -> None:
        with self.bpffs.open(new.chain) as chain:
            info = bpf.map_info(chain)
            for slot, path in enumerate(new.programs):
                with self.bpffs.open(path) as program:
                    value = program.number.to_bytes(4, "little")
                    contents.write_raw_one(chain, info, slot.to_bytes(4, "little"), value)
        if link := self.netlink.link(interface_of_chain(new.chain)):
            for path in new.programs:
                self._begin_tracking(path, link)

    # Entries: first note what will be ours, then write, then forget what is ours no more. A map
    # without room for both makes room first.

    def _write_entries(self, new: Entries) -> None:
        with self.bpffs.open(new.map) as fd:
            info = bpf.map_info(fd)
            observed = self._read_entries(fd, new.map, new)
            delta = contents_delta(new, observed)
            ledger = write_ledger(self.bpffs, new)
            fits = len(keys_of(observed)) + len(delta.added) <= info.max_entries
            contents.delete_entries(fd, info, () if fits else delta.removed)
            contents.write_entries(fd, info, {**delta.added, **delta.corrected})
            contents.delete_entries(fd, info, delta.removed if fits else ())
        self._keep_ledger(new.map, ledger)

    def _read_entries(self, fd: Fd, path: str, declared: Entries | None) -> Entries:
        ledgers = self.bpffs.pins(f"ledger/{path}")
        return read_entries(self.bpffs, fd, path, declared, ledgers)

    def _delete_entries(self, old: Entries) -> None:
        with suppress(KernelError), self.bpffs.open(old.map) as fd:
            info = bpf.map_info(fd)
            size = old.key_bytes
            declared = (old.ledger[i : i + size] for i in range(0, len(old.ledger), size))
            contents.delete_entries(fd, info, sorted(declared))
        self._keep_ledger(old.map, None)

    def _keep_ledger(self, map_path: str, kept: str | None) -> None:
        for path in list(self.bpffs.pins(f"ledger/{map_path}")):
            if path != kept:
                self.bpffs.remove(path)

    # Programs

    def _make_program(self, new: Program) -> None:
        with load(new, self.bpffs) as fd:
            for canned in new.check:
                verdict = bpf.test_run(fd, canned.frame)
                if verdict != canned.verdict:
                    raise SelfCheckFailed(
                        f"{new.path} gave {canned.what} the verdict {verdict} instead of "
                        f"{canned.verdict}; it was not attached"
                    )
            self.bpffs.put(fd, new.path)

    def _delete_program(self, old: Program) -> None:
        self.bpffs.remove(old.path)
        left = list(self.bpffs.pins(old.family))
        if all("/~" in path for path in left):
            # The maps that a user's object brought go with its last program.
            for path in left:
                self.bpffs.remove(path)

    # Aliases

    def _make_alias(self, new: PinAlias, old: Observed | None) -> None:
        place = Path(new.path)
        if place.is_relative_to(self.bpffs.root):
            raise KernelError(f"{place} is in the daemon's own folder; choose another pinPath")
        with self.bpffs.open(new.map) as fd:
            self.bpffs.remember_alias(new.path, bpf.map_info(fd).id)
            try:
                if old is not None and not isinstance(old, Foreign):
                    place.unlink(missing_ok=True)
                place.parent.mkdir(parents=True, exist_ok=True)
                bpf.pin(fd, place)
            except OSError as error:
                self.bpffs.forget_alias(new.path)
                raise KernelError(f"pin at {place}: {error.strerror}", error.errno or 0) from error
            except KernelError:
                self.bpffs.forget_alias(new.path)
                raise

    def _delete_alias(self, old: PinAlias) -> None:
        Path(old.path).unlink(missing_ok=True)
        self.bpffs.forget_alias(old.path)

    # Attachments

    def _attach(self, new: Attachment, old: Attachment | None) -> str:
        link = self._link(new)
        with self.bpffs.open(new.program) as program:
            self.ours.add(bpf.program_info(program).id)
            match new.mode:
                case Mode.TCX:
                    attach.tcx_set(self.bpffs, link.interface.index, program, new)
                case Mode.CLSACT:
                    attach.clsact_set(self.netlink, self.bpffs, link.interface.index, program, new)
                case Mode.AUTO | Mode.NATIVE | Mode.GENERIC:
                    remark = self._attach_xdp(link, program, new, old)
                    self._begin_tracking(new.program, link)
                    return remark
        if old is not None and old.mode is not new.mode:
            self._detach(old)
        return ""

    def _begin_tracking(self, program: str, link: Link) -> None:
        now_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        begin_tracking(self.bpffs, program, link.interface.index, now_ns)

    def _attach_xdp(self, link: Link, program: Fd, new: Attachment, old: Attachment | None) -> str:
        index, where = link.interface.index, new.interface
        if old is None:
            return attach.xdp_first(index, program, new.mode, where)
        mode = old.mode if new.mode is Mode.AUTO else new.mode
        if mode is not old.mode:
            return self._change_mode(link, program, new, old)
        with self._expected(link, old) as expected:
            attach.xdp_set(index, program, mode, expected, where)
        return ""

    @contextmanager
    def _expected(self, link: Link, old: Attachment) -> Iterator[Fd | None]:
        """Open the program that the interface runs, to be named in a swap; None if it is ours
        and no pin leads to it any more.

        Raises HeldByOther if it is neither.
        """
        number = link.xdp.program_id if link.xdp else 0
        if self.bpffs.exists(old.program):
            with self.bpffs.open(old.program) as fd:
                if bpf.program_info(fd).id == number:
                    yield fd
                    return
        if number not in self.ours:
            raise HeldByOther(f"{old.interface} changed hands: it now runs program id {number}")
        yield None

    def _change_mode(self, link: Link, program: Fd, new: Attachment, old: Attachment) -> str:
        """Move between native and generic. The kernel allows no overlap of the two, so this is
        the one replacement with a gap; if the new mode is refused, the old one returns."""
        index, where = link.interface.index, new.interface
        attach.xdp_clear(index, old.mode, None, where)
        try:
            attach.xdp_new(index, program, new.mode, where)
        except KernelError:
            with suppress(KernelError), self.bpffs.open(old.program) as before:
                attach.xdp_new(index, before, old.mode, where)
            raise
        return f"mode changed from {old.mode} to {new.mode}"

    def _detach(self, old: Attachment) -> None:
        link = self.netlink.link(old.interface)
        match old.mode:
            case Mode.TCX:
                attach.tcx_clear(self.bpffs, old)
            case Mode.CLSACT if link is not None:
                attach.clsact_clear(link.interface.index, old)
            case Mode.NATIVE | Mode.GENERIC if link is not None:
                self._detach_xdp(link, old)
            case _:
                return

    def _detach_xdp(self, link: Link, old: Attachment) -> None:
        if link.xdp is None:
            return
        with self._expected(link, old) as expected:
            attach.xdp_clear(link.interface.index, old.mode, expected, old.interface)

    def _link(self, wanted: Attachment) -> Link:
        link = self.netlink.link(wanted.interface)
        if link is None:
            raise Waiting(f"interface {wanted.interface} is not there (any more)")
        return link
