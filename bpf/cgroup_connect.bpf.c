// SPDX-License-Identifier: GPL-2.0-only
/* connect() of a workload's TCP and UDP sockets: refused with EPERM where it
 * would be one connection too many, at one time or in one second.
 *
 * Open on error: a task outside every workload connects as it likes.
 */
#include <linux/in.h>

#include <fos1/sockets.h>
#include <fos1/types.h>
#include <fos1/workload.h>

enum connect_verdict { REFUSE = 0, PERMIT = 1 };

static __always_inline bool makes_connections(const struct bpf_sock_addr *ctx)
{
	return ctx->protocol == IPPROTO_TCP || ctx->protocol == IPPROTO_UDP;
}

static __always_inline int judge(struct bpf_sock_addr *ctx)
{
	u64 cookie = bpf_get_socket_cookie(ctx);
	struct fos1_usage *usage;
	struct workload workload;

	if (!makes_connections(ctx) || !workload_of_task(&workload))
		return PERMIT;
	usage = workload_usage_of(&workload);
	if (connection_open(&workload, cookie, bpf_get_netns_cookie(ctx)) &&
	    workload_takes_connection(&workload)) {
		WORKLOAD_COUNT(usage, connections);
		return PERMIT;
	}
	connection_close(cookie);
	WORKLOAD_COUNT(usage, refused_out);
	return REFUSE;
}

SEC("cgroup/connect4")
int fos1_cgroup_connect4(struct bpf_sock_addr *ctx)
{
	return judge(ctx);
}

SEC("cgroup/connect6")
int fos1_cgroup_connect6(struct bpf_sock_addr *ctx)
{
	return judge(ctx);
}

char LICENSE[] SEC("license") = "GPL";
