"""From a spec that people write to a lock that names every package."""
