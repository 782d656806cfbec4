// SPDX-License-Identifier: GPL-2.0-only
/* EBPFProgram of type xdp: blacklist, flow check, flood limits, rate limit.
 *
 * Closed on error where the frame is at fault: what claims to be IP and cannot
 * be parsed is dropped. Open where we are: a full table drops nothing.
 */
#include <fos1/blacklist.h>
#include <fos1/flow.h>
#include <fos1/datagram.h>
#include <fos1/parse.h>
#include <fos1/source.h>
#include <fos1/types.h>
#include <fos1/verdict.h>

FOS1_CONFIG(u32, link_header_bytes,
	    "bytes before the network header: 14, or 0 on a bare IP link");
FOS1_CONFIG(bool, tracks_flows,
	    "whether packets are looked up among the flows");
FOS1_CONFIG(bool, stateful, "whether TCP segments of no flow are dropped");
FOS1_CONFIG(
	u64, grace_ns,
	"nanoseconds after it attaches during which unknown flows are adopted");
FOS1_CONFIG(u32, connections_per_source,
	    "TCP connections that a source may hold, 0: no limit");
/* Since when each interface's flows are tracked. Writers: the daemon when it
 * attaches, or else the program, once an interface. Full: the interface that
 * was asked for least goes, and adopts unknown flows again at first.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FOS1_TRACKED_INTERFACES);
	__type(key, u32);
	__type(value, struct fos1_tracking);
} tracking SEC(".maps");

/* TCP connections by source (source_key). Writers: XDP programs; the daemon
 * recounts it from the flows. Full: the least recently used count is lost.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FOS1_CONNECTION_SOURCES);
	__type(key, u64);
	__type(value, u32);
} connections SEC(".maps");

/* What the flow tables say of a packet. */
struct flow_opinion {
	enum fos1_reason reason;
	bool is_answered;
};

static __always_inline enum fos1_reason reason_of(enum parsed result)
{
	switch (result) {
	case PARSED_IP:
		return FOS1_PASS;
	case PARSED_NOT_IP:
		return FOS1_PASS_NOT_IP;
	case PARSED_TINY_FRAGMENT:
		return FOS1_DROP_TINY_FRAGMENT;
	case PARSED_TOO_DEEP:
		return FOS1_DROP_TOO_DEEP;
	case PARSED_MALFORMED:
		break;
	}
	return FOS1_DROP_MALFORMED;
}

/* Neighbour discovery, which only a neighbour can send with hop limit 255
 * (RFC 4861, 6.1). Limits must not take the link down.
 */
static __always_inline bool is_neighbour_discovery(const struct packet *packet)
{
	return packet->is_v6 && packet->protocol == IPPROTO_ICMPV6 &&
	       packet->hop_limit == 255 && packet->icmp_type >= 133 &&
	       packet->icmp_type <= 137;
}

/* Whether this interface began to track only now. */
static __always_inline bool in_grace(u32 interface, u64 now_ns)
{
	struct fos1_tracking fresh = { .since_ns = now_ns }, *known;

	known = bpf_map_lookup_elem(&tracking, &interface);
	if (likely(known))
		return now_ns - known->since_ns < grace_ns;
	bpf_map_update_elem(&tracking, &interface, &fresh, BPF_NOEXIST);
	return grace_ns > 0;
}

static __always_inline bool source_opened(u32 bits, bool source_is_a)
{
	return bits &
	       (source_is_a ? FOS1_FLOW_OPENED_BY_A : FOS1_FLOW_OPENED_BY_B);
}

static __always_inline bool too_many_connections(u64 key)
{
	u32 *held = bpf_map_lookup_elem(&connections, &key);

	return held && *held >= connections_per_source;
}

static __always_inline void add_connection(u64 key)
{
	u32 one = 1, *held = bpf_map_lookup_elem(&connections, &key);

	if (held)
		__sync_fetch_and_add(held, 1);
	else
		bpf_map_update_elem(&connections, &key, &one, BPF_ANY);
}

static __always_inline void drop_connection(u64 key, struct fos1_flow *flow)
{
	u32 *held = bpf_map_lookup_elem(&connections, &key);
	u32 before = __sync_fetch_and_and(&flow->bits, ~FOS1_FLOW_COUNTED);

	if (held && *held && (before & FOS1_FLOW_COUNTED))
		__sync_fetch_and_add(held, -1);
}

/* Move an answered flow to the lasting table, within its source's share. */
static __always_inline enum fos1_reason settle(const struct packet *packet,
					       const union flow_key *key,
					       struct flow_ref *ref)
{
	bool counts = connections_per_source &&
		      packet->protocol == IPPROTO_TCP &&
		      source_opened(ref->flow->bits, ref->source_is_a);
	u64 source = source_key(packet);

