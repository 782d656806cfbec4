/* SPDX-License-Identifier: GPL-2.0-only */
/* NAT at a hook. What should be translated and cannot be is dropped; what is
 * not NAT's goes on untouched.
 */
#ifndef FOS1_NAT_RUN_H
#define FOS1_NAT_RUN_H

#include <fos1/nat_error.h>
#include <fos1/nat_hold.h>
#include <fos1/nat_own.h>
#include <fos1/nat_turn.h>

FOS1_CONFIG(u32, nat_unmarked,
	    "1 if tc_index is lost between the hooks of inside interfaces");

enum nat_run_number {
	/* Not a verdict: the quick way says nothing. */
	NAT_UNKNOWN = -2,
	NAT_IPV4_PLAIN = 0x45,
	NAT_TCP_FLAGS_AT = 13,
	NAT_TCP_WORDS_AT = 12,
};

/* Read a packet whose headers are plain, in place: TCP or UDP right behind the
 * network header, no options, no fragment, nothing new of a connection. Returns
 * its headers' bytes, or 0.
 */
static __always_inline u32 nat_read_plain(const struct __sk_buff *skb,
					  struct nat_change *change,
					  nat_flow_key *key)
{
	void *data = (void *)(long)skb->data,
	     *end = (void *)(long)skb->data_end;
	u32 at = link_header_bytes ? ETH_HLEN : 0;
#if NAT_FAMILY == 4
	const __be16 fragment =
		bpf_htons(IPV4_FRAGMENT_OFFSET | IPV4_MORE_FRAGMENTS);
	struct iphdr *ip = data + at;
#else
	struct ipv6hdr *ip = data + at;
#endif
	u8 *head = (void *)(ip + 1);

	if ((void *)(head + sizeof(struct udphdr)) > end)
		return 0;
#if NAT_FAMILY == 4
	if (*(u8 *)ip != NAT_IPV4_PLAIN || ip->frag_off & fragment)
		return 0;
	key->protocol = ip->protocol;
#else
	if (*(u8 *)ip >> 4 != 6)
		return 0;
	key->protocol = ip->nexthdr;
#endif
	nat_copy(NAT_WORDS_OF(key->source), (void *)&ip->saddr);
	nat_copy(NAT_WORDS_OF(key->dest), (void *)&ip->daddr);
	key->source_port = ((__be16 *)head)[0];
	key->dest_port = ((__be16 *)head)[1];
	change->protocol = key->protocol;
	at += sizeof(*ip);
	if (key->protocol == IPPROTO_UDP)
		return at + sizeof(struct udphdr);
	if (key->protocol != IPPROTO_TCP ||
	    (void *)(head + sizeof(struct tcphdr)) > end ||
	    head[NAT_TCP_FLAGS_AT] & NAT_NEWS)
		return 0;
	return at + (head[NAT_TCP_WORDS_AT] >> 4) * 4;
}

/* Whether a flow has nothing to be written or asked now. */
static __always_inline bool nat_is_quick(const nat_flow *flow, u32 interface)
{
	return flow->generation == nat_generation() &&
	       flow->interface == interface &&
	       bpf_ktime_get_coarse_ns() < flow->fresh_ns;
}

/* The quick way: one look-up, and the packet is rewritten. Apart, so that its
 * stack is free when the other way is gone.
 */
static __noinline int nat_quick(struct __sk_buff *skb, u32 way, u32 interface)
{
	struct nat_change change = { .is_source = way == FOS1_NAT_OUT,
				     .has_port = true };
	nat_flow_key key = { .way = way };
	struct layout layout = {};
	nat_flow *flow;
	u32 policy;

	layout.payload = nat_read_plain(skb, &change, &key);
	if (!layout.payload)
		return NAT_UNKNOWN;
	flow = bpf_map_lookup_elem(&nat_flows, &key);
	if (!flow || !nat_is_quick(flow, interface))
		return NAT_UNKNOWN;
	layout.network = link_header_bytes ? ETH_HLEN : 0;
	layout.transport = layout.network + (NAT_FAMILY == 4 ? 20 : 40);
	nat_copy(change.old_address, nat_old_address(&key));
	nat_copy(change.new_address, NAT_WORDS_OF(flow->address));
	change.old_port = nat_old_port(&key);
	change.new_port = flow->port;
	policy = flow->policy;
	if (!nat_write_end(skb, &layout, &change, true))
		return TC_ACT_SHOT;
	nat_count_packet(policy, wire_bytes(skb, layout.payload), false);
	nat_mark(skb, way, interface);
	return TC_ACT_UNSPEC;
}

