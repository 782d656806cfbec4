/* SPDX-License-Identifier: GPL-2.0-only */
/* What NAT knows and remembers (docs/design/nat.md, "Tables"). What packets say
 * is in maps that outlive versions of the rules: flows, ends, stats, usage,
 * fragments. What the rules say is in maps of one version, which the daemon
 * fills before the programs are attached.
 */
#ifndef FOS1_NAT_TABLES_H
#define FOS1_NAT_TABLES_H

#include <fos1/nat_family.h>
#include <fos1/nat_shared.h>

#define nat_flows    NAT_OF(nat_flows)
#define nat_ends     NAT_OF(nat_ends)
#define nat_sources  NAT_OF(nat_sources)
#define nat_ports    NAT_OF(nat_ports)
#define nat_backends NAT_OF(nat_backends)
#define nat_members  NAT_OF(nat_members)
#define nat_outsides NAT_OF(nat_outsides)

/* Both entries of each flow, and what PEER says. Writers: the programs; the
 * daemon deletes what ended (until_ns is past). Full: a new connection is
 * dropped and counted (full).
 */
NAT_HASH(nat_flows, FOS1_NAT_FLOWS * 2, nat_flow_key, nat_flow);

/* Both entries of each end. Writers and full: as above. */
NAT_HASH(nat_ends, FOS1_NAT_FLOWS * 2, nat_end_key, nat_end);

/* Policies of the rules by number, which is never 0. Writer: the daemon. */
NAT_HASH(nat_policies, FOS1_NAT_POLICIES, u32, struct fos1_nat_policy);

/* Interface and source -> the number of the policy that translates it there, 0
 * for none. Writer: the daemon.
 */
NAT_PREFIXES(nat_sources, FOS1_NAT_SOURCES, nat_source_key, u32);

/* Declared ports and mirrors of some. Asked for: endpoint, then address and
 * protocol with port 0, then address alone. Writer: the daemon.
 */
NAT_HASH(nat_ports, FOS1_NAT_PORTS, nat_port_key, nat_port);

/* Where the connections of balanced ports go: table * FOS1_NAT_SLOTS + slot. A
 * slot without an address: there is no backend. Writer: the daemon, frozen.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, u32);
	__type(value, nat_backend);
} nat_backends SEC(".maps");

/* Table and endpoint of each backend, those of weight 0 too. Writer: the
 * daemon.
 */
NAT_HASH(nat_members, FOS1_NAT_MEMBERS, nat_member, u32);

/* Outside addresses of policies -> the policy: what insiders may mean when they
 * send there, and what is never translated as a source. Writer: the daemon.
 */
NAT_HASH(nat_outsides, FOS1_NAT_OUTSIDES, nat_outside, u32);

/* How many flows a policy has. Writers: the programs, one at a time; the daemon
 * writes what it counted when it has swept. Full: no limit.
 */
NAT_HASH(nat_usage, FOS1_NAT_POLICIES, u32, struct fos1_nat_usage);

FOS1_CONFIG(u32, nat_has_stateless,
	    "1 if some port in nat_ports is rewritten without state");
FOS1_CONFIG(u32, nat_has_mirrors, "1 if nat_ports has entries of way OUT");

#endif
