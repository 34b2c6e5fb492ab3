"""Private PostgreSQL and RabbitMQ, and the daemons on them: for the demo, development and tests only."""
