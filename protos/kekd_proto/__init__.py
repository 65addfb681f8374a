"""What both sides of the wire share: messages, the table of errors, the default address."""
