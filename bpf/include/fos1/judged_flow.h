/* SPDX-License-Identifier: GPL-2.0-only */
/* A flow as the policies see it. It is looked up once and its few numbers are
 * copied; it is looked up again only to be changed. So the verifier need not
 * follow four kinds of pointers through all that is judged.
 */
#ifndef FOS1_JUDGED_FLOW_H
#define FOS1_JUDGED_FLOW_H

#include <fos1/flow.h>
#include <fos1/stats.h>
#include <fos1/types.h>

enum seen_side { SEEN_OWN = 0, SEEN_ASKED, SEEN_SIDES };

/* REFRESH: its time or what was seen of it. OWN, ASKED: what is remembered on
 * that side. ORIGIN: the sender becomes its origin. ORIGIN_TOO: beside the
 * other end.
 */
enum flow_change {
	CHANGE_REFRESH = 1,
	CHANGE_OWN = 2,
	CHANGE_ASKED = 4,
	CHANGE_ORIGIN = 8,
	CHANGE_ORIGIN_TOO = 16,
};

enum flow_bits {
	FLOW_ALLOWED = FOS1_FLOW_ALLOWED_A | FOS1_FLOW_ALLOWED_B,
	FLOW_KEPT = FOS1_FLOW_COUNTED | FOS1_FLOW_OPENED_BY_A |
		    FOS1_FLOW_OPENED_BY_B,
};

/* What is asked of a flow (the first three), and what it tells. */
struct seen {
	u32 place;
	u32 version[SEEN_SIDES];
	u8 stage[SEEN_SIDES];
	bool has_origin;
	bool is_origins;
	u32 rules[SEEN_SIDES];
	bool is_known[SEEN_SIDES];
	bool is_answer;
	bool is_missing;
	u8 changes;
	bool is_telling;
	bool is_to_origin;
	u8 pad[1];
};

/* Whether a packet belongs to a conversation. Those of protocols without ports
 * (tunnels, IPsec) are told apart by their addresses, as if the ports were 0.
 */
static __always_inline bool is_talk(const struct packet *packet)
{
	return has_flow(packet) || (!packet->is_later_fragment &&
				    packet->protocol != IPPROTO_ICMP &&
				    packet->protocol != IPPROTO_ICMPV6);
}

