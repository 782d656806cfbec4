/* SPDX-License-Identifier: GPL-2.0-only */
/* Endpoints inside and the outside ports that they have, whoever they talk to
 * (RFC 4787, REQ-1). To insert the outside one is to own the port.
 */
#ifndef FOS1_NAT_END_H
#define FOS1_NAT_END_H

#include <fos1/nat_tables.h>
#include <fos1/parse.h>

enum nat_end_number {
	NAT_WELL_KNOWN = 1024,
	NAT_PORTS = 65536,
	/* How long an end waits for its first flow. */
	NAT_END_S = 60,
};

/* A port looked for: for which inside endpoint, at which outside address. */
struct nat_wish {
	struct __sk_buff *skb;
	u64 now_ns;
	u32 policy;
	__be32 inside;
	__be32 external;
	__be32 far;
	__be16 far_port;
	__be16 port;
	__be16 found;
	u8 protocol;
	bool is_own;
	u16 first;
	u16 count;
	u16 at;
	u16 step;
};

static __always_inline struct fos1_nat_end4_key
nat_end_key(u8 way, u8 protocol, __be32 address, __be16 port, __be32 outside)
{
	return (struct fos1_nat_end4_key){
		.address = address,
		.outside = outside,
		.port = port,
		.protocol = protocol,
		.way = way,
	};
}

static __always_inline struct fos1_nat_end4 *
nat_living_end(const struct fos1_nat_end4_key *key, u64 now_ns)
{
	struct fos1_nat_end4 *end = bpf_map_lookup_elem(&nat_ends4, key);

	return end && now_ns <= end->until_ns ? end : NULL;
}

/* Whether a socket of the router has a port, or this very conversation. */
static __always_inline bool nat_has_socket(struct __sk_buff *skb, u8 protocol,
					   __be32 far, __be16 far_port,
					   __be32 near, __be16 near_port)
{
	struct bpf_sock_tuple tuple = {
		.ipv4 = { .saddr = far,
			  .daddr = near,
			  .sport = far_port,
			  .dport = near_port },
	};
	struct bpf_sock *found = NULL;

	if (protocol == IPPROTO_TCP)
		found = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4),
					   BPF_F_CURRENT_NETNS, 0);
	else if (protocol == IPPROTO_UDP)
		found = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4),
					  BPF_F_CURRENT_NETNS, 0);
	if (!found)
		return false;
	bpf_sk_release(found);
	return true;
}

static __always_inline bool nat_is_declared(__be32 address, u8 protocol,
					    __be16 port)
{
	struct fos1_nat_port4_key key = { address, port, protocol, 0 };

	return bpf_map_lookup_elem(&nat_ports4, &key);
}

/* Take the end that a port had before, if that has ended. One of several that
 * try deletes it.
 */
static __always_inline bool nat_take_over(const struct fos1_nat_end4_key *key,
					  u64 now_ns)
{
	struct fos1_nat_end4 *old = bpf_map_lookup_elem(&nat_ends4, key);
	struct fos1_nat_end4_key other;

	if (!old)
		return true;
	if (now_ns <= old->until_ns)
		return false;
	other = nat_end_key(FOS1_NAT_OUT, key->protocol, old->address,
			    old->port, key->address);
	if (bpf_map_delete_elem(&nat_ends4, key))
		return false;
	bpf_map_delete_elem(&nat_ends4, &other);
	return true;
}

/* Try to get a port; true if it is the wish's now. */
static __always_inline bool nat_try_port(struct nat_wish *wish, __be16 port)
{
	struct fos1_nat_end4_key key = nat_end_key(FOS1_NAT_IN, wish->protocol,
						   wish->external, port, 0);
	struct fos1_nat_end4 end = {
		.until_ns = wish->now_ns + (u64)NAT_END_S * FOS1_NS_PER_SECOND,
		.policy = wish->policy,
		.address = wish->inside,
		.port = wish->port,
	};

	if (!port || nat_is_declared(wish->external, wish->protocol, port) ||
	    (!wish->is_own &&
	     nat_has_socket(wish->skb, wish->protocol, wish->far,
			    wish->far_port, wish->external, port)) ||
	    !nat_take_over(&key, wish->now_ns) ||
	    bpf_map_update_elem(&nat_ends4, &key, &end, BPF_NOEXIST))
		return false;
	wish->found = port;
	return true;
}

static long nat_probe(u32 number, void *context)
{
	struct nat_wish *wish = context;
	u32 offset = wish->at + number * wish->step;

	if (offset >= wish->count)
		offset %= wish->count;
	return nat_try_port(wish, bpf_htons(wish->first + offset));
}

/* Ports that a wish may have: the policy's, or the class of its own (REQ-3). */
static __always_inline void nat_range(struct nat_wish *wish,
				      const struct fos1_nat_policy *policy)
{
	u16 port = bpf_ntohs(wish->port);
	u32 first = 1, last = NAT_WELL_KNOWN - 1;

	if (policy->first_port) {
		first = policy->first_port;
		last = policy->last_port;
	} else if (wish->protocol == IPPROTO_ICMP) {
		last = NAT_PORTS - 1;
	} else if (port >= NAT_WELL_KNOWN) {
		first = NAT_WELL_KNOWN;
		last = NAT_PORTS - 1;
	}
	wish->first = first;
	wish->count = last - first + 1;
}

/* Begin anywhere, and keep the parity (REQ-4) where there is room for it. */
static __always_inline void nat_start(struct nat_wish *wish)
{
	u32 at = bpf_get_prandom_u32() % (wish->count ?: 1);
	u32 odd = (wish->first + at ^ bpf_ntohs(wish->port)) & 1;

	wish->step = wish->count > 1 ? 2 : 1;
	wish->at = odd ? (at ? at - 1 : at + 1) : at;
	wish->count &= wish->count > 1 ? ~1 : ~0;
	if (wish->at >= wish->count)
		wish->at = 0;
}

static __always_inline bool nat_in_range(const struct nat_wish *wish)
{
	u32 offset = (u32)bpf_ntohs(wish->port) - wish->first;

	return offset < wish->count;
}

/* Find or get the outside port of an inside endpoint: wish->found. */
static __always_inline bool nat_allocate(struct nat_wish *wish,
					 const struct fos1_nat_policy *policy)
{
	struct fos1_nat_end4_key key = nat_end_key(FOS1_NAT_OUT, wish->protocol,
						   wish->inside, wish->port,
						   wish->external);
	struct fos1_nat_end4 *known = nat_living_end(&key, wish->now_ns), end = {
		.until_ns = wish->now_ns + (u64)NAT_END_S * FOS1_NS_PER_SECOND,
		.policy = wish->policy,
		.address = wish->external,
	};

	if (known) {
		wish->found = known->port;
		return true;
	}
	nat_range(wish, policy);
	if (!nat_in_range(wish) || !nat_try_port(wish, wish->port)) {
		nat_start(wish);
		bpf_loop(FOS1_NAT_PROBES, nat_probe, wish, 0);
	}
	if (!wish->found)
		return false;
	end.port = wish->found;
	if (!bpf_map_update_elem(&nat_ends4, &key, &end, BPF_ANY))
		return true;
	key = nat_end_key(FOS1_NAT_IN, wish->protocol, wish->external,
			  wish->found, 0);
	bpf_map_delete_elem(&nat_ends4, &key);
	return false;
}

#endif
