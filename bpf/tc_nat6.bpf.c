// SPDX-License-Identifier: GPL-2.0-only
/* EBPFNATPolicy, IPv6: at outside interfaces sources on the way out and
 * destinations on the way in, at inside ones hairpins (docs/design/nat.md).
 */
#define NAT_FAMILY 6

#include <fos1/nat_run.h>

char LICENSE[] SEC("license") = "GPL";
