/* SPDX-License-Identifier: GPL-2.0-only */
/* Which rules of a chain apply to a packet, in order, at a cost that hardly
 * grows with their number.
 *
 * A rule is one bit. Three bit vectors say which rules apply to the place, to
 * the peer's address and to the service; what all three have applies. Static
 * B+ trees find the leaf with the vector of an address or of a service, one
 * cache line a level; a vector is its summary words and the words that are not
 * zero. Where one holds a single rule, its name says which and what it does,
 * and that rule is looked up in the others: then nothing else is read of it.
 *
 * Writer: the daemon, once, before the maps are frozen and their program is
 * attached; changed rules are a new set of maps. Readers: the programs. They
 * cannot fill.
 */
#ifndef FOS1_CLASSIFY_H
#define FOS1_CLASSIFY_H

#include <fos1/types.h>

#define POLICY_TABLE(name, value_type, entries)    \
	struct {                                   \
		__uint(type, BPF_MAP_TYPE_ARRAY);  \
		__uint(max_entries, entries);      \
		__uint(map_flags, BPF_F_MMAPABLE); \
		__type(key, u32);                  \
		__type(value, value_type);         \
	} name SEC(".maps")

POLICY_TABLE(policy_heads, struct fos1_policy_chain_head, FOS1_CHAINS);
POLICY_TABLE(policy_rules, struct fos1_policy_rule, 1);
POLICY_TABLE(policy_words, u64, 1);
POLICY_TABLE(policy_leaves32, struct fos1_leaf32, 1);
POLICY_TABLE(policy_leaves128, struct fos1_leaf128, 1);
POLICY_TABLE(policy_tree32, struct fos1_tree32_node, 1);
POLICY_TABLE(policy_tree128, struct fos1_set6_node, 1);

enum classify_limit {
	/* Rules, words, summary words, and the step that finds the end. */
	CLASSIFY_STEPS = FOS1_POLICY_RULES + FOS1_POLICY_RULES / 64 +
			 FOS1_POLICY_RULES / 4096 + 1,
	CLASSIFY_SUMMARIES = FOS1_POLICY_RULES / 4096,
	CLASSIFY_VECTORS = 3,
};

/* What a chain is asked about. The peer's address is a number, IPv4 in low. */
struct question {
	u64 peer_high;
	u64 peer_low;
	u32 chain;
	u32 subject;
	u32 service;
	bool is_v6;
	u8 pad[3];
};

/* A way along the rules that apply: where the summary words of each vector
 * begin, and the words that the current one marks; the words and rules not yet
 * visited.
 */
struct walk {
	u32 summary_at[CLASSIFY_VECTORS];
	u32 word_at[CLASSIFY_VECTORS];
	u64 words;
	u64 rules;
	u32 rule_base;
	u16 word;
	u8 summary;
	u8 summaries;
};

