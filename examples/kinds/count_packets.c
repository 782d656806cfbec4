/* BCC C, compiled on the router: counts packets and lets them pass. */
BPF_ARRAY(packets, u64, 1);

int count_packets(struct xdp_md *ctx)
{
	int zero = 0;
	u64 *count = packets.lookup(&zero);

	if (count)
		__sync_fetch_and_add(count, 1);
	return XDP_PASS;
}
