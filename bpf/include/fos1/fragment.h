/* SPDX-License-Identifier: GPL-2.0-only */
/* Ports for later fragments, which have none: the first one's are remembered. */
#ifndef FOS1_FRAGMENT_H
#define FOS1_FRAGMENT_H

#include <fos1/read.h>
#include <fos1/types.h>

/* Writers: TC and cgroup programs. Full: the least recently used goes; its
 * later fragments are judged as those of unknown ports.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FOS1_FRAGMENTS);
	__type(key, struct fos1_fragment_key);
	__type(value, struct fos1_fragment);
} fragments SEC(".maps");

/* How long a receiver waits for the rest (RFC 8200, 4.5, RFC 1122, 3.3.2). */
enum fragment_time { FRAGMENT_LIFE_S = 60 };

static __always_inline void fragment_key(const struct packet *packet,
					 const struct layout *layout,
					 struct fos1_fragment_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	__builtin_memcpy(key->source, packet->source, sizeof(key->source));
	__builtin_memcpy(key->dest, packet->dest, sizeof(key->dest));
	key->id = layout->fragment_id;
	key->next = layout->fragment_next;
}

static __always_inline void
fragment_remember(const struct packet *packet,
		  const struct fos1_fragment_key *key)
{
	struct fos1_fragment first = {
		.seen_ns = bpf_ktime_get_coarse_ns(),
		.source_port = packet->source_port,
		.dest_port = packet->dest_port,
		.protocol = packet->protocol,
		.icmp_type = packet->icmp_type,
		.icmp_code = packet->icmp_code,
	};

	bpf_map_update_elem(&fragments, key, &first, BPF_ANY);
}

/* Give a later fragment what its first told. A segment of TCP that opens
 * nothing is what it then is.
 */
static __always_inline void fragment_recall(struct packet *packet,
					    const struct fos1_fragment_key *key)
{
	const u64 life_ns = (u64)FRAGMENT_LIFE_S * FOS1_NS_PER_SECOND;
	struct fos1_fragment *first = bpf_map_lookup_elem(&fragments, key);

	if (!first || bpf_ktime_get_coarse_ns() - first->seen_ns > life_ns)
		return;
	packet->source_port = first->source_port;
	packet->dest_port = first->dest_port;
	packet->protocol = first->protocol;
	packet->icmp_type = first->icmp_type;
	packet->icmp_code = first->icmp_code;
	packet->tcp_flags = TCP_ACK;
	packet->is_later_fragment = false;
}

/* Remember a first fragment, complete a later one. Global, so that the
 * verifier sees it once.
 */
__noinline int policy_fragment(struct packet *packet, struct layout *layout)
{
	struct fos1_fragment_key key;

	if (!packet || !layout)
		return 0;
	fragment_key(packet, layout, &key);
	if (packet->is_later_fragment)
		fragment_recall(packet, &key);
	else
		fragment_remember(packet, &key);
	return 0;
}

#endif
