/* SPDX-License-Identifier: GPL-2.0-only */
/* The part of abi.h that is about the rules of policies
 * (docs/design/policy.md). */
#ifndef FOS1_ABI_POLICY_H
#define FOS1_ABI_POLICY_H

#include <linux/types.h>

/* Rules by direction. IN and OUT: of network policies, for what comes into and
 * leaves an interface or a workload. RECEIVE and SEND: of container policies.
 */
enum fos1_policy_chain {
	FOS1_CHAIN_IN = 0,
	FOS1_CHAIN_OUT,
	FOS1_CHAIN_RECEIVE,
	FOS1_CHAIN_SEND,
	FOS1_CHAINS,
};

/* ALLOW and DENY decide; the others act and go on. */
enum fos1_policy_action {
	FOS1_ACT_ALLOW = 1,
	FOS1_ACT_DENY,
	FOS1_ACT_LOG,
	FOS1_ACT_MARK,
	FOS1_ACT_LIMIT,
	FOS1_ACT_ROUTE,
};

/* STATEFUL: replies to what it allows pass. LIMITED: byte_cost and depth say
 * how much it allows.
 */
enum fos1_policy_rule_flag {
	FOS1_RULE_STATEFUL = 1,
	FOS1_RULE_LIMITED = 2,
};

/* The vectors of intervals, in leaves, and a search tree over the last values
 * of all leaves but the last.
 */
struct fos1_index {
	__u32 levels;
	__u32 leaves;
	__u32 level_base[6];
};
FOS1_SIZE(struct fos1_index, 32);

/* A chain: its rules start at rule_base, its bit vectors at vector_base. A
 * vector is summary_words (bit w: word w is not zero), and behind them those of
 * its words that are not zero (fos1_vector). all_rules is how many rules all
 * chains have together (policy_stats).
 */
struct fos1_policy_chain_head {
	__u32 words;
	__u32 summary_words;
	__u32 vector_base;
	__u32 rule_base;
	struct fos1_index peer4;
	struct fos1_index peer6;
	struct fos1_index service;
	__u32 all_rules;
	__u32 has_limits;
	__u32 pad[2];
};
FOS1_SIZE(struct fos1_policy_chain_head, 128);

/* A rule. counter is its identity over all versions of the rules, the key of
 * rule_buckets. byte_cost and depth are bucket times (FOS1_TIME_SHIFT); route
 * is an index into policy_routes.
 */
struct fos1_policy_rule {
	__u64 counter;
	__u64 byte_cost;
	__u64 depth;
	__u8 action;
	__u8 dscp;
	__u16 flags;
	__u32 route;
};
FOS1_SIZE(struct fos1_policy_rule, 32);

/* The name of a vector: where it begins, and whether it holds all rules; or the
 * only rule that it holds, which is kept nowhere else: its number and what most
 * packets need to know of it.
 */
enum fos1_vector {
	FOS1_VECTOR_AT = 0x1fffffff,
	FOS1_VECTOR_ALL = 0x20000000,
	FOS1_VECTOR_ONE = 0x40000000,
	FOS1_ONE_NUMBER = 0x7fff,
	FOS1_ONE_STATEFUL = 0x8000,
	FOS1_ONE_ALLOWS = 0x10000,
	FOS1_ONE_DENIES = 0x20000,
	FOS1_ONE_LIMITED = 0x40000,
};

/* What is counted of each rule, in rows of all_rules: two rows a CPU (what the
 * rule matched, what its limit dropped of that), and behind them the two rows
 * of earlier versions, the rules' counters (in packets), and last the id of the
 * map that was added to the rows of earlier versions most recently.
 */
enum fos1_rule_row {
	FOS1_ROW_MATCHED = 0,
	FOS1_ROW_EXCEEDING,
	FOS1_ROWS_A_CPU,
};

