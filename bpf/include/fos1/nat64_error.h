/* SPDX-License-Identifier: GPL-2.0-only */
/* Errors of ICMP through NAT64 (RFC 7915, 4.2 and 5.2). They are made anew, and
 * quote the translated header and 8 bytes behind it.
 */
#ifndef FOS1_NAT64_ERROR_H
#define FOS1_NAT64_ERROR_H

#include <fos1/nat_known.h>
#include <fos1/nat_quote.h>

enum nat64_error_number {
	NAT64_HEAD_BYTES = 8,
	NAT64_LEAST_MTU = 1280,
	NAT64_MORE_BYTES = NAT64_IPV6_BYTES - NAT64_IPV4_BYTES,
	NAT64_TTL = 64,
	ICMP4_UNREACHABLE = 3,
	ICMP4_TIME_EXCEEDED = 11,
	ICMP4_CODE_PROTOCOL = 2,
	ICMP4_CODE_PORT = 3,
	ICMP4_CODE_TOO_BIG = 4,
	ICMP4_CODE_HOST = 1,
	ICMP4_CODE_FORBIDDEN = 10,
	ICMP6_UNREACHABLE = 1,
	ICMP6_TOO_BIG = 2,
	ICMP6_TIME_EXCEEDED = 3,
	ICMP6_PARAMETER = 4,
	ICMP6_CODE_FORBIDDEN = 1,
	ICMP6_CODE_PORT = 4,
	ICMP6_CODE_NEXT_HEADER = 1,
	/* ICMPv4's codes of unreachable that mean: forbidden (4.2). */
	ICMP4_FORBIDDING = 1 << 9 | 1 << 10 | 1 << 13 | 1 << 15,
	NEXT_HEADER_AT = 6,
};

struct nat64_icmp {
	u8 type;
	u8 code;
	u16 check;
	__be32 rest;
};

struct nat64_error4 {
	struct iphdr outer;
	struct nat64_icmp icmp;
	struct iphdr inner;
	u16 head[NAT64_HEAD_BYTES / 2];
};

struct nat64_error6 {
	struct ipv6hdr outer;
	struct nat64_icmp icmp;
	struct ipv6hdr inner;
	u16 head[NAT64_HEAD_BYTES / 2];
};

/* Room to make an error in. */
struct nat64_room {
	struct nat64_error4 four;
	struct nat64_error6 six;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct nat64_room);
} nat64_errors SEC(".maps");

/* What an error says in the other family; false if it has no words for it. */
static __always_inline bool nat64_say6(const struct packet *packet,
				       struct nat64_icmp *icmp)
{
	u32 mtu = bpf_ntohl(icmp->rest) & 0xffff;
	u8 code = packet->icmp_code;

	icmp->rest = 0;
	icmp->type = ICMP6_UNREACHABLE;
	icmp->code = 0;
	if (packet->icmp_type == ICMP4_TIME_EXCEEDED) {
		icmp->type = ICMP6_TIME_EXCEEDED;
		icmp->code = code;
		return true;
	}
	if (packet->icmp_type != ICMP4_UNREACHABLE || code > 15)
		return false;
	if (code == ICMP4_CODE_PORT) {
		icmp->code = ICMP6_CODE_PORT;
	} else if (1 << code & ICMP4_FORBIDDING) {
		icmp->code = ICMP6_CODE_FORBIDDEN;
	} else if (code == ICMP4_CODE_PROTOCOL) {
		icmp->type = ICMP6_PARAMETER;
		icmp->code = ICMP6_CODE_NEXT_HEADER;
		icmp->rest = bpf_htonl(NEXT_HEADER_AT);
	} else if (code == ICMP4_CODE_TOO_BIG) {
		icmp->type = ICMP6_TOO_BIG;
		mtu += NAT64_MORE_BYTES;
		if (mtu < NAT64_LEAST_MTU)
			mtu = NAT64_LEAST_MTU;
		icmp->rest = bpf_htonl(mtu);
	}
	return true;
}

static __always_inline bool nat64_say4(const struct packet *packet,
				       struct nat64_icmp *icmp)
{
	u32 mtu = bpf_ntohl(icmp->rest);
	u8 code = packet->icmp_code;

