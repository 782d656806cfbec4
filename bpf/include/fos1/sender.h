/* SPDX-License-Identifier: GPL-2.0-only */
/* Whose socket a packet belongs to: the workload that policies select. */
#ifndef FOS1_SENDER_H
#define FOS1_SENDER_H

#include <fos1/police.h>

enum sender_limit { SENDER_ANCESTORS = 16 };

/* Put into the key the nearest ancestor of a socket's cgroup that is a place.
 * Global, so that the verifier sees it once.
 */
__noinline int policy_find_ancestor(struct __sk_buff *skb,
				    struct fos1_place_key *found)
{
	struct fos1_place_key key = { .kind = FOS1_PLACE_CGROUP };

	if (!found)
		return false;
	for (int level = SENDER_ANCESTORS - 1; level >= 0; level--) {
		key.id = bpf_skb_ancestor_cgroup_id(skb, level);
		if (!key.id || !bpf_map_lookup_elem(&policy_places, &key))
			continue;
		found->id = key.id;
		return true;
	}
	return false;
}

/* Find the place of a socket's cgroup, or of its nearest ancestor that has one:
 * a policed slice polices newcomers too.
 */
static __always_inline bool find_workload_place(struct hook *hook, u64 cgroup,
						u32 way)
{
	if (likely(hook_find(hook, FOS1_PLACE_CGROUP, cgroup, way)))
		return true;
	return policy_find_ancestor(hook->skb, hook->key) &&
	       hook_find(hook, FOS1_PLACE_CGROUP, hook->key->id, way);
}

#endif
