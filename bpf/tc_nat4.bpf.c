// SPDX-License-Identifier: GPL-2.0-only
/* EBPFNATPolicy on an outside interface, IPv4: sources on the way out,
 * destinations on the way in (docs/design/nat.md). What should be translated
 * and cannot be is dropped; what is not NAT's goes on untouched.
 */
#include <linux/pkt_cls.h>

#include <fos1/fragment.h>
#include <fos1/nat_flow.h>
#include <fos1/nat_rewrite.h>

FOS1_CONFIG(u32, link_header_bytes,
	    "bytes before the network header: 14, or 0 on a bare IP link");

/* A packet at a hook. */
struct nat_packet {
	struct packet packet;
	struct layout layout;
	struct fos1_nat_flow4_key key;
	u64 now_ns;
};

static __always_inline struct fos1_nat_policy *policy_by_id(u32 id)
{
	return bpf_map_lookup_elem(&nat_policies, &id);
}

/* The policy of a source, 0 if it is not translated. */
static __always_inline u32 policy_of_source(u32 interface, __be32 source)
{
	struct fos1_nat_source4 key = { 64, interface, source };
	u32 *found = bpf_map_lookup_elem(&nat_sources4, &key);

	return found ? *found : 0;
}

/* Give a packet the end that its flow has. */
static __always_inline int translate(struct __sk_buff *skb,
				     struct nat_packet *nat,
				     const struct fos1_nat_flow4 *flow)
{
	bool is_source = nat->key.way == FOS1_NAT_OUT;
	struct nat_change change = {
		.is_source = is_source,
		.protocol = nat->packet.protocol,
		.has_head = nat->layout.payload,
		.old_address = is_source ? nat->key.source : nat->key.dest,
		.new_address = flow->address,
		.old_port = is_source ? nat->key.source_port
				      : nat->key.dest_port,
		.new_port = flow->port,
	};
	struct fos1_nat_stat *stat = nat_stat(flow->policy);

	if (!nat_rewrite4(skb, &nat->layout, &change))
		return TC_ACT_SHOT;
	if (stat) {
		stat->packets++;
		stat->bytes += wire_bytes(skb, nat->layout.payload);
	}
	return TC_ACT_UNSPEC;
}

/* Whether a flow of another version of the rules is still one by these. */
static __always_inline bool still_holds(const struct fos1_nat_flow4_key *key,
					const struct fos1_nat_flow4 *flow,
					const struct fos1_nat_policy *policy)
{
	bool is_out = key->way == FOS1_NAT_OUT;
	__be32 external = is_out ? flow->address : key->dest;
	__be32 inside = is_out ? key->source : flow->address;

	return policy->external[0] == external &&
	       policy_of_source(policy->interface, inside) == flow->policy;
}

static __always_inline void forget(const struct fos1_nat_flow4_key *key,
				   const struct fos1_nat_flow4 *flow)
{
	struct fos1_nat_flow4_key twin = nat_twin_key(key, flow);

	bpf_map_delete_elem(&nat_flows4, &twin);
	bpf_map_delete_elem(&nat_flows4, key);
}

/* Find the packet's flow, living and by these rules, and write down what the
 * packet says of it.
 */
static __always_inline struct fos1_nat_flow4 *
find_flow(const struct __sk_buff *skb, struct nat_packet *nat)
{
	struct fos1_nat_flow4 *flow =
		bpf_map_lookup_elem(&nat_flows4, &nat->key);
	struct fos1_nat_policy *policy;

	if (!flow || flow->interface != skb->ifindex)
		return NULL;
	policy = policy_by_id(flow->policy);
	if (nat->now_ns > flow->until_ns || !policy ||
	    (flow->generation != nat_generation &&
	     !still_holds(&nat->key, flow, policy))) {
		forget(&nat->key, flow);
		return NULL;
	}
	nat_touch(&nat->key, flow, policy, nat->packet.tcp_flags, nat->now_ns);
	return flow;
}

