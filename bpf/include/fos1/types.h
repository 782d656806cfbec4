/* SPDX-License-Identifier: GPL-2.0-only */
/* The headers that every program starts with, and the kernel's short names. */
#ifndef FOS1_TYPES_H
#define FOS1_TYPES_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include <fos1/abi.h>
#include <fos1/config.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#endif
