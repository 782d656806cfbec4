"""Git and directories become snapshots, and a snapshot is never a half-written one.

    directory ── tree, reading ──┐
                                 ├─> Snapshot        watch -> settle -> follow: when to look
    git ────── objects, refs ────┘

Belongs here: reading the files of a revision, noticing that there is a new one, making the bare
repository that operators push to.
Must not be here: what is in the files (manifest/, kinds/) and what a pass does with them.
"""
