"""The graphs that ship, as TOML files."""