static __always_inline bool has_port(const struct packet *packet)
{
	return packet->protocol == IPPROTO_TCP ||
	       packet->protocol == IPPROTO_UDP ||
	       packet->protocol == IPPROTO_ICMP;
}

/* What asks, and may begin a flow outwards. */
static __always_inline bool may_begin(const struct packet *packet)
{
	if (packet->is_later_fragment || packet->tcp_flags & TCP_RST)
		return false;
	return packet->protocol != IPPROTO_ICMP || is_echo_request(packet);
}

/* Begin a flow by its OUT key, and translate its first packet. */
static __always_inline int begin(struct __sk_buff *skb, struct nat_packet *nat,
				 const struct fos1_nat_flow4_key *out,
				 struct fos1_nat_flow4 *flow,
				 const struct fos1_nat_policy *policy)
{
	struct fos1_nat_flow4 *made;

	flow->interface = skb->ifindex;
	flow->generation = nat_generation;
	flow->until_ns =
		nat->now_ns + (u64)nat_lifetime_s(policy, out->protocol, 0) *
				      FOS1_NS_PER_SECOND;
	if (!nat_insert(out, flow, nat->now_ns)) {
		NAT_COUNT(flow->policy, full);
		return TC_ACT_SHOT;
	}
	NAT_COUNT(flow->policy, begun);
	made = find_flow(skb, nat);
	return made ? translate(skb, nat, made) : TC_ACT_SHOT;
}

static __always_inline int begin_out(struct __sk_buff *skb,
				     struct nat_packet *nat)
{
	u32 id = policy_of_source(skb->ifindex, nat->key.source);
	struct fos1_nat_policy *policy = policy_by_id(id);
	struct fos1_nat_flow4 flow = { .policy = id };
	struct nat_wish wish = {
		.skb = skb,
		.now_ns = nat->now_ns,
		.policy = id,
		.inside = nat->key.source,
		.far = nat->key.dest,
		.far_port = nat->key.dest_port,
		.port = nat->key.source_port,
		.protocol = nat->key.protocol,
	};

	if (!id)
		return TC_ACT_UNSPEC;
	if (!policy || !policy->external[0] || !may_begin(&nat->packet)) {
		NAT_COUNT(id, refused);
		return TC_ACT_SHOT;
	}
	wish.external = policy->external[0];
	flow.address = wish.external;
	flow.port = nat->key.source_port;
	if (has_port(&nat->packet)) {
		if (!nat_allocate(&wish, policy)) {
			NAT_COUNT(id, exhausted);
			return TC_ACT_SHOT;
		}
		flow.port = wish.found;
	}
	return begin(skb, nat, &nat->key, &flow, policy);
}

/* The router's own packet reserves its port, so that no inside host gets it. */
static __always_inline int reserve(struct __sk_buff *skb,
				   struct nat_packet *nat)
{
	struct fos1_nat_end4_key key =
		nat_end_key(FOS1_NAT_IN, nat->key.protocol, nat->key.source,
			    nat->key.source_port, 0);
	u32 id = policy_of_source(skb->ifindex, nat->key.source);
	struct fos1_nat_policy *policy = policy_by_id(id);
	struct nat_wish wish = {
		.skb = skb,
		.now_ns = nat->now_ns,
		.inside = nat->key.source,
		.external = nat->key.source,
		.port = nat->key.source_port,
		.protocol = nat->key.protocol,
		.is_own = true,
	};
	struct fos1_nat_end4 *end;

	if (!policy || policy->external[0] != nat->key.source ||
	    !has_port(&nat->packet))
		return TC_ACT_UNSPEC;
	end = nat_living_end(&key, nat->now_ns);
	if (!end)
		nat_try_port(&wish, wish.port);
	else if (end->address == nat->key.source)
		end->until_ns = nat->now_ns +
				(u64)nat_lifetime_s(policy, key.protocol,
						    FOS1_NAT_SEEN_OUT |
							    FOS1_NAT_SEEN_IN) *
					FOS1_NS_PER_SECOND;
	return TC_ACT_UNSPEC;
}

