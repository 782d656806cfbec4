// SPDX-License-Identifier: GPL-2.0-only
/* EBPFNATPolicy, NAT64 (RFC 6146, 7915): what comes in by an inside interface
 * for the prefix leaves with IPv4, what comes in by an outside one for an end
 * of it goes on with IPv6. What is the prefix's and cannot be translated is
 * dropped.
 */
#define NAT_FAMILY 6
#define NAT_64

#include <fos1/nat_begin.h>

/* The policy of what is for the prefix, 0 if it is not. */
static __always_inline u32 find_policy(struct nat *nat)
{
	u32 id = nat_policy_of(nat, 0, NAT_WORDS_OF(nat->key.source));
	struct fos1_nat_policy *policy = nat_policy_by_id(id);

	nat_map_far(nat, policy);
	if (!policy || !nat_has_prefix(nat, NAT_WORDS_OF(nat->key.dest)))
		return 0;
	nat->interface = policy->interface;
	nat->outside_interface = policy->interface;
	return id;
}

static __always_inline int follow(struct __sk_buff *skb, struct nat *nat)
{
	return nat_translate(skb, nat, nat->lead.address, nat->lead.port,
			     nat->lead.policy);
}

SEC("tc")
int fos1_tc_nat64_out(struct __sk_buff *skb)
{
	struct nat *nat = nat_here();

	if (skb->protocol != bpf_htons(ETH_P_IPV6) || !nat ||
	    !nat_read_packet6(skb, FOS1_NAT_OUT, 0) ||
	    nat->parsed == PARSED_NOT_IP || !find_policy(nat))
		return TC_ACT_UNSPEC;
	if (nat_follow6(skb))
		return follow(skb, nat);
	return nat_leave(nat, nat_begin_out6(skb));
}

SEC("tc")
int fos1_tc_nat64_in(struct __sk_buff *skb)
{
	struct nat *nat = nat_here();

	if (skb->protocol != bpf_htons(ETH_P_IP) || !nat ||
	    !nat_read_packet6(skb, FOS1_NAT_IN, skb->ifindex) ||
	    nat->parsed != PARSED_IP || !nat_concerns(&nat->packet))
		return TC_ACT_UNSPEC;
	if (nat_follow6(skb))
		return follow(skb, nat);
	return nat_leave(nat, nat_begin_in6(skb));
}

char LICENSE[] SEC("license") = "GPL";
