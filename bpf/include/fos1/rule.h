/* SPDX-License-Identifier: GPL-2.0-only */
/* What rules do to a packet besides allowing and denying it: they count it,
 * limit it, and say how it shall be logged, marked and routed.
 */
#ifndef FOS1_RULE_H
#define FOS1_RULE_H

#include <fos1/bucket.h>
#include <fos1/classify.h>
#include <fos1/parse.h>
#include <fos1/stats.h>
#include <fos1/types.h>

/* What rules have matched (fos1_rule_row), each CPU's side by side, so that
 * many fit into the caches. Writer: the programs; the daemon makes it, with the
 * rules' counters, and adds what was counted under earlier versions of them.
 */
POLICY_TABLE(policy_stats, struct fos1_stat, 1);

/* The buckets (bucket.h) of rules with a limit, and of what is logged, by the
 * same key. Writer: the programs; the daemon removes those of rules that are
 * gone. Full: no limit is kept, counters_full counts.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FOS1_RULE_BUCKETS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, u64);
} rule_buckets SEC(".maps");

/* Writer: the programs. Reader: the daemon. Full: events_full counts. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, FOS1_EVENTS_BYTES);
} policy_events SEC(".maps");

enum rule_limit {
	RULE_LOGS = 4,
	EVENTS_PER_SECOND = 10,
	EVENTS_AT_ONCE = 10,
};

/* What is asked of one chain, and what its rules want done: the indexes in
 * policy_rules of those that log; the DSCP and the route's number, plus one;
 * the answer so far.
 */
struct asked {
	struct question question;
	u32 flags;
	u32 bytes;
	u32 answer;
	u32 route_plus_1;
	bool acts;
	bool is_exceeded;
	u8 dscp_plus_1;
	u8 log_count;
	u16 logs[RULE_LOGS];
};

/* Count a packet of the rule with an index in policy_rules. */
static __always_inline void
count_rule(const struct fos1_policy_chain_head *head, u32 at, u32 row,
	   u32 bytes)
{
	struct fos1_stat *stat;

	row += bpf_get_smp_processor_id() * FOS1_ROWS_A_CPU;
	at += row * head->all_rules;
	stat = bpf_map_lookup_elem(&policy_stats, &at);
	if (stat) {
		stat->packets++;
		stat->bytes += bytes;
	}
}

static __always_inline u64 *rule_bucket(u64 counter)
{
	u64 zero = 0, *at = bpf_map_lookup_elem(&rule_buckets, &counter);

	if (likely(at))
		return at;
	bpf_map_update_elem(&rule_buckets, &counter, &zero, BPF_NOEXIST);
	at = bpf_map_lookup_elem(&rule_buckets, &counter);
	if (!at)
		count(FOS1_NOTE_COUNTERS_FULL, 0);
	return at;
}

/* Take a packet off a rule's allowance; false if that is used up. */
static __always_inline bool rule_take(const struct fos1_policy_chain_head *head,
				      const struct fos1_policy_rule *rule,
				      u32 at, u32 bytes)
{
	u64 *allowance;

	if (!(rule->flags & FOS1_RULE_LIMITED))
		return true;
	allowance = rule_bucket(rule->counter);
	if (!allowance ||
	    bucket_take(allowance, bucket_time(bpf_ktime_get_ns()),
			rule->byte_cost * bytes, rule->depth))
		return true;
	count_rule(head, at, FOS1_ROW_EXCEEDING, bytes);
	return false;
}

static __always_inline bool may_log(u64 counter)
{
	const u64 second = (u64)FOS1_NS_PER_SECOND << FOS1_TIME_SHIFT;
	const u64 cost = second / EVENTS_PER_SECOND;
	u64 *at = rule_bucket(counter);

	return at && bucket_take(at, bucket_time(bpf_ktime_get_ns()), cost,
				 cost * (EVENTS_AT_ONCE - 1));
}

/* Do what a rule does that decides nothing; false if the packet exceeds it. */
static __always_inline bool rule_acts(const struct fos1_policy_rule *rule,
				      u32 at, struct asked *asked)
{
	u32 chain = asked->question.chain;
	struct fos1_policy_chain_head *head;

	head = bpf_map_lookup_elem(&policy_heads, &chain);
	if (!head || (rule->action == FOS1_ACT_ROUTE && asked->route_plus_1))
		return true;
	count_rule(head, at, FOS1_ROW_MATCHED, asked->bytes);
	switch (rule->action) {
	case FOS1_ACT_LOG:
		if (asked->log_count < RULE_LOGS)
			asked->logs[asked->log_count++ & (RULE_LOGS - 1)] = at;
		return true;
	case FOS1_ACT_MARK:
		asked->dscp_plus_1 = rule->dscp + 1;
		return true;
	case FOS1_ACT_ROUTE:
		asked->route_plus_1 = rule->route + 1;
		return true;
	default:
		return rule_take(head, rule, at, asked->bytes);
	}
}

/* The rule that decided, by a half of fos1_flow.judged_rules: its chain, and
 * its index in policy_rules. Without a chain, no rule did.
 */
struct decided_by {
	struct fos1_policy_chain_head *head;
	u32 at;
};

static __always_inline struct decided_by decided_by(u32 chain, u32 half)
{
	u32 number = half & FOS1_JUDGED_RULE;
	struct decided_by rule = {};

	if (!number)
		return rule;
	rule.head = bpf_map_lookup_elem(&policy_heads, &chain);
	if (rule.head)
		rule.at = rule.head->rule_base + number - 1;
	return rule;
}

static __always_inline bool is_limited(const struct decided_by *by)
{
	struct fos1_policy_rule *rule;
	u32 at = by->at;

	if (likely(!by->head || !by->head->has_limits))
		return false;
	rule = bpf_map_lookup_elem(&policy_rules, &at);
	return rule && rule->flags & FOS1_RULE_LIMITED;
}

static __always_inline void count_decision(const struct decided_by *by,
					   u32 bytes)
{
	if (by->head)
		count_rule(by->head, by->at, FOS1_ROW_MATCHED, bytes);
}

/* Count the rule that decided, if one did, and take the packet off what it
 * allows; false if the limit is exceeded. Global, for the stack.
 */
__noinline int policy_account(u32 chain, u32 half, u32 bytes)
{
	struct decided_by by = decided_by(chain, half);
	struct fos1_policy_rule *rule;

	count_decision(&by, bytes);
	if (likely(!by.head || !by.head->has_limits))
		return true;
	rule = bpf_map_lookup_elem(&policy_rules, &by.at);
	return !rule || rule_take(by.head, rule, by.at, bytes);
}

#endif
