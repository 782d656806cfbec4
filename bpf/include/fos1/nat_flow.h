/* SPDX-License-Identifier: GPL-2.0-only */
/* Translated flows: two entries that name each other. */
#ifndef FOS1_NAT_FLOW_H
#define FOS1_NAT_FLOW_H

#include <fos1/nat_end.h>

enum nat_flow_number { NAT_NEWS = TCP_SYN | TCP_FIN | TCP_RST };

/* The key of the other entry: the ends turned round, the new one in place. */
static __always_inline void nat_twin_key(const struct nat *nat,
					 nat_flow_key *twin,
					 const nat_flow_key *key,
					 const nat_flow *flow)
{
	const __be32 *new = NAT_WORDS_OF(flow->address);
	bool is_out = key->way == FOS1_NAT_OUT;

	nat_copy(NAT_WORDS_OF(twin->source),
		 is_out ? NAT_WORDS_OF(key->dest) : new);
	nat_copy(NAT_WORDS_OF(twin->dest),
		 is_out ? new : NAT_WORDS_OF(key->source));
	twin->source_port = is_out ? key->dest_port : flow->port;
	twin->dest_port = is_out ? flow->port : key->source_port;
	twin->protocol = key->protocol;
	twin->way = !key->way;
	twin->pad = 0;
	nat_translate_far(nat, twin);
}

/* The end that an entry changes, as its hook meets it. */
static __always_inline const __be32 *nat_old_address(const nat_flow_key *key)
{
	return key->way == FOS1_NAT_OUT ? NAT_WORDS_OF(key->source)
					: NAT_WORDS_OF(key->dest);
}

static __always_inline __be16 nat_old_port(const nat_flow_key *key)
{
	return key->way == FOS1_NAT_OUT ? key->source_port : key->dest_port;
}

static __always_inline u32
nat_tcp_lifetime_s(const struct fos1_nat_policy *rule, u32 bits)
{
	const u32 both = FOS1_NAT_SEEN_OUT | FOS1_NAT_SEEN_IN;
	const u32 fins = FOS1_NAT_FIN_OUT | FOS1_NAT_FIN_IN;

	return (bits & both) != both || (bits & fins) == fins ||
			       bits & FOS1_NAT_RST
		       ? rule->tcp_transitory_s
		       : rule->tcp_established_s;
}

static __always_inline u64 nat_until(const struct nat *nat,
				     const struct fos1_nat_policy *policy,
				     u8 protocol, u32 bits)
{
	u64 seconds;

	switch (protocol) {
	case IPPROTO_TCP:
		seconds = nat_tcp_lifetime_s(policy, bits);
		break;
	case IPPROTO_UDP:
		seconds = policy->udp_s;
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		seconds = policy->icmp_s;
		break;
	default:
		seconds = policy->other_s;
	}
	return nat->now_ns + seconds * FOS1_NS_PER_SECOND;
}

/* What a flow's bits are after a packet: one that begins anew forgets, and a
 * reset counts until the inside goes on talking (RFC 5961).
 */
static __always_inline u32 nat_bits(u32 bits, u8 way, u8 tcp_flags)
{
	const u32 kept = FOS1_NAT_MAPPED | FOS1_NAT_HAIRPINNED;
	const u32 ends = FOS1_NAT_RST | FOS1_NAT_FIN_OUT | FOS1_NAT_FIN_IN;
	bool is_out = way == FOS1_NAT_OUT;

	if ((tcp_flags & TCP_SYN) && !(tcp_flags & TCP_ACK) && bits & ends &&
	    (is_out || bits & FOS1_NAT_MAPPED))
		bits &= kept;
	bits |= is_out ? FOS1_NAT_SEEN_OUT : FOS1_NAT_SEEN_IN;
	if (tcp_flags & TCP_FIN)
		bits |= is_out ? FOS1_NAT_FIN_OUT : FOS1_NAT_FIN_IN;
	if (tcp_flags & TCP_RST)
		return bits | FOS1_NAT_RST;
	return is_out ? bits & ~FOS1_NAT_RST : bits;
}

/* Have an end live as long as a flow; one whose only flow this is, no longer,
 * unless somebody else has just written when it ends.
 */
