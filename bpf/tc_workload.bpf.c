// SPDX-License-Identifier: GPL-2.0-only
/* What EBPFNetworkPolicy does to packets that workloads send, besides letting
 * them pass: marks and routes. A cgroup's programs cannot change packets, so it
 * is done where they leave the router, as long as they have their socket.
 *
 * Open on error: the packet was judged and counted at its cgroup.
 */
#define FOS1_AT_CGROUP 0

#include <fos1/sender.h>
#include <fos1/steer.h>

FOS1_CONFIG(u32, link_header_bytes,
	    "bytes before the network header: 14, or 0 on a bare IP link");

static __always_inline void note_effect(const struct fos1_policy_rule *rule,
					struct asked *asked)
{
	if (rule->action == FOS1_ACT_MARK)
		asked->dscp_plus_1 = rule->dscp + 1;
	if (rule->action == FOS1_ACT_ROUTE && !asked->route_plus_1)
		asked->route_plus_1 = rule->route + 1;
}

/* Visit the next rule that applies; 1 when there is no more to do. */
static long visit_effect(u32 step, void *context)
{
	struct visit *visit = context;
	struct fos1_policy_rule *rule;
	u32 at;

	(void)step;
	if (walk_is_over(&visit->walk))
		return 1;
	if (!walk_on(&visit->walk))
		return 0;
	at = visit->walk.rule_base + walk_take(&visit->walk);
	rule = bpf_map_lookup_elem(&policy_rules, &at);
	if (!rule || decides(rule))
		return 1;
	note_effect(rule, visit->asked);
	return 0;
}

/* Ask the rules up to the one that decides what they do to the packet. */
static __always_inline void ask_effects(struct hook *hook)
{
	struct question *question = &hook->asked->question;
	struct fos1_policy_chain_head *head;
	u32 chain = FOS1_CHAIN_OUT;
	struct visit visit = { .asked = hook->asked };

	head = bpf_map_lookup_elem(&policy_heads, &chain);
	if (!head)
		return;
	ask_about_peer(hook);
	question->chain = chain;
	question->service = service_of(hook->packet, false);
	question->subject = hook->place->vector[FOS1_CHAIN_OUT];
	policy_walk(&visit.walk, question, head);
	bpf_loop(CLASSIFY_STEPS, visit_effect, &visit, 0);
}

/* ICMP errors go as they are, as they do at interfaces. */
static __always_inline int apply_effects(struct hook *hook)
{
	struct packet packet;
	struct layout layout = {};
	struct asked asked = {};

	hook->packet = &packet;
	hook->layout = &layout;
	hook->asked = &asked;
	if (read_hook(hook, link_header_bytes) != PARSED_IP ||
	    is_icmp_error(&packet))
		return TC_ACT_UNSPEC;
	ask_effects(hook);
	return steer(hook->skb, &packet, layout.network, &asked, STEER_SENT);
}

SEC("tc")
int fos1_tc_workload_out(struct __sk_buff *skb)
{
	u64 cgroup = bpf_skb_cgroup_id(skb);
	struct fos1_place_key key = {};
	struct hook hook = { .skb = skb, .key = &key };

	if (!cgroup || !find_workload_place(&hook, cgroup, 1) ||
	    !(hook.flags & FOS1_PLACE_EFFECTS))
		return TC_ACT_UNSPEC;
	return apply_effects(&hook);
}

char LICENSE[] SEC("license") = "GPL";
