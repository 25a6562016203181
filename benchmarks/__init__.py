"""All measurements; `sluice bench` is the module `cli`."""
