/* SPDX-License-Identifier: GPL-2.0-only */
/* Rate limits by the generic cell rate algorithm (ITU-T I.371): one word a
 * bucket, the time at which it is empty again, moved by compare-and-swap. No
 * fraction is ever lost and no lock is held.
 */
#ifndef FOS1_BUCKET_H
#define FOS1_BUCKET_H

#include <fos1/types.h>

/* BUCKET_SLACK: how far the clocks of two CPUs, or a packet's own time and the
 * one that it is judged at, may be apart.
 */
enum bucket_limit {
	BUCKET_TRIES = 4,
	BUCKET_SLACK = (__u64)FOS1_NS_PER_SECOND << FOS1_TIME_SHIFT,
};

/* Time for buckets: nanoseconds since boot, in FOS1_TIME_SHIFT fractions. */
static __always_inline u64 bucket_time(u64 now_ns)
{
	return now_ns << FOS1_TIME_SHIFT;
}

/* Take one packet's `cost` out of the bucket at `now`, unless more than `depth`
 * waits in it already; all three in bucket time. Under contention it may let
 * a packet through uncounted, which errs towards traffic.
 */
static __always_inline bool bucket_take(u64 *at, u64 now, u64 cost, u64 depth)
{
	for (int i = 0; i < BUCKET_TRIES; i++) {
		u64 old = *(volatile u64 *)at;
		u64 start = old > now ? old : now;

		/* Filled under another limit, which a manifest changed. */
		if (start - now > depth + cost + BUCKET_SLACK)
			start = now + depth;
		if (start - now > depth)
			return false;
		if (__sync_val_compare_and_swap(at, old, start + cost) == old)
			return true;
	}
	return true;
}

#endif
