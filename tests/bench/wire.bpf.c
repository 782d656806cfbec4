// SPDX-License-Identifier: GPL-2.0-only
/* The sending end of the bench: each frame of BPF_PROG_TEST_RUN gets the next
 * source of a table and goes out of one interface (or, as a probe, straight
 * into the program under test).
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>

/* A source, and the header checksum of a frame that has it. */
struct source4 {
	__be32 address;
	__u16 checksum;
	__u16 pad;
};

struct source6 {
	__be32 address[4];
};

/* Writer: the bench, before it sends. Reader: the senders, from the front to
 * the back and over again.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct source4);
} sources4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct source6);
} sources6 SEC(".maps");

/* Slot 0: the program under test of a probe. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} under_test SEC(".maps");

/* Set by the bench, in this order (tests/bench/wire.py). */
const volatile struct {
	__u32 source_count;
	__u32 out_ifindex;
	__u8 router_mac[6];
	__u8 hops;
	__u8 pad;
} knobs;

static __u32 turn;

static __always_inline __u32 next_turn(void)
{
	__u32 now = turn + 1;

	turn = now < knobs.source_count ? now : 0;
	return turn;
}

/* Frames are used again as the last receiver left them: a router that forwards
 * has changed the address and the hop count.
 */
static __always_inline void set_dest(struct ethhdr *ethernet)
{
	for (int i = 0; i < ETH_ALEN; i++)
		ethernet->h_dest[i] = knobs.router_mac[i];
}

static __always_inline int set_source4(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + sizeof(struct ethhdr);
	__u32 index = next_turn();
	struct source4 *source;

	source = bpf_map_lookup_elem(&sources4, &index);
	if (!source || (void *)(ip + 1) > end)
		return -1;
	set_dest(data);
	ip->ttl = knobs.hops;
	ip->saddr = source->address;
	ip->check = source->checksum;
	return 0;
}

static __always_inline int set_source6(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ipv6hdr *ip = data + sizeof(struct ethhdr);
	__u32 index = next_turn();
	struct source6 *source;

	source = bpf_map_lookup_elem(&sources6, &index);
	if (!source || (void *)(ip + 1) > end)
		return -1;
	set_dest(data);
	ip->hop_limit = knobs.hops;
	__builtin_memcpy(&ip->saddr, source, sizeof(*source));
	return 0;
}

SEC("xdp")
int send4(struct xdp_md *ctx)
{
	return set_source4(ctx) ? XDP_ABORTED : bpf_redirect(knobs.out_ifindex, 0);
}

SEC("xdp")
int send6(struct xdp_md *ctx)
{
	return set_source6(ctx) ? XDP_ABORTED : bpf_redirect(knobs.out_ifindex, 0);
}

/* Into the sender's own stack, which routes it to the router as a host would. */
SEC("xdp")
int up4(struct xdp_md *ctx)
{
	return set_source4(ctx) ? XDP_ABORTED : XDP_PASS;
}

SEC("xdp")
int probe4(struct xdp_md *ctx)
{
	if (!set_source4(ctx))
		bpf_tail_call(ctx, &under_test, 0);
	return XDP_ABORTED;
}

SEC("xdp")
int probe6(struct xdp_md *ctx)
{
	if (!set_source6(ctx))
		bpf_tail_call(ctx, &under_test, 0);
	return XDP_ABORTED;
}

char LICENSE[] SEC("license") = "GPL";
