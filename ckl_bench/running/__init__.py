"""Where runs run: one list of tasks, and executors that carry them out."""
