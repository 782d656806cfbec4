/* SPDX-License-Identifier: GPL-2.0-only */
/* How many connections a workload has: TCP from the SYN that it sends or the
 * handshake that it accepts until it is closed, UDP from connect() to close().
 *
 * Each socket is written down by its cookie, so that none counts twice and each
 * is taken off once. The daemon recounts, since sockets that were there before
 * the programs close unseen.
 */
#ifndef FOS1_SOCKETS_H
#define FOS1_SOCKETS_H

#include <fos1/connections.h>
#include <fos1/types.h>
#include <fos1/workload.h>

enum connections_size { WORKLOAD_SOCKETS = 262144 };

/* By socket cookie. Writer: the programs; the daemon removes what is
 * gone. Full: workloads with a maximum get no more connections.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WORKLOAD_SOCKETS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, struct fos1_socket);
} workload_sockets SEC(".maps");

static __always_inline void connection_close(u64 cookie)
{
	struct fos1_socket *socket;
	u64 cgroup, *count;

	socket = bpf_map_lookup_elem(&workload_sockets, &cookie);
	if (!socket)
		return;
	cgroup = socket->cgroup;
	if (bpf_map_delete_elem(&workload_sockets, &cookie))
		return;
	count = bpf_map_lookup_elem(&workload_connections, &cgroup);
	if (count)
		__sync_fetch_and_add(count, -1);
}

/* Count a connection unless it is counted; false if it is one too many. */
static __always_inline bool connection_open(const struct workload *workload,
					    u64 cookie, u64 netns)
{
	struct fos1_socket socket = { workload->cgroup, netns };
	u32 most = workload->limits->max_connections;
	u64 *count, before;

	if (bpf_map_lookup_elem(&workload_sockets, &cookie))
		return true;
	if (bpf_map_update_elem(&workload_sockets, &cookie, &socket,
				BPF_NOEXIST))
		return !most;
	count = connections_of(workload->cgroup);
	if (!count)
		return true;
	before = __sync_fetch_and_add(count, 1);
	return !most || (__s64)before < most;
}

#endif
