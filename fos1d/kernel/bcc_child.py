"""Compile one BCC C program from standard input, load it as XDP and send it over a socket.

    bcc_child.py FUNCTION SOCKET_FD [CHAIN_FD SLOT]

Run by the system's Python, which has bcc; it must not import fos1d. The answer is a JSON object
{"error", "verifier"} or, with the program's descriptor attached, {}.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from array import array
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

XDP = 6


def answer(connection: socket.socket, error: str, verifier: bool = False) -> int:
    message = json.dumps({"error": error, "verifier": verifier}).encode()
    connection.sendall(message)
    return 1


def load(bpf_module: object, text: bytes, function: bytes, chain: list[int]) -> int:
    """Return the descriptor of the loaded program."""
    from bcc import BPF, libbcc  # type: ignore[import-untyped]
    from wrap import wrapped  # type: ignore[import-not-found]

    program = BPF(text=text)
    loaded = program.load_func(function, BPF.XDP)
    if not chain:
        return int(loaded.fd)
    code = wrapped(program.dump_func(function), *chain)
    number = libbcc.lib.bcc_prog_load(XDP, function[:15], code, len(code), b"GPL", 0, 0, None, 0)
    if number < 0:
        raise OSError("the verifier refused the program before its successor")
    return int(number)


def main(function: str, connection_fd: str, *chain: str) -> int:
    connection = socket.socket(fileno=int(connection_fd))
    try:
        import bcc
    except ImportError as error:
        return answer(connection, f"bcc is not installed ({error}): install python3-bpfcc")
    try:
        number = load(bcc, sys.stdin.buffer.read(), function.encode(), [int(n) for n in chain])
    except Exception as error:  # bcc raises bare Exception for all that goes wrong
        text = str(error)
        refused = "load" in text.lower() or "ermission" in text
        return answer(connection, text, verifier=refused)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [number]))]
    connection.sendmsg([b"{}"], rights)
    return 0


if __name__ == "__main__":
    os.environ.pop("PYTHONPATH", None)
    sys.exit(main(*sys.argv[1:]))
