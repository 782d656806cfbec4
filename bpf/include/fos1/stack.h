/* SPDX-License-Identifier: GPL-2.0-only */
/* What the kernel's stack would do with a frame besides forwarding it, read
 * from its own structures at each packet: so nothing that others set up, at
 * whatever time, is passed by, and no daemon need notice it.
 *
 * Needs the kernel's BTF and bpf_cast_to_kern_ctx() (Linux 6.4 and later).
 */
#ifndef FOS1_STACK_H
#define FOS1_STACK_H

#include <linux/ip.h>
#include <bpf/bpf_core_read.h>

#include <fos1/types.h>

/* The kernel's enums nf_inet_hooks, xfrm_policy_dir, and the setting of
 * rp_filter(5) that asks for the way back.
 */
enum stack_number {
	STACK_PREROUTING = 0,
	STACK_FORWARD = 2,
	STACK_POSTROUTING = 4,
	STACK_HOOKS = 5,
	STACK_XFRM_OUT = 1,
	STACK_XFRM_FORWARD = 2,
	STACK_XFRM_BLOCKS = 1,
	STACK_STRICT = 1,
	ADDRESS_BYTES = 6,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), \
			     apply_to = record)

struct nf_hook_entries;
struct vlan_info;

struct netns_nf {
	struct nf_hook_entries *hooks_ipv4[STACK_HOOKS];
	struct nf_hook_entries *hooks_ipv6[STACK_HOOKS];
};

struct netns_xfrm {
	unsigned int policy_count[6];
	u8 policy_default[3];
};

struct ipv4_devconf {
	int data[IPV4_DEVCONF_RP_FILTER];
};

struct netns_ipv4 {
	struct ipv4_devconf *devconf_all;
};

struct net {
	struct netns_nf nf;
	struct netns_xfrm xfrm;
	struct netns_ipv4 ipv4;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct in_device {
	struct ipv4_devconf cnf;
};

struct net_device {
	possible_net_t nd_net;
	u8 dev_addr_shadow[ADDRESS_BYTES];
	struct in_device *ip_ptr;
	void *rx_handler;
	struct nf_hook_entries *nf_hooks_ingress;
	struct vlan_info *vlan_info;
};

struct xdp_rxq_info {
	struct net_device *dev;
};

struct xdp_buff {
	struct xdp_rxq_info *rxq;
};

#pragma clang attribute pop

extern void *bpf_cast_to_kern_ctx(void *context) __ksym;

/* The device that a frame came in by. */
static __always_inline struct net_device *device_of(struct xdp_md *ctx)
{
	struct xdp_buff *kernels = bpf_cast_to_kern_ctx(ctx);

	return kernels->rxq->dev;
}

/* Whether a frame is addressed to the device. The kernel's copy is read, since
 * the address itself may lie elsewhere.
 */
static __always_inline bool is_devices_address(const struct net_device *device,
					       const u8 *address)
{
	u32 at = bpf_core_field_offset(struct net_device, dev_addr_shadow);
	const u8 *own = (const void *)device + at;
	u8 differs = 0;

	/* Opaque, or the loads become ones of the whole field. */
	asm volatile("" : "+r"(own));
#pragma unroll
	for (int i = 0; i < ADDRESS_BYTES; i++)
		differs |= own[i] ^ address[i];
	return !differs;
}

/* Whether somebody takes frames off the device before they are routed: a
 * bridge, a bond, macvlan; nftables' ingress hook; VLANs, of which the device
 * may have taken the tag off already.
 */
static __always_inline bool takes_frames(struct net_device *device)
{
	return device->rx_handler ||
	       (bpf_core_field_exists(device->nf_hooks_ingress) &&
		device->nf_hooks_ingress) ||
	       (bpf_core_field_exists(device->vlan_info) && device->vlan_info);
}

/* Whether netfilter has a say in what is forwarded. */
static __always_inline bool has_netfilter(struct net *net, bool is_v6)
{
	if (!bpf_core_field_exists(net->nf.hooks_ipv4))
		return false;
	if (is_v6)
		return net->nf.hooks_ipv6[STACK_PREROUTING] ||
		       net->nf.hooks_ipv6[STACK_FORWARD] ||
		       net->nf.hooks_ipv6[STACK_POSTROUTING];
	return net->nf.hooks_ipv4[STACK_PREROUTING] ||
	       net->nf.hooks_ipv4[STACK_FORWARD] ||
	       net->nf.hooks_ipv4[STACK_POSTROUTING];
}

/* Whether IPsec has a say in what is forwarded. */
static __always_inline bool has_ipsec(struct net *net)
{
	if (!bpf_core_field_exists(net->xfrm.policy_count))
		return false;
	return net->xfrm.policy_count[STACK_XFRM_FORWARD] ||
	       net->xfrm.policy_count[STACK_XFRM_OUT] ||
	       net->xfrm.policy_default[STACK_XFRM_FORWARD] ==
		       STACK_XFRM_BLOCKS ||
	       net->xfrm.policy_default[STACK_XFRM_OUT] == STACK_XFRM_BLOCKS;
}

/* Whether IPv4 sources must be reached by the device that they come in by. */
static __always_inline bool checks_way_back(struct net_device *device,
					    struct net *net)
{
	const u32 at = IPV4_DEVCONF_RP_FILTER - 1;

	return device->ip_ptr->cnf.data[at] == STACK_STRICT ||
	       net->ipv4.devconf_all->data[at] == STACK_STRICT;
}

/* Whether the stack would only forward a frame that comes in by a device. */
static __always_inline bool stack_only_forwards(struct net_device *device,
						bool is_v6)
{
	struct net *net = device->nd_net.net;

	return !takes_frames(device) && !has_netfilter(net, is_v6) &&
	       !has_ipsec(net) && (is_v6 || !checks_way_back(device, net));
}

#endif
