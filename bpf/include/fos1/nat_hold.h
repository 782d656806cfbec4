/* SPDX-License-Identifier: GPL-2.0-only */
/* Later fragments that come before their first, which alone tells the ports
 * (RFC 4787, REQ-14): they are kept until it comes. Then it and they are sent
 * to the hook once more, and now are in order.
 */
#ifndef FOS1_NAT_HOLD_H
#define FOS1_NAT_HOLD_H

#include <fos1/nat_begin.h>

enum nat_hold_number {
	NAT_HELD_BYTES = 1536,
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

/* Room to make an entry in. */
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

/* Keep the packet at hand; false if it is too long, or there are too many. */
__noinline int NAT_OF(nat_hold)(struct __sk_buff *skb)
{
	struct nat *nat = nat_here();
	struct nat_held_key key;
	struct nat_held *held;
	u32 first = 0, bytes;

	held = bpf_map_lookup_elem(&NAT_OF(nat_holding), &first);
	if (!nat || !held)
		return false;
	bytes = skb->len - nat->layout.network;
	asm volatile("" : "+r"(bytes));
	if (!bytes || bytes > NAT_HELD_BYTES ||
	    bpf_skb_load_bytes(skb, nat->layout.network, held->data, bytes))
		return false;
	held->bytes = bytes;
	held->since_ns = nat->now_ns;
	nat_held_key(skb, nat, &key);
	for (u32 part = 0; part < NAT_HELD_PARTS; part++) {
		key.part = part;
		if (!bpf_map_update_elem(&NAT_OF(nat_held), &key, held,
					 BPF_NOEXIST))
			return true;
	}
	return false;
}

static __always_inline int nat_send_again(struct __sk_buff *skb, u32 way)
{
	return bpf_clone_redirect(skb, skb->ifindex,
				  way == FOS1_NAT_IN ? BPF_F_INGRESS : 0);
}

/* Send a kept fragment, in place of the packet at hand. */
static __always_inline void nat_send_held(struct __sk_buff *skb,
					  const struct nat *nat,
					  const struct nat_held *held)
{
	const u64 life_ns = (u64)FRAGMENT_LIFE_S * FOS1_NS_PER_SECOND;
	u32 at = nat->layout.network, bytes = held->bytes;

	asm volatile("" : "+r"(bytes));
	if (!bytes || bytes > NAT_HELD_BYTES ||
	    nat->now_ns - held->since_ns > life_ns ||
	    bpf_skb_change_tail(skb, at + bytes, 0) ||
	    bpf_skb_store_bytes(skb, at, held->data, bytes,
				BPF_F_RECOMPUTE_CSUM))
		return;
	nat_send_again(skb, nat->way);
}

/* Send the first fragment at hand and those kept for it; false if there are
 * none. The first goes at the first that is found, before it is overwritten.
 */
__noinline int NAT_OF(nat_release)(struct __sk_buff *skb)
{
	struct nat *nat = nat_here();
	struct nat_held_key key;
	struct nat_held *held;
	u32 sent = 0;

	if (!nat)
		return false;
	nat_held_key(skb, nat, &key);
	for (u32 part = 0; part < NAT_HELD_PARTS; part++) {
		key.part = part;
		held = bpf_map_lookup_elem(&NAT_OF(nat_held), &key);
		if (!held)
			continue;
		if (!sent)
			nat_send_again(skb, nat->way);
		sent = 1;
		nat_send_held(skb, nat, held);
		bpf_map_delete_elem(&NAT_OF(nat_held), &key);
	}
	return sent;
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

/* Put fragments in order; true if the packet at hand goes no further. */
static __always_inline bool nat_orders(struct __sk_buff *skb, struct nat *nat)
{
	if (likely(!nat->packet.is_fragment) || nat->parsed != PARSED_IP ||
	    !nat_may_concern(nat))
		return false;
	if (nat->packet.is_later_fragment)
		return NAT_OF(nat_hold)(skb);
	return (nat->layout.payload || !nat_has_port(nat->key.protocol)) &&
	       NAT_OF(nat_release)(skb);
}

#endif
