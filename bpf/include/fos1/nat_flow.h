/* SPDX-License-Identifier: GPL-2.0-only */
/* Translated flows: two entries that name each other. */
#ifndef FOS1_NAT_FLOW_H
#define FOS1_NAT_FLOW_H

#include <fos1/flow.h>
#include <fos1/nat_end.h>

enum nat_flow_number { NAT_NEWS = TCP_SYN | TCP_FIN | TCP_RST };

/* A packet's flow as this hook meets it. */
static __always_inline void nat_key(const struct packet *packet, u8 way,
				    struct fos1_nat_flow4_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->source = packet->source[0];
	key->dest = packet->dest[0];
	key->source_port = packet->source_port;
	key->dest_port = packet->dest_port;
	key->protocol = packet->protocol;
	key->way = way;
	if (packet->protocol != IPPROTO_ICMP)
		return;
	if (packet->icmp_type == ICMP4_ECHO_REPLY)
		key->source_port = 0;
	else
		key->dest_port = 0;
}

/* The key of the other entry: the ends turned round, the new one in place. */
static __always_inline struct fos1_nat_flow4_key
nat_twin_key(const struct fos1_nat_flow4_key *key,
	     const struct fos1_nat_flow4 *flow)
{
	bool is_out = key->way == FOS1_NAT_OUT;

	return (struct fos1_nat_flow4_key){
		.source = is_out ? key->dest : flow->address,
		.source_port = is_out ? key->dest_port : flow->port,
		.dest = is_out ? flow->address : key->source,
		.dest_port = is_out ? flow->port : key->source_port,
		.protocol = key->protocol,
		.way = !key->way,
	};
}

static __always_inline u32 nat_lifetime_s(const struct fos1_nat_policy *policy,
					  u8 protocol, u32 bits)
{
	const u32 both = FOS1_NAT_SEEN_OUT | FOS1_NAT_SEEN_IN;
	const u32 fins = FOS1_NAT_FIN_OUT | FOS1_NAT_FIN_IN;

	switch (protocol) {
	case IPPROTO_TCP:
		return (bits & both) != both || (bits & fins) == fins ||
				       bits & FOS1_NAT_RST
			       ? policy->tcp_transitory_s
			       : policy->tcp_established_s;
	case IPPROTO_UDP:
		return policy->udp_s;
	case IPPROTO_ICMP:
		return policy->icmp_s;
	default:
		return FOS1_OTHER_S;
	}
}

/* What a flow's bits are after a packet: one that begins anew forgets, and a
 * reset counts until the inside goes on talking (RFC 5961).
 */
static __always_inline u32 nat_bits(u32 bits, u8 way, u8 tcp_flags)
{
	bool is_out = way == FOS1_NAT_OUT;

	if (is_out && (tcp_flags & TCP_SYN) && !(tcp_flags & TCP_ACK) &&
	    bits & (FOS1_NAT_RST | FOS1_NAT_FIN_OUT | FOS1_NAT_FIN_IN))
		bits &= FOS1_NAT_MAPPED;
	bits |= is_out ? FOS1_NAT_SEEN_OUT : FOS1_NAT_SEEN_IN;
	if (tcp_flags & TCP_FIN)
		bits |= is_out ? FOS1_NAT_FIN_OUT : FOS1_NAT_FIN_IN;
	if (tcp_flags & TCP_RST)
		return bits | FOS1_NAT_RST;
	return is_out ? bits & ~FOS1_NAT_RST : bits;
}

/* Have an end live as long as a flow; one whose only flow this is, no longer. */
static __always_inline void nat_keep_end(const struct fos1_nat_end4_key *key,
					 u64 until_ns)
{
	struct fos1_nat_end4 *end = bpf_map_lookup_elem(&nat_ends4, key);

	if (end && (end->until_ns < until_ns || end->flows <= 1))
		end->until_ns = until_ns;
}

