"""The runners: each takes inputs already rendered, runs one attempt and returns its Outcome. They write to no store."""
