/* SPDX-License-Identifier: GPL-2.0-only */
/* One cursor over a frame: Ethernet, up to two VLAN tags, PPPoE, IPv4 with
 * options, IPv6 with extension headers, then the ports.
 *
 * Every header is checked against the end of the frame right before it is
 * read. Parsing fails closed: what claims to be IP and cannot be read to its
 * source and protocol is malformed, so that no crafted frame slips past a
 * blacklist. What is not IP is told apart (ARP and the like must pass).
 */
#ifndef FOS1_PARSE_H
#define FOS1_PARSE_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <fos1/types.h>

enum parse_limit {
	PARSE_VLAN_TAGS = 2,
	PARSE_IPV6_EXTENSIONS = 8,
};

/* From the RFCs, where the linux/ headers have no name that BPF can include. */
enum parse_number {
	ICMP_HEADER_BYTES = 8,
	ICMP4_ECHO_REPLY = 0,
	ICMP4_ECHO_REQUEST = 8,
	ICMP6_ECHO_REQUEST = 128,
	ICMP6_ECHO_REPLY = 129,
	IPV4_FRAGMENT_OFFSET = 0x1fff,
	IPV4_MORE_FRAGMENTS = 0x2000,
	IPV6_FRAGMENT_OFFSET = 0xfff8,
	IPV6_MORE_FRAGMENTS = 0x0001,
	PPP_IPV4 = 0x0021,
	PPP_IPV6 = 0x0057,
	PROTOCOL_SCTP = 132,
	PROTOCOL_MOBILITY = 135,
	PROTOCOL_HIP = 139,
	PROTOCOL_SHIM6 = 140,
};

enum parsed {
	PARSED_IP,
	PARSED_NOT_IP,
	PARSED_MALFORMED,
	PARSED_TINY_FRAGMENT,
	PARSED_TOO_DEEP,
};

struct vlan_tag {
	__be16 tci;
	__be16 inner_proto;
};

struct pppoe_header {
	u8 version_type;
	u8 code;
	__be16 session;
	__be16 length;
	__be16 protocol;
};

struct ipv6_extension {
	u8 next;
	u8 length;
};

struct ipv6_fragment {
	u8 next;
	u8 reserved;
	__be16 offset_flags;
	__be32 id;
};

/* tcp_flags: the thirteenth byte of the TCP header. */
enum tcp_flag {
	TCP_FIN = 0x01,
	TCP_SYN = 0x02,
	TCP_RST = 0x04,
	TCP_ACK = 0x10,
};

/* What a program knows of a packet. Of a later fragment there are no ports. */
struct packet {
	void *start;
	void *cursor;
	void *end;
	__be16 ether_type;
	u8 protocol;
	u8 hop_limit;
	bool is_v6;
	bool is_fragment;
	bool is_later_fragment;
	u8 tcp_flags;
	u8 icmp_type;
	u8 icmp_code;
	__be16 source_port;
	__be16 dest_port;
	__be32 fragment_id;
	__be32 source[4];
	__be32 dest[4];
};

/* Take a header of the given type off the cursor, or NULL if it is cut off. */
#define TAKE(packet, type)                                 \
	({                                                 \
		type *_header = (packet)->cursor;          \
		if ((void *)(_header + 1) > (packet)->end) \
			_header = NULL;                    \
		else                                       \
			(packet)->cursor = _header + 1;    \
		_header;                                   \
	})

/* Make the verifier forget which way the cursor got here, so that what follows
 * is checked once and not once for every mix of headers before it: the
 * difference of two packet pointers is a number that it does not know. The
 * next difference is taken from here on.
 */
static __always_inline void settle_cursor(struct packet *packet)
{
	u64 offset = packet->cursor - packet->start;

	asm volatile("%0 &= 0xfff" : "+r"(offset));
	packet->start += offset;
	packet->cursor = packet->start;
}

static __always_inline bool is_vlan(__be16 ether_type)
{
	return ether_type == bpf_htons(ETH_P_8021Q) ||
	       ether_type == bpf_htons(ETH_P_8021AD);
}

