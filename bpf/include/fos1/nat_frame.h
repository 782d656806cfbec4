/* SPDX-License-Identifier: GPL-2.0-only */
/* NAT for frames that have not become packets of the stack yet: those of flows
 * that it knows, which tell it nothing new. It says the same as nat_quick()
 * would, or nothing.
 */
#ifndef FOS1_NAT_FRAME_H
#define FOS1_NAT_FRAME_H

#include <fos1/nat_shared.h>
#include <fos1/parse.h>

enum nat_frame_number {
	NAT_FRAME_TCP_CHECK_AT = 16,
	NAT_FRAME_UDP_CHECK_AT = 6,
};

/* Flows of both families; nat_tables.h says what is in them. */
NAT_HASH(nat_flows4, FOS1_NAT_FLOWS * 2, struct fos1_nat_flow4_key,
	 struct fos1_nat_flow4);
NAT_HASH(nat_flows6, FOS1_NAT_FLOWS * 2, struct fos1_nat_flow6_key,
	 struct fos1_nat_flow6);

/* A change of one end of a frame's packet; policy 0: none. sum: what it adds to
 * a sum over the packet, address_sum: what of that is the address's.
 */
struct nat_crossing {
	__be32 address[4];
	__be16 port;
	u16 way;
	u32 policy;
	u32 address_sum;
	u32 sum;
};

static __always_inline u32 nat_folded(u64 sum)
{
	sum = (sum >> 32) + (u32)sum;
	sum = (sum >> 32) + (u32)sum;
	sum = (sum >> 16) + (u16)sum;
	return (sum >> 16) + (u16)sum;
}

/* What a sum over 16 bits gains when words become others. */
static __always_inline u32 nat_gain(const __be32 *old, const __be32 *new,
				    bool is_v6)
{
	u64 sum = (u64)(u32)~old[0] + new[0];

	if (is_v6) {
#pragma unroll
		for (int i = 1; i < 4; i++)
			sum += (u64)(u32)~old[i] + new[i];
	}
	return nat_folded(sum);
}

static __always_inline bool nat_is_current(u64 fresh_ns, u32 generation,
					   u32 of_interface, u32 interface)
{
	return of_interface == interface && generation == nat_generation() &&
	       bpf_ktime_get_coarse_ns() < fresh_ns;
}

static __always_inline bool nat_find4(const struct packet *packet,
				      u32 interface,
				      struct nat_crossing *crossing)
{
	struct fos1_nat_flow4_key key = {
		.source = packet->source[0],
		.dest = packet->dest[0],
		.source_port = packet->source_port,
		.dest_port = packet->dest_port,
		.protocol = packet->protocol,
		.way = crossing->way,
	};
	struct fos1_nat_flow4 *flow = bpf_map_lookup_elem(&nat_flows4, &key);

	if (!flow || !nat_is_current(flow->fresh_ns, flow->generation,
				     flow->interface, interface))
		return false;
	crossing->address[0] = flow->address;
	crossing->port = flow->port;
	crossing->policy = flow->policy;
	return true;
}

static __always_inline bool nat_find6(const struct packet *packet,
				      u32 interface,
				      struct nat_crossing *crossing)
{
	struct fos1_nat_flow6_key key = {
		.source_port = packet->source_port,
		.dest_port = packet->dest_port,
		.protocol = packet->protocol,
		.way = crossing->way,
	};
	struct fos1_nat_flow6 *flow;

	__builtin_memcpy(key.source, packet->source, sizeof(key.source));
	__builtin_memcpy(key.dest, packet->dest, sizeof(key.dest));
	flow = bpf_map_lookup_elem(&nat_flows6, &key);
	if (!flow || !nat_is_current(flow->fresh_ns, flow->generation,
				     flow->interface, interface))
		return false;
	__builtin_memcpy(crossing->address, flow->address,
			 sizeof(crossing->address));
	crossing->port = flow->port;
	crossing->policy = flow->policy;
	return true;
}

/* Find what becomes of a packet at an outside interface, and have it so in
 * *packet; false if that cannot be said here. crossing->way is given. Global,
 * so that the verifier sees it once.
 */
__noinline int nat_cross_frame(struct packet *packet, u32 interface,
			       struct nat_crossing *crossing)
{
	__be32 *address;
	__be16 *port;

	if (!packet || !crossing)
		return false;
	address = crossing->way == FOS1_NAT_OUT ? packet->source : packet->dest;
	port = crossing->way == FOS1_NAT_OUT ? &packet->source_port
					     : &packet->dest_port;
	if (!(packet->is_v6 ? nat_find6(packet, interface, crossing)
			    : nat_find4(packet, interface, crossing)))
		return false;
	crossing->address_sum =
		nat_gain(address, crossing->address, packet->is_v6);
	crossing->sum = crossing->address_sum + (u16) ~*port + crossing->port;
	address[0] = crossing->address[0];
	if (packet->is_v6)
		__builtin_memcpy(address, crossing->address,
				 sizeof(crossing->address));
	*port = crossing->port;
	return true;
}

/* A checksum when what it sums gains so much (RFC 1624). */
static __always_inline u16 nat_resummed(u16 check, u32 gain)
{
	return ~nat_folded((u64)(u16)~check + gain);
}

static __always_inline bool nat_write_ports(void *head, void *end, u8 protocol,
					    const struct nat_crossing *crossing)
{
	bool is_udp = protocol == IPPROTO_UDP;
	__be16 *ports = head;
	u16 *check = head +
		     (is_udp ? NAT_FRAME_UDP_CHECK_AT : NAT_FRAME_TCP_CHECK_AT);

	if ((void *)(ports + 2) > end || (void *)(check + 1) > end)
		return false;
	ports[crossing->way == FOS1_NAT_IN] = crossing->port;
	if (is_udp && !*check)
		return true;
	*check = nat_resummed(*check, crossing->sum);
	if (is_udp && !*check)
		*check = 0xffff;
	return true;
}

/* Write into a frame's plain packet what becomes of it. */
static __always_inline bool nat_write_frame(void *network, void *end,
					    const struct packet *packet,
					    const struct nat_crossing *crossing)
{
	bool is_in = crossing->way == FOS1_NAT_IN;
	struct ipv6hdr *ip6 = network;
	struct iphdr *ip4 = network;

	if (!crossing->policy)
		return true;
	if (packet->is_v6) {
		if ((void *)(ip6 + 1) > end)
			return false;
		__builtin_memcpy(is_in ? &ip6->daddr : &ip6->saddr,
				 crossing->address, sizeof(crossing->address));
		return nat_write_ports(ip6 + 1, end, packet->protocol,
				       crossing);
	}
	if ((void *)(ip4 + 1) > end)
		return false;
	if (is_in)
		ip4->daddr = crossing->address[0];
	else
		ip4->saddr = crossing->address[0];
	ip4->check = nat_resummed(ip4->check, crossing->address_sum);
	return nat_write_ports(ip4 + 1, end, packet->protocol, crossing);
}

static __always_inline void nat_count_frame(const struct nat_crossing *crossing,
					    u64 bytes)
{
	struct fos1_nat_stat *stat;

	if (!crossing->policy)
		return;
	stat = nat_stat(crossing->policy);
	if (!stat)
		return;
	stat->packets++;
	stat->bytes += bytes;
}

#endif
