/* SPDX-License-Identifier: GPL-2.0-only */
/* What the router itself sends from an outside address: it has its port to
 * itself, unless somebody inside had it before.
 */
#ifndef FOS1_NAT_OWN_H
#define FOS1_NAT_OWN_H

#include <fos1/nat_begin.h>

/* Ports that answer strangers are held no longer than these need. */
static __always_inline u64 nat_own_until(const struct nat *nat,
					 const struct fos1_nat_policy *policy)
{
	return nat_until(nat, policy, nat->key.protocol, 0);
}

/* Reserve the sender's port, if it is free, so that nobody inside gets it. */
static __always_inline int nat_reserve(struct __sk_buff *skb, struct nat *nat)
{
	struct nat_wish *wish = &nat->wish;

	nat_copy(wish->inside, NAT_WORDS_OF(nat->key.source));
	nat_copy(wish->external, NAT_WORDS_OF(nat->key.source));
	wish->port = nat->key.source_port;
	wish->protocol = nat->key.protocol;
	wish->policy = 0;
	wish->is_own = true;
	NAT_OF(nat_try_port)(skb, wish->port);
	return TC_ACT_UNSPEC;
}

/* Whether somebody inside has the very tuple that the router now uses. */
static __always_inline bool nat_clashes(struct nat *nat)
{
	nat_flow *flow;

	nat_copy(NAT_WORDS_OF(nat->in.source), NAT_WORDS_OF(nat->key.dest));
	nat_copy(NAT_WORDS_OF(nat->in.dest), NAT_WORDS_OF(nat->key.source));
	nat->in.source_port = nat->key.dest_port;
	nat->in.dest_port = nat->key.source_port;
	nat->in.protocol = nat->key.protocol;
	nat->in.way = FOS1_NAT_IN;
	nat->in.pad = 0;
	flow = bpf_map_lookup_elem(&nat_flows, &nat->in);
	return flow && nat->now_ns <= flow->until_ns;
}

/* What the router sends from a port that somebody inside holds: as it is, where
 * no packet of that one can be meant; else from another port.
 */
static __always_inline int nat_give_way(struct __sk_buff *skb, struct nat *nat,
					u32 id,
					const struct fos1_nat_policy *policy)
{
	if (NAT_OF(nat_follow)(skb))
		return nat_translate(skb, nat, nat->lead.address,
				     nat->lead.port, nat->lead.policy);
	if (!nat_clashes(nat))
		return TC_ACT_UNSPEC;
	return nat_begin_source(skb, nat, id, policy);
}

__noinline int NAT_OF(nat_own)(struct __sk_buff *skb)
{
	struct nat *nat = nat_here();
	const struct fos1_nat_policy *policy;
	nat_end *end;
	u32 id;

	if (!nat || nat->parsed != PARSED_IP || nat->packet.is_later_fragment ||
	    !nat->key.source_port || !nat_has_port(nat->key.protocol))
		return TC_ACT_UNSPEC;
	id = nat_policy_at(nat, NAT_WORDS_OF(nat->key.source));
	policy = nat_policy_by_id(id);
	if (!id || !policy || policy->interface != nat->interface)
		return TC_ACT_UNSPEC;
	nat_end_in(&nat->end_key, nat->key.protocol,
		   NAT_WORDS_OF(nat->key.source), nat->key.source_port);
	end = nat_living_end(&nat->end_key, nat->now_ns);
	if (!end)
		return nat_reserve(skb, nat);
	if (!nat_same(NAT_WORDS_OF(end->address),
		      NAT_WORDS_OF(nat->key.source)))
		return nat_give_way(skb, nat, id, policy);
	end->until_ns = nat_own_until(nat, policy);
	return TC_ACT_UNSPEC;
}

#endif
