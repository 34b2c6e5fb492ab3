"""The worker: claims, runs, renews its lease, judges the outcome. Admits nothing, schedules nothing."""
