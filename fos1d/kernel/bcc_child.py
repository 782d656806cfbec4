"""Compile one BCC C program from standard input, load it and send it over a socket.

    bcc_child.py FUNCTION KIND SOCKET_FD [CHAIN_FD SLOT]

Run by the system's Python, which has bcc; it must not import fos1d. The answer is a JSON object
{"error", "verifier"} or, with the program's descriptor attached, {}.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import socket
import struct
import sys
from array import array
from pathlib import Path
from typing import Any

# By kind: enum bpf_prog_type, and enum bpf_attach_type as far as the kernel wants it at the load.
TYPES = {"xdp": (6, 37), "cgroup_skb": (8, 0)}


def _wrap() -> Any:
    """Load wrap.py from beside this file, whatever the module path is."""
    place = Path(__file__).with_name("wrap.py")
    spec = importlib.util.spec_from_file_location("wrap", place)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load(text: bytes, function: bytes, kind: str, chain: list[int]) -> int:
    """Return the descriptor of the loaded program; bcc raises bare Exception for all mistakes.

    bcc loads it first, for its good errors; but without the attach type, by which a kernel tells
    which programs may share a chain. So it is loaded once more.
    """
    import bcc

    program = bcc.BPF(text=text)
    program.load_func(function, TYPES[kind][0])
    code = program.dump_func(function)
    return _load_again(_wrap().wrapped(code, *chain) if chain else code, function, kind)


def _load_again(code: bytes, name: bytes, kind: str) -> int:
    program_type, expected = TYPES[kind]
    # struct bpf_prog_load_opts up to expected_attach_type.
    opts = struct.pack("=Qii", 16, 0, expected)
    libbpf = ctypes.CDLL("libbpf.so.1", use_errno=True)
    number = libbpf.bpf_prog_load(
        program_type, name[:15], b"GPL", code, ctypes.c_size_t(len(code) // 8), opts
    )
    if number < 0:
        raise OSError("the verifier failed to load the program when another one follows it")
    return int(number)


def _answer(connection: socket.socket, error: str, verifier: bool = False) -> int:
    connection.sendall(json.dumps({"error": error, "verifier": verifier}).encode())
    return 1


def main(function: str, kind: str, connection_fd: str, *chain: str) -> int:
    """Do it; return the exit code."""
    connection = socket.socket(fileno=int(connection_fd))
    if importlib.util.find_spec("bcc") is None:
        return _answer(connection, "bcc is not installed: install python3-bpfcc")
    try:
        number = load(sys.stdin.buffer.read(), function.encode(), kind, [*map(int, chain)])
    except Exception as error:
        text = str(error)
        return _answer(connection, text, verifier="ailed to load" in text)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [number]))]
    connection.sendmsg([b"{}"], rights)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
