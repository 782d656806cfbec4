/* SPDX-License-Identifier: GPL-2.0-only */
/* What a workload's packets may take: bandwidth each way, and connections from
 * outside; and the account of them. For cgroup_skb programs.
 */
#ifndef FOS1_LIMITS_H
#define FOS1_LIMITS_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>

#include <fos1/bucket.h>
#include <fos1/connections.h>
#include <fos1/parse.h>
#include <fos1/types.h>
#include <fos1/workload.h>

/* What a cgroup_skb program returns. DROP_CONGESTED is for the way out: the
 * sending TCP keeps the segment and slows down, and no other socket sees EPERM.
 */
enum workload_verdict {
	WORKLOAD_DROP = 0,
	WORKLOAD_PASS = 1,
	WORKLOAD_DROP_CONGESTED = 2,
};

/* Small packets (acknowledgements, questions, beginnings) are worth more than
 * their bytes: they may come before their time.
 */
enum limits_size {
	SMALL_PACKET_BYTES = 256,
	SMALL_PACKET_AHEAD_MS = 50,
	CATCH_UP_MS = 1000,
	RECENT_DROP_MS = 2000,
	TCP_LENGTH_OFFSET = 12,
	TCP_FLAGS_OFFSET = 13,
};

#define LATE (~0ULL)

static __always_inline u64 milliseconds(u64 count)
{
	return bucket_time(count * 1000000);
}

FOS1_CONFIG(u8, limits_nobody, "whether no workload has limits");

/* Find the nearest above a packet's cgroup that is limited. From the root down,
 * since few cgroups lie deep. Global, so that the verifier sees it once.
 */
__noinline u64 workload_above(struct __sk_buff *skb)
{
	u64 nearest = 0;

	for (int level = 0; level < WORKLOAD_ANCESTORS; level++) {
		u64 cgroup = bpf_skb_ancestor_cgroup_id(skb, level);

		if (!cgroup)
			break;
		if (bpf_map_lookup_elem(&workload_limits_of, &cgroup))
			nearest = cgroup;
	}
	return nearest;
}

/* Find the workload that a packet's socket belongs to. */
static __always_inline bool
workload_of_packet(struct __sk_buff *skb, u64 cgroup, struct workload *workload)
{
	if (limits_nobody)
		return false;
	return likely(workload_is(workload, cgroup)) ||
	       workload_is(workload, workload_above(skb));
}

/* The time that bytes take at a rate, in bucket time. */
static __always_inline u64 bandwidth_cost(u32 bytes, u64 bits_per_s)
{
	const u64 second = (u64)FOS1_NS_PER_SECOND << FOS1_TIME_SHIFT;

	return bytes * 8 * second / bits_per_s;
}

/* One direction of a workload: its rate, its burst, and what it did. */
struct bandwidth {
	u64 bits_per_s;
	u64 burst;
	struct fos1_bandwidth *state;
};

static __always_inline struct bandwidth
bandwidth_of(struct fos1_limits *limits, struct fos1_workload *buckets,
	     bool is_out)
{
	struct bandwidth in = { limits->in_bits_per_s, limits->in_burst,
				&buckets->in };
	struct bandwidth out = { limits->out_bits_per_s, limits->out_burst,
				 &buckets->out };

	return is_out ? out : in;
}

/* How much silence may be made up for. A TCP whose packets were dropped is
 * silent until a timer of 200 ms, which doubles (RFC 6298, 5.5); if that time
 * were lost, it would never reach the rate. Silence of its own choice earns the
 * burst and no more.
 */
static __always_inline u64 bandwidth_credit(const struct bandwidth *bandwidth,
					    u64 now)
{
	u64 most = milliseconds(CATCH_UP_MS);

	if (now - bandwidth->state->dropped_at > milliseconds(RECENT_DROP_MS))
		return bandwidth->burst;
	return bandwidth->burst > most ? bandwidth->burst : most;
}

/* Take a packet's cost, unless the next packet's time is more than `ahead` to
 * come; then nothing is taken. Returns the time that was left, or LATE.
 */
static __always_inline u64 bandwidth_take(const struct bandwidth *bandwidth,
					  u64 now, u64 cost, u64 ahead)
{
	u64 credit = bandwidth_credit(bandwidth, now);
	u64 first = now > credit ? now - credit : 0;
	u64 *at = &bandwidth->state->next_at;

	for (int i = 0; i < BUCKET_TRIES; i++) {
		u64 old = *(volatile u64 *)at;
		u64 start = old > first ? old : first;

		if (start > now + ahead)
			return LATE;
		if (__sync_val_compare_and_swap(at, old, start + cost) == old)
			return start < now ? now - start : 0;
	}
	return 0;
}

/* Let the packet go, marked by ECN if half of the burst is gone, or drop it.
 * Our own TCP is told of a drop and keeps the segment: nothing is lost. To warn
 * it before that was tried: it then stays below the rate.
 */
static __always_inline int bandwidth_verdict(struct __sk_buff *skb,
					     const struct bandwidth *bandwidth,
					     struct fos1_usage *usage, u64 now,
					     bool is_out, u32 bytes)
{
	u64 cost = bandwidth_cost(bytes, bandwidth->bits_per_s);
	u64 small = milliseconds(SMALL_PACKET_AHEAD_MS), left;

	left = bandwidth_take(bandwidth, now, cost,
			      bytes <= SMALL_PACKET_BYTES ? small : 0);
	if (left == LATE) {
		bandwidth->state->dropped_at = now;
		return is_out ? WORKLOAD_DROP_CONGESTED : WORKLOAD_DROP;
	}
	if (left > bandwidth->burst / 2)
		return WORKLOAD_PASS;
	if (bpf_skb_ecn_set_ce(skb))
		WORKLOAD_COUNT(usage, marked);
	return WORKLOAD_PASS;
}

