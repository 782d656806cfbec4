// SPDX-License-Identifier: GPL-2.0-only
/* Packets of flows that NAT knows go straight from the interface that they come
 * in by to the one that they leave by, past the stack, behind the policies of
 * the one and before those of the other. Nothing is said here that the kernel's
 * forwarding would not: what is not plain, or what somebody else has a say in,
 * goes its way.
 */
#include <linux/pkt_cls.h>

#include <fos1/nat_frame.h>
#include <fos1/plain.h>
#include <fos1/stack.h>

FOS1_CONFIG(u32, link_header_bytes,
	    "bytes before the network header: 14, or 0 on a bare IP link");

enum forward_number {
	ROUTING_INET = 2,
	ROUTING_INET6 = 10,
	IPV6_FLOW_BITS = 0x0fffffff,
	TTL_AT = 8,
	HOP_LIMIT_AT = 6,
	IPV4_TOS_AT = 1,
	/* skb->pkt_type: to this host (linux/if_packet.h). */
	TO_HOST = 0,
};

struct sk_buff {
	struct net_device *dev;
} __attribute__((preserve_access_index));

/* The bytes from the TTL to the checksum, and from the next header to the hop
 * limit.
 */
struct ttl4 {
	u8 ttl;
	u8 protocol;
	u16 check;
};

struct ttl6 {
	u8 next;
	u8 hop_limit;
};

static __always_inline struct net_device *device_of_skb(struct __sk_buff *skb)
{
	struct sk_buff *kernels = bpf_cast_to_kern_ctx(skb);

	return kernels->dev;
}

/* Whether NAT has translated the packet just now, or will where it leaves. */
static __always_inline bool is_known(const struct __sk_buff *skb,
				     const struct packet *packet)
{
	if (skb->tc_index == FOS1_NAT_CROSSED)
		return true;
	if (packet->is_v6) {
		struct fos1_nat_flow6_key key = {
			.source_port = packet->source_port,
			.dest_port = packet->dest_port,
			.protocol = packet->protocol,
			.way = FOS1_NAT_OUT,
		};

		__builtin_memcpy(key.source, packet->source,
				 sizeof(key.source));
		__builtin_memcpy(key.dest, packet->dest, sizeof(key.dest));
		return bpf_map_lookup_elem(&nat_flows6, &key);
	} else {
		struct fos1_nat_flow4_key key = {
			.source = packet->source[0],
			.dest = packet->dest[0],
			.source_port = packet->source_port,
			.dest_port = packet->dest_port,
			.protocol = packet->protocol,
			.way = FOS1_NAT_OUT,
		};

		return bpf_map_lookup_elem(&nat_flows4, &key);
	}
}

/* The longest packet that this one is sent as. */
static __always_inline u32 longest(const struct __sk_buff *skb,
				   const struct layout *layout)
{
	if (skb->gso_size)
		return layout->payload - layout->network + skb->gso_size;
	return skb->len - layout->network;
}

/* Find the way of a packet: the interface, and the addresses of the link. */
static __always_inline bool find_route(struct __sk_buff *skb,
				       const struct packet *packet,
				       const struct layout *layout,
				       struct bpf_fib_lookup *route)
{
	u32 bytes = longest(skb, layout);

	if (bytes > 0xffff)
		return false;
	route->family = packet->is_v6 ? ROUTING_INET6 : ROUTING_INET;
	route->l4_protocol = packet->protocol;
	route->sport = packet->source_port;
	route->dport = packet->dest_port;
	route->tot_len = bytes;
	route->ifindex = skb->ifindex;
	if (packet->is_v6) {
		bpf_skb_load_bytes(skb, layout->network, &route->flowinfo,
				   sizeof(route->flowinfo));
		route->flowinfo &= bpf_htonl(IPV6_FLOW_BITS);
	} else {
		bpf_skb_load_bytes(skb, layout->network + IPV4_TOS_AT,
				   &route->tos, sizeof(route->tos));
	}
	__builtin_memcpy(route->ipv6_src, packet->source,
			 sizeof(packet->source));
	__builtin_memcpy(route->ipv6_dst, packet->dest, sizeof(packet->dest));
	return bpf_fib_lookup(skb, route, sizeof(*route), 0) ==
		       BPF_FIB_LKUP_RET_SUCCESS &&
	       route->ifindex != skb->ifindex;
}

/* Count the hop. */
static __always_inline bool count_hop(struct __sk_buff *skb,
				      const struct packet *packet, u32 network)
{
	struct ttl4 four;
	struct ttl6 six;
	u32 sum;

	if (packet->is_v6) {
		six.next = packet->protocol;
		six.hop_limit = packet->hop_limit - 1;
		return !bpf_skb_store_bytes(skb, network + HOP_LIMIT_AT, &six,
					    sizeof(six), BPF_F_RECOMPUTE_CSUM);
	}
	if (bpf_skb_load_bytes(skb, network + TTL_AT, &four, sizeof(four)))
		return false;
	sum = four.check + bpf_htons(0x0100);
	four.check = sum + (sum >= 0xffff);
	four.ttl--;
	return !bpf_skb_store_bytes(skb, network + TTL_AT, &four, sizeof(four),
				    0);
}

static __always_inline bool readdress(struct __sk_buff *skb,
				      const struct bpf_fib_lookup *route)
{
	u8 addresses[2 * ETH_ALEN];

	__builtin_memcpy(addresses, route->dmac, ETH_ALEN);
	__builtin_memcpy(addresses + ETH_ALEN, route->smac, ETH_ALEN);
	return !bpf_skb_store_bytes(skb, 0, addresses, sizeof(addresses), 0);
}

SEC("tc")
int fos1_tc_forward(struct __sk_buff *skb)
{
	struct bpf_fib_lookup route = {};
	struct packet packet = {};
	struct layout layout = {};

	if (!link_header_bytes || skb->pkt_type != TO_HOST || skb->mark ||
	    skb->vlan_present ||
	    !policy_read_plain(skb, &packet, &layout, link_header_bytes) ||
	    packet.hop_limit <= 1 || !is_known(skb, &packet) ||
	    !stack_only_forwards(device_of_skb(skb), packet.is_v6) ||
	    !find_route(skb, &packet, &layout, &route))
		return TC_ACT_UNSPEC;
	if (!count_hop(skb, &packet, layout.network) || !readdress(skb, &route))
		return TC_ACT_SHOT;
	return bpf_redirect(route.ifindex, 0);
}

char LICENSE[] SEC("license") = "GPL";
