// SPDX-License-Identifier: GPL-2.0-only
/* The sending end of the NAT bench: each frame of BPF_PROG_TEST_RUN gets the
 * next source endpoint of a table and goes out of one interface. Frames are
 * used again as the router left them, so all that it changes is written anew.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/types.h>
#include <linux/udp.h>

#include <bpf/bpf_helpers.h>

/* A source endpoint, and the checksums of a frame that has it. */
struct endpoint {
	__be32 address;
	__u16 ip_sum;
	__be16 port;
	__u16 udp_sum;
	__u16 pad;
};

/* Writer: the bench, before it sends. Reader: the sender, from the front to the
 * back and over again.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct endpoint);
} endpoints SEC(".maps");

/* Set by the bench, in this order (tests/bench/nat.py). */
const volatile struct {
	__u32 source_count;
	__u32 out_ifindex;
	__be32 dest;
	__be16 dest_port;
	__u8 router_mac[6];
	__u8 hops;
	__u8 pad[3];
} knobs;

static __u32 turn;

static __always_inline __u32 next_turn(void)
{
	__u32 now = turn + 1;

	turn = now < knobs.source_count ? now : 0;
	return turn;
}

static __always_inline void set_ip(struct iphdr *ip,
				   const struct endpoint *source)
{
	ip->ttl = knobs.hops;
	ip->saddr = source->address;
	ip->daddr = knobs.dest;
	ip->check = source->ip_sum;
}

static __always_inline void set_udp(struct udphdr *udp,
				    const struct endpoint *source)
{
	udp->source = source->port;
	udp->dest = knobs.dest_port;
	udp->check = source->udp_sum;
}

SEC("xdp")
int send_nat(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *ethernet = data;
	struct iphdr *ip = data + sizeof(*ethernet);
	struct udphdr *udp = (void *)(ip + 1);
	__u32 index = next_turn();
	struct endpoint *source = bpf_map_lookup_elem(&endpoints, &index);

	if (!source || (void *)(udp + 1) > end)
		return XDP_ABORTED;
	for (int i = 0; i < ETH_ALEN; i++)
		ethernet->h_dest[i] = knobs.router_mac[i];
	set_ip(ip, source);
	set_udp(udp, source);
	return bpf_redirect(knobs.out_ifindex, 0);
}

char LICENSE[] SEC("license") = "GPL";
