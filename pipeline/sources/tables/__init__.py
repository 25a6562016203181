"""HDF5, ROOT and Parquet files, and how their columns become a graph's."""
