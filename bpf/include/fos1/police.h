/* SPDX-License-Identifier: GPL-2.0-only */
/* From an skb to its verdict: find the place, read the headers, judge, log. */
#ifndef FOS1_POLICE_H
#define FOS1_POLICE_H

#include <fos1/judge.h>
#include <fos1/known.h>

#define TCP_HEADER_BYTES 20

static __always_inline enum fos1_reason reason_of_malformed(enum parsed result)
{
	if (result == PARSED_TINY_FRAGMENT)
		return FOS1_DROP_TINY_FRAGMENT;
	if (result == PARSED_TOO_DEEP)
		return FOS1_DROP_TOO_DEEP;
	return FOS1_DROP_MALFORMED;
}

/* Whether the rules do anything at all to what goes this way. */
static __always_inline bool hook_is_idle(const struct hook *hook)
{
	const u32 work = FOS1_PLACE_POLICED | FOS1_PLACE_EFFECTS |
			 FOS1_PLACE_STATEFUL;

	return !(hook->flags & work);
}

static __always_inline bool is_policed_at_all(const struct fos1_place *place)
{
	return (place->flags[0] | place->flags[1] | place->flags[2] |
		place->flags[3]) &
	       FOS1_PLACE_POLICED;
}

/* The headers behind the link's, of which packet->ether_type and
 * layout->network tell. Global, so that the verifier sees it once.
 */
__noinline int policy_read(struct __sk_buff *skb, struct packet *packet,
			   struct layout *layout, u32 is_quoted)
{
	enum parsed result;

	if (!packet || !layout)
		return PARSED_MALFORMED;
	result = read_network(skb, packet, layout);
	return result == PARSED_IP
		       ? read_transport(skb, packet, layout, is_quoted)
		       : result;
}

static __always_inline bool is_to(const struct packet *packet,
				  const __be32 *dest)
{
	bool is_same = true;

#pragma unroll
	for (int i = 0; i < 4; i++)
		is_same &= packet->dest[i] == dest[i];
	return is_same;
}

/* Put in the place of an ICMP error the packet that would go its way in the
 * flow of the packet that it quotes. False if it quotes none, or one of another
 * sender than it is told to: that would take anything to anybody.
 */
static __always_inline bool read_quoted(struct hook *hook)
{
	__be16 ether_type = hook->packet->ether_type;
	__be32 dest[4];

	__builtin_memcpy(dest, hook->packet->dest, sizeof(dest));
	__builtin_memset(hook->packet, 0, sizeof(*hook->packet));
	hook->packet->ether_type = ether_type;
	hook->layout->network = hook->layout->transport + ICMP_HEADER_BYTES;
	if (policy_read(hook->skb, hook->packet, hook->layout, true) !=
	    PARSED_IP)
		return false;
	swap_ends(hook->packet);
	return is_to(hook->packet, dest);
}

static __always_inline enum parsed read_hook(struct hook *hook, u32 link_bytes)
{
	enum parsed result;

	if (hook->is_read)
		return PARSED_IP;
	__builtin_memset(hook->packet, 0, sizeof(*hook->packet));
	if (!read_link(hook->skb, link_bytes, hook->packet, hook->layout))
		return PARSED_MALFORMED;
	result = policy_read(hook->skb, hook->packet, hook->layout, false);
	if (result == PARSED_IP && unlikely(hook->packet->is_fragment))
		policy_fragment(hook->packet, hook->layout);
	return result;
}

/* Whether the skb is an ICMP error about a flow that we know; then the packet
 * becomes the one that would go the error's way in that flow.
 */
static __always_inline bool is_related_error(struct hook *hook, u32 link_bytes)
{
	if (likely(!is_icmp_error(hook->packet)))
		return false;
	if (read_quoted(hook)) {
		look_up_flow(hook);
		if (hook->seen->has_origin)
			return true;
	}
	read_hook(hook, link_bytes);
	return false;
}

/* Judge what the skb holds. */
static __always_inline enum fos1_reason police(struct hook *hook,
					       u32 link_bytes)
{
	enum parsed result = read_hook(hook, link_bytes);
	bool is_related;

	if (result == PARSED_NOT_IP)
		return FOS1_PASS_NOT_IP;
	if (result != PARSED_IP)
		return is_policed_at_all(hook->place)
			       ? reason_of_malformed(result)
			       : FOS1_PASS;
	hook->asked->bytes = wire_bytes(hook->skb, hook->layout->payload);
	is_related = is_related_error(hook, link_bytes);
	if (!is_related)
		look_up_flow(hook);
	return judge_packet(hook, is_related);
}