	icmp->rest = 0;
	icmp->type = ICMP4_UNREACHABLE;
	icmp->code = ICMP4_CODE_HOST;
	switch (packet->icmp_type) {
	case ICMP6_UNREACHABLE:
		if (code == ICMP6_CODE_FORBIDDEN)
			icmp->code = ICMP4_CODE_FORBIDDEN;
		else if (code == ICMP6_CODE_PORT)
			icmp->code = ICMP4_CODE_PORT;
		return true;
	case ICMP6_TOO_BIG:
		icmp->code = ICMP4_CODE_TOO_BIG;
		icmp->rest = bpf_htonl((mtu - NAT64_MORE_BYTES) & 0xffff);
		return true;
	case ICMP6_TIME_EXCEEDED:
		icmp->type = ICMP4_TIME_EXCEEDED;
		icmp->code = code;
		return true;
	default:
		icmp->code = ICMP4_CODE_PROTOCOL;
		return code == ICMP6_CODE_NEXT_HEADER;
	}
}

/* The sum that ICMPv6 has and ICMP has not. */
static __always_inline u32 nat64_pseudo(__be32 *ends, u32 bytes)
{
	__be32 rest[2] = { bpf_htonl(bytes), bpf_htonl(NAT_ICMP) };
	u32 sum = bpf_csum_diff(NULL, 0, ends, 32, 0);

	return bpf_csum_diff(NULL, 0, rest, sizeof(rest), sum);
}

/* Translate the first bytes of the quoted transport. inner_bytes: how long that
 * was. What is said of ends is of those of the answer, which are the same sum.
 */
static __always_inline void nat64_quote_head(struct nat *nat, u16 *head,
					     u32 inner_bytes)
{
	bool is_out = nat->way == FOS1_NAT_OUT;
	u32 at = is_out ? 1 : 0;
	u16 old, new;
	u64 diff;

	if (!nat_is_icmp(nat->key.protocol)) {
		old = head[at];
		head[at] = nat->lead.port;
		diff = bpf_csum_diff(nat->quoted.source, 32, nat->ends, 32, 0);
		diff += (u16)~old + (u64)nat->lead.port;
		if (nat->key.protocol == IPPROTO_UDP && head[3])
			head[3] = nat_resum(head[3], diff) ?: 0xffff;
		return;
	}
	old = head[2];
	head[2] = nat->lead.port;
	diff = (u16)~old + (u64)head[2];
	old = head[0];
	if (is_out) {
		new = nat_asks(&nat->quoted) ? ICMP4_ECHO_REQUEST
					     : ICMP4_ECHO_REPLY;
		diff += (u32)~nat64_pseudo(nat->quoted.source, inner_bytes);
	} else {
		new = nat_asks(&nat->quoted) ? ICMP6_ECHO_REQUEST
					     : ICMP6_ECHO_REPLY;
		diff += nat64_pseudo(nat->ends, inner_bytes);
	}
	head[0] = bpf_htons(new << 8);
	diff += (u16)~old + (u64)head[0];
	head[1] = nat_resum(head[1], diff);
}

static __always_inline void nat64_fill4(struct iphdr *ip, u32 bytes, u8 ttl,
					u8 protocol, __be32 source, __be32 dest)
{
	__builtin_memset(ip, 0, sizeof(*ip));
	*(u8 *)ip = NAT64_PLAIN;
	ip->tot_len = bpf_htons(bytes);
	ip->ttl = ttl;
	ip->protocol = protocol == NAT_ICMP ? IPPROTO_ICMP : protocol;
	ip->saddr = source;
	ip->daddr = dest;
	ip->check =
		nat_fold(bpf_csum_diff(NULL, 0, (__be32 *)ip, sizeof(*ip), 0));
}

static __always_inline void nat64_fill6(struct ipv6hdr *ip, u32 bytes, u8 hops,
					u8 protocol, const __be32 *source,
					const __be32 *dest)
{
	__builtin_memset(ip, 0, sizeof(*ip));
	*(u8 *)ip = 6 << 4;
	ip->payload_len = bpf_htons(bytes);
	ip->nexthdr = protocol;
	ip->hop_limit = hops;
	nat_copy((__be32 *)&ip->saddr, source);
	nat_copy((__be32 *)&ip->daddr, dest);
}

/* Make the packet at hand one of `bytes` behind the link header. */
static __always_inline bool nat64_become(struct __sk_buff *skb,
					 const struct nat *nat, __be16 type,
					 const void *data, u32 bytes)
{
	u32 network = nat->layout.network;

	return !bpf_skb_change_proto(skb, type, 0) &&
	       !bpf_skb_change_tail(skb, network + bytes, 0) &&
	       (network < ETH_HLEN ||
		!bpf_skb_store_bytes(skb, network - sizeof(type), &type,
				     sizeof(type), 0)) &&
	       !bpf_skb_store_bytes(skb, network, data, bytes,
				    BPF_F_RECOMPUTE_CSUM);
}

