/* SPDX-License-Identifier: GPL-2.0-only */
/* What rules do to a packet that passes: a DSCP, a mark, another way out. */
#ifndef FOS1_STEER_H
#define FOS1_STEER_H

#include <linux/pkt_cls.h>

#include <fos1/read.h>
#include <fos1/rule.h>
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
	/* BPF_FIB_LOOKUP_MARK of Linux 6.10 and later. */
	ROUTING_BY_MARK = 1 << 5,
	LOOPBACK_IFINDEX = 1,
};

/* Where a packet is that is steered: how an interface's rules see it come in or
 * leave, or how it leaves after a workload sent it.
 */
enum steer_at {
	STEER_IN,
	STEER_OUT,
	STEER_SENT,
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

static __always_inline bool has_next_hop(const struct fos1_policy_route *way)
{
	return way->next_hop[0] || is_ipv6_next_hop(way);
}

/* Look a route up as `flags` say, and put it in the place of the way. */
static __always_inline bool look_route_up(struct __sk_buff *skb,
					  const struct packet *packet,
					  struct bpf_fib_lookup *route,
					  u32 flags,
					  struct fos1_policy_route *way)
{
	bool has_next = has_next_hop(way);
	long result;

	route->family = packet->is_v6 ? ROUTING_INET6 : ROUTING_INET;
	if (has_next) {
		route->family = is_ipv6_next_hop(way) ? ROUTING_INET6
						      : ROUTING_INET;
		__builtin_memcpy(route->ipv6_dst, way->next_hop, 16);
	} else {
		__builtin_memcpy(route->ipv6_src, packet->source, 16);
		__builtin_memcpy(route->ipv6_dst, packet->dest, 16);
	}
	result = bpf_fib_lookup(skb, route, sizeof(*route), flags);
	if (result != BPF_FIB_LKUP_RET_SUCCESS &&
	    result != BPF_FIB_LKUP_RET_NO_NEIGH)
		return false;
	way->ifindex = route->ifindex;
	if (has_next)
		return true;
	__builtin_memcpy(way->next_hop, route->ipv6_dst, 16);
	if (!packet->is_v6 && route->family == ROUTING_INET)
		way->next_hop[1] = way->next_hop[2] = way->next_hop[3] = 0;
	return true;
}

/* Look the next hop, or else a packet's destination, up in a table (Linux 6.6
 * and later).
 */
static __always_inline bool table_route(struct __sk_buff *skb,
					const struct packet *packet,
					struct fos1_policy_route *way)
{
	struct bpf_fib_lookup route = {
		.ifindex = skb->ifindex,
		.tbid = way->table,
	};

	return look_route_up(skb, packet, &route,
			     BPF_FIB_LOOKUP_DIRECT | BPF_FIB_LOOKUP_TBID, way);
}

/* Have the routing rules decide anew, by the mark, about a packet that the
 * router itself sends (Linux 6.10 and later).
 */
static __always_inline bool mark_route(struct __sk_buff *skb,
				       const struct packet *packet,
				       struct fos1_policy_route *way)
{
	struct bpf_fib_lookup route = {
		.l4_protocol = packet->protocol,
		.sport = packet->source_port,
		.dport = packet->dest_port,
		.ifindex = LOOPBACK_IFINDEX,
	};