/* Number of bits set; BPF has no instruction for it. */
static __always_inline u32 bits_set(u64 word)
{
	word -= (word >> 1) & 0x5555555555555555ULL;
	word = (word & 0x3333333333333333ULL) +
	       ((word >> 2) & 0x3333333333333333ULL);
	word = (word + (word >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
	return (word * 0x0101010101010101ULL) >> 56;
}

/* The index of the lowest bit set, without a branch to mispredict. */
static __always_inline u32 lowest_bit(u64 word)
{
	return bits_set(~word & (word - 1));
}

/* 1 if a is below b, without a branch to mispredict. */
static __always_inline u32 below(u32 a, u32 b)
{
	u64 difference = (u64)a - (u64)b;

	/* Opaque, or the compiler turns it into a comparison and a jump. */
	asm volatile("" : "+r"(difference));
	return difference >> 63;
}

static __always_inline u32 rank32(const struct fos1_tree32_node *node, u32 key)
{
	u32 rank = 0;

#pragma unroll
	for (int i = 0; i < FOS1_TREE32_KEYS; i++)
		rank += below(node->keys[i], key);
	return rank;
}

static __always_inline u32 rank128(const struct fos1_set6_node *node, u64 high,
				   u64 low)
{
	u32 rank = 0;

#pragma unroll
	for (int i = 0; i < FOS1_TREE128_KEYS; i++) {
		if (node->high[i] > high ||
		    (node->high[i] == high && node->low[i] >= low))
			break;
		rank++;
	}
	return rank;
}

static __always_inline u32 leaf128_rank(const struct fos1_leaf128 *leaf,
					u64 high, u64 low)
{
	u32 rank = 0;

#pragma unroll
	for (int i = 0; i < FOS1_LEAF128_INTERVALS; i++) {
		if (leaf->high[i] > high ||
		    (leaf->high[i] == high && leaf->low[i] >= low))
			break;
		rank++;
	}
	return rank;
}

/* The vector of the interval that a key is in: how many intervals end below it
 * says which. Spare keys are all ones, so never below. Global, so that the
 * verifier sees it once.
 */
__noinline u32 policy_find32(struct fos1_index *index, u32 key)
{
	u32 offset = 0, rank = 0, at;
	struct fos1_leaf32 *leaf;

	if (!index)
		return 0;

#pragma unroll
	for (u32 level = 0; level < FOS1_TREE_LEVELS; level++) {
		struct fos1_tree32_node *node;

		if (level >= index->levels)
			break;
		offset = level ? offset * FOS1_TREE32_FANOUT + rank : 0;
		at = index->level_base[level] + offset;
		node = bpf_map_lookup_elem(&policy_tree32, &at);
		if (!node)
			return 0;
		rank = rank32(node, key);
	}
	at = index->leaves + offset * FOS1_TREE32_KEYS + rank;
	leaf = bpf_map_lookup_elem(&policy_leaves32, &at);
	if (!leaf)
		return 0;
	rank = 0;
#pragma unroll
	for (int i = 0; i < FOS1_LEAF32_INTERVALS; i++)
		rank += below(leaf->last[i], key);
	return leaf->vector[rank & (FOS1_LEAF_VECTORS - 1)];
}

__noinline u32 policy_find128(struct fos1_index *index, u64 high, u64 low)
{
	u32 offset = 0, rank = 0, at;
	struct fos1_leaf128 *leaf;

	if (!index)
		return 0;

#pragma unroll
	for (u32 level = 0; level < FOS1_TREE_LEVELS; level++) {
		struct fos1_set6_node *node;

		if (level >= index->levels)
			break;
		offset = level ? offset * FOS1_TREE128_FANOUT + rank : 0;
		at = index->level_base[level] + offset;
		node = bpf_map_lookup_elem(&policy_tree128, &at);
		if (!node)
			return 0;
		rank = rank128(node, high, low);
	}
	at = index->leaves + offset * FOS1_TREE128_KEYS + rank;
	leaf = bpf_map_lookup_elem(&policy_leaves128, &at);
	if (!leaf)
		return 0;
	rank = leaf128_rank(leaf, high, low);
	return leaf->vector[rank & (FOS1_LEAF_VECTORS - 1)];
}

static __always_inline u64 policy_word(u32 at)
{
	u64 *word = bpf_map_lookup_elem(&policy_words, &at);

	return word ? *word : 0;
}

/* Whether a vector that is kept holds a rule. Global, so that the verifier sees
 * it once.
 */
__noinline int policy_holds(struct fos1_policy_chain_head *head, u32 vector,
			    u32 number)
{
	u64 mark = 1ULL << (number / 64 & 63), marks = 0;
	u32 at, skipped = 0;

	if (!head)
		return false;
	at = head->vector_base + vector;
	for (u32 i = 0; i < CLASSIFY_SUMMARIES; i++) {
		marks = policy_word(at + i);
		if (i == number / 4096)
			break;
		skipped += bits_set(marks);
	}
	if (!(marks & mark))
		return false;
	skipped += bits_set(marks & (mark - 1));
	at += head->summary_words + skipped;
	return policy_word(at) >> (number & 63) & 1;
}

static __always_inline u32 peer_vector(const struct question *question,
				       struct fos1_policy_chain_head *head)
{
	if (question->is_v6)
		return policy_find128(&head->peer6, question->peer_high,
				      question->peer_low);
	return policy_find32(&head->peer4, question->peer_low);
}

static __always_inline bool holds(struct fos1_policy_chain_head *head,
				  u32 vector, u32 number)
{
	if (vector & FOS1_VECTOR_ONE)
		return (vector & FOS1_ONE_NUMBER) == number;
	return vector & FOS1_VECTOR_ALL || policy_holds(head, vector, number);
}

/* Aim a walk at the only rule that one of the vectors holds. */
static __always_inline void aim_at_one(struct walk *walk,
				       struct fos1_policy_chain_head *head,
				       const u32 *vectors, u32 number)
{
	walk->summary = walk->summaries;
	walk->word = number / 64;
	walk->rules = 1ULL << (number & 63);
#pragma unroll
	for (u32 i = 0; i < CLASSIFY_VECTORS; i++)
		if (walk->rules && !holds(head, vectors[i], number))
			walk->rules = 0;
}

static __always_inline void
aim(struct walk *walk, struct fos1_policy_chain_head *head, const u32 *vectors)
{
#pragma unroll
	for (u32 i = 0; i < CLASSIFY_VECTORS; i++) {
		u32 at = head->vector_base + (vectors[i] & FOS1_VECTOR_AT);

		walk->summary_at[i] = at;
		walk->word_at[i] = at + head->summary_words;
	}
}

/* Go on to the next summary word: which words all three vectors have. */
static __always_inline u64 next_words(struct walk *walk)
{
	u64 words = ~0ULL;

#pragma unroll
	for (u32 i = 0; i < CLASSIFY_VECTORS; i++) {
		u32 at = walk->summary_at[i] + walk->summary;

		if (walk->summary)
			walk->word_at[i] += bits_set(policy_word(at - 1));
		words &= policy_word(at);
	}
	walk->summary++;
	return words;
}

/* What all three vectors have in a word of the current summary word. */
static __always_inline u64 word_rules(const struct walk *walk, u32 bit)
{
	u64 before = (1ULL << (bit & 63)) - 1, rules = ~0ULL;

#pragma unroll
	for (u32 i = 0; i < CLASSIFY_VECTORS; i++) {
		u32 at = walk->summary_at[i] + walk->summary - 1;
		u64 marks = policy_word(at) & before;

		rules &= policy_word(walk->word_at[i] + bits_set(marks));
	}
	return rules;
}

/* Make one step. True if walk->rules holds rules to visit, of which the first
 * is the first of word walk->word.
 */
static __always_inline bool walk_on(struct walk *walk)
{
	if (walk->rules)
		return true;
	if (!walk->words)
		walk->words = next_words(walk);
	if (walk->words) {
		u32 bit = lowest_bit(walk->words);

		walk->word = (walk->summary - 1) * 64 + bit;
		walk->words &= walk->words - 1;
		walk->rules = word_rules(walk, bit);
	}
	return walk->rules;
}

static __always_inline bool walk_is_over(const struct walk *walk)
{
	return !walk->rules && !walk->words && walk->summary >= walk->summaries;
}

/* The number of the rule that comes next. */
static __always_inline u32 walk_next(const struct walk *walk)
{
	return walk->word * 64 + lowest_bit(walk->rules);
}

/* Take the next rule off: its number in the chain. */
static __always_inline u32 walk_take(struct walk *walk)
{
	u32 number = walk_next(walk);

	walk->rules &= walk->rules - 1;
	return number;
}

/* Aim a walk; return the name of the vector that holds a single rule, if one
 * does.
 */
static __always_inline u32 aim_walk(struct walk *walk,
				    const struct question *question,
				    struct fos1_policy_chain_head *head)
{
	const u32 vectors[CLASSIFY_VECTORS] = {
		peer_vector(question, head),
		policy_find32(&head->service, question->service),
		question->subject,
	};

	walk->summaries = head->summary_words;
	walk->rule_base = head->rule_base;
#pragma unroll
	for (u32 i = 0; i < CLASSIFY_VECTORS; i++)
		if (vectors[i] & FOS1_VECTOR_ONE) {
			aim_at_one(walk, head, vectors,
				   vectors[i] & FOS1_ONE_NUMBER);
			return vectors[i];
		}
	aim(walk, head, vectors);
	return 0;
}

/* What the first step of a walk found: some rules that apply, or with them the
 * name of the vector that holds the only one (fos1_vector).
 */
enum walk_found { WALK_NOTHING = 0, WALK_SOME = 1 };

/* Begin a walk, which is zero, along the rules that apply: walk_found. Global,
 * so that the verifier sees it once.
 */
__noinline u32 policy_walk(struct walk *walk, struct question *question,
			   struct fos1_policy_chain_head *head)
{
	u32 one;

	if (!walk || !question || !head)
		return WALK_NOTHING;
	one = aim_walk(walk, question, head);
	if (walk_is_over(walk) || !walk_on(walk))
		return WALK_NOTHING;
	return one ? one : WALK_SOME;
}

#endif
