/* SPDX-License-Identifier: GPL-2.0-only */
/* Hairpins: insiders who reach each other by outside addresses (RFC 4787,
 * REQ-9). A packet is two flows': where it comes in by an inside interface, the
 * one by which its target is known changes the destination; where it leaves by
 * one, its sender's changes the source. Between, it is forwarded like others.
 */
#ifndef FOS1_NAT_TURN_H
#define FOS1_NAT_TURN_H

#include <fos1/nat_begin.h>

/* Find whom an outside endpoint is of, nat->lead, and by which policy. is_end:
 * an end, which filtering protects, and no declared port.
 */
static __always_inline struct fos1_nat_policy *nat_find_target(struct nat *nat,
							       bool *is_end)
{
	struct fos1_nat_policy *policy;

	*is_end = false;
	if (!nat_find_declared(nat, false)) {
		switch (nat_find_owner(nat)) {
		case NAT_ROUTER:
			return NULL;
		case NAT_INSIDER:
			*is_end = true;
			return nat_policy_of_lead(nat);
		case NAT_NOBODY:
			if (nat->packet.is_later_fragment ||
			    !nat_find_declared(nat, true))
				return NULL;
		}
	}
	policy = nat_policy_by_id(nat->lead.policy);
	return nat_is_none(nat->lead.address) ? NULL : policy;
}

/* The policy that gives the sender its outside end: its own at the interface
 * where the target's is, or else the target's.
 */
static __always_inline u32 nat_sender_policy(struct nat *nat, u32 interface)
{
	u32 id = nat_policy_of(nat, interface, NAT_WORDS_OF(nat->key.source));

	return id ?: nat->lead.policy;
}

/* Find or make the sender's outside end: nat->wish. */
static __always_inline bool nat_sender_end(struct __sk_buff *skb,
					   struct nat *nat, u32 id,
					   const struct fos1_nat_policy *policy)
{
	const nat_flow_key *key = &nat->key;
	struct nat_wish *wish = &nat->wish;
	nat_port *rule;

	nat_make_wish(nat, id, policy);
	if (nat_has_mirrors) {
		rule = nat_port_of(nat, FOS1_NAT_OUT, NAT_WORDS_OF(key->source),
				   key->source_port, key->protocol);
		if (rule) {
			nat_copy(wish->external, NAT_WORDS_OF(rule->address));
			wish->found = rule->port ?: key->source_port;
			return true;
		}
	}
	return !nat_is_none(wish->external) &&
	       (!nat_has_port(key->protocol) || nat_allocate(skb, nat, policy));
}

/* Each attempt opens the sender's own end to the target's, so that two who try
 * each other meet.
 */
static __always_inline void
nat_note_attempt(struct nat *nat, const struct fos1_nat_policy *policy)
{
	const nat_flow_key *key = &nat->key;
	bool by_port = policy->filtering == FOS1_NAT_FILTER_PORT;

	if (policy->filtering == FOS1_NAT_FILTER_NONE ||
	    !nat_has_port(key->protocol))
		return;
	nat_note_peer(nat, NAT_WORDS_OF(key->dest),
		      by_port ? key->dest_port : 0, key->protocol,
		      nat->wish.external, nat->wish.found,
		      nat_until(nat, policy, key->protocol, 0));
}

/* Whether the flow nat->out -> nat->flow is there. */
static __always_inline bool nat_is_there(struct nat *nat)
{
	nat_flow *found = bpf_map_lookup_elem(&nat_flows, &nat->out);

	return found && nat->now_ns <= found->until_ns &&
	       found->interface == nat->interface &&
	       found->port == nat->flow.port &&
	       nat_same(NAT_WORDS_OF(found->address),
			NAT_WORDS_OF(nat->flow.address));
}

