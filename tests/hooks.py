"""Programs for every hook of a cgroup that allow all or refuse all: `connect4_1`, `connect4_0`."""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path

from tests import lab

SECTIONS = {
    "cgroup_ingress": ("cgroup_skb/ingress", "__sk_buff"),
    "cgroup_egress": ("cgroup_skb/egress", "__sk_buff"),
    "sock_create": ("cgroup/sock_create", "bpf_sock"),
    "sock_release": ("cgroup/sock_release", "bpf_sock"),
    "connect4": ("cgroup/connect4", "bpf_sock_addr"),
    "connect6": ("cgroup/connect6", "bpf_sock_addr"),
    "sendmsg4": ("cgroup/sendmsg4", "bpf_sock_addr"),
    "sendmsg6": ("cgroup/sendmsg6", "bpf_sock_addr"),
    "sock_ops": ("sockops", "bpf_sock_ops"),
    "device": ("cgroup/dev", "bpf_cgroup_dev_ctx"),
}


def source() -> str:
    """Return the programs in C. Not all hooks may refuse: sock_release and sock_ops cannot."""
    functions = [
        f'SEC("{section}") int {name}_{verdict}(struct {context} *ctx) {{ return {value}; }}'
        for name, (section, context) in SECTIONS.items()
        for verdict in (0, 1)
        for value in (1 if name.startswith("sock_") else verdict,)
    ]
    head = (
        '#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\nchar L[] SEC("license") = "GPL";\n'
    )
    return head + "\n".join(functions)


@cache
def cgroup_object() -> bytes:
    """Return the compiled object file."""
    triple = lab.command("gcc", "-print-multiarch").strip()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "hooks.c").write_text(source())
        words = ["clang-19", "-O2", "-g", "-target", "bpf", f"-I/usr/include/{triple}"]
        subprocess.run([*words, "-c", "hooks.c", "-o", "h.o"], cwd=folder, check=True, timeout=60)
        return (Path(folder) / "h.o").read_bytes()
