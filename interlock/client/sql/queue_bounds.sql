-- What bounds one key of executions.
SELECT lim, rate_every, rate_burst, cap, cap_policy, paused, active FROM queue WHERE scope = 'leaf' AND name = $1