/* Begin the sender's flow, to nat->lead. */
static __always_inline int
nat_begin_sender(struct __sk_buff *skb, struct nat *nat, u32 id,
		 const struct fos1_nat_policy *policy)
{
	if (nat_is_over_limit(id, policy))
		return NAT_FAIL(nat, id, limited);
	nat->out = nat->key;
	nat->out.way = FOS1_NAT_OUT;
	nat_copy(NAT_WORDS_OF(nat->out.dest), nat->lead.address);
	nat->out.dest_port = nat->lead.port;
	nat_new_flow(nat, id, policy, FOS1_NAT_OUT, FOS1_NAT_HAIRPINNED);
	nat_copy(NAT_WORDS_OF(nat->flow.address), nat->wish.external);
	nat->flow.port = nat->wish.found;
	return nat_is_there(nat) ? TC_ACT_UNSPEC : NAT_OF(nat_begin)(skb);
}

/* Begin both flows of the packet at hand; undo the one if the other fails. */
static __always_inline int nat_begin_both(struct __sk_buff *skb,
					  struct nat *nat, u32 id,
					  const struct fos1_nat_policy *sender,
					  const struct fos1_nat_policy *target)
{
	int verdict;
	nat_flow *made;

	nat->lead.bits |= FOS1_NAT_HAIRPINNED;
	verdict = nat_begin_dest(skb, nat, target);
	if (verdict != TC_ACT_UNSPEC)
		return verdict;
	verdict = nat_begin_sender(skb, nat, id, sender);
	if (verdict == TC_ACT_UNSPEC)
		return verdict;
	made = bpf_map_lookup_elem(&nat_flows, &nat->key);
	if (made)
		nat_forget(nat, &nat->key, made);
	return verdict;
}

/* What comes in by an inside interface for an outside address. */
__noinline int NAT_OF(nat_begin_turn)(struct __sk_buff *skb)
{
	struct fos1_nat_policy *target, *sender;
	struct nat *nat = nat_here();
	bool is_end;
	int verdict;
	u32 id;

	if (!nat || nat->parsed != PARSED_IP)
		return TC_ACT_UNSPEC;
	target = nat_find_target(nat, &is_end);
	if (!target || !(target->flags & FOS1_NAT_HAIRPIN))
		return TC_ACT_UNSPEC;
	id = nat_sender_policy(nat, target->interface);
	sender = nat_policy_by_id(id);
	if (!sender || !nat_may_begin(nat))
		return nat_refuse(nat, id);
	if (!nat_sender_end(skb, nat, id, sender))
		return NAT_DROP(id, exhausted);
	nat_note_attempt(nat, sender);
	if (is_end &&
	    !nat_lets_in(nat, nat->wish.external, nat->wish.found, target))
		return NAT_DROP(nat->lead.policy, filtered);
	verdict = nat_begin_both(skb, nat, id, sender, target);
	if (verdict != TC_ACT_UNSPEC)
		return verdict;
	return nat_translate(skb, nat, nat->lead.address, nat->lead.port,
			     nat->lead.policy);
}

/* What leaves by an inside interface, turned, and whose sender's flow is gone:
 * so must the target's be, and the next packet begins both anew.
 */
__noinline int NAT_OF(nat_end_turn)(struct __sk_buff *skb)
{
	struct nat *nat = nat_here();
	nat_flow *flow;

	if (!nat || !skb)
		return TC_ACT_SHOT;
	nat_copy(NAT_WORDS_OF(nat->out.source), NAT_WORDS_OF(nat->key.dest));
	nat_copy(NAT_WORDS_OF(nat->out.dest), NAT_WORDS_OF(nat->key.source));
	nat->out.source_port = nat->key.dest_port;
	nat->out.dest_port = nat->key.source_port;
	nat->out.protocol = nat->key.protocol;
	nat->out.way = FOS1_NAT_OUT;
	flow = bpf_map_lookup_elem(&nat_flows, &nat->out);
	if (flow && !flow->interface)
		nat_forget(nat, &nat->out, flow);
	return TC_ACT_SHOT;
}

#endif
