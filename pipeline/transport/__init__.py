"""The wire: header, messages, payloads, ZeroMQ sockets, CURVE. Only this package imports zmq."""