static __always_inline enum parsed parse_vlans(struct packet *packet)
{
#pragma unroll
	for (int i = 0; i < PARSE_VLAN_TAGS; i++) {
		struct vlan_tag *tag;

		if (!is_vlan(packet->ether_type))
			return PARSED_IP;
		tag = TAKE(packet, struct vlan_tag);
		if (!tag)
			return PARSED_MALFORMED;
		packet->ether_type = tag->inner_proto;
	}
	return is_vlan(packet->ether_type) ? PARSED_TOO_DEEP : PARSED_IP;
}

static __always_inline enum parsed parse_pppoe(struct packet *packet)
{
	struct pppoe_header *header;

	if (packet->ether_type != bpf_htons(ETH_P_PPP_SES))
		return PARSED_IP;
	header = TAKE(packet, struct pppoe_header);
	if (!header)
		return PARSED_MALFORMED;
	if (header->protocol == bpf_htons(PPP_IPV4))
		packet->ether_type = bpf_htons(ETH_P_IP);
	else if (header->protocol == bpf_htons(PPP_IPV6))
		packet->ether_type = bpf_htons(ETH_P_IPV6);
	return PARSED_IP;
}

/* Find the network header. On a bare IP link its first nibble is the version. */
static __always_inline enum parsed parse_link(struct packet *packet,
					      u32 link_header_bytes)
{
	struct ethhdr *ethernet;
	enum parsed result;

	if (!link_header_bytes) {
		u8 *first = packet->cursor;

		if ((void *)(first + 1) > packet->end)
			return PARSED_MALFORMED;
		packet->ether_type = (*first >> 4) == 6 ? bpf_htons(ETH_P_IPV6)
							: bpf_htons(ETH_P_IP);
		return PARSED_IP;
	}
	ethernet = TAKE(packet, struct ethhdr);
	if (!ethernet)
		return PARSED_MALFORMED;
	packet->ether_type = ethernet->h_proto;
	result = parse_vlans(packet);
	if (result == PARSED_IP)
		result = parse_pppoe(packet);
	settle_cursor(packet);
	return result;
}

static __always_inline enum parsed parse_ipv4(struct packet *packet)
{
	struct iphdr *ip = packet->cursor;
	u32 header_bytes;
	u16 fragment;

	if ((void *)(ip + 1) > packet->end || ip->version != 4)
		return PARSED_MALFORMED;
	header_bytes = ip->ihl * 4;
	if (header_bytes < sizeof(*ip) ||
	    packet->cursor + header_bytes > packet->end)
		return PARSED_MALFORMED;
	fragment = bpf_ntohs(ip->frag_off);
	packet->is_v6 = false;
	packet->is_fragment = fragment &
			      (IPV4_FRAGMENT_OFFSET | IPV4_MORE_FRAGMENTS);
	packet->is_later_fragment = fragment & IPV4_FRAGMENT_OFFSET;
	packet->fragment_id = ip->id;
	packet->protocol = ip->protocol;
	packet->hop_limit = ip->ttl;
	packet->source[0] = ip->saddr;
	packet->dest[0] = ip->daddr;
	packet->cursor += header_bytes;
	settle_cursor(packet);
	/* RFC 1858, RFC 3128: a second fragment that overlaps the ports. */
	if ((fragment & IPV4_FRAGMENT_OFFSET) == 1 &&
	    packet->protocol == IPPROTO_TCP)
		return PARSED_TINY_FRAGMENT;
	return PARSED_IP;
}

/* A bit per protocol number below 64, so that one test stands for many. */
static __always_inline bool is_ipv6_extension(u8 next)
{
	const u64 low = 1ULL << IPPROTO_HOPOPTS | 1ULL << IPPROTO_ROUTING |
			1ULL << IPPROTO_DSTOPTS | 1ULL << IPPROTO_AH |
			1ULL << IPPROTO_FRAGMENT;

	if (next < 64)
		return (low >> next) & 1;
	return next == PROTOCOL_MOBILITY || next == PROTOCOL_HIP ||
	       next == PROTOCOL_SHIM6;
}

static __always_inline u32 ipv6_extension_bytes(u8 kind, u8 length)
{
	if (kind == IPPROTO_FRAGMENT)
		return 8;
	if (kind == IPPROTO_AH)
		return ((u32)length + 2) * 4;
	return ((u32)length + 1) * 8;
}

