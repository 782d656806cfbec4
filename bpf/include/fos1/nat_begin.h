/* SPDX-License-Identifier: GPL-2.0-only */
/* Packets that NAT knows no flow of: they begin one, or are dropped, or are not
 * NAT's. Each function here gives the verdict, and is global, so that the
 * verifier sees it once.
 */
#ifndef FOS1_NAT_BEGIN_H
#define FOS1_NAT_BEGIN_H

#include <fos1/nat_known.h>
#include <fos1/nat_sweep.h>

/* Drop a packet for want of room, and have it looked for. */
#define NAT_FAIL(nat, policy, what)      \
	({                               \
		(nat)->crowded = policy; \
		NAT_DROP(policy, what);  \
	})

/* Whether a packet may begin a flow: one that tells its ends, and that asks. */
static __always_inline bool nat_may_begin(const struct nat *nat)
{
	const struct packet *packet = &nat->packet;

	if (nat->parsed != PARSED_IP || packet->is_later_fragment ||
	    packet->tcp_flags & TCP_RST)
		return false;
	return !nat_is_icmp(packet->protocol) || nat_asks(packet);
}

static __always_inline bool
nat_is_over_limit(u32 id, const struct fos1_nat_policy *rule)
{
	struct fos1_nat_usage *usage;

	if (!rule->most_flows)
		return false;
	usage = nat_usage_of(id);
	return usage && usage->flows >= rule->most_flows;
}

/* The values of a flow that begins with the packet at hand, but for its outside
 * end.
 */
static __always_inline void nat_new_flow(struct nat *nat, u32 id,
					 const struct fos1_nat_policy *policy,
					 u8 way, u16 bits)
{
	nat_flow *flow = &nat->flow;

	__builtin_memset(flow, 0, sizeof(*flow));
	flow->policy = id;
	flow->interface = nat->interface;
	flow->generation = nat_generation();
	flow->bits = nat_bits(bits, way, nat->packet.tcp_flags);
	flow->fresh_ns = nat->now_ns + FOS1_NS_PER_SECOND;
	flow->until_ns = nat_until(nat, policy, nat->key.protocol, flow->bits);
}

/* Insert nat->out -> nat->flow; a verdict other than UNSPEC if that fails.
 * Apart, so that its stack is free when ports are searched.
 */
__noinline int NAT_OF(nat_begin)(struct __sk_buff *skb)
{
	struct nat *nat = nat_here();
	u32 id;

	if (!nat || !skb)
		return TC_ACT_SHOT;
	id = nat->flow.policy;
	switch (nat_insert(nat)) {
	case NAT_INSERTED:
		break;
	case NAT_TAKEN:
		return NAT_DROP(id, exhausted);
	case NAT_FULL:
		return NAT_FAIL(nat, id, full);
	}
	NAT_COUNT(id, begun);
	if (!nat_has_port(nat->out.protocol) ||
	    nat->flow.bits & FOS1_NAT_MAPPED)
		return TC_ACT_UNSPEC;
	nat_count_flow(nat);
	nat_keep_ends(nat, &nat->out, NAT_WORDS_OF(nat->flow.address),
		      nat->flow.port, nat->flow.until_ns);
	return TC_ACT_UNSPEC;
}

/* Wish for an outside port for the sender of the packet at hand. */
static __always_inline void nat_make_wish(struct nat *nat, u32 id,
					  const struct fos1_nat_policy *policy)
{
	struct nat_wish *wish = &nat->wish;

	nat_copy(wish->inside, NAT_WORDS_OF(nat->key.source));
	nat_copy(wish->external, NAT_EXTERNAL(policy));
	nat_copy(wish->far, NAT_WORDS_OF(nat->key.dest));
	wish->far_port = nat->key.dest_port;
	wish->port = nat->key.source_port;
	wish->protocol = nat->key.protocol;
	wish->is_own = false;
	wish->policy = id;
	wish->found = wish->port;
}

/* Begin a flow whose source gets the policy's outside address, and a port if
 * it has any.
 */