/* What comes in for an end and is of no flow: the router's sockets', or let in
 * by the filtering (RFC 4787, REQ-8), or nobody's.
 */
static __always_inline int begin_in(struct __sk_buff *skb,
				    struct nat_packet *nat)
{
	struct fos1_nat_flow4_key *in = &nat->key, out;
	struct fos1_nat_end4_key key = nat_end_key(FOS1_NAT_IN, in->protocol,
						   in->dest, in->dest_port, 0);
	struct fos1_nat_end4 *end = nat_living_end(&key, nat->now_ns);
	struct fos1_nat_flow4 flow = {};
	struct fos1_nat_policy *policy;

	if (!end || end->address == in->dest ||
	    nat_has_socket(skb, in->protocol, in->source, in->source_port,
			   in->dest, in->dest_port))
		return TC_ACT_UNSPEC;
	policy = policy_by_id(end->policy);
	if (!policy || policy->filtering != FOS1_NAT_FILTER_NONE ||
	    nat->packet.tcp_flags & TCP_RST) {
		NAT_COUNT(end->policy, filtered);
		return TC_ACT_SHOT;
	}
	flow.policy = end->policy;
	flow.address = end->address;
	flow.port = end->port;
	out = nat_twin_key(in, &flow);
	flow.address = in->dest;
	flow.port = in->dest_port;
	return begin(skb, nat, &out, &flow, policy);
}

/* Read a packet; false if it is not one for NAT. */
static __always_inline bool read(struct __sk_buff *skb, struct nat_packet *nat,
				 u8 way)
{
	struct packet *packet = &nat->packet;

	if (!read_link(skb, link_header_bytes, packet, &nat->layout) ||
	    packet->ether_type != bpf_htons(ETH_P_IP) ||
	    read_network(skb, packet, &nat->layout) != PARSED_IP ||
	    read_transport(skb, packet, &nat->layout, false) != PARSED_IP)
		return false;
	if (packet->is_fragment)
		policy_fragment(packet, &nat->layout);
	nat->now_ns = bpf_ktime_get_ns();
	nat_key(packet, way, &nat->key);
	return true;
}

static __always_inline bool is_quick(const struct fos1_nat_flow4 *flow,
				     const struct __sk_buff *skb,
				     const struct nat_packet *nat)
{
	return flow->generation == nat_generation &&
	       flow->interface == skb->ifindex &&
	       nat->now_ns < flow->fresh_ns &&
	       !(nat->packet.tcp_flags & NAT_NEWS);
}

static __always_inline int run(struct __sk_buff *skb, u8 way)
{
	struct nat_packet nat = {};
	struct fos1_nat_flow4 *flow;

	if (skb->protocol != bpf_htons(ETH_P_IP) || !read(skb, &nat, way))
		return TC_ACT_UNSPEC;
	if (way == FOS1_NAT_OUT && !skb->ingress_ifindex)
		return reserve(skb, &nat);
	flow = bpf_map_lookup_elem(&nat_flows4, &nat.key);
	if (!flow || !is_quick(flow, skb, &nat))
		flow = find_flow(skb, &nat);
	if (flow)
		return translate(skb, &nat, flow);
	return way == FOS1_NAT_OUT ? begin_out(skb, &nat) : begin_in(skb, &nat);
}

SEC("tc")
int fos1_tc_nat4_in(struct __sk_buff *skb)
{
	return run(skb, FOS1_NAT_IN);
}

SEC("tc")
int fos1_tc_nat4_out(struct __sk_buff *skb)
{
	return run(skb, FOS1_NAT_OUT);
}

char LICENSE[] SEC("license") = "GPL";
