"""Sources for HDF5, ROOT and Parquet files, and the mapping of their columns to a graph's."""
