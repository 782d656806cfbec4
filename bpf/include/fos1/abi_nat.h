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
	FOS1_NAT_OUTSIDES = 1024,
	FOS1_NAT_PREFIXES = 1024,
	FOS1_NAT_MEMBERS = 16384,
	/* Slots of a balanced port: a prime (Maglev, 3.4). */
	FOS1_NAT_SLOTS = 1021,
	FOS1_NAT_PROBES = 128,
};

/* What an entry is for. OUT changes the source, IN the destination; PEER tells
 * that an outside endpoint (the destination) has spoken to another one.
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

/* State of a flow. MAPPED: it came by a declared port, or has one. HAIRPIN:
 * both ends are inside.
 */
enum fos1_nat_bit {
	FOS1_NAT_SEEN_OUT = 1,
	FOS1_NAT_SEEN_IN = 2,
	FOS1_NAT_FIN_OUT = 4,
	FOS1_NAT_FIN_IN = 8,
	FOS1_NAT_RST = 16,
	FOS1_NAT_MAPPED = 32,
	FOS1_NAT_HAIRPINNED = 64,
};

/* Of a policy. HAIRPIN: insiders reach outside addresses. */
enum fos1_nat_policy_flag {
	FOS1_NAT_HAIRPIN = 1,
};

/* Of a declared port. STATELESS: each packet is rewritten for itself. BALANCED:
 * `table` says where its slots and members are.
 */
enum fos1_nat_port_flag {
	FOS1_NAT_STATELESS = 1,
	FOS1_NAT_BALANCED = 2,
};

/* What tc_index says from one hook to the next: a hairpin's destination was
 * changed; or that of what comes in by an outside interface was.
 */
