// SPDX-License-Identifier: GPL-2.0-only
/* Which devices a workload may open or make.
 *
 * Closed on error: a device that is not found among those allowed gets the
 * workload's default.
 */
#include <fos1/types.h>
#include <fos1/workload.h>

enum device_size { WORKLOAD_DEVICES = 65536 };

enum device_verdict { REFUSE = 0, PERMIT = 1 };

#define ANY_NUMBER     0xffffffffU
#define DEVICE_TYPE(x) ((x) & 0xffff)

/* Writer: the daemon. Full: the daemon says so. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WORKLOAD_DEVICES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct fos1_device_key);
	__type(value, u32);
} workload_devices SEC(".maps");

static __always_inline bool is_listed(u64 cgroup, u32 type, u32 major,
				      u32 minor)
{
	struct fos1_device_key key = { cgroup, type, major, minor, 0 };

	return bpf_map_lookup_elem(&workload_devices, &key);
}

SEC("cgroup/dev")
int fos1_cgroup_device(struct bpf_cgroup_dev_ctx *ctx)
{
	u32 type = DEVICE_TYPE(ctx->access_type);
	struct workload workload;

	if (!workload_of_task(&workload) ||
	    !(workload.limits->flags & FOS1_LIMITS_DEVICES) ||
	    (workload.limits->flags & FOS1_LIMITS_DEVICES_ALLOWED))
		return PERMIT;
	if (is_listed(workload.cgroup, type, ctx->major, ctx->minor) ||
	    is_listed(workload.cgroup, type, ctx->major, ANY_NUMBER) ||
	    is_listed(workload.cgroup, type, ANY_NUMBER, ANY_NUMBER))
		return PERMIT;
	WORKLOAD_COUNT(workload_usage_of(&workload), devices_refused);
	return REFUSE;
}

char LICENSE[] SEC("license") = "GPL";
