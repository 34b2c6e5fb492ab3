-- One at a time changes definitions.
SELECT pg_advisory_xact_lock(hashtext('interlock.actions'))
