/* SPDX-License-Identifier: GPL-2.0-only */
/* What becomes of a packet at a place: rules, flows, and what is vital.
 *
 * The end of a flow whose packets the rules allowed to begin it is its origin.
 * Its packets are judged by the rules of their direction; the answers pass
 * where the rules of the opposite direction allow what they answer. Both
 * judgements are kept in the flow with the version of the rules that made them,
 * so an established flow costs one lookup, and a permission that is revoked
 * stops it at the next packet.
 *
 * Closed on error: what claims to be IP and cannot be read is dropped where
 * packets are policed. Open where we are: a full table only costs replies.
 *
 * The program that includes this says what it is: FOS1_AT_CGROUP.
 */
#ifndef FOS1_JUDGE_H
#define FOS1_JUDGE_H

#include <fos1/fragment.h>
#include <fos1/hook.h>
#include <fos1/read.h>
#include <fos1/rule.h>
#include <fos1/types.h>
#include <fos1/vital.h>

/* Since when (nanoseconds since boot) a place is policed. Writer: the programs,
 * once a place. Full: places beyond it adopt nothing.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FOS1_POLICY_PLACES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct fos1_place_key);
	__type(value, u64);
} policed_since SEC(".maps");

FOS1_CONFIG(u64, adoption_ns,
	    "nanoseconds after a place is first policed during which segments "
	    "of older connections begin flows");

enum judge_number { LOWEST_FREE_PORT = 1024 };

/* fos1_flow.judged_rules of what passes without a rule, and answers with it. */
static const u32 BOTH_STATEFUL = FOS1_JUDGED_STATEFUL |
				 (u32)FOS1_JUDGED_STATEFUL << FOS1_JUDGED_SHIFT;

/* What the rules say: fos1_flow.judged_rules, also of those that deny. */
struct opinion {
	u32 rules;
	bool is_allowed;
	bool is_containers;
};

static __always_inline void ask_about_peer(struct hook *hook)
{
	fill_peer(&hook->asked->question, hook->packet, hook->way);
}

static __always_inline u32 ask_chain(struct hook *hook, u32 chain)
{
	/* Opaque, so that the verifier sees the bound wherever it is used. */
	asm volatile("%0 &= 3" : "+r"(chain));
	hook->asked->question.chain = chain;
	hook->asked->question.subject = hook->place->vector[chain];
	hook->asked->flags = hook->place->flags[chain];
	return policy_ask(hook->asked);
}

/* Ask both layers; both must allow. `is_answer`: about what the packet answers,
 * without letting the rules act.
 */
static __always_inline struct opinion ask(struct hook *hook, bool is_answer)
{
	u32 way = is_answer ? !hook->way : hook->way, first, second;
	struct opinion opinion = {};

	hook->asked->acts = !is_answer;
	hook->asked->question.service = service_of(hook->packet, is_answer);
	first = ask_chain(hook, way);
	opinion.rules = (first & 0xffff) | FOS1_JUDGED_STATEFUL
						   << FOS1_JUDGED_SHIFT;
	opinion.is_allowed = first & ANSWER_ALLOWED;
	if (!FOS1_AT_CGROUP || !opinion.is_allowed)
		return opinion;
	second = ask_chain(hook, FOS1_CHAIN_RECEIVE + way);
	opinion.rules = (first & 0xffff) | (second & 0xffff)
						   << FOS1_JUDGED_SHIFT;
	opinion.is_allowed = second & ANSWER_ALLOWED;
	opinion.is_containers = !opinion.is_allowed;
	return opinion;
}

static __always_inline bool is_vital(struct hook *hook, bool is_answer)
{
	u32 how = hook->way ? VITAL_OUT : 0;

	if (is_answer)
		how |= VITAL_ANSWER;
	return policy_is_vital(hook->skb, hook->packet,
			       how | hook->flags << VITAL_FLAGS_SHIFT);
}

/* Count the rules that decided; false if one of their limits is exceeded. */
static __always_inline bool account(struct hook *hook, u32 rules)
{
	u32 bytes = hook->asked->bytes;
	bool takes = policy_account(hook->way, rules, bytes);

	if (FOS1_AT_CGROUP)
		takes &= policy_account(FOS1_CHAIN_RECEIVE + hook->way,
					rules >> FOS1_JUDGED_SHIFT, bytes);
	return takes;
}

/* Whether a segment goes to what looks like a server, at a place that is
 * policed only since now: then it begins the flow that it belongs to.
 */
static __always_inline bool is_adopted(struct hook *hook)
{
	u16 dest = bpf_ntohs(hook->packet->dest_port);
	u64 *since = bpf_map_lookup_elem(&policed_since, hook->key);
	u64 now_ns = bpf_ktime_get_coarse_ns();

	if (!since) {
		bpf_map_update_elem(&policed_since, hook->key, &now_ns,
				    BPF_NOEXIST);
		since = bpf_map_lookup_elem(&policed_since, hook->key);
	}
	return since && now_ns - *since < adoption_ns &&
	       (dest < LOWEST_FREE_PORT ||
		dest < bpf_ntohs(hook->packet->source_port));
}

static __always_inline bool may_begin(struct hook *hook)
{
	switch (hook->packet->protocol) {
	case IPPROTO_TCP:
		return opens(hook->packet) || is_adopted(hook);
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return is_echo_request(hook->packet);
	default:
		return true;
	}
}

static __always_inline bool is_in_flow(const struct hook *hook)
{
	const u32 judges = FOS1_PLACE_POLICED | FOS1_PLACE_STATEFUL;

	return (hook->flags & judges) && is_talk(hook->packet);
}

