"""Code generated from the .proto files."""
