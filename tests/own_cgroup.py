"""A small program of a user's own for cgroups: it counts what it sees, and drops a port."""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path

from tests import lab

SOURCE = r"""
#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#ifndef DROPPED
#define DROPPED 7
#endif
enum { FAMILY_4 = 2, FAMILY_6 = 10 };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

/* By direction and version: 0 and 1 received, 2 and 3 sent. */
static __always_inline int judge(struct __sk_buff *skb, __u32 way)
{
	__u32 is_6 = skb->protocol == bpf_htons(0x86dd);
	__u32 slot = 2 * way + is_6;
	__u64 *count = bpf_map_lookup_elem(&seen, &slot);
	__be16 ports[2] = {};
	__u8 protocol = 0;

	if (count)
		__sync_fetch_and_add(count, 1);
	bpf_skb_load_bytes(skb, is_6 ? 6 : 9, &protocol, 1);
	bpf_skb_load_bytes(skb, is_6 ? 40 : 20, ports, 4);
	return protocol != IPPROTO_UDP || ports[1] != bpf_htons(DROPPED);
}

SEC("cgroup_skb/ingress") int receives(struct __sk_buff *skb) { return judge(skb, 0); }
SEC("cgroup_skb/egress") int sends(struct __sk_buff *skb) { return judge(skb, 1); }
SEC("cgroup/skb") int both(struct __sk_buff *skb) { return judge(skb, !skb->ingress_ifindex); }
SEC("cgroup/connect4") int connects(struct bpf_sock_addr *ctx)
{
	return ctx->user_port != bpf_htons(DROPPED);
}
SEC("cgroup/dev") int opens(struct bpf_cgroup_dev_ctx *ctx) { return ctx->minor != DROPPED; }
SEC("cgroup/sock_create") int creates(struct bpf_sock *ctx) { return ctx->type != DROPPED; }
SEC("sockops") int hears(struct bpf_sock_ops *ctx) { return 1; }
SEC("cgroup_skb/egress") int refused(struct __sk_buff *skb)
{
	return *(volatile int *)(long)skb->hash;
}
SEC("xdp") int elsewhere(struct xdp_md *ctx) { return XDP_PASS; }
char L[] SEC("license") = "GPL";
"""


@cache
def own_object(dropped: int = 7) -> bytes:
    """Return the compiled object, whose programs drop UDP to a port."""
    triple = lab.command("gcc", "-print-multiarch").strip()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "own.c").write_text(SOURCE)
        words = ["clang-19", "-O2", "-g", "-target", "bpf", f"-I/usr/include/{triple}"]
        words += [f"-DDROPPED={dropped}", "-c", "own.c", "-o", "own.o"]
        subprocess.run(words, cwd=folder, check=True, timeout=60)
        return (Path(folder) / "own.o").read_bytes()