static __always_inline int
nat_begin_source(struct __sk_buff *skb, struct nat *nat, u32 id,
		 const struct fos1_nat_policy *policy)
{
	int verdict;

	if (!policy || nat_is_none(NAT_EXTERNAL(policy)))
		return NAT_DROP(id, refused);
	if (nat_is_over_limit(id, policy))
		return NAT_FAIL(nat, id, limited);
	nat_make_wish(nat, id, policy);
	if (nat_has_port(nat->key.protocol) && !nat_allocate(skb, nat, policy))
		return NAT_FAIL(nat, id, exhausted);
	nat->out = nat->key;
	nat_new_flow(nat, id, policy, FOS1_NAT_OUT, 0);
	nat_copy(NAT_WORDS_OF(nat->flow.address), nat->wish.external);
	nat->flow.port = nat->wish.found;
	verdict = NAT_OF(nat_begin)(skb);
	if (verdict != TC_ACT_UNSPEC)
		return verdict;
	if (policy->filtering == FOS1_NAT_FILTER_ADDRESS)
		nat_note_peer(nat, NAT_WORDS_OF(nat->twin.source), 0,
			      nat->key.protocol, nat->wish.external,
			      nat->wish.found, nat->flow.until_ns);
	return nat_translate(skb, nat, nat->wish.external, nat->wish.found, id);
}

/* Begin a flow whose source has an outside endpoint declared: nat->lead. */
static __always_inline int
nat_begin_mirrored(struct __sk_buff *skb, struct nat *nat,
		   const struct fos1_nat_policy *policy)
{
	int verdict;

	nat->out = nat->key;
	nat_new_flow(nat, nat->lead.policy, policy, FOS1_NAT_OUT,
		     FOS1_NAT_MAPPED);
	nat_copy(NAT_WORDS_OF(nat->flow.address), nat->lead.address);
	nat->flow.port = nat->lead.port;
	verdict = NAT_OF(nat_begin)(skb);
	if (verdict != TC_ACT_UNSPEC)
		return verdict;
	return nat_translate(skb, nat, nat->lead.address, nat->lead.port,
			     nat->lead.policy);
}

/* Find the outside endpoint that is declared for the sender here. */
static __always_inline struct fos1_nat_policy *nat_mirror(struct nat *nat)
{
	nat_port *rule;

	if (!nat_has_mirrors)
		return NULL;
	rule = nat_port_of(nat, FOS1_NAT_OUT, NAT_WORDS_OF(nat->key.source),
			   nat->key.source_port, nat->key.protocol);
	if (!rule || rule->flags & FOS1_NAT_STATELESS)
		return NULL;
	nat_lead_by(nat, rule, nat->key.source_port);
	return nat_policy_by_id(rule->policy);
}

static __always_inline int nat_refuse(const struct nat *nat, u32 id)
{
	if (nat->packet.is_later_fragment)
		return NAT_DROP(id, unordered);
	return NAT_DROP(id, refused);
}

/* What leaves by an outside interface for others. */
__noinline int NAT_OF(nat_begin_out)(struct __sk_buff *skb)
{
	struct nat *nat = nat_here();
	struct fos1_nat_policy *policy;
	u32 id;

	if (!nat)
		return TC_ACT_SHOT;
	policy = nat_mirror(nat);
	if (policy)
		return nat_may_begin(nat) ? nat_begin_mirrored(skb, nat, policy)
					  : nat_refuse(nat, nat->lead.policy);
	id = nat_policy_of(nat, nat->interface, NAT_WORDS_OF(nat->key.source));
	if (!id)
		return TC_ACT_UNSPEC;
	if (!nat_may_begin(nat))
		return nat_refuse(nat, id);
	return nat_begin_source(skb, nat, id, nat_policy_by_id(id));
}

/* Begin a flow to nat->lead, of a packet whose destination has it. */
static __always_inline int nat_begin_dest(struct __sk_buff *skb,
					  struct nat *nat,
					  const struct fos1_nat_policy *policy)
{
	struct nat_lead *lead = &nat->lead;

	if (nat_is_over_limit(lead->policy, policy))
		return NAT_FAIL(nat, lead->policy, limited);
	nat_copy(NAT_WORDS_OF(nat->flow.address), lead->address);
	nat->flow.port = lead->port;
	nat_twin_key(nat, &nat->out, &nat->key, &nat->flow);
	nat_new_flow(nat, lead->policy, policy, FOS1_NAT_IN, lead->bits);
	nat_copy(NAT_WORDS_OF(nat->flow.address), NAT_WORDS_OF(nat->key.dest));
	nat->flow.port = nat->key.dest_port;
	return NAT_OF(nat_begin)(skb);
}

/* Where a declared port leads; false if none is, or none of all for `any`. */
static __always_inline bool nat_find_declared(struct nat *nat, bool any)
{
	const nat_flow_key *key = &nat->key;
	const __be32 *address = NAT_WORDS_OF(key->dest);
	nat_port *rule;

	rule = any ? nat_any_port(nat, FOS1_NAT_IN, address, key->protocol)
		   : nat_port_at(nat, FOS1_NAT_IN, address, key->dest_port,
				 key->protocol);
	if (!rule || rule->flags & FOS1_NAT_STATELESS)
		return false;
	nat_lead_by(nat, rule, key->dest_port);
	return true;
}