static __always_inline int limit_bandwidth(struct __sk_buff *skb,
					   const struct workload *workload,
					   struct fos1_usage *usage,
					   bool is_out, u32 bytes)
{
	struct fos1_workload *buckets;
	struct bandwidth bandwidth;

	if (!(is_out ? workload->limits->out_bits_per_s
		     : workload->limits->in_bits_per_s))
		return WORKLOAD_PASS;
	buckets = workload_buckets_of(workload);
	if (!buckets)
		return WORKLOAD_PASS;
	bandwidth = bandwidth_of(workload->limits, buckets, is_out);
	return bandwidth_verdict(skb, &bandwidth, usage,
				 bucket_time(bpf_ktime_get_ns()), is_out,
				 bytes);
}

static __always_inline u32 network_header_bytes(struct __sk_buff *skb)
{
	u8 first = 5;

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return sizeof(struct ipv6hdr);
	bpf_skb_load_bytes(skb, 0, &first, sizeof(first));
	return (first & 0xf) * 4;
}

static __always_inline u8 transport_of(struct __sk_buff *skb)
{
	u32 at = skb->protocol == bpf_htons(ETH_P_IP)
			 ? offsetof(struct iphdr, protocol)
			 : offsetof(struct ipv6hdr, nexthdr);
	u8 protocol = 0;

	bpf_skb_load_bytes(skb, at, &protocol, sizeof(protocol));
	return protocol;
}

/* Bytes of the headers that each segment of a large packet gets. */
static __always_inline u32 segment_header_bytes(struct __sk_buff *skb)
{
	u32 bytes = network_header_bytes(skb);
	u8 tcp_offset;

	if (transport_of(skb) == IPPROTO_UDP)
		return bytes + sizeof(struct udphdr);
	if (bpf_skb_load_bytes(skb, bytes + TCP_LENGTH_OFFSET, &tcp_offset,
			       sizeof(tcp_offset)))
		return bytes;
	return bytes + (tcp_offset >> 4) * 4;
}

static __always_inline u32 whole_bytes(struct __sk_buff *skb, u32 bytes)
{
	u32 segments = skb->gso_segs;

	if (likely(segments < 2) || bytes != skb->len)
		return bytes;
	return bytes + (segments - 1) * segment_header_bytes(skb);
}

/* The TCP flags; a SYN's where extension headers hide them. */
static __always_inline u8 tcp_flags_of(struct __sk_buff *skb)
{
	u32 at = network_header_bytes(skb) + TCP_FLAGS_OFFSET;
	u8 flags = TCP_SYN;

	if (transport_of(skb) == IPPROTO_TCP)
		bpf_skb_load_bytes(skb, at, &flags, sizeof(flags));
	return flags;
}

/* Whether what comes to a listening socket may become a connection: the SYN,
 * and the acknowledgement that would complete the handshake, since many may
 * have begun at once.
 */
static __always_inline bool admits_connection(struct __sk_buff *skb,
					      const struct workload *workload,
					      struct fos1_usage *usage)
{
	struct bpf_sock *sk = skb->sk;
	u8 flags;

	if (!workload->limits->max_connections &&
	    !workload->limits->connection_cost)
		return true;
	if (!sk || sk->state != BPF_TCP_LISTEN)
		return true;
	flags = tcp_flags_of(skb) & (TCP_SYN | TCP_ACK | TCP_RST);
	if (flags & TCP_RST)
		return true;
	if (connections_full(workload) ||
	    (flags == TCP_SYN && !workload_takes_connection(workload))) {
		WORKLOAD_COUNT(usage, refused_in);
		return false;
	}
	return true;
}

static __always_inline void count_packet(struct fos1_usage *usage, u32 flags,
					 bool is_out, bool passes, u32 bytes)
{
	struct fos1_stat *passed = is_out ? &usage->out : &usage->in;
	struct fos1_stat *limited = is_out ? &usage->limited_out
					   : &usage->limited_in;

	if (!passes)
		workload_count_packet(limited, bytes);
	else if (flags & FOS1_LIMITS_ACCOUNTED)
		workload_count_packet(passed, bytes);
}

/* Count a packet that the rules of container policies denied. */
static __noinline int workload_denied(struct __sk_buff *skb, u64 cgroup_id)
{
	struct workload workload;

	if (workload_of_packet(skb, cgroup_id, &workload))
		WORKLOAD_COUNT(workload_usage_of(&workload), denied);
	return WORKLOAD_DROP;
}

/* Judge a packet that the rules let pass, and count it. wire_bytes are those of
 * the network header and what follows, each segment with its own headers; of
 * the skb's own length those headers are added here. Returns what the program
 * shall return. A function of its own, for the stack that it does not share.
 */
static __noinline int workload_limits(struct __sk_buff *skb, u64 cgroup_id,
				      bool is_egress, u32 wire_bytes)
{
	struct workload workload;
	struct fos1_usage *usage;
	int verdict;

	if (!workload_of_packet(skb, cgroup_id, &workload))
		return WORKLOAD_PASS;
	wire_bytes = whole_bytes(skb, wire_bytes);
	usage = workload_usage_of(&workload);
	if (!is_egress && !admits_connection(skb, &workload, usage))
		return WORKLOAD_DROP;
	verdict = limit_bandwidth(skb, &workload, usage, is_egress, wire_bytes);
	if (usage)
		count_packet(usage, workload.limits->flags, is_egress,
			     verdict & WORKLOAD_PASS, wire_bytes);
	return verdict;
}

#endif
