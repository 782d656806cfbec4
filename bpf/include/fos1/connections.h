/* SPDX-License-Identifier: GPL-2.0-only */
/* How many connections a workload has (sockets.h counts them). */
#ifndef FOS1_CONNECTIONS_H
#define FOS1_CONNECTIONS_H

#include <fos1/types.h>
#include <fos1/workload.h>

/* Writer: the programs; the daemon corrects it. Full: no maximum is kept. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WORKLOADS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, u64);
} workload_connections SEC(".maps");

static __always_inline u64 *connections_of(u64 cgroup)
{
	static const u64 none;
	u64 *count = bpf_map_lookup_elem(&workload_connections, &cgroup);

	if (likely(count))
		return count;
	bpf_map_update_elem(&workload_connections, &cgroup, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&workload_connections, &cgroup);
}

static __always_inline bool connections_full(const struct workload *workload)
{
	u64 *count;

	if (!workload->limits->max_connections)
		return false;
	count = connections_of(workload->cgroup);
	return count && (__s64)*count >= workload->limits->max_connections;
}

#endif
