"""From a lock to one image, assembled on the host."""
