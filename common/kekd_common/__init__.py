"""Code that client and daemon share."""
