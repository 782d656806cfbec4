/* SPDX-License-Identifier: GPL-2.0-only */
/* What one source may send: limits on packets, SYNs, ICMP, UDP, connections.
 *
 * A flood with invented sources would push the real ones out of any table, so
 * when too many sources are new in one second, no more are remembered: the
 * unknown ones share buckets by network, and all together one bucket that is
 * CROWD_SHARE times as wide as one source's. Known sources keep their own.
 */
#ifndef FOS1_SOURCE_H
#define FOS1_SOURCE_H

#include <fos1/bucket.h>
#include <fos1/parse.h>
#include <fos1/types.h>

/* Writer and reader: the program. Full: the least recently seen source goes,
 * and starts afresh when it comes back.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FOS1_SOURCES);
	__type(key, u64);
	__type(value, struct fos1_source);
} sources SEC(".maps");

/* Buckets for unknown sources by hashed network; the last is for all of them.
 * Writer and reader: the program. Cannot fill.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FOS1_CROWDS + 1);
	__type(key, u32);
	__type(value, struct fos1_source);
} crowds SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct fos1_newcomers);
} newcomers SEC(".maps");

FOS1_CONFIG(u64, packet_cost,
	    "bucket time that a packet takes of its source's allowance, 0: no "
	    "limit");
FOS1_CONFIG(u64, packet_depth,
	    "bucket time that a source may be ahead of its packet rate");
FOS1_CONFIG(u64, syn_cost,
	    "bucket time that a TCP SYN takes of its source's allowance, 0: no "
	    "limit");
FOS1_CONFIG(u64, syn_depth,
	    "bucket time that a source may be ahead of its SYN rate");
FOS1_CONFIG(u64, icmp_cost,
	    "bucket time that an ICMP packet takes of its source's allowance, "
	    "0: no limit");
FOS1_CONFIG(u64, icmp_depth,
	    "bucket time that a source may be ahead of its ICMP rate");
FOS1_CONFIG(u64, udp_cost,
	    "bucket time that an unanswered UDP packet takes of its source's "
	    "allowance, 0: no limit");
FOS1_CONFIG(u64, udp_depth,
	    "bucket time that a source may be ahead of its UDP rate");
FOS1_CONFIG(u64, connection_cost,
	    "bucket time that a new TCP connection takes of its source's "
	    "allowance, 0: no limit");
FOS1_CONFIG(u64, connection_depth,
	    "bucket time that a source may be ahead of its connection rate");
FOS1_CONFIG(
	u32, newcomers_limit,
	"new sources a second above which no more are remembered one by one");

FOS1_CONFIG(u32, failsafe_ports, "how many of failsafe_port are set");
FOS1_CONFIG(u16, failsafe_port[FOS1_FAILSAFE_PORTS],
	    "TCP ports, in host order, that the flow check and the connection "
	    "limits never close");

enum source_limit { CROWD_SHARE_SHIFT = 5 };

static __always_inline bool limits_sources(void)
{
	return packet_cost || syn_cost || icmp_cost || udp_cost ||
	       connection_cost;
}

/* An IPv4 address, or the /64 of an IPv6 address. No unicast /64 starts with
 * 32 bits of ones, so the two never meet.
 */
static __always_inline u64 source_key(const struct packet *packet)
{
	if (packet->is_v6)
		return ((u64)packet->source[1] << 32) | packet->source[0];
	return ((u64)packet->source[0] << 32) | 0xffffffff;
}

/* The crowd of an unknown source: its IPv4 /24 or IPv6 /48, hashed. */
static __always_inline u32 crowd_index(const struct packet *packet)
{
	u64 network = bpf_ntohl(packet->source[0]);

	if (packet->is_v6)
		network = (network << 16) |
			  (bpf_ntohl(packet->source[1]) >> 16);
	else
		network >>= 8;
	return ((network * 0x9e3779b97f4a7c15ULL) >> 32) % FOS1_CROWDS;
}

