// SPDX-License-Identifier: GPL-2.0-only
/* The fast path of EBPFNetworkPolicy and EBPFNATPolicy: a packet of a
 * connection that the rules allowed, at the interface that it comes in by and
 * at the one that it leaves by, or that NAT knows there, goes from one to the
 * other at once. It says and counts the same as tc_policy.bpf.c, tc_nat4.bpf.c,
 * tc_nat6.bpf.c and the kernel's forwarding do, or nothing; then the packet
 * goes their way. Once a second a flow does so anyway, so that neighbours and
 * times stay fresh.
 */
#define FOS1_AT_CGROUP 0

#include <fos1/known.h>
#include <fos1/nat_frame.h>
#include <fos1/stack.h>
#include <fos1/types.h>

enum fast_number {
	ROUTING_INET = 2,
	ROUTING_INET6 = 10,
	/* Shorter frames are filled up (IEEE 802.3, 3.2.8). */
	SHORTEST_FRAME = 60,
	IPV6_FLOW_BITS = 0x0fffffff,
};

/* A frame that may go the fast way, and its flow; what NAT changes of it. */
struct fast {
	struct packet packet;
	struct layout layout;
	struct fos1_flow *flow;
	struct nat_crossing crossing;
	bool source_is_a;
	u8 pad[7];
};

static __always_inline u64 frame_bytes(const struct xdp_md *ctx)
{
	void *start = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;

	return end - start;
}

/* Whether a frame holds a packet of so many bytes, and nothing behind it. */
static __always_inline bool is_whole(const struct xdp_md *ctx, u32 bytes)
{
	u64 frame = frame_bytes(ctx);

	return frame == ETH_HLEN + bytes ||
	       (frame == SHORTEST_FRAME && frame > ETH_HLEN + bytes);
}

/* Whether a sender on this machine left the checksum to a device: then it is
 * that of the pseudo-header (RFC 9293, 3.1), and XDP forgets who completes it.
 * A whole one looks the same once in 65,536 times, and goes the long way then.
 */
static __always_inline bool is_unsummed(const struct packet *packet,
					u32 transport_bytes, void *head,
					void *end)
{
	__be16 *check = head + (packet->protocol == IPPROTO_TCP ? 16 : 6);
	u64 sum = bpf_htons(transport_bytes) + bpf_htons(packet->protocol);

#pragma unroll
	for (int i = 0; i < 4; i++)
		sum += (u64)packet->source[i] + packet->dest[i];
	sum = (sum >> 32) + (u32)sum;
	sum = (sum >> 32) + (u32)sum;
	sum = (sum >> 16) + (u16)sum;
	sum = (sum >> 16) + (u16)sum;
	return (void *)(check + 1) > end || *check == (u16)sum;
}

/* Read a frame of a plain packet that has a hop left; false if it is none. */
static __always_inline bool read_frame(struct xdp_md *ctx, struct fast *fast,
				       struct bpf_fib_lookup *route)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *ethernet = (void *)(long)ctx->data;
	struct packet *packet = &fast->packet;
	struct ipv6hdr *ip6 = (void *)(ethernet + 1);
	struct iphdr *ip4 = (void *)(ethernet + 1);
	u32 headers = sizeof(*ip4);

	if ((void *)ip4 > end)
		return false;
	if (ethernet->h_proto == bpf_htons(ETH_P_IP)) {
		if (!take_plain4(packet, &fast->layout, ip4, end) ||
		    (void *)(ip4 + 1) > end)
			return false;
		route->tot_len = bpf_ntohs(ip4->tot_len);
		route->tos = ip4->tos;
	} else if (ethernet->h_proto == bpf_htons(ETH_P_IPV6)) {
		if (!take_plain6(packet, &fast->layout, ip6, end) ||
		    (void *)(ip6 + 1) > end)
			return false;
		headers = sizeof(*ip6);
		route->tot_len = bpf_ntohs(ip6->payload_len) + headers;
		route->flowinfo = *(__be32 *)ip6 & bpf_htonl(IPV6_FLOW_BITS);
	} else {
		return false;
	}
	return packet->hop_limit > 1 && !(packet->tcp_flags & TCP_NEWS) &&
	       is_whole(ctx, route->tot_len) &&
	       !is_unsummed(packet, route->tot_len - headers,
			    (void *)ip4 + headers, end);
}

/* Whether the packet's flow is one that the rules allowed. */
static __always_inline bool is_known(struct fast *fast)
{
	if (fast->flow)
		return true;
	fast->source_is_a = source_is_a(&fast->packet);
	fast->flow = find_settled(&fast->packet, fast->source_is_a);
	return fast->flow && is_settled(fast->flow);
}

/* Whether NAT has nothing to do with a packet at an interface, or knows what,
 * and had nothing to do before.
 */
static __always_inline bool crosses(struct fast *fast, u32 interface,
				    const struct fos1_place *place, u16 way)
{
	u32 outside = fast->packet.is_v6 ? FOS1_PLACE_OUTSIDE6
					 : FOS1_PLACE_OUTSIDE4;

	if (!(place->flags[0] & outside))
		return true;
	if (fast->crossing.policy)
		return false;
	fast->crossing.way = way;
	return nat_cross_frame(&fast->packet, interface, &fast->crossing);
}

/* Whether the policies of an interface let a packet of a settled flow pass one
 * way by what was remembered, with no more to do than to count the rule.
 */
