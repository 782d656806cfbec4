"""Network namespaces, veth pairs and private BPF file systems for tests, bench and demo.

Everything is made by the test that uses it and removed by it; the root namespace's interfaces are
never touched. Needs root.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from fos1d.kernel.cgroup import Cgroupfs

CLONE_NEWNET = 0x40000000
NO_DOUBT = Path("/proc/sys/net/ipv6/conf/default/accept_dad")
_libc = ctypes.CDLL(None, use_errno=True)


def command(*words: str, timeout_s: float = 30.0, check: bool = True) -> str:
    """Run a command and return what it said; its words are in the error if it fails."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout_s, check=False)
    if check and done.returncode != 0:
        said = (done.stdout + done.stderr).strip()
        raise RuntimeError(f"{' '.join(words)} exited with {done.returncode}: {said}")
    return done.stdout


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@dataclass(frozen=True)
class Namespace:
    """A network namespace by its name below /run/netns."""

    name: str

    @property
    def path(self) -> Path:
        """The file that stands for it."""
        return Path("/run/netns") / self.name

    def ip(self, *words: str) -> str:
        """Run ip(8) in it."""
        return command("ip", "-n", self.name, *words)

    def prefix(self) -> list[str]:
        """Return the words that make a command run in it, mounts unchanged."""
        return ["nsenter", f"--net={self.path}"]

    def run(self, *words: str, timeout_s: float = 30.0, check: bool = True) -> str:
        """Run a command in it."""
        return command(*self.prefix(), *words, timeout_s=timeout_s, check=check)

    def popen(self, *words: str, **options: object) -> subprocess.Popen[bytes]:
        """Start a command in it."""
        return subprocess.Popen([*self.prefix(), *words], **options)  # type: ignore[call-overload, no-any-return]

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Move this thread into it for a while."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(self.path, os.O_RDONLY)
        try:
            _setns(there)
            yield
        finally:
            _setns(home)
            os.close(there)
            os.close(home)


@contextmanager
def namespaces(*roles: str) -> Iterator[list[Namespace]]:
    """Make namespaces, loopback up, and remove them with all that is in them.

    Nobody else is there who could have the same IPv6 address, so none is doubted (RFC 4862, 5.4).
    """
    made: list[Namespace] = []
    try:
        for role in roles:
            namespace = Namespace(f"f1-{role}-{token_hex(3)}")
            command("ip", "netns", "add", namespace.name)
            made.append(namespace)
            namespace.ip("link", "set", "dev", "lo", "up")
            with namespace.entered():
                NO_DOUBT.write_text("0")
        yield made
    finally:
        for namespace in made:
            command("ip", "netns", "del", namespace.name, check=False)


def veth(left: Namespace, left_name: str, right: Namespace, right_name: str) -> None:
    """Connect two namespaces by a veth pair, both ends up."""
    ends = ["name", left_name, "type", "veth", "peer", "name", right_name]
    left.ip("link", "add", *ends, "netns", right.name)
    left.ip("link", "set", "dev", left_name, "up")
    right.ip("link", "set", "dev", right_name, "up")


def address(namespace: Namespace, interface: str, *addresses: str) -> None:
    """Give an interface addresses; IPv6 ones are usable at once."""
    for one in addresses:
        extra: Sequence[str] = ("nodad",) if ":" in one else ()
        namespace.ip("addr", "add", one, "dev", interface, *extra)


BPF_MOUNT = Path("/sys/fs/bpf")


@contextmanager
def bpf_folder() -> Iterator[Path]:
    """Make a folder of one's own on the BPF file system, which is mounted if it is not."""
    if not BPF_MOUNT.is_mount():
        command("mount", "-t", "bpf", "bpf", str(BPF_MOUNT))
    place = BPF_MOUNT / f"f1-{token_hex(4)}"
    place.mkdir()
    try:
        yield place
    finally:
        for parent, folders, names in os.walk(place, topdown=False):
            for name in names:
                (Path(parent) / name).unlink()
            for name in folders:
                folder = Path(parent) / name
                folder.unlink() if folder.is_symlink() else folder.rmdir()
        place.rmdir()


@contextmanager
def cgroup_folder() -> Iterator[Path]:
    """Make a cgroup of one's own; it is removed with all below it, which must be empty by then."""
    root = Cgroupfs().root()
    if root is None:
        raise RuntimeError("no cgroup2 file system is mounted")
    place = root / f"f1-{token_hex(4)}"
    place.mkdir()
    try:
        yield place
    finally:
        for parent, _, _ in os.walk(place, topdown=False):
            Path(parent).rmdir()


def is_root() -> bool:
    """Whether tests that need root can run."""
    return os.geteuid() == 0
