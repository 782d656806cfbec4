/* SPDX-License-Identifier: GPL-2.0-only */
/* Packets of flows that NAT knows. */
#ifndef FOS1_NAT_KNOWN_H
#define FOS1_NAT_KNOWN_H

#include <linux/pkt_cls.h>
#include <linux/if_ether.h>

#include <fos1/nat_rewrite.h>
#include <fos1/nat_rule.h>

#define NAT_DROP(policy, what)           \
	({                               \
		NAT_COUNT(policy, what); \
		TC_ACT_SHOT;             \
	})

/* Tell the hooks behind. */
static __always_inline void nat_mark(struct __sk_buff *skb, u32 way,
				     u32 interface)
{
	u32 mark = interface ? FOS1_NAT_CROSSED : FOS1_NAT_TURNED;

	skb->tc_index = way == FOS1_NAT_IN ? mark : 0;
}

/* Count a packet that was translated. */
static __always_inline void nat_count_packet(u32 policy, u32 bytes,
					     bool is_other)
{
	struct fos1_nat_stat *stat = nat_stat(policy);

	if (!stat)
		return;
	stat->packets++;
	stat->bytes += bytes;
	stat->other += is_other;
}

#ifdef NAT_64
#include <fos1/nat64_translate.h>
#else
/* Say what this hook's end of the packet becomes. */
static __always_inline void nat_plan(struct nat *nat, const __be32 *address,
				     __be16 port)
{
	struct nat_change *change = &nat->change;

	nat_copy(change->old_address, nat_old_address(&nat->key));
	nat_copy(change->new_address, address);
	change->old_port = nat_old_port(&nat->key);
	change->new_port = port;
	change->is_source = nat->key.way == FOS1_NAT_OUT;
	change->protocol = nat->key.protocol;
	change->has_port = nat_has_port(nat->key.protocol) && change->old_port;
}

/* Give this hook's end of the packet at hand another address and port. */
static __always_inline int nat_translate(struct __sk_buff *skb, struct nat *nat,
					 const __be32 *address, __be16 port,
					 u32 policy)
{
	nat_plan(nat, address, port);
	if (!NAT_OF(nat_rewrite)(skb))
		return TC_ACT_SHOT;
	nat_count_packet(policy, wire_bytes(skb, nat->layout.payload),
			 !nat_has_port(nat->key.protocol));
	nat_mark(skb, nat->way, nat->interface);
	return TC_ACT_UNSPEC;
}

#endif

static __always_inline bool nat_has_ended(struct nat *nat, const nat_flow *flow,
					  const struct fos1_nat_policy *policy)
{
	return nat->now_ns > flow->until_ns || !policy ||
	       flow->interface != nat->interface ||
	       (flow->generation != nat_generation() &&
		!nat_still_holds(nat, &nat->key, flow, policy));
}

/* Translate the packet at hand by its flow, living and by these rules, and
 * write down what it says of that; false if it has none.
 */
__noinline int NAT_OF(nat_follow)(struct __sk_buff *skb)
{
	struct nat *nat = nat_here();
	struct fos1_nat_policy *policy;
	nat_flow *flow;

	if (!nat || !skb)
		return false;
	flow = bpf_map_lookup_elem(&nat_flows, &nat->key);
	if (!flow ||
	    (nat->way == FOS1_NAT_IN && flow->interface != nat->interface))
		return false;
	policy = nat_policy_by_id(flow->policy);
	nat_map_far(nat, policy);
	if (nat_has_ended(nat, flow, policy)) {
		nat_forget(nat, &nat->key, flow);
		return false;
	}
	nat_touch(nat, &nat->key, flow, policy);
	nat_copy(nat->lead.address, NAT_WORDS_OF(flow->address));
	nat->lead.port = flow->port;
	nat->lead.policy = flow->policy;
	return true;
}

#endif
