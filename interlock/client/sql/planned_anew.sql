-- For this transaction only: plans are made for what the tables hold now. One that was made on small tables, and kept, goes
-- through all executions once for each partition in flight when they have grown.
SET LOCAL plan_cache_mode = force_custom_plan
