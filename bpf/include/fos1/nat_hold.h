/* SPDX-License-Identifier: GPL-2.0-only */
/* Later fragments that come before their first, which alone tells the ports
 * (RFC 4787, REQ-14): they are kept until it comes. Then each is sent to the
 * hook once more, where its ports are known now.
 */
#ifndef FOS1_NAT_HOLD_H
#define FOS1_NAT_HOLD_H

#include <fos1/nat_begin.h>

enum nat_hold_number {
	/* A power of two. */
	NAT_HELD_BYTES = 2048,
	NAT_HELD_ALL = 256,
	/* Of one datagram. */
	NAT_HELD_PARTS = 8,
};

struct nat_held_key {
	__be32 source[NAT_WORDS];
	__be32 dest[NAT_WORDS];
	__be32 id;
	u32 interface;
	u8 next;
	u8 way;
	u8 part;
	u8 pad;
};

struct nat_held {
	u64 since_ns;
	u32 bytes;
	u32 pad;
	u8 data[NAT_HELD_BYTES];
};

/* Writers: the programs. Full: the least recently used goes, and is lost. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, NAT_HELD_ALL);
	__type(key, struct nat_held_key);
	__type(value, struct nat_held);
} NAT_OF(nat_held) SEC(".maps");

/* Room to make an entry in, or to keep the packet at hand. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct nat_held);
} NAT_OF(nat_holding) SEC(".maps");

static __always_inline void nat_held_key(const struct __sk_buff *skb,
					 const struct nat *nat,
					 struct nat_held_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	nat_copy(key->source, nat->packet.source);
	nat_copy(key->dest, nat->packet.dest);
	key->id = nat->layout.fragment_id;
	key->interface = skb->ifindex;
	key->next = nat->layout.fragment_next;
	key->way = nat->way;
}

/* How many bytes there are, from 1 to NAT_HELD_BYTES, said so that the verifier
 * of Linux 6.1 knows it too.
 */
static __always_inline u32 nat_bounded(u64 bytes)
{
	bytes--;
	asm volatile("%0 &= %1" : "+r"(bytes) : "i"(NAT_HELD_BYTES - 1));
	return bytes + 1;
}

static __always_inline bool nat_fits(u32 bytes)
{
	return bytes - 1 < NAT_HELD_BYTES;
}

/* Copy the packet at hand; NULL if it is too long. */
static __always_inline struct nat_held *nat_copy_packet(struct __sk_buff *skb,
							const struct nat *nat)
{
	u32 first = 0, bytes = skb->len - nat->layout.network;
	struct nat_held *copy;

	copy = bpf_map_lookup_elem(&NAT_OF(nat_holding), &first);
	if (!copy || !nat_fits(bytes) ||
	    bpf_skb_load_bytes(skb, nat->layout.network, copy->data,
			       nat_bounded(bytes)))
		return NULL;
	copy->bytes = bytes;
	copy->since_ns = nat->now_ns;
	return copy;
}

/* Make the packet at hand what was copied, from the network header on. */
static __always_inline bool nat_become(struct __sk_buff *skb, u32 network,
				       const struct nat_held *copy)
{
	u32 bytes = copy->bytes;

	return nat_fits(bytes) &&
	       !bpf_skb_change_tail(skb, network + bytes, 0) &&
	       !bpf_skb_store_bytes(skb, network, copy->data,
				    nat_bounded(bytes), BPF_F_RECOMPUTE_CSUM);
}

/* Keep the packet at hand; false if it is too long, or there are too many. */
__noinline int NAT_OF(nat_hold)(struct __sk_buff *skb)
{
	struct nat *nat = nat_here();
	struct nat_held_key key;
	struct nat_held *held;

	if (!nat)
		return false;
	held = nat_copy_packet(skb, nat);
	if (!held)
		return false;
	nat_held_key(skb, nat, &key);
	for (u32 part = 0; part < NAT_HELD_PARTS; part++) {
		key.part = part;
		if (!bpf_map_update_elem(&NAT_OF(nat_held), &key, held,
					 BPF_NOEXIST))
			return true;
	}
	return false;
}

static __always_inline bool nat_is_recent(const struct nat *nat,
					  const struct nat_held *held)
{
	const u64 life_ns = (u64)FRAGMENT_LIFE_S * FOS1_NS_PER_SECOND;

	return nat->now_ns - held->since_ns <= life_ns;
}

/* Send what was kept for the first fragment at hand, which lends its own packet
 * to each and then has it back; false if that fails. What is sent out passes
 * this hook at once, and leaves its own traces in *nat.
 */
__noinline int NAT_OF(nat_release)(struct __sk_buff *skb)
{
	struct nat_held *held, *own = NULL;
	struct nat *nat = nat_here();
	struct nat_held_key key;
	u32 network, flags;

	if (!nat)
		return false;
	network = nat->layout.network;
	flags = nat->way == FOS1_NAT_IN ? BPF_F_INGRESS : 0;
	nat_held_key(skb, nat, &key);
	for (u32 part = 0; part < NAT_HELD_PARTS; part++) {
		key.part = part;
		held = bpf_map_lookup_elem(&NAT_OF(nat_held), &key);
		if (!held)
			continue;
		if (!own)
			own = nat_copy_packet(skb, nat);
		if (!own)
			return true;
		if (nat_is_recent(nat, held) &&
		    nat_become(skb, network, held)) {
			bpf_map_delete_elem(&NAT_OF(nat_held), &key);
			bpf_clone_redirect(skb, skb->ifindex, flags);
		} else {
			bpf_map_delete_elem(&NAT_OF(nat_held), &key);
		}
	}
	return !own || nat_become(skb, network, own);
}

/* Whether a packet without ports would be NAT's. */
static __always_inline bool nat_may_concern(struct nat *nat)
{
	const nat_flow_key *key = &nat->key;

	if (nat->way == FOS1_NAT_IN)
		return nat_policy_at(nat, NAT_WORDS_OF(key->dest));
	if (!nat->interface || nat->is_own)
		return false;
	return nat_policy_of(nat, nat->interface, NAT_WORDS_OF(key->source)) ||
	       (nat_has_mirrors &&
		nat_any_port(nat, FOS1_NAT_OUT, NAT_WORDS_OF(key->source),
			     key->protocol));
}

/* Keep a later fragment of unknown ports, or send those that wait for a first
 * one; false if the packet at hand goes no further.
 */
static __always_inline bool nat_orders(struct __sk_buff *skb, struct nat *nat)
{
	u32 way = nat->way, interface = nat->interface, outside_interface;

	if (likely(!nat->packet.is_fragment) || nat->parsed != PARSED_IP ||
	    !nat_may_concern(nat))
		return true;
	if (nat->packet.is_later_fragment)
		return !NAT_OF(nat_hold)(skb);
	if (!nat->layout.payload && nat_has_port(nat->key.protocol))
		return true;
	outside_interface = nat->outside_interface;
	if (!NAT_OF(nat_release)(skb) ||
	    !NAT_OF(nat_read_packet)(skb, way, interface))
		return false;
	nat->outside_interface = outside_interface;
	return true;
}

#endif
