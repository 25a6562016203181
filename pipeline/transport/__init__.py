"""The wire: headers, payloads, ZeroMQ sockets, CURVE. Only this package imports zmq."""
