/* SPDX-License-Identifier: GPL-2.0-only */
/* The short ways for what most packets are, of which the headers are plain: one
 * of a connection of TCP or UDP that the rules allowed and that tells nothing
 * new about it; or, where no rule makes flows, one that the rules allow. They
 * say the same as judge.h would, or nothing; then judge.h is asked.
 */
#ifndef FOS1_KNOWN_H
#define FOS1_KNOWN_H

#include <fos1/judge.h>
#include <fos1/plain.h>

enum known_number { TCP_NEWS = TCP_SYN | TCP_FIN | TCP_RST };

/* What rules said of a flow's beginning at a stage, if by these rules there. */
static __always_inline bool remembered(const struct fos1_flow *flow, u32 stage,
				       u32 place, u32 version, u32 *rules)
{
	stage &= FOS1_STAGES - 1;
	*rules = flow->judged_rules[stage];
	return flow->judged_place[stage] == place &&
	       flow->judged_version[stage] == version;
}

/* Whether what was remembered of a flow holds, and a packet tells nothing new. */
static __always_inline bool is_settled(const struct fos1_flow *flow)
{
	const u32 both = FOS1_FLOW_FROM_A | FOS1_FLOW_FROM_B;
	u32 bits = flow->bits;

	return (bits & both) == both && (bits & FLOW_ALLOWED) &&
	       bpf_ktime_get_coarse_ns() - flow->seen_ns <= FLOW_REFRESH_NS;
}

/* The rules that a packet of a settled flow passes by; false if that has to be
 * found out, or written down.
 */
static __always_inline bool passes_by(const struct fos1_flow *flow,
				      bool source_is_a, const struct hook *hook,
				      u32 *rules)
{
	u32 way = hook->way;
	u32 origin = source_is_a ? FOS1_FLOW_ALLOWED_A : FOS1_FLOW_ALLOWED_B;

	if (flow->bits & origin)
		return remembered(flow, stage_of(way), hook->key->id,
				  hook->version, rules);
	if (!remembered(flow, stage_of(!way), hook->key->id,
			version_at(hook->place, !way), rules) ||
	    !is_stateful(*rules))
		return false;
	*rules = BOTH_STATEFUL;
	return true;
}

/* Count what a packet passes by; false if one of the rules sets a limit. */
static __always_inline bool count_known(const struct hook *hook, u32 rules,
					u32 bytes)
{
	struct decided_by network = decided_by(hook->way, rules),
			  container = {};

	if (FOS1_AT_CGROUP)
		container = decided_by(FOS1_CHAIN_RECEIVE + hook->way,
				       rules >> FOS1_JUDGED_SHIFT);
	if (unlikely(is_limited(&network) || is_limited(&container)))
		return false;
	count_decision(&network, bytes);
	count_decision(&container, bytes);
	return true;
}

/* Find a settled flow. The two look-ups stay apart, since the kernel calls one
 * that it knows the map of directly.
 */
static __always_inline struct fos1_flow *
find_settled(const struct packet *packet, bool source_is_a)
{
	struct fos1_flow *flow;
	union flow_key key;

	if (packet->is_v6) {
		flow_key6(packet, source_is_a, &key.v6);
		flow = bpf_map_lookup_elem(&flows6, &key.v6);
		asm volatile("" : "+r"(flow));
		return flow;
	}
	flow_key4(packet, source_is_a, &key.v4);
	return bpf_map_lookup_elem(&flows4, &key.v4);
}

/* Whether a plain packet passes as one of many of its flow; false says nothing.
 * Global, so that the verifier sees it once, and what follows once too.
 */
__noinline int policy_is_known(struct fos1_place *place, u32 place_id,
			       struct packet *packet, u32 way, u32 bytes)
{
	struct fos1_place_key key = { .id = place_id };
	struct hook hook = { .key = &key, .place = place };
	struct fos1_flow *flow;
	bool source_is_a_end;
	u32 rules = 0;

	if (!place || !packet || packet->tcp_flags & TCP_NEWS)
		return false;
	/* Opaque, so that the verifier sees the bound wherever it is used. */
	asm volatile("%0 &= 1" : "+r"(way));
	hook.way = way;
	hook.version = version_at(place, way);
	source_is_a_end = source_is_a(packet);
	flow = find_settled(packet, source_is_a_end);
	return flow && is_settled(flow) &&
	       passes_by(flow, source_is_a_end, &hook, &rules) &&
	       count_known(&hook, rules, bytes);
}

/* Whether a rule allows and no more. */
static __always_inline bool only_allows(u32 at)
{
	struct fos1_policy_rule *rule = bpf_map_lookup_elem(&policy_rules, &at);

	return rule && rule->action == FOS1_ACT_ALLOW &&
	       !(rule->flags & (FOS1_RULE_STATEFUL | FOS1_RULE_LIMITED));
}

/* Whether the first rule that applies to a plain packet allows it and no more;
 * false says nothing. At an interface where nothing acts and goes on.
 */
__noinline int policy_is_allowed(struct fos1_place *place,
				 struct packet *packet, u32 way, u32 bytes)
{
	const u32 known = FOS1_ONE_ALLOWS | FOS1_ONE_STATEFUL |
			  FOS1_ONE_LIMITED;
	struct fos1_policy_chain_head *head;
	struct question question = {};
	struct walk walk = {};
	u32 found, at;

	if (!place || !packet)
		return false;
	way &= 1;
	question.subject = place->vector[way];
	head = bpf_map_lookup_elem(&policy_heads, &way);
	if (!head)
		return false;
	fill_peer(&question, packet, way);
	question.service = service_of(packet, false);
	found = policy_walk(&walk, &question, head);
	if (!found)
		return false;
	at = head->rule_base + walk_next(&walk);
	if (found & FOS1_VECTOR_ONE ? (found & known) != FOS1_ONE_ALLOWS
				    : !only_allows(at))
		return false;
	count_rule(head, at, FOS1_ROW_MATCHED, bytes);
	return true;
}

#endif
