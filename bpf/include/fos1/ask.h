/* SPDX-License-Identifier: GPL-2.0-only */
/* What the rules of a chain say of a packet: they are visited in order, act,
 * and the first that decides ends it.
 */
#ifndef FOS1_ASK_H
#define FOS1_ASK_H

#include <fos1/rule.h>
#include <fos1/types.h>

/* What a chain answers: the half of fos1_flow.judged_rules, and ANSWER_ALLOWED.
 */
enum answer_bit { ANSWER_ALLOWED = 0x10000 };

struct visit {
	struct walk walk;
	struct asked *asked;
};

static __always_inline bool decides(const struct fos1_policy_rule *rule)
{
	return rule->action == FOS1_ACT_ALLOW || rule->action == FOS1_ACT_DENY;
}

static __always_inline u32 answer_of(const struct fos1_policy_rule *rule,
				     u32 number)
{
	u32 answer = number + 1;

	if (rule->action == FOS1_ACT_ALLOW)
		answer |= ANSWER_ALLOWED;
	if (rule->flags & FOS1_RULE_STATEFUL)
		answer |= FOS1_JUDGED_STATEFUL;
	return answer;
}

/* The answer of the only rule that applies, by its name (fos1_vector); 0 if it
 * acts and goes on.
 */
static __always_inline u32 answer_of_one(u32 one)
{
	const u32 bits = FOS1_ONE_ALLOWS | FOS1_ONE_STATEFUL;

	/* The bits of an answer are the same. */
	_Static_assert((u32)FOS1_ONE_ALLOWS == (u32)ANSWER_ALLOWED &&
			       (u32)FOS1_ONE_STATEFUL ==
				       (u32)FOS1_JUDGED_STATEFUL,
		       "answers are read from vectors");
	if (!(one & (FOS1_ONE_ALLOWS | FOS1_ONE_DENIES)))
		return 0;
	return (one & bits) | ((one & FOS1_ONE_NUMBER) + 1);
}

/* The answer of the next rule of a walk where no rule acts and goes on. */
static __always_inline u32 answer_of_next(const struct walk *walk)
{
	u32 number = walk_next(walk), at = walk->rule_base + number;
	struct fos1_policy_rule *rule = bpf_map_lookup_elem(&policy_rules, &at);

	return rule && decides(rule) ? answer_of(rule, number) : 0;
}

/* Visit the next rule that applies; 1 when there is no more to do. */
static long visit_rule(u32 step, void *context)
{
	struct visit *visit = context;
	struct fos1_policy_rule *rule;
	u32 number, at;

	(void)step;
	if (walk_is_over(&visit->walk))
		return 1;
	if (!walk_on(&visit->walk))
		return 0;
	number = walk_take(&visit->walk);
	at = visit->walk.rule_base + number;
	rule = bpf_map_lookup_elem(&policy_rules, &at);
	if (!rule)
		return 1;
	if (decides(rule)) {
		visit->asked->answer = answer_of(rule, number);
		return 1;
	}
	if (!visit->asked->acts || rule_acts(rule, at, visit->asked))
		return 0;
	visit->asked->is_exceeded = true;
	visit->asked->answer = 0;
	return 1;
}

/* What a chain says when none of its rules decides. */
static __always_inline u32 default_answer(const struct asked *asked)
{
	u32 answer = ANSWER_ALLOWED;

	if ((asked->flags & FOS1_PLACE_POLICED) &&
	    (asked->question.chain < FOS1_CHAIN_RECEIVE ||
	     (asked->flags & FOS1_PLACE_DEFAULT_DENY)))
		return 0;
	if (asked->question.chain >= FOS1_CHAIN_RECEIVE ||
	    (asked->flags & FOS1_PLACE_STATEFUL))
		answer |= FOS1_JUDGED_STATEFUL;
	return answer;
}

/* Make the verifier forget what it knows of a number, so that what follows is
 * checked once and not once for each.
 */
__noinline int policy_forget(int number)
{
	asm volatile("" : "+r"(number));
	return number;
}

/* Ask one chain about a packet. Global, so that the verifier sees it once. */
__noinline int policy_ask(struct asked *asked)
{
	struct fos1_policy_chain_head *head;
	struct visit visit = {};
	u32 chain, found, answer = 0, wanted = FOS1_PLACE_POLICED;

	if (!asked)
		return 0;
	visit.asked = asked;
	asked->answer = policy_forget(default_answer(asked));
	if (asked->acts)
		wanted |= FOS1_PLACE_EFFECTS;
	chain = asked->question.chain;
	head = bpf_map_lookup_elem(&policy_heads, &chain);
	if (!(asked->flags & wanted) || !head)
		return asked->answer;
	found = policy_walk(&visit.walk, &asked->question, head);
	if (found && !(asked->flags & FOS1_PLACE_EFFECTS))
		answer = found & FOS1_VECTOR_ONE ? answer_of_one(found)
						 : answer_of_next(&visit.walk);
	if (answer)
		return answer;
	bpf_loop(CLASSIFY_STEPS, visit_rule, &visit, 0);
	return asked->answer;
}

#endif
