/* SPDX-License-Identifier: GPL-2.0-only */
/* Knobs: constants that user space sets before the load
 * (fos1d/kernel/loader.py).
 *
 * They live in .rodata, which the kernel freezes, so the verifier removes what
 * a manifest does not ask for. The sentence travels to user space as a BTF
 * declaration tag and must say the unit.
 */
#ifndef FOS1_CONFIG_H
#define FOS1_CONFIG_H

#define FOS1_CONFIG(type, name, sentence)                \
	__attribute__((btf_decl_tag("fos1: " sentence))) \
	const volatile type name

#endif
