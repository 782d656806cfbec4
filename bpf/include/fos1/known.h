/* SPDX-License-Identifier: GPL-2.0-only */
/* The short way for what most packets are: one of a connection of TCP or UDP
 * that the rules allowed, whose headers are plain and in place, and which tells
 * nothing new about its flow. It says the same as judge.h would, or nothing;
 * then judge.h is asked.
 */
#ifndef FOS1_KNOWN_H
#define FOS1_KNOWN_H

#include <fos1/judge.h>

/* What a packet shows without parsing: its flow, and who sent it. */
struct glance {
	union flow_key key;
	u32 payload;
	u8 protocol;
	bool is_v6;
	bool source_is_a;
	u8 pad;
};

enum known_number {
	/* Version 4, no options. */
	IPV4_PLAIN = 0x45,
	TCP_NEWS = TCP_SYN | TCP_FIN | TCP_RST,
};

/* Ports of a plain segment or datagram, as they stand; false if it tells news,
 * is cut off, or has none.
 */
static __always_inline bool glance_ports(struct glance *glance, u8 protocol,
					 void *head, void *end, u32 at,
					 __be16 *source, __be16 *dest)
{
	struct tcphdr *tcp = head;
	struct udphdr *udp = head;
	const u8 *bytes = head;

	if ((void *)(udp + 1) > end)
		return false;
	*source = udp->source;
	*dest = udp->dest;
	glance->payload = at + sizeof(*udp);
	if (protocol == IPPROTO_UDP)
		return true;
	if (protocol != IPPROTO_TCP || (void *)(tcp + 1) > end)
		return false;
	glance->payload = at + (bytes[12] >> 4) * 4;
	return !(bytes[13] & TCP_NEWS);
}

static __always_inline bool glance4(struct glance *glance, void *head,
				    void *end, u32 at)
{
	const __be16 fragment =
		bpf_htons(IPV4_FRAGMENT_OFFSET | IPV4_MORE_FRAGMENTS);
	struct fos1_flow4_key *key = &glance->key.v4;
	__be16 source_port, dest_port;
	struct iphdr *ip = head;
	bool a;

	if ((void *)(ip + 1) > end || *(u8 *)head != IPV4_PLAIN ||
	    ip->frag_off & fragment ||
	    !glance_ports(glance, ip->protocol, ip + 1, end, at + sizeof(*ip),
			  &source_port, &dest_port))
		return false;
	a = ip->saddr == ip->daddr
		    ? bpf_ntohs(source_port) <= bpf_ntohs(dest_port)
		    : bpf_ntohl(ip->saddr) < bpf_ntohl(ip->daddr);
	key->address_a = a ? ip->saddr : ip->daddr;
	key->address_b = a ? ip->daddr : ip->saddr;
	key->port_a = a ? source_port : dest_port;
	key->port_b = a ? dest_port : source_port;
	key->protocol = ip->protocol;
	__builtin_memset(key->pad, 0, sizeof(key->pad));
	glance->source_is_a = a;
	return true;
}

static __always_inline bool glance6(struct glance *glance, void *head,
				    void *end, u32 at)
{
	struct fos1_flow6_key *key = &glance->key.v6;
	__be16 source_port, dest_port;
	struct ipv6hdr *ip = head;
	__be32 *source, *dest;
	u64 from, to;
	bool a;

	if ((void *)(ip + 1) > end || *(u8 *)head >> 4 != 6 ||
	    !glance_ports(glance, ip->nexthdr, ip + 1, end, at + sizeof(*ip),
			  &source_port, &dest_port))
		return false;
	source = ip->saddr.in6_u.u6_addr32;
	dest = ip->daddr.in6_u.u6_addr32;
	from = half(source);
	to = half(dest);
	if (from == to) {
		from = half(source + 2);
		to = half(dest + 2);
	}
	a = from == to ? bpf_ntohs(source_port) <= bpf_ntohs(dest_port)
		       : from < to;
	__builtin_memcpy(a ? key->address_a : key->address_b, source, 16);
	__builtin_memcpy(a ? key->address_b : key->address_a, dest, 16);
	key->port_a = a ? source_port : dest_port;
	key->port_b = a ? dest_port : source_port;
	key->protocol = ip->nexthdr;
	__builtin_memset(key->pad, 0, sizeof(key->pad));
	glance->source_is_a = a;
	glance->is_v6 = true;
	return true;
}

/* Look at an skb whose network header is `at` bytes from its start; false if
 * its headers are not plain. Global, so that the verifier sees it once.
 */
