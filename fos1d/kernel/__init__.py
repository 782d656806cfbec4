"""The kernel port: observe what the kernel holds, execute one action.

Belongs here: every effect on bpffs, maps, programs, links and netlink, and reading them back.
Must not be here: what should be there (kinds/), in which order (plan/), what people are told
(report/). Names of what is ours, and how a fresh process recognises it, are in bpffs.py.
"""
