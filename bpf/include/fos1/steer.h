/* SPDX-License-Identifier: GPL-2.0-only */
/* What rules do to a packet that passes: a DSCP, a mark, another way out. */
#ifndef FOS1_STEER_H
#define FOS1_STEER_H

#include <linux/pkt_cls.h>

#include <fos1/read.h>
#include <fos1/vital.h>

/* Ways that rules send packets. Writer: the daemon, before it is frozen. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, u32);
	__type(value, struct fos1_policy_route);
} policy_routes SEC(".maps");

enum steer_number {
	ECN_BITS = 3,
	IPV4_TOS_AT = 0,
	IPV4_TTL_AT = 8,
	IPV4_CHECKSUM_AT = 10,
	IPV6_HOP_LIMIT_AT = 7,
	ROUTING_INET = 2,
	ROUTING_INET6 = 10,
};

/* Change a 16-bit word of an IPv4 header, and its checksum. A whole sum of the
 * packet, if the device made one, stays right: the two cancel out.
 */
static __always_inline bool write_ipv4_word(struct __sk_buff *skb, u32 network,
					    u32 at, __be16 old, __be16 new)
{
	return old == new ||
	       (!bpf_l3_csum_replace(skb, network + IPV4_CHECKSUM_AT, old, new,
				     sizeof(new)) &&
		!bpf_skb_store_bytes(skb, network + at, &new, sizeof(new), 0));
}

/* Write the DSCP; the congestion bits stay. The class of IPv6 is bits 4 to 11. */
static __always_inline bool write_dscp(struct __sk_buff *skb, u32 network,
				       bool is_v6, u8 dscp)
{
	__be16 old, new;

	if (bpf_skb_load_bytes(skb, network, &old, sizeof(old)))
		return false;
	if (!is_v6) {
		new = bpf_htons((bpf_ntohs(old) & 0xff03) | dscp << 2);
		return write_ipv4_word(skb, network, IPV4_TOS_AT, old, new);
	}
	new = bpf_htons((bpf_ntohs(old) & 0xf03f) | dscp << 6);
	return old == new ||
	       !bpf_skb_store_bytes(skb, network, &new, sizeof(new),
				    BPF_F_RECOMPUTE_CSUM);
}

/* Count the hop of a packet that the router forwards; false if it ends here. */
static __always_inline bool take_hop(struct __sk_buff *skb, u32 network,
				     bool is_v6)
{
	__be16 old;
	u8 hops;

	if (is_v6) {
		if (bpf_skb_load_bytes(skb, network + IPV6_HOP_LIMIT_AT, &hops,
				       sizeof(hops)) ||
		    hops <= 1)
			return false;
		hops--;
		return !bpf_skb_store_bytes(skb, network + IPV6_HOP_LIMIT_AT,
					    &hops, sizeof(hops),
					    BPF_F_RECOMPUTE_CSUM);
	}
	if (bpf_skb_load_bytes(skb, network + IPV4_TTL_AT, &old, sizeof(old)) ||
	    bpf_ntohs(old) >> 8 <= 1)
		return false;
	return write_ipv4_word(skb, network, IPV4_TTL_AT, old,
			       bpf_htons(bpf_ntohs(old) - 0x100));
}

static __always_inline bool
is_ipv6_next_hop(const struct fos1_policy_route *way)
{
	return way->next_hop[1] | way->next_hop[2] | way->next_hop[3];
}

/* Look the next hop, or else a packet's destination, up in a table (Linux 6.6
 * and later).
 */
static __always_inline bool table_route(struct __sk_buff *skb,
					const struct packet *packet, u32 table,
					struct fos1_policy_route *way)
{
	bool has_next = way->next_hop[0] || is_ipv6_next_hop(way);
	struct bpf_fib_lookup route = {
		.family = packet->is_v6 ? ROUTING_INET6 : ROUTING_INET,
		.ifindex = skb->ifindex,
		.tbid = table,
	};
	long result;

	if (has_next) {
		route.family = is_ipv6_next_hop(way) ? ROUTING_INET6
						     : ROUTING_INET;
		__builtin_memcpy(route.ipv6_dst, way->next_hop, 16);
	} else {
		__builtin_memcpy(route.ipv6_src, packet->source, 16);
		__builtin_memcpy(route.ipv6_dst, packet->dest, 16);
	}
	result = bpf_fib_lookup(skb, &route, sizeof(route),
				BPF_FIB_LOOKUP_DIRECT | BPF_FIB_LOOKUP_TBID);
	if (result != BPF_FIB_LKUP_RET_SUCCESS &&
	    result != BPF_FIB_LKUP_RET_NO_NEIGH)
		return false;
	way->ifindex = route.ifindex;
	if (has_next)
		return true;
	__builtin_memcpy(way->next_hop, route.ipv6_dst, 16);
	if (!packet->is_v6 && route.family == ROUTING_INET)
		way->next_hop[1] = way->next_hop[2] = way->next_hop[3] = 0;
	return true;
}

static __always_inline long send_on(struct __sk_buff *skb, bool is_v6,
				    const struct fos1_policy_route *way)
{
	struct bpf_redir_neigh next = {};
	u32 bytes = 0;

	if (bpf_check_mtu(skb, way->ifindex, &bytes, 0, 0))
		return TC_ACT_UNSPEC;
	if (!way->next_hop[0] && !is_ipv6_next_hop(way))
		return bpf_redirect_neigh(way->ifindex, NULL, 0, 0);
	next.nh_family = is_ipv6_next_hop(way) ? ROUTING_INET6 : ROUTING_INET;
	__builtin_memcpy(next.ipv6_nh, way->next_hop, sizeof(next.ipv6_nh));
	(void)is_v6;
	return bpf_redirect_neigh(way->ifindex, &next, sizeof(next), 0);
}

/* Send a packet the way that a rule says; TC_ACT_UNSPEC lets the kernel route.
 * Global, so that the verifier sees it once.
 */
__noinline int policy_route(struct __sk_buff *skb, struct packet *packet,
			    u32 number, u32 network, u32 is_out)
{
	struct fos1_policy_route *found, way;

	found = bpf_map_lookup_elem(&policy_routes, &number);
	if (!packet || !found)
		return TC_ACT_UNSPEC;
	way = *found;
	if (way.mark)
		skb->mark = way.mark;
	if ((!way.ifindex && !way.table) ||
	    (is_out && way.ifindex == skb->ifindex) ||
	    (!is_out && stays_here(skb, packet)))
		return TC_ACT_UNSPEC;
	if (!way.ifindex && !table_route(skb, packet, way.table, &way))
		return TC_ACT_UNSPEC;
	if (!is_out && !take_hop(skb, network, packet->is_v6))
		return TC_ACT_UNSPEC;
	return send_on(skb, packet->is_v6, &way);
}

#endif
