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
 * that side. ORIGIN: the sender becomes its origin.
 */
enum flow_change {
	CHANGE_REFRESH = 1,
	CHANGE_OWN = 2,
	CHANGE_ASKED = 4,
	CHANGE_ORIGIN = 8,
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
	u8 changes;
};

static __always_inline bool opens(const struct packet *packet)
{
	return packet->protocol == IPPROTO_TCP &&
	       (packet->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

static __always_inline u32 origin_bit(const struct flow_ref *ref)
{
	return ref->source_is_a ? FOS1_FLOW_ALLOWED_A : FOS1_FLOW_ALLOWED_B;
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

/* Find a packet's flow. Global, so that the verifier sees it once. */
__noinline int policy_flow_look(struct packet *packet, struct seen *seen)
{
	union flow_key key;
	struct flow_ref ref;
	u64 now_ns;
	u32 origin;

	if (!packet || !seen)
		return 0;
	now_ns = bpf_ktime_get_coarse_ns();
	ref = flow_find(packet, now_ns, &key);
	if (!ref.flow || !(ref.flow->bits & FLOW_ALLOWED))
		return 0;
	origin = ref.flow->bits & FLOW_ALLOWED;
	seen->has_origin = true;
	seen->is_origins = origin & origin_bit(&ref);
	recall(ref.flow, seen, SEEN_OWN);
	recall(ref.flow, seen, SEEN_ASKED);
	if (is_news(packet, &ref, now_ns))
		seen->changes = CHANGE_REFRESH;
	return 0;
}

/* Make the sender the origin of a flow that has none, or another. */
static __always_inline void take_origin(const struct packet *packet,
					struct flow_ref *ref, u64 now_ns)
{
	u32 bits = flow_bits_of(packet, ref->source_is_a) | origin_bit(ref);
	struct fos1_flow *flow = ref->flow;

#pragma unroll
	for (int i = 0; i < FOS1_STAGES; i++)
		flow->judged_place[i] = 0;
	flow->bits = bits |
		     (flow->bits & (opens(packet) ? FLOW_KEPT : ~FLOW_ALLOWED));
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
		ref->flow->created_ns = now_ns;
	}
	flow_refresh(ref->flow, bits, now_ns);
}

/* Write down what a packet has changed of its flow. Global as above. */
__noinline int policy_flow_change(struct packet *packet, struct seen *seen)
{
	u64 now_ns = bpf_ktime_get_coarse_ns();
	union flow_key key;
	struct flow_ref ref;

	if (!packet || !seen)
		return 0;
	ref = flow_find(packet, now_ns, &key);
	if (!ref.flow && (seen->changes & CHANGE_ORIGIN)) {
		flow_begin(packet, &key, 0, now_ns);
		ref = flow_find(packet, now_ns, &key);
	}
	if (!ref.flow)
		return 0;
	if (seen->changes & CHANGE_ORIGIN)
		take_origin(packet, &ref, now_ns);
	else
		refresh(packet, &ref, seen->is_origins, now_ns);
	if (seen->changes & (CHANGE_ORIGIN | CHANGE_OWN))
		remember(ref.flow, seen, SEEN_OWN);
	if (seen->changes & CHANGE_ASKED)
		remember(ref.flow, seen, SEEN_ASKED);
	if (ref.is_new && flow_is_two_way(ref.flow->bits) &&
	    !flow_settle(packet, &key, ref.flow))
		count(FOS1_NOTE_FLOWS_FULL, 0);
	return 0;
}

#endif
