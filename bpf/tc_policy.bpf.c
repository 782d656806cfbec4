// SPDX-License-Identifier: GPL-2.0-only
/* EBPFNetworkPolicy on an interface: what comes in and what leaves, forwarded
 * or the router's own. Closed and open on error as judge.h says.
 */
#define FOS1_AT_CGROUP 0

#include <fos1/police.h>
#include <fos1/steer.h>

FOS1_CONFIG(u32, link_header_bytes,
	    "bytes before the network header: 14, or 0 on a bare IP link");

static __always_inline int judge(struct hook *hook)
{
	struct asked asked = {};
	struct seen seen = {};
	enum fos1_reason reason;

	hook->asked = &asked;
	hook->seen = &seen;
	reason = judge_hook(hook, link_header_bytes);
	if (is_dropped(reason))
		return TC_ACT_SHOT;
	/* An ICMP error was judged in another's stead and goes as it is. */
	if (reason == FOS1_PASS_RELATED)
		return TC_ACT_UNSPEC;
	return steer(hook->skb, hook->packet, hook->layout->network, &asked,
		     hook->way);
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
