"""kekd's protobuf messages and gRPC services."""
