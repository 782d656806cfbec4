/* SPDX-License-Identifier: GPL-2.0-only */
/* Endpoints inside and the outside ports that they have, whoever they talk to
 * (RFC 4787, REQ-1). To insert the outside one is to own the port.
 */
#ifndef FOS1_NAT_END_H
#define FOS1_NAT_END_H

#include <fos1/nat_packet.h>

enum nat_end_number {
	NAT_WELL_KNOWN = 1024,
	NAT_PORTS = 65536,
	/* How long an end waits for its first flow. */
	NAT_END_S = 60,
};

/* What a probe needs; on the stack, as bpf_loop() asks. */
struct nat_search {
	struct __sk_buff *skb;
	struct nat *nat;
};

static __always_inline void nat_end_out(nat_end_key *key, u8 protocol,
					const __be32 *inside, __be16 port,
					const __be32 *outside)
{
	nat_copy(NAT_WORDS_OF(key->address), inside);
	nat_copy(NAT_WORDS_OF(key->outside), outside);
	key->port = port;
	key->protocol = protocol;
	key->way = FOS1_NAT_OUT;
}

static __always_inline void nat_end_in(nat_end_key *key, u8 protocol,
				       const __be32 *outside, __be16 port)
{
	__builtin_memset(key, 0, sizeof(*key));
	nat_copy(NAT_WORDS_OF(key->address), outside);
	key->port = port;
	key->protocol = protocol;
	key->way = FOS1_NAT_IN;
}

static __always_inline nat_end *nat_living_end(const nat_end_key *key,
					       u64 now_ns)
{
	nat_end *end = bpf_map_lookup_elem(&nat_ends, key);

	return end && now_ns <= end->until_ns ? end : NULL;
}

/* The tuple of a socket that talks from near to far. */
static __always_inline u32 nat_tuple(struct bpf_sock_tuple *tuple,
				     const __be32 *far, __be16 far_port,
				     const __be32 *near, __be16 near_port)
{
#if NAT_FAMILY == 4 || defined(NAT_64)
	tuple->ipv4.saddr = far[NAT_WORDS - 1];
	tuple->ipv4.daddr = near[NAT_WORDS - 1];
	tuple->ipv4.sport = far_port;
	tuple->ipv4.dport = near_port;
	return sizeof(tuple->ipv4);
#else
	nat_copy(tuple->ipv6.saddr, far);
	nat_copy(tuple->ipv6.daddr, near);
	tuple->ipv6.sport = far_port;
	tuple->ipv6.dport = near_port;
	return sizeof(tuple->ipv6);
#endif
}

/* Whether a socket of the router has a port, or this very conversation. */
static __always_inline bool nat_has_socket(struct __sk_buff *skb, u8 protocol,
					   const __be32 *far, __be16 far_port,
					   const __be32 *near, __be16 near_port)
{
	struct bpf_sock_tuple tuple = {};
	u32 bytes = nat_tuple(&tuple, far, far_port, near, near_port);
	struct bpf_sock *found = NULL;

	if (protocol == IPPROTO_TCP)
		found = bpf_skc_lookup_tcp(skb, &tuple, bytes,
					   BPF_F_CURRENT_NETNS, 0);
	else if (protocol == IPPROTO_UDP)
		found = bpf_sk_lookup_udp(skb, &tuple, bytes,
					  BPF_F_CURRENT_NETNS, 0);
	if (!found)
		return false;
	bpf_sk_release(found);
	return true;
}

static __always_inline bool nat_is_declared(struct nat *nat, __be16 port)
{
	nat_port_key *key = &nat->port_key;

	key->interface = nat->outside_interface;
	nat_copy(NAT_WORDS_OF(key->address), nat->wish.external);
	key->port = port;
	key->protocol = nat->wish.protocol;
	key->way = FOS1_NAT_IN;
	return bpf_map_lookup_elem(&nat_ports, key);
}

/* Take the end that a port had before, if that has ended. One of several that
 * try deletes it.
 */
static __always_inline bool nat_take_over(struct nat *nat)
{
	nat_end *old = bpf_map_lookup_elem(&nat_ends, &nat->end_key);
	nat_end_key other;

	if (!old)
		return true;
	if (nat->now_ns <= old->until_ns)
		return false;
	nat_end_out(&other, nat->wish.protocol, NAT_WORDS_OF(old->address),
		    old->port, nat->wish.external);
	if (bpf_map_delete_elem(&nat_ends, &nat->end_key))
		return false;
	bpf_map_delete_elem(&nat_ends, &other);
	return true;
}

/* What an end is at first, whose other side is an endpoint. */
static __always_inline void nat_new_end(struct nat *nat, const __be32 *address,
					__be16 port)
{
	__builtin_memset(&nat->end, 0, sizeof(nat->end));
	nat->end.until_ns = nat->now_ns + (u64)NAT_END_S * FOS1_NS_PER_SECOND;
	nat->end.policy = nat->wish.policy;
	nat_copy(NAT_WORDS_OF(nat->end.address), address);
	nat->end.port = port;
}

