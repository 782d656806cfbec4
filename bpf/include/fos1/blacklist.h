/* SPDX-License-Identifier: GPL-2.0-only */
/* The blacklist of a program: its own set, then the user's lpm_trie maps. */
#ifndef FOS1_BLACKLIST_H
#define FOS1_BLACKLIST_H

#include <fos1/parse.h>
#include <fos1/set.h>
#include <fos1/types.h>

/* The user's maps (kind EBPFMap), bound at load. Writers: the daemon and
 * whatever the user runs. Value 1, in either byte order, means drop.
 */
#define USER_LIST(name, key_type)                     \
	struct {                                      \
		__uint(type, BPF_MAP_TYPE_LPM_TRIE);  \
		__uint(max_entries, 1);               \
		__uint(map_flags, BPF_F_NO_PREALLOC); \
		__type(key, key_type);                \
		__type(value, u32);                   \
	} name SEC(".maps")

USER_LIST(user4_0, struct fos1_lpm4_key);
USER_LIST(user4_1, struct fos1_lpm4_key);
USER_LIST(user4_2, struct fos1_lpm4_key);
USER_LIST(user4_3, struct fos1_lpm4_key);
USER_LIST(user6_0, struct fos1_lpm6_key);
USER_LIST(user6_1, struct fos1_lpm6_key);
USER_LIST(user6_2, struct fos1_lpm6_key);
USER_LIST(user6_3, struct fos1_lpm6_key);

FOS1_CONFIG(bool, has_set4,
	    "whether the program has a set of IPv4 sources to drop");
FOS1_CONFIG(bool, has_set6,
	    "whether the program has a set of IPv6 sources to drop");
FOS1_CONFIG(u32, user4_lists, "how many of the user's IPv4 maps are bound");
FOS1_CONFIG(u32, user6_lists, "how many of the user's IPv6 maps are bound");

static __always_inline bool says_drop(const u32 *value)
{
	return value && (*value == 1 || *value == bpf_htonl(1));
}

static __always_inline bool user4_has(__be32 address)
{
	struct fos1_lpm4_key key = { .prefix_bits = 32, .address = address };

	return (user4_lists > 0 &&
		says_drop(bpf_map_lookup_elem(&user4_0, &key))) ||
	       (user4_lists > 1 &&
		says_drop(bpf_map_lookup_elem(&user4_1, &key))) ||
	       (user4_lists > 2 &&
		says_drop(bpf_map_lookup_elem(&user4_2, &key))) ||
	       (user4_lists > 3 &&
		says_drop(bpf_map_lookup_elem(&user4_3, &key)));
}

static __always_inline bool user6_has(const __be32 address[4])
{
	struct fos1_lpm6_key key = { .prefix_bits = 128 };

	__builtin_memcpy(key.address, address, sizeof(key.address));
	return (user6_lists > 0 &&
		says_drop(bpf_map_lookup_elem(&user6_0, &key))) ||
	       (user6_lists > 1 &&
		says_drop(bpf_map_lookup_elem(&user6_1, &key))) ||
	       (user6_lists > 2 &&
		says_drop(bpf_map_lookup_elem(&user6_2, &key))) ||
	       (user6_lists > 3 &&
		says_drop(bpf_map_lookup_elem(&user6_3, &key)));
}

static __always_inline bool is_blacklisted(const struct packet *packet)
{
	if (packet->is_v6)
		return (has_set6 && set6_has(packet->source)) ||
		       (user6_lists && user6_has(packet->source));
	return (has_set4 && set4_has(packet->source[0])) ||
	       (user4_lists && user4_has(packet->source[0]));
}

#endif
