/* SPDX-License-Identifier: GPL-2.0-only */
/* A program's counters, one a reason. */
#ifndef FOS1_STATS_H
#define FOS1_STATS_H

#include <fos1/types.h>

/* Writer: the program. Reader: the daemon. Cannot fill. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, FOS1_REASONS);
	__type(key, u32);
	__type(value, struct fos1_stat);
} stats SEC(".maps");

static __always_inline void count(enum fos1_reason reason, u64 bytes)
{
	u32 index = reason;
	struct fos1_stat *stat = bpf_map_lookup_elem(&stats, &index);

	if (!stat)
		return;
	stat->packets++;
	stat->bytes += bytes;
}

#endif
