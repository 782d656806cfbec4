// SPDX-License-Identifier: GPL-2.0-only
/* The egress side of flow tracking: what leaves an interface begins a flow, or
 * answers one, so that XDP on the way in knows it.
 *
 * Open on error: it never drops and never changes a packet; what it cannot
 * parse has no flow.
 */
#include <linux/pkt_cls.h>

#include <fos1/flow.h>
#include <fos1/parse.h>
#include <fos1/types.h>

FOS1_CONFIG(u32, link_header_bytes,
	    "bytes before the network header: 14, or 0 on a bare IP link");

enum tc_flow_size {
	/* Ethernet, two tags, PPPoE, IPv6 with some extensions, TCP. */
	HEADERS_BYTES = 256,
};

/* What a new connection on the ports of an old one does not wipe: what XDP
 * counts, and what policies have just decided.
 */
enum tc_flow_bits {
	KEPT_BITS = FOS1_FLOW_COUNTED | FOS1_FLOW_ALLOWED_A |
		    FOS1_FLOW_ALLOWED_B,
};

/* Who opened the connection, if this segment tells: a SYN is from the opener,
 * a SYN with ACK from the other end.
 */
static __always_inline u32 opener_bit(const struct packet *packet, bool from_a)
{
	if (packet->protocol != IPPROTO_TCP || !(packet->tcp_flags & TCP_SYN))
		return 0;
	if (packet->tcp_flags & TCP_ACK)
		from_a = !from_a;
	return from_a ? FOS1_FLOW_OPENED_BY_A : FOS1_FLOW_OPENED_BY_B;
}

/* A connection that begins anew on the ports of an old one. */
static __always_inline void restart(const struct packet *packet,
				    struct flow_ref *ref, u32 bits, u64 now_ns)
{
	if (packet->tcp_flags & TCP_ACK)
		bits |= FOS1_FLOW_FROM_A | FOS1_FLOW_FROM_B;
	ref->flow->bits = bits | (ref->flow->bits & KEPT_BITS);
	ref->flow->seen_ns = now_ns;
}

/* Whether a packet of no flow begins one. An answer to a ping does not, or a
 * flood of pings would be a flow that no limit holds; nor does a refusal.
 */
static __always_inline bool begins_flow(const struct packet *packet)
{
	return !is_echo_reply(packet) && !(packet->tcp_flags & TCP_RST);
}

/* Our side goes on talking, so it did not believe the reset that came in: it
 * was forged, or sent to look like an end (RFC 5961, 3.2).
 */
static __always_inline void disown_reset(const struct packet *packet,
					 struct fos1_flow *flow)
{
	if ((flow->bits & FOS1_FLOW_RST) && !(packet->tcp_flags & TCP_RST))
		__sync_fetch_and_and(&flow->bits, ~FOS1_FLOW_RST);
}

static __always_inline void track(const struct packet *packet, u64 now_ns)
{
	union flow_key key;
	struct flow_ref ref = flow_find(packet, now_ns, &key);
	u32 opener = opener_bit(packet, ref.source_is_a);
	u32 bits = flow_bits_of(packet, ref.source_is_a) | opener;

	if (!ref.flow) {
		if (begins_flow(packet))
			flow_begin(packet, &key, bits, now_ns);
		return;
	}
	if (opener && !ref.is_new) {
		restart(packet, &ref, bits, now_ns);
		return;
	}
	disown_reset(packet, ref.flow);
	flow_refresh(ref.flow, bits, now_ns);
	if (ref.is_new && flow_is_two_way(ref.flow->bits))
		flow_settle(packet, &key, ref.flow);
}

SEC("tc")
int fos1_tc_flow(struct __sk_buff *skb)
{
	struct packet packet = {};

	bpf_skb_pull_data(skb,
			  skb->len < HEADERS_BYTES ? skb->len : HEADERS_BYTES);
	packet.start = (void *)(long)skb->data;
	packet.end = (void *)(long)skb->data_end;
	if (parse_network(&packet, link_header_bytes) == PARSED_IP &&
	    parse_rest(&packet) == PARSED_IP && has_flow(&packet))
		track(&packet, bpf_ktime_get_ns());
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "GPL";