/* Both entries of a flow's two ends, by its OUT key. */
static __always_inline void nat_keep_ends(const struct fos1_nat_flow4_key *out,
					  __be32 external, __be16 port,
					  u64 until_ns)
{
	struct fos1_nat_end4_key key = nat_end_key(FOS1_NAT_OUT, out->protocol,
						   out->source,
						   out->source_port, external);

	nat_keep_end(&key, until_ns);
	key = nat_end_key(FOS1_NAT_IN, out->protocol, external, port, 0);
	nat_keep_end(&key, until_ns);
}

/* Write down what a packet says of its flow, in both entries. */
static __always_inline void nat_touch(const struct fos1_nat_flow4_key *key,
				      struct fos1_nat_flow4 *flow,
				      const struct fos1_nat_policy *policy,
				      u8 tcp_flags, u64 now_ns)
{
	struct fos1_nat_flow4_key other = nat_twin_key(key, flow);
	struct fos1_nat_flow4 *twin = bpf_map_lookup_elem(&nat_flows4, &other);
	bool is_out = key->way == FOS1_NAT_OUT;

	flow->bits = nat_bits(flow->bits, key->way, tcp_flags);
	flow->generation = nat_generation;
	flow->fresh_ns = now_ns + FOS1_NS_PER_SECOND;
	if (is_out || key->protocol != IPPROTO_UDP ||
	    policy->filtering != FOS1_NAT_FILTER_NONE)
		flow->until_ns =
			now_ns +
			(u64)nat_lifetime_s(policy, key->protocol, flow->bits) *
				FOS1_NS_PER_SECOND;
	if (twin) {
		twin->bits = flow->bits;
		twin->until_ns = flow->until_ns;
	} else {
		struct fos1_nat_flow4 lost = *flow;

		lost.address = is_out ? key->source : key->dest;
		lost.port = is_out ? key->source_port : key->dest_port;
		bpf_map_update_elem(&nat_flows4, &other, &lost, BPF_NOEXIST);
	}
	if (is_out)
		nat_keep_ends(key, flow->address, flow->port, flow->until_ns);
	else
		nat_keep_ends(&other, key->dest, key->dest_port,
			      flow->until_ns);
}

/* Note at both entries of the ends that they have one flow more. */
static __always_inline void nat_count_flow(const struct fos1_nat_flow4_key *out,
					   const struct fos1_nat_flow4 *flow)
{
	struct fos1_nat_end4_key key =
		nat_end_key(FOS1_NAT_OUT, out->protocol, out->source,
			    out->source_port, flow->address);
	struct fos1_nat_end4 *end = bpf_map_lookup_elem(&nat_ends4, &key);

	if (end)
		__sync_fetch_and_add(&end->flows, 1);
	key = nat_end_key(FOS1_NAT_IN, out->protocol, flow->address, flow->port,
			  0);
	end = bpf_map_lookup_elem(&nat_ends4, &key);
	if (end)
		__sync_fetch_and_add(&end->flows, 1);
}

/* Insert a flow by its OUT key and outside end; false if there is no room, or
 * another one has that outside end for the same far one.
 */
static __always_inline bool nat_insert(const struct fos1_nat_flow4_key *out,
				       struct fos1_nat_flow4 *flow, u64 now_ns)
{
	struct fos1_nat_flow4_key in = nat_twin_key(out, flow);
	struct fos1_nat_flow4 *old = bpf_map_lookup_elem(&nat_flows4, &in);
	struct fos1_nat_flow4 back = *flow;

	back.address = out->source;
	back.port = out->source_port;
	nat_count_flow(out, flow);
	if (old && now_ns > old->until_ns)
		bpf_map_delete_elem(&nat_flows4, &in);
	if (bpf_map_update_elem(&nat_flows4, &in, &back, BPF_NOEXIST))
		return false;
	if (!bpf_map_update_elem(&nat_flows4, out, flow, BPF_ANY))
		return true;
	bpf_map_delete_elem(&nat_flows4, &in);
	return false;
}

#endif
