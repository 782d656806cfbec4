"""A user's BCC C, compiled on the router by a short-lived child.

bcc is a distribution package with LLVM in it, so it runs under the system's Python in a process
of its own (kernel/bcc_child.py) and never in the daemon. The child hands the loaded program back
over a socket.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from array import array
from pathlib import Path

from fos1d.errors import SourceProgramError, VerifierError
from fos1d.kernel.bpf import Fd
from fos1d.model.objects import CgroupHook, Hook, UserSource

CHILD = Path(__file__).with_name("bcc_child.py")
PYTHON = "/usr/bin/python3"
TIMEOUT_S = 60
NO_HEADERS = ("autoconf.h' file not found", "Unable to find kernel headers", "chdir(/lib/modules/")
HEADERS_HINT = (
    f"; bcc needs the running kernel's headers: install linux-headers-{os.uname().release}"
)


def load_bcc(code: UserSource, hook: Hook | CgroupHook, chain: tuple[int, int] | None) -> Fd:
    """Compile and load a BCC program; `chain` is the descriptor and slot of its successor.

    Raises SourceProgramError with the compiler's words, VerifierError with the verifier's.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        inherited = [theirs.fileno()] + ([chain[0]] if chain else [])
        kind = "cgroup_skb" if isinstance(hook, CgroupHook) else "xdp"
        arguments = [code.function, kind, str(theirs.fileno()), *map(str, chain or ())]
        done = _run([PYTHON, "-I", str(CHILD), *arguments], code, inherited)
        theirs.close()
        return _received(ours, code, done)


def _run(
    command: list[str], code: UserSource, inherited: list[int]
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            command,
            input=code.read(),
            capture_output=True,
            timeout=TIMEOUT_S,
            pass_fds=inherited,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SourceProgramError(f"{code.path}: compiling took more than {TIMEOUT_S} s") from error
    except OSError as error:
        raise SourceProgramError(f"{code.path}: {PYTHON}: {error.strerror}") from error


def _received(
    connection: socket.socket, code: UserSource, done: subprocess.CompletedProcess[bytes]
) -> Fd:
    message, control, _, _ = connection.recvmsg(1 << 20, socket.CMSG_SPACE(4))
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            return Fd(array("i", data)[0])
    said = (done.stdout + done.stderr).decode("utf-8", "replace").strip()
    answer = json.loads(message) if message else {"error": "it ended without an answer"}
    if answer.get("verifier"):
        raise VerifierError(f"{code.path}: {answer['error']}", said)
    hint = HEADERS_HINT if any(sign in said + answer["error"] for sign in NO_HEADERS) else ""
    raise SourceProgramError(f"{code.path}: {answer['error']}{hint}\n{said}".strip())