static __always_inline bool parse_ipv6_fragment(struct packet *packet)
{
	struct ipv6_fragment *header = packet->cursor;
	u16 fragment;

	if ((void *)(header + 1) > packet->end)
		return false;
	fragment = bpf_ntohs(header->offset_flags);
	/* RFC 6946: an atomic fragment is a whole packet. */
	packet->is_fragment = fragment &
			      (IPV6_FRAGMENT_OFFSET | IPV6_MORE_FRAGMENTS);
	packet->is_later_fragment = fragment & IPV6_FRAGMENT_OFFSET;
	packet->fragment_id = header->id;
	return true;
}

static __always_inline enum parsed parse_ipv6_extensions(struct packet *packet)
{
	for (int i = 0; i < PARSE_IPV6_EXTENSIONS; i++) {
		struct ipv6_extension *header = packet->cursor;
		u32 bytes;

		if (!is_ipv6_extension(packet->protocol))
			return PARSED_IP;
		if ((void *)(header + 1) > packet->end)
			return PARSED_MALFORMED;
		bytes = ipv6_extension_bytes(packet->protocol, header->length);
		if (packet->cursor + bytes > packet->end)
			return PARSED_MALFORMED;
		if (packet->protocol == IPPROTO_FRAGMENT &&
		    !parse_ipv6_fragment(packet))
			return PARSED_MALFORMED;
		packet->protocol = header->next;
		packet->cursor += bytes;
		settle_cursor(packet);
		if (packet->is_later_fragment)
			return PARSED_IP;
	}
	return is_ipv6_extension(packet->protocol) ? PARSED_TOO_DEEP
						   : PARSED_IP;
}

static __always_inline enum parsed parse_ipv6(struct packet *packet)
{
	struct ipv6hdr *ip = TAKE(packet, struct ipv6hdr);

	if (!ip || ip->version != 6)
		return PARSED_MALFORMED;
	packet->is_v6 = true;
	packet->protocol = ip->nexthdr;
	packet->hop_limit = ip->hop_limit;
	__builtin_memcpy(packet->source, &ip->saddr, sizeof(packet->source));
	__builtin_memcpy(packet->dest, &ip->daddr, sizeof(packet->dest));
	return PARSED_IP;
}

/* Read the ports, or what stands for them (the ICMP echo identifier at both
 * ends). A first fragment that does not hold them hides them on purpose.
 */
static __always_inline enum parsed parse_transport(struct packet *packet)
{
	enum parsed cut_off = packet->is_fragment ? PARSED_TINY_FRAGMENT
						  : PARSED_MALFORMED;
	void *at = packet->cursor, *end = packet->end;

	if (packet->is_later_fragment)
		return PARSED_IP;
	switch (packet->protocol) {
	case IPPROTO_TCP:
		if (at + sizeof(struct tcphdr) > end)
			return cut_off;
		packet->tcp_flags = ((u8 *)at)[13];
		break;
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
	case IPPROTO_DCCP:
	case PROTOCOL_SCTP:
		if (at + sizeof(struct udphdr) > end)
			return cut_off;
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		if (at + ICMP_HEADER_BYTES > end)
			return cut_off;
		packet->icmp_type = *(u8 *)at;
		packet->icmp_code = ((u8 *)at)[1];
		packet->source_port = ((__be16 *)at)[2];
		packet->dest_port = packet->source_port;
		return PARSED_IP;
	default:
		return PARSED_IP;
	}
	packet->source_port = ((__be16 *)at)[0];
	packet->dest_port = ((__be16 *)at)[1];
	return PARSED_IP;
}

/* Parse down to the addresses; start and end must be set, the rest zero. */
static __always_inline enum parsed parse_network(struct packet *packet,
						 u32 link_header_bytes)
{
	enum parsed result;

	packet->cursor = packet->start;
	result = parse_link(packet, link_header_bytes);
	if (result != PARSED_IP)
		return result;
	if (packet->ether_type == bpf_htons(ETH_P_IP))
		return parse_ipv4(packet);
	if (packet->ether_type == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(packet);
	return PARSED_NOT_IP;
}

/* Parse from the addresses down to the ports. */
static __always_inline enum parsed parse_rest(struct packet *packet)
{
	enum parsed result = PARSED_IP;

	if (packet->is_v6)
		result = parse_ipv6_extensions(packet);
	return result == PARSED_IP ? parse_transport(packet) : result;
}

#endif
