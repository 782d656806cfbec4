"""Instructions around a user's XDP program, so that another program can follow it.

A user's program ends with its verdict and knows of no chain. It is loaded as a subprogram of a
few instructions that call it and, where it lets the packet pass, tail call its successor.
(freplace, which other dispatchers use, is refused by some kernels and takes BTF of every program.)

This file is also run by the system's Python beside bcc, so it uses the standard library only.
"""

from __future__ import annotations

import struct

XDP_PASS = 2

# Opcodes of linux/bpf.h.
MOV64_REG, MOV64_IMM, LD_IMM64 = 0xBF, 0xB7, 0x18
JNE_IMM, CALL, EXIT = 0x55, 0x85, 0x95
PSEUDO_CALL, PSEUDO_MAP_FD = 1, 1
TAIL_CALL = 12


def instruction(code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    """Encode one eBPF instruction."""
    return struct.pack("=BBhi", code, dst | src << 4, off, imm)


def wrapped(program: bytes, chain_fd: int, slot: int) -> bytes:
    """Return instructions that run `program`, then the program in the chain's slot if it passes.

    r6 keeps the context across the calls; what follows the last exit is the user's program.
    """
    head = [
        instruction(MOV64_REG, dst=6, src=1),
        instruction(CALL, src=PSEUDO_CALL, imm=8),
        instruction(JNE_IMM, dst=0, off=6, imm=XDP_PASS),
        instruction(MOV64_REG, dst=1, src=6),
        instruction(LD_IMM64, dst=2, src=PSEUDO_MAP_FD, imm=chain_fd),
        instruction(0),
        instruction(MOV64_IMM, dst=3, imm=slot),
        instruction(CALL, imm=TAIL_CALL),
        instruction(MOV64_IMM, dst=0, imm=XDP_PASS),
        instruction(EXIT),
    ]
    return b"".join(head) + program
