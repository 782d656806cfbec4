/* SPDX-License-Identifier: GPL-2.0-only */
/* Rewriting without state: endpoints by nat_ports and their mirrors, prefixes
 * of IPv6 by RFC 6296.
 */
#ifndef FOS1_NAT_STATELESS_H
#define FOS1_NAT_STATELESS_H

#include <fos1/nat_known.h>

#if NAT_FAMILY == 6
enum nat_prefix_number { NPT_WORDS = 8, NPT_SUBNET = 3 };

/* Prefixes of outside interfaces, each way. Writer: the daemon. */
NAT_PREFIXES(nat_prefixes6, FOS1_NAT_PREFIXES, struct fos1_nat_prefix_key,
	     struct fos1_nat_prefix);

static __always_inline struct fos1_nat_prefix *
nat_prefix_of(struct nat *nat, const __be32 *address)
{
	struct fos1_nat_prefix_key key = {
		.prefix_bits = 64 + 128,
		.interface = nat->interface,
		.way = nat->way,
	};

	nat_copy(key.address, address);
	return bpf_map_lookup_elem(&nat_prefixes6, &key);
}

/* The first `bits` of an address are the prefix's. */
static __always_inline void nat_put_prefix(__be32 *address,
					   const struct fos1_nat_prefix *to)
{
#pragma unroll
	for (u32 i = 0; i < 2; i++) {
		u32 bits = to->bits > i * 32 ? to->bits - i * 32 : 0;
		__be32 mask = bits >= 32 ? ~0U : bpf_htonl(~(~0U >> bits));

		if (bits)
			address[i] = (address[i] & ~mask) |
				     (to->prefix[i] & mask);
	}
}

/* Words of 16 bits are taken by shifting, so that the compiler knows what the
 * others of 32 have to do with them.
 */
static __always_inline u32 nat_shift_of(u32 word)
{
	return (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? word & 1
							  : ~word & 1) *
	       16;
}

static __always_inline u32 nat_word(const __be32 *address, u32 word)
{
	return address[word / 2] >> nat_shift_of(word) & 0xffff;
}

/* Add to a word of an address, in ones' complement, where all ones are 0. */
static __always_inline void nat_add_word(__be32 *address, u32 word,
					 __be16 adjustment)
{
	u32 old = nat_word(address, word), new = old + adjustment;

	new = (new & 0xffff) + (new >> 16);
	if (new == 0xffff)
		new = 0;
	address[word / 2] ^= (old ^ new) << nat_shift_of(word);
}

/* Make up for the new prefix in the subnet, or where the prefix has that too,
 * in the first word behind it that is not all ones; false if there is none.
 */
static __always_inline bool nat_adjust(__be32 *address,
				       const struct fos1_nat_prefix *to)
{
	u32 first = to->bits <= 48 ? NPT_SUBNET : NPT_SUBNET + 1;
	u32 last = to->bits <= 48 ? NPT_SUBNET : NPT_WORDS - 1;

#pragma unroll
	for (u32 i = NPT_SUBNET; i < NPT_WORDS; i++) {
		if (i < first || i > last || nat_word(address, i) == 0xffff)
			continue;
		nat_add_word(address, i, to->adjustment);
		return true;
	}
	return false;
}

/* Find the address with the other prefix: nat->lead, or none if there is no
 * word to make up for it (RFC 6296, 3.5).
 */
static __always_inline bool nat_find_prefix(struct nat *nat)
{
	struct nat_lead *lead = &nat->lead;
	struct fos1_nat_prefix *to =
		nat_prefix_of(nat, nat_old_address(&nat->key));

	if (!to)
		return false;
	nat_copy(lead->address, nat_old_address(&nat->key));
	lead->port = nat_old_port(&nat->key);
	lead->policy = to->policy;
	nat_put_prefix(lead->address, to);
	if (to->adjustment && !nat_adjust(lead->address, to))
		__builtin_memset(lead->address, 0, sizeof(lead->address));
	return true;
}
#else
static __always_inline bool nat_find_prefix(const struct nat *nat)
{
	(void)nat;
	return false;
}
#endif

/* Find what this hook's end of a packet becomes without state: nat->lead. */
static __always_inline bool nat_find_stateless(struct nat *nat)
{
	const nat_flow_key *key = &nat->key;
	nat_port *rule;

	if (!nat->interface)
		return false;
	if (nat_find_prefix(nat))
		return true;
	rule = nat_port_of(nat, key->way, nat_old_address(key),
			   nat_old_port(key), key->protocol);
	if (!rule || !(rule->flags & FOS1_NAT_STATELESS))
		return false;
	nat_lead_by(nat, rule, nat_old_port(key));
	return true;
}

/* Rewrite the packet at hand as the rules say, if they say so. */
static __always_inline bool nat_rewrite_stateless(struct __sk_buff *skb,
						  struct nat *nat, int *verdict)
{
	if (!nat_has_stateless || !nat_find_stateless(nat))
		return false;
	if (nat_is_none(nat->lead.address)) {
		*verdict = NAT_DROP(nat->lead.policy, refused);
		return true;
	}
	*verdict = nat_translate(skb, nat, nat->lead.address, nat->lead.port,
				 nat->lead.policy);
	NAT_COUNT(nat->lead.policy, stateless);
	return true;
}

#endif