static __always_inline void nat_keep_end(const nat_end_key *key, u64 until_ns)
{
	nat_end *end = bpf_map_lookup_elem(&nat_ends, key);
	u64 old;

	if (!end)
		return;
	old = *(volatile u64 *)&end->until_ns;
	if (old < until_ns || end->flows <= 1)
		__sync_val_compare_and_swap(&end->until_ns, old, until_ns);
}

/* The same for both entries of the end that a flow has, by its OUT key. */
static __always_inline void nat_keep_ends(struct nat *nat,
					  const nat_flow_key *out,
					  const __be32 *external, __be16 port,
					  u64 until_ns)
{
	nat_end_out(&nat->end_key, out->protocol, NAT_WORDS_OF(out->source),
		    out->source_port, external);
	nat_keep_end(&nat->end_key, until_ns);
	nat_end_in(&nat->end_key, out->protocol, external, port);
	nat_keep_end(&nat->end_key, until_ns);
	nat_keep_held(nat, until_ns);
}

/* Write into the other entry what changed in one, or make it anew. */
static __always_inline void
nat_touch_twin(struct nat *nat, const nat_flow *flow, const nat_flow_key *key)
{
	nat_flow_key *other = &nat->in;
	nat_flow *twin;

	nat_twin_key(nat, other, key, flow);
	twin = bpf_map_lookup_elem(&nat_flows, other);
	if (twin) {
		twin->bits = flow->bits;
		twin->until_ns = flow->until_ns;
		return;
	}
	nat->back = *flow;
	nat_copy(NAT_WORDS_OF(nat->back.address), nat_old_address(key));
	nat->back.port = nat_old_port(key);
	bpf_map_update_elem(&nat_flows, other, &nat->back, BPF_NOEXIST);
}

/* Note that an outside end has spoken to a far one, if its policy's filtering
 * asks for that (RFC 4787, REQ-8); a port of 0: whatever the far one's is.
 */
static __always_inline void nat_note_peer(struct nat *nat, const __be32 *far,
					  __be16 far_port, u8 protocol,
					  const __be32 *external, __be16 port,
					  u64 until_ns)
{
	nat_flow_key *key = &nat->peer;

	__builtin_memset(&nat->back, 0, sizeof(nat->back));
	nat->back.until_ns = until_ns;
	nat_copy(NAT_WORDS_OF(key->source), far);
	nat_copy(NAT_WORDS_OF(key->dest), external);
	key->source_port = far_port;
	key->dest_port = port;
	key->protocol = protocol;
	key->way = FOS1_NAT_PEER;
	key->pad = 0;
	bpf_map_update_elem(&nat_flows, key, &nat->back, BPF_ANY);
}

static __always_inline bool nat_is_peer(struct nat *nat, const __be32 *far,
					__be16 far_port, u8 protocol,
					const __be32 *external, __be16 port)
{
	nat_flow_key *key = &nat->peer;
	nat_flow *noted;

	nat_copy(NAT_WORDS_OF(key->source), far);
	nat_copy(NAT_WORDS_OF(key->dest), external);
	key->source_port = far_port;
	key->dest_port = port;
	key->protocol = protocol;
	key->way = FOS1_NAT_PEER;
	key->pad = 0;
	noted = bpf_map_lookup_elem(&nat_flows, key);
	return noted && nat->now_ns <= noted->until_ns;
}

/* Whether what comes in makes a flow live longer: strangers could hold a port
 * of UDP for ever (RFC 4787, REQ-6).
 */
static __always_inline bool nat_refreshes(const nat_flow_key *key,
					  const struct fos1_nat_policy *policy,
					  u32 bits)
{
	return key->way == FOS1_NAT_OUT || key->protocol != IPPROTO_UDP ||
	       policy->filtering != FOS1_NAT_FILTER_NONE ||
	       bits & FOS1_NAT_MAPPED;
}

/* Write down what a packet says of its flow: in both entries, and in those of
 * its end.
 */