/* Whether who sends may reach an end (RFC 4787, REQ-8). */
static __always_inline bool nat_lets_in(struct nat *nat, const __be32 *far,
					__be16 far_port,
					const struct fos1_nat_policy *policy)
{
	if (policy->filtering == FOS1_NAT_FILTER_NONE)
		return true;
	if (policy->filtering == FOS1_NAT_FILTER_ADDRESS)
		far_port = 0;
	return nat_is_peer(nat, far, far_port, nat->key.protocol,
			   NAT_WORDS_OF(nat->key.dest), nat->key.dest_port);
}

/* Whose an end is that a packet comes in for: nobody's, the router's own, or of
 * somebody inside, nat->lead.
 */
enum nat_owner { NAT_NOBODY, NAT_ROUTER, NAT_INSIDER };

static __always_inline enum nat_owner nat_find_owner(struct nat *nat)
{
	const nat_flow_key *key = &nat->key;
	nat_end *end;

	if (!key->dest_port)
		return NAT_NOBODY;
	nat_end_in(&nat->end_key, key->protocol, NAT_WORDS_OF(key->dest),
		   key->dest_port);
	end = nat_living_end(&nat->end_key, nat->now_ns);
	if (!end)
		return NAT_NOBODY;
	if (nat_same(NAT_WORDS_OF(end->address), NAT_WORDS_OF(key->dest)))
		return NAT_ROUTER;
	nat_copy(nat->lead.address, NAT_WORDS_OF(end->address));
	nat->lead.port = end->port;
	nat->lead.policy = end->policy;
	nat->lead.bits = 0;
	return NAT_INSIDER;
}

/* The policy of the end that was found, if by these rules it has it still. */
static __always_inline struct fos1_nat_policy *
nat_policy_of_lead(struct nat *nat)
{
	struct fos1_nat_policy *policy = nat_policy_by_id(nat->lead.policy);

	nat_map_far(nat, policy);
	if (!policy ||
	    !nat_same(NAT_EXTERNAL(policy), NAT_WORDS_OF(nat->key.dest)) ||
	    nat_policy_of(nat, policy->interface, nat->lead.address) !=
		    nat->lead.policy)
		return NULL;
	return policy;
}

/* Begin the flow of a packet that came in for nat->lead. */
static __always_inline int nat_enter(struct __sk_buff *skb, struct nat *nat)
{
	struct fos1_nat_policy *policy = nat_policy_by_id(nat->lead.policy);
	int verdict;

	if (!policy || nat_is_none(nat->lead.address) || !nat_may_begin(nat))
		return nat_refuse(nat, nat->lead.policy);
	verdict = nat_begin_dest(skb, nat, policy);
	if (verdict != TC_ACT_UNSPEC)
		return verdict;
	return nat_translate(skb, nat, nat->lead.address, nat->lead.port,
			     nat->lead.policy);
}

static __always_inline int nat_enter_end(struct __sk_buff *skb, struct nat *nat)
{
	const nat_flow_key *key = &nat->key;
	struct fos1_nat_policy *policy = nat_policy_of_lead(nat);

	if (!policy ||
	    nat_has_socket(skb, key->protocol, NAT_WORDS_OF(key->source),
			   key->source_port, NAT_WORDS_OF(key->dest),
			   key->dest_port))
		return TC_ACT_UNSPEC;
	if (policy->interface != nat->interface || !nat_may_begin(nat) ||
	    !nat_lets_in(nat, NAT_WORDS_OF(key->source), key->source_port,
			 policy))
		return NAT_DROP(nat->lead.policy, filtered);
	return nat_enter(skb, nat);
}

/* What comes in by an outside interface: for a declared port, for an end, for
 * what is declared of all ports; else for the router.
 */
__noinline int NAT_OF(nat_begin_in)(struct __sk_buff *skb)
{
	struct nat *nat = nat_here();

	if (!nat || nat->parsed != PARSED_IP)
		return TC_ACT_UNSPEC;
	if (nat_find_declared(nat, false))
		return nat_enter(skb, nat);
	switch (nat_find_owner(nat)) {
	case NAT_ROUTER:
		return TC_ACT_UNSPEC;
	case NAT_INSIDER:
		return nat_enter_end(skb, nat);
	case NAT_NOBODY:
		break;
	}
	if (nat->packet.is_later_fragment || !nat_find_declared(nat, true))
		return TC_ACT_UNSPEC;
	return nat_enter(skb, nat);
}

#endif
