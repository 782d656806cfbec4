/* SPDX-License-Identifier: GPL-2.0-only */
/* A packet at a place that is policed: which place, under which version of its
 * rules, and what the rules are asked about it.
 */
#ifndef FOS1_HOOK_H
#define FOS1_HOOK_H

#include <fos1/ask.h>
#include <fos1/config.h>
#include <fos1/judged_flow.h>
#include <fos1/read.h>
#include <fos1/types.h>

/* Who is policed. Writer: the daemon, with the rules and as workloads come and
 * go. Full: the daemon says so, and the rest is not policed.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FOS1_POLICY_PLACES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct fos1_place_key);
	__type(value, struct fos1_place);
} policy_places SEC(".maps");

/* The interfaces among them by their index, as far as it goes: a look-up costs
 * a tenth of that in a hash. All zeros: not policed. Writer: the daemon.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FOS1_POLICY_INTERFACES);
	__type(key, u32);
	__type(value, struct fos1_place);
} policy_interfaces SEC(".maps");

FOS1_CONFIG(u32, policy_generation,
	    "digest of the rules, by which flows know what judged them");

/* A packet at a place. way: 0 in, 1 out. What functions take the address of is
 * pointed to, so that the compiler sees through the rest. is_read: the headers
 * are read already.
 */
struct hook {
	struct __sk_buff *skb;
	const struct fos1_place *place;
	struct fos1_place_key *key;
	u32 way;
	u32 flags;
	u32 version;
	struct packet *packet;
	struct layout *layout;
	struct asked *asked;
	struct seen *seen;
	bool is_read;
	u8 pad[3];
};

static __always_inline u32 stage_of(u32 way)
{
	return FOS1_AT_CGROUP ? FOS1_STAGE_RECEIVE + way : FOS1_STAGE_IN + way;
}

static __always_inline u32 place_flags(const struct fos1_place *place, u32 way)
{
	u32 flags = place->flags[way];

	if (FOS1_AT_CGROUP)
		flags |= place->flags[FOS1_CHAIN_RECEIVE + way];
	return flags;
}

/* What version of the rules a place is under: the generation, and which of its
 * rules apply there, since a workload's labels change under the same rules.
 */
static __always_inline u32 version_at(const struct fos1_place *place, u32 way)
{
	u32 version = policy_generation;

	version = (version ^ place->vector[way]) * 0x9e3779b1;
	version = (version ^ place->flags[way]) * 0x85ebca6b;
	if (FOS1_AT_CGROUP) {
		u32 chain = FOS1_CHAIN_RECEIVE + way;

		version = (version ^ place->vector[chain]) * 0xc2b2ae35;
		version = (version ^ place->flags[chain]) * 0x27d4eb2f;
	}
	return version;
}

static __always_inline u32 service_of(const struct packet *packet,
				      bool is_answer)
{
	u32 protocol = packet->protocol, type = packet->icmp_type;
	__be16 port = is_answer ? packet->source_port : packet->dest_port;

	if (packet->is_later_fragment)
		return (protocol + FOS1_SERVICE_LATER) << FOS1_SERVICE_SHIFT;
	switch (protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case PROTOCOL_SCTP:
		return protocol << FOS1_SERVICE_SHIFT | bpf_ntohs(port);
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		if (is_answer)
			type = answer_type(packet);
		return protocol << FOS1_SERVICE_SHIFT | type << 8 |
		       packet->icmp_code;
	default:
		return protocol << FOS1_SERVICE_SHIFT;
	}
}

/* The peer is the far end, whichever way is asked about. */
static __always_inline void fill_peer(struct question *question,
				      const struct packet *packet, u32 way)
{
	const __be32 *peer = way ? packet->dest : packet->source;

	question->is_v6 = packet->is_v6;
	if (question->is_v6) {
		question->peer_high = half(peer);
		question->peer_low = half(peer + 2);
	} else {
		question->peer_high = 0;
		question->peer_low = bpf_ntohl(peer[0]);
	}
}

#endif