static __always_inline void nat_touch(struct nat *nat, const nat_flow_key *key,
				      nat_flow *flow,
				      const struct fos1_nat_policy *policy)
{
	bool is_out = key->way == FOS1_NAT_OUT;

	flow->bits = nat_bits(flow->bits, key->way, nat->packet.tcp_flags);
	flow->generation = nat_generation();
	flow->fresh_ns = nat->now_ns + FOS1_NS_PER_SECOND;
	if (nat_refreshes(key, policy, flow->bits))
		flow->until_ns =
			nat_until(nat, policy, key->protocol, flow->bits);
	nat_touch_twin(nat, flow, key);
	if (!nat_has_port(key->protocol))
		return;
	if (!is_out)
		nat_keep_ends(nat, &nat->in, NAT_WORDS_OF(key->dest),
			      key->dest_port, flow->until_ns);
	else
		nat_keep_ends(nat, key, NAT_WORDS_OF(flow->address), flow->port,
			      flow->until_ns);
	if (is_out && policy->filtering == FOS1_NAT_FILTER_ADDRESS &&
	    !(flow->bits & (FOS1_NAT_MAPPED | FOS1_NAT_HAIRPINNED)))
		nat_note_peer(nat, NAT_WORDS_OF(nat->in.source), 0,
			      key->protocol, NAT_WORDS_OF(flow->address),
			      flow->port, flow->until_ns);
}

static __always_inline struct fos1_nat_usage *nat_usage_of(u32 policy)
{
	return bpf_map_lookup_elem(&nat_usage, &policy);
}

static __always_inline void nat_count_up(u32 policy)
{
	struct fos1_nat_usage *usage = nat_usage_of(policy);
	struct fos1_nat_usage one = { .flows = 1 };

	if (usage)
		__sync_fetch_and_add(&usage->flows, 1);
	else
		bpf_map_update_elem(&nat_usage, &policy, &one, BPF_NOEXIST);
}

static __always_inline void nat_count_down(u32 policy)
{
	struct fos1_nat_usage *usage = nat_usage_of(policy);

	if (usage && usage->flows)
		__sync_fetch_and_add(&usage->flows, -1);
}

/* Delete both entries of a flow. */
static __always_inline void nat_forget(struct nat *nat, const nat_flow_key *key,
				       const nat_flow *flow)
{
	u32 policy = flow->policy;

	nat_twin_key(nat, &nat->in, key, flow);
	bpf_map_delete_elem(&nat_flows, &nat->in);
	if (!bpf_map_delete_elem(&nat_flows, key))
		nat_count_down(policy);
}

/* Note at both entries of the ends that they have one flow more. */
static __always_inline void nat_count_flow(struct nat *nat)
{
	const nat_flow_key *out = &nat->out;
	nat_end *end;

	nat_end_out(&nat->end_key, out->protocol, NAT_WORDS_OF(out->source),
		    out->source_port, NAT_WORDS_OF(nat->flow.address));
	end = bpf_map_lookup_elem(&nat_ends, &nat->end_key);
	if (end)
		__sync_fetch_and_add(&end->flows, 1);
	nat_end_in(&nat->end_key, out->protocol,
		   NAT_WORDS_OF(nat->flow.address), nat->flow.port);
	end = bpf_map_lookup_elem(&nat_ends, &nat->end_key);
	if (end)
		__sync_fetch_and_add(&end->flows, 1);
}

/* Whether a key is free: nobody has it, or somebody whose time is up. */
static __always_inline bool nat_is_free(struct nat *nat,
					const nat_flow_key *key)
{
	nat_flow *old = bpf_map_lookup_elem(&nat_flows, key);

	if (!old)
		return true;
	if (nat->now_ns <= old->until_ns)
		return false;
	nat_forget(nat, key, old);
	return true;
}

enum nat_inserted { NAT_INSERTED, NAT_TAKEN, NAT_FULL };

/* Insert the flow nat->out -> nat->flow. To insert the IN entry is to own the
 * outside tuple.
 */
static __always_inline enum nat_inserted nat_insert(struct nat *nat)
{
	nat_flow_key *out = &nat->out;

	if (!nat_is_free(nat, out))
		return NAT_TAKEN;
	nat_twin_key(nat, &nat->twin, out, &nat->flow);
	if (!nat_is_free(nat, &nat->twin))
		return NAT_TAKEN;
	nat->back = nat->flow;
	nat_copy(NAT_WORDS_OF(nat->back.address), NAT_WORDS_OF(out->source));
	nat->back.port = out->source_port;
	if (bpf_map_update_elem(&nat_flows, &nat->twin, &nat->back,
				BPF_NOEXIST))
		return NAT_FULL;
	if (!bpf_map_update_elem(&nat_flows, out, &nat->flow, BPF_NOEXIST)) {
		nat_count_up(nat->flow.policy);
		return NAT_INSERTED;
	}
	bpf_map_delete_elem(&nat_flows, &nat->twin);
	return NAT_FULL;
}

#endif
