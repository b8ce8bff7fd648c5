"""From a request's bytes to its reply's bytes: decisions, kept replies, sockets."""
