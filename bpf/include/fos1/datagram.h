/* SPDX-License-Identifier: GPL-2.0-only */
/* Fragments of datagrams whose first one belonged to an established flow: the
 * later ones have no ports by which to find it.
 */
#ifndef FOS1_DATAGRAM_H
#define FOS1_DATAGRAM_H

#include <fos1/parse.h>
#include <fos1/types.h>

/* When the first fragment came. Writer and reader: the program. Full: the
 * oldest goes, and its later fragments count against their source's limit.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FOS1_FRAGMENTED);
	__type(key, struct fos1_datagram_key);
	__type(value, u64);
} fragments SEC(".maps");

/* How long the stack itself waits for the rest of a datagram. */
enum fragment_time { FRAGMENT_S = 30 };

/* RFC 791, 2.3 and RFC 8200, 4.5: what the fragments of one datagram share. */
static __always_inline void fragment_key_of(const struct packet *packet,
					    struct fos1_datagram_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	__builtin_memcpy(key->source, packet->source, sizeof(key->source));
	__builtin_memcpy(key->dest, packet->dest, sizeof(key->dest));
	key->id = packet->fragment_id;
}

static __always_inline void fragment_remember(const struct packet *packet,
					      u64 now_ns)
{
	struct fos1_datagram_key key;

	fragment_key_of(packet, &key);
	bpf_map_update_elem(&fragments, &key, &now_ns, BPF_ANY);
}

static __always_inline bool fragment_is_known(const struct packet *packet,
					      u64 now_ns)
{
	struct fos1_datagram_key key;
	u64 *seen_ns;

	fragment_key_of(packet, &key);
	seen_ns = bpf_map_lookup_elem(&fragments, &key);
	return seen_ns &&
	       now_ns - *seen_ns < (u64)FRAGMENT_S * FOS1_NS_PER_SECOND;
}

#endif
