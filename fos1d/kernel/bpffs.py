"""Our folder on bpffs. Every pin is made and removed here, and nothing outside the folder is,
but for users' aliases; model/pins.py has the layout.
"""

from __future__ import annotations

import ctypes
import errno
import os
from bisect import bisect_left
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from fos1d.errors import KernelError, PermissionMissing
from fos1d.kernel import bpf
from fos1d.kernel.bpf import Fd
from fos1d.model.pins import decode, encode

BPF_FS_MAGIC = 0xCAFE4A11
STAGED = "~staged-"


@dataclass(frozen=True, slots=True)
class Listing:
    """What one walk found below our root, sorted: pins, notes, and pins half-made."""

    paths: tuple[str, ...]

    def below(self, folder: str) -> tuple[str, ...]:
        """Return the pins and notes below a folder."""
        begin, end = (bisect_left(self.paths, f"{folder}{sign}") for sign in "/0")
        return tuple(path for path in self.paths[begin:end] if not _is_staged(path))

    def __contains__(self, path: str) -> bool:
        place = bisect_left(self.paths, path)
        return place < len(self.paths) and self.paths[place] == path


class Bpffs:
    """Pins below one root. Paths are relative to it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self, path: str) -> Fd:
        """Open a pin."""
        return bpf.get(f"{self.root}/{path}")

    def exists(self, path: str) -> bool:
        """Whether something is pinned there."""
        return (self.root / path).exists()

    def put(self, fd: Fd, path: str) -> None:
        """Pin an object at `path`, over whatever of ours is there, in one step."""
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        staged = place.with_name(f"{STAGED}{token_hex(4)}")
        bpf.pin(fd, staged)
        try:
            staged.rename(place)
        except OSError as error:
            staged.unlink(missing_ok=True)
            raise KernelError(f"pin at {place}: {error.strerror}", error.errno or 0) from error

    def remove(self, path: str) -> None:
        """Remove a pin, and the folders that it leaves empty."""
        place = self.root / path
        place.unlink(missing_ok=True)
        self._prune(place.parent)

    def _prune(self, folder: Path) -> None:
        while folder != self.root and folder.is_relative_to(self.root):
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent

    def pins(self, folder: str) -> Iterator[str]:
        """Yield the pins below `folder`, sorted."""
        yield from self.listing(folder).below(folder)

    def listing(self, folder: str = "") -> Listing:
        """Walk once over all that is below `folder`."""
        return Listing(tuple(sorted(_walk(str(self.root), folder))))

    def alias_record(self, path: str) -> Path:
        """Return the symlink that remembers our pin at the user's `path`."""
        return self.root / "alias" / encode(path.replace("/", "::"))

    def aliases(self) -> Iterator[tuple[str, int]]:
        """Yield the users' paths at which we pinned a map, with the map's id."""
        folder = self.root / "alias"
        for record in sorted(folder.iterdir()) if folder.is_dir() else []:
            text = str(record.readlink())
            path = decode(record.name.replace("::", "/"))
            yield path, int(text) if text.isdecimal() else 0

    def remember_alias(self, path: str, map_id: int) -> None:
        """Remember that the pin at the user's `path` is our map of that id."""
        self._link(self.alias_record(path), str(map_id))

    def forget_alias(self, path: str) -> None:
        """Forget the pin at the user's `path`."""
        record = self.alias_record(path)
        record.unlink(missing_ok=True)
        self._prune(record.parent)

    def mark(self, path: str, text: str) -> None:
        """Leave a note: a symlink whose target is the text."""
        self._link(self.root / path, text)

    def marked(self, path: str) -> str | None:
        """Return the note at `path`, or None."""
        place = self.root / path
        return str(place.readlink()) if place.is_symlink() else None

    def tidy(self, clsact: Collection[str]) -> Listing:
        """Remove what a crash, or a stranger, left without meaning: pins half-made, ledgers of
        maps that are gone, and notes on clsact qdiscs of interfaces other than `clsact`.

        Return what is left.
        """
        found = self.listing()
        leftovers = [path for path in found.paths if _has_no_meaning(path, found, clsact)]
        for path in leftovers:
            self.remove(path)
        return self.listing() if leftovers else found

    def _link(self, place: Path, text: str) -> None:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        staged = place.with_name(f"{STAGED}{token_hex(4)}")
        staged.symlink_to(text)
        staged.rename(place)

    def purge(self) -> None:
        """Remove every pin of ours."""
        for parent, folders, names in os.walk(self.root, topdown=False):
            for name in names:
                (Path(parent) / name).unlink()
            for name in folders:
                place = Path(parent) / name
                place.unlink() if place.is_symlink() else place.rmdir()


def _walk(root: str, folder: str) -> list[str]:
    """Return all that is below a folder and no folder itself, relative to the root."""
    found: list[str] = []
    folders = [folder]
    while folders:
        parent = folders.pop()
        prefix = f"{parent}/" if parent else ""
        with suppress(OSError), os.scandir(f"{root}/{parent}") as entries:
            for entry in entries:
                is_folder = entry.is_dir(follow_symlinks=False)
                (folders if is_folder else found).append(prefix + entry.name)
    return found


def _is_staged(path: str) -> bool:
    return path.rsplit("/", 1)[-1].startswith(STAGED)


def _has_no_meaning(path: str, found: Listing, clsact: Collection[str]) -> bool:
    match path.split("/", 1):
        case _ if _is_staged(path):
            return True
        case ["ledger", rest]:
            return rest.rsplit("/", 1)[0] not in found
        case ["clsact", name]:
            return decode(name) not in clsact
        case _:
            return False


class _StatFs(ctypes.Structure):
    """struct statfs, its first field; the rest is room."""

    _fields_ = [("f_type", ctypes.c_long), ("rest", ctypes.c_char * 248)]


def is_bpffs(path: Path) -> bool:
    """Whether `path`, or its nearest existing parent, lies on a BPF file system."""
    while not path.exists():
        path = path.parent
    result = _StatFs()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.statfs(os.fsencode(path), ctypes.byref(result)) != 0:
        return False
    return int(result.f_type) & 0xFFFFFFFF == BPF_FS_MAGIC


def open_root(root: Path) -> Bpffs:
    """Return our folder, mounting a BPF file system first where there is none and we may.

    Raises KernelError naming what is missing.
    """
    if not is_bpffs(root):
        _mount(_mount_point(root))
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise KernelError(f"make {root}: {error.strerror}", error.errno or 0) from error
    return Bpffs(root)


def _mount_point(root: Path) -> Path:
    usual = Path("/sys/fs/bpf")
    return usual if root.is_relative_to(usual) and usual.is_dir() else root


def _mount(place: Path) -> None:
    what = f"no BPF file system at {place}: mount one (mount -t bpf bpf {place})"
    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise KernelError(f"{what}: {error.strerror}", error.errno or 0) from error
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"bpf", os.fsencode(place), b"bpf", 0, b"mode=0700") == 0:
        return
    number = ctypes.get_errno()
    if number == errno.EPERM:
        raise PermissionMissing(f"{what}; doing so takes CAP_SYS_ADMIN", number)
    raise KernelError(f"{what}: {os.strerror(number)}", number)
