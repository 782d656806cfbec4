/* SPDX-License-Identifier: GPL-2.0-only */
/* The part of abi.h that is about address translation (docs/design/nat.md). */
#ifndef FOS1_ABI_NAT_H
#define FOS1_ABI_NAT_H

#include <linux/types.h>

enum fos1_nat_size {
	FOS1_NAT_FLOWS = 131072,
	FOS1_NAT_POLICIES = 1024,
	FOS1_NAT_SOURCES = 65536,
	FOS1_NAT_PORTS = 65536,
	FOS1_NAT_PROBES = 128,
};

/* What an entry is for. OUT changes the source, IN the destination; PEER tells
 * that an outside endpoint (the destination) has spoken to an address.
 */
enum fos1_nat_way {
	FOS1_NAT_OUT = 0,
	FOS1_NAT_IN,
	FOS1_NAT_PEER,
};

enum fos1_nat_filtering {
	FOS1_NAT_FILTER_PORT = 0,
	FOS1_NAT_FILTER_ADDRESS,
	FOS1_NAT_FILTER_NONE,
};

enum fos1_nat_bit {
	FOS1_NAT_SEEN_OUT = 1,
	FOS1_NAT_SEEN_IN = 2,
	FOS1_NAT_FIN_OUT = 4,
	FOS1_NAT_FIN_IN = 8,
	FOS1_NAT_RST = 16,
	FOS1_NAT_MAPPED = 32,
};

/* A flow as the hook meets it: before its source (OUT) or destination (IN) is
 * changed. Of an ICMP echo the asking end has the identifier, the other 0.
 */
struct fos1_nat_flow4_key {
	__be32 source;
	__be32 dest;
	__be16 source_port;
	__be16 dest_port;
	__u8 protocol;
	__u8 way;
	__u16 pad;
};
FOS1_SIZE(struct fos1_nat_flow4_key, 16);

/* The changed end's new address and port. Until fresh_ns a packet that tells
 * nothing new has nothing to write; after until_ns there is no flow.
 */
struct fos1_nat_flow4 {
	__u64 fresh_ns;
	__u64 until_ns;
	__be32 address;
	__be16 port;
	__u16 bits;
	__u32 generation;
	__u32 interface;
	__u32 policy;
	__u32 pad;
};
FOS1_SIZE(struct fos1_nat_flow4, 40);

/* OUT: an inside endpoint, and the outside address it is to have. IN: an
 * outside endpoint; outside is 0.
 */
struct fos1_nat_end4_key {
	__be32 address;
	__be32 outside;
	__be16 port;
	__u8 protocol;
	__u8 way;
};
FOS1_SIZE(struct fos1_nat_end4_key, 12);

/* The other side's endpoint. flows: how many it ever had. */
struct fos1_nat_end4 {
	__u64 until_ns;
	__u32 policy;
	__u32 flows;
	__be32 address;
	__be16 port;
	__u16 pad;
};
FOS1_SIZE(struct fos1_nat_end4, 24);

/* A policy. Ports of 0: the class of the inside port. */
struct fos1_nat_policy {
	__be32 external[4];
	__u32 interface;
	__u32 filtering;
	__u16 first_port;
	__u16 last_port;
	__u32 udp_s;
	__u32 tcp_established_s;
	__u32 tcp_transitory_s;
	__u32 icmp_s;
	__u32 pad;
};
FOS1_SIZE(struct fos1_nat_policy, 48);

struct fos1_nat_source4 {
	__u32 prefix_bits;
	__u32 interface;
	__be32 address;
};
FOS1_SIZE(struct fos1_nat_source4, 12);

/* A declared port; port and protocol of 0 stand for all. */
struct fos1_nat_port4_key {
	__be32 address;
	__be16 port;
	__u8 protocol;
	__u8 pad;
};
FOS1_SIZE(struct fos1_nat_port4_key, 8);

/* Where a declared port leads; a port of 0 keeps the packet's. */
struct fos1_nat_port4 {
	__u32 policy;
	__be32 address;
	__be16 port;
	__u16 pad;
};
FOS1_SIZE(struct fos1_nat_port4, 12);

struct fos1_nat_stat {
	__u64 packets;
	__u64 bytes;
	__u64 begun;
	__u64 filtered;
	__u64 exhausted;
	__u64 full;
	__u64 refused;
};
FOS1_SIZE(struct fos1_nat_stat, 56);

#endif
