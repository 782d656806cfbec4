/* SPDX-License-Identifier: GPL-2.0-only */
/* What NAT64 does otherwise (nat64_side.h), where both sides are of one family.
 */
#ifndef FOS1_NAT_SIDE_H
#define FOS1_NAT_SIDE_H

static __always_inline bool nat_is_type(__be16 ether_type)
{
	return ether_type == bpf_htons(NAT_ETHER_TYPE);
}

static __always_inline void nat_map_packet(const struct nat *nat,
					   const struct packet *packet)
{
	(void)nat, (void)packet;
}

/* Far ends are the same on both sides. */
static __always_inline void nat_translate_far(const struct nat *nat,
					      nat_flow_key *key)
{
	(void)nat, (void)key;
}

static __always_inline void nat_map_far(const struct nat *nat,
					const struct fos1_nat_policy *policy)
{
	(void)nat, (void)policy;
}

/* Ports are of one table. */
static __always_inline bool nat_hold_port(struct nat *nat, __be16 port)
{
	return nat && port;
}

static __always_inline void nat_keep_held(struct nat *nat, u64 until_ns)
{
	(void)nat, (void)until_ns;
}

static __always_inline u32 nat_source_interface(u32 interface)
{
	return interface;
}

#endif
