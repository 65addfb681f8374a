"""What the performance tables are made with; README.md says how to read them."""
