"""What people and programs are told: conditions, events, the API, the journal, systemd.

Belongs here: turning outcomes into statements, and getting them out.
Must not be here: deciding what is done (plan/), reading manifests (kinds/).
"""
