/* SPDX-License-Identifier: GPL-2.0-only */
/* What NAT knows and remembers, IPv4. Writers of flows and ends: the programs;
 * the daemon frees what ended. Of the others: the daemon, one set for each
 * version of the rules. Full: docs/design/nat.md, "Tables".
 */
#ifndef FOS1_NAT_TABLES_H
#define FOS1_NAT_TABLES_H

#include <fos1/types.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FOS1_NAT_FLOWS);
	__type(key, struct fos1_nat_flow4_key);
	__type(value, struct fos1_nat_flow4);
} nat_flows4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FOS1_NAT_FLOWS);
	__type(key, struct fos1_nat_end4_key);
	__type(value, struct fos1_nat_end4);
} nat_ends4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FOS1_NAT_POLICIES);
	__type(key, u32);
	__type(value, struct fos1_nat_policy);
} nat_policies SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, FOS1_NAT_SOURCES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct fos1_nat_source4);
	__type(value, u32);
} nat_sources4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FOS1_NAT_PORTS);
	__type(key, struct fos1_nat_port4_key);
	__type(value, struct fos1_nat_port4);
} nat_ports4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, FOS1_NAT_POLICIES);
	__type(key, u32);
	__type(value, struct fos1_nat_stat);
} nat_stats SEC(".maps");

FOS1_CONFIG(u32, nat_generation, "the version of the rules and addresses");

/* The counters of a policy, made when it is first counted. */
static __always_inline struct fos1_nat_stat *nat_stat(u32 policy)
{
	struct fos1_nat_stat *stat = bpf_map_lookup_elem(&nat_stats, &policy);
	struct fos1_nat_stat none = {};

	if (stat)
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
