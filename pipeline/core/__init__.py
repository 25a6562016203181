"""The data model: columns, batches, lists, Arrow, output buffers, errors, addresses."""
