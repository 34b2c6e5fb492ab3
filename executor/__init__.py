"""The executor: accepts, admits, dispatches, drives on. Runs no action and never publishes `execution.completed`."""