/* Try to get a port; true if it is the wish's now. Global, so that the verifier
 * sees it once.
 */
__noinline int NAT_OF(nat_try_port)(struct __sk_buff *skb, __be16 port)
{
	struct nat *nat = nat_here();
	struct nat_wish *wish;

	if (!nat || !port)
		return false;
	wish = &nat->wish;
	if (nat_is_declared(nat, port) ||
	    (!wish->is_own &&
	     nat_has_socket(skb, wish->protocol, wish->far, wish->far_port,
			    wish->external, port)))
		return false;
	nat_end_in(&nat->end_key, wish->protocol, wish->external, port);
	nat_new_end(nat, wish->inside, wish->port);
	if (!nat_take_over(nat) || !nat_hold_port(nat, port) ||
	    bpf_map_update_elem(&nat_ends, &nat->end_key, &nat->end,
				BPF_NOEXIST))
		return false;
	wish->found = port;
	return true;
}

static long nat_probe(u32 number, void *context)
{
	struct nat_search *search = context;
	struct nat_wish *wish = &search->nat->wish;
	u32 offset = wish->at + number * 2, found;

	if (number >= FOS1_NAT_PROBES / 2)
		offset += 1 - FOS1_NAT_PROBES;
	if (offset >= wish->count)
		offset %= wish->count ?: 1;
	found = NAT_OF(nat_try_port)(search->skb,
				     bpf_htons(wish->first + offset));
	/* Opaque, so that the verifier sees the bound. */
	asm volatile("" : "+r"(found));
	return found != 0;
}

/* Ports that a wish may have: the policy's, or the class of its own (REQ-3). */
static __always_inline void nat_range(struct nat_wish *wish,
				      const struct fos1_nat_policy *policy)
{
	u32 port = bpf_ntohs(wish->port);
	u32 first = 1, last = NAT_WELL_KNOWN - 1;

	if (policy->first_port) {
		first = policy->first_port;
		last = policy->last_port;
	} else if (nat_is_icmp(wish->protocol)) {
		last = NAT_PORTS - 1;
	} else if (port >= NAT_WELL_KNOWN) {
		first = NAT_WELL_KNOWN;
		last = NAT_PORTS - 1;
	}
	wish->first = first;
	wish->count = last >= first ? last - first + 1 : 0;
}

/* Begin anywhere among ports of its own parity (REQ-4). The first half of the
 * probes goes on among these, the other half among the rest.
 */
static __always_inline void nat_start(struct nat_wish *wish)
{
	u32 odd = (wish->first ^ bpf_ntohs(wish->port)) & 1;
	u32 alike = (wish->count + 1 - odd) / 2;

	wish->at = odd + bpf_get_prandom_u32() % (alike ?: 1) * 2;
}

static __always_inline bool nat_in_range(const struct nat_wish *wish)
{
	u32 offset = (u32)bpf_ntohs(wish->port) - wish->first;

	return offset < wish->count;
}

/* The outside port of an inside endpoint that has one already. */
static __always_inline bool nat_known_end(struct nat *nat)
{
	struct nat_wish *wish = &nat->wish;
	nat_end *known;

	nat_end_out(&nat->end_key, wish->protocol, wish->inside, wish->port,
		    wish->external);
	known = nat_living_end(&nat->end_key, nat->now_ns);
	if (known)
		wish->found = known->port;
	return known;
}

static __always_inline void nat_search_port(struct __sk_buff *skb,
					    struct nat *nat)
{
	struct nat_search search = { skb, nat };

	if (nat_in_range(&nat->wish) &&
	    NAT_OF(nat_try_port)(skb, nat->wish.port))
		return;
	if (!nat->wish.count)
		return;
	nat_start(&nat->wish);
	bpf_loop(FOS1_NAT_PROBES, nat_probe, &search, 0);
}

/* Find or get the outside port of an inside endpoint: wish.found. */
static __always_inline bool nat_allocate(struct __sk_buff *skb, struct nat *nat,
					 const struct fos1_nat_policy *policy)
{
	struct nat_wish *wish = &nat->wish;

	wish->found = 0;
	if (nat_known_end(nat))
		return true;
	nat_range(wish, policy);
	nat_search_port(skb, nat);
	if (!wish->found)
		return false;
	nat_end_out(&nat->end_key, wish->protocol, wish->inside, wish->port,
		    wish->external);
	nat_new_end(nat, wish->external, wish->found);
	if (!bpf_map_update_elem(&nat_ends, &nat->end_key, &nat->end, BPF_ANY))
		return true;
	nat_end_in(&nat->end_key, wish->protocol, wish->external, wish->found);
	bpf_map_delete_elem(&nat_ends, &nat->end_key);
	return false;
}

#endif
