/* SPDX-License-Identifier: GPL-2.0-only */
/* What the programs and the daemon share; fos1d/abi.py is generated from it.
 *
 * Fixed-width types, explicit padding, a size assertion on every structure.
 * Constants are enums, since a #define never reaches BTF. Network order is a
 * type (__be16, __be32), never a comment.
 */
#ifndef FOS1_ABI_H
#define FOS1_ABI_H

#include <linux/types.h>

#define FOS1_SIZE(type, bytes) \
	_Static_assert(sizeof(type) == (bytes), #type " is part of the ABI")
/* Why a program did what it did: the index into its counters. A NOTE is
 * counted beside the reason of the same packet.
 */
enum fos1_reason {
	FOS1_PASS = 0,
	FOS1_PASS_NOT_IP,
	FOS1_PASS_ESTABLISHED,
	FOS1_PASS_ADOPTED,
	FOS1_PASS_VITAL,
	FOS1_PASS_RELATED,
	FOS1_PASS_FAST_PATH,
	FOS1_DROP_BLACKLIST,
	FOS1_DROP_RATE_LIMIT,
	FOS1_DROP_RATE_LIMIT_CROWD,
	FOS1_DROP_NO_FLOW,
	FOS1_DROP_SYN_FLOOD,
	FOS1_DROP_ICMP_FLOOD,
	FOS1_DROP_UDP_FLOOD,
	FOS1_DROP_CONNECTIONS_PER_SECOND,
	FOS1_DROP_CONNECTIONS_PER_IP,
	FOS1_DROP_MALFORMED,
	FOS1_DROP_TINY_FRAGMENT,
	FOS1_DROP_TOO_DEEP,
	FOS1_DROP_POLICY,
	FOS1_DROP_CONTAINER_POLICY,
	FOS1_DROP_RULE_LIMIT,
	FOS1_DROP_WORKLOAD_LIMIT,
	FOS1_NOTE_FLOWS_FULL,
	FOS1_NOTE_CHAIN_BROKEN,
	FOS1_NOTE_COUNTERS_FULL,
	FOS1_NOTE_EVENTS_FULL,
	FOS1_NOTE_ROUTE_FAILED,
	FOS1_REASONS,
};

/* Sizes that both sides must agree on. */
enum fos1_size {
	FOS1_SET4_LINES = 65536,
	FOS1_SET6_KEYS = 8,
	FOS1_SET6_FANOUT = 9,
	FOS1_SET6_LEVELS = 8,
	FOS1_SET6_FILTER_WORDS = 262144,
	FOS1_SOURCES = 65536,
	FOS1_CROWDS = 4096,
	FOS1_USER_LISTS = 4,
	FOS1_FAILSAFE_PORTS = 16,
	FOS1_TRACKED_INTERFACES = 1024,
	FOS1_CONNECTION_SOURCES = 65536,
	FOS1_CHAIN_SLOTS = 32,
	FOS1_POLICY_RULES = 16384,
	FOS1_TREE_LEVELS = 6,
	FOS1_TREE32_KEYS = 16,
	FOS1_TREE32_FANOUT = 17,
	FOS1_TREE128_KEYS = 8,
	FOS1_TREE128_FANOUT = 9,
	FOS1_LEAF32_INTERVALS = 8,
	FOS1_LEAF128_INTERVALS = 6,
	FOS1_LEAF_VECTORS = 8,
	FOS1_RULE_BUCKETS = 65536,
	FOS1_POLICY_PLACES = 16384,
	FOS1_POLICY_INTERFACES = 1024,
	FOS1_FRAGMENTS = 8192,
	FOS1_OPERATOR_FLOWS = 256,
	FOS1_EVENTS_BYTES = 262144,
	FOS1_FRAGMENTED = 4096,
};

/* Buckets keep time in 1/64 ns, so that high rates lose no fraction. */
enum fos1_time {
	FOS1_TIME_SHIFT = 6,
	FOS1_NS_PER_SECOND = 1000000000,
};

struct fos1_stat {
	__u64 packets;
	__u64 bytes;
};
FOS1_SIZE(struct fos1_stat, 16);

/* One /16 of a set of IPv4 addresses: which of its /24s have any member, and
 * where the leaves of those start. before[w] counts the bits set in any[0..w).
 */
struct fos1_set4_line {
	__u64 any[4];
	__u16 before[4];
	__u32 base;
	__u32 pad[5];
};
FOS1_SIZE(struct fos1_set4_line, 64);

/* One /24: bits 0-15 are its /28s that are members as a whole, bits 16-55 five
 * members' last octets (repeated where there are fewer). With bit 63 set, the
 * low 32 bits are the index of a block instead.
 */
struct fos1_set4_leaf {
	__u64 word;
};
FOS1_SIZE(struct fos1_set4_leaf, 8);

/* One /24 with too many members for a leaf: a bit per address. */
struct fos1_set4_block {
	__u64 bits[4];
};
FOS1_SIZE(struct fos1_set4_block, 32);

/* A node of a static B+ tree over the sorted bounds of IPv6 ranges; unused
 * keys are all ones. An address is a member if an odd number of bounds is not
 * above it.
 */
struct fos1_set6_node {
	__u64 high[8];
	__u64 low[8];
};
FOS1_SIZE(struct fos1_set6_node, 128);

/* A key of the user's own lpm_trie maps. */
struct fos1_lpm4_key {
	__u32 prefix_bits;
	__be32 address;
};
FOS1_SIZE(struct fos1_lpm4_key, 8);

struct fos1_lpm6_key {
	__u32 prefix_bits;
	__be32 address[4];
};
FOS1_SIZE(struct fos1_lpm6_key, 20);

/* What is remembered of one source, an IPv4 address or an IPv6 /64. Each *_at
 * is the time (FOS1_TIME_SHIFT) at which that bucket is empty again.
 */
struct fos1_source {
	__u64 packets_at;
	__u64 syns_at;
	__u64 icmps_at;
	__u64 udps_at;
	__u64 connections_at;
};
FOS1_SIZE(struct fos1_source, 40);

/* How many sources were new in the running second. */
struct fos1_newcomers {
	__u64 second_began_ns;
	__u64 count;
};
FOS1_SIZE(struct fos1_newcomers, 16);

/* Since when an interface tracks flows: unknown ones are adopted at first. */
struct fos1_tracking {
	__u64 since_ns;
};
FOS1_SIZE(struct fos1_tracking, 8);

/* What the fragments of one datagram share (IPv4: in the first words). */
struct fos1_datagram_key {
	__be32 source[4];
	__be32 dest[4];
	__be32 id;
};
FOS1_SIZE(struct fos1_datagram_key, 36);

/* A flow's ends, in an order that both directions share: a is the lower. */
struct fos1_flow4_key {
	__be32 address_a;
	__be32 address_b;
	__be16 port_a;
	__be16 port_b;
	__u8 protocol;
	__u8 pad[3];
};
FOS1_SIZE(struct fos1_flow4_key, 16);

struct fos1_flow6_key {
	__be32 address_a[4];
	__be32 address_b[4];
	__be16 port_a;
	__be16 port_b;
	__u8 protocol;
	__u8 pad[3];
};
FOS1_SIZE(struct fos1_flow6_key, 40);

enum fos1_flow_bit {
	FOS1_FLOW_FROM_A = 1,
	FOS1_FLOW_FROM_B = 2,
	FOS1_FLOW_FIN_A = 4,
	FOS1_FLOW_FIN_B = 8,
	FOS1_FLOW_RST = 16,
	FOS1_FLOW_OPENED_BY_A = 32,
	FOS1_FLOW_OPENED_BY_B = 64,
	FOS1_FLOW_COUNTED = 128,
	FOS1_FLOW_ALLOWED_A = 256,
	FOS1_FLOW_ALLOWED_B = 512,
};

/* Where policies judge a packet: an interface's two directions, a workload's
 * two. A place (fos1_place_key) has at most two of them.
 */
enum fos1_stage {
	FOS1_STAGE_IN = 0,
	FOS1_STAGE_OUT,
	FOS1_STAGE_RECEIVE,
	FOS1_STAGE_SEND,
	FOS1_STAGES,
};

/* A flow. FOS1_FLOW_ALLOWED_A or _B says which end's packets a policy allowed
 * to begin it: its origin. judged_* is what that end's packets were told at
 * each stage: at which place (the low half of its id), by which version of the
 * rules, and by which rules: the network policies' in the low 16 bits, the
 * container policies' in the high ones (fos1_judged_bit). It fills a cache line
 * behind the kernel's own part and an IPv4 key, which fill another.
 */
struct fos1_flow {
	__u64 seen_ns;
	__u32 bits;
	__u32 pad;
	__u32 judged_place[4];
	__u32 judged_version[4];
	__u32 judged_rules[4];
};
FOS1_SIZE(struct fos1_flow, 64);

/* Half of judged_rules: the rule's number in its chain and one (0: allowed
 * without a rule), and whether replies pass.
 */
enum fos1_judged_bit {
	FOS1_JUDGED_RULE = 0x7fff,
	FOS1_JUDGED_STATEFUL = 0x8000,
	FOS1_JUDGED_SHIFT = 16,
};

/* Lifetimes of flows: RFC 5382 (TCP), RFC 4787 (UDP), RFC 5508 (ICMP). */
enum fos1_lifetime {
	FOS1_TCP_ESTABLISHED_S = 7440,
	FOS1_TCP_TRANSITORY_S = 240,
	FOS1_UDP_S = 300,
	FOS1_ICMP_S = 60,
	FOS1_OTHER_S = 600,
};

/* A datagram in fragments, and what its first one told. next is the protocol
 * field of every fragment, protocol that of the transport header.
 */
struct fos1_fragment_key {
	__be32 source[4];
	__be32 dest[4];
	__be32 id;
	__u8 next;
	__u8 pad[3];
};
FOS1_SIZE(struct fos1_fragment_key, 40);

struct fos1_fragment {
	__u64 seen_ns;
	__be16 source_port;
	__be16 dest_port;
	__u8 protocol;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 pad;
};
FOS1_SIZE(struct fos1_fragment, 16);

#include <fos1/abi_policy.h>
#include <fos1/abi_workload.h>

#include <fos1/abi_nat.h>

#endif