/* What is the same in the events of one packet. */
static __always_inline void event_fill(struct fos1_policy_event *event,
				       const struct __sk_buff *skb,
				       const struct packet *packet)
{
	event->time_ns = bpf_ktime_get_ns();
	event->ifindex = skb->ifindex;
	__builtin_memcpy(event->source, packet->source, sizeof(event->source));
	__builtin_memcpy(event->dest, packet->dest, sizeof(event->dest));
	event->source_port = packet->source_port;
	event->dest_port = packet->dest_port;
	event->protocol = packet->protocol;
	event->is_v6 = packet->is_v6;
	event->icmp_type = packet->icmp_type;
	event->icmp_code = packet->icmp_code;
	event->tcp_flags = packet->tcp_flags;
	event->pad = 0;
}

static __always_inline void write_event(struct hook *hook, u32 at,
					enum fos1_reason reason)
{
	struct fos1_policy_rule *rule = bpf_map_lookup_elem(&policy_rules, &at);
	struct fos1_policy_event *event;

	if (!rule || !may_log(rule->counter))
		return;
	event = bpf_ringbuf_reserve(&policy_events, sizeof(*event), 0);
	if (!event) {
		count(FOS1_NOTE_EVENTS_FULL, 0);
		return;
	}
	event_fill(event, hook->skb, hook->packet);
	event->counter = rule->counter;
	event->place_id = hook->key->id;
	event->kind = hook->key->kind;
	event->chain = hook->way;
	event->reason = reason;
	event->bytes = hook->asked->bytes;
	bpf_ringbuf_submit(event, 0);
}

static __always_inline void write_events(struct hook *hook,
					 enum fos1_reason reason)
{
	for (u32 i = 0; i < RULE_LOGS; i++) {
		if (i >= hook->asked->log_count)
			return;
		write_event(hook, hook->asked->logs[i], reason);
	}
}

static __always_inline bool is_dropped(enum fos1_reason reason)
{
	return reason >= FOS1_DROP_BLACKLIST && reason < FOS1_NOTE_FLOWS_FULL;
}

/* Find a place and what its rules do this way; false if they do nothing. */
static __always_inline bool hook_find(struct hook *hook, u32 kind, u64 id,
				      u32 way)
{
	hook->key->kind = kind;
	hook->key->id = id;
	hook->way = way;
	if (kind == FOS1_PLACE_INTERFACE && id < FOS1_POLICY_INTERFACES) {
		u32 index = id;

		hook->place = bpf_map_lookup_elem(&policy_interfaces, &index);
	} else {
		hook->place = bpf_map_lookup_elem(&policy_places, hook->key);
	}
	if (!hook->place)
		return false;
	hook->flags = place_flags(hook->place, way);
	hook->version = version_at(hook->place, way);
	return true;
}

/* Why a plain packet passes by one of the short ways (known.h); REASONS if by
 * none.
 */
static __always_inline enum fos1_reason short_way(const struct hook *hook)
{
	struct fos1_place *place = (struct fos1_place *)hook->place;
	u32 bytes = wire_bytes(hook->skb, hook->layout->payload);

	if (hook->flags & FOS1_PLACE_EFFECTS)
		return FOS1_REASONS;
	if (FOS1_AT_CGROUP || (hook->flags & FOS1_PLACE_STATEFUL))
		return policy_is_known(place, hook->key->id, hook->packet,
				       hook->way, bytes)
			       ? FOS1_PASS_ESTABLISHED
			       : FOS1_REASONS;
	return policy_is_allowed(place, hook->packet, hook->way, bytes)
		       ? FOS1_PASS
		       : FOS1_REASONS;
}

/* Read a packet if it is plain, and let it pass if it may, by a short way. */
static __always_inline bool hook_passes(struct hook *hook, u32 link_bytes)
{
	enum fos1_reason reason;

	hook->is_read = policy_read_plain(hook->skb, hook->packet, hook->layout,
					  link_bytes);
	if (!hook->is_read)
		return false;
	reason = short_way(hook);
	if (reason == FOS1_REASONS)
		return false;
	count(reason, hook->skb->len);
	return true;
}

/* Judge, log and count a packet at a place that was found. */
static __always_inline enum fos1_reason judge_hook(struct hook *hook,
						   u32 link_bytes)
{
	enum fos1_reason reason = policy_forget(police(hook, link_bytes));

	if (unlikely(hook->asked->log_count))
		write_events(hook, reason);
	count(reason, hook->skb->len);
	return reason;
}

#endif