static __always_inline bool passes(struct fast *fast, u32 interface, u32 way,
				   const struct fos1_place *place,
				   struct decided_by *by)
{
	const u32 work = FOS1_PLACE_POLICED | FOS1_PLACE_EFFECTS |
			 FOS1_PLACE_STATEFUL;
	struct fos1_place_key key = { .id = interface };
	struct hook hook = { .key = &key, .place = place, .way = way };
	u32 flags = place->flags[way], rules = 0;

	if (!(flags & work))
		return true;
	if ((flags & FOS1_PLACE_EFFECTS) || !(flags & FOS1_PLACE_STATEFUL) ||
	    !is_known(fast))
		return false;
	hook.version = version_at(place, way);
	if (!passes_by(fast->flow, fast->source_is_a, &hook, &rules))
		return false;
	*by = decided_by(way, rules);
	return !is_limited(by);
}

/* Find the way of a packet: the interface, and the addresses of the link. */
static __always_inline bool find_route(struct xdp_md *ctx,
				       const struct packet *packet,
				       struct bpf_fib_lookup *route)
{
	route->family = packet->is_v6 ? ROUTING_INET6 : ROUTING_INET;
	route->l4_protocol = packet->protocol;
	route->sport = packet->source_port;
	route->dport = packet->dest_port;
	route->ifindex = ctx->ingress_ifindex;
	__builtin_memcpy(route->ipv6_src, packet->source,
			 sizeof(packet->source));
	__builtin_memcpy(route->ipv6_dst, packet->dest, sizeof(packet->dest));
	return bpf_fib_lookup(ctx, route, sizeof(*route), 0) ==
		       BPF_FIB_LKUP_RET_SUCCESS &&
	       route->ifindex != ctx->ingress_ifindex;
}

/* Count the hop, and address the frame to the next. */
static __always_inline bool readdress(struct xdp_md *ctx, bool is_v6,
				      const struct bpf_fib_lookup *route)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *ethernet = (void *)(long)ctx->data;
	struct ipv6hdr *ip6 = (void *)(ethernet + 1);
	struct iphdr *ip4 = (void *)(ethernet + 1);

	if ((void *)(ip6 + 1) > end && (is_v6 || (void *)(ip4 + 1) > end))
		return false;
	if (is_v6) {
		if ((void *)(ip6 + 1) > end)
			return false;
		ip6->hop_limit--;
	} else {
		u32 sum = ip4->check + bpf_htons(0x0100);

		ip4->check = sum + (sum >= 0xffff);
		ip4->ttl--;
	}
	__builtin_memcpy(ethernet->h_dest, route->dmac, ETH_ALEN);
	__builtin_memcpy(ethernet->h_source, route->smac, ETH_ALEN);
	return true;
}

static __always_inline const struct fos1_place *interface_place(u32 index)
{
	return bpf_map_lookup_elem(&policy_interfaces, &index);
}

static __always_inline bool is_for_us(struct xdp_md *ctx,
				      struct net_device *device)
{
	struct ethhdr *ethernet = (void *)(long)ctx->data;

	return (void *)(ethernet + 1) <= (void *)(long)ctx->data_end &&
	       is_devices_address(device, ethernet->h_dest);
}

/* Write into the frame what NAT and forwarding change of it. */
static __always_inline bool rewrite(struct xdp_md *ctx, const struct fast *fast,
				    const struct bpf_fib_lookup *route)
{
	void *network = (void *)(long)ctx->data + ETH_HLEN;
	void *end = (void *)(long)ctx->data_end;

	return nat_write_frame(network, end, &fast->packet, &fast->crossing) &&
	       readdress(ctx, fast->packet.is_v6, route);
}

SEC("xdp")
int fos1_xdp_policy(struct xdp_md *ctx)
{
	struct bpf_fib_lookup route = {};
	const struct fos1_place *place;
	struct decided_by in = {}, out = {};
	struct net_device *device;
	struct fast fast = {};
	u64 bytes = frame_bytes(ctx);

	place = interface_place(ctx->ingress_ifindex);
	if (!place || !read_frame(ctx, &fast, &route) ||
	    !crosses(&fast, ctx->ingress_ifindex, place, FOS1_NAT_IN) ||
	    !passes(&fast, ctx->ingress_ifindex, 0, place, &in))
		return XDP_PASS;
	device = device_of(ctx);
	if (!is_for_us(ctx, device) ||
	    !stack_only_forwards(device, fast.packet.is_v6) ||
	    !find_route(ctx, &fast.packet, &route))
		return XDP_PASS;
	place = interface_place(route.ifindex);
	if (!place || !(place->flags[0] & FOS1_PLACE_TAKES_FRAMES) ||
	    !passes(&fast, route.ifindex, 1, place, &out) ||
	    !crosses(&fast, route.ifindex, place, FOS1_NAT_OUT) ||
	    (!fast.flow && !fast.crossing.policy) ||
	    !rewrite(ctx, &fast, &route))
		return XDP_PASS;
	count_decision(&in, bytes);
	count_decision(&out, bytes);
	nat_count_frame(&fast.crossing, bytes);
	count(FOS1_PASS_FAST_PATH, bytes);
	return bpf_redirect(route.ifindex, 0);
}

char LICENSE[] SEC("license") = "GPL";