/* The rule that denies counts the packet, not one that would have allowed it. */
static __always_inline enum fos1_reason deny(struct hook *hook,
					     const struct opinion *opinion)
{
	const u32 networks = (1U << FOS1_JUDGED_SHIFT) - 1;

	if (opinion->is_containers) {
		account(hook, opinion->rules & ~networks);
		return FOS1_DROP_CONTAINER_POLICY;
	}
	account(hook, opinion->rules & networks);
	return FOS1_DROP_POLICY;
}

/* What the rules said before of a flow's beginning, on its origin's way here
 * (OWN) or of what this packet answers (ASKED).
 */
static __always_inline void look_up_flow(struct hook *hook)
{
	struct seen *seen = hook->seen;
	u32 way = hook->way;

	if (!is_in_flow(hook))
		return;
	seen->place = hook->key->id;
	seen->stage[SEEN_OWN] = stage_of(way);
	seen->stage[SEEN_ASKED] = stage_of(!way);
	seen->version[SEEN_OWN] = hook->version;
	seen->version[SEEN_ASKED] = version_at(hook->place, !way);
	policy_flow_look(hook->packet, seen);
}

static __always_inline bool is_stateful(u32 rules)
{
	return (rules & BOTH_STATEFUL) == BOTH_STATEFUL;
}

/* Whether a packet to a flow's origin passes as an answer. */
static __always_inline bool is_answer_allowed(struct hook *hook)
{
	struct opinion opinion;

	if (likely(hook->seen->is_known[SEEN_ASKED]))
		return is_stateful(hook->seen->rules[SEEN_ASKED]);
	opinion = ask(hook, true);
	if (!opinion.is_allowed) {
		if (!is_vital(hook, true))
			return false;
		opinion.rules = BOTH_STATEFUL;
	}
	hook->seen->rules[SEEN_ASKED] = opinion.rules;
	hook->seen->changes |= CHANGE_ASKED;
	return is_stateful(opinion.rules);
}

/* Let a packet pass by its flow or by the rules, in that order; an answer is
 * judged by them too where they act, and where it opens a connection.
 */
static __always_inline struct opinion consult(struct hook *hook)
{
	struct opinion opinion = { .rules = BOTH_STATEFUL, .is_allowed = true };
	struct seen *seen = hook->seen;
	bool is_open = opens(hook->packet);

	if (seen->is_origins && seen->is_known[SEEN_OWN])
		opinion.rules = seen->rules[SEEN_OWN];
	else if (seen->is_to_origin && !is_echo_request(hook->packet))
		seen->is_answer = is_answer_allowed(hook);
	if (!(hook->flags & FOS1_PLACE_EFFECTS) &&
	    ((seen->is_answer && !is_open) ||
	     (seen->is_origins && seen->is_known[SEEN_OWN])))
		return opinion;
	opinion = ask(hook, false);
	if (!seen->is_answer)
		return opinion;
	if (is_open && opinion.is_allowed) {
		seen->is_answer = false;
		return opinion;
	}
	opinion.rules = BOTH_STATEFUL;
	opinion.is_allowed = true;
	return opinion;
}

/* Whether an end that the rules let send by itself, and not as an answer,
 * becomes an origin beside the other. Of TCP a SYN takes the other's place.
 */
static __always_inline bool is_origin_too(struct hook *hook, u32 rules)
{
	return hook->seen->has_origin && !hook->seen->is_origins &&
	       !hook->seen->is_answer && is_stateful(rules) &&
	       hook->packet->protocol != IPPROTO_TCP && may_begin(hook);
}

/* Keep in the flow what the packet has changed. */
static __always_inline void keep(struct hook *hook, u32 rules)
{
	struct seen *seen = hook->seen;

	if (is_origin_too(hook, rules))
		seen->changes |= CHANGE_ORIGIN_TOO;
	if (seen->is_origins && !seen->is_answer && !seen->is_known[SEEN_OWN]) {
		seen->rules[SEEN_OWN] = rules;
		seen->changes |= CHANGE_OWN;
	}
	if (seen->has_origin && !seen->is_origins && !seen->is_answer &&
	    opens(hook->packet))
		seen->has_origin = false;
	if (!seen->has_origin) {
		if (!is_stateful(rules) || !may_begin(hook))
			return;
		seen->rules[SEEN_OWN] = rules;
		seen->changes = CHANGE_ORIGIN;
	}
	if (seen->is_missing)
		policy_flow_begin(hook->packet, seen);
	else if (seen->changes)
		policy_flow_change(hook->packet, seen);
}

/* Judge a packet of which the headers are read and the flow is looked up.
 * `is_related`: it is the one that would go the way of an ICMP error in the
 * flow that the error is about, and leaves no trace.
 */
static __always_inline enum fos1_reason judge_packet(struct hook *hook,
						     bool is_related)
{
	enum fos1_reason reason = FOS1_PASS;
	struct opinion opinion;

	ask_about_peer(hook);
	opinion = consult(hook);
	if (hook->asked->is_exceeded)
		return FOS1_DROP_RULE_LIMIT;
	if (!opinion.is_allowed) {
		if (!is_vital(hook, false))
			return deny(hook, &opinion);
		opinion.rules = BOTH_STATEFUL;
		reason = FOS1_PASS_VITAL;
	}
	if (!account(hook, opinion.rules))
		return FOS1_DROP_RULE_LIMIT;
	if (is_related)
		return FOS1_PASS_RELATED;
	if (hook->seen->is_answer || hook->seen->is_known[SEEN_OWN])
		reason = FOS1_PASS_ESTABLISHED;
	if (is_in_flow(hook))
		keep(hook, opinion.rules);
	return reason;
}

#endif
