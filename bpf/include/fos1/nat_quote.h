/* SPDX-License-Identifier: GPL-2.0-only */
/* What errors of ICMP quote. */
#ifndef FOS1_NAT_QUOTE_H
#define FOS1_NAT_QUOTE_H

#include <fos1/nat_packet.h>

/* Read what an error quotes. The answer to it would be of its flow: nat->key. */
static __always_inline bool nat_read_quote(struct __sk_buff *skb,
					   struct nat *nat)
{
	struct packet *quoted = &nat->quoted;

	__builtin_memset(quoted, 0, sizeof(*quoted));
	__builtin_memset(&nat->quote, 0, sizeof(nat->quote));
	quoted->ether_type = nat->packet.ether_type;
	nat->quote.network = nat->layout.payload;
	if (read_network(skb, quoted, &nat->quote) != PARSED_IP ||
	    read_transport(skb, quoted, &nat->quote, true) != PARSED_IP)
		return false;
	nat_map_packet(nat, quoted);
	nat_fill_key(&nat->out, quoted, nat->way);
	nat->key = nat->out;
	nat_copy(NAT_WORDS_OF(nat->key.source), NAT_WORDS_OF(nat->out.dest));
	nat_copy(NAT_WORDS_OF(nat->key.dest), NAT_WORDS_OF(nat->out.source));
	nat->key.source_port = nat->out.dest_port;
	nat->key.dest_port = nat->out.source_port;
	return true;
}

/* An Internet checksum after something that it sums has changed by `diff`
 * (RFC 1624).
 */
static __always_inline u16 nat_resum(u16 check, u64 diff)
{
	u64 sum = (u16)~check + diff;

#pragma unroll
	for (int i = 0; i < 4; i++)
		sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

#endif
