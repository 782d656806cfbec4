/* SPDX-License-Identifier: GPL-2.0-only */
/* A packet at a hook of NAT, kept in memory of the CPU and not on the stack: no
 * other packet is at a hook of this CPU meanwhile, and the verifier need not
 * follow its fields. So functions that ask for it are global: seen once.
 */
#ifndef FOS1_NAT_PACKET_H
#define FOS1_NAT_PACKET_H

#include <fos1/fragment.h>
#include <fos1/nat_tables.h>
#include <fos1/read.h>

enum nat_packet_number {
	ICMP4_TIMESTAMP_REQUEST = 13,
	ICMP4_TIMESTAMP_REPLY = 14,
};

/* A port looked for: for which inside endpoint, at which outside address. */
struct nat_wish {
	__be32 inside[NAT_WORDS];
	__be32 external[NAT_WORDS];
	__be32 far[NAT_WORDS];
	__be16 far_port;
	__be16 port;
	__be16 found;
	u8 protocol;
	bool is_own;
	u32 policy;
	u32 first;
	u32 count;
	u32 at;
};

/* Where an endpoint leads by the rules or by its end, and whose it is. */
struct nat_lead {
	__be32 address[NAT_WORDS];
	__be16 port;
	u16 bits;
	u32 policy;
};

/* What becomes of one end of a packet. */
struct nat_change {
	__be32 old_address[NAT_WORDS];
	__be32 new_address[NAT_WORDS];
	__be16 old_port;
	__be16 new_port;
	bool is_source;
	bool has_port;
	u8 protocol;
	u8 pad;
};

/* way: which end this hook changes. interface: the outside one, 0 at hooks of
 * inside interfaces, where hairpins are turned by the rules of an outside one.
 * crowded: a policy for which there was no room. The rest is room to work in.
 */
struct nat {
	u64 now_ns;
	u32 way;
	u32 interface;
	u32 outside_interface;
	u32 is_own;
	u32 crowded;
	enum parsed parsed;
	nat_flow_key key;
	nat_flow_key out;
	nat_flow_key in;
	nat_flow_key twin;
	nat_flow_key peer;
	nat_flow flow;
	nat_flow back;
	nat_end_key end_key;
	nat_end end;
	nat_source_key source;
	nat_port_key port_key;
	nat_member member;
	nat_outside outside;
	struct nat_wish wish;
	struct nat_lead lead;
	struct nat_change change;
	struct packet packet;
	struct layout layout;
	struct packet quoted;
	struct layout quote;
#ifdef NAT_64
	__be32 prefix[4];
	__be32 external[4];
	__be32 ends[8];
	u32 prefix_bytes;
	u32 is_v4;
	u32 traffic_class;
	u32 quoted_bytes;
#endif
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct nat);
} NAT_SCRATCH SEC(".maps");

/* The packet at hand. */
static __always_inline struct nat *nat_here(void)
{
	u32 first = 0;

	return bpf_map_lookup_elem(&NAT_SCRATCH, &first);
}

#ifdef NAT_64
#include <fos1/nat64_side.h>
#else
#include <fos1/nat_side.h>
#endif

static __always_inline bool nat_is_message(const struct packet *packet,
					   u8 protocol, u8 type)
{
	return packet->protocol == protocol && packet->icmp_type == type;
}

/* What asks has the identifier for a port, what answers has none: so one from
 * outside that asks is never taken for an answer (RFC 5508, REQ-1).
 */
static __always_inline bool nat_asks(const struct packet *packet)
{
	return nat_is_message(packet, IPPROTO_ICMP, ICMP4_ECHO_REQUEST) ||
	       nat_is_message(packet, IPPROTO_ICMP, ICMP4_TIMESTAMP_REQUEST) ||
	       nat_is_message(packet, IPPROTO_ICMPV6, ICMP6_ECHO_REQUEST);
}

static __always_inline bool nat_answers(const struct packet *packet)
{
	return nat_is_message(packet, IPPROTO_ICMP, ICMP4_ECHO_REPLY) ||
	       nat_is_message(packet, IPPROTO_ICMP, ICMP4_TIMESTAMP_REPLY) ||
	       nat_is_message(packet, IPPROTO_ICMPV6, ICMP6_ECHO_REPLY);
}

static __always_inline bool nat_is_icmp(u8 protocol)
{
	return protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6;
}

/* Whether an endpoint of the protocol is more than its address. */
static __always_inline bool nat_has_port(u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP ||
	       protocol == NAT_ICMP;
}

/* A packet's ends. */
static __always_inline void nat_fill_key(nat_flow_key *key,
					 const struct packet *packet, u8 way)
{
	nat_copy(NAT_WORDS_OF(key->source), packet->source);
	nat_copy(NAT_WORDS_OF(key->dest), packet->dest);
	key->source_port = packet->source_port;
	key->dest_port = packet->dest_port;
	key->protocol = packet->protocol;
	key->way = way;
	key->pad = 0;
	if (!nat_is_icmp(packet->protocol))
		return;
	key->protocol = NAT_ICMP;
	if (!nat_asks(packet))
		key->source_port = 0;
	if (!nat_answers(packet))
		key->dest_port = 0;
}

FOS1_CONFIG(u32, link_header_bytes,
	    "bytes before the network header: 14, or 0 on a bare IP link");

/* Read a packet at a hook; what came of it is in nat->parsed. Of a later
 * fragment, whose first was not seen, only the addresses are known.
 */
static __always_inline void nat_read(struct __sk_buff *skb, struct nat *nat,
				     u32 link_bytes)
{
	struct packet *packet = &nat->packet;
	struct layout *layout = &nat->layout;

	__builtin_memset(packet, 0, sizeof(*packet));
	__builtin_memset(layout, 0, sizeof(*layout));
	nat->parsed = PARSED_NOT_IP;
	nat->crowded = 0;
	nat->now_ns = bpf_ktime_get_ns();
	if (!read_link(skb, link_bytes, packet, layout) ||
	    !nat_is_type(packet->ether_type))
		return;
	nat->parsed = read_network(skb, packet, layout);
	if (nat->parsed == PARSED_IP)
		nat->parsed = read_transport(skb, packet, layout, false);
	if (nat->parsed == PARSED_IP && packet->is_fragment)
		policy_fragment(packet, layout);
	nat_map_packet(nat, packet);
	nat_fill_key(&nat->key, packet, nat->way);
}

/* Read the packet at a hook, so that it is the one at hand. Global, so that the
 * verifier sees it once.
 */
__noinline int NAT_OF(nat_read_packet)(struct __sk_buff *skb, u32 way,
				       u32 interface)
{
	struct nat *nat = nat_here();

	if (!nat)
		return false;
	nat->way = way & 1;
	nat->interface = interface;
	nat->outside_interface = interface;
	nat->is_own = nat->way == FOS1_NAT_OUT && !skb->ingress_ifindex;
	nat_read(skb, nat, link_header_bytes);
	return true;
}

/* Whether a message of ICMP is one for NAT; those between neighbours are not. */
static __always_inline bool nat_concerns(const struct packet *packet)
{
	return !nat_is_icmp(packet->protocol) || nat_asks(packet) ||
	       nat_answers(packet);
}

#endif
