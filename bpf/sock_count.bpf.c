// SPDX-License-Identifier: GPL-2.0-only
/* TCP of a workload: counts its connections as they begin and end, and paces
 * each of them to what the whole workload may send, so that the limit of
 * limits.h need drop little and one connection fills it evenly.
 *
 * Open on error: it never refuses anything.
 */
#include <linux/types.h>

#include <bpf/bpf_core_read.h>

#include <fos1/sockets.h>
#include <fos1/types.h>
#include <fos1/workload.h>

/* From asm-generic/socket.h, which needs more than BPF has. */
enum sockopt_number {
	SOL_SOCKET = 1,
	SO_MAX_PACING_RATE = 47,
};

/* A pacing rate in bytes per second; the last byte says that it is ours, so
 * that a lower one, which the application chose, is left alone. It is a little
 * more than the limit, so that time which a busy machine lost can be made up
 * for.
 */
enum pacing {
	PACING_SHARE = 33,
	PACING_WHOLE = 32,
	PACING_MARK = 0xf1,
	PACING_MARK_MASK = 0xff,
};

#define PACING_NONE 0xffffffffU

#define CORE __attribute__((preserve_access_index))

struct kernfs_node {
	u64 id;
} CORE;

struct cgroup;

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
} CORE;

struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
} CORE;

struct sock_cgroup_data {
	struct cgroup *cgroup;
} CORE;

struct sock {
	struct sock_cgroup_data sk_cgrp_data;
} CORE;

struct inet_sock {
	struct sock sk;
} CORE;

struct inet_connection_sock {
	struct inet_sock icsk_inet;
} CORE;

struct tcp_sock {
	struct inet_connection_sock inet_conn;
} CORE;

static __always_inline bool workload_of_cgroup(struct cgroup *cgroup,
					       struct workload *workload)
{
	for (int i = 0; i <= WORKLOAD_ANCESTORS; i++) {
		struct cgroup_subsys_state *parent;

		if (!cgroup)
			return false;
		if (workload_is(workload, cgroup->kn->id))
			return true;
		parent = cgroup->self.parent;
		if (!parent)
			return false;
		cgroup = parent->cgroup;
	}
	return false;
}

static __always_inline bool workload_of_socket(struct bpf_sock_ops *ctx,
					       struct workload *workload)
{
	struct bpf_sock *sk = ctx->sk;
	struct tcp_sock *tcp;

	if (!sk)
		return false;
	tcp = bpf_skc_to_tcp_sock(sk);
	if (!tcp)
		return false;
	return workload_of_cgroup(
		tcp->inet_conn.icsk_inet.sk.sk_cgrp_data.cgroup, workload);
}

static __always_inline u32 pacing_wanted(u64 bits_per_s)
{
	u64 rate = bits_per_s / 8 * PACING_SHARE / PACING_WHOLE;

	if (!rate || rate > PACING_NONE - PACING_MARK_MASK)
		return PACING_NONE;
	return (rate & ~(u64)PACING_MARK_MASK) | PACING_MARK;
}

static __always_inline void pace(struct bpf_sock_ops *ctx, u64 bits_per_s)
{
	u32 wanted = pacing_wanted(bits_per_s), held = PACING_NONE;
	bool is_ours;

	bpf_getsockopt(ctx, SOL_SOCKET, SO_MAX_PACING_RATE, &held,
		       sizeof(held));
	is_ours = (held & PACING_MARK_MASK) == PACING_MARK;
	if (held > wanted || (is_ours && held != wanted))
		bpf_setsockopt(ctx, SOL_SOCKET, SO_MAX_PACING_RATE, &wanted,
			       sizeof(wanted));
}

static __always_inline void begin(struct bpf_sock_ops *ctx, bool is_incoming)
{
	struct workload workload;

	if (!workload_of_socket(ctx, &workload))
		return;
	if (is_incoming)
		WORKLOAD_COUNT(workload_usage_of(&workload), connections);
	connection_open(&workload, bpf_get_socket_cookie(ctx),
			bpf_get_netns_cookie(ctx));
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags |
					       BPF_SOCK_OPS_STATE_CB_FLAG |
					       BPF_SOCK_OPS_RTT_CB_FLAG);
	pace(ctx, workload.limits->out_bits_per_s);
}

static __always_inline void refresh(struct bpf_sock_ops *ctx)
{
	struct workload workload;

	if (workload_of_socket(ctx, &workload))
		pace(ctx, workload.limits->out_bits_per_s);
	else
		pace(ctx, 0);
}

SEC("sockops")
int fos1_sock_count(struct bpf_sock_ops *ctx)
{
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		begin(ctx, false);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		begin(ctx, true);
		break;
	case BPF_SOCK_OPS_RTT_CB:
		refresh(ctx);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (ctx->args[1] == BPF_TCP_CLOSE)
			connection_close(bpf_get_socket_cookie(ctx));
		break;
	}
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
