// SPDX-License-Identifier: GPL-2.0-only
/* close() of a workload's sockets: those that will tell no more are no longer
 * connections, UDP and TCP that never began. sock_count.bpf.c has the others.
 *
 * Open on error: it only counts.
 */
#include <linux/in.h>

#include <fos1/sockets.h>
#include <fos1/types.h>

SEC("cgroup/sock_release")
int fos1_cgroup_release(struct bpf_sock *sk)
{
	if (sk->protocol == IPPROTO_UDP || sk->state == BPF_TCP_CLOSE)
		connection_close(bpf_get_socket_cookie(sk));
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
