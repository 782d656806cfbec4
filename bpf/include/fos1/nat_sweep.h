/* SPDX-License-Identifier: GPL-2.0-only */
/* What ended is freed by the daemon; while that is away, by whoever finds no
 * room.
 */
#ifndef FOS1_NAT_SWEEP_H
#define FOS1_NAT_SWEEP_H

#include <fos1/nat_flow.h>

enum nat_sweep_time { NAT_SWEEP_S = 10 };

static long nat_sweep_flow(void *map, const nat_flow_key *key, nat_flow *flow,
			   const u64 *now_ns)
{
	u32 policy = flow->policy;
	u8 way = key->way;

	if (*now_ns > flow->until_ns && !bpf_map_delete_elem(map, key) &&
	    way == FOS1_NAT_OUT)
		nat_count_down(policy);
	return 0;
}

static long nat_sweep_end(void *map, const nat_end_key *key, nat_end *end,
			  const u64 *now_ns)
{
	if (*now_ns > end->until_ns)
		bpf_map_delete_elem(map, key);
	return 0;
}

/* Free what ended, if a policy has not asked for that just now. Global, so that
 * the verifier sees it once.
 */
__noinline int NAT_OF(nat_sweep)(u32 policy)
{
	const u64 pause_ns = (u64)NAT_SWEEP_S * FOS1_NS_PER_SECOND;
	struct fos1_nat_usage *usage = nat_usage_of(policy);
	u64 now_ns = bpf_ktime_get_ns();

	if (!usage || (usage->swept_ns && now_ns - usage->swept_ns < pause_ns))
		return false;
	usage->swept_ns = now_ns;
	bpf_for_each_map_elem(&nat_flows, nat_sweep_flow, &now_ns, 0);
	bpf_for_each_map_elem(&nat_ends, nat_sweep_end, &now_ns, 0);
	return true;
}

/* Give a verdict, and make room if there was none. */
static __always_inline int nat_leave(const struct nat *nat, int verdict)
{
	if (unlikely(nat->crowded))
		NAT_OF(nat_sweep)(nat->crowded);
	return verdict;
}

#endif
