/* SPDX-License-Identifier: GPL-2.0-only */
/* From one family to the other (RFC 7915): the packet at hand, whose ends are
 * known on both sides.
 */
#ifndef FOS1_NAT64_TRANSLATE_H
#define FOS1_NAT64_TRANSLATE_H

enum nat64_translate_number {
	NAT64_IPV4_BYTES = 20,
	NAT64_IPV6_BYTES = 40,
	/* Packets of IPv6 up to so long may be fragmented in IPv4 (4.1). */
	NAT64_MAY_FRAGMENT = 1260,
	NAT64_DONT_FRAGMENT = 0x4000,
	NAT64_PLAIN = 0x45,
	NAT64_ETHER_TYPE_AT = 12,
};

/* What the packet is marked with, ECN too. */
static __always_inline void nat_read_class(struct __sk_buff *skb,
					   struct nat *nat)
{
	u8 head[2] = {};

	bpf_skb_load_bytes(skb, nat->layout.network, head, sizeof(head));
	nat->traffic_class = nat->is_v4 ? head[1]
					: (head[0] & 15) << 4 | head[1] >> 4;
}

/* The ends of the packet on the other side, mapped: nat->ends. */
static __always_inline void nat_find_ends(struct nat *nat,
					  const __be32 *address)
{
	nat_flow_key *other = &nat->peer;

	*other = nat->key;
	nat_copy(other->source, nat->key.source);
	nat_copy(other->dest, nat->key.dest);
	if (nat->key.way == FOS1_NAT_OUT) {
		nat_copy(other->source, address);
		nat_take_embedded(nat, other->dest);
	} else {
		nat_copy(other->dest, address);
		nat_embed(nat, other->source);
	}
	nat_copy(nat->ends, other->source);
	nat_copy(nat->ends + 4, other->dest);
}