/* Count a new source; true if there were too many in this second. */
static __always_inline bool too_many_newcomers(u64 now_ns)
{
	struct fos1_newcomers *window;
	u32 zero = 0;

	window = bpf_map_lookup_elem(&newcomers, &zero);
	if (!window)
		return false;
	if (now_ns - window->second_began_ns >= FOS1_NS_PER_SECOND) {
		window->second_began_ns = now_ns;
		window->count = 0;
	}
	__sync_fetch_and_add(&window->count, 1);
	return window->count > newcomers_limit;
}

static __always_inline struct fos1_source *find_source(u64 key, u64 now_ns)
{
	struct fos1_source fresh = {}, *source;

	source = bpf_map_lookup_elem(&sources, &key);
	if (likely(source) || too_many_newcomers(now_ns))
		return source;
	bpf_map_update_elem(&sources, &key, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&sources, &key);
}

static __always_inline bool opens_connection(const struct packet *packet)
{
	return packet->protocol == IPPROTO_TCP && !packet->is_later_fragment &&
	       (packet->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN;
}

static __always_inline bool is_failsafe(const struct packet *packet)
{
	u16 port = bpf_ntohs(packet->dest_port);

	if (packet->protocol != IPPROTO_TCP)
		return false;
#pragma unroll
	for (u32 i = 0; i < FOS1_FAILSAFE_PORTS; i++)
		if (i < failsafe_ports && failsafe_port[i] == port)
			return true;
	return false;
}

static __always_inline bool is_icmp(const struct packet *packet)
{
	return packet->protocol ==
	       (packet->is_v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
}

/* Charge a packet to a source's buckets; `shift` makes them 2^shift as wide. */
static __always_inline enum fos1_reason charge(struct fos1_source *source,
					       const struct packet *packet,
					       bool is_answered, u64 now,
					       u32 shift)
{
	if (syn_cost && opens_connection(packet) &&
	    !bucket_take(&source->syns_at, now, syn_cost >> shift, syn_depth))
		return FOS1_DROP_SYN_FLOOD;
	if (connection_cost && opens_connection(packet) &&
	    !is_failsafe(packet) &&
	    !bucket_take(&source->connections_at, now, connection_cost >> shift,
			 connection_depth))
		return FOS1_DROP_CONNECTIONS_PER_SECOND;
	if (icmp_cost && is_icmp(packet) &&
	    !bucket_take(&source->icmps_at, now, icmp_cost >> shift,
			 icmp_depth))
		return FOS1_DROP_ICMP_FLOOD;
	if (udp_cost && packet->protocol == IPPROTO_UDP && !is_answered &&
	    !bucket_take(&source->udps_at, now, udp_cost >> shift, udp_depth))
		return FOS1_DROP_UDP_FLOOD;
	if (packet_cost && !bucket_take(&source->packets_at, now,
					packet_cost >> shift, packet_depth))
		return FOS1_DROP_RATE_LIMIT;
	return FOS1_PASS;
}

static __always_inline enum fos1_reason
charge_crowd(const struct packet *packet, bool is_answered, u64 now)
{
	u32 index = crowd_index(packet), last = FOS1_CROWDS;
	enum fos1_reason reason = FOS1_PASS;
	struct fos1_source *crowd;

	crowd = bpf_map_lookup_elem(&crowds, &index);
	if (crowd)
		reason = charge(crowd, packet, is_answered, now, 0);
	crowd = bpf_map_lookup_elem(&crowds, &last);
	if (crowd && reason == FOS1_PASS)
		reason = charge(crowd, packet, is_answered, now,
				CROWD_SHARE_SHIFT);
	return reason == FOS1_DROP_RATE_LIMIT ? FOS1_DROP_RATE_LIMIT_CROWD
					      : reason;
}

/* Judge a packet by what its source has sent. */
static __always_inline enum fos1_reason
charge_source(const struct packet *packet, bool is_answered, u64 now_ns)
{
	struct fos1_source *source;
	u64 now = bucket_time(now_ns);

	source = find_source(source_key(packet), now_ns);
	if (likely(source))
		return charge(source, packet, is_answered, now, 0);
	return charge_crowd(packet, is_answered, now);
}

#endif
