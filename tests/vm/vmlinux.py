"""vmlinux.py VMLINUZ OUT: unpack a kernel, whose own unpacking is what takes long in emulation."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

# Magic of the compressed kernel, and what unpacks it and ignores the size that follows it.
UNPACKERS = {
    b"\xfd7zXZ\0": ("xz", "-dc", "--single-stream"),
    b"\x28\xb5\x2f\xfd": ("zstd", "-dcq"),
    b"\x1f\x8b": ("gzip", "-dc"),
}


def unpack(image: bytes) -> bytes:
    """Return the ELF file in a bzImage (Documentation/arch/x86/boot.rst, header fields)."""
    sectors = image[0x1F1] or 4
    offset, size = struct.unpack_from("<II", image, 0x248)
    start = (sectors + 1) * 512 + offset
    packed = image[start : start + size]
    command = next(words for magic, words in UNPACKERS.items() if packed.startswith(magic))
    done = subprocess.run(command, input=packed, capture_output=True, check=False, timeout=120)
    if not done.stdout.startswith(b"\x7fELF"):
        raise SystemExit(f"{command[0]} found no kernel: {done.stderr.decode()}")
    return done.stdout


if __name__ == "__main__":
    Path(sys.argv[2]).write_bytes(unpack(Path(sys.argv[1]).read_bytes()))