__noinline int policy_glance(struct __sk_buff *skb, struct glance *glance,
			     u32 link_bytes)
{
	void *data = (void *)(long)skb->data,
	     *end = (void *)(long)skb->data_end;
	u32 at = link_bytes ? ETH_HLEN : 0;

	if (!glance)
		return false;
	glance->is_v6 = false;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return glance4(glance, data + at, end, at);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return glance6(glance, data + at, end, at);
	return false;
}

/* What rules said of a flow's beginning at a stage, if by these rules there. */
static __always_inline bool remembered(const struct fos1_flow *flow, u32 stage,
				       u32 place, u32 version, u32 *rules)
{
	stage &= FOS1_STAGES - 1;
	*rules = flow->judged_rules[stage];
	return flow->judged_place[stage] == place &&
	       flow->judged_version[stage] == version;
}

/* The rules that a packet of a living flow passes by; false if that has to be
 * found out, or written down.
 */
static __always_inline bool passes_by(const struct fos1_flow *flow,
				      const struct glance *glance,
				      const struct hook *hook, u32 *rules)
{
	const u32 both = FOS1_FLOW_FROM_A | FOS1_FLOW_FROM_B;
	u32 bits = flow->bits, way = hook->way;
	u32 origin = glance->source_is_a ? FOS1_FLOW_ALLOWED_A
					 : FOS1_FLOW_ALLOWED_B;

	if ((bits & both) != both || !(bits & FLOW_ALLOWED) ||
	    bpf_ktime_get_coarse_ns() - flow->seen_ns > FLOW_REFRESH_NS)
		return false;
	if (bits & origin)
		return remembered(flow, stage_of(way), hook->key->id,
				  hook->version, rules);
	if (!remembered(flow, stage_of(!way), hook->key->id,
			version_at(hook->place, !way), rules) ||
	    !is_stateful(*rules))
		return false;
	*rules = BOTH_STATEFUL;
	return true;
}

/* Count what a packet passes by; false if one of the rules sets a limit. */
static __always_inline bool count_known(const struct hook *hook, u32 rules,
					u32 bytes)
{
	u32 network = slot_by_number(hook->way, rules), container = 0;

	if (FOS1_AT_CGROUP)
		container = slot_by_number(FOS1_CHAIN_RECEIVE + hook->way,
					   rules >> FOS1_JUDGED_SHIFT);
	if (unlikely((network | container) & FOS1_SLOT_LIMITED))
		return false;
	if (network)
		count_rule(network, bytes);
	if (container)
		count_rule(container, bytes);
	return true;
}

/* Find a settled flow. The two look-ups stay apart, since the kernel calls one
 * that it knows the map of directly.
 */
static __always_inline struct fos1_flow *find_settled(struct glance *glance)
{
	struct fos1_flow *flow;

	if (glance->is_v6) {
		flow = bpf_map_lookup_elem(&flows6, &glance->key.v6);
		asm volatile("" : "+r"(flow));
		return flow;
	}
	return bpf_map_lookup_elem(&flows4, &glance->key.v4);
}

static __always_inline bool is_known(const struct hook *hook, u32 link_bytes)
{
	const u32 judges = FOS1_PLACE_POLICED | FOS1_PLACE_STATEFUL;
	struct glance glance = {};
	struct fos1_flow *flow;
	u32 rules = 0;

	if ((hook->flags & FOS1_PLACE_EFFECTS) || !(hook->flags & judges) ||
	    !policy_glance(hook->skb, &glance, link_bytes))
		return false;
	flow = find_settled(&glance);
	if (!flow || !passes_by(flow, &glance, hook, &rules) ||
	    !count_known(hook, rules, wire_bytes(hook->skb, glance.payload)))
		return false;
	count(FOS1_PASS_ESTABLISHED, hook->skb->len);
	return true;
}

/* Whether a packet passes as one of many of its flow; false says nothing.
 * Global, so that the verifier sees it once, and what follows once too.
 */
__noinline int policy_is_known(struct __sk_buff *skb, struct fos1_place *place,
			       u32 place_id, u32 way, u32 link_bytes)
{
	struct fos1_place_key key = { .id = place_id };
	struct hook hook = { .skb = skb, .key = &key, .place = place };

	if (!place)
		return false;
	/* Opaque, so that the verifier sees the bound wherever it is used. */
	asm volatile("%0 &= 1" : "+r"(way));
	hook.way = way;
	hook.flags = place_flags(place, way);
	hook.version = version_at(place, way);
	return is_known(&hook, link_bytes);
}

#endif