static __always_inline u16 nat_fold(u64 sum)
{
#pragma unroll
	for (int i = 0; i < 4; i++)
		sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* Write the new network header. */
static __always_inline bool nat_put_ipv4(struct __sk_buff *skb, struct nat *nat)
{
	u32 bytes = skb->len - nat->layout.network;
	u8 protocol = nat->packet.protocol;
	struct iphdr ip = {
		.tot_len = bpf_htons(bytes),
		.ttl = nat->packet.hop_limit - 1,
		.protocol = protocol == NAT_ICMP ? IPPROTO_ICMP : protocol,
		.saddr = nat->ends[3],
		.daddr = nat->ends[7],
	};

	*(u8 *)&ip = NAT64_PLAIN;
	ip.tos = nat->traffic_class;
	if (bytes > NAT64_MAY_FRAGMENT)
		ip.frag_off = bpf_htons(NAT64_DONT_FRAGMENT);
	else
		ip.id = bpf_get_prandom_u32();
	ip.check =
		nat_fold(bpf_csum_diff(NULL, 0, (__be32 *)&ip, sizeof(ip), 0));
	return !bpf_skb_store_bytes(skb, nat->layout.network, &ip, sizeof(ip),
				    BPF_F_RECOMPUTE_CSUM);
}

static __always_inline bool nat_put_ipv6(struct __sk_buff *skb, struct nat *nat)
{
	u32 bytes = skb->len - nat->layout.network - NAT64_IPV6_BYTES;
	u8 protocol = nat->packet.protocol;
	struct ipv6hdr ip = {
		.payload_len = bpf_htons(bytes),
		.nexthdr = protocol == IPPROTO_ICMP ? NAT_ICMP : protocol,
		.hop_limit = nat->packet.hop_limit,
	};

	*(__be32 *)&ip = bpf_htonl(6U << 28 | (u32)nat->traffic_class << 20);
	nat_copy((__be32 *)&ip.saddr, nat->ends);
	nat_copy((__be32 *)&ip.daddr, nat->ends + 4);
	return !bpf_skb_store_bytes(skb, nat->layout.network, &ip, sizeof(ip),
				    BPF_F_RECOMPUTE_CSUM);
}

/* Change the port of this hook's end, as nat->change says; the transport header
 * is where it is now.
 */
static __always_inline bool nat_put_port(struct __sk_buff *skb, struct nat *nat,
					 __be16 port)
{
	struct nat_change *change = &nat->change;

	change->old_port = nat_old_port(&nat->key);
	change->new_port = port;
	change->is_source = nat->key.way == FOS1_NAT_OUT;
	change->protocol = nat->key.protocol;
	change->has_port = true;
	return nat_write_port(skb, nat->layout.transport, change);
}

/* Of TCP and UDP the pseudo-headers differ by the addresses alone. */
static __always_inline bool nat_sum_ends(struct __sk_buff *skb, struct nat *nat)
{
	u32 at = nat->layout.transport + nat_checksum_at(nat->key.protocol);
	u64 diff = bpf_csum_diff(nat->packet.source, 32, nat->ends, 32, 0);

	return !bpf_l4_csum_replace(skb, at, 0, diff,
				    nat_checksum_flags(nat->key.protocol) |
					    BPF_F_PSEUDO_HDR);
}

/* ICMP has none in IPv4, and other numbers for queries. */
static __always_inline bool nat_put_query(struct __sk_buff *skb,
					  struct nat *nat)
{
	u32 at = nat->layout.transport, end = skb->len;
	bool is_out = nat->key.way == FOS1_NAT_OUT, asks;
	__be32 rest[2] = { bpf_htonl(end - at), bpf_htonl(NAT_ICMP) };
	u16 old = nat->packet.icmp_type, new;
	u64 diff;

	asks = nat_asks(&nat->packet);
	if (is_out) {
		new = asks ? ICMP4_ECHO_REQUEST : ICMP4_ECHO_REPLY;
		diff = bpf_csum_diff(nat->packet.source, 32, NULL, 0, 0);
		diff = bpf_csum_diff(rest, sizeof(rest), NULL, 0, diff);
	} else {
		new = asks ? ICMP6_ECHO_REQUEST : ICMP6_ECHO_REPLY;
		diff = bpf_csum_diff(NULL, 0, nat->ends, 32, 0);
		diff = bpf_csum_diff(NULL, 0, rest, sizeof(rest), diff);
	}
	old = bpf_htons(old << 8);
	new = bpf_htons(new << 8);
	return !bpf_l4_csum_replace(skb, at + NAT_ICMP_CHECKSUM_AT, 0, diff,
				    BPF_F_PSEUDO_HDR) &&
	       !bpf_l4_csum_replace(skb, at + NAT_ICMP_CHECKSUM_AT, old, new,
				    2) &&
	       !bpf_skb_store_bytes(skb, at, &new, sizeof(new), 0);
}

/* Whether a packet is one that is translated: no options or extensions, not a
 * fragment, with a checksum.
 */
static __always_inline bool nat_is_plain(struct __sk_buff *skb,
					 const struct nat *nat)
{
	const struct layout *layout = &nat->layout;
	u32 header = nat->is_v4 ? NAT64_IPV4_BYTES : NAT64_IPV6_BYTES;
	__be16 check = 1;

	if (nat->packet.is_fragment || nat->packet.is_later_fragment ||
	    layout->transport - layout->network != header ||
	    !nat_has_port(nat->key.protocol))
		return false;
	if (nat->key.protocol == IPPROTO_UDP)
		bpf_skb_load_bytes(skb, layout->transport + NAT_UDP_CHECKSUM_AT,
				   &check, sizeof(check));
	return check;
}

static __always_inline bool nat_put_header(struct __sk_buff *skb,
					   struct nat *nat)
{
	bool is_out = nat->key.way == FOS1_NAT_OUT;
	__be16 type = bpf_htons(is_out ? ETH_P_IP : ETH_P_IPV6);

	if (bpf_skb_change_proto(skb, type, 0))
		return false;
	if (nat->layout.network >= ETH_HLEN &&
	    bpf_skb_store_bytes(skb, nat->layout.network - sizeof(type), &type,
				sizeof(type), 0))
		return false;
	nat->layout.transport = nat->layout.network +
				(is_out ? NAT64_IPV4_BYTES : NAT64_IPV6_BYTES);
	return is_out ? nat_put_ipv4(skb, nat) : nat_put_ipv6(skb, nat);
}

/* Make the packet at hand one of the other family, this hook's end another.
 * Global, so that the verifier sees it once.
 */
__noinline int nat64_cross(struct __sk_buff *skb)
{
	struct nat *nat = nat_here();

	if (!nat)
		return false;
	nat_find_ends(nat, nat->lead.address);
	nat_read_class(skb, nat);
	if (!nat_put_header(skb, nat) ||
	    !nat_put_port(skb, nat, nat->lead.port))
		return false;
	return nat_is_icmp(nat->key.protocol) ? nat_put_query(skb, nat)
					      : nat_sum_ends(skb, nat);
}

/* Send what leaves out at once: with an outside address for its source, the
 * router would take it for its own.
 */
static __always_inline int nat_translate(struct __sk_buff *skb, struct nat *nat,
					 const __be32 *address, __be16 port,
					 u32 policy)
{
	u32 interface = nat->interface, bytes = 0;
	bool is_out = nat->key.way == FOS1_NAT_OUT;

	nat_copy(nat->lead.address, address);
	nat->lead.port = port;
	if (!nat_is_plain(skb, nat) ||
	    (is_out && (nat->packet.hop_limit <= 1 ||
			bpf_check_mtu(skb, interface, &bytes,
				      NAT64_IPV4_BYTES - NAT64_IPV6_BYTES, 0))))
		return NAT_DROP(policy, refused);
	if (!nat64_cross(skb))
		return TC_ACT_SHOT;
	nat_count_packet(policy, wire_bytes(skb, nat->layout.payload), false);
	return is_out ? bpf_redirect_neigh(interface, NULL, 0, 0)
		      : TC_ACT_UNSPEC;
}

#endif
