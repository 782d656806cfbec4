// SPDX-License-Identifier: GPL-2.0-only
/* EBPFNetworkPolicy and EBPFContainerPolicy on a workload: what its sockets
 * receive and send. Closed and open on error as judge.h says.
 */
#define FOS1_AT_CGROUP 1

#include <fos1/limits.h>
#include <fos1/sender.h>

/* Judge a packet that is not known; return what the program shall return. */
static __always_inline int judge(struct hook *hook, u64 cgroup)
{
	struct asked asked = { .bytes = hook->skb->len };
	struct seen seen = {};
	enum fos1_reason reason;

	hook->asked = &asked;
	hook->seen = &seen;
	reason = judge_hook(hook, 0);
	if (reason == FOS1_DROP_CONTAINER_POLICY)
		return workload_denied(hook->skb, cgroup);
	if (is_dropped(reason))
		return WORKLOAD_DROP;
	return workload_limits(hook->skb, cgroup, hook->way, asked.bytes);
}

static __always_inline int run(struct __sk_buff *skb, u32 way)
{
	u64 cgroup = bpf_skb_cgroup_id(skb);
	struct fos1_place_key key = {};
	struct packet packet = {};
	struct layout layout = {};
	struct hook hook = {
		.skb = skb, .key = &key, .packet = &packet, .layout = &layout
	};

	if (find_workload_place(&hook, cgroup, way) && !hook_is_idle(&hook) &&
	    !hook_passes(&hook, 0))
		return judge(&hook, cgroup);
	return workload_limits(skb, cgroup, way, skb->len);
}

SEC("cgroup_skb/ingress")
int fos1_cgroup_receive(struct __sk_buff *skb)
{
	return run(skb, 0);
}

SEC("cgroup_skb/egress")
int fos1_cgroup_send(struct __sk_buff *skb)
{
	return run(skb, 1);
}

char LICENSE[] SEC("license") = "GPL";
