// SPDX-License-Identifier: GPL-2.0-only
/* What the router spends on its packets: the time from the beginning of a
 * receive softirq, or the end of the poll before, to the end of the poll of
 * the router's interface. All that the kernel does with a packet up to its
 * drop, or to its queueing at the next interface, is in it.
 */
#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

enum meter_number {
	SAMPLES = 65536,
	NET_RX_SOFTIRQ = 3,
};

/* One poll. */
struct sample {
	__u32 ns;
	__u32 packets;
};

/* All polls since the bench wrote zeros. */
struct total {
	__u64 ns;
	__u64 packets;
	__u64 polls;
};

/* Writer: the meter, round and round. Reader: the bench. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SAMPLES);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct sample);
} samples SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct total);
} totals SEC(".maps");

/* When each CPU last began to poll an interface. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} began_ns SEC(".maps");

/* The first eight bytes of the name of the interfaces that are watched. */
const volatile __u64 watched;

struct net_device {
	char name[16];
} __attribute__((preserve_access_index));

struct napi_struct {
	struct net_device *dev;
} __attribute__((preserve_access_index));

static __always_inline void add(__u64 ns, __u32 packets)
{
	__u32 zero = 0, index;
	struct sample *sample;
	struct total *total;

	total = bpf_map_lookup_elem(&totals, &zero);
	if (!total)
		return;
	index = total->polls++ & (SAMPLES - 1);
	total->ns += ns;
	total->packets += packets;
	sample = bpf_map_lookup_elem(&samples, &index);
	if (sample) {
		sample->ns = ns;
		sample->packets = packets;
	}
}

SEC("tp_btf/softirq_entry")
int BPF_PROG(softirq_begins, unsigned int number)
{
	__u32 zero = 0;
	__u64 *began;

	if (number != NET_RX_SOFTIRQ)
		return 0;
	began = bpf_map_lookup_elem(&began_ns, &zero);
	if (began)
		*began = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/napi_poll")
int BPF_PROG(poll_ends, struct napi_struct *napi, int packets)
{
	__u64 now_ns = bpf_ktime_get_ns(), *began;
	struct net_device *device = napi->dev;
	__u32 zero = 0;

	began = bpf_map_lookup_elem(&began_ns, &zero);
	if (!began)
		return 0;
	if (packets > 0 && device && *(__u64 *)device->name == watched)
		add(now_ns - *began, packets);
	*began = bpf_ktime_get_ns();
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