static __always_inline bool opens(const struct packet *packet)
{
	return packet->protocol == IPPROTO_TCP &&
	       (packet->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

/* Whether what was remembered holds for a packet of its flow: rules tell types
 * of messages apart, so not for an echo reply of the one who asks.
 */
static __always_inline bool is_as_remembered(const struct packet *packet,
					     bool is_origins)
{
	if (packet->protocol != IPPROTO_ICMP &&
	    packet->protocol != IPPROTO_ICMPV6)
		return true;
	return is_echo_request(packet) == is_origins;
}

static __always_inline u32 origin_bit(const struct flow_ref *ref)
{
	return ref->source_is_a ? FOS1_FLOW_ALLOWED_A : FOS1_FLOW_ALLOWED_B;
}

/* Where both ends are origins, as of a tunnel that has the same port at both,
 * nothing is remembered: a stage has room for what was said of one of them.
 */
static __always_inline bool has_two_origins(const struct fos1_flow *flow)
{
	return (flow->bits & FLOW_ALLOWED) == FLOW_ALLOWED;
}

static __always_inline void recall(const struct fos1_flow *flow,
				   struct seen *seen, u32 side)
{
	u32 stage = seen->stage[side] & (FOS1_STAGES - 1);

	if (flow->judged_place[stage] != seen->place ||
	    flow->judged_version[stage] != seen->version[side])
		return;
	seen->rules[side] = flow->judged_rules[stage];
	seen->is_known[side] = true;
}

/* The rules last: a reader on another CPU that finds place and version has an
 * allowance of that place, if not of that rule.
 */
static __always_inline void remember(struct fos1_flow *flow,
				     const struct seen *seen, u32 side)
{
	u32 stage = seen->stage[side] & (FOS1_STAGES - 1);

	flow->judged_rules[stage] = seen->rules[side];
	flow->judged_version[stage] = seen->version[side];
	flow->judged_place[stage] = seen->place;
}

/* Whether a packet that passes tells anything new about its flow. */
static __always_inline bool is_news(const struct packet *packet,
				    const struct flow_ref *ref, u64 now_ns)
{
	u32 bits = flow_bits_of(packet, ref->source_is_a);

	return (ref->flow->bits & bits) != bits || opens(packet) ||
	       now_ns - ref->flow->seen_ns > FLOW_REFRESH_NS ||
	       (ref->is_new && flow_is_two_way(ref->flow->bits));
}

/* Global, as all that flows of every table go through: so that the verifier
 * sees it once.
 */
__noinline int policy_flow_lives(struct fos1_flow *flow, u32 protocol,
				 u64 now_ns)
{
	return flow && flow_lives(flow, protocol, now_ns);
}

/* As flow_find(). */
static __always_inline struct flow_ref
find_judged(const struct packet *packet, u64 now_ns, union flow_key *key)
{
	struct flow_ref ref = { .source_is_a = source_is_a(packet) };
	u8 protocol = packet->protocol;

	if (packet->is_v6) {
		flow_key6(packet, ref.source_is_a, &key->v6);
		ref.flow = bpf_map_lookup_elem(&flows6, &key->v6);
	} else {
		flow_key4(packet, ref.source_is_a, &key->v4);
		ref.flow = bpf_map_lookup_elem(&flows4, &key->v4);
	}
	if (ref.flow && policy_flow_lives(ref.flow, protocol, now_ns))
		return ref;
	ref.is_new = true;
	ref.flow = packet->is_v6 ? bpf_map_lookup_elem(&new_flows6, &key->v6)
				 : bpf_map_lookup_elem(&new_flows4, &key->v4);
	if (ref.flow && !policy_flow_lives(ref.flow, protocol, now_ns))
		ref.flow = NULL;
	return ref;
}

enum flow_facts { FLOW_IS_NEW = 1, FLOW_SOURCE_IS_A = 2 };

static __always_inline u32 facts_of(const struct flow_ref *ref)
{
	return (ref->is_new ? FLOW_IS_NEW : 0) |
	       (ref->source_is_a ? FLOW_SOURCE_IS_A : 0);
}

__noinline int policy_flow_tell(struct fos1_flow *flow, struct packet *packet,
				struct seen *seen, u32 facts, u64 now_ns)
{
	struct flow_ref ref = {
		.flow = flow,
		.is_new = facts & FLOW_IS_NEW,
		.source_is_a = facts & FLOW_SOURCE_IS_A,
	};

	if (!flow || !packet || !seen || !(flow->bits & FLOW_ALLOWED))
		return 0;
	seen->has_origin = true;
	seen->is_origins = flow->bits & origin_bit(&ref);
	seen->is_to_origin = flow->bits & FLOW_ALLOWED & ~origin_bit(&ref);
	seen->is_telling = !has_two_origins(flow) &&
			   is_as_remembered(packet, seen->is_origins);
	if (seen->is_telling) {
		recall(flow, seen, SEEN_OWN);
		recall(flow, seen, SEEN_ASKED);
	}
	if (is_news(packet, &ref, now_ns))
		seen->changes = CHANGE_REFRESH;
	return 0;
}

/* Find a packet's flow and what it tells. */
__noinline int policy_flow_look(struct packet *packet, struct seen *seen)
{
	u64 now_ns = bpf_ktime_get_coarse_ns();
	union flow_key key;
	struct flow_ref ref;

	if (!packet || !seen)
		return 0;
	ref = find_judged(packet, now_ns, &key);
	seen->is_missing = !ref.flow;
	if (ref.flow)
		policy_flow_tell(ref.flow, packet, seen, facts_of(&ref),
				 now_ns);
	return 0;
}

static __always_inline void forget_judgements(struct fos1_flow *flow)
{
#pragma unroll
	for (int i = 0; i < FOS1_STAGES; i++)
		flow->judged_place[i] = 0;
}

/* Make the sender the origin of a flow that has none, or another. */
static __always_inline void take_origin(const struct packet *packet,
					struct flow_ref *ref, u64 now_ns)
{
	u32 bits = flow_bits_of(packet, ref->source_is_a) | origin_bit(ref);
	u32 kept = opens(packet) ? FLOW_KEPT : ~FLOW_ALLOWED;
	struct fos1_flow *flow = ref->flow;

	forget_judgements(flow);
	flow->bits = bits | (flow->bits & kept);
	flow->seen_ns = now_ns;
}

/* A packet of a flow has passed; a SYN of its origin begins it anew. */
static __always_inline void refresh(const struct packet *packet,
				    struct flow_ref *ref, bool is_origins,
				    u64 now_ns)
{
	u32 bits = flow_bits_of(packet, ref->source_is_a);

	if (is_origins && !ref->is_new && opens(packet)) {
		bits |= ref->flow->bits & (FLOW_KEPT | FLOW_ALLOWED);
		ref->flow->bits = bits;
	}
	flow_refresh(ref->flow, bits, now_ns);
}

/* Make the sender an origin beside the other end. */
static __always_inline void join_origin(struct flow_ref *ref)
{
	__sync_fetch_and_or(&ref->flow->bits, origin_bit(ref));
	forget_judgements(ref->flow);
}

static __always_inline void remember_sides(struct fos1_flow *flow,
					   const struct seen *seen)
{
	if ((seen->changes & CHANGE_ORIGIN) ||
	    (seen->is_telling && (seen->changes & CHANGE_OWN)))
		remember(flow, seen, SEEN_OWN);
	if (seen->changes & CHANGE_ASKED)
		remember(flow, seen, SEEN_ASKED);
}

/* Write down what a packet has changed; 1 if both sides have been seen now. */
__noinline int policy_flow_write(struct fos1_flow *flow, struct packet *packet,
				 struct seen *seen, u32 facts, u64 now_ns)
{
	struct flow_ref ref = {
		.flow = flow,
		.is_new = facts & FLOW_IS_NEW,
		.source_is_a = facts & FLOW_SOURCE_IS_A,
	};

	if (!flow || !packet || !seen)
		return 0;
	if (seen->changes & CHANGE_ORIGIN)
		take_origin(packet, &ref, now_ns);
	else
		refresh(packet, &ref, seen->is_origins, now_ns);
	if (seen->changes & CHANGE_ORIGIN_TOO)
		join_origin(&ref);
	if (!has_two_origins(flow))
		remember_sides(flow, seen);
	return ref.is_new && flow_is_two_way(flow->bits);
}

/* Begin a flow with its origin and what the rules said of it. */
__noinline int policy_flow_begin(struct packet *packet, struct seen *seen)
{
	u64 now_ns = bpf_ktime_get_coarse_ns();
	struct fos1_flow flow = {};
	struct flow_ref ref = { .flow = &flow, .is_new = true };
	union flow_key key;

	if (!packet || !seen)
		return 0;
	ref.source_is_a = source_is_a(packet);
	take_origin(packet, &ref, now_ns);
	remember(&flow, seen, SEEN_OWN);
	if (packet->is_v6) {
		flow_key6(packet, ref.source_is_a, &key.v6);
		bpf_map_update_elem(&new_flows6, &key.v6, &flow, BPF_ANY);
	} else {
		flow_key4(packet, ref.source_is_a, &key.v4);
		bpf_map_update_elem(&new_flows4, &key.v4, &flow, BPF_ANY);
	}
	return 0;
}

/* The key is copied, since Linux 6.1 takes none that a function was given. */
__noinline int policy_flow_settle(struct packet *packet, union flow_key *given)
{
	struct fos1_flow *flow;
	union flow_key key;

	if (!packet || !given)
		return 0;
	key = *given;
	flow = packet->is_v6 ? bpf_map_lookup_elem(&new_flows6, &key.v6)
			     : bpf_map_lookup_elem(&new_flows4, &key.v4);
	if (flow && !flow_settle(packet, &key, flow))
		count(FOS1_NOTE_FLOWS_FULL, 0);
	return 0;
}

/* Change a packet's flow. */
__noinline int policy_flow_change(struct packet *packet, struct seen *seen)
{
	u64 now_ns = bpf_ktime_get_coarse_ns();
	union flow_key key;
	struct flow_ref ref;

	if (!packet || !seen)
		return 0;
	ref = find_judged(packet, now_ns, &key);
	if (ref.flow &&
	    policy_flow_write(ref.flow, packet, seen, facts_of(&ref), now_ns))
		policy_flow_settle(packet, &key);
	return 0;
}

#endif
