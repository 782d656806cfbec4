/* SPDX-License-Identifier: GPL-2.0-only */
/* The headers of an skb, read by copy: so nothing need be linear, nothing is
 * made writable (a clone of TCP's would be copied for it), and cgroup programs,
 * which cannot pull data, read the same way. Same fields, same judgement of
 * what is malformed as parse.h.
 */
#ifndef FOS1_READ_H
#define FOS1_READ_H

#include <fos1/parse.h>
#include <fos1/types.h>

/* Where the headers and what follows them are, in bytes from skb->data. */
struct layout {
	u32 network;
	u32 transport;
	u32 payload;
	__be32 fragment_id;
	u8 fragment_next;
	u8 pad[3];
};

/* Bytes on the wire of an skb whose headers are `headers` long: every segment
 * of a large packet gets its own.
 */
static __always_inline u32 wire_bytes(const struct __sk_buff *skb, u32 headers)
{
	u32 segments = skb->gso_segs;

	if (likely(segments < 2) || headers > skb->len)
		return skb->len;
	return skb->len + (segments - 1) * headers;
}

static __always_inline bool read_vlans(struct __sk_buff *skb, u32 *at,
				       __be16 *ether_type)
{
	struct vlan_tag tag;

#pragma unroll
	for (int i = 0; i < PARSE_VLAN_TAGS; i++) {
		if (!is_vlan(*ether_type))
			return true;
		if (bpf_skb_load_bytes(skb, *at, &tag, sizeof(tag)))
			return false;
		*ether_type = tag.inner_proto;
		*at += sizeof(tag);
	}
	return !is_vlan(*ether_type);
}

static __always_inline bool read_pppoe(struct __sk_buff *skb, u32 *at,
				       __be16 *ether_type)
{
	struct pppoe_header header;

	if (*ether_type != bpf_htons(ETH_P_PPP_SES))
		return true;
	if (bpf_skb_load_bytes(skb, *at, &header, sizeof(header)))
		return false;
	*at += sizeof(header);
	if (header.protocol == bpf_htons(PPP_IPV4))
		*ether_type = bpf_htons(ETH_P_IP);
	else if (header.protocol == bpf_htons(PPP_IPV6))
		*ether_type = bpf_htons(ETH_P_IPV6);
	return true;
}

static __always_inline enum parsed read_ipv4(struct __sk_buff *skb, u32 at,
					     struct packet *packet,
					     struct layout *layout)
{
	u16 fragment;
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) || ip.version != 4 ||
	    ip.ihl < 5)
		return PARSED_MALFORMED;
	fragment = bpf_ntohs(ip.frag_off);
	packet->is_fragment = fragment &
			      (IPV4_FRAGMENT_OFFSET | IPV4_MORE_FRAGMENTS);
	packet->is_later_fragment = fragment & IPV4_FRAGMENT_OFFSET;
	packet->protocol = ip.protocol;
	packet->hop_limit = ip.ttl;
	packet->source[0] = ip.saddr;
	packet->dest[0] = ip.daddr;
	layout->transport = at + ip.ihl * 4;
	layout->fragment_id = ip.id;
	layout->fragment_next = ip.protocol;
	if ((fragment & IPV4_FRAGMENT_OFFSET) == 1 &&
	    ip.protocol == IPPROTO_TCP)
		return PARSED_TINY_FRAGMENT;
	return PARSED_IP;
}

static __always_inline void read_fragment(const struct ipv6_fragment *header,
					  struct packet *packet,
					  struct layout *layout)
{
	u16 fragment = bpf_ntohs(header->offset_flags);

	packet->is_fragment = fragment &
			      (IPV6_FRAGMENT_OFFSET | IPV6_MORE_FRAGMENTS);
	packet->is_later_fragment = fragment & IPV6_FRAGMENT_OFFSET;
	layout->fragment_id = header->id;
	layout->fragment_next = header->next;
}

static __always_inline enum parsed read_extensions(struct __sk_buff *skb,
						   struct packet *packet,
						   struct layout *layout)
{
	struct ipv6_fragment header;

	for (int i = 0; i < PARSE_IPV6_EXTENSIONS; i++) {
		u8 kind = packet->protocol;

		if (!is_ipv6_extension(kind))
			return PARSED_IP;
		/* None is shorter than 8 bytes (RFC 8200, 4). */
		if (bpf_skb_load_bytes(skb, layout->transport, &header,
				       sizeof(header)))
			return PARSED_MALFORMED;
		if (kind == IPPROTO_FRAGMENT)
			read_fragment(&header, packet, layout);
		packet->protocol = header.next;
		layout->transport +=
			ipv6_extension_bytes(kind, header.reserved);
		if (layout->transport > skb->len)
			return PARSED_MALFORMED;
		if (packet->is_later_fragment)
			return PARSED_IP;
	}
	return is_ipv6_extension(packet->protocol) ? PARSED_TOO_DEEP
						   : PARSED_IP;
}

