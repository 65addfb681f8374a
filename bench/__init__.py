"""Programs that measure the performance tables. README.md explains how to read them."""
