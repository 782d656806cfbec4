/* SPDX-License-Identifier: GPL-2.0-only */
/* NAT64's other side: IPv4 addresses in those of IPv6, as far ends (RFC 6052)
 * and in tables, and its ports among those of NAT44.
 */
#ifndef FOS1_NAT64_SIDE_H
#define FOS1_NAT64_SIDE_H

enum nat64_number {
	/* Bits 64 to 71 of an address with a prefix are zero (RFC 6052, 2.2). */
	NAT64_SKIPPED_BYTE = 8,
	NAT64_HOLD_S = 60,
};

/* Outside endpoints of IPv4: an end that names itself belongs to the router,
 * and so NAT44 leaves it alone. Writers: these programs and those of NAT44.
 */
NAT_HASH(nat_ends4, FOS1_NAT_FLOWS * 2, struct fos1_nat_end4_key,
	 struct fos1_nat_end4);
NAT_HASH(nat_ports4, FOS1_NAT_PORTS, struct fos1_nat_port4_key,
	 struct fos1_nat_port4);

static __always_inline bool nat_is_type(__be16 ether_type)
{
	return ether_type == bpf_htons(ETH_P_IP) ||
	       ether_type == bpf_htons(ETH_P_IPV6);
}

static __always_inline void nat_map_address(__be32 *to, __be32 address)
{
	to[0] = 0;
	to[1] = 0;
	to[2] = bpf_htonl(0xffff);
	to[3] = address;
}

/* Packets of IPv4 are read as if they were of IPv6. */
static __always_inline void nat_map_packet(struct nat *nat,
					   struct packet *packet)
{
	nat->is_v4 = packet->ether_type == bpf_htons(ETH_P_IP);
	if (!nat->is_v4)
		return;
	nat_map_address(packet->source, packet->source[0]);
	nat_map_address(packet->dest, packet->dest[0]);
}

static __always_inline void nat_map_far(struct nat *nat,
					const struct fos1_nat_policy *policy)
{
	nat->prefix_bytes = 0;
	if (!policy)
		return;
	nat_copy(nat->prefix, policy->prefix64);
	nat->prefix_bytes = policy->prefix64_bytes;
}

/* A policy's outside address, or none. */
static __always_inline const __be32 *
nat_map_external(struct nat *nat, const struct fos1_nat_policy *policy)
{
	__builtin_memset(nat->external, 0, sizeof(nat->external));
	if (policy->external4)
		nat_map_address(nat->external, policy->external4);
	return nat->external;
}

/* Where a byte of the IPv4 address is behind the prefix. */
static __always_inline u32 nat_embedded_at(const struct nat *nat, u32 byte)
{
	u32 at = nat->prefix_bytes + byte;

	if (nat->prefix_bytes <= NAT64_SKIPPED_BYTE && at >= NAT64_SKIPPED_BYTE)
		at++;
	return at & 15;
}

/* Whether an address has the prefix. */
static __always_inline bool nat_has_prefix(const struct nat *nat,
					   const __be32 *address)
{
	const u8 *one = (const u8 *)address, *other = (const u8 *)nat->prefix;

	for (u32 i = 0; i < 12; i++)
		if (i < nat->prefix_bytes && one[i] != other[i])
			return false;
	return nat->prefix_bytes;
}

/* The IPv4 address behind the prefix, mapped; and the other way. */
static __always_inline void nat_take_embedded(const struct nat *nat,
					      __be32 *address)
{
	const u8 *bytes = (const u8 *)address;
	u32 found = 0;

#pragma unroll
	for (u32 i = 0; i < 4; i++)
		found = found << 8 | bytes[nat_embedded_at(nat, i)];
	nat_map_address(address, bpf_htonl(found));
}

static __always_inline void nat_embed(const struct nat *nat, __be32 *address)
{
	u32 value = bpf_ntohl(address[3]);
	u8 *bytes = (u8 *)address;

	nat_copy(address, nat->prefix);
#pragma unroll
	for (u32 i = 0; i < 4; i++)
		bytes[nat_embedded_at(nat, i)] = value >> (24 - 8 * i);
}

/* The far end of a key, from the other side's. */
static __always_inline void nat_translate_far(const struct nat *nat,
					      nat_flow_key *key)
{
	if (key->way == FOS1_NAT_IN)
		nat_take_embedded(nat, key->source);
	else
		nat_embed(nat, key->dest);
}

static __always_inline void nat_held_key(struct fos1_nat_end4_key *key,
					 __be32 address, __be16 port,
					 u8 protocol)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->address = address;
	key->port = port;
	key->protocol = protocol == NAT_ICMP ? IPPROTO_ICMP : protocol;
	key->way = FOS1_NAT_IN;
}

/* Take a port of the outside address from NAT44. */
static __always_inline bool nat_hold_port(struct nat *nat, __be16 port)
{
	struct nat_wish *wish = &nat->wish;
	struct fos1_nat_port4_key declared = {
		.interface = nat->outside_interface,
		.address = wish->external[3],
		.port = port,
		.protocol = wish->protocol,
		.way = FOS1_NAT_IN,
	};
	struct fos1_nat_end4 end = {
		.until_ns =
			nat->now_ns + (u64)NAT64_HOLD_S * FOS1_NS_PER_SECOND,
		.address = wish->external[3],
		.port = port,
	};
	struct fos1_nat_end4_key key;
	struct fos1_nat_end4 *old;

	nat_held_key(&key, wish->external[3], port, wish->protocol);
	if (bpf_map_lookup_elem(&nat_ports4, &declared))
		return false;
	old = bpf_map_lookup_elem(&nat_ends4, &key);
	if (old && nat->now_ns > old->until_ns)
		bpf_map_delete_elem(&nat_ends4, &key);
	return !bpf_map_update_elem(&nat_ends4, &key, &end, BPF_NOEXIST);
}

/* Hold it as long as the end that is nat->end_key. */
static __always_inline void nat_keep_held(struct nat *nat, u64 until_ns)
{
	struct fos1_nat_end4_key key;
	struct fos1_nat_end4 *held;

	nat_held_key(&key, nat->end_key.address[3], nat->end_key.port,
		     nat->end_key.protocol);
	held = bpf_map_lookup_elem(&nat_ends4, &key);
	if (held && held->address == key.address && held->until_ns < until_ns)
		held->until_ns = until_ns;
}

/* Sources are translated whatever interface they leave by. */
static __always_inline u32 nat_source_interface(u32 interface)
{
	(void)interface;
	return 0;
}

#endif