	/* The header names no mark; it lies where the answer's smac does. */
	__builtin_memcpy(route.smac, &way->mark, sizeof(way->mark));
	return look_route_up(skb, packet, &route, ROUTING_BY_MARK, way);
}

static __always_inline int send_on(struct __sk_buff *skb,
				   const struct fos1_policy_route *way)
{
	struct bpf_redir_neigh next = {};
	u32 bytes = 0;

	if (bpf_check_mtu(skb, way->ifindex, &bytes, 0, 0))
		return TC_ACT_UNSPEC;
	if (!has_next_hop(way))
		return bpf_redirect_neigh(way->ifindex, NULL, 0, 0);
	next.nh_family = is_ipv6_next_hop(way) ? ROUTING_INET6 : ROUTING_INET;
	__builtin_memcpy(next.ipv6_nh, way->next_hop, sizeof(next.ipv6_nh));
	return bpf_redirect_neigh(way->ifindex, &next, sizeof(next), 0);
}

/* Give a packet to another neighbour on the link that it leaves by anyway. One
 * that is not known yet is asked for: the packet waits, and then comes again.
 */
static __always_inline int change_neighbour(struct __sk_buff *skb, u32 network,
					    const struct fos1_policy_route *way)
{
	struct bpf_fib_lookup route = {
		.family = is_ipv6_next_hop(way) ? ROUTING_INET6 : ROUTING_INET,
		.ifindex = way->ifindex,
	};
	long result;

	if (!has_next_hop(way) || network < ETH_HLEN)
		return TC_ACT_UNSPEC;
	__builtin_memcpy(route.ipv6_dst, way->next_hop, 16);
	result = bpf_fib_lookup(skb, &route, sizeof(route),
				BPF_FIB_LOOKUP_OUTPUT);
	if (result == BPF_FIB_LKUP_RET_NO_NEIGH)
		return send_on(skb, way);
	if (result != BPF_FIB_LKUP_RET_SUCCESS ||
	    bpf_skb_store_bytes(skb, 0, route.dmac, sizeof(route.dmac), 0))
		count(FOS1_NOTE_ROUTE_FAILED, 0);
	return TC_ACT_UNSPEC;
}

/* Find out where a rule sends a packet; false if it stays on its way. */
static __always_inline bool find_way(struct __sk_buff *skb,
				     const struct packet *packet, u32 at,
				     struct fos1_policy_route *way)
{
	if (at == STEER_IN && stays_here(skb, packet))
		return false;
	if (way->ifindex)
		return true;
	if (way->table ? table_route(skb, packet, way)
		       : mark_route(skb, packet, way))
		return true;
	count(FOS1_NOTE_ROUTE_FAILED, 0);
	return false;
}

/* Send a packet the way that a rule says; TC_ACT_UNSPEC lets the kernel route.
 * IPv6 cannot go by an IPv4 neighbour. Global, so that the verifier sees it
 * once.
 */
__noinline int policy_route(struct __sk_buff *skb, struct packet *packet,
			    u32 number, u32 network, u32 at)
{
	struct fos1_policy_route *found, way;

	found = bpf_map_lookup_elem(&policy_routes, &number);
	if (!packet || !found)
		return TC_ACT_UNSPEC;
	way = *found;
	if (way.mark)
		skb->mark = way.mark;
	if (!(way.ifindex || way.table || (way.mark && at == STEER_SENT)) ||
	    (packet->is_v6 && has_next_hop(&way) && !is_ipv6_next_hop(&way)) ||
	    !find_way(skb, packet, at, &way))
		return TC_ACT_UNSPEC;
	if (at != STEER_IN && way.ifindex == skb->ifindex)
		return change_neighbour(skb, network, &way);
	if (at == STEER_IN && !take_hop(skb, network, packet->is_v6))
		return TC_ACT_UNSPEC;
	return send_on(skb, &way);
}

/* Let a packet on, marked and sent as the rules say. `at`: enum steer_at. */
static __always_inline int steer(struct __sk_buff *skb, struct packet *packet,
				 u32 network, const struct asked *asked, u32 at)
{
	if (asked->dscp_plus_1 &&
	    !write_dscp(skb, network, packet->is_v6, asked->dscp_plus_1 - 1))
		count(FOS1_NOTE_ROUTE_FAILED, 0);
	if (asked->route_plus_1)
		return policy_route(skb, packet, asked->route_plus_1 - 1,
				    network, at);
	return TC_ACT_UNSPEC;
}

#endif
