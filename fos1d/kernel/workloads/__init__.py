"""Workloads of this machine: who is in which cgroup, and who says so.

    tree       the cgroups, kept current by inotify: the ground that all providers stand on
    units      systemd: a cgroup's path tells its unit, the unit's files its labels
    engine     podman and docker: labels and addresses of containers, over their sockets
    static     files that the router's owner wrote
    identify   all of these together into workloads: a pure function
    watch      what changed, and who wants to know

Belongs here: finding workloads. Must not be here: what policies make of them (kinds/).
"""
