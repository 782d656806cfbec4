// SPDX-License-Identifier: GPL-2.0-only
/* Never loaded: it carries the types of abi.h into BTF, for tools/gen_abi.py. */
#include <fos1/abi.h>

#define ANCHOR_ENUM(name)   const enum name *anchor_##name
#define ANCHOR_STRUCT(name) const struct name *anchor_##name

ANCHOR_ENUM(fos1_reason);
ANCHOR_ENUM(fos1_size);
ANCHOR_ENUM(fos1_time);
ANCHOR_ENUM(fos1_flow_bit);
ANCHOR_ENUM(fos1_lifetime);
ANCHOR_ENUM(fos1_stage);
ANCHOR_ENUM(fos1_judged_bit);
ANCHOR_ENUM(fos1_lifeline);
ANCHOR_ENUM(fos1_policy_chain);
ANCHOR_ENUM(fos1_policy_action);
ANCHOR_ENUM(fos1_policy_rule_flag);
ANCHOR_ENUM(fos1_place_kind);
ANCHOR_ENUM(fos1_place_flag);
ANCHOR_ENUM(fos1_service);
ANCHOR_ENUM(fos1_vector);
ANCHOR_ENUM(fos1_rule_row);
ANCHOR_ENUM(fos1_limits_flag);
ANCHOR_ENUM(fos1_nat_size);
ANCHOR_ENUM(fos1_nat_way);
ANCHOR_ENUM(fos1_nat_filtering);
ANCHOR_ENUM(fos1_nat_bit);
ANCHOR_ENUM(fos1_nat_policy_flag);
ANCHOR_ENUM(fos1_nat_port_flag);
ANCHOR_ENUM(fos1_nat_mark);

ANCHOR_STRUCT(fos1_stat);
ANCHOR_STRUCT(fos1_set4_line);
ANCHOR_STRUCT(fos1_set4_leaf);
ANCHOR_STRUCT(fos1_set4_block);
ANCHOR_STRUCT(fos1_set6_node);
ANCHOR_STRUCT(fos1_source);
ANCHOR_STRUCT(fos1_newcomers);
ANCHOR_STRUCT(fos1_tracking);
ANCHOR_STRUCT(fos1_datagram_key);
ANCHOR_STRUCT(fos1_flow4_key);
ANCHOR_STRUCT(fos1_flow6_key);
ANCHOR_STRUCT(fos1_flow);
ANCHOR_STRUCT(fos1_limits);
ANCHOR_STRUCT(fos1_usage);
ANCHOR_STRUCT(fos1_bandwidth);
ANCHOR_STRUCT(fos1_workload);
ANCHOR_STRUCT(fos1_socket);
ANCHOR_STRUCT(fos1_device_key);
ANCHOR_STRUCT(fos1_index);
ANCHOR_STRUCT(fos1_policy_chain_head);
ANCHOR_STRUCT(fos1_policy_rule);
ANCHOR_STRUCT(fos1_tree32_node);
ANCHOR_STRUCT(fos1_leaf32);
ANCHOR_STRUCT(fos1_leaf128);
ANCHOR_STRUCT(fos1_place_key);
ANCHOR_STRUCT(fos1_place);
ANCHOR_STRUCT(fos1_policy_route);
ANCHOR_STRUCT(fos1_policy_event);
ANCHOR_STRUCT(fos1_fragment_key);
ANCHOR_STRUCT(fos1_fragment);
ANCHOR_STRUCT(fos1_nat_flow4_key);
ANCHOR_STRUCT(fos1_nat_flow6_key);
ANCHOR_STRUCT(fos1_nat_flow4);
ANCHOR_STRUCT(fos1_nat_flow6);
ANCHOR_STRUCT(fos1_nat_end4_key);
ANCHOR_STRUCT(fos1_nat_end6_key);
ANCHOR_STRUCT(fos1_nat_end4);
ANCHOR_STRUCT(fos1_nat_end6);
ANCHOR_STRUCT(fos1_nat_policy);
ANCHOR_STRUCT(fos1_nat_source4);
ANCHOR_STRUCT(fos1_nat_source6);
ANCHOR_STRUCT(fos1_nat_port4_key);
ANCHOR_STRUCT(fos1_nat_port6_key);
ANCHOR_STRUCT(fos1_nat_port4);
ANCHOR_STRUCT(fos1_nat_port6);
ANCHOR_STRUCT(fos1_nat_backend4);
ANCHOR_STRUCT(fos1_nat_backend6);
ANCHOR_STRUCT(fos1_nat_member4);
ANCHOR_STRUCT(fos1_nat_member6);
ANCHOR_STRUCT(fos1_nat_outside4);
ANCHOR_STRUCT(fos1_nat_outside6);
ANCHOR_STRUCT(fos1_nat_prefix_key);
ANCHOR_STRUCT(fos1_nat_prefix);
ANCHOR_STRUCT(fos1_nat_stat);
ANCHOR_STRUCT(fos1_nat_usage);
