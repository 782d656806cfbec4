/* SPDX-License-Identifier: GPL-2.0-only */
/* What NAT's programs of both families share. */
#ifndef FOS1_NAT_SHARED_H
#define FOS1_NAT_SHARED_H

#include <fos1/types.h>

#define NAT_HASH(name, entries, key_type, value_type) \
	struct {                                      \
		__uint(type, BPF_MAP_TYPE_HASH);      \
		__uint(max_entries, entries);         \
		__type(key, key_type);                \
		__type(value, value_type);            \
	} name SEC(".maps")

#define NAT_PREFIXES(name, entries, key_type, value_type) \
	struct {                                          \
		__uint(type, BPF_MAP_TYPE_LPM_TRIE);      \
		__uint(max_entries, entries);             \
		__uint(map_flags, BPF_F_NO_PREALLOC);     \
		__type(key, key_type);                    \
		__type(value, value_type);                \
	} name SEC(".maps")

/* Counters by policy. Writers: the programs. Full: not counted. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, FOS1_NAT_POLICIES);
	__type(key, u32);
	__type(value, struct fos1_nat_stat);
} nat_stats SEC(".maps");

/* The version of the rules and addresses, never 0. Writer: the daemon, after
 * all other maps of the version.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} nat_version SEC(".maps");

static __always_inline u32 nat_generation(void)
{
	u32 first = 0, *version = bpf_map_lookup_elem(&nat_version, &first);

	return version ? *version : 0;
}

/* The counters of a policy, made when it is first counted. */
static __always_inline struct fos1_nat_stat *nat_stat(u32 policy)
{
	struct fos1_nat_stat *stat = bpf_map_lookup_elem(&nat_stats, &policy);
	struct fos1_nat_stat none = {};

	if (likely(stat))
		return stat;
	bpf_map_update_elem(&nat_stats, &policy, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&nat_stats, &policy);
}

#define NAT_COUNT(policy, what)                                 \
	do {                                                    \
		struct fos1_nat_stat *_stat = nat_stat(policy); \
		if (_stat)                                      \
			_stat->what++;                          \
	} while (0)

#endif
