/* SPDX-License-Identifier: GPL-2.0-only */
/* One source, compiled for each family: NAT_FAMILY is 4 or 6. An address is
 * that many words, wherever it is kept.
 */
#ifndef FOS1_NAT_FAMILY_H
#define FOS1_NAT_FAMILY_H

#include <fos1/types.h>

/* NAT64 has IPv6 on one side, and keeps the other's addresses as if they were
 * that too: ::ffff:a.b.c.d.
 */
#if NAT_FAMILY == 4
#define NAT_OF(name)	   name##4
#define NAT_PROGRAM(hook)  fos1_tc_nat4_##hook
#define NAT_STRUCT(a, b)   struct fos1_nat_##a##4##b
#define NAT_EXTERNAL(rule) NAT_WORDS_OF((rule)->external4)
#define NAT_ETHER_TYPE	   ETH_P_IP
#define NAT_ICMP	   IPPROTO_ICMP
enum nat_family_number { NAT_WORDS = 1 };
#else
#define NAT_OF(name)	  name##6
#define NAT_PROGRAM(hook) fos1_tc_nat6_##hook
#define NAT_STRUCT(a, b)  struct fos1_nat_##a##6##b
#ifdef NAT_64
#define NAT_EXTERNAL(rule) nat_map_external(nat, rule)
#else
#define NAT_EXTERNAL(rule) NAT_WORDS_OF((rule)->external6)
#endif
#define NAT_ETHER_TYPE ETH_P_IPV6
#define NAT_ICMP       IPPROTO_ICMPV6
enum nat_family_number { NAT_WORDS = 4 };
#endif

#define NAT_WORDS_OF(address) ((__be32 *)&(address))

#ifdef NAT_64
#define NAT_SCRATCH nat_scratch64
#else
#define NAT_SCRATCH NAT_OF(nat_scratch)
#endif

typedef NAT_STRUCT(flow, _key) nat_flow_key;
typedef NAT_STRUCT(flow, ) nat_flow;
typedef NAT_STRUCT(end, _key) nat_end_key;
typedef NAT_STRUCT(end, ) nat_end;
typedef NAT_STRUCT(source, ) nat_source_key;
typedef NAT_STRUCT(port, _key) nat_port_key;
typedef NAT_STRUCT(port, ) nat_port;
typedef NAT_STRUCT(backend, ) nat_backend;
typedef NAT_STRUCT(member, ) nat_member;
typedef NAT_STRUCT(outside, ) nat_outside;

static __always_inline void nat_copy(__be32 *to, const __be32 *from)
{
#pragma unroll
	for (int i = 0; i < NAT_WORDS; i++)
		to[i] = from[i];
}

static __always_inline bool nat_same(const __be32 *one, const __be32 *other)
{
	u32 differs = 0;

#pragma unroll
	for (int i = 0; i < NAT_WORDS; i++)
		differs |= one[i] ^ other[i];
	return !differs;
}

static __always_inline bool nat_is_none(const __be32 *address)
{
	u32 any = 0;

#pragma unroll
	for (int i = 0; i < NAT_WORDS; i++)
		any |= address[i];
	return !any;
}

#endif