static __always_inline bool nat64_error_in(struct __sk_buff *skb,
					   struct nat *nat,
					   struct nat64_error6 *made)
{
	const u32 bytes = sizeof(*made) - sizeof(made->outer);
	u32 inner = nat->quoted_bytes - NAT64_IPV4_BYTES, sum;

	if (!nat64_say6(&nat->packet, &made->icmp))
		return false;
	nat64_quote_head(nat, made->head, inner);
	nat64_fill6(&made->inner, inner, nat->quoted.hop_limit,
		    nat->key.protocol, nat->ends + 4, nat->ends);
	nat_embed(nat, nat->packet.source);
	nat64_fill6(&made->outer, bytes, nat->packet.hop_limit, NAT_ICMP,
		    nat->packet.source, nat->ends + 4);
	made->icmp.check = 0;
	nat_copy(nat->ends, nat->packet.source);
	sum = nat64_pseudo(nat->ends, bytes);
	made->icmp.check = nat_fold(
		(u64)sum +
		(u32)bpf_csum_diff(NULL, 0, (__be32 *)&made->icmp, bytes, 0));
	return nat64_become(skb, nat, bpf_htons(ETH_P_IPV6), made,
			    sizeof(*made));
}

static __always_inline bool nat64_error_out(struct __sk_buff *skb,
					    struct nat *nat,
					    struct nat64_error4 *made)
{
	const u32 bytes = sizeof(*made) - sizeof(made->outer);
	u32 inner = nat->quoted_bytes;

	if (nat->packet.hop_limit <= 1 ||
	    !nat64_say4(&nat->packet, &made->icmp))
		return false;
	nat64_quote_head(nat, made->head, inner);
	nat64_fill4(&made->inner, inner + NAT64_IPV4_BYTES,
		    nat->quoted.hop_limit, nat->key.protocol, nat->ends[7],
		    nat->ends[3]);
	nat_take_embedded(nat, nat->packet.dest);
	nat64_fill4(&made->outer, sizeof(*made), nat->packet.hop_limit - 1,
		    IPPROTO_ICMP, nat->ends[3], nat->packet.dest[3]);
	made->icmp.check = 0;
	made->icmp.check = nat_fold(
		bpf_csum_diff(NULL, 0, (__be32 *)&made->icmp, bytes, 0));
	return nat64_become(skb, nat, bpf_htons(ETH_P_IP), made, sizeof(*made));
}

/* Read what an error quotes, which is of its own family. */
static __always_inline bool nat64_read_quote(struct __sk_buff *skb,
					     struct nat *nat)
{
	u32 header = nat->is_v4 ? NAT64_IPV4_BYTES : NAT64_IPV6_BYTES;
	u32 at = nat->layout.payload + (nat->is_v4 ? 2 : 4);
	__be16 bytes = 0;

	if (!nat_read_quote(skb, nat) ||
	    nat->quote.transport - nat->quote.network != header ||
	    nat->quoted.is_fragment || !nat_has_port(nat->key.protocol) ||
	    bpf_skb_load_bytes(skb, at, &bytes, sizeof(bytes)))
		return false;
	nat->quoted_bytes = bpf_ntohs(bytes);
	return true;
}

/* Translate the error at hand; false if it is of no flow. Global, so that the
 * verifier sees it once.
 */
__noinline int nat64_cross_error(struct __sk_buff *skb)
{
	struct nat *nat = nat_here();
	struct nat64_room *room;
	u32 first = 0;
	nat_flow *flow;

	room = bpf_map_lookup_elem(&nat64_errors, &first);
	if (!nat || !room || !nat64_read_quote(skb, nat))
		return false;
	flow = bpf_map_lookup_elem(&nat_flows, &nat->key);
	if (!flow || flow->interface != nat->interface ||
	    nat->now_ns > flow->until_ns)
		return false;
	nat->lead.policy = flow->policy;
	nat->lead.port = flow->port;
	nat_map_far(nat, nat_policy_by_id(flow->policy));
	nat_find_ends(nat, NAT_WORDS_OF(flow->address));
	if (nat->way == FOS1_NAT_IN)
		return !bpf_skb_load_bytes(skb, nat->quote.transport,
					   room->six.head, NAT64_HEAD_BYTES) &&
		       !bpf_skb_load_bytes(skb, nat->layout.transport,
					   &room->six.icmp,
					   sizeof(room->six.icmp)) &&
		       nat64_error_in(skb, nat, &room->six);
	return !bpf_skb_load_bytes(skb, nat->quote.transport, room->four.head,
				   NAT64_HEAD_BYTES) &&
	       !bpf_skb_load_bytes(skb, nat->layout.transport, &room->four.icmp,
				   sizeof(room->four.icmp)) &&
	       nat64_error_out(skb, nat, &room->four);
}

#endif
