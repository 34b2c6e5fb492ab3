-- Moves that led to where they began.
SELECT count(*)::int AS moves FROM execution_transition WHERE source = target
