// SPDX-License-Identifier: GPL-2.0-only
/* The least that programs on a cgroup can do. */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

SEC("cgroup_skb/ingress")
int empty_receive(struct __sk_buff *skb)
{
	return 1;
}

SEC("cgroup_skb/egress")
int empty_send(struct __sk_buff *skb)
{
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
