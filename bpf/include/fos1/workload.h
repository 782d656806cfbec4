/* SPDX-License-Identifier: GPL-2.0-only */
/* What is known of workloads, by cgroup id: their limits, their buckets, and
 * what they have used.
 *
 * A cgroup without limits of its own has those of its nearest ancestor that
 * has some, and shares them with all below it: so a policed slice holds
 * newcomers.
 */
#ifndef FOS1_WORKLOAD_H
#define FOS1_WORKLOAD_H

#include <fos1/bucket.h>
#include <fos1/types.h>

enum workload_size {
	WORKLOADS = 16384,
	WORKLOAD_ANCESTORS = 16,
};

/* Writer: the daemon. Reader: the programs. Full: the daemon says so. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WORKLOADS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, struct fos1_limits);
} workload_limits_of SEC(".maps");

/* Writer: the programs. Full: the newcomers' rates are not limited. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WORKLOADS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, struct fos1_workload);
} workload_buckets SEC(".maps");

/* Writer: the programs. Reader: the daemon. Full: newcomers are not counted. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, WORKLOADS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, struct fos1_usage);
} workload_usage SEC(".maps");

struct workload {
	u64 cgroup;
	struct fos1_limits *limits;
};

static __always_inline bool workload_is(struct workload *workload, u64 cgroup)
{
	workload->cgroup = cgroup;
	workload->limits = bpf_map_lookup_elem(&workload_limits_of, &cgroup);
	return workload->limits;
}

/* Find the workload that the calling task belongs to. */
static __always_inline bool workload_of_task(struct workload *workload)
{
	if (likely(workload_is(workload, bpf_get_current_cgroup_id())))
		return true;
	for (int level = WORKLOAD_ANCESTORS; level >= 0; level--) {
		u64 cgroup = bpf_get_current_ancestor_cgroup_id(level);

		if (cgroup && workload_is(workload, cgroup))
			return true;
	}
	return false;
}

/* Find the buckets; NULL where the map is full. */
static __always_inline struct fos1_workload *
workload_buckets_of(const struct workload *workload)
{
	static const struct fos1_workload fresh;
	struct fos1_workload *buckets;

	buckets = bpf_map_lookup_elem(&workload_buckets, &workload->cgroup);
	if (likely(buckets))
		return buckets;
	bpf_map_update_elem(&workload_buckets, &workload->cgroup, &fresh,
			    BPF_NOEXIST);
	return bpf_map_lookup_elem(&workload_buckets, &workload->cgroup);
}

/* Find the account; NULL where the map is full. */
static __always_inline struct fos1_usage *
workload_usage_of(const struct workload *workload)
{
	static const struct fos1_usage none;
	struct fos1_usage *usage;

	usage = bpf_map_lookup_elem(&workload_usage, &workload->cgroup);
	if (likely(usage))
		return usage;
	bpf_map_update_elem(&workload_usage, &workload->cgroup, &none,
			    BPF_NOEXIST);
	return bpf_map_lookup_elem(&workload_usage, &workload->cgroup);
}

/* Hooks run in tasks too, where a packet's interrupt may come between. */
#define WORKLOAD_COUNT(usage, field)                                \
	do {                                                        \
		struct fos1_usage *_usage = usage;                  \
                                                                    \
		if (_usage)                                         \
			__sync_fetch_and_add(&_usage->field, 1ULL); \
	} while (0)

static __always_inline void workload_count_packet(struct fos1_stat *stat,
						  u32 bytes)
{
	__sync_fetch_and_add(&stat->packets, 1);
	__sync_fetch_and_add(&stat->bytes, bytes);
}

/* Take one connection out of the allowance per second. */
static __always_inline bool
workload_takes_connection(const struct workload *workload)
{
	u64 cost = workload->limits->connection_cost;
	struct fos1_workload *buckets;
	u64 now;

	if (!cost)
		return true;
	now = bucket_time(bpf_ktime_get_ns());
	buckets = workload_buckets_of(workload);
	return !buckets || bucket_take(&buckets->connections_at, now, cost,
				       workload->limits->connection_depth);
}

#endif
