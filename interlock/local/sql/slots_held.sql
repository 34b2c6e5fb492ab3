-- Slots that somebody holds.
SELECT count(*)::int AS held FROM slot