/* A node of the search tree over 32-bit keys; spare keys are all ones. The
 * tree over 128-bit keys has nodes of fos1_set6_node.
 */
struct fos1_tree32_node {
	__u32 keys[16];
};
FOS1_SIZE(struct fos1_tree32_node, 64);

/* Intervals by their last values, and their vectors; spare last values are all
 * ones.
 */
struct fos1_leaf32 {
	__u32 last[8];
	__u32 vector[8];
};
FOS1_SIZE(struct fos1_leaf32, 64);

struct fos1_leaf128 {
	__u64 high[6];
	__u64 low[6];
	__u32 vector[8];
};
FOS1_SIZE(struct fos1_leaf128, 128);

enum fos1_place_kind {
	FOS1_PLACE_INTERFACE = 1,
	FOS1_PLACE_CGROUP,
};

/* What policies select: an interface (its index) or a workload (the id of its
 * cgroup).
 */
struct fos1_place_key {
	__u32 kind;
	__u32 pad;
	__u64 id;
};
FOS1_SIZE(struct fos1_place_key, 16);

/* Flags of a place, one word a chain. POLICED: its rules decide, and what none
 * decides is denied by IN and OUT, and by RECEIVE and SEND only with
 * DEFAULT_DENY. EFFECTS: some rule of the chain acts and goes on. STATEFUL:
 * replies to what passes without a rule pass too. ROUTER: the workload shares
 * the router's own addresses, so the failsafe ports are its too. TAKES_FRAMES:
 * the interface sends what XDP gives it, and nothing waits there to shape it.
 * OUTSIDE4, OUTSIDE6: NAT translates packets of that family there.
 */
enum fos1_place_flag {
	FOS1_PLACE_POLICED = 1,
	FOS1_PLACE_EFFECTS = 2,
	FOS1_PLACE_DEFAULT_DENY = 4,
	FOS1_PLACE_STATEFUL = 8,
	FOS1_PLACE_ROUTER = 16,
	FOS1_PLACE_TAKES_FRAMES = 32,
	FOS1_PLACE_OUTSIDE4 = 64,
	FOS1_PLACE_OUTSIDE6 = 128,
};

/* The knob failsafe_port of policies: a port | protocol << SHIFT, and ASKS
 * where it is not the router's own but one that the router asks.
 */
enum fos1_lifeline {
	FOS1_LIFELINE_SHIFT = 16,
	FOS1_LIFELINE_ASKS = 1 << 24,
};

/* A place: by chain, the vector of the rules that apply to it (fos1_vector). */
struct fos1_place {
	__u32 vector[4];
	__u32 flags[4];
};
FOS1_SIZE(struct fos1_place, 32);

/* The protocol in a service's key (protocol << 16 | port, or type << 8 | code)
 * has this added for a later fragment whose first was not seen; there is no
 * port then.
 */
enum fos1_service {
	FOS1_SERVICE_SHIFT = 16,
	FOS1_SERVICE_LATER = 256,
};

/* Where a packet goes; what is zero is not set. An IPv4 next hop is in
 * next_hop[0].
 */
struct fos1_policy_route {
	__u32 ifindex;
	__u32 table;
	__u32 mark;
	__u32 pad;
	__be32 next_hop[4];
};
FOS1_SIZE(struct fos1_policy_route, 32);

/* What a rule with action log saw. reason is the verdict (fos1_reason), kind
 * and place_id the place, ifindex the device.
 */
struct fos1_policy_event {
	__u64 time_ns;
	__u64 counter;
	__u64 place_id;
	__be32 source[4];
	__be32 dest[4];
	__be16 source_port;
	__be16 dest_port;
	__u32 bytes;
	__u32 ifindex;
	__u8 kind;
	__u8 chain;
	__u8 reason;
	__u8 protocol;
	__u8 is_v6;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 tcp_flags;
	__u32 pad;
};
FOS1_SIZE(struct fos1_policy_event, 80);

#endif
