SELECT leave_to_relays($1)
