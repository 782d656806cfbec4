/* SPDX-License-Identifier: GPL-2.0-only */
/* The one way out of an XDP program: count the reason, then drop, or hand the
 * packet to the next program of the interface, or let it in.
 */
#ifndef FOS1_VERDICT_H
#define FOS1_VERDICT_H

#include <fos1/stats.h>
#include <fos1/types.h>

/* The interface's XDP programs by priority. Writer: the daemon, before the
 * first of them is attached; a changed order is a new array.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, FOS1_CHAIN_SLOTS);
	__type(key, u32);
	__type(value, u32);
} chain SEC(".maps");

FOS1_CONFIG(bool, chained, "whether another program follows on this interface");
FOS1_CONFIG(u32, chain_next, "slot of the program that follows");

FOS1_CONFIG(bool, counts_loopback,
	    "whether packets of the loopback interface are counted");

/* BPF_PROG_TEST_RUN, by which the daemon checks a program before it attaches
 * it, shows packets as if they came in on loopback. They are no traffic.
 */
enum verdict_interface { LOOPBACK_IFINDEX = 1 };

static __always_inline bool is_drop(enum fos1_reason reason)
{
	return reason >= FOS1_DROP_BLACKLIST && reason < FOS1_NOTE_FLOWS_FULL;
}

static __always_inline int verdict(struct xdp_md *ctx, enum fos1_reason reason)
{
	u64 bytes = ctx->data_end - ctx->data;

	if (counts_loopback || ctx->ingress_ifindex != LOOPBACK_IFINDEX)
		count(reason, bytes);
	if (is_drop(reason))
		return XDP_DROP;
	if (chained) {
		bpf_tail_call(ctx, &chain, chain_next);
		count(FOS1_NOTE_CHAIN_BROKEN, bytes);
	}
	return XDP_PASS;
}

#endif
