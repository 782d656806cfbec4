// SPDX-License-Identifier: GPL-2.0-only
/* EBPFNetworkPolicy on an interface: what comes in and what leaves, forwarded
 * or the router's own. Closed and open on error as judge.h says.
 */
#define FOS1_AT_CGROUP 0

#include <fos1/police.h>
#include <fos1/steer.h>

FOS1_CONFIG(u32, link_header_bytes,
	    "bytes before the network header: 14, or 0 on a bare IP link");

/* Let a packet on, marked and sent as the rules say. An ICMP error was judged
 * in another's stead and goes as it is.
 */
static __always_inline int steer(struct hook *hook, enum fos1_reason reason)
{
	u32 network = hook->layout->network;

	if (reason == FOS1_PASS_RELATED)
		return TC_ACT_UNSPEC;
	if (hook->asked->dscp_plus_1 &&
	    !write_dscp(hook->skb, network, hook->packet->is_v6,
			hook->asked->dscp_plus_1 - 1))
		count(FOS1_NOTE_ROUTE_FAILED, 0);
	if (hook->asked->route_plus_1)
		return policy_route(hook->skb, hook->packet,
				    hook->asked->route_plus_1 - 1, network,
				    hook->way);
	return TC_ACT_UNSPEC;
}

static __always_inline int judge(struct hook *hook)
{
	struct asked asked = {};
	struct seen seen = {};
	enum fos1_reason reason;

	hook->asked = &asked;
	hook->seen = &seen;
	reason = judge_hook(hook, link_header_bytes);
	return is_dropped(reason) ? TC_ACT_SHOT : steer(hook, reason);
}

static __always_inline int run(struct __sk_buff *skb, u32 way)
{
	struct fos1_place_key key = {};
	struct packet packet = {};
	struct layout layout = {};
	struct hook hook = {
		.skb = skb, .key = &key, .packet = &packet, .layout = &layout
	};

	if (!hook_find(&hook, FOS1_PLACE_INTERFACE, skb->ifindex, way) ||
	    hook_is_idle(&hook) || hook_passes(&hook, link_header_bytes))
		return TC_ACT_UNSPEC;
	return judge(&hook);
}

SEC("tc")
int fos1_tc_policy_in(struct __sk_buff *skb)
{
	return run(skb, 0);
}

SEC("tc")
int fos1_tc_policy_out(struct __sk_buff *skb)
{
	return run(skb, 1);
}

char LICENSE[] SEC("license") = "GPL";
