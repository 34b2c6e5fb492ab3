-- Keys that a head claims and that have room: it may keep free what it cannot use, because another key of it is shut.
SELECT id FROM queue WHERE claim_lane IS NOT NULL AND NOT paused AND (lim IS NULL OR active < lim) ORDER BY id
