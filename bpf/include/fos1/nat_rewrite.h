/* SPDX-License-Identifier: GPL-2.0-only */
/* Changing one end of an IPv4 packet, checksums adjusted by what changes: right
 * for whole, partial and summed packets alike.
 */
#ifndef FOS1_NAT_REWRITE_H
#define FOS1_NAT_REWRITE_H

#include <fos1/read.h>
#include <fos1/types.h>

enum nat_rewrite_number {
	NAT_IPV4_CHECKSUM_AT = 10,
	NAT_IPV4_SOURCE_AT = 12,
	NAT_IPV4_DEST_AT = 16,
	NAT_TCP_CHECKSUM_AT = 16,
	NAT_UDP_CHECKSUM_AT = 6,
	NAT_ICMP_CHECKSUM_AT = 2,
	NAT_ICMP_ID_AT = 4,
};

/* One end of a packet: which one, what it has, what it gets. */
struct nat_change {
	bool is_source;
	u8 protocol;
	bool has_head;
	u8 pad;
	__be32 old_address;
	__be32 new_address;
	__be16 old_port;
	__be16 new_port;
};

/* Where the transport checksum is, and how it is adjusted; 0: there is none
 * that the addresses or ports are part of.
 */
static __always_inline u32 nat_checksum_at(u8 protocol, u64 *flags)
{
	*flags = 0;
	switch (protocol) {
	case IPPROTO_TCP:
		return NAT_TCP_CHECKSUM_AT;
	case IPPROTO_UDP:
		*flags = BPF_F_MARK_MANGLED_0;
		return NAT_UDP_CHECKSUM_AT;
	case IPPROTO_UDPLITE:
	case IPPROTO_DCCP:
		return NAT_UDP_CHECKSUM_AT;
	default:
		return 0;
	}
}

static __always_inline bool nat_write_port(struct __sk_buff *skb, u32 transport,
					   const struct nat_change *change)
{
	u32 port_at = transport + (change->is_source ? 0 : 2);
	u32 sum_at = NAT_ICMP_CHECKSUM_AT;
	u64 flags = 0;

	if (change->old_port == change->new_port)
		return true;
	if (change->protocol == IPPROTO_ICMP)
		port_at = transport + NAT_ICMP_ID_AT;
	else
		sum_at = nat_checksum_at(change->protocol, &flags);
	return !bpf_l4_csum_replace(skb, transport + sum_at, change->old_port,
				    change->new_port, flags | 2) &&
	       !bpf_skb_store_bytes(skb, port_at, &change->new_port, 2, 0);
}

static __always_inline bool nat_write_address(struct __sk_buff *skb,
					      const struct layout *layout,
					      const struct nat_change *change)
{
	u32 at = layout->network +
		 (change->is_source ? NAT_IPV4_SOURCE_AT : NAT_IPV4_DEST_AT);
	u32 old = change->old_address, new = change->new_address;
	u64 flags;
	u32 sum_at = nat_checksum_at(change->protocol, &flags);

	if (old == new)
		return true;
	if (sum_at && change->has_head &&
	    bpf_l4_csum_replace(skb, layout->transport + sum_at, old, new,
				flags | BPF_F_PSEUDO_HDR | 4))
		return false;
	return !bpf_l3_csum_replace(skb, layout->network + NAT_IPV4_CHECKSUM_AT,
				    old, new, 4) &&
	       !bpf_skb_store_bytes(skb, at, &change->new_address, 4, 0);
}

/* Change an end; false if the packet is not as it was read. Global, so that
 * the verifier sees it once.
 */
__noinline int nat_rewrite4(struct __sk_buff *skb, struct layout *layout,
			    struct nat_change *change)
{
	if (!layout || !change)
		return false;
	if (change->has_head && !nat_write_port(skb, layout->transport, change))
		return false;
	return nat_write_address(skb, layout, change);
}

#endif
