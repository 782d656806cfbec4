/* SPDX-License-Identifier: GPL-2.0-only */
/* What the rules say of an endpoint: whose its source is, where it leads. */
#ifndef FOS1_NAT_RULE_H
#define FOS1_NAT_RULE_H

#include <fos1/nat_flow.h>

static __always_inline struct fos1_nat_policy *nat_policy_by_id(u32 id)
{
	return bpf_map_lookup_elem(&nat_policies, &id);
}

/* The policy of a source at an outside interface, 0 if it is not translated. */
static __always_inline u32 nat_policy_of(struct nat *nat, u32 interface,
					 const __be32 *source)
{
	u32 *found;

	nat->source.prefix_bits = 32 + NAT_WORDS * 32;
	nat->source.interface = nat_source_interface(interface);
	nat_copy(NAT_WORDS_OF(nat->source.address), source);
	found = bpf_map_lookup_elem(&nat_sources, &nat->source);
	return found ? *found : 0;
}

/* The policy that has an outside address, 0 if none. */
static __always_inline u32 nat_policy_at(struct nat *nat, const __be32 *address)
{
	u32 *found;

	nat_copy(NAT_WORDS_OF(nat->outside.address), address);
	found = bpf_map_lookup_elem(&nat_outsides, &nat->outside);
	return found ? *found : 0;
}

static __always_inline nat_port *nat_port_at(struct nat *nat, u8 way,
					     const __be32 *address, __be16 port,
					     u8 protocol)
{
	nat_port_key *key = &nat->port_key;

	key->interface = nat->outside_interface;
	nat_copy(NAT_WORDS_OF(key->address), address);
	key->port = port;
	key->protocol = protocol;
	key->way = way;
	return bpf_map_lookup_elem(&nat_ports, key);
}

/* What is said of all ports of an address. */
static __always_inline nat_port *
nat_any_port(struct nat *nat, u8 way, const __be32 *address, u8 protocol)
{
	nat_port *found = nat_port_at(nat, way, address, 0, protocol);

	return found ?: nat_port_at(nat, way, address, 0, 0);
}

static __always_inline nat_port *nat_port_of(struct nat *nat, u8 way,
					     const __be32 *address, __be16 port,
					     u8 protocol)
{
	nat_port *found = nat_port_at(nat, way, address, port, protocol);

	return found ?: nat_any_port(nat, way, address, protocol);
}

/* A number of the asking end, by which the connections of a balanced port are
 * spread.
 */
static __always_inline u32 nat_spread(const nat_flow_key *key)
{
	const __be32 *words = NAT_WORDS_OF(key->source);
	u32 sum = key->source_port;

#pragma unroll
	for (int i = 0; i < NAT_WORDS; i++) {
		sum = (sum ^ words[i]) * 0x9e3779b1;
		sum ^= sum >> 15;
	}
	sum *= 0x85ebca6b;
	return sum ^ sum >> 13;
}

static __always_inline void nat_lead_balanced(struct nat *nat, u32 table)
{
	u32 at =
		table * FOS1_NAT_SLOTS + nat_spread(&nat->key) % FOS1_NAT_SLOTS;
	nat_backend *slot = bpf_map_lookup_elem(&nat_backends, &at);

	__builtin_memset(nat->lead.address, 0, sizeof(nat->lead.address));
	if (!slot)
		return;
	nat_copy(nat->lead.address, NAT_WORDS_OF(slot->address));
	nat->lead.port = slot->port ?: nat->lead.port;
}

/* Find out where a declared port leads that was met as `port`: nat->lead. It
 * has no address if no backend is to have new connections.
 */
static __always_inline void nat_lead_by(struct nat *nat, const nat_port *rule,
					__be16 port)
{
	nat->lead.policy = rule->policy;
	nat->lead.bits = FOS1_NAT_MAPPED;
	nat->lead.port = port;
	if (rule->flags & FOS1_NAT_BALANCED) {
		nat_lead_balanced(nat, rule->table);
		return;
	}
	nat_copy(nat->lead.address, NAT_WORDS_OF(rule->address));
	if (rule->port)
		nat->lead.port = rule->port;
}

static __always_inline bool nat_is_member(struct nat *nat, u32 table,
					  const __be32 *address, __be16 port)
{
	__builtin_memset(&nat->member, 0, sizeof(nat->member));
	nat->member.table = table;
	nat_copy(NAT_WORDS_OF(nat->member.address), address);
	nat->member.port = port;
	return bpf_map_lookup_elem(&nat_members, &nat->member);
}

/* Whether a declared port still leads to where it did. */
static __always_inline bool
nat_still_leads(struct nat *nat, const __be32 *outside, __be16 outside_port,
		const __be32 *inside, __be16 inside_port, u8 protocol)
{
	nat_port *rule =
		nat_port_of(nat, FOS1_NAT_IN, outside, outside_port, protocol);

	if (!rule)
		return false;
	if (rule->flags & FOS1_NAT_BALANCED)
		return nat_is_member(nat, rule->table, inside, inside_port);
	return nat_same(NAT_WORDS_OF(rule->address), inside) &&
	       (!rule->port || rule->port == inside_port ||
		!nat_has_port(protocol));
}

/* Whether a flow of another version of the rules is one by these too. */
static __always_inline bool
nat_still_holds(struct nat *nat, const nat_flow_key *key, const nat_flow *flow,
		const struct fos1_nat_policy *policy)
{
	const __be32 *new = NAT_WORDS_OF(flow->address);
	const __be32 *old = nat_old_address(key);
	bool is_out = key->way == FOS1_NAT_OUT;
	__be16 old_port = nat_old_port(key);

	nat->outside_interface = policy->interface;
	if (flow->bits & FOS1_NAT_MAPPED)
		return is_out ? nat_still_leads(nat, new, flow->port, old,
						old_port, key->protocol)
			      : nat_still_leads(nat, old, old_port, new,
						flow->port, key->protocol);
	return nat_same(NAT_EXTERNAL(policy), is_out ? new : old) &&
	       nat_policy_of(nat, policy->interface, is_out ? old : new) ==
		       flow->policy;
}

#endif
