"""Reading HDF5 files: opening, finding datasets, and proving that their values were written."""
