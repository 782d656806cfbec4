/* SPDX-License-Identifier: GPL-2.0-only */
/* The part of abi.h that is about what workloads may use and have used. */
#ifndef FOS1_ABI_WORKLOAD_H
#define FOS1_ABI_WORKLOAD_H

#include <linux/types.h>

/* What a workload may use, by cgroup id. Rates of 0 and maximums of 0: no
 * limit. Bursts are in bucket time: how much may go at once, in time at the
 * rate.
 */
enum fos1_limits_flag {
	FOS1_LIMITS_ACCOUNTED = 1,
	FOS1_LIMITS_DEVICES = 2,
	FOS1_LIMITS_DEVICES_ALLOWED = 4,
};

struct fos1_limits {
	__u64 in_bits_per_s;
	__u64 out_bits_per_s;
	__u64 in_burst;
	__u64 out_burst;
	__u64 connection_cost;
	__u64 connection_depth;
	__u32 max_connections;
	__u32 flags;
};
FOS1_SIZE(struct fos1_limits, 56);

/* What a workload has used, and what its limits cost it. */
struct fos1_usage {
	struct fos1_stat in;
	struct fos1_stat out;
	struct fos1_stat limited_in;
	struct fos1_stat limited_out;
	__u64 marked;
	__u64 connections;
	__u64 refused_in;
	__u64 refused_out;
	__u64 devices_refused;
	__u64 denied;
};
FOS1_SIZE(struct fos1_usage, 112);

/* One direction of a workload, in bucket time: when its next packet may go, and
 * when the last one was dropped.
 */
struct fos1_bandwidth {
	__u64 next_at;
	__u64 dropped_at;
};
FOS1_SIZE(struct fos1_bandwidth, 16);

struct fos1_workload {
	struct fos1_bandwidth in;
	struct fos1_bandwidth out;
	__u64 connections_at;
};
FOS1_SIZE(struct fos1_workload, 40);

/* A workload's connected socket, and the network namespace that it is in. */
struct fos1_socket {
	__u64 cgroup;
	__u64 netns;
};
FOS1_SIZE(struct fos1_socket, 16);

/* A device that a workload may use; numbers of all ones stand for any. */
struct fos1_device_key {
	__u64 cgroup;
	__u32 type;
	__u32 major;
	__u32 minor;
	__u32 pad;
};
FOS1_SIZE(struct fos1_device_key, 24);

#endif
