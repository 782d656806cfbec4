/* SPDX-License-Identifier: GPL-2.0-only */
/* The headers of most packets, TCP or UDP right behind IPv4 without options or
 * behind IPv6, whole and in place: read where they are, not copied. Says the
 * same as read.h, or nothing.
 */
#ifndef FOS1_PLAIN_H
#define FOS1_PLAIN_H

#include <fos1/read.h>
#include <fos1/types.h>

enum plain_number {
	/* Version 4, no options. */
	IPV4_PLAIN = 0x45,
};

static __always_inline bool take_plain_ports(struct packet *packet,
					     struct layout *layout, void *head,
					     void *end)
{
	struct tcphdr *tcp = head;
	struct udphdr *udp = head;
	const u8 *bytes = head;

	if ((void *)(udp + 1) > end)
		return false;
	take_ports(packet, head);
	layout->payload = layout->transport + sizeof(*udp);
	if (packet->protocol == IPPROTO_UDP)
		return true;
	if (packet->protocol != IPPROTO_TCP || (void *)(tcp + 1) > end)
		return false;
	layout->payload = layout->transport + (bytes[12] >> 4) * 4;
	packet->tcp_flags = bytes[13];
	return true;
}

static __always_inline bool
take_plain4(struct packet *packet, struct layout *layout, void *head, void *end)
{
	const __be16 fragment =
		bpf_htons(IPV4_FRAGMENT_OFFSET | IPV4_MORE_FRAGMENTS);
	struct iphdr *ip = head;

	if ((void *)(ip + 1) > end || *(u8 *)head != IPV4_PLAIN ||
	    ip->frag_off & fragment)
		return false;
	packet->protocol = ip->protocol;
	packet->hop_limit = ip->ttl;
	packet->source[0] = ip->saddr;
	packet->dest[0] = ip->daddr;
	layout->transport = layout->network + sizeof(*ip);
	return take_plain_ports(packet, layout, ip + 1, end);
}

static __always_inline bool
take_plain6(struct packet *packet, struct layout *layout, void *head, void *end)
{
	struct ipv6hdr *ip = head;

	if ((void *)(ip + 1) > end || *(u8 *)head >> 4 != 6)
		return false;
	packet->is_v6 = true;
	packet->protocol = ip->nexthdr;
	packet->hop_limit = ip->hop_limit;
	__builtin_memcpy(packet->source, &ip->saddr, sizeof(packet->source));
	__builtin_memcpy(packet->dest, &ip->daddr, sizeof(packet->dest));
	layout->transport = layout->network + sizeof(*ip);
	return take_plain_ports(packet, layout, ip + 1, end);
}

/* Read an skb's plain headers into what is zero; false if they are not plain.
 * Global, so that the verifier sees it once.
 */
__noinline int policy_read_plain(struct __sk_buff *skb, struct packet *packet,
				 struct layout *layout, u32 link_bytes)
{
	void *data = (void *)(long)skb->data,
	     *end = (void *)(long)skb->data_end;
	u32 at = link_bytes ? ETH_HLEN : 0;

	if (!packet || !layout)
		return false;
	packet->ether_type = skb->protocol;
	layout->network = at;
	if (packet->ether_type == bpf_htons(ETH_P_IP))
		return take_plain4(packet, layout, data + at, end);
	if (packet->ether_type == bpf_htons(ETH_P_IPV6))
		return take_plain6(packet, layout, data + at, end);
	return false;
}

#endif
