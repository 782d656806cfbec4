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

/* What rules have matched, side by side, so that many fit into the caches.
 * Writer: the programs. Reader: the daemon.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, FOS1_RULE_COUNTERS);
	__type(key, u32);
	__type(value, struct fos1_stat);
} rule_stats SEC(".maps");

/* Where in rule_stats a rule is counted, over all versions of the rules: by
 * fos1_policy_rule.counter; and what its limit drops, by the complement of that.
 * Writer: the programs, when a rule first matches;
 * the daemon removes rules that are gone. Full: a rule is not counted, and
 * counters_full is, until there is room.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FOS1_RULE_COUNTERS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, u32);
} rule_slots SEC(".maps");

/* How many slots of rule_stats were ever taken. Writer: the programs. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} rule_slots_taken SEC(".maps");

/* The slots of rules that are gone. Writer: the daemon, and a program that has
 * taken one too many. Reader: the programs. It has room for all.
 */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, FOS1_RULE_COUNTERS);
	__type(value, u32);
} rule_slots_free SEC(".maps");

/* The same by the rule's index in policy_rules: fos1_rule_slot, 0 if it has not
 * matched yet. It lives as long as these rules. Writer: the programs.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FOS1_CHAINS *FOS1_POLICY_RULES);
	__type(key, u32);
	__type(value, u32);
} policy_slots SEC(".maps");

/* The buckets (bucket.h) of rules with a limit, and of what is logged, by the
 * same key. Writer: the programs; the daemon removes those of rules that are
 * gone. Full: no limit is kept, counters_full counts.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FOS1_RULE_COUNTERS);
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

/* The number of a slot that is nobody's; beyond all slots if there is none. */
static __always_inline u32 free_slot(void)
{
	u32 zero = 0, number = 0, *taken;

	if (!bpf_map_pop_elem(&rule_slots_free, &number))
		return number;
	taken = bpf_map_lookup_elem(&rule_slots_taken, &zero);
	if (!taken || *taken >= FOS1_RULE_COUNTERS)
		return FOS1_SLOT_NUMBER;
	return __sync_fetch_and_add(taken, 1) + 1;
}

/* Find the slot of a counter, or take one: its number and one, beyond all slots
 * if there is none left.
 */
static __always_inline u32 take_slot(u64 counter)
{
	u32 number, *found;

	found = bpf_map_lookup_elem(&rule_slots, &counter);
	if (found)
		return *found;
	number = free_slot();
	if (number > FOS1_RULE_COUNTERS)
		return FOS1_SLOT_NUMBER;
	if (!bpf_map_update_elem(&rule_slots, &counter, &number, BPF_NOEXIST))
		return number;
	bpf_map_push_elem(&rule_slots_free, &number, 0);
	found = bpf_map_lookup_elem(&rule_slots, &counter);
	return found ? *found : FOS1_SLOT_NUMBER;
}

static __always_inline u32 slot_bits(const struct fos1_policy_rule *rule)
{
	u32 bits = rule->action == FOS1_ACT_DENY ? FOS1_SLOT_DENIES : 0;

	if (rule->action == FOS1_ACT_ALLOW)
		bits = rule->flags & FOS1_RULE_LIMITED
			       ? FOS1_SLOT_ALLOWS | FOS1_SLOT_LIMITED
			       : FOS1_SLOT_ALLOWS;
	if (rule->flags & FOS1_RULE_STATEFUL)
		bits |= FOS1_SLOT_STATEFUL;
	return bits;
}

/* Find out where a rule is counted, for all packets to come unless there is no
 * room. Global, so that the verifier sees it once.
 */
__noinline int policy_settle_slot(u32 at)
{
	struct fos1_policy_rule *rule = bpf_map_lookup_elem(&policy_rules, &at);
	u32 *known = bpf_map_lookup_elem(&policy_slots, &at), slot;
	bool is_settled;

	if (!rule || !known)
		return FOS1_SLOT_NUMBER;
	slot = take_slot(rule->counter);
	is_settled = slot != FOS1_SLOT_NUMBER;
	slot |= slot_bits(rule);
	if (is_settled)
		*known = slot;
	return slot;
}

/* Where the rule with an index in policy_rules is counted: fos1_rule_slot. */
static __always_inline u32 slot_of(u32 at)
{
	u32 *slot = bpf_map_lookup_elem(&policy_slots, &at);

	return likely(slot && *slot) ? *slot : policy_settle_slot(at);
}

static __always_inline void count_rule(u32 slot, u32 bytes)
{
	u32 number = (slot & FOS1_SLOT_NUMBER) - 1;
	struct fos1_stat *stat = bpf_map_lookup_elem(&rule_stats, &number);

	if (unlikely(!stat)) {
		count(FOS1_NOTE_COUNTERS_FULL, bytes);
		return;
	}
	stat->packets++;
	stat->bytes += bytes;
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

/* Count what the limit of a rule drops. Global, as it is seldom called. */
__noinline int policy_count_exceeding(u64 counter, u32 bytes)
{
	count_rule(take_slot(~counter), bytes);
	return 0;
}

/* Take a packet off a rule's allowance; false if that is used up. */
static __always_inline bool rule_take(const struct fos1_policy_rule *rule,
				      u32 bytes)
{
	u64 *at;

	if (!(rule->flags & FOS1_RULE_LIMITED))
		return true;
	at = rule_bucket(rule->counter);
	if (!at || bucket_take(at, bucket_time(bpf_ktime_get_ns()),
			       rule->byte_cost * bytes, rule->depth))
		return true;
	policy_count_exceeding(rule->counter, bytes);
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
	if (rule->action == FOS1_ACT_ROUTE && asked->route_plus_1)
		return true;
	count_rule(slot_of(at), asked->bytes);
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
		return rule_take(rule, asked->bytes);
	}
}

/* The index in policy_rules of a chain's rule that decided. Half is of
 * fos1_flow.judged_rules; false if no rule did.
 */
static __always_inline bool rule_index(u32 chain, u32 half, u32 *at)
{
	u32 number = half & FOS1_JUDGED_RULE;
	struct fos1_policy_chain_head *head;

	if (!number)
		return false;
	head = bpf_map_lookup_elem(&policy_heads, &chain);
	if (!head)
		return false;
	*at = head->rule_base + number - 1;
	return true;
}

/* Where the rule that decided is counted (slot_of()); 0 if no rule did. */
static __always_inline u32 slot_by_number(u32 chain, u32 half)
{
	u32 at;

	return rule_index(chain, half, &at) ? slot_of(at) : 0;
}

/* Count the rule that decided, if one did, and take the packet off what it
 * allows; false if the limit is exceeded.
 */
static __always_inline bool rule_account(u32 chain, u32 half, u32 bytes)
{
	struct fos1_policy_rule *rule;
	u32 at, slot;

	if (!rule_index(chain, half, &at))
		return true;
	slot = slot_of(at);
	count_rule(slot, bytes);
	if (likely(!(slot & FOS1_SLOT_LIMITED)))
		return true;
	rule = bpf_map_lookup_elem(&policy_rules, &at);
	return !rule || rule_take(rule, bytes);
}

#endif
