// SPDX-License-Identifier: GPL-2.0-only
/* EBPFNATPolicy, NAT64 (RFC 6146, 7915): what comes in by an inside interface
 * for the prefix leaves with IPv4, what comes in by an outside one for an end
 * of it goes on with IPv6. What is the prefix's and cannot be translated is
 * dropped.
 */
#define NAT_FAMILY 6
#define NAT_64

#include <fos1/nat64_error.h>
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

static __always_inline bool is_error(const struct nat *nat)
{
	return nat->parsed == PARSED_IP && is_icmp_error(&nat->packet);
}

/* Translate an error that leaves, and send it. */
static __always_inline int send_error(struct __sk_buff *skb, struct nat *nat,
				      u32 id)
{
	if (!nat64_cross_error(skb))
		return NAT_DROP(id, refused);
	NAT_COUNT(id, errors);
	return bpf_redirect_neigh(nat->interface, NULL, 0, 0);
}

/* Translate an error that comes in; one of no flow may be another's. It is one
 * of a flow if it was read as such.
 */
static __always_inline int receive_error(struct __sk_buff *skb, struct nat *nat)
{
	nat->lead.policy = 0;
	if (!nat64_cross_error(skb))
		return nat->lead.policy ? NAT_DROP(nat->lead.policy, refused)
					: TC_ACT_UNSPEC;
	NAT_COUNT(nat->lead.policy, errors);
	return TC_ACT_UNSPEC;
}

SEC("tc")
int fos1_tc_nat64_out(struct __sk_buff *skb)
{
	struct nat *nat = nat_here();
	u32 id;

	if (skb->protocol != bpf_htons(ETH_P_IPV6) || !nat ||
	    !nat_read_packet6(skb, FOS1_NAT_OUT, 0) ||
	    nat->parsed == PARSED_NOT_IP)
		return TC_ACT_UNSPEC;
	id = find_policy(nat);
	if (!id)
		return TC_ACT_UNSPEC;
	if (is_error(nat))
		return send_error(skb, nat, id);
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
	    nat->parsed != PARSED_IP)
		return TC_ACT_UNSPEC;
	if (is_error(nat))
		return receive_error(skb, nat);
	if (!nat_concerns(&nat->packet))
		return TC_ACT_UNSPEC;
	if (nat_follow6(skb))
		return follow(skb, nat);
	return nat_leave(nat, nat_begin_in6(skb));
}

char LICENSE[] SEC("license") = "GPL";