	if (counts && too_many_connections(source) && !is_failsafe(packet))
		return FOS1_DROP_CONNECTIONS_PER_IP;
	if (counts)
		ref->flow->bits |= FOS1_FLOW_COUNTED;
	if (!flow_settle(packet, key, ref->flow)) {
		count(FOS1_NOTE_FLOWS_FULL, 0);
		return FOS1_PASS;
	}
	if (counts)
		add_connection(source);
	return FOS1_PASS;
}

/* A packet of a flow that we know. One that ends skips no limit any more. */
static __always_inline struct flow_opinion
known_flow(const struct packet *packet, const union flow_key *key,
	   struct flow_ref *ref, u64 now_ns)
{
	struct flow_opinion opinion = { .reason = FOS1_PASS };
	u32 bits = flow_bits_of(packet, ref->source_is_a);

	flow_refresh(ref->flow, bits, now_ns);
	if (!flow_is_two_way(ref->flow->bits))
		return opinion;
	opinion.is_answered = !flow_is_closing(ref->flow->bits);
	if (ref->is_new && opinion.is_answered)
		opinion.reason = settle(packet, key, ref);
	else if (connections_per_source && !opinion.is_answered &&
		 (ref->flow->bits & FOS1_FLOW_COUNTED) &&
		 source_opened(ref->flow->bits, ref->source_is_a))
		drop_connection(source_key(packet), ref->flow);
	return opinion;
}

/* A TCP segment that opens nothing and belongs to nothing. */
static __always_inline enum fos1_reason
unknown_segment(const struct packet *packet, const union flow_key *key,
		bool from_a, u32 interface, u64 now_ns)
{
	if (!in_grace(interface, now_ns))
		return is_failsafe(packet) ? FOS1_PASS : FOS1_DROP_NO_FLOW;
	if (!(packet->tcp_flags & TCP_RST))
		flow_begin(packet, key, flow_bits_of(packet, from_a), now_ns);
	return FOS1_PASS_ADOPTED;
}

static __always_inline struct flow_opinion
consult_flows(const struct packet *packet, u32 interface, u64 now_ns)
{
	struct flow_opinion opinion = { .reason = FOS1_PASS };
	union flow_key key;
	struct flow_ref ref;

	if (!has_flow(packet) || is_echo_request(packet))
		return opinion;
	if (opens_connection(packet) && !(packet->tcp_flags & TCP_FIN)) {
		if (connections_per_source && !is_failsafe(packet) &&
		    too_many_connections(source_key(packet)))
			opinion.reason = FOS1_DROP_CONNECTIONS_PER_IP;
		return opinion;
	}
	ref = flow_find(packet, now_ns, &key);
	if (likely(ref.flow))
		return known_flow(packet, &key, &ref, now_ns);
	if (stateful && packet->protocol == IPPROTO_TCP)
		opinion.reason = unknown_segment(packet, &key, ref.source_is_a,
						 interface, now_ns);
	return opinion;
}

static __always_inline bool looks_past_addresses(void)
{
	return tracks_flows || limits_sources();
}

/* Judge a packet by its flow and its source. */
static __always_inline enum fos1_reason judge(const struct packet *packet,
					      u32 interface)
{
	struct flow_opinion opinion = { .reason = FOS1_PASS };
	enum fos1_reason reason;
	u64 now_ns;

	if (is_neighbour_discovery(packet))
		return FOS1_PASS;
	now_ns = bpf_ktime_get_ns();
	if (stateful && packet->is_later_fragment)
		opinion.is_answered = fragment_is_known(packet, now_ns);
	else if (tracks_flows)
		opinion = consult_flows(packet, interface, now_ns);
	if (opinion.reason != FOS1_PASS && opinion.reason != FOS1_PASS_ADOPTED)
		return opinion.reason;
	if (stateful && opinion.is_answered) {
		if (packet->is_fragment && !packet->is_later_fragment)
			fragment_remember(packet, now_ns);
		return FOS1_PASS_ESTABLISHED;
	}
	if (!limits_sources())
		return opinion.reason;
	reason = charge_source(packet, opinion.is_answered, now_ns);
	return reason == FOS1_PASS ? opinion.reason : reason;
}

SEC("xdp")
int fos1_xdp_filter(struct xdp_md *ctx)
{
	struct packet packet = {
		.start = (void *)(long)ctx->data,
		.end = (void *)(long)ctx->data_end,
	};
	enum parsed result = parse_network(&packet, link_header_bytes);

	if (result != PARSED_IP)
		return verdict(ctx, reason_of(result));
	if (is_blacklisted(&packet))
		return verdict(ctx, FOS1_DROP_BLACKLIST);
	if (!looks_past_addresses())
		return verdict(ctx, FOS1_PASS);
	result = parse_rest(&packet);
	if (result != PARSED_IP)
		return verdict(ctx, reason_of(result));
	return verdict(ctx, judge(&packet, ctx->ingress_ifindex));
}

char LICENSE[] SEC("license") = "GPL";