static __always_inline enum parsed read_ipv6(struct __sk_buff *skb, u32 at,
					     struct packet *packet,
					     struct layout *layout)
{
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) || ip.version != 6)
		return PARSED_MALFORMED;
	packet->is_v6 = true;
	packet->protocol = ip.nexthdr;
	packet->hop_limit = ip.hop_limit;
	__builtin_memcpy(packet->source, &ip.saddr, sizeof(packet->source));
	__builtin_memcpy(packet->dest, &ip.daddr, sizeof(packet->dest));
	layout->transport = at + sizeof(ip);
	return read_extensions(skb, packet, layout);
}

static __always_inline void take_ports(struct packet *packet, const void *head)
{
	packet->source_port = ((const __be16 *)head)[0];
	packet->dest_port = ((const __be16 *)head)[1];
}

static __always_inline void take_icmp(struct packet *packet, const u8 *head)
{
	packet->icmp_type = head[0];
	packet->icmp_code = head[1];
	packet->source_port = *(const __be16 *)(head + 4);
	packet->dest_port = packet->source_port;
}

/* Read the ports, or what stands for them. `is_quoted`: of a packet inside an
 * ICMP error, of which 8 bytes of the transport header are enough (RFC 792).
 */
static __always_inline enum parsed read_transport(struct __sk_buff *skb,
						  struct packet *packet,
						  struct layout *layout,
						  bool is_quoted)
{
	enum parsed cut_off = packet->is_fragment ? PARSED_TINY_FRAGMENT
						  : PARSED_MALFORMED;
	union {
		struct tcphdr tcp;
		u8 bytes[sizeof(struct tcphdr)];
	} head;

	if (packet->is_later_fragment)
		return PARSED_IP;
	switch (packet->protocol) {
	case IPPROTO_TCP:
		if (is_quoted)
			break;
		if (bpf_skb_load_bytes(skb, layout->transport, &head,
				       sizeof(head)))
			return cut_off;
		packet->tcp_flags = head.bytes[13];
		layout->payload = layout->transport + (head.bytes[12] >> 4) * 4;
		take_ports(packet, &head);
		return PARSED_IP;
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
	case IPPROTO_DCCP:
	case PROTOCOL_SCTP:
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		if (bpf_skb_load_bytes(skb, layout->transport, &head,
				       ICMP_HEADER_BYTES))
			return cut_off;
		layout->payload = layout->transport + ICMP_HEADER_BYTES;
		take_icmp(packet, head.bytes);
		return PARSED_IP;
	default:
		return PARSED_IP;
	}
	if (bpf_skb_load_bytes(skb, layout->transport, &head,
			       sizeof(struct udphdr)))
		return cut_off;
	layout->payload = layout->transport + sizeof(struct udphdr);
	take_ports(packet, &head);
	return PARSED_IP;
}

static __always_inline enum parsed read_network(struct __sk_buff *skb,
						struct packet *packet,
						struct layout *layout)
{
	if (packet->ether_type == bpf_htons(ETH_P_IP))
		return read_ipv4(skb, layout->network, packet, layout);
	if (packet->ether_type == bpf_htons(ETH_P_IPV6))
		return read_ipv6(skb, layout->network, packet, layout);
	return PARSED_NOT_IP;
}

/* Find the network header; skb->protocol tells what follows the link's. */
static __always_inline bool read_link(struct __sk_buff *skb, u32 link_bytes,
				      struct packet *packet,
				      struct layout *layout)
{
	__be16 ether_type = skb->protocol;
	u32 at = link_bytes;

	if (link_bytes && (!read_vlans(skb, &at, &ether_type) ||
			   !read_pppoe(skb, &at, &ether_type)))
		return false;
	packet->ether_type = ether_type;
	layout->network = at;
	return true;
}

/* An error that quotes the packet that it is about (RFC 792, RFC 4443). */
static __always_inline bool is_icmp_error(const struct packet *packet)
{
	const u32 errors4 = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 11 | 1 << 12;

	if (packet->is_later_fragment)
		return false;
	if (packet->is_v6)
		return packet->protocol == IPPROTO_ICMPV6 &&
		       packet->icmp_type >= 1 && packet->icmp_type <= 4;
	return packet->protocol == IPPROTO_ICMP && packet->icmp_type < 32 &&
	       (errors4 >> packet->icmp_type) & 1;
}

static __always_inline u8 answer_type(const struct packet *packet)
{
	switch (packet->icmp_type) {
	case ICMP4_ECHO_REQUEST:
	case ICMP4_ECHO_REPLY:
		return packet->protocol == IPPROTO_ICMP
			       ? packet->icmp_type ^ ICMP4_ECHO_REQUEST
			       : packet->icmp_type;
	case ICMP6_ECHO_REQUEST:
	case ICMP6_ECHO_REPLY:
		return packet->protocol == IPPROTO_ICMPV6
			       ? packet->icmp_type ^ 1
			       : packet->icmp_type;
	default:
		return packet->icmp_type;
	}
}

static __always_inline void swap_ends(struct packet *packet)
{
	__be16 port = packet->source_port;

	packet->source_port = packet->dest_port;
	packet->dest_port = port;
	packet->icmp_type = answer_type(packet);
#pragma unroll
	for (int i = 0; i < 4; i++) {
		__be32 word = packet->source[i];

		packet->source[i] = packet->dest[i];
		packet->dest[i] = word;
	}
}

#endif
