/* SPDX-License-Identifier: GPL-2.0-only */
/* Sets of addresses: membership in one or two cache misses at any size.
 *
 * IPv4 is a rank-indexed bitmap. One line a /16 says which /24s have any
 * member; the rank of a /24's bit is the index of its leaf; a leaf answers
 * whole /28s and up to five addresses by itself and points to a bitmap of 256
 * beyond that. An address in an empty /24, the common case for legitimate
 * traffic, costs one line whatever the size of the set.
 *
 * IPv6 is a hashed bitmap over the first filter_bits of the address, which
 * answers most non-members in one access, and behind it a static B+ tree of
 * the bounds of the ranges.
 *
 * Writer: the daemon, once, before the map is frozen and its program attached;
 * a changed set is a new set of maps. Readers: the programs. They cannot fill.
 */
#ifndef FOS1_SET_H
#define FOS1_SET_H

#include <fos1/types.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FOS1_SET4_LINES);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, u32);
	__type(value, struct fos1_set4_line);
} set4_lines SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, u32);
	__type(value, struct fos1_set4_leaf);
} set4_leaves SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, u32);
	__type(value, struct fos1_set4_block);
} set4_blocks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FOS1_SET6_FILTER_WORDS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, u32);
	__type(value, u64);
} set6_filter SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, u32);
	__type(value, struct fos1_set6_node);
} set6_nodes SEC(".maps");

FOS1_CONFIG(
	u32, set6_filter_bits,
	"leading bits of an address that the filter of IPv6 sources hashes");
FOS1_CONFIG(u32, set6_levels, "levels of the tree of IPv6 ranges");
FOS1_CONFIG(u32, set6_level_base[FOS1_SET6_LEVELS],
	    "index of the first node of each level of the tree of IPv6 ranges");

/* Number of bits set. BPF has no instruction for it. */
static __always_inline u32 popcount(u64 word)
{
	word -= (word >> 1) & 0x5555555555555555ULL;
	word = (word & 0x3333333333333333ULL) +
	       ((word >> 2) & 0x3333333333333333ULL);
	word = (word + (word >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
	return (word * 0x0101010101010101ULL) >> 56;
}

/* Whether any of a leaf's five octets is the given one: a byte of the
 * difference is zero.
 */
static __always_inline bool leaf_has_octet(u64 leaf, u64 octet)
{
	const u64 ones = 0x0101010101ULL;
	u64 difference = ((leaf >> 16) ^ (octet * ones)) & (ones * 0xff);

	return (difference - ones) & ~difference & (ones << 7);
}

static __always_inline bool block_has(u32 index, u32 octet)
{
	struct fos1_set4_block *block;

	block = bpf_map_lookup_elem(&set4_blocks, &index);
	return block && (block->bits[(octet >> 6) & 3] >> (octet & 63)) & 1;
}

static __always_inline bool set4_has(__be32 address_be)
{
	u32 address = bpf_ntohl(address_be);
	u32 index = address >> 16, octet = address & 0xff;
	u32 word = (address >> 14) & 3;
	u64 bit = 1ULL << ((address >> 8) & 63);
	struct fos1_set4_line *line;
	struct fos1_set4_leaf *leaf;
	u64 any;

	line = bpf_map_lookup_elem(&set4_lines, &index);
	if (!line)
		return false;
	any = line->any[word];
	if (likely(!(any & bit)))
		return false;
	index = line->base + line->before[word] + popcount(any & (bit - 1));
	leaf = bpf_map_lookup_elem(&set4_leaves, &index);
	/* A /16 that is a member as a whole has its base out of bounds. */
	if (!leaf)
		return true;
	if (leaf->word >> 63)
		return block_has(leaf->word, octet);
	return (leaf->word >> (octet >> 4)) & 1 ||
	       leaf_has_octet(leaf->word, octet);
}

/* 2^64 / golden ratio: Knuth's multiplicative hash. */
static __always_inline u64 filter_hash(u64 high)
{
	u64 prefix = set6_filter_bits ? high >> (64 - set6_filter_bits) : 0;

	return prefix * 0x9e3779b97f4a7c15ULL;
}

/* Three bits of one word must be set: with a million prefixes one bit in 16 is,
 * so that one would send every 16th stranger down the tree.
 */
static __always_inline bool filter_has(u64 high)
{
	u64 hash = filter_hash(high), bits, *word;
	u32 index = hash >> 46;

	bits = 1ULL << ((hash >> 40) & 63) | 1ULL << ((hash >> 34) & 63) |
	       1ULL << ((hash >> 28) & 63);
	word = bpf_map_lookup_elem(&set6_filter, &index);
	return word && (*word & bits) == bits;
}

/* Zero, but not so that the verifier knows: what is added to it stays unknown.
 * From Linux 6.14 on it follows the constant index of an array element, and
 * would walk every way through the tree.
 */
static __always_inline u32 unknown_zero(u64 word)
{
	u64 same = word;

	asm volatile("" : "+r"(same));
	return word & ~same;
}

/* How many of a node's keys are not above the address. */
static __always_inline u32 node_rank(const struct fos1_set6_node *node,
				     u64 high, u64 low)
{
	u32 rank = 0;

#pragma unroll
	for (int i = 0; i < FOS1_SET6_KEYS; i++) {
		if (node->high[i] > high ||
		    (node->high[i] == high && node->low[i] > low))
			break;
		rank++;
	}
	return rank + unknown_zero(node->high[0]);
}

static __always_inline bool set6_has(const __be32 address[4])
{
	u64 high = ((u64)bpf_ntohl(address[0]) << 32) | bpf_ntohl(address[1]);
	u64 low = ((u64)bpf_ntohl(address[2]) << 32) | bpf_ntohl(address[3]);
	u32 offset = 0, rank = 0;

	if (likely(!filter_has(high)))
		return false;
	/* No node can tell it from a spare key; as a multicast address it is
	 * no source of anything (RFC 4291, 2.7).
	 */
	if (unlikely((high & low) == ~0ULL))
		return true;
#pragma unroll
	for (u32 level = 0; level < FOS1_SET6_LEVELS; level++) {
		struct fos1_set6_node *node;
		u32 index;

		if (level >= set6_levels)
			break;
		offset = level ? offset * FOS1_SET6_FANOUT + rank : 0;
		index = set6_level_base[level] + offset;
		node = bpf_map_lookup_elem(&set6_nodes, &index);
		if (!node)
			return false;
		rank = node_rank(node, high, low);
	}
	return rank & 1;
}

#endif
