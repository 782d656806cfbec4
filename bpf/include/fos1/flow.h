/* SPDX-License-Identifier: GPL-2.0-only */
/* The flow tables, shared by everything that must know established traffic.
 *
 * A flow begins in new_flows when its first packet is seen, and moves to flows
 * when packets of both directions were: so what one side alone sends, floods
 * and scans, can only push out more of the same. A flow that is older than its
 * lifetime is none; that is judged at lookup, so it never depends on the
 * daemon, which only frees the memory.
 */
#ifndef FOS1_FLOW_H
#define FOS1_FLOW_H

#include <fos1/parse.h>
#include <fos1/types.h>

/* Writers: XDP and TC programs; the daemon removes what expired.
 * Full: a flow that would move here stays in new_flows; nothing is dropped
 * for it, and flows_full counts it.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct fos1_flow4_key);
	__type(value, struct fos1_flow);
} flows4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct fos1_flow6_key);
	__type(value, struct fos1_flow);
} flows6 SEC(".maps");

/* Writers: XDP and TC programs. Full: the least recently used goes. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct fos1_flow4_key);
	__type(value, struct fos1_flow);
} new_flows4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct fos1_flow6_key);
	__type(value, struct fos1_flow);
} new_flows6 SEC(".maps");

/* A refreshed time stamp is written at most this often, so that packets of one
 * flow on several CPUs do not fight for its cache line.
 */
enum flow_time { FLOW_REFRESH_NS = FOS1_NS_PER_SECOND };

/* The key of a packet's flow, in the family that is_v6 tells. */
union flow_key {
	struct fos1_flow4_key v4;
	struct fos1_flow6_key v6;
};

/* Where a flow was found. */
struct flow_ref {
	struct fos1_flow *flow;
	bool is_new;
	bool source_is_a;
};

static __always_inline bool is_echo_request(const struct packet *packet)
{
	if (packet->protocol == IPPROTO_ICMP)
		return packet->icmp_type == ICMP4_ECHO_REQUEST;
	return packet->protocol == IPPROTO_ICMPV6 &&
	       packet->icmp_type == ICMP6_ECHO_REQUEST;
}

static __always_inline bool is_echo_reply(const struct packet *packet)
{
	if (packet->protocol == IPPROTO_ICMP)
		return packet->icmp_type == ICMP4_ECHO_REPLY;
	return packet->protocol == IPPROTO_ICMPV6 &&
	       packet->icmp_type == ICMP6_ECHO_REPLY;
}

static __always_inline bool has_flow(const struct packet *packet)
{
	if (packet->is_later_fragment)
		return false;
	switch (packet->protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case PROTOCOL_SCTP:
		return true;
	default:
		return is_echo_request(packet) || is_echo_reply(packet);
	}
}

/* Half of an IPv6 address as a number. */
static __always_inline u64 half(const __be32 words[2])
{
	return (u64)bpf_ntohl(words[0]) << 32 | bpf_ntohl(words[1]);
}

/* Whether the sender is the flow's end a: the lower address, then port. */
static __always_inline bool source_is_a(const struct packet *packet)
{
	u64 source = bpf_ntohl(packet->source[0]);
	u64 dest = bpf_ntohl(packet->dest[0]);

	if (packet->is_v6) {
		source = half(packet->source);
		dest = half(packet->dest);
		if (source == dest) {
			source = half(packet->source + 2);
			dest = half(packet->dest + 2);
		}
	}
	if (source == dest) {
		source = bpf_ntohs(packet->source_port);
		dest = bpf_ntohs(packet->dest_port);
	}
	return source <= dest;
}

/* The ends of a flow in its own order. */
static __always_inline void flow_key4(const struct packet *packet, bool a,
				      struct fos1_flow4_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->protocol = packet->protocol;
	if (a) {
		key->address_a = packet->source[0];
		key->address_b = packet->dest[0];
		key->port_a = packet->source_port;
		key->port_b = packet->dest_port;
	} else {
		key->address_a = packet->dest[0];
		key->address_b = packet->source[0];
		key->port_a = packet->dest_port;
		key->port_b = packet->source_port;
	}
}

static __always_inline void flow_key6(const struct packet *packet, bool a,
				      struct fos1_flow6_key *key)
{
	const __be32 *low = a ? packet->source : packet->dest;
	const __be32 *high = a ? packet->dest : packet->source;

	__builtin_memset(key, 0, sizeof(*key));
	key->protocol = packet->protocol;
	__builtin_memcpy(key->address_a, low, sizeof(key->address_a));
	__builtin_memcpy(key->address_b, high, sizeof(key->address_b));
	key->port_a = a ? packet->source_port : packet->dest_port;
	key->port_b = a ? packet->dest_port : packet->source_port;
}

