/* SPDX-License-Identifier: GPL-2.0-only */
/* What no policy may stop: neighbours finding each other, the router's own
 * addresses and names, its failsafe ports, the operator's own connection.
 */
#ifndef FOS1_VITAL_H
#define FOS1_VITAL_H

#include <fos1/flow.h>
#include <fos1/parse.h>
#include <fos1/types.h>

/* Connections that must live, by the keys of the flow tables. Writer: the
 * daemon, of established ssh connections. Full: the daemon leaves the rest out.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FOS1_OPERATOR_FLOWS);
	__type(key, struct fos1_flow4_key);
	__type(value, u32);
} operator_flows4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FOS1_OPERATOR_FLOWS);
	__type(key, struct fos1_flow6_key);
	__type(value, u32);
} operator_flows6 SEC(".maps");

FOS1_CONFIG(u32, failsafe_ports, "how many of failsafe_port are set");
FOS1_CONFIG(u32, failsafe_port[FOS1_FAILSAFE_PORTS],
	    "ports that policies never close to the router: fos1_lifeline, the "
	    "protocol shifted, and the port in host order");

enum vital_number {
	PORT_DNS = 53,
	PORT_DHCP_SERVER = 67,
	PORT_DHCP_CLIENT = 68,
	PORT_DHCP6_CLIENT = 546,
	PORT_DHCP6_SERVER = 547,
	LISTENER_QUERY = 130,
	LISTENER_DONE = 132,
	ROUTER_SOLICITATION = 133,
	ND_REDIRECT = 137,
	LISTENER_REPORT_2 = 143,
	LISTENER_HOP_LIMIT = 1,
	ND_HOP_LIMIT = 255,
};

/* RFC 4861, 6.1: neighbour discovery has hop limit 255, so no router forwarded
 * it. RFC 3810, 5: multicast listeners have 1, so no router will.
 */
static __always_inline bool is_for_neighbours(const struct packet *packet)
{
	u8 type = packet->icmp_type;

	if (!packet->is_v6 || packet->protocol != IPPROTO_ICMPV6 ||
	    packet->is_later_fragment)
		return false;
	if (type >= ROUTER_SOLICITATION && type <= ND_REDIRECT)
		return packet->hop_limit == ND_HOP_LIMIT;
	if ((type >= LISTENER_QUERY && type <= LISTENER_DONE) ||
	    type == LISTENER_REPORT_2)
		return packet->hop_limit == LISTENER_HOP_LIMIT;
	return false;
}

/* Whether a port is a lifeline: one on which the router is asked (`near`), or,
 * `asks`, one of others that it asks.
 */
static __always_inline bool is_failsafe_port(u32 protocol, u16 near, u16 far,
					     bool asks)
{
	u32 asked = protocol << FOS1_LIFELINE_SHIFT;
	u32 asking = asked | FOS1_LIFELINE_ASKS | far;

	asked |= near;
#pragma unroll
	for (u32 i = 0; i < FOS1_FAILSAFE_PORTS; i++)
		if (i < failsafe_ports &&
		    (failsafe_port[i] == asked ||
		     (asks && failsafe_port[i] == asking)))
			return true;
	return false;
}

static __always_inline bool is_dhcp(u16 near, u16 far)
{
	return (near == PORT_DHCP_CLIENT && far == PORT_DHCP_SERVER) ||
	       (near == PORT_DHCP_SERVER && far == PORT_DHCP_CLIENT) ||
	       (near == PORT_DHCP6_CLIENT && far == PORT_DHCP6_SERVER) ||
	       (near == PORT_DHCP6_SERVER && far == PORT_DHCP6_CLIENT);
}

/* Whether a packet to or from the router itself is one that keeps it alive;
 * `is_answer`: it is asked of a packet that answers it.
 */
static __always_inline bool is_lifeline(const struct packet *packet,
					bool is_out, bool is_answer)
{
	u16 source = bpf_ntohs(packet->source_port);
	u16 dest = bpf_ntohs(packet->dest_port);
	u16 near = is_out ? source : dest, far = is_out ? dest : source;

	if (packet->is_later_fragment)
		return false;
	if (packet->protocol != IPPROTO_UDP && packet->protocol != IPPROTO_TCP)
		return false;
	if (is_failsafe_port(packet->protocol, near, far, is_out != is_answer))
		return true;
	if (far == PORT_DNS && is_out != is_answer)
		return true;
	return packet->protocol == IPPROTO_UDP && is_dhcp(near, far);
}

static __always_inline bool is_operators(const struct packet *packet)
{
	union flow_key key;
	bool a;

	if (!has_flow(packet))
		return false;
	a = source_is_a(packet);
	if (packet->is_v6) {
		flow_key6(packet, a, &key.v6);
		return bpf_map_lookup_elem(&operator_flows6, &key.v6);
	}
	flow_key4(packet, a, &key.v4);
	return bpf_map_lookup_elem(&operator_flows4, &key.v4);
}

#if FOS1_AT_CGROUP

/* Whether a workload shares the router's addresses. */
static __always_inline bool is_routers(struct __sk_buff *skb,
				       const struct packet *packet, bool is_out,
				       u32 place_flags)
{
	(void)packet;
	(void)is_out;
	/* Used, or the compiler would pass anything in its place. */
	asm volatile("" : : "r"(skb));
	return place_flags & FOS1_PLACE_ROUTER;
}

#else

/* Whether the kernel would not forward a packet that came in. */
static __always_inline bool stays_here(struct __sk_buff *skb,
				       const struct packet *packet)
{
	struct bpf_fib_lookup route = {
		.family = packet->is_v6 ? 10 : 2,
		.l4_protocol = packet->protocol,
		.sport = packet->source_port,
		.dport = packet->dest_port,
		.ifindex = skb->ifindex,
	};
	long result;

	__builtin_memcpy(route.ipv6_src, packet->source, 16);
	__builtin_memcpy(route.ipv6_dst, packet->dest, 16);
	result = bpf_fib_lookup(skb, &route, sizeof(route), 0);
	return result >= BPF_FIB_LKUP_RET_BLACKHOLE &&
	       result <= BPF_FIB_LKUP_RET_FWD_DISABLED;
}

/* Whether a packet goes to the router itself, or comes from it: what the
 * kernel forwards has come in somewhere.
 */
static __always_inline bool is_routers(struct __sk_buff *skb,
				       const struct packet *packet, bool is_out,
				       u32 place_flags)
{
	(void)place_flags;
	return is_out ? skb->ingress_ifindex == 0 : stays_here(skb, packet);
}

#endif

enum vital_question {
	VITAL_OUT = 1,
	VITAL_ANSWER = 2,
	VITAL_FLAGS_SHIFT = 8,
};

/* Whether no policy may stop a packet. Global, so that the verifier sees it
 * once. `how`: vital_question, and the flags of the place.
 */
__noinline int policy_is_vital(struct __sk_buff *skb, struct packet *packet,
			       u32 how)
{
	bool is_out = how & VITAL_OUT;

	if (!packet)
		return false;
	if (is_for_neighbours(packet) || is_operators(packet))
		return true;
	return is_lifeline(packet, is_out, how & VITAL_ANSWER) &&
	       is_routers(skb, packet, is_out, how >> VITAL_FLAGS_SHIFT);
}

#endif