enum fos1_nat_mark {
	FOS1_NAT_TURNED = 0x4e41,
	FOS1_NAT_CROSSED = 0x4e43,
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

/* NAT64 keeps its IPv4 sides here too, as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2). */
struct fos1_nat_flow6_key {
	__be32 source[4];
	__be32 dest[4];
	__be16 source_port;
	__be16 dest_port;
	__u8 protocol;
	__u8 way;
	__u16 pad;
};
FOS1_SIZE(struct fos1_nat_flow6_key, 40);

/* The changed end's new address and port. Until fresh_ns a packet that tells
 * nothing new has nothing to write; after until_ns there is no flow. interface:
 * the outside one, 0 of a hairpin.
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

struct fos1_nat_flow6 {
	__u64 fresh_ns;
	__u64 until_ns;
	__be32 address[4];
	__be16 port;
	__u16 bits;
	__u32 generation;
	__u32 interface;
	__u32 policy;
};
FOS1_SIZE(struct fos1_nat_flow6, 48);

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

struct fos1_nat_end6_key {
	__be32 address[4];
	__be32 outside[4];
	__be16 port;
	__u8 protocol;
	__u8 way;
};
FOS1_SIZE(struct fos1_nat_end6_key, 36);

/* The other side's endpoint; an IN one that names itself is the router's own,
 * or held for NAT64. flows: how many it ever had.
 */
struct fos1_nat_end4 {
	__u64 until_ns;
	__u32 policy;
	__u32 flows;
	__be32 address;
	__be16 port;
	__u16 pad;
};
FOS1_SIZE(struct fos1_nat_end4, 24);

struct fos1_nat_end6 {
	__u64 until_ns;
	__u32 policy;
	__u32 flows;
	__be32 address[4];
	__be16 port;
	__u16 pad[3];
};
FOS1_SIZE(struct fos1_nat_end6, 40);

/* A policy on an interface. An outside address of 0: none of that family. Ports
 * of 0: the class of the inside port. most_flows of 0: no limit. prefix64 is
 * NAT64's, prefix64_bytes of 0: none.
 */
struct fos1_nat_policy {
	__be32 external4;
	__u32 interface;
	__be32 external6[4];
	__be32 prefix64[4];
	__u32 prefix64_bytes;
	__u32 flags;
	__u32 filtering;
	__u32 most_flows;
	__u16 first_port;
	__u16 last_port;
	__u32 udp_s;
	__u32 tcp_established_s;
	__u32 tcp_transitory_s;
	__u32 icmp_s;
	__u32 other_s;
};
FOS1_SIZE(struct fos1_nat_policy, 80);

/* Keys of the longest prefixes; interface counts among the prefix's bits. */
struct fos1_nat_source4 {
	__u32 prefix_bits;
	__u32 interface;
	__be32 address;
};
FOS1_SIZE(struct fos1_nat_source4, 12);

struct fos1_nat_source6 {
	__u32 prefix_bits;
	__u32 interface;
	__be32 address[4];
};
FOS1_SIZE(struct fos1_nat_source6, 24);

/* IN: a declared port of an outside address and interface. OUT: its mirror, an
 * endpoint inside that sends by the interface. Port and protocol of 0 stand for
 * all.
 */
struct fos1_nat_port4_key {
	__u32 interface;
	__be32 address;
	__be16 port;
	__u8 protocol;
	__u8 way;
};
FOS1_SIZE(struct fos1_nat_port4_key, 12);

struct fos1_nat_port6_key {
	__u32 interface;
	__be32 address[4];
	__be16 port;
	__u8 protocol;
	__u8 way;
};
FOS1_SIZE(struct fos1_nat_port6_key, 24);

/* Where a declared port leads; a port of 0 keeps the packet's. */
struct fos1_nat_port4 {
	__u32 policy;
	__u32 flags;
	__u32 table;
	__be32 address;
	__be16 port;
	__u16 pad;
};
FOS1_SIZE(struct fos1_nat_port4, 20);

struct fos1_nat_port6 {
	__u32 policy;
	__u32 flags;
	__u32 table;
	__be32 address[4];
	__be16 port;
	__u16 pad;
};
FOS1_SIZE(struct fos1_nat_port6, 32);

/* A slot of a balanced port. */
struct fos1_nat_backend4 {
	__be32 address;
	__be16 port;
	__u16 pad;
};
FOS1_SIZE(struct fos1_nat_backend4, 8);

struct fos1_nat_backend6 {
	__be32 address[4];
	__be16 port;
	__u16 pad;
};
FOS1_SIZE(struct fos1_nat_backend6, 20);

/* A member of a balanced port, whatever its weight. */
struct fos1_nat_member4 {
	__u32 table;
	__be32 address;
	__be16 port;
	__u16 pad;
};
FOS1_SIZE(struct fos1_nat_member4, 12);

struct fos1_nat_member6 {
	__u32 table;
	__be32 address[4];
	__be16 port;
	__u16 pad;
};
FOS1_SIZE(struct fos1_nat_member6, 24);

struct fos1_nat_outside4 {
	__be32 address;
};
FOS1_SIZE(struct fos1_nat_outside4, 4);

struct fos1_nat_outside6 {
	__be32 address[4];
};
FOS1_SIZE(struct fos1_nat_outside6, 16);

/* NPTv6 (RFC 6296): the longest prefix at a hook of an outside interface. */
struct fos1_nat_prefix_key {
	__u32 prefix_bits;
	__u32 interface;
	__u32 way;
	__be32 address[4];
};
FOS1_SIZE(struct fos1_nat_prefix_key, 28);

/* What it becomes. adjustment: what is added to a word of the rest, so that
 * the checksum stays: ~sum(new prefix) + sum(old prefix), as on the wire.
 */
struct fos1_nat_prefix {
	__be32 prefix[4];
	__u32 bits;
	__u32 policy;
	__be16 adjustment;
	__u16 pad;
};
FOS1_SIZE(struct fos1_nat_prefix, 28);

/* Of a policy. other: packets of protocols without ports. errors: ICMP errors.
 * unordered: fragments dropped since their first was not seen. limited: beyond
 * most_flows. stateless: packets rewritten each for itself.
 */
struct fos1_nat_stat {
	__u64 packets;
	__u64 bytes;
	__u64 begun;
	__u64 filtered;
	__u64 exhausted;
	__u64 full;
	__u64 refused;
	__u64 limited;
	__u64 errors;
	__u64 unordered;
	__u64 other;
	__u64 stateless;
};
FOS1_SIZE(struct fos1_nat_stat, 96);

/* Flows that a policy has, living or not yet swept. */
struct fos1_nat_usage {
	__u64 flows;
	__u64 swept_ns;
};
FOS1_SIZE(struct fos1_nat_usage, 16);

#endif
