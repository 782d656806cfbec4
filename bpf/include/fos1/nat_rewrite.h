/* SPDX-License-Identifier: GPL-2.0-only */
/* Changing one end of a packet, checksums adjusted by what changes: right for
 * whole, partial and summed packets alike. Addresses of IPv6 are stored so that
 * the sum of a summed packet follows, since its header has none that would make
 * up for them; the kernel's flag for that is too new.
 */
#ifndef FOS1_NAT_REWRITE_H
#define FOS1_NAT_REWRITE_H

#include <fos1/nat_packet.h>

enum nat_rewrite_number {
	NAT_TCP_CHECKSUM_AT = 16,
	NAT_UDP_CHECKSUM_AT = 6,
	NAT_ICMP_CHECKSUM_AT = 2,
	NAT_ICMP_ID_AT = 4,
	NAT_IPV4_CHECKSUM_AT = 10,
#if NAT_FAMILY == 4
	NAT_SOURCE_AT = 12,
	NAT_DEST_AT = 16,
#else
	NAT_SOURCE_AT = 8,
	NAT_DEST_AT = 24,
#endif
	NAT_ADDRESS_BYTES = NAT_WORDS * 4,
};

/* Where the transport's checksum is; 0: there is none that is adjusted. */
static __always_inline u32 nat_checksum_at(u8 protocol)
{
	switch (protocol) {
	case IPPROTO_TCP:
		return NAT_TCP_CHECKSUM_AT;
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
	case IPPROTO_DCCP:
		return NAT_UDP_CHECKSUM_AT;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return NAT_ICMP_CHECKSUM_AT;
	default:
		return 0;
	}
}

/* ICMP of IPv4 alone has no pseudo-header. */
static __always_inline bool nat_sums_addresses(u8 protocol)
{
	return protocol != IPPROTO_ICMP;
}

static __always_inline u64 nat_checksum_flags(u8 protocol)
{
	return protocol == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
}

static __always_inline bool nat_write_port(struct __sk_buff *skb, u32 transport,
					   const struct nat_change *change)
{
	u32 port_at = transport + (change->is_source ? 0 : 2);
	u32 sum_at = transport + nat_checksum_at(change->protocol);

	if (!change->has_port || change->old_port == change->new_port)
		return true;
	if (nat_is_icmp(change->protocol))
		port_at = transport + NAT_ICMP_ID_AT;
	return !bpf_l4_csum_replace(skb, sum_at, change->old_port,
				    change->new_port,
				    nat_checksum_flags(change->protocol) | 2) &&
	       !bpf_skb_store_bytes(skb, port_at, &change->new_port, 2, 0);
}

/* The sum of what an address changes by. */
static __always_inline u32 nat_address_diff(const struct nat_change *change)
{
	return bpf_csum_diff((__be32 *)change->old_address, NAT_ADDRESS_BYTES,
			     (__be32 *)change->new_address, NAT_ADDRESS_BYTES,
			     0);
}

/* Adjust the transport's checksum to a new address. */
static __always_inline bool nat_sum_address(struct __sk_buff *skb, u32 at,
					    const struct nat_change *change)
{
	u64 flags = nat_checksum_flags(change->protocol) | BPF_F_PSEUDO_HDR;

#if NAT_FAMILY == 4
	return !bpf_l4_csum_replace(skb, at, change->old_address[0],
				    change->new_address[0], flags | 4);
#else
	return !bpf_l4_csum_replace(skb, at, 0, nat_address_diff(change),
				    flags);
#endif
}

/* Write an address into the network header. */
static __always_inline bool nat_store_address(struct __sk_buff *skb,
					      u32 network,
					      const struct nat_change *change)
{
	u32 at = network + (change->is_source ? NAT_SOURCE_AT : NAT_DEST_AT);

#if NAT_FAMILY == 4
	return !bpf_l3_csum_replace(skb, network + NAT_IPV4_CHECKSUM_AT,
				    change->old_address[0],
				    change->new_address[0], 4) &&
	       !bpf_skb_store_bytes(skb, at, change->new_address,
				    NAT_ADDRESS_BYTES, 0);
#else
	return !bpf_skb_store_bytes(skb, at, change->new_address,
				    NAT_ADDRESS_BYTES, BPF_F_RECOMPUTE_CSUM);
#endif
}

/* has_head: the transport header is in this packet, and not in an earlier
 * fragment.
 */
static __always_inline bool nat_write_address(struct __sk_buff *skb,
					      const struct layout *layout,
					      const struct nat_change *change,
					      bool has_head)
{
	u32 sum_at = nat_checksum_at(change->protocol);

	if (nat_same(change->old_address, change->new_address))
		return true;
	if (has_head && sum_at && nat_sums_addresses(change->protocol) &&
	    !nat_sum_address(skb, layout->transport + sum_at, change))
		return false;
	return nat_store_address(skb, layout->network, change);
}

/* Change an end; false if the packet is not as it was read. */
static __always_inline bool nat_write_end(struct __sk_buff *skb,
					  const struct layout *layout,
					  const struct nat_change *change,
					  bool has_head)
{
	return (!has_head || nat_write_port(skb, layout->transport, change)) &&
	       nat_write_address(skb, layout, change, has_head);
}

/* Change the packet at hand as nat->change says. */
__noinline int NAT_OF(nat_rewrite)(struct __sk_buff *skb)
{
	struct nat *nat = nat_here();

	return nat && nat_write_end(skb, &nat->layout, &nat->change,
				    nat->layout.payload);
}

#endif
