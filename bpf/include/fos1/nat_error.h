/* SPDX-License-Identifier: GPL-2.0-only */
/* Errors of ICMP quote a packet as it was on one side of the router, and go to
 * the other (RFC 5508, REQ-3 to 7). What they quote is translated back.
 */
#ifndef FOS1_NAT_ERROR_H
#define FOS1_NAT_ERROR_H

#include <fos1/nat_quote.h>
#include <fos1/nat_stateless.h>

/* Change two bytes of the message, and its checksum with them. */
static __always_inline bool nat_patch(struct __sk_buff *skb, u32 sum_at, u32 at,
				      u16 old, u16 new)
{
	return old == new ||
	       (!bpf_l4_csum_replace(skb, sum_at, old, new, 2) &&
		!bpf_skb_store_bytes(skb, at, &new, sizeof(new), 0));
}

static __always_inline bool nat_patch_address(struct __sk_buff *skb, u32 sum_at,
					      u32 at,
					      const struct nat_change *change,
					      u32 diff)
{
	return !bpf_l4_csum_replace(skb, sum_at, 0, diff, 0) &&
	       !bpf_skb_store_bytes(skb, at, change->new_address,
				    NAT_ADDRESS_BYTES, 0);
}

/* Adjust a checksum in what is quoted, if that goes so far. */
static __always_inline bool nat_patch_sum(struct __sk_buff *skb, u32 sum_at,
					  u32 at, u64 diff, bool may_be_none)
{
	u16 old, new;

	if (bpf_skb_load_bytes(skb, at, &old, sizeof(old)))
		return true;
	if (may_be_none && !old)
		return true;
	new = nat_resum(old, diff);
	return nat_patch(skb, sum_at, at, old,
			 may_be_none && !new ? 0xffff : new);
}

/* The port in what is quoted, and the checksum behind it. */
static __always_inline bool nat_patch_transport(struct __sk_buff *skb,
						u32 sum_at, u32 transport,
						const struct nat_change *change,
						u32 address_diff)
{
	u32 port_at = transport + (change->is_source ? 0 : 2);
	u32 check_at = nat_checksum_at(change->protocol);
	u64 diff = 0;

	if (nat_is_icmp(change->protocol))
		port_at = transport + NAT_ICMP_ID_AT;
	if (nat_sums_addresses(change->protocol))
		diff = address_diff;
	if (change->has_port) {
		if (!nat_patch(skb, sum_at, port_at, change->old_port,
			       change->new_port))
			return false;
		diff += (u16)~change->old_port + (u64)change->new_port;
	}
	return !check_at ||
	       nat_patch_sum(skb, sum_at, transport + check_at, diff,
			     change->protocol == IPPROTO_UDP);
}

/* Change an end of what the packet at hand quotes, as nat->change says. */
__noinline int NAT_OF(nat_rewrite_quote)(struct __sk_buff *skb)
{
	struct nat *nat = nat_here();
	struct nat_change *change;
	u32 sum_at, at, diff;

	if (!nat)
		return false;
	change = &nat->change;
	sum_at = nat->layout.transport + NAT_ICMP_CHECKSUM_AT;
	at = nat->quote.network +
	     (change->is_source ? NAT_SOURCE_AT : NAT_DEST_AT);
	diff = nat_address_diff(change);
	if (!nat_patch_address(skb, sum_at, at, change, diff))
		return false;
	if (NAT_FAMILY == 4 &&
	    !nat_patch_sum(skb, sum_at,
			   nat->quote.network + NAT_IPV4_CHECKSUM_AT, diff,
			   false))
		return false;
	return !nat->quote.payload ||
	       nat_patch_transport(skb, sum_at, nat->quote.transport, change,
				   diff);
}

/* Find what the quoted end becomes: nat->lead. */
static __always_inline bool nat_find_quoted(struct nat *nat)
{
	nat_flow *flow = bpf_map_lookup_elem(&nat_flows, &nat->key);

	if (!flow || flow->interface != nat->interface ||
	    nat->now_ns > flow->until_ns)
		return nat_has_stateless && nat_find_stateless(nat);
	nat_copy(nat->lead.address, NAT_WORDS_OF(flow->address));
	nat->lead.port = flow->port;
	nat->lead.policy = flow->policy;
	return true;
}

/* Whether the sender of an error is to look like the outside: whose source is
 * translated, or whom it is about (RFC 5508, REQ-5).
 */
static __always_inline bool nat_hides_sender(struct nat *nat)
{
	struct fos1_nat_policy *policy = nat_policy_by_id(nat->lead.policy);

	if (nat->is_own)
		return false;
	return nat_same(nat->packet.source, NAT_WORDS_OF(nat->key.source)) ||
	       (policy &&
		nat_policy_of(nat, policy->interface, nat->packet.source));
}

/* Change the end of the error itself. */
static __always_inline bool nat_readdress(struct __sk_buff *skb,
					  struct nat *nat)
{
	struct nat_change *change = &nat->change;
	bool is_out = nat->way == FOS1_NAT_OUT;

	if (is_out && !nat_hides_sender(nat))
		return true;
	change->is_source = is_out;
	change->protocol = NAT_ICMP;
	change->has_port = false;
	nat_copy(change->old_address,
		 is_out ? nat->packet.source : nat->packet.dest);
	nat_copy(change->new_address, nat->lead.address);
	return NAT_OF(nat_rewrite)(skb);
}

/* An error about no flow: hidden if its sender is, else as it is. */
static __always_inline int nat_drop_error(struct nat *nat)
{
	u32 id = 0;

	if (nat->way == FOS1_NAT_OUT && !nat->is_own && nat->interface)
		id = nat_policy_of(nat, nat->interface, nat->packet.source);
	return id ? NAT_DROP(id, refused) : TC_ACT_UNSPEC;
}

/* Translate the error at hand, and what it quotes. */
__noinline int NAT_OF(nat_translate_error)(struct __sk_buff *skb)
{
	struct nat *nat = nat_here();

	if (!nat)
		return TC_ACT_SHOT;
	if (!nat_read_quote(skb, nat) || !nat_find_quoted(nat) ||
	    (nat->way == FOS1_NAT_IN &&
	     !nat_same(nat->packet.dest, NAT_WORDS_OF(nat->key.dest))))
		return nat_drop_error(nat);
	nat_plan(nat, nat->lead.address, nat->lead.port);
	nat->change.is_source = !nat->change.is_source;
	if (!NAT_OF(nat_rewrite_quote)(skb) || !nat_readdress(skb, nat))
		return TC_ACT_SHOT;
	NAT_COUNT(nat->lead.policy, errors);
	nat_mark(skb, nat->way, nat->interface);
	return TC_ACT_UNSPEC;
}

#endif