static __always_inline bool flow_is_two_way(u32 bits)
{
	const u32 both = FOS1_FLOW_FROM_A | FOS1_FLOW_FROM_B;

	return (bits & both) == both;
}

static __always_inline bool flow_is_closing(u32 bits)
{
	const u32 fins = FOS1_FLOW_FIN_A | FOS1_FLOW_FIN_B;

	return (bits & FOS1_FLOW_RST) || (bits & fins) == fins;
}

/* How long a flow lives after its last packet. */
static __always_inline u64 flow_lifetime_ns(u8 protocol, u32 bits)
{
	u64 seconds = FOS1_OTHER_S;

	if (protocol == IPPROTO_TCP)
		seconds = flow_is_two_way(bits) && !flow_is_closing(bits)
				  ? FOS1_TCP_ESTABLISHED_S
				  : FOS1_TCP_TRANSITORY_S;
	else if (protocol == IPPROTO_UDP)
		seconds = FOS1_UDP_S;
	else if (protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6)
		seconds = FOS1_ICMP_S;
	return seconds * FOS1_NS_PER_SECOND;
}

static __always_inline bool flow_lives(const struct fos1_flow *flow,
				       u8 protocol, u64 now_ns)
{
	u64 age_ns = now_ns - flow->seen_ns;

	/* Another CPU may have stamped it after we read the clock. */
	return (long long)age_ns < 0 ||
	       age_ns <= flow_lifetime_ns(protocol, flow->bits);
}

/* Find the packet's flow, living, and build its key on the way. */
static __always_inline struct flow_ref
flow_find(const struct packet *packet, u64 now_ns, union flow_key *key)
{
	struct flow_ref ref = { .source_is_a = source_is_a(packet) };

	if (packet->is_v6) {
		flow_key6(packet, ref.source_is_a, &key->v6);
		ref.flow = bpf_map_lookup_elem(&flows6, &key->v6);
	} else {
		flow_key4(packet, ref.source_is_a, &key->v4);
		ref.flow = bpf_map_lookup_elem(&flows4, &key->v4);
	}
	if (ref.flow && flow_lives(ref.flow, packet->protocol, now_ns))
		return ref;
	ref.is_new = true;
	ref.flow = packet->is_v6 ? bpf_map_lookup_elem(&new_flows6, &key->v6)
				 : bpf_map_lookup_elem(&new_flows4, &key->v4);
	if (ref.flow && !flow_lives(ref.flow, packet->protocol, now_ns))
		ref.flow = NULL;
	return ref;
}

/* What this packet adds to its flow's bits. */
static __always_inline u32 flow_bits_of(const struct packet *packet, bool a)
{
	u32 bits = a ? FOS1_FLOW_FROM_A : FOS1_FLOW_FROM_B;

	if (packet->protocol != IPPROTO_TCP)
		return bits;
	if (packet->tcp_flags & TCP_FIN)
		bits |= a ? FOS1_FLOW_FIN_A : FOS1_FLOW_FIN_B;
	if (packet->tcp_flags & TCP_RST)
		bits |= FOS1_FLOW_RST;
	return bits;
}

static __always_inline void flow_refresh(struct fos1_flow *flow, u32 bits,
					 u64 now_ns)
{
	if ((flow->bits & bits) != bits)
		__sync_fetch_and_or(&flow->bits, bits);
	if (now_ns - flow->seen_ns > FLOW_REFRESH_NS)
		flow->seen_ns = now_ns;
}

/* Remember a flow of which one direction was seen. */
static __always_inline void flow_begin(const struct packet *packet,
				       const union flow_key *key, u32 bits,
				       u64 now_ns)
{
	struct fos1_flow flow = {
		.seen_ns = now_ns,
		.bits = bits,
	};

	if (packet->is_v6)
		bpf_map_update_elem(&new_flows6, &key->v6, &flow, BPF_ANY);
	else
		bpf_map_update_elem(&new_flows4, &key->v4, &flow, BPF_ANY);
}

/* Move a flow whose both directions were seen to the table that evicts
 * nothing. False if that table is full: then it stays where it is.
 */
static __always_inline bool flow_settle(const struct packet *packet,
					const union flow_key *key,
					const struct fos1_flow *flow)
{
	struct fos1_flow copy = *flow;

	if (packet->is_v6) {
		if (bpf_map_update_elem(&flows6, &key->v6, &copy, BPF_ANY))
			return false;
		bpf_map_delete_elem(&new_flows6, &key->v6);
	} else {
		if (bpf_map_update_elem(&flows4, &key->v4, &copy, BPF_ANY))
			return false;
		bpf_map_delete_elem(&new_flows4, &key->v4);
	}
	return true;
}

#endif