/* What has no flow. */
static __always_inline int nat_begin_any(struct __sk_buff *skb,
					 const struct nat *nat)
{
	if (nat->interface)
		return nat->way == FOS1_NAT_OUT ? NAT_OF(nat_begin_out)(skb)
						: NAT_OF(nat_begin_in)(skb);
	if (nat->way == FOS1_NAT_IN)
		return NAT_OF(nat_begin_turn)(skb);
	return nat_unmarked ? TC_ACT_UNSPEC : NAT_OF(nat_end_turn)(skb);
}

/* Whether what comes in at an inside interface is for an outside address. */
static __always_inline bool nat_is_for_outside(struct nat *nat)
{
	u32 id = nat_policy_at(nat, nat->packet.dest);
	struct fos1_nat_policy *policy = nat_policy_by_id(id);

	if (!policy)
		return false;
	nat->outside_interface = policy->interface;
	return true;
}

/* The other way: all that a packet can be. */
static __always_inline int nat_slow(struct __sk_buff *skb, u32 way,
				    u32 interface)
{
	struct nat *nat = nat_here();
	int verdict;

	if (!nat || !NAT_OF(nat_read_packet)(skb, way, interface) ||
	    nat->parsed == PARSED_NOT_IP)
		return TC_ACT_UNSPEC;
	if (!interface && way == FOS1_NAT_IN && !nat_is_for_outside(nat))
		return TC_ACT_UNSPEC;
	if (!nat_orders(skb, nat))
		return TC_ACT_SHOT;
	if (nat->parsed == PARSED_IP && is_icmp_error(&nat->packet))
		return NAT_OF(nat_translate_error)(skb);
	if (way == FOS1_NAT_IN && !nat_concerns(&nat->packet))
		return TC_ACT_UNSPEC;
	if (nat->is_own)
		return interface ? NAT_OF(nat_own)(skb) : TC_ACT_UNSPEC;
	if (nat_rewrite_stateless(skb, nat, &verdict))
		return verdict;
	if (NAT_OF(nat_follow)(skb))
		return nat_translate(skb, nat, nat->lead.address,
				     nat->lead.port, nat->lead.policy);
	return nat_leave(nat, nat_begin_any(skb, nat));
}

static __always_inline int nat_run(struct __sk_buff *skb, u32 way,
				   u32 interface)
{
	int verdict;

	if (way != FOS1_NAT_OUT || skb->ingress_ifindex) {
		verdict = nat_quick(skb, way, interface);
		if (verdict != NAT_UNKNOWN)
			return verdict;
	}
	return nat_slow(skb, way, interface);
}

/* At an outside interface. */
static __always_inline int nat_cross(struct __sk_buff *skb, u32 way)
{
	if (skb->protocol != bpf_htons(NAT_ETHER_TYPE))
		return TC_ACT_UNSPEC;
	return nat_run(skb, way, skb->ifindex);
}

/* Whether what comes in by an inside interface may be for an outside address:
 * few are, so this comes first.
 */
static __always_inline bool nat_may_turn(const struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data,
	     *end = (void *)(long)skb->data_end;
	u32 at = (link_header_bytes ? ETH_HLEN : 0) + NAT_DEST_AT;
	__be32 *dest = data + at;
	nat_outside address;

	if ((void *)(dest + NAT_WORDS) > end)
		return true;
	nat_copy(NAT_WORDS_OF(address.address), dest);
	return bpf_map_lookup_elem(&nat_outsides, &address);
}

static __always_inline bool nat_is_turned(const struct __sk_buff *skb)
{
	return nat_unmarked || skb->tc_index == FOS1_NAT_TURNED;
}

/* At an inside interface. Of what leaves, only what came in for an outside
 * address is looked at, and what the router sends, for errors.
 */
static __always_inline int nat_turn(struct __sk_buff *skb, u32 way)
{
	if (skb->protocol != bpf_htons(NAT_ETHER_TYPE) ||
	    (way == FOS1_NAT_OUT && skb->ingress_ifindex &&
	     !nat_is_turned(skb)))
		return TC_ACT_UNSPEC;
	if (way == FOS1_NAT_IN && !nat_may_turn(skb))
		return TC_ACT_UNSPEC;
	return nat_run(skb, way, 0);
}

SEC("tc")
int NAT_PROGRAM(in)(struct __sk_buff *skb)
{
	return nat_cross(skb, FOS1_NAT_IN);
}

SEC("tc")
int NAT_PROGRAM(out)(struct __sk_buff *skb)
{
	return nat_cross(skb, FOS1_NAT_OUT);
}

SEC("tc")
int NAT_PROGRAM(turn_in)(struct __sk_buff *skb)
{
	return nat_turn(skb, FOS1_NAT_IN);
}

SEC("tc")
int NAT_PROGRAM(turn_out)(struct __sk_buff *skb)
{
	return nat_turn(skb, FOS1_NAT_OUT);
}

#endif
