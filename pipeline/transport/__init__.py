"""Messages, their payloads, ZeroMQ sockets and CURVE keys. Only this package imports zmq."""
